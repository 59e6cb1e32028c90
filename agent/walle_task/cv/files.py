"""Image files: JPEG, PNG, WebP and BMP, in memory.

Decoders never run inside a task's interpreter. In a container the worker's main interpreter decodes and
hands the pixels over by reference; in plain Python, as in a test, Pillow is called directly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from walle_engine import _native
from walle_shared.errors import LimitExceeded, TaskError
from walle_shared.limits import IMAGE_FILE_MAX_BYTES
from walle_task import matrix
from walle_task.context import image_service
from walle_task.cv import constants as k
from walle_task.cv._image import Image, info, new, run


def _ask(question: dict[str, Any], data: Any) -> Any:
    service = image_service()
    if service is None:
        from walle_task.cv import _pillow

        service = _pillow.answer
    answered = service(question | {"data": data.handle()})
    return matrix.asarray(_native.Tensor.from_handle(answered["tensor"]))


def imdecode(buf: Any, flags: int = k.IMREAD_COLOR) -> Any:
    """The pixels of an image file that is in memory, turned as its EXIF orientation says.

    Args:
        buf: its bytes.
        flags: ``IMREAD_COLOR`` (blue, green, red), ``IMREAD_COLOR_RGB``, ``IMREAD_GRAYSCALE`` or
            ``IMREAD_UNCHANGED``, which keeps alpha and 16 bits; ``IMREAD_IGNORE_ORIENTATION`` may be added.

    Raises:
        TaskError: it is no image, or broken. (OpenCV returns None.)
        LimitExceeded: it is too large.
    """
    try:
        view = memoryview(buf).cast("B")
    except (TypeError, ValueError):
        raise TaskError(f"imdecode takes the bytes of a file, not {type(buf).__name__}") from None
    if view.nbytes == 0 or not isinstance(flags, int):
        raise TaskError("imdecode takes the bytes of a file, and flags such as cv.IMREAD_COLOR")
    if view.nbytes > IMAGE_FILE_MAX_BYTES:
        raise LimitExceeded(f"an image file has at most {IMAGE_FILE_MAX_BYTES} bytes, not {view.nbytes}")
    return _ask({"op": "decode", "flags": flags}, _native.Tensor((view.nbytes,), "U8", view))


def imencode(ext: str, img: Image, params: Sequence[int] = ()) -> tuple[bool, Any]:
    """An image as the bytes of a file: True and a uint8 array.

    Args:
        ext: ``".jpg"``, ``".png"``, ``".webp"`` or ``".bmp"``.
        img: bytes in OpenCV's order; for PNG also uint16 of one channel.
        params: pairs such as ``[cv.IMWRITE_JPEG_QUALITY, 90]``.

    Raises:
        TaskError: the format or the pixels are not supported.
    """
    found = info(img)
    if len(params) % 2 or found.dtype not in ("U8", "U16"):
        raise TaskError("imencode takes an image of bytes, and parameters in pairs")
    packed = run("border", (img,), new(found.shape, found.dtype), 0, 0, 0, 0, 0, 0, 0)
    tensor = _native.Tensor(found.shape, found.dtype, packed)
    pairs = [[int(params[i]), int(params[i + 1])] for i in range(0, len(params), 2)]
    return True, _ask({"op": "encode", "suffix": str(ext), "params": pairs}, tensor)
