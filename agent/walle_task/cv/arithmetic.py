"""Pixel by pixel: sums, bits, tables, thresholds, and what a whole image amounts to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from walle_shared.errors import TaskError
from walle_task.cv import constants as k
from walle_task.cv._image import (
    Image,
    Scalar,
    depth_dtype,
    info,
    new,
    recast,
    require,
    result,
    run,
    run_many,
    scalar,
)
from walle_task.cv.filters import boxFilter, gaussian_line

# The functions of the engine's operation `pointwise`.
_AND, _OR, _XOR, _NOT, _ABSDIFF, _ADD, _SUBTRACT, _LEAST, _MOST = range(9)


def _pointwise(function: int, src1: Image, src2: Image, dst: Any) -> Any:
    found = info(src1)
    return run("pointwise", (src1, src2), result(dst, found.shape, found.dtype), function)


def _masked(made: Any, mask: Image | None) -> Any:
    """``made`` where ``mask`` is not 0, else 0."""
    if mask is None:
        return made
    found = info(made)
    bits = run("threshold", (mask,), new(info(mask).shape, "U8"), 0, 255, k.THRESH_BINARY)
    if found.channels > 1:
        bits = merge([bits] * found.channels)
    return run("pointwise", (made, bits), new(found.shape, "U8"), _AND)


def bitwise_and(src1: Image, src2: Image, dst: Any = None, mask: Image | None = None) -> Any:
    """Bits set in both; 0 where ``mask`` is 0 (bytes only)."""
    return _masked(_pointwise(_AND, src1, src2, dst), mask)


def bitwise_or(src1: Image, src2: Image, dst: Any = None, mask: Image | None = None) -> Any:
    """Bits set in either; 0 where ``mask`` is 0 (bytes only)."""
    return _masked(_pointwise(_OR, src1, src2, dst), mask)


def bitwise_xor(src1: Image, src2: Image, dst: Any = None, mask: Image | None = None) -> Any:
    """Bits set in one alone; 0 where ``mask`` is 0 (bytes only)."""
    return _masked(_pointwise(_XOR, src1, src2, dst), mask)


def bitwise_not(src: Image, dst: Any = None, mask: Image | None = None) -> Any:
    """Each bit turned over; 0 where ``mask`` is 0 (bytes only)."""
    found = info(src)
    return _masked(run("pointwise", (src,), result(dst, found.shape, found.dtype), _NOT), mask)


def absdiff(src1: Image, src2: Image, dst: Any = None) -> Any:
    """The size of the difference."""
    return _pointwise(_ABSDIFF, src1, src2, dst)


def add(src1: Image, src2: Image, dst: Any = None) -> Any:
    """The sum, kept within the type's range."""
    return _pointwise(_ADD, src1, src2, dst)


def subtract(src1: Image, src2: Image, dst: Any = None) -> Any:
    """The difference, kept within the type's range."""
    return _pointwise(_SUBTRACT, src1, src2, dst)


def min(src1: Image, src2: Image, dst: Any = None) -> Any:  # OpenCV's name
    """The smaller of both."""
    return _pointwise(_LEAST, src1, src2, dst)


def max(src1: Image, src2: Image, dst: Any = None) -> Any:  # OpenCV's name
    """The larger of both."""
    return _pointwise(_MOST, src1, src2, dst)


def addWeighted(src1: Image, alpha: float, src2: Image, beta: float, gamma: float, dst: Any = None) -> Any:
    """``src1 * alpha + src2 * beta + gamma``, rounded and kept within the type's range."""
    found = info(src1)
    return run("blend", (src1, src2), result(dst, found.shape, found.dtype), alpha, beta, gamma)


def convertScaleAbs(src: Image, dst: Any = None, alpha: float = 1, beta: float = 0) -> Any:
    """``|src * alpha + beta|`` as bytes."""
    return run("convert", (src,), result(dst, info(src).shape, "U8"), alpha, beta, 1)


def convertTo(src: Image, rtype: int, alpha: float = 1, beta: float = 0) -> Any:
    """``src * alpha + beta`` as elements of another depth (OpenCV has it as a method of its matrices)."""
    found = info(src)
    return run("convert", (src,), new(found.shape, depth_dtype(rtype, found.dtype)), alpha, beta, 0)


def normalize(
    src: Image,
    dst: Any = None,
    alpha: float = 1,
    beta: float = 0,
    norm_type: int = k.NORM_L2,
    dtype: int = -1,
) -> Any:
    """Scale so that the norm is ``alpha``, or with ``NORM_MINMAX`` to the range from ``alpha`` to ``beta``.

    Raises:
        TaskError: there is no such norm.
    """
    found = require(src, "normalize")
    plain = memoryview(src)
    one = src if found.channels == 0 else _joined(src, found.height, found.width * found.channels, plain)
    if norm_type == k.NORM_MINMAX:
        least, most, _, _ = minMaxLoc(one)
        low, high = (alpha, beta) if alpha <= beta else (beta, alpha)
        scale = (high - low) / (most - least) if most - least > 2.220446049250313e-16 else 0.0
        shift = low - least * scale
    else:
        size = norm(one, norm_type)
        scale, shift = (alpha / size if size > 2.220446049250313e-16 else 0.0), 0.0
    output = result(dst, found.shape, depth_dtype(dtype, found.dtype))
    return run("convert", (src,), output, scale, shift, 0)


def _joined(src: Image, height: int, width: int, view: memoryview) -> Any:
    """An image of several channels as one of a single channel."""
    if view.c_contiguous:
        return recast(view, view.format.lstrip("@=<"), (height, width))
    found = info(src)
    packed = run("border", (src,), new(found.shape, found.dtype), 0, 0, 0, 0, 0, 0, 0)
    return _joined(packed, height, width, memoryview(packed))


def norm(src1: Image, normType: int = k.NORM_L2) -> float:
    """The norm of all elements.

    Raises:
        TaskError: there is no such norm.
    """
    found = require(src1, "norm")
    channels = found.channels or 1
    if normType == k.NORM_INF:
        one = src1 if channels == 1 else _joined(src1, found.height, found.width * channels, memoryview(src1))
        least, most, _, _ = minMaxLoc(one)
        return abs(least) if abs(least) > abs(most) else abs(most)
    if normType == k.NORM_L2:
        return math.sqrt(math.fsum(_sums(src1, None, _SQUARES)[1 + channels : 1 + 2 * channels]))
    if normType == k.NORM_L1:
        magnitudes = run("convert", (src1,), new(found.shape, "F64"), 1, 0, 1)
        return math.fsum(_sums(magnitudes, None, _SUM)[1 : 1 + channels])
    raise TaskError(f"there is no norm {normType}: use NORM_INF, NORM_L1 or NORM_L2")


# What the engine's operation `sums` is asked for.
_SUM, _SQUARES, _NOT_ZERO = 1, 2, 4


def _sums(src: Image, mask: Image | None, wanted: int) -> list[float]:
    """How many pixels count; then for all channels the sums, the sums of squares, and how many are not 0."""
    found = info(src)
    output = new((1 + 3 * (found.channels or 1),), "F64")
    made: list[float] = run("sums", (src,) if mask is None else (src, mask), output, wanted).tolist()
    return made


def sumElems(src: Image) -> tuple[float, float, float, float]:
    """The sum of each channel, of four at most."""
    channels = info(src).channels or 1
    return scalar(_sums(src, None, _SUM)[1 : 1 + channels][:4])


def mean(src: Image, mask: Image | None = None) -> tuple[float, float, float, float]:
    """The mean of each channel, of four at most, where ``mask`` is not 0."""
    count, *sums = _sums(src, mask, _SUM)
    channels = info(src).channels or 1
    return scalar([value / count if count else 0.0 for value in sums[:channels][:4]])


def meanStdDev(src: Image, mask: Image | None = None) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel."""
    count, *sums = _sums(src, mask, _SUM | _SQUARES)
    channels = info(src).channels or 1
    means = [value / count if count else 0.0 for value in sums[:channels]]
    squares = [value / count if count else 0.0 for value in sums[channels : 2 * channels]]
    variances = [square - value * value for square, value in zip(squares, means, strict=True)]
    return means, [math.sqrt(value) if value > 0 else 0.0 for value in variances]


def countNonZero(src: Image) -> int:
    """How many elements are not 0.

    Raises:
        TaskError: the image has several channels.
    """
    if info(src).channels > 1:
        raise TaskError("countNonZero takes one channel: split the image first")
    return int(_sums(src, None, _NOT_ZERO)[3])


def minMaxLoc(src: Image, mask: Image | None = None) -> tuple[float, float, tuple[int, int], tuple[int, int]]:
    """The least and the largest element and where each is first met, as (x, y)."""
    output = new((6,), "F64")
    least, most, *places = run("extremes", (src,) if mask is None else (src, mask), output).tolist()
    low_x, low_y, high_x, high_y = (int(place) for place in places)
    return least, most, (low_x, low_y), (high_x, high_y)


def LUT(src: Image, lut: Image, dst: Any = None) -> Any:
    """Replace each byte by what the table of 256 elements says."""
    found = info(src)
    view = memoryview(lut)
    table = recast(view, view.format, (1, 256)) if view.shape == (256,) else lut
    return run("lut", (src, table), result(dst, found.shape, info(table).dtype))


def inRange(src: Image, lowerb: Scalar, upperb: Scalar, dst: Any = None) -> Any:
    """255 where every channel is within its bounds, both included, else 0.

    Raises:
        TaskError: there are not as many bounds as channels.
    """
    found = info(src)
    channels = found.channels or 1
    bounds: list[float] = []
    for bound in (lowerb, upperb):
        values = (
            [float(bound)] if isinstance(bound, (int, float)) else [float(part) for part in _listed(bound)]
        )
        if len(values) < channels:
            raise TaskError(f"inRange needs {channels} lower and upper bounds, one for each channel")
        bounds += values[:channels]
    return run("in_range", (src,), result(dst, (found.height, found.width), "U8"), *bounds)


def _listed(bound: Any) -> Sequence[float]:
    listed: Sequence[float] = bound.tolist() if hasattr(bound, "tolist") else bound
    return listed


def threshold(src: Image, thresh: float, maxval: float, type: int, dst: Any = None) -> tuple[float, Any]:
    """Compare with a limit, which ``THRESH_OTSU`` or ``THRESH_TRIANGLE`` in the type finds. Returns both."""
    found = info(src)
    output = result(dst, found.shape, found.dtype)
    limit = float(thresh)
    if type & (k.THRESH_OTSU | k.THRESH_TRIANGLE):
        limit = run("auto_threshold", (src,), new((1,), "F64"), not type & k.THRESH_OTSU).tolist()[0]
    elif found.dtype not in ("F32", "F64") and math.isfinite(limit):
        limit = float(math.floor(limit))
    return limit, run("threshold", (src,), output, limit, maxval, type & 7)


def adaptiveThreshold(
    src: Image,
    maxValue: float,
    adaptiveMethod: int,
    thresholdType: int,
    blockSize: int,
    C: float,
    dst: Any = None,
) -> Any:
    """Compare each pixel with the mean of its neighbourhood less ``C``.

    Raises:
        TaskError: no such method or type, or an even size.
    """
    found = info(src)
    if blockSize % 2 == 0 or blockSize <= 1:
        raise TaskError(f"the blockSize of adaptiveThreshold is odd and above 1, not {blockSize}")
    if thresholdType not in (k.THRESH_BINARY, k.THRESH_BINARY_INV):
        raise TaskError("adaptiveThreshold takes THRESH_BINARY or THRESH_BINARY_INV")
    if found.dtype != "U8" or found.channels > 1:
        raise TaskError("adaptiveThreshold takes an image of bytes with one channel")
    if adaptiveMethod == k.ADAPTIVE_THRESH_MEAN_C:
        means = boxFilter(src, -1, (blockSize, blockSize), borderType=k.BORDER_REPLICATE)
    elif adaptiveMethod == k.ADAPTIVE_THRESH_GAUSSIAN_C:
        line = gaussian_line(blockSize, 0, fixed=False)  # of floats, as OpenCV has it here
        means = run(
            "filter_separable",
            (src, line, line),
            new(found.shape, "U8"),
            *(-1, -1),
            0,
            k.BORDER_REPLICATE,
            0,
        )
    else:
        raise TaskError(f"there is no adaptive method {adaptiveMethod}")
    output = result(dst, found.shape, "U8")
    return run("threshold_by", (src, means), output, C, maxValue, thresholdType)


def split(m: Image) -> tuple[Any, ...]:
    """One image for each channel."""
    found = info(m)
    if found.channels == 0:
        return (run("border", (m,), new(found.shape, found.dtype), 0, 0, 0, 0, 0, 0, 0),)
    outputs = tuple(new((found.height, found.width), found.dtype) for _ in range(found.channels))
    return run_many("split", (m,), outputs)


def merge(mv: Sequence[Image], dst: Any = None) -> Any:
    """One image of several of one channel each.

    Raises:
        TaskError: there are none.
    """
    if not mv:
        raise TaskError("merge takes at least one image")
    found = info(mv[0])
    output = result(dst, (found.height, found.width, len(mv)), found.dtype)
    return run("merge", tuple(mv), output)


def integral(src: Image, sum: Any = None) -> Any:  # OpenCV's name
    """Sums over all rectangles from the top left corner; one row and one column more than the image."""
    found = info(src)
    shape = (found.height + 1, found.width + 1, *found.shape[2:])
    return run("integral", (src,), result(sum, shape, "I32" if found.dtype == "U8" else "F64"))


def calcHist(
    images: Sequence[Image],
    channels: Sequence[int],
    mask: Image | None,
    histSize: Sequence[int],
    ranges: Sequence[float],
    hist: Any = None,
    accumulate: bool = False,
) -> Any:
    """Count values in bins: float32 [bins, 1] for one channel, [bins, bins ...] for up to three.

    Raises:
        TaskError: sizes and ranges do not fit the channels, or ``accumulate`` is wanted.
    """
    if accumulate:
        raise TaskError("calcHist does not accumulate: add the histograms")
    if not 1 <= len(channels) <= 3 or len(histSize) != len(channels) or len(ranges) != 2 * len(channels):
        raise TaskError(
            "calcHist takes up to three channels, with a histSize and two ends of a range for each"
        )
    owners = [(number, i) for number, image in enumerate(images) for i in range(info(image).channels or 1)]
    numbers: list[float] = [mask is not None]
    for at, channel in enumerate(channels):
        if not 0 <= channel < len(owners):
            raise TaskError(f"there is no channel {channel} among {len(owners)}")
        numbers += [*owners[channel], histSize[at], *ranges[2 * at : 2 * at + 2]]
    total = math.prod(int(bins) for bins in histSize)
    if not 0 < total <= 1 << 24:
        raise TaskError(f"a histogram of {total} bins is not possible")
    counts = run("histogram", (*images, *(() if mask is None else (mask,))), new((1, total), "F32"), *numbers)
    shape = (int(histSize[0]), 1) if len(channels) == 1 else tuple(int(bins) for bins in histSize)
    return _reshaped(counts, shape, hist)


def _reshaped(made: Any, shape: tuple[int, ...], dst: Any) -> Any:
    again = new(shape, info(made).dtype) if dst is None else dst
    memoryview(again).cast("B")[:] = memoryview(made).cast("B")
    return again


def equalizeHist(src: Image, dst: Any = None) -> Any:
    """Spread the values of an image of bytes so that all are about equally frequent."""
    found = info(src)
    return run("equalize", (src,), result(dst, found.shape, "U8"))
