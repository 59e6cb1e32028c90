"""Calls that give the same with ``walle_task.cv`` and OpenCV, and how nearly: the one table of exactness.

A case is a function of the module and of a :class:`Draw`, which draws the same for both. Tolerance is the
largest difference of an element: 0 is every bit.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


class Draw:
    """Images and numbers drawn from a seed."""

    def __init__(self, seed: int, height: int, width: int) -> None:
        self.random = np.random.default_rng(seed)
        self.height = height
        self.width = width

    def image(self, channels: int = 0, dtype: Any = np.uint8) -> Any:
        """Noise, smooth, flat or black and white."""
        shape = (self.height, self.width, channels) if channels else (self.height, self.width)
        kind = self.random.integers(4)
        if np.issubdtype(dtype, np.floating):
            return self.random.standard_normal(shape).astype(dtype)
        bounds = np.iinfo(dtype)
        if kind == 0:
            return np.full(shape, self.random.integers(bounds.min, bounds.max + 1), dtype)
        if kind == 1:
            return self.random.choice(np.array([0, bounds.max], dtype), shape)
        noise = self.random.integers(bounds.min, bounds.max + 1, shape, dtype=dtype)
        if kind == 2:
            ramp = np.arange(self.width).reshape(1, -1, *[1] * bool(channels)) * 3 % 200
            return (noise // 8 + ramp).astype(dtype)
        return noise

    def any_channels(self) -> int:
        return int(self.random.choice([0, 1, 3, 4]))

    def integer(self, low: int, high: int) -> int:
        return int(self.random.integers(low, high + 1))

    def real(self, low: float, high: float) -> float:
        return float(self.random.uniform(low, high))

    def pick(self, *values: Any) -> Any:
        return values[self.integer(0, len(values) - 1)]

    def border(self) -> int:
        return int(self.pick(0, 1, 2, 4))

    def size(self) -> tuple[int, int]:
        return self.integer(1, 90), self.integer(1, 90)

    def matrix(self) -> Any:
        return np.array(
            [
                [self.real(0.5, 1.5), self.real(-0.5, 0.5), self.real(-9, 9)],
                [self.real(-0.5, 0.5), self.real(0.5, 1.5), self.real(-9, 9)],
            ]
        )

    def blobs(self) -> Any:
        """A black and white image of some regions."""
        noise = self.random.random((self.height, self.width))
        for _ in range(self.integer(0, 3)):
            noise = (noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1) + np.roll(noise, -1, 0)) / 4
        return ((noise > np.median(noise)) * 255).astype(np.uint8)

    def points(self, n: int = 0) -> Any:
        return self.random.integers(-20, 90, (n or self.integer(3, 12), 1, 2)).astype(np.int32)


@dataclass(frozen=True)
class Case:
    """One call."""

    name: str
    call: Callable[[Any, Draw], Any]
    tolerance: float = 0
    share: float = 0
    """Of elements that may differ by more, where a pixel may fall to either side of an edge."""


CASES: list[Case] = []


def case(
    tolerance: float = 0, share: float = 0
) -> Callable[[Callable[[Any, Draw], Any]], Callable[[Any, Draw], Any]]:
    def add(call: Callable[[Any, Draw], Any]) -> Callable[[Any, Draw], Any]:
        CASES.append(Case(call.__name__, call, tolerance, share))
        return call

    return add


def seed_of(name: str, number: int) -> int:
    return zlib.crc32(name.encode()) + number


@case()
def resize_nearest(m: Any, d: Draw) -> Any:
    image = d.image(d.any_channels(), d.pick(np.uint8, np.uint16, np.int16, np.float32, np.float64))
    return m.resize(image, d.size(), interpolation=m.INTER_NEAREST)


@case()
def resize_linear_bytes(m: Any, d: Draw) -> Any:
    return m.resize(d.image(d.any_channels()), d.size())


@case()
def resize_linear_factors(m: Any, d: Draw) -> Any:
    f = d.pick(0.5, 0.25, 2, 3, d.real(0.3, 3))
    return m.resize(d.image(d.any_channels()), None, fx=f, fy=f)


@case(1e-4)
def resize_linear_floats(m: Any, d: Draw) -> Any:
    return m.resize(d.image(d.any_channels(), d.pick(np.float32, np.float64)), d.size())


@case(1)
def resize_linear_words(m: Any, d: Draw) -> Any:
    return m.resize(d.image(d.any_channels(), d.pick(np.uint16, np.int16)), d.size())


@case(1)
def resize_area(m: Any, d: Draw) -> Any:
    return m.resize(d.image(d.any_channels()), d.size(), interpolation=m.INTER_AREA)


@case(1)
def resize_area_whole(m: Any, d: Draw) -> Any:
    f = d.integer(1, 4)
    d.height, d.width = f * d.integer(1, 20), f * d.integer(1, 20)
    return m.resize(d.image(d.any_channels()), (d.width // f, d.height // f), interpolation=m.INTER_AREA)


@case(1)
def resize_cubic(m: Any, d: Draw) -> Any:
    return m.resize(d.image(d.any_channels()), d.size(), interpolation=m.INTER_CUBIC)


@case(1)
def resize_lanczos(m: Any, d: Draw) -> Any:
    return m.resize(d.image(d.any_channels()), d.size(), interpolation=m.INTER_LANCZOS4)


@case(1e-3)
def resize_taps_floats(m: Any, d: Draw) -> Any:
    image = d.image(d.any_channels(), d.pick(np.float32, np.float64))
    return m.resize(image, d.size(), interpolation=d.pick(m.INTER_CUBIC, m.INTER_LANCZOS4))


@case(1)
def warp_affine(m: Any, d: Draw) -> Any:
    return m.warpAffine(
        d.image(d.pick(0, 3, 4)), d.matrix(), d.size(), borderMode=d.border(), borderValue=(7, 8, 9, 10)
    )


@case(1e-3)
def warp_affine_floats(m: Any, d: Draw) -> Any:
    return m.warpAffine(d.image(d.pick(0, 3), np.float32), d.matrix(), d.size(), borderMode=d.border())


@case(0, 0.02)
def warp_affine_nearest(m: Any, d: Draw) -> Any:
    flags = m.INTER_NEAREST | d.pick(0, m.WARP_INVERSE_MAP)
    return m.warpAffine(d.image(d.any_channels()), d.matrix(), d.size(), flags=flags)


@case(1)
def warp_turned_views(m: Any, d: Draw) -> Any:
    """Images whose rows go up, and with room between them."""
    image = d.image(3)
    view = d.pick(image[::-1], image[:, d.width // 2 :])
    return m.warpAffine(view, d.matrix(), d.size(), borderMode=d.border())


@case(1)
def warp_perspective(m: Any, d: Draw) -> Any:
    matrix = np.vstack([d.matrix(), [d.real(-1e-3, 1e-3), d.real(-1e-3, 1e-3), 1]])
    return m.warpPerspective(d.image(d.pick(0, 3, 4)), matrix, d.size(), borderMode=d.border())


@case(1)
def remap_linear(m: Any, d: Draw) -> Any:
    w, h = d.size()
    x = (d.random.random((h, w)) * (d.width + 10) - 5).astype(np.float32)
    y = (d.random.random((h, w)) * (d.height + 10) - 5).astype(np.float32)
    return m.remap(d.image(d.pick(0, 3)), x, y, m.INTER_LINEAR, borderMode=d.border())


@case(0, 0.02)
def remap_nearest(m: Any, d: Draw) -> Any:
    w, h = d.size()
    pairs = (d.random.random((h, w, 2)) * (d.width + 10) - 5).astype(np.float32)
    return m.remap(d.image(d.pick(0, 3)), pairs, None, m.INTER_NEAREST, borderMode=d.border())


def _color(name: str, channels: int, tolerance: float = 0, dtypes: tuple[Any, ...] = (np.uint8,)) -> None:
    def call(m: Any, d: Draw) -> Any:
        image = d.image(channels, d.pick(*dtypes))
        return m.cvtColor(np.abs(image) if image.dtype.kind == "f" else image, getattr(m, f"COLOR_{name}"))

    CASES.append(Case(f"color_{name}_{dtypes[0].__name__}", call, tolerance))


_DEEP = (np.uint8, np.uint16, np.float32)
for _source, _target, _n in (
    ("BGR", "RGB", 3),
    ("BGR", "BGRA", 3),
    ("BGR", "RGBA", 3),
    ("BGRA", "BGR", 4),
    ("RGBA", "BGR", 4),
    ("BGRA", "RGBA", 4),
    ("GRAY", "BGR", 0),
    ("GRAY", "BGRA", 0),
):
    _color(f"{_source}2{_target}", _n, 0, _DEEP)
for _name, _n in (("BGR2GRAY", 3), ("RGB2GRAY", 3), ("BGRA2GRAY", 4), ("RGBA2GRAY", 4)):
    _color(_name, _n, 0, (np.uint8, np.uint16))
    _color(_name, _n, 1e-5, (np.float32,))
for _space in ("YCrCb", "YUV"):
    for _order in ("BGR", "RGB"):
        for _name in (f"{_order}2{_space}", f"{_space}2{_order}"):
            _color(_name, 3, 0)
            _color(_name, 3, 1, (np.uint16,))
            _color(_name, 3, 1e-5, (np.float32,))
for _suffix in ("", "_FULL"):
    for _order in ("BGR", "RGB"):
        _color(f"{_order}2HSV{_suffix}", 3, 0)
        _color(f"{_order}2HSV{_suffix}", 3, 1e-3, (np.float32,))
        _color(f"HSV2{_order}{_suffix}", 3, 1)
# OpenCV interpolates L*a*b* of floats and L*u*v* of bytes in coarse tables; ours are the formulas.
for _order in ("BGR", "RGB"):
    for _space, _bytes, _floats in (("XYZ", 0, 1e-5), ("Lab", 1, 0.6), ("Luv", 2, 0.1)):
        _color(f"{_order}2{_space}", 3, _bytes)
        _color(f"{_space}2{_order}", 3, _bytes)
        _color(f"{_order}2{_space}", 3, _floats, (np.float32,))
        _color(f"{_space}2{_order}", 3, 1e-3, (np.float32,))
for _order in ("BGR", "RGB", "BGRA", "RGBA"):
    for _layout in ("NV12", "NV21", "I420", "YV12"):

        def _from(m: Any, d: Draw, code: str = f"COLOR_YUV2{_order}_{_layout}") -> Any:
            d.height, d.width = 6 * d.integer(1, 12), 2 * d.integer(1, 40)
            return m.cvtColor(d.image(), getattr(m, code))

        CASES.append(Case(f"color_YUV2{_order}_{_layout}", _from))
    for _layout in ("I420", "YV12"):

        def _to(m: Any, d: Draw, code: str = f"COLOR_{_order}2YUV_{_layout}", n: int = len(_order)) -> Any:
            d.height, d.width = 2 * d.integer(1, 40), 2 * d.integer(1, 40)
            return m.cvtColor(d.image(n), getattr(m, code))

        CASES.append(Case(f"color_{_order}2YUV_{_layout}", _to, 1))


@case()
def gaussian_bytes(m: Any, d: Draw) -> Any:
    k = (2 * d.integer(0, 8) + 1, 2 * d.integer(0, 8) + 1)
    return m.GaussianBlur(d.image(d.any_channels()), k, d.pick(0, d.real(0.3, 4)), borderType=d.border())


@case()
def gaussian_bytes_sigma(m: Any, d: Draw) -> Any:
    return m.GaussianBlur(d.image(d.any_channels()), (0, 0), d.real(0.3, 4))


@case(1)
def gaussian_words(m: Any, d: Draw) -> Any:
    return m.GaussianBlur(d.image(d.pick(0, 3), d.pick(np.uint16, np.int16)), (5, 3), 1.2)


@case(1e-4)
def gaussian_floats(m: Any, d: Draw) -> Any:
    return m.GaussianBlur(d.image(d.pick(0, 3), d.pick(np.float32, np.float64)), (5, 7), d.pick(0, 1.2))


@case()
def blur_bytes(m: Any, d: Draw) -> Any:
    """But for areas that are powers of two: OpenCV 5.0 makes 0 of a box of 1 x 2 that is all 255."""
    k = (d.integer(1, 9), d.pick(3, 5, 6, 7, 9))
    return m.blur(d.image(d.any_channels()), k, borderType=d.border())


@case(1e-4)
def box_other(m: Any, d: Draw) -> Any:
    k = (d.integer(1, 9), d.integer(1, 9))
    dtype = d.pick(np.float32, np.float64)
    return m.boxFilter(d.image(d.pick(0, 3), dtype), -1, k, normalize=d.pick(True, False))


@case(1)
def box_words(m: Any, d: Draw) -> Any:
    k = (d.integer(1, 9), d.integer(1, 9))
    return m.boxFilter(d.image(d.pick(0, 3), d.pick(np.uint16, np.int16)), -1, k)


@case()
def median_small(m: Any, d: Draw) -> Any:
    dtype = d.pick(np.uint8, np.uint16, np.int16, np.float32)
    return m.medianBlur(d.image(d.any_channels(), dtype), d.pick(3, 5))


@case()
def median_large(m: Any, d: Draw) -> Any:
    return m.medianBlur(d.image(d.any_channels()), 2 * d.integer(3, 9) + 1)


@case(1)
def filter_full(m: Any, d: Draw) -> Any:
    n, k = d.integer(1, 7), d.integer(1, 7)
    kernel = d.random.standard_normal((n, k)) / n
    return m.filter2D(d.image(d.any_channels()), -1, kernel, delta=d.real(0, 9), borderType=d.border())


@case(1e-3)
def filter_full_floats(m: Any, d: Draw) -> Any:
    kernel = d.random.standard_normal((d.integer(1, 7), d.integer(1, 7)))
    return m.filter2D(d.image(d.pick(0, 3), np.float32), -1, kernel)


@case(1)
def filter_separable(m: Any, d: Draw) -> Any:
    a, b = d.random.random(d.pick(3, 5, 7)), d.random.random(d.pick(1, 3, 5))
    return m.sepFilter2D(d.image(d.pick(0, 3)), -1, a / a.sum(), b / b.sum())


@case()
def sobel(m: Any, d: Draw) -> Any:
    dx, dy = d.pick((1, 0), (0, 1), (1, 1), (2, 0))
    ddepth = d.pick(m.CV_16S, m.CV_32F)
    return m.Sobel(
        d.image(d.pick(0, 3)),
        ddepth,
        dx,
        dy,
        ksize=d.pick(3, 5, 7) if dx + dy < 2 else 5,
        borderType=d.border(),
    )


@case()
def scharr(m: Any, d: Draw) -> Any:
    return m.Scharr(d.image(d.pick(0, 3)), m.CV_16S, *d.pick((1, 0), (0, 1)))


@case()
def laplacian(m: Any, d: Draw) -> Any:
    return m.Laplacian(d.image(d.pick(0, 3)), d.pick(m.CV_16S, m.CV_8U, m.CV_32F), ksize=d.pick(1, 3, 5))


@case(0, 0.002)
def canny(m: Any, d: Draw) -> Any:
    low = d.real(5, 200)
    return m.Canny(
        d.image(), low, low * d.real(1, 3), apertureSize=d.pick(3, 5), L2gradient=d.pick(False, True)
    )


@case()
def canny_color(m: Any, d: Draw) -> Any:
    return m.Canny(d.image(3), 60, 180)


@case()
def morphology_rectangle(m: Any, d: Draw) -> Any:
    element = m.getStructuringElement(m.MORPH_RECT, (d.integer(1, 9), d.integer(1, 9)))
    dtype = d.pick(np.uint8, np.uint16, np.int16, np.float32)
    return m.morphologyEx(
        d.image(d.any_channels(), dtype), d.integer(0, 6), np.asarray(element), iterations=d.integer(1, 2)
    )


@case()
def morphology_shape(m: Any, d: Draw) -> Any:
    element = m.getStructuringElement(
        d.pick(m.MORPH_CROSS, m.MORPH_ELLIPSE), (d.integer(1, 9), d.integer(1, 9))
    )
    return m.morphologyEx(
        d.image(d.any_channels()), d.integer(0, 1), np.asarray(element), borderType=d.border()
    )


@case()
def structuring_element(m: Any, d: Draw) -> Any:
    return m.getStructuringElement(d.integer(0, 2), (d.integer(1, 21), d.integer(1, 21)))


@case()
def threshold(m: Any, d: Draw) -> Any:
    image = d.image(d.any_channels(), d.pick(np.uint8, np.uint16, np.int16, np.float32))
    return m.threshold(image, d.real(-20, 280), d.real(0, 280), d.integer(0, 4))


@case()
def threshold_automatic(m: Any, d: Draw) -> Any:
    return m.threshold(d.image(), 0, 255, d.integer(0, 4) | d.pick(m.THRESH_OTSU, m.THRESH_TRIANGLE))


@case()
def adaptive_mean(m: Any, d: Draw) -> Any:
    size = 2 * d.integer(1, 7) + 1
    return m.adaptiveThreshold(d.image(), 255, m.ADAPTIVE_THRESH_MEAN_C, d.integer(0, 1), size, d.real(-9, 9))


@case(0, 0.02)
def adaptive_gaussian(m: Any, d: Draw) -> Any:
    size = 2 * d.integer(1, 7) + 1
    return m.adaptiveThreshold(
        d.image(), 200, m.ADAPTIVE_THRESH_GAUSSIAN_C, d.integer(0, 1), size, d.real(-9, 9)
    )


@case()
def bits(m: Any, d: Draw) -> Any:
    n, dtype = d.any_channels(), d.pick(np.uint8, np.uint16, np.int16)
    a, b = d.image(n, dtype), d.image(n, dtype)
    return [m.bitwise_and(a, b), m.bitwise_or(a, b), m.bitwise_xor(a, b), m.bitwise_not(a)]


@case()
def differences(m: Any, d: Draw) -> Any:
    n, dtype = d.any_channels(), d.pick(np.uint8, np.uint16, np.int16, np.float32)
    a, b = d.image(n, dtype), d.image(n, dtype)
    return [m.absdiff(a, b), m.add(a, b), m.subtract(a, b), m.min(a, b), m.max(a, b)]


@case(1)
def add_weighted(m: Any, d: Draw) -> Any:
    n, dtype = d.any_channels(), d.pick(np.uint8, np.uint16, np.int16)
    return m.addWeighted(d.image(n, dtype), d.real(-1, 2), d.image(n, dtype), d.real(-1, 2), d.real(-9, 9))


@case(1)
def depths(m: Any, d: Draw) -> Any:
    image = d.image(d.any_channels(), d.pick(np.uint8, np.float32)) * d.pick(1, 1, 40)
    return m.convertScaleAbs(image.astype(np.float32), alpha=d.real(-2, 2), beta=d.real(-50, 50))


@case(1)
def scale_abs(m: Any, d: Draw) -> Any:
    image = d.image(d.any_channels(), d.pick(np.uint8, np.int16, np.float32))
    return m.convertScaleAbs(image, alpha=d.real(-2, 2), beta=d.real(-50, 50))


@case(1)
def normalize_range(m: Any, d: Draw) -> Any:
    return m.normalize(d.image(d.any_channels()), None, 10, 240, m.NORM_MINMAX)


@case(1e-4)
def normalize_floats(m: Any, d: Draw) -> Any:
    image = d.image(0, np.float32)
    return m.normalize(image, None, 1, 0, d.pick(m.NORM_INF, m.NORM_L1, m.NORM_L2, m.NORM_MINMAX))


@case()
def extremes(m: Any, d: Draw) -> Any:
    image = d.image(0, d.pick(np.uint8, np.uint16, np.int16, np.float32))
    return [*m.minMaxLoc(image)[:2], *sum(m.minMaxLoc(image)[2:], ()), m.countNonZero(image)]


@case()
def counts(m: Any, d: Draw) -> Any:
    image = d.image()
    return [m.countNonZero(image), *m.sumElems(d.image(d.pick(0, 1, 3, 4)))]


@case(1e-6)
def deviations(m: Any, d: Draw) -> Any:
    image = d.image(d.pick(0, 3, 4))
    return [np.array(part).ravel() for part in m.meanStdDev(image)]


@case(1e-6)
def means(m: Any, d: Draw) -> Any:
    image = d.image(d.any_channels())
    return [*m.mean(image), *m.mean(image, d.image())]


@case()
def integral(m: Any, d: Draw) -> Any:
    return m.integral(d.image(d.pick(0, 3)))


@case()
def histogram(m: Any, d: Draw) -> Any:
    mask = d.pick(None, d.image())
    n = d.integer(1, 256)
    one = m.calcHist([d.image(3)], [d.integer(0, 2)], mask, [n], [d.integer(0, 9), d.integer(100, 256)])
    two = m.calcHist([d.image(3)], [0, 2], None, [8, 16], [0, 256, 0, 256])
    return [one, two]


@case()
def equalized(m: Any, d: Draw) -> Any:
    return m.equalizeHist(d.image())


@case()
def table(m: Any, d: Draw) -> Any:
    dtype = d.pick(np.uint8, np.uint16, np.float32)
    lut = d.random.integers(0, 256, 256).astype(dtype)
    return m.LUT(d.image(d.any_channels()), lut)


@case()
def ranges(m: Any, d: Draw) -> Any:
    low = [d.integer(0, 150) for _ in range(3)]
    return m.inRange(d.image(3), tuple(low), tuple(v + d.integer(0, 150) for v in low))


@case()
def flips(m: Any, d: Draw) -> Any:
    image = d.image(d.any_channels(), d.pick(np.uint8, np.uint16, np.float32, np.float64))
    return [m.flip(image, d.integer(-1, 1)), m.rotate(image, d.integer(0, 2)), m.transpose(image)]


@case()
def borders(m: Any, d: Draw) -> Any:
    sides = [d.integer(0, 9) for _ in range(4)]
    return m.copyMakeBorder(d.image(d.any_channels()), *sides, d.integer(0, 4), value=(1, 2, 3, 4))


@case()
def channels(m: Any, d: Draw) -> Any:
    dtype = d.pick(np.uint8, np.uint16, np.float32)
    parts = m.split(d.image(d.pick(3, 4), dtype))
    return [*parts, m.merge(parts)]


@case()
def contours(m: Any, d: Draw) -> Any:
    found, hierarchy = m.findContours(
        d.blobs(), d.integer(0, 3), d.integer(1, 2), offset=(d.integer(0, 5), 0)
    )
    return [*found, hierarchy if hierarchy is not None else 0]


@case(1e-3)
def polygons(m: Any, d: Draw) -> Any:
    points = d.pick(d.points(), d.points().astype(np.float32))
    closed = d.pick(True, False)
    return [
        m.contourArea(points),
        m.contourArea(points, True),
        m.arcLength(points, closed),
        np.array(m.boundingRect(points)),
    ]


@case()
def simplified(m: Any, d: Draw) -> Any:
    found, _ = m.findContours(d.blobs(), 1, d.integer(1, 2))
    return [m.approxPolyDP(points, d.real(0, 5), d.pick(True, False)) for points in found]


def _canvas(d: Draw) -> Any:
    return np.zeros((d.height, d.width, 3) if d.pick(True, False) else (d.height, d.width), np.uint8)


def _color_of(d: Draw) -> tuple[int, ...]:
    return tuple(d.integer(1, 255) for _ in range(3))


@case()
def filled_polygons_inside(m: Any, d: Draw) -> Any:
    n = d.integer(3, 9)
    points = np.array([[[d.integer(0, d.width - 1), d.integer(0, d.height - 1)]] for _ in range(n)], np.int32)
    return m.fillPoly(_canvas(d), [points], _color_of(d))


@case()
def thick_circles(m: Any, d: Draw) -> Any:
    center = d.integer(-20, 90), d.integer(-20, 90)
    return m.circle(_canvas(d), center, d.integer(1, 60), _color_of(d), d.integer(2, 9))


@case()
def thick_polylines(m: Any, d: Draw) -> Any:
    lines = [d.points() for _ in range(d.integer(1, 2))]
    return m.polylines(_canvas(d), lines, d.pick(True, False), _color_of(d), d.integer(1, 9))


@case()
def lines(m: Any, d: Draw) -> Any:
    a, b = d.points(2).reshape(2, 2).tolist()
    return m.line(_canvas(d), tuple(a), tuple(b), _color_of(d), 1, d.pick(4, 8))


@case()
def thick_lines(m: Any, d: Draw) -> Any:
    far = d.pick(1, 1, 50)
    a, b = (d.points(2).reshape(2, 2) * far).tolist()
    return m.line(_canvas(d), tuple(a), tuple(b), _color_of(d), d.integer(2, 9))


@case()
def rectangles(m: Any, d: Draw) -> Any:
    a, b = d.points(2).reshape(2, 2).tolist()
    return m.rectangle(_canvas(d), tuple(a), tuple(b), _color_of(d), d.pick(-1, 1, 2, 3))


@case()
def circles(m: Any, d: Draw) -> Any:
    return m.circle(
        _canvas(d), tuple(d.points(1)[0, 0].tolist()), d.integer(0, 40), _color_of(d), d.pick(-1, 1)
    )


@case()
def filled_polygons(m: Any, d: Draw) -> Any:
    return m.fillPoly(_canvas(d), [d.points() for _ in range(d.integer(1, 3))], _color_of(d))


@case()
def drawn_contours(m: Any, d: Draw) -> Any:
    found, _ = m.findContours(d.blobs(), m.RETR_TREE, m.CHAIN_APPROX_SIMPLE)
    return m.drawContours(
        _canvas(d), [np.asarray(points) for points in found], -1, _color_of(d), d.pick(-1, 1)
    )


@case(1e-9)
def matrices(m: Any, d: Draw) -> Any:
    rotation = m.getRotationMatrix2D((d.real(0, 50), d.real(0, 50)), d.real(-180, 180), d.real(0.1, 3))
    return [rotation, m.invertAffineTransform(np.asarray(rotation))]


@case(2e-3)
def solved_matrices(m: Any, d: Draw) -> Any:
    a = (np.array([[0, 0], [50, 0], [50, 50], [0, 50]]) + d.random.random((4, 2)) * 20).astype(np.float32)
    b = (np.array([[0, 0], [50, 0], [50, 50], [0, 50]]) + d.random.random((4, 2)) * 20).astype(np.float32)
    return [m.getAffineTransform(a[:3], b[:3]), m.getPerspectiveTransform(a, b)]


@case(1e-3)
def moved_points(m: Any, d: Draw) -> Any:
    points = (d.random.random((7, 1, 2)) * 50).astype(np.float32)
    matrix = np.vstack([d.matrix(), [1e-3, 2e-3, 1]])
    return [m.transform(points, d.matrix()), m.perspectiveTransform(points, matrix)]
