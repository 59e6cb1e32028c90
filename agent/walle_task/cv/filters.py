"""Smoothing, derivatives, and sums over windows with weights of one's own."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

from walle_shared.errors import TaskError
from walle_task.cv import constants as k
from walle_task.cv._image import Image, depth_dtype, info, pair, recast, result, run, weights

# Source: OpenCV's tables for sizes without a sigma.
_SMALL_GAUSSIANS = {
    1: [1.0],
    3: [0.25, 0.5, 0.25],
    5: [0.0625, 0.25, 0.375, 0.25, 0.0625],
    7: [0.03125, 0.109375, 0.21875, 0.28125, 0.21875, 0.109375, 0.03125],
    9: [x / 256 for x in (4, 13, 30, 51, 60, 51, 30, 13, 4)],
}


def _gaussian(n: int, sigma: float) -> list[float]:
    if sigma <= 0 and n in _SMALL_GAUSSIANS:
        return _SMALL_GAUSSIANS[n]
    width = sigma if sigma > 0 else ((n - 1) * 0.5 - 1) * 0.3 + 0.8
    scale = -0.5 / (width * width)
    values = [math.exp(scale * (i - (n - 1) * 0.5) ** 2) for i in range(n)]
    total = math.fsum(values)
    return [value / total for value in values]


def _in_256ths(kernel: list[float]) -> list[int]:
    """Whole 256ths that add up to 256: what rounding leaves is handed on, the middle takes the rest."""
    middle = len(kernel) // 2
    rest, half = 0.0, []
    for value in kernel[:middle]:
        wanted = value * 256 + rest
        taken = round(wanted)
        rest = wanted - taken
        half.append(taken)
    return [*half, 256 - 2 * sum(half), *reversed(half)]


def getGaussianKernel(ksize: int, sigma: float, ktype: int = k.CV_64F) -> Any:
    """The weights of a Gaussian, as a column.

    Raises:
        TaskError: the size is not above 0.
    """
    if not 0 < ksize <= 4096:
        raise TaskError(f"a kernel of {ksize} is not possible")
    column = weights([[value] for value in _gaussian(ksize, sigma)], "a kernel")
    if ktype == k.CV_64F:
        return column
    return run("convert", (column,), result(None, (ksize, 1), depth_dtype(ktype, "F64")), 1, 0, 0)


@functools.lru_cache(256)
def _line(values: tuple[float, ...]) -> Any:
    return weights([list(values)], "a kernel")


def _as_line(values: Any, what: str) -> Any:
    """A column or a row of weights as a row."""
    view = memoryview(weights(values, what))
    return recast(view, "d", (1, view.nbytes // view.itemsize))


@functools.lru_cache(64)
def gaussian_line(n: int, sigma: float, fixed: bool) -> Any:
    """The weights of a Gaussian as a row, in whole 256ths where ``fixed``."""
    values = _gaussian(n, sigma)
    return _line(tuple(map(float, _in_256ths(values)) if fixed else values))


def GaussianBlur(
    src: Image,
    ksize: Sequence[int],
    sigmaX: float,
    dst: Any = None,
    sigmaY: float = 0,
    borderType: int = k.BORDER_DEFAULT,
) -> Any:
    """Smooth by a Gaussian: of bytes in whole 256ths, exactly as OpenCV does.

    Raises:
        TaskError: the size is even, or there is neither a size nor a sigma.
    """
    found = info(src)
    sigmaX, sigmaY = float(sigmaX), float(sigmaY) if sigmaY > 0 else float(sigmaX)
    if not (math.isfinite(sigmaX) and math.isfinite(sigmaY) and max(sigmaX, sigmaY) < 1000):
        raise TaskError("the sigmas of a Gaussian must be below 1000")
    width, height = pair(ksize, "ksize")
    reach = 3 if found.dtype == "U8" else 4
    if width <= 0 < sigmaX:
        width = round(sigmaX * reach * 2 + 1) | 1
    if height <= 0 < sigmaY:
        height = round(sigmaY * reach * 2 + 1) | 1
    if width <= 0 or height <= 0 or width % 2 == 0 or height % 2 == 0:
        raise TaskError(f"the sizes of a Gaussian must be odd and above 0, not {width} and {height}")
    fixed = found.dtype == "U8"
    lines = gaussian_line(width, sigmaX, fixed), gaussian_line(height, sigmaY, fixed)
    output = result(dst, found.shape, found.dtype)
    return run("filter_separable", (src, *lines), output, -1, -1, 0, borderType, fixed)


def blur(
    src: Image,
    ksize: Sequence[int],
    dst: Any = None,
    anchor: Sequence[int] = (-1, -1),
    borderType: int = k.BORDER_DEFAULT,
) -> Any:
    """The mean of a window of ``ksize`` (width, height)."""
    return boxFilter(src, -1, ksize, dst, anchor, True, borderType)


def boxFilter(
    src: Image,
    ddepth: int,
    ksize: Sequence[int],
    dst: Any = None,
    anchor: Sequence[int] = (-1, -1),
    normalize: bool = True,
    borderType: int = k.BORDER_DEFAULT,
) -> Any:
    """The mean, or the sum, of a window of ``ksize`` (width, height)."""
    found = info(src)
    width, height = pair(ksize, "ksize")
    output = result(dst, found.shape, depth_dtype(ddepth, found.dtype))
    return run("filter_box", (src,), output, width, height, *pair(anchor, "anchor"), normalize, borderType)


def medianBlur(src: Image, ksize: int, dst: Any = None) -> Any:
    """The median of a square of ``ksize`` pixels: 3 or 5, or any odd size for bytes."""
    found = info(src)
    return run("median", (src,), result(dst, found.shape, found.dtype), ksize)


def filter2D(
    src: Image,
    ddepth: int,
    kernel: Any,
    dst: Any = None,
    anchor: Sequence[int] = (-1, -1),
    delta: float = 0,
    borderType: int = k.BORDER_DEFAULT,
) -> Any:
    """Weigh each window by ``kernel`` (not mirrored)."""
    found = info(src)
    output = result(dst, found.shape, depth_dtype(ddepth, found.dtype))
    inputs = (src, weights(kernel, "kernel"))
    return run("filter_full", inputs, output, *pair(anchor, "anchor"), delta, borderType)


def sepFilter2D(
    src: Image,
    ddepth: int,
    kernelX: Any,
    kernelY: Any,
    dst: Any = None,
    anchor: Sequence[int] = (-1, -1),
    delta: float = 0,
    borderType: int = k.BORDER_DEFAULT,
) -> Any:
    """Weigh rows by ``kernelX``, then columns by ``kernelY``."""
    found = info(src)
    output = result(dst, found.shape, depth_dtype(ddepth, found.dtype))
    lines = _as_line(kernelX, "kernelX"), _as_line(kernelY, "kernelY")
    return run("filter_separable", (src, *lines), output, *pair(anchor, "anchor"), delta, borderType, 0)


def _binomial(ksize: int, order: int) -> tuple[float, ...]:
    """(1, 1) convolved with itself and ``order`` times with (-1, 1)."""
    values = [1.0]
    for step in [1.0] * (ksize - order - 1) + [-1.0] * order:
        values = [step * b + a for a, b in zip([0.0, *values], [*values, 0.0], strict=True)]
    return tuple(values)


@functools.lru_cache(64)
def _derivative_kernels(dx: int, dy: int, ksize: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if dx < 0 or dy < 0 or dx + dy <= 0 or max(dx, dy) > 31:
        raise TaskError("a derivative has orders dx and dy from 0, and not both 0")
    if ksize == -1:
        if dx + dy != 1:
            raise TaskError("Scharr's kernels have dx + dy = 1")
        lines = [(-1.0, 0.0, 1.0) if order else (3.0, 10.0, 3.0) for order in (dx, dy)]
        return lines[0], lines[1]
    if ksize % 2 == 0 or not 0 < ksize <= 31:
        raise TaskError(f"a derivative's ksize is odd, from 1 to 31, not {ksize}")
    sizes = [3 if ksize == 1 and order > 0 else ksize for order in (dx, dy)]
    if max(dx, dy) >= max(sizes):
        raise TaskError(f"a derivative of order {max(dx, dy)} needs a ksize above it")
    return _binomial(sizes[0], dx), _binomial(sizes[1], dy)


def getDerivKernels(dx: int, dy: int, ksize: int, normalize: bool = False) -> tuple[Any, Any]:
    """The weights of Sobel's (or with ``ksize`` -1, Scharr's) kernels, as columns."""
    lines = list(_derivative_kernels(dx, dy, ksize))
    if normalize:
        lines = [
            tuple(w / (32 if ksize == -1 else 2.0 ** (len(line) - order - 1)) for w in line)
            for line, order in zip(lines, (dx, dy), strict=True)
        ]
    columns = [weights([[w] for w in line], "a kernel") for line in lines]
    return columns[0], columns[1]


def Sobel(
    src: Image,
    ddepth: int,
    dx: int,
    dy: int,
    dst: Any = None,
    ksize: int = 3,
    scale: float = 1,
    delta: float = 0,
    borderType: int = k.BORDER_DEFAULT,
) -> Any:
    """A derivative by Sobel's kernels; Scharr's where ``ksize`` is -1."""
    across, down = _derivative_kernels(dx, dy, ksize)
    if scale != 1:
        if dx == 0:
            across = tuple(w * scale for w in across)
        else:
            down = tuple(w * scale for w in down)
    found = info(src)
    output = result(dst, found.shape, depth_dtype(ddepth, found.dtype))
    return run("filter_separable", (src, _line(across), _line(down)), output, -1, -1, delta, borderType, 0)


def Scharr(
    src: Image,
    ddepth: int,
    dx: int,
    dy: int,
    dst: Any = None,
    scale: float = 1,
    delta: float = 0,
    borderType: int = k.BORDER_DEFAULT,
) -> Any:
    """A first derivative by Scharr's kernels."""
    return Sobel(src, ddepth, dx, dy, dst, -1, scale, delta, borderType)


def Laplacian(
    src: Image,
    ddepth: int,
    dst: Any = None,
    ksize: int = 1,
    scale: float = 1,
    delta: float = 0,
    borderType: int = k.BORDER_DEFAULT,
) -> Any:
    """The sum of the second derivatives across and down."""
    return filter2D(src, ddepth, _laplacian(ksize, float(scale)), dst, (-1, -1), delta, borderType)


@functools.lru_cache(64)
def _laplacian(ksize: int, scale: float) -> Any:
    if ksize == 1:
        kernel = [[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]
    elif ksize == 3:
        kernel = [[2.0, 0.0, 2.0], [0.0, -8.0, 0.0], [2.0, 0.0, 2.0]]
    else:
        second, smooth = _derivative_kernels(2, 0, ksize)
        kernel = [[second[x] * smooth[y] + smooth[x] * second[y] for x in range(ksize)] for y in range(ksize)]
    return weights([[w * scale for w in row] for row in kernel], "a kernel")


def Canny(
    image: Image,
    threshold1: float,
    threshold2: float,
    edges: Any = None,
    apertureSize: int = 3,
    L2gradient: bool = False,
) -> Any:
    """Edges of an image of bytes, by Canny's algorithm."""
    found = info(image)
    output = result(edges, (found.height, found.width), "U8")
    if apertureSize not in (3, 5, 7):
        raise TaskError(f"Canny's apertureSize is 3, 5 or 7, not {apertureSize}")
    low, high = sorted((float(threshold1), float(threshold2)))
    if apertureSize == 3 and found.channels <= 1 and found.dtype == "U8":
        return run("canny", (image,), output, low, high, L2gradient)
    gradients = [
        Sobel(image, k.CV_16S, dx, 1 - dx, None, apertureSize, 1, 0, k.BORDER_REPLICATE) for dx in (1, 0)
    ]
    return run("canny", (gradients[0], gradients[1]), output, low, high, L2gradient)
