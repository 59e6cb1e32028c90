"""walle_task.cv beside OpenCV over random images, what it refuses, and where it runs.

How nearly each function agrees is said in one table: ``tests/support/cv_cases.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cv_cases import CASES, Case, Draw
from walle_container import interpreters, locate
from walle_container.preload import preload
from walle_shared.errors import WalleError
from walle_task import cv

# One example in fifty of the profile's, as there are many functions.
EXAMPLES = max(2, settings().max_examples // 50)


def _arrays(result: Any) -> list[Any]:
    if isinstance(result, (list, tuple)):
        return [array for part in result for array in _arrays(part)]
    return [np.asarray(result)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@settings(max_examples=EXAMPLES)
@given(seed=st.integers(0, 2**32), height=st.integers(1, 50), width=st.integers(1, 50))
def test_agrees_with_opencv(case: Case, seed: int, height: int, width: int) -> None:
    _compare(case, seed, height, width)


def _compare(case: Case, seed: int, height: int, width: int) -> None:
    try:
        theirs = _arrays(case.call(cv2, Draw(seed, height, width)))
    except cv2.error:
        return  # it refuses sizes that we take
    ours = _arrays(case.call(cv, Draw(seed, height, width)))
    assert len(ours) == len(theirs)
    for our, their in zip(ours, theirs, strict=True):
        assert our.squeeze().shape == their.squeeze().shape
        if our.size == 0:
            continue
        apart = np.abs(our.astype(np.float64).ravel() - their.astype(np.float64).ravel())
        assert np.mean(apart > case.tolerance) <= case.share, f"differs by up to {apart.max()}"


LONG: dict[str, Callable[[Any, Any], Any]] = {
    "GaussianBlur": lambda m, i: [m.GaussianBlur(i, (n, n), 0) for n in (3, 5, 7)],
    "blur": lambda m, i: [m.blur(i, (n, n)) for n in (3, 11, 15, 25)],
    "medianBlur": lambda m, i: [m.medianBlur(i, n) for n in (3, 5, 7)],
    "filter2D": lambda m, i: m.filter2D(i, -1, np.array([[0.0, -1, 0], [-1, 5, -1], [0, -1, 0]])),
    "Laplacian": lambda m, i: m.Laplacian(i, m.CV_16S),
    "Sobel": lambda m, i: [m.Sobel(i, m.CV_16S, 1, 0, ksize=n) for n in (3, 5)],
    "erode": lambda m, i: [
        m.erode(i, np.ones((h, w), np.uint8)) for h, w in ((3, 3), (9, 5), (4, 31), (31, 2))
    ],
    "dilate": lambda m, i: [m.dilate(i, np.ones((h, w), np.uint8)) for h, w in ((1, 4), (10, 10), (50, 1))],
    "threshold": lambda m, i: [m.threshold(i, 99, 200, t)[1] for t in range(5)],
    "pointwise": lambda m, i: [m.absdiff(i, i[::-1]), m.add(i, i[::-1]), m.bitwise_not(i)],
    "LUT": lambda m, i: m.LUT(i, np.arange(255, -1, -1, dtype=np.uint8)),
    "inRange": lambda m, i: m.inRange(i, (9, 99, 30), (200, 255, 180)),
    "sums": lambda m, i: [m.sumElems(i), *m.minMaxLoc(i[..., 1])[:2], m.countNonZero(i[..., 2])],
    "grey": lambda m, i: [m.equalizeHist(i[..., 0]), m.integral(i[..., 1]), m.Canny(i[..., 2], 90, 500)],
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", LONG)
def test_agrees_on_rows_longer_than_a_block(name: str, threads: int) -> None:
    """Kernels take rows in blocks and stretches; short rows are joined, and large images shared."""
    image = np.random.default_rng(6).integers(0, 256, (53, 1101, 3), dtype=np.uint8)
    cv.setNumThreads(threads)
    try:
        for our, their in zip(_arrays(LONG[name](cv, image)), _arrays(LONG[name](cv2, image)), strict=True):
            assert np.array_equal(our.astype(np.float64).ravel(), their.astype(np.float64).ravel())
    finally:
        cv.setNumThreads(0)


@pytest.mark.parametrize("side", [(1, 2), (2, 2), (4, 4), (8, 16), (16, 16)])
def test_means_of_boxes_round_half_up(side: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (40, 40), dtype=np.uint8)
    sums = cv2.boxFilter(image, cv2.CV_32F, side, normalize=False).astype(np.int64)
    area = side[0] * side[1]
    assert np.array_equal(np.asarray(cv.blur(image, side)), (sums + area // 2) // area)
    assert np.asarray(cv.blur(np.full((4, 4), 255, np.uint8), side)).min() == 255


@pytest.mark.parametrize("layout", ["NV12", "NV21"])
def test_layouts_opencv_cannot_write_come_back(layout: str) -> None:
    image = np.zeros((16, 24, 3), np.uint8)
    image[:, 8:] = (200, 90, 30)
    frame = cv.cvtColor(image, getattr(cv, f"COLOR_BGR2YUV_{layout}"))
    planar = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420)
    assert np.array_equal(np.asarray(frame)[:16], planar[:16])
    again = cv2.cvtColor(np.asarray(frame), getattr(cv2, f"COLOR_YUV2BGR_{layout}"))
    assert np.array_equal(again, cv2.cvtColor(planar, cv2.COLOR_YUV2BGR_I420))


@given(seed=st.integers(0, 2**32), height=st.integers(1, 60), width=st.integers(1, 60))
@settings(max_examples=EXAMPLES)
def test_to_tensor_is_resizing_and_arithmetic(seed: int, height: int, width: int) -> None:
    draw = Draw(seed, height, width)
    image = draw.image(draw.pick(3, 4))
    size = draw.size()
    channels = image.shape[2]
    mean, std = [0.1, 0.2, 0.3, 0.4][:channels], [0.5, 0.6, 0.7, 0.8][:channels]
    swap, letterbox, layout = draw.pick(True, False), draw.pick(True, False), draw.pick("nchw", "hwc")
    tensor = np.asarray(
        cv.to_tensor(image, size, mean, std, letterbox=letterbox, swap_rb=swap, layout=layout, padding=7)
    )
    placed = np.full((size[1], size[0], channels), 7, np.uint8)
    w, h = size
    if letterbox:
        ratio = min(w / width, h / height)
        w, h = max(1, min(w, round(width * ratio))), max(1, min(h, round(height * ratio)))
    top, left = (size[1] - h) // 2, (size[0] - w) // 2
    placed[top : top + h, left : left + w] = cv2.resize(image, (w, h)).reshape(h, w, channels)
    if swap:
        placed = placed[..., [2, 1, 0, 3][:channels]]
    expected = ((placed / 255 - mean) / std).astype(np.float32)
    if layout == "nchw":
        expected = expected.transpose(2, 0, 1)[None]
    assert tensor.shape == expected.shape
    assert np.abs(tensor - expected).max() < 1e-5


def test_to_tensor_crops_and_keeps_bytes() -> None:
    image = np.random.default_rng(2).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    tensor = cv.to_tensor(image, crop=(2, 3, 5, 4), layout="chw", dtype="uint8")
    assert np.array_equal(np.asarray(tensor), image[3:7, 2:7].transpose(2, 0, 1))


# Geometry and colours: what is made by vectors and tiles has other ends in larger images.
LARGE = [
    case
    for case in CASES
    if case.name.startswith(("resize", "warp", "remap", "color", "flips", "borders", "channels"))
]


@pytest.mark.parametrize("case", LARGE, ids=lambda case: case.name)
def test_agrees_on_images_of_several_vectors_and_tiles(case: Case) -> None:
    _compare(case, seed=1, height=150, width=310)


def test_takes_rows_that_lie_apart_and_turned() -> None:
    image = np.random.default_rng(3).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    for view in (image[::2], image[:, 3:17], image[::-1], image[:, ::-1], image[..., ::-1]):
        assert np.array_equal(
            np.asarray(cv.GaussianBlur(view, (3, 3), 0)), cv2.GaussianBlur(view.copy(), (3, 3), 0)
        )


def test_writes_into_what_fits_also_in_place() -> None:
    image = np.random.default_rng(4).integers(0, 256, (20, 30), dtype=np.uint8)
    expected = cv2.medianBlur(image, 5)
    dst = np.zeros((20, 30), np.uint8)
    assert cv.medianBlur(image, 5, dst) is dst
    assert np.array_equal(dst, expected)
    assert cv.medianBlur(image, 5, image) is image
    assert np.array_equal(image, expected)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_change_nothing(threads: int) -> None:
    image = np.random.default_rng(5).integers(0, 256, (260, 300, 3), dtype=np.uint8)
    cv.setNumThreads(threads)
    try:
        assert cv.getNumThreads() == threads
        assert np.array_equal(
            np.asarray(cv.GaussianBlur(image, (7, 7), 0)), cv2.GaussianBlur(image, (7, 7), 0)
        )
        assert np.array_equal(np.asarray(cv.blur(image, (5, 5))), cv2.blur(image, (5, 5)))
        assert np.array_equal(np.asarray(cv.medianBlur(image, 9)), cv2.medianBlur(image, 9))
        box = np.ones((3, 3), np.uint8)
        assert np.array_equal(np.asarray(cv.erode(image, None)), cv2.erode(image, box))
    finally:
        cv.setNumThreads(0)


IMAGE = np.zeros((4, 6, 3), np.uint8)
GREY = np.zeros((4, 6), np.uint8)
NOTHING = np.zeros((0, 5), np.uint8)
NAN = math.nan
HOSTILE = {
    "no image": lambda: cv.resize(None, (2, 2)),  # type: ignore[arg-type]
    "text": lambda: cv.resize("image", (2, 2)),  # type: ignore[arg-type]
    "four dims": lambda: cv.flip(np.zeros((1, 2, 3, 4), np.uint8), 0),
    "complex": lambda: cv.flip(np.zeros((2, 2), np.complex64), 0),
    "empty": lambda: cv.resize(NOTHING, (2, 2)),
    "no size": lambda: cv.resize(IMAGE, None),
    "size 0": lambda: cv.resize(IMAGE, (0, 5)),
    "size below 0": lambda: cv.resize(IMAGE, (-1, 5)),
    "huge size": lambda: cv.resize(IMAGE, (2**40, 5)),
    "size of text": lambda: cv.resize(IMAGE, "ab"),  # type: ignore[arg-type]
    "factor nan": lambda: cv.resize(IMAGE, None, fx=NAN, fy=1),
    "interpolation": lambda: cv.resize(IMAGE, (2, 2), interpolation=9),
    "matrix nan": lambda: cv.warpAffine(IMAGE, [[NAN, 0, 0], [0, 1, 0]], (2, 2)),
    "matrix shape": lambda: cv.warpAffine(IMAGE, [[1, 0], [0, 1]], (2, 2)),
    "matrix ragged": lambda: cv.warpPerspective(IMAGE, [[1, 0], [0, 1, 2]], (2, 2)),
    "border": lambda: cv.GaussianBlur(IMAGE, (3, 3), 0, borderType=77),
    "maps": lambda: cv.remap(IMAGE, GREY, None, 1),
    "code": lambda: cv.cvtColor(IMAGE, 12345),
    "channels": lambda: cv.cvtColor(GREY, cv.COLOR_BGR2GRAY),
    "video": lambda: cv.cvtColor(np.zeros((5, 5), np.uint8), cv.COLOR_YUV2BGR_NV21),
    "even kernel": lambda: cv.GaussianBlur(IMAGE, (2, 2), 0),
    "no sigma": lambda: cv.GaussianBlur(IMAGE, (0, 0), 0),
    "sigma nan": lambda: cv.GaussianBlur(IMAGE, (0, 0), NAN),
    "huge sigma": lambda: cv.GaussianBlur(IMAGE, (0, 0), 1e9),
    "box 0": lambda: cv.blur(IMAGE, (0, 3)),
    "huge box": lambda: cv.blur(IMAGE, (10**9, 10**9)),
    "anchor": lambda: cv.blur(IMAGE, (3, 3), anchor=(9, 9)),
    "kernel nan": lambda: cv.filter2D(IMAGE, -1, [[NAN]]),
    "no kernel": lambda: cv.filter2D(IMAGE, -1, []),
    "depth": lambda: cv.Sobel(IMAGE, 99, 1, 0),
    "orders": lambda: cv.Sobel(IMAGE, -1, 0, 0),
    "even median": lambda: cv.medianBlur(IMAGE, 4),
    "huge median": lambda: cv.medianBlur(IMAGE, 9999),
    "canny": lambda: cv.Canny(IMAGE, NAN, 3),
    "element of zeros": lambda: cv.erode(IMAGE, np.zeros((3, 3), np.uint8)),
    "element size": lambda: cv.getStructuringElement(0, (0, 3)),
    "threshold nan": lambda: cv.threshold(IMAGE, NAN, 255, 0),
    "otsu of colour": lambda: cv.threshold(IMAGE, 0, 255, cv.THRESH_OTSU),
    "adaptive": lambda: cv.adaptiveThreshold(GREY, 255, 0, 0, 4, 2),
    "sizes differ": lambda: cv.add(IMAGE, GREY),
    "types differ": lambda: cv.absdiff(GREY, GREY.astype(np.float32)),
    "table": lambda: cv.LUT(GREY, np.zeros(5, np.uint8)),
    "bounds": lambda: cv.inRange(IMAGE, (1, 2), (3, 4)),
    "bins": lambda: cv.calcHist([GREY], [0], None, [0], [0, 256]),
    "bins nan": lambda: cv.calcHist([GREY], [0], None, [4], [NAN, 256]),
    "channel": lambda: cv.calcHist([GREY], [7], None, [4], [0, 256]),
    "border below 0": lambda: cv.copyMakeBorder(GREY, -1, 0, 0, 0, 0),
    "merge nothing": lambda: cv.merge([]),
    "merge sizes": lambda: cv.merge([GREY, np.zeros((2, 2), np.uint8)]),
    "countNonZero": lambda: cv.countNonZero(IMAGE),
    "minMaxLoc": lambda: cv.minMaxLoc(IMAGE),
    "contours of colour": lambda: cv.findContours(IMAGE, 1, 1),
    "contours mode": lambda: cv.findContours(GREY, 9, 1),
    "points": lambda: cv.contourArea([1, 2, 3]),
    "points text": lambda: cv.arcLength("abc", True),
    "points nan": lambda: cv.approxPolyDP([[NAN, 1.0], [2.0, 3.0]], 1, True),
    "points far": lambda: cv.line(GREY.copy(), (2**31, 0), (0, 0), 1),
    "thickness": lambda: cv.line(GREY.copy(), (0, 0), (1, 1), 1, 10**6),
    "radius": lambda: cv.circle(GREY.copy(), (0, 0), -3, 1),
    "colour": lambda: cv.circle(GREY.copy(), (0, 0), 3, "red"),  # type: ignore[arg-type]
    "same points": lambda: cv.getAffineTransform([[0, 0]] * 3, [[0, 0]] * 3),
    "letterbox": lambda: cv.to_tensor(IMAGE, size=(0, 0)),
    "std 0": lambda: cv.to_tensor(IMAGE, std=0),
    "crop": lambda: cv.to_tensor(IMAGE, crop=(0, 0, 99, 99)),
    "read-only": lambda: cv.line(bytes(12), (0, 0), (1, 1), 1),
}


@pytest.mark.parametrize("call", HOSTILE.values(), ids=HOSTILE.keys())
def test_refuses_with_a_typed_error(call: Any) -> None:
    with pytest.raises(WalleError) as refusal:
        call()
    assert len(str(refusal.value)) > 10


@given(
    st.lists(
        st.sampled_from([NAN, math.inf, -math.inf, 1e38, -1e38, 1e-30, 0.0, 1.0]), min_size=9, max_size=9
    )
)
@settings(max_examples=EXAMPLES * 5)
def test_no_matrix_is_fatal(values: list[float]) -> None:
    rows = [values[:3], values[3:6], values[6:]]
    for call in (
        lambda: cv.warpAffine(IMAGE, rows[:2], (5, 5), borderMode=cv.BORDER_REFLECT),
        lambda: cv.warpPerspective(IMAGE, rows, (5, 5)),
        lambda: cv.remap(IMAGE, np.array(rows, np.float32), np.array(rows, np.float32), 1, borderMode=3),
        lambda: cv.filter2D(IMAGE, -1, rows),
        lambda: cv.perspectiveTransform(np.zeros((3, 1, 2), np.float32), rows),
    ):
        try:
            call()
        except WalleError:
            continue


def test_runs_in_an_isolated_interpreter() -> None:
    script = """
import importlib.util
spec = importlib.util.spec_from_file_location("walle_locate", LOCATE)
locate = importlib.util.module_from_spec(spec)
spec.loader.exec_module(locate)
locate.install(LOCATIONS)
from walle_task import cv
from walle_engine import _native
image = _native.Tensor((8, 8), "U8", [list(range(i, i + 8)) for i in range(8)])
assert cv.resize(image, (4, 4)).tolist()[0] == [1, 3, 5, 7]
assert len(cv.findContours(image, cv.RETR_LIST, cv.CHAIN_APPROX_SIMPLE)[0]) == 1
"""
    preload()
    created = interpreters.create()
    failure = interpreters.execute(
        created, script, {"LOCATE": locate.__file__, "LOCATIONS": locate.find_locations()}
    )
    assert failure is None, failure
