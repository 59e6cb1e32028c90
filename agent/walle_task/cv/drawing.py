"""Drawing into an image. Positions are whole pixels; all of these change ``img`` and return it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from walle_shared.errors import TaskError
from walle_task.cv import constants as k
from walle_task.cv._image import Scalar, array_of, new, pair, require, run, scalar
from walle_task.cv.contours import points_of


def _points(points: Sequence[tuple[int, int]]) -> Any:
    return array_of((len(points), 1, 2), "I32", [[list(point)] for point in points])


def _check(img: Any, lineType: int) -> None:
    require(img, "drawing")
    if lineType not in (k.LINE_4, k.LINE_8):
        raise TaskError("lines are drawn with lineType LINE_4 or LINE_8")


def _lines(img: Any, points: Any, closed: bool, color: Scalar, thickness: int, lineType: int) -> Any:
    return run("draw_lines", (points,), img, *scalar(color), thickness, lineType, closed)


def line(
    img: Any,
    pt1: Sequence[int],
    pt2: Sequence[int],
    color: Scalar,
    thickness: int = 1,
    lineType: int = k.LINE_8,
) -> Any:
    """A line between two points, both drawn."""
    _check(img, lineType)
    ends = _points([pair(pt1, "pt1"), pair(pt2, "pt2")])
    return _lines(img, ends, False, color, thickness, lineType)


def rectangle(
    img: Any,
    pt1: Sequence[int],
    pt2: Sequence[int],
    color: Scalar,
    thickness: int = 1,
    lineType: int = k.LINE_8,
) -> Any:
    """A rectangle with these corners; filled where ``thickness`` is below 0."""
    _check(img, lineType)
    (x1, y1), (x2, y2) = pair(pt1, "pt1"), pair(pt2, "pt2")
    corners = _points([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])
    if thickness < 0:
        return run("draw_convex", (corners,), img, *scalar(color))
    return _lines(img, corners, True, color, max(thickness, 1), lineType)


def circle(
    img: Any, center: Sequence[int], radius: int, color: Scalar, thickness: int = 1, lineType: int = k.LINE_8
) -> Any:
    """A circle; filled where ``thickness`` is below 0."""
    _check(img, lineType)
    if lineType != k.LINE_8:
        raise TaskError("circles are drawn with lineType LINE_8")
    return run("draw_circle", (), img, *scalar(color), *pair(center, "center"), radius, max(thickness, -1))


def polylines(
    img: Any,
    pts: Sequence[Any],
    isClosed: bool,
    color: Scalar,
    thickness: int = 1,
    lineType: int = k.LINE_8,
) -> Any:
    """Lines through each list of points."""
    _check(img, lineType)
    for points in pts:
        _lines(img, _whole(points), isClosed, color, max(thickness, 1), lineType)
    return img


def _whole(points: Any) -> Any:
    made = points_of(points, "drawing")
    if memoryview(made).format != "i":
        raise TaskError("points to draw are whole numbers: round them first")
    return made


def fillPoly(img: Any, pts: Sequence[Any], color: Scalar, lineType: int = k.LINE_8) -> Any:
    """Fill what lies within the polygons; where they overlap, every second time not."""
    _check(img, lineType)
    parts = [memoryview(_whole(points)) for points in pts]
    lengths = [part.nbytes // 8 for part in parts]
    joined = new((sum(lengths), 1, 2), "I32")
    at, to = 0, memoryview(joined).cast("B") if sum(lengths) else memoryview(b"")
    for part in parts:
        if part.nbytes:
            to[at : at + part.nbytes] = part.cast("B")
        at += part.nbytes
    counts = array_of((1, len(lengths)), "I32", [lengths])
    return run("draw_polygons", (joined, counts), img, *scalar(color), lineType)


def drawContours(
    image: Any,
    contours: Sequence[Any],
    contourIdx: int,
    color: Scalar,
    thickness: int = 1,
    lineType: int = k.LINE_8,
) -> Any:
    """Draw one contour, or with ``contourIdx`` -1 all; filled, less their holes, with ``thickness`` below 0.

    Raises:
        TaskError: there is no such contour.
    """
    if not -1 <= contourIdx < len(contours):
        raise TaskError(f"there is no contour {contourIdx} among {len(contours)}")
    chosen = contours if contourIdx == -1 else [contours[contourIdx]]
    if thickness < 0:
        return fillPoly(image, chosen, color, lineType)
    return polylines(image, chosen, True, color, thickness, lineType)
