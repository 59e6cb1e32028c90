"""Image files through Pillow. Runs where it can be imported: a worker's main interpreter, or plain Python.

Only formats that are common and whose decoders are well kept are tried, and nothing is decoded before its
size is known.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from walle_engine import _native
from walle_shared.errors import LimitExceeded, TaskError
from walle_shared.limits import IMAGE_FILE_MAX_BYTES, IMAGE_MAX_PIXELS
from walle_task.cv import constants as k

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
_SUFFIXES = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".bmp": "BMP"}
_loading = threading.Lock()


def load() -> Any:
    """Import Pillow and the plugins of :data:`FORMATS`; cheap from the second time on.

    Raises:
        TaskError: it is not installed.
    """
    try:
        with _loading:  # Pillow registers its formats as it is imported
            from PIL import BmpImagePlugin, Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

            del BmpImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin
    except ImportError as error:
        raise TaskError(f"image files need Pillow, which is in the extra walle[agent]: {error}") from None
    return Image


def decode(data: Any, flags: int) -> _native.Tensor:
    """The pixels of an image file, channels in OpenCV's order.

    Raises:
        LimitExceeded: the file or the image is too large.
        TaskError: it is no image of a known format, or broken.
    """
    view = memoryview(data).cast("B")
    if len(view) > IMAGE_FILE_MAX_BYTES:
        raise LimitExceeded(f"an image file has at most {IMAGE_FILE_MAX_BYTES} bytes, not {len(view)}")
    library = load()
    try:
        with library.open(io.BytesIO(view), formats=FORMATS) as image:
            if image.width * image.height > IMAGE_MAX_PIXELS:
                raise LimitExceeded(
                    f"an image has at most {IMAGE_MAX_PIXELS} pixels, not {image.width} x {image.height}"
                )
            return _pixels(image, flags)
    except (library.DecompressionBombError, library.DecompressionBombWarning) as error:
        raise LimitExceeded(f"the image is too large: {error}") from None
    except (
        OSError,
        SyntaxError,
        ValueError,
        IndexError,
        TypeError,
        KeyError,
        EOFError,
        OverflowError,
    ) as error:
        # What the many decoders raise for a broken file.
        raise TaskError(f"this is no whole {', '.join(FORMATS)} image: {error}") from None


def _pixels(image: PillowImage, flags: int) -> _native.Tensor:
    if flags == k.IMREAD_UNCHANGED:
        return _unchanged(image)
    if not flags & k.IMREAD_IGNORE_ORIENTATION:
        from PIL import ImageOps

        ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I;16"):
        image = image.point(lambda value: value / 256).convert("L")
    if not flags & (k.IMREAD_COLOR | k.IMREAD_COLOR_RGB):
        return _tensor(image if image.mode == "L" else image.convert("L"), "L", "U8", 0)
    order = "RGB" if flags & k.IMREAD_COLOR_RGB else "BGR"
    return _tensor(image if image.mode == "RGB" else image.convert("RGB"), order, "U8", 3)


def _unchanged(image: PillowImage) -> _native.Tensor:
    if image.mode.startswith("I;16"):
        return _tensor(image, "I;16", "U16", 0)
    if image.mode in ("L", "1"):
        return _tensor(image.convert("L"), "L", "U8", 0)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        return _tensor(image.convert("RGBA"), "BGRA", "U8", 4)
    return _tensor(image.convert("RGB"), "BGR", "U8", 3)


def _tensor(image: PillowImage, raw: str, dtype: str, channels: int) -> _native.Tensor:
    shape = (image.height, image.width, channels) if channels else (image.height, image.width)
    return _native.Tensor(shape, dtype, image.tobytes("raw", raw))


def encode(suffix: str, pixels: Any, params: Mapping[int, int]) -> _native.Tensor:
    """An image file of pixels in OpenCV's order, as a tensor of bytes.

    Raises:
        TaskError: the format or the pixels are not supported.
    """
    form = _SUFFIXES.get(suffix.lower())
    if form is None:
        raise TaskError(f"image files are written as {', '.join(_SUFFIXES)}, not {suffix!r}")
    view = memoryview(pixels)
    shape = list(view.shape or ())
    channels = shape[2] if len(shape) == 3 else 1
    modes = {
        ("B", 1): ("L", "L"),
        ("B", 3): ("RGB", "BGR"),
        ("B", 4): ("RGBA", "BGRA"),
        ("H", 1): ("I;16", "I;16"),
    }
    mode, raw = modes.get((view.format, channels), ("", ""))
    if not mode or (mode == "I;16" and form != "PNG") or not all(shape):
        raise TaskError(f"{form} takes bytes of 1, 3 or 4 channels (PNG also uint16 of one), not {shape}")
    options: dict[str, Any] = {}
    if form == "JPEG":
        options["quality"] = min(100, max(0, params.get(k.IMWRITE_JPEG_QUALITY, 95)))
    elif form == "WEBP":
        quality = params.get(k.IMWRITE_WEBP_QUALITY, 101)
        options |= {"lossless": True} if quality > 100 else {"quality": max(1, quality)}
    elif form == "PNG":
        options["compress_level"] = min(9, max(0, params.get(k.IMWRITE_PNG_COMPRESSION, 1)))
    image = load().frombytes(mode, (shape[1], shape[0]), view.tobytes(), "raw", raw)
    if form in ("JPEG", "BMP") and mode == "RGBA":
        image = image.convert("RGB")
    written = io.BytesIO()
    try:
        image.save(written, form, **options)
    except (OSError, ValueError, OverflowError) as error:
        raise TaskError(f"the image cannot be written as {form}: {error}") from None
    made = written.getbuffer()
    return _native.Tensor((len(made),), "U8", made)


def answer(question: Mapping[str, Any]) -> dict[str, Any]:
    """Do what a slot asks of its worker: tensors come and go as handles.

    Args:
        question: ``{"op": "decode", "data": handle, "flags": n}`` or ``{"op": "encode", "data": handle,
            "suffix": ".png", "params": [[id, value], ...]}``.
    """
    data = _native.Tensor.from_handle(question["data"])
    if question["op"] == "decode":
        return {"tensor": decode(data, question["flags"]).handle()}
    return {"tensor": encode(question["suffix"], data, dict(question["params"])).handle()}
