"""From an image to what a model takes, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from walle_shared.errors import TaskError
from walle_task.cv._image import Image, crop_of, new, pair, recast, require, run

#: Grey, what networks that take letterboxed images are trained with.
PADDING = 114

_DTYPES = {"float32": "F32", "uint8": "U8"}


def to_tensor(
    image: Image,
    size: Sequence[int] | None = None,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    scale: float = 1 / 255,
    letterbox: bool = False,
    padding: int = PADDING,
    swap_rb: bool = False,
    crop: Sequence[int] | None = None,
    layout: str = "nchw",
    dtype: str = "float32",
) -> Any:
    """Crop, resize, pad, order and normalise ``image`` for a model: ``(pixel * scale - mean) / std``.

    Args:
        image: bytes, of 1, 3 or 4 channels.
        size: (width, height) of the tensor; None keeps the image's.
        mean: what is taken off each channel of the tensor (or of all), after scaling.
        std: what each channel is then divided by.
        scale: what each byte is first multiplied by.
        letterbox: keep the proportions and put ``padding`` round what is missing, in equal parts.
        padding: a byte.
        swap_rb: let blue and red change places, as from OpenCV's order to that of most models.
        crop: (x, y, width, height) of what is used of the image.
        layout: ``"nchw"``, ``"nhwc"``, ``"chw"`` or ``"hwc"``.
        dtype: ``"float32"``, or ``"uint8"`` for bytes as they are, where scale, mean and std do not count.

    Raises:
        TaskError: an argument is wrong.
    """
    found = require(image, "to_tensor")
    if found.dtype != "U8":
        raise TaskError("to_tensor takes an image of bytes")
    if layout not in ("nchw", "nhwc", "chw", "hwc") or dtype not in _DTYPES:
        raise TaskError(
            f"to_tensor makes nchw, nhwc, chw or hwc of float32 or uint8, not {layout!r} of {dtype!r}"
        )
    channels = found.channels or 1
    if crop is not None:
        image, found = crop_of(image, found, crop)
    width, height = (found.width, found.height) if size is None else pair(size, "size")
    if not (0 < width <= 1 << 20 and 0 < height <= 1 << 20):
        raise TaskError(f"a tensor of {width} x {height} pixels is not possible")
    made_width, made_height = width, height
    if letterbox:
        ratio = min(width / found.width, height / found.height)
        made_width = max(1, min(width, round(found.width * ratio)))
        made_height = max(1, min(height, round(found.height * ratio)))
    top, left = (height - made_height) // 2, (width - made_width) // 2
    means, stds = _per_channel(mean, channels, "mean"), _per_channel(std, channels, "std")
    if 0 in stds:
        raise TaskError("std must not be 0")
    if swap_rb:
        means[:3], stds[:3] = means[2::-1], stds[2::-1]
    factors = [scale / value if dtype == "float32" else 1.0 for value in stds] + [1.0] * (4 - channels)
    shifts = [-m / s if dtype == "float32" else 0.0 for m, s in zip(means, stds, strict=True)] + [0.0] * (
        4 - channels
    )
    planes = layout.endswith("chw")
    shape = (channels, height, width) if planes else (height, width, channels)
    tensor = new((1, *shape) if layout.startswith("n") else shape, _DTYPES[dtype])
    flat = recast(memoryview(tensor), "f" if dtype == "float32" else "B")
    placed = (height, width, made_height, made_width, top, left)
    run("to_tensor", (image,), flat, *placed, padding, swap_rb, planes, *factors, *shifts)
    return tensor


def _per_channel(value: float | Sequence[float], channels: int, what: str) -> list[float]:
    try:
        values = [float(value)] * channels if isinstance(value, (int, float)) else [float(v) for v in value]
    except (TypeError, ValueError):
        raise TaskError(f"{what} is a number, or one for each channel") from None
    if len(values) != channels:
        raise TaskError(f"{what} has {len(values)} numbers for {channels} channels")
    return values
