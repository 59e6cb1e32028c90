"""Borders of regions, and what is measured and simplified of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from walle_engine import _native
from walle_shared.errors import TaskError
from walle_task import matrix
from walle_task.cv._image import Image, array_of, new, pair, recast, require, run

_INT32 = 2**31


def findContours(
    image: Image,
    mode: int,
    method: int,
    contours: Any = None,  # noqa: ARG001  # OpenCV's order of arguments
    hierarchy: Any = None,  # noqa: ARG001  # likewise
    offset: Sequence[int] = (0, 0),
) -> tuple[tuple[Any, ...], Any]:
    """The borders of regions that are not 0: a tuple of int32 points [n, 1, 2], and how they lie in each
    other, int32 [1, contours, 4]: next, previous, first child, parent; None where there are no contours.

    ``contours`` and ``hierarchy`` are there for OpenCV's order of arguments and are not written to.
    """
    require(image, "findContours")
    x, y = pair(offset, "offset")
    if max(abs(x), abs(y)) >= _INT32 // 2:
        raise TaskError("the offset of findContours is too large")
    found, nesting = _native.contours(image, mode, method, x, y)
    return tuple(matrix.asarray(points) for points in found), None if nesting is None else matrix.asarray(
        nesting
    )


def points_of(curve: Any, what: str) -> Any:
    """Points as a buffer of pairs of int32 or float32, whatever form they came in.

    Raises:
        TaskError: they are no points.
    """
    try:
        view = memoryview(curve)
        shape = view.shape or ()
        if view.format in ("i", "f") and view.c_contiguous and len(shape) >= 2 and shape[-1] == 2:
            if len(shape) == 2 and view.nbytes:
                return recast(view, view.format, (shape[0], 1, 2))
            return view
        curve = view.tolist()
    except TypeError:
        pass
    pairs = [_pair_in(item, what) for item in curve]
    whole = all(isinstance(value, int) for item in pairs for value in item)
    return array_of((len(pairs), 1, 2), "I32" if whole else "F32", pairs)


def _pair_in(item: Any, what: str) -> list[float]:
    item = item.tolist() if hasattr(item, "tolist") else item
    while isinstance(item, (list, tuple)) and len(item) == 1:
        item = item[0]
    if not isinstance(item, (list, tuple)) or len(item) != 2:
        raise TaskError(f"{what} takes points that are pairs of numbers, not {item!r:.60}")
    return list(item)


def _measure(curve: Any, closed: bool, what: str) -> list[float]:
    measured: list[float] = run("polygon", (points_of(curve, what),), new((6,), "F64"), closed).tolist()
    return measured


def contourArea(contour: Any, oriented: bool = False) -> float:
    """The area within; with its sign, which tells the sense of going round, if ``oriented``."""
    area = _measure(contour, True, "contourArea")[0]
    return area if oriented else abs(area)


def arcLength(curve: Any, closed: bool) -> float:
    """The length of a curve."""
    return _measure(curve, closed, "arcLength")[1]


def boundingRect(array: Any) -> tuple[int, int, int, int]:
    """The upright rectangle round points: x, y, width, height."""
    points = points_of(array, "boundingRect")
    if memoryview(points).nbytes == 0:
        return (0, 0, 0, 0)
    _, _, low_x, low_y, high_x, high_y = _measure(points, False, "boundingRect")
    if not all(math.isfinite(value) for value in (low_x, low_y, high_x, high_y)):
        raise TaskError("boundingRect takes finite points")
    x, y = math.floor(low_x), math.floor(low_y)
    return (x, y, math.floor(high_x) - x + 1, math.floor(high_y) - y + 1)


def approxPolyDP(curve: Any, epsilon: float, closed: bool) -> Any:
    """The polygon with fewer points that keeps within ``epsilon`` of the curve (Douglas and Peucker)."""
    points = points_of(curve, "approxPolyDP")
    view = memoryview(points)
    count = view.nbytes // 8
    kept: list[int] = run("simplify", (points,), new((count + 1,), "I32"), epsilon, closed).tolist()
    numbers = recast(view, view.format).tolist() if count else []
    pairs = [[numbers[2 * i : 2 * i + 2]] for i in kept[1 : 1 + kept[0]]]
    return array_of((len(pairs), 1, 2), "I32" if view.format == "i" else "F32", pairs)
