"""Erosion, dilation and what is made of them."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

from walle_shared.errors import TaskError
from walle_task.cv import constants as k
from walle_task.cv._image import Image, Scalar, array_of, info, new, pair, result, run, scalar
from walle_task.cv.arithmetic import subtract


def getStructuringElement(shape: int, ksize: Sequence[int], anchor: Sequence[int] = (-1, -1)) -> Any:
    """A rectangle, a cross or an ellipse of ones, ``ksize`` (width, height).

    Raises:
        TaskError: there is no such shape or size.
    """
    width, height = pair(ksize, "ksize")
    if not (0 < width <= 1024 and 0 < height <= 1024):
        raise TaskError(f"a structuring element of {width} x {height} is not possible")
    x, y = pair(anchor, "anchor")
    x, y = width // 2 if x == -1 else x, height // 2 if y == -1 else y
    if (width, height) == (1, 1):
        shape = k.MORPH_RECT
    if shape == k.MORPH_ELLIPSE:
        rows = _ellipse(width, height)
    elif shape in (k.MORPH_RECT, k.MORPH_CROSS):
        rows = [[int(shape == k.MORPH_RECT or i == x or j == y) for i in range(width)] for j in range(height)]
    else:
        raise TaskError(f"there is no shape {shape}: use MORPH_RECT, MORPH_CROSS or MORPH_ELLIPSE")
    return array_of((height, width), "U8", rows)


def _ellipse(width: int, height: int) -> list[list[int]]:
    r, c = height // 2, width // 2
    inverse = 1 / (r * r) if r else 0.0
    rows = []
    for i in range(height):
        dy = i - r
        reach = round(c * math.sqrt((r * r - dy * dy) * inverse)) if abs(dy) <= r else -1
        first, last = max(c - reach, 0), min(c + reach + 1, width)
        rows.append([int(abs(dy) <= r and first <= j < last) for j in range(width)])
    return rows


@functools.cache
def _square_of_3() -> Any:
    return getStructuringElement(k.MORPH_RECT, (3, 3))


def _morph(
    most: bool,
    src: Image,
    kernel: Image | None,
    dst: Any,
    anchor: Sequence[int],
    iterations: int,
    border: int,
    value: Scalar | None,
) -> Any:
    found = info(src)
    element = _square_of_3() if kernel is None else kernel
    output = result(dst, found.shape, found.dtype)
    if iterations <= 0:
        return run("border", (src,), output, 0, 0, 0, 0, 0, 0, 0)
    outside = math.nan if value is None else scalar(value)[0]
    shape = info(element)
    if shape.dtype != "U8":
        element = run("convert", (element,), new(shape.shape, "U8"), 255, 0, 1)
    image = src
    for turn in range(iterations):
        made = output if turn == iterations - 1 else new(found.shape, found.dtype)
        image = run("morphology", (image, element), made, most, *pair(anchor, "anchor"), border, outside)
    return image


def erode(
    src: Image,
    kernel: Image | None,
    dst: Any = None,
    anchor: Sequence[int] = (-1, -1),
    iterations: int = 1,
    borderType: int = k.BORDER_CONSTANT,
    borderValue: Scalar | None = None,
) -> Any:
    """The least of each neighbourhood; ``kernel`` None is a square of 3."""
    return _morph(False, src, kernel, dst, anchor, iterations, borderType, borderValue)


def dilate(
    src: Image,
    kernel: Image | None,
    dst: Any = None,
    anchor: Sequence[int] = (-1, -1),
    iterations: int = 1,
    borderType: int = k.BORDER_CONSTANT,
    borderValue: Scalar | None = None,
) -> Any:
    """The largest of each neighbourhood; ``kernel`` None is a square of 3."""
    return _morph(True, src, kernel, dst, anchor, iterations, borderType, borderValue)


def morphologyEx(
    src: Image,
    op: int,
    kernel: Image | None,
    dst: Any = None,
    anchor: Sequence[int] = (-1, -1),
    iterations: int = 1,
    borderType: int = k.BORDER_CONSTANT,
    borderValue: Scalar | None = None,
) -> Any:
    """Erosion, dilation, opening, closing, gradient, top hat or black hat.

    Raises:
        TaskError: there is no such operation.
    """
    rest = (anchor, iterations, borderType, borderValue)
    match op:
        case k.MORPH_ERODE:
            return erode(src, kernel, dst, *rest)
        case k.MORPH_DILATE:
            return dilate(src, kernel, dst, *rest)
        case k.MORPH_OPEN:
            return dilate(erode(src, kernel, None, *rest), kernel, dst, *rest)
        case k.MORPH_CLOSE:
            return erode(dilate(src, kernel, None, *rest), kernel, dst, *rest)
        case k.MORPH_GRADIENT:
            return subtract(dilate(src, kernel, None, *rest), erode(src, kernel, None, *rest), dst)
        case k.MORPH_TOPHAT:
            return subtract(src, morphologyEx(src, k.MORPH_OPEN, kernel, None, *rest), dst)
        case k.MORPH_BLACKHAT:
            return subtract(morphologyEx(src, k.MORPH_CLOSE, kernel, None, *rest), src, dst)
        case _:
            raise TaskError(f"there is no morphological operation {op}: use one of cv.MORPH_...")
