"""Images resized, turned and bent, and the matrices for it."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

from walle_shared.errors import TaskError
from walle_task.cv import constants as k
from walle_task.cv._image import Image, Scalar, flat, info, new, pair, require, result, run, scalar, weights


def resize(
    src: Image,
    dsize: Sequence[int] | None,
    dst: Any = None,
    fx: float = 0,
    fy: float = 0,
    interpolation: int = k.INTER_LINEAR,
) -> Any:
    """Resize to ``dsize`` (width, height), or by the factors ``fx`` and ``fy`` where that is None.

    Raises:
        TaskError: neither gives a size.
    """
    found = require(src, "resize")
    if dsize is not None and tuple(dsize) != (0, 0):
        width, height = pair(dsize, "dsize")
        fx, fy = width / found.width, height / found.height
    else:
        if not (0 < fx < math.inf and 0 < fy < math.inf):
            raise TaskError("resize needs a dsize, or factors fx and fy above 0")
        width, height = round(found.width * fx), round(found.height * fy)
    if width <= 0 or height <= 0:
        raise TaskError(f"resize cannot make an image of {width} x {height} pixels")
    shape = (height, width, *found.shape[2:])
    return run("resize", (src,), result(dst, shape, found.dtype), interpolation, 1 / fx, 1 / fy)


def _warp(
    src: Image,
    matrix: list[float],
    dsize: Sequence[int],
    dst: Any,
    flags: int,
    border: int,
    value: Scalar | None,
) -> Any:
    found = require(src, "a warp")
    width, height = pair(dsize, "dsize")
    if (width, height) == (0, 0):
        width, height = found.width, found.height
    if width <= 0 or height <= 0:
        raise TaskError(f"a warp cannot make an image of {width} x {height} pixels")
    output = result(dst, (height, width, *found.shape[2:]), found.dtype)
    return run("warp_matrix", (src,), output, _interpolation(flags), border, *scalar(value), *matrix)


def _interpolation(flags: int) -> int:
    how = flags & 7
    return k.INTER_LINEAR if how == k.INTER_AREA else how


def warpAffine(
    src: Image,
    M: Any,
    dsize: Sequence[int],
    dst: Any = None,
    flags: int = k.INTER_LINEAR,
    borderMode: int = k.BORDER_CONSTANT,
    borderValue: Scalar | None = None,
) -> Any:
    """Bend by the 2 x 3 matrix ``M`` from source to result; ``WARP_INVERSE_MAP`` in the flags: back."""
    matrix = flat(M, 6, "the matrix of warpAffine")
    if not flags & k.WARP_INVERSE_MAP:
        matrix = _affine_inverse(matrix)
    return _warp(src, matrix, dsize, dst, flags, borderMode, borderValue)


def warpPerspective(
    src: Image,
    M: Any,
    dsize: Sequence[int],
    dst: Any = None,
    flags: int = k.INTER_LINEAR,
    borderMode: int = k.BORDER_CONSTANT,
    borderValue: Scalar | None = None,
) -> Any:
    """Bend by the 3 x 3 matrix ``M`` from source to result; ``WARP_INVERSE_MAP`` in the flags: back."""
    matrix = flat(M, 9, "the matrix of warpPerspective")
    if not flags & k.WARP_INVERSE_MAP:
        matrix = _inverse3(matrix)
    return _warp(src, matrix, dsize, dst, flags, borderMode, borderValue)


def remap(
    src: Image,
    map1: Image,
    map2: Image | None,
    interpolation: int,
    dst: Any = None,
    borderMode: int = k.BORDER_CONSTANT,
    borderValue: Scalar | None = None,
) -> Any:
    """Read each pixel where the maps say: one of pairs, or one of x and one of y, of float32."""
    found = require(src, "remap")
    size = require(map1, "remap")
    maps = (map1,) if map2 is None else (map1, map2)
    output = result(dst, (size.height, size.width, *found.shape[2:]), found.dtype)
    return run("remap", (src, *maps), output, _interpolation(interpolation), borderMode, *scalar(borderValue))


def _affine_inverse(m: list[float]) -> list[float]:
    det = m[0] * m[4] - m[1] * m[3]
    det = 1 / det if det != 0 else 0.0
    a, b, c, d = m[4] * det, m[0] * det, -m[1] * det, -m[3] * det
    return [a, c, -a * m[2] - c * m[5], d, b, -d * m[2] - b * m[5]]


def _inverse3(m: list[float]) -> list[float]:
    c0, c1, c2 = m[4] * m[8] - m[5] * m[7], m[5] * m[6] - m[3] * m[8], m[3] * m[7] - m[4] * m[6]
    det = m[0] * c0 + m[1] * c1 + m[2] * c2
    if det == 0 or not math.isfinite(det):
        return [0.0] * 9
    adjugate = [
        c0,
        m[2] * m[7] - m[1] * m[8],
        m[1] * m[5] - m[2] * m[4],
        c1,
        m[0] * m[8] - m[2] * m[6],
        m[2] * m[3] - m[0] * m[5],
        c2,
        m[1] * m[6] - m[0] * m[7],
        m[0] * m[4] - m[1] * m[3],
    ]
    return [value / det for value in adjugate]


def invertAffineTransform(M: Any, iM: Any = None) -> Any:
    """The 2 x 3 matrix of the way back."""
    return _matrix(_affine_inverse(flat(M, 6, "M")), 2, iM)


def getRotationMatrix2D(center: Sequence[float], angle: float, scale: float) -> Any:
    """The 2 x 3 matrix that turns by ``angle`` degrees (against the clock) about ``center`` and scales."""
    x, y = struct.unpack("2f", struct.pack("2f", *center))  # OpenCV keeps points as float32
    radians = math.radians(angle)
    a, b = math.cos(radians) * scale, math.sin(radians) * scale
    return _matrix([a, b, (1 - a) * x - b * y, -b, a, b * x + (1 - a) * y], 2, None)


def getAffineTransform(src: Any, dst: Any) -> Any:
    """The 2 x 3 matrix that takes the three points ``src`` to ``dst``.

    Raises:
        TaskError: the points lie on one line.
    """
    a, b = flat(src, 6, "src"), flat(dst, 6, "dst")
    rows = [[a[2 * i], a[2 * i + 1], 1.0] for i in range(3)]
    found = [_solve(rows, [b[2 * i + axis] for i in range(3)]) for axis in (0, 1)]
    return _matrix([*found[0], *found[1]], 2, None)


def getPerspectiveTransform(src: Any, dst: Any) -> Any:
    """The 3 x 3 matrix that takes the four points ``src`` to ``dst``.

    Raises:
        TaskError: three of them lie on one line.
    """
    a, b = flat(src, 8, "src"), flat(dst, 8, "dst")
    rows, right = [], []
    for axis in (0, 1):
        for i in range(4):
            x, y, to = a[2 * i], a[2 * i + 1], b[2 * i + axis]
            line = [x, y, 1.0, 0.0, 0.0, 0.0] if axis == 0 else [0.0, 0.0, 0.0, x, y, 1.0]
            rows.append([*line, -x * to, -y * to])
            right.append(to)
    return _matrix([*_solve(rows, right), 1.0], 3, None)


def _solve(rows: list[list[float]], right: list[float]) -> list[float]:
    """Gauss with row pivots."""
    n = len(rows)
    a = [[*row, value] for row, value in zip(rows, right, strict=True)]
    for i in range(n):
        pivot = max(range(i, n), key=lambda r: abs(a[r][i]))
        a[i], a[pivot] = a[pivot], a[i]
        if not abs(a[i][i]) > 1e-300:
            raise TaskError(
                "no single matrix takes these points to those: some lie on one line or are no numbers"
            )
        for r in range(i + 1, n):
            factor = a[r][i] / a[i][i]
            a[r] = [value - factor * above for value, above in zip(a[r], a[i], strict=True)]
    found = [0.0] * n
    for i in reversed(range(n)):
        found[i] = (a[i][n] - math.sumprod(a[i][i + 1 : n], found[i + 1 :])) / a[i][i]
    return found


def _matrix(values: list[float], rows: int, dst: Any) -> Any:
    made = weights([values[3 * i : 3 * i + 3] for i in range(rows)], "a matrix")
    return made if dst is None else run("border", (made,), result(dst, (rows, 3), "F64"), 0, 0, 0, 0, 0, 0, 0)


def transform(src: Image, m: Any, dst: Any = None) -> Any:
    """Multiply the channels of each pixel or point by ``m``, plus its last column where it has one more.

    Raises:
        TaskError: the matrix does not fit the channels.
    """
    found = require(src, "transform")
    matrix = info(weights(m, "m"))
    channels = found.channels or 1
    if matrix.channels or matrix.width not in (channels, channels + 1):
        raise TaskError(
            f"transform of {channels} channels takes a matrix of {channels} or {channels + 1} columns"
        )
    output = result(dst, (found.height, found.width, matrix.height), found.dtype)
    return run("transform", (src, weights(m, "m")), output, 0)


def perspectiveTransform(src: Image, m: Any, dst: Any = None) -> Any:
    """Move points by a perspective matrix: 3 x 3 for two channels, 4 x 4 for three.

    Raises:
        TaskError: the matrix does not fit the channels.
    """
    found = require(src, "perspectiveTransform")
    matrix = info(weights(m, "m"))
    if found.channels not in (2, 3) or matrix.shape != (found.channels + 1, found.channels + 1):
        raise TaskError(
            "perspectiveTransform takes points of 2 or 3 channels and a square matrix of one more"
        )
    return run("transform", (src, weights(m, "m")), result(dst, found.shape, found.dtype), 1)


def flip(src: Image, flipCode: int, dst: Any = None) -> Any:
    """Flip upside down (0), left to right (above 0), or both (below 0)."""
    found = info(src)
    return run("flip", (src,), result(dst, found.shape, found.dtype), 0, flipCode != 0, flipCode <= 0)


def transpose(src: Image, dst: Any = None) -> Any:
    """Let rows and columns change places."""
    return _turn(src, dst, 0, 0)


def rotate(src: Image, rotateCode: int, dst: Any = None) -> Any:
    """Turn by 90 or 180 degrees.

    Raises:
        TaskError: the code is none of ``ROTATE_90_CLOCKWISE, ROTATE_180, ROTATE_90_COUNTERCLOCKWISE``.
    """
    if rotateCode == k.ROTATE_180:
        return flip(src, -1, dst)
    if rotateCode not in (k.ROTATE_90_CLOCKWISE, k.ROTATE_90_COUNTERCLOCKWISE):
        raise TaskError(f"there is no rotation {rotateCode}: use one of cv.ROTATE_...")
    clockwise = rotateCode == k.ROTATE_90_CLOCKWISE
    return _turn(src, dst, clockwise, not clockwise)


def _turn(src: Image, dst: Any, flip_x: float, flip_y: float) -> Any:
    found = info(src)
    shape = (found.width, found.height, *found.shape[2:])
    return run("flip", (src,), result(dst, shape, found.dtype), 1, flip_x, flip_y)


def copyMakeBorder(
    src: Image,
    top: int,
    bottom: int,
    left: int,
    right: int,
    borderType: int,
    dst: Any = None,
    value: Scalar | None = None,
) -> Any:
    """Add a border.

    Raises:
        TaskError: a side of it is negative.
    """
    found = info(src)
    if min(top, bottom, left, right) < 0:
        raise TaskError("a border cannot be negative: slice the image to crop it")
    shape = (found.height + top + bottom, found.width + left + right, *found.shape[2:])
    return run("border", (src,), result(dst, shape, found.dtype), top, left, borderType, *scalar(value))


def getRectSubPix(image: Image, patchSize: Sequence[int], center: Sequence[float]) -> Any:
    """A patch of (width, height) pixels round a point between pixels, edges repeated."""
    width, height = pair(patchSize, "patchSize")
    x, y = float(center[0]) - (width - 1) / 2, float(center[1]) - (height - 1) / 2
    found = require(image, "getRectSubPix")
    output = new((height, width, *found.shape[2:]), found.dtype)
    matrix = (1, 0, x, 0, 1, y)
    return run("warp_matrix", (image,), output, k.INTER_LINEAR, k.BORDER_REPLICATE, *scalar(None), *matrix)
