"""What all of ``walle_task.cv`` stands on: buffers in, new images out, one native function between them."""

from __future__ import annotations

from collections.abc import Buffer, Sequence
from typing import Any, NamedTuple

from walle_engine import _native
from walle_shared.errors import TaskError
from walle_task import matrix
from walle_task.cv import constants as k

type Image = Buffer
"""Any buffer of rows of pixels: ``[height, width]`` or ``[height, width, channels]``, of bytes, 16-bit
integers or floats. Rows need not lie one behind the other."""

type Scalar = float | Sequence[float]

_OPERATIONS = {name: number for number, name in enumerate(_native.imaging_names())}
_DEPTHS = {
    k.CV_8U: "U8",
    k.CV_8S: "I8",
    k.CV_16U: "U16",
    k.CV_16S: "I16",
    k.CV_32S: "I32",
    k.CV_32F: "F32",
    k.CV_64F: "F64",
}
_ARRAY_DTYPES = {
    "U8": matrix.uint8,
    "I8": matrix.int8,
    "U16": matrix.uint16,
    "I16": matrix.int16,
    "I32": matrix.int32,
    "U32": matrix.uint32,
    "F32": matrix.float32,
    "F64": matrix.float64,
}
_threads = 0


class Info(NamedTuple):
    """What an image is: ``channels`` is 0 where it has no axis for them, ``shape`` as the buffer has it."""

    height: int
    width: int
    channels: int
    dtype: str
    shape: tuple[int, ...]


def setNumThreads(nthreads: int) -> None:
    """Let operations use so many threads: 0 for one per core (the usual), 1 for none but the task's own."""
    global _threads
    _threads = max(0, int(nthreads))


def getNumThreads() -> int:
    """The number that :func:`setNumThreads` set."""
    return _threads


def info(image: Image) -> Info:
    """The sizes and the element type of ``image``.

    Raises:
        TaskError: it is no image.
    """
    try:
        return tuple.__new__(Info, _native.image_info(image))  # as _make does, without its checks
    except (TypeError, BufferError) as error:
        raise TaskError(str(error)) from None


def require(image: Image, what: str) -> Info:
    """:func:`info` of an image that has pixels.

    Raises:
        TaskError: it is no image, or has no pixels.
    """
    found = info(image)
    if 0 in found.shape:
        raise TaskError(f"{what} takes an image with pixels; this one has shape {found.shape}")
    return found


def new(shape: tuple[int, ...], dtype: str) -> Any:
    """A new image, of undefined contents, as an array of :mod:`walle_task.matrix`."""
    try:
        return matrix.empty(shape, dtype=_ARRAY_DTYPES[dtype])
    except (ValueError, OverflowError, MemoryError) as error:
        raise TaskError(f"an image of shape {shape} is not possible: {error}") from None


def array_of(shape: tuple[int, ...], dtype: str, values: object) -> Any:
    """Nested lists as an array.

    Raises:
        TaskError: they are no numbers of this type.
    """
    try:
        return matrix.asarray(_native.Tensor(shape, dtype, values))
    except (TypeError, ValueError, OverflowError) as error:
        raise TaskError(f"these are no numbers of type {dtype}: {error}") from None


def depth_dtype(ddepth: int, like: str) -> str:
    """The element type of a depth such as ``CV_32F``; -1 stands for ``like``.

    Raises:
        TaskError: there is no such depth.
    """
    if ddepth == -1:
        return like
    try:
        return _DEPTHS[ddepth]
    except KeyError:
        raise TaskError(f"there is no depth {ddepth}: use CV_8U, CV_16S, CV_32F ...") from None


def result(dst: Any, shape: tuple[int, ...], dtype: str) -> Any:
    """``dst`` if it has this shape and type, else a new image: as OpenCV does it."""
    if dst is not None:
        found = info(dst)
        if found.shape == shape and found.dtype == dtype:
            return dst
    return new(shape, dtype)


def run(name: str, inputs: tuple[Image, ...], output: Any, *numbers: float) -> Any:
    """Run an operation into ``output`` and return that. One that is an input gets the result at the end.

    Raises:
        EngineError: the engine refuses the images or the numbers.
    """
    for image in inputs:
        if output is image:
            found = info(output)
            made = run(name, inputs, new(found.shape, found.dtype), *numbers)
            return run("border", (made,), output, 0, 0, 0, 0, 0, 0, 0)
    run_many(name, inputs, (output,), *numbers)
    return output


def run_many(
    name: str, inputs: tuple[Image, ...], outputs: tuple[Any, ...], *numbers: float
) -> tuple[Any, ...]:
    """Run an operation with several results.

    Raises:
        TaskError: something given is no image or no number.
        EngineError: the engine refuses the images or the numbers.
    """
    try:
        _native.imaging(_OPERATIONS[name], inputs, outputs, numbers, _threads)
    except (TypeError, ValueError, BufferError, OverflowError) as error:
        raise TaskError(str(error)) from None
    return outputs


def recast(view: memoryview, form: str, shape: tuple[int, ...] | None = None) -> memoryview:
    """A packed buffer seen with elements of another format, in another shape."""
    plain: Any = view.cast("B")
    made: memoryview = plain.cast(form) if shape is None else plain.cast(form, shape)
    return made


def weights(values: Any, what: str) -> Any:
    """A kernel, a matrix or points, from nested sequences or a buffer, as float64.

    Raises:
        TaskError: they are no numbers, or not of equal lengths.
    """
    try:
        if isinstance(values, Buffer):
            view = memoryview(values)
            if view.format == "d" and view.c_contiguous:
                return values
            values = view.tolist()
        shape: list[int] = []
        probe: Any = values
        while isinstance(probe, (list, tuple)) or hasattr(probe, "tolist"):
            if not isinstance(probe, (list, tuple)):
                probe = probe.tolist()
                continue
            shape.append(len(probe))
            if not probe:
                break
            probe = probe[0]
        return matrix.asarray(_native.Tensor(shape, "F64", _plain(values)))
    except (TypeError, ValueError) as error:
        raise TaskError(f"{what} must be numbers in rows of equal lengths: {error}") from None


def _plain(values: Any) -> Any:
    if isinstance(values, (list, tuple)):
        return [_plain(value) for value in values]
    return values.tolist() if hasattr(values, "tolist") else values


def flat(values: Any, count: int | None, what: str) -> list[float]:
    """All numbers of a matrix or of points, row by row.

    Raises:
        TaskError: they are not ``count``.
    """
    made = memoryview(weights(values, what))
    numbers = [float(number) for number in recast(made, "d").tolist()] if made.nbytes else []
    if count is not None and len(numbers) != count:
        raise TaskError(f"{what} has {len(numbers)} numbers; it needs {count}")
    return numbers


def scalar(value: Scalar | None) -> tuple[float, float, float, float]:
    """A colour as four numbers, as OpenCV reads it: what is left out is 0.

    Raises:
        TaskError: it is no colour.
    """
    if value is None:
        return (0.0, 0.0, 0.0, 0.0)
    try:
        given = [value] if isinstance(value, (int, float)) else value
        numbers = [float(part) for part in given]
    except (TypeError, ValueError):
        raise TaskError(f"a colour is a number or up to four of them, not {value!r:.80}") from None
    if len(numbers) > 4:
        raise TaskError(f"a colour has up to four numbers, not {len(numbers)}")
    first, second, third, fourth = [*numbers, 0.0, 0.0, 0.0, 0.0][:4]
    return (first, second, third, fourth)


def pair(value: Sequence[int], what: str) -> tuple[int, int]:
    """Two whole numbers, such as a size (width, height).

    Raises:
        TaskError: they are something else.
    """
    try:
        first, second = value
        return int(first), int(second)
    except (TypeError, ValueError, OverflowError):
        raise TaskError(f"{what} is two whole numbers, not {value!r:.80}") from None


def crop_of(image: Image, found: Info, box: Sequence[int]) -> tuple[Image, Info]:
    """The rectangle (x, y, width, height) of an image, copied.

    Raises:
        TaskError: it is empty or reaches beyond the image.
    """
    try:
        x, y, width, height = (int(part) for part in box)
    except (TypeError, ValueError, OverflowError):
        raise TaskError(f"a crop is x, y, width and height, not {box!r:.80}") from None
    if width < 1 or height < 1 or x < 0 or y < 0 or x + width > found.width or y + height > found.height:
        raise TaskError(
            f"a crop of {width} x {height} at ({x}, {y}) is not within {found.width} x {found.height} pixels"
        )
    shape = (height, width, *found.shape[2:])
    made = new(shape, found.dtype)
    return run("crop", (image,), made, x, y), Info(height, width, found.channels, found.dtype, shape)
