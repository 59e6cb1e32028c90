"""Between colour spaces."""

from __future__ import annotations

import functools
from typing import Any

from walle_shared.errors import TaskError
from walle_task.cv import constants as k
from walle_task.cv._image import Image, Info, require, result, run

_FORMATS = {"BGR": "bgr", "RGB": "rgb", "BGRA": "bgra", "RGBA": "rgba", "GRAY": "y"}
_BLUE = {"BGR": 0, "BGRA": 0, "RGB": 2, "RGBA": 2}
_SPACES = {"XYZ": 0, "Lab": 1, "Luv": 2}
_VIDEO = {"NV12": (1, 0), "NV21": (1, 1), "I420": (0, 0), "YV12": (0, 1)}


def _parse(name: str) -> tuple[str, str, str]:
    """``COLOR_YUV2BGR_NV21`` to ("YUV", "BGR", "NV21")."""
    source, _, rest = name.removeprefix("COLOR_").partition("2")
    target, _, suffix = rest.partition("_")
    return source, target, suffix


_CODES: dict[int, tuple[str, str, str]] = {}
for _name, _code in vars(k).items():
    if _name.startswith("COLOR_"):
        _CODES.setdefault(_code, _parse(_name))


def cvtColor(src: Image, code: int, dst: Any = None, dstCn: int = 0) -> Any:
    """Convert to another colour space.

    Raises:
        TaskError: there is no such conversion, or not for this image.
    """
    try:
        source, target, suffix = _CODES[code]
    except (KeyError, TypeError):
        raise TaskError(f"there is no conversion {code!r}: use one of cv.COLOR_...") from None
    found = require(src, "cvtColor")
    if suffix in _VIDEO:
        return _video(src, found, source, target, suffix, dst)
    channels, to, name, numbers = _plan(code, dstCn if dstCn in (3, 4) else 0)
    if (found.channels or 1) != channels:
        raise TaskError(f"this conversion takes images of {channels} channels, not {found.channels or 1}")
    shape = (found.height, found.width, to) if to > 1 else (found.height, found.width)
    return run(name, (src,), result(dst, shape, found.dtype), *numbers)


@functools.cache
def _plan(code: int, dstCn: int) -> tuple[int, int, str, tuple[float, ...]]:
    """Channels from and to, and the operation with its numbers."""
    source, target, suffix = _CODES[code]
    to = len(_FORMATS.get(target, "xyz"))
    if dstCn and target in _BLUE and to == 3:
        to = dstCn
    return len(_FORMATS.get(source, "xyz")), to, *_operation(source, target, suffix, to)


def _operation(source: str, target: str, suffix: str, channels: int) -> tuple[str, tuple[float, ...]]:
    if source in _FORMATS and target in _FORMATS:
        if target == "GRAY":
            return "color_gray", (_BLUE[source],)
        have, want = _FORMATS[source], _FORMATS[target]
        order = (0, 0, 0, -1) if have == "y" else tuple(have.find(channel) for channel in want)
        return "color_order", order[:channels]
    hues = 256 if suffix == "FULL" else 180
    if target == "HSV":
        return "color_to_hsv", (_BLUE[source], hues)
    if source == "HSV":
        return "color_from_hsv", (_BLUE[target], hues)
    if target in _SPACES:
        return "color_to_space", (_BLUE[source], _SPACES[target])
    if source in _SPACES:
        return "color_from_space", (_BLUE[target], _SPACES[source])
    if target in ("YCrCb", "YUV"):
        return "color_to_chroma", (_BLUE[source], target == "YUV")
    return "color_from_chroma", (_BLUE[target], source == "YUV")


def _video(src: Image, found: Info, source: str, target: str, suffix: str, dst: Any) -> Any:
    interleaved, v_first = _VIDEO[suffix]
    if found.dtype != "U8":
        raise TaskError("frames of video are bytes")
    if source != "YUV":
        if found.height % 2 or found.width % 2:
            raise TaskError(f"a frame of video has even sizes, not {found.width} x {found.height}")
        shape: tuple[int, ...] = (found.height // 2 * 3, found.width)
        return run("color_to_video", (src,), result(dst, shape, "U8"), _BLUE[source], interleaved, v_first)
    if found.channels > 1 or found.height % 3 or found.width % 2:
        raise TaskError(
            "a frame of video has one channel, an even width, and rows of luma and half as many of chroma"
        )
    height = found.height // 3 * 2
    if target == "GRAY":
        luma = memoryview(src)[:height]
        return run("border", (luma,), result(dst, (height, found.width), "U8"), 0, 0, 0, 0, 0, 0, 0)
    shape = (height, found.width, len(_FORMATS[target]))
    return run("color_from_video", (src,), result(dst, shape, "U8"), _BLUE[target], interleaved, v_first)
