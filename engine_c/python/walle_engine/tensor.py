"""Tensors on the Python side: the engine's results as buffers, and anything array-like as its input."""

from __future__ import annotations

import array
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from walle_shared.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Buffer

_STORED = (
    "F8_E4M3", "F8_E4M3FNUZ", "F8_E5M2", "F8_E5M2FNUZ", "F8_E8M0", "F4_E2M1", "I4", "U4", "I2", "U2",
)  # fmt: skip
#: Buffer-protocol formats by dtype. BF16 has none of its own and shows its bits as unsigned 16-bit integers;
#: so do, as 8-bit integers, the types of ``_STORED``, which operators only convert from and to.
FORMATS = {
    "F32": "f", "F64": "d", "F16": "e", "BF16": "H", "I8": "b", "I16": "h", "I32": "i", "I64": "q",
    "U8": "B", "U16": "H", "U32": "I", "U64": "Q", "BOOL": "?", **dict.fromkeys(_STORED, "B"),
}  # fmt: skip
#: What a buffer of each of these types is seen as.
_BITS = {"BF16": "U16"} | dict.fromkeys(_STORED, "U8")
#: Types that a buffer's own format tells.
PLAIN = FORMATS.keys() - _BITS.keys()
_DLPACK_CPU = (1, 0)
_SIGNED = {1: "I8", 2: "I16", 4: "I32", 8: "I64"}
_UNSIGNED = {1: "U8", 2: "U16", 4: "U32", 8: "U64"}
_FLOATING = {"e": "F16", "f": "F32", "d": "F64"}


class Tensor:
    """A dense row-major array that the engine made.

    Implements the buffer protocol without copying, so ``numpy.asarray(tensor)`` and ``memoryview(tensor)``
    share its memory, which lives as long as any of them does.

    Args:
        memory: the elements, ``nbytes`` bytes.
        dtype: element type, e.g. ``"F32"``.
        shape: extents; ``()`` for a scalar.
        export: gives a handle of the engine's block that ``memory`` is of; without it, ``__dlpack__`` fails.
    """

    __slots__ = ("_export", "_memory", "dtype", "shape")

    def __init__(
        self, memory: Buffer, dtype: str, shape: tuple[int, ...], export: Callable[[], int] | None = None
    ) -> None:
        self._memory = memory
        self.dtype = dtype
        self.shape = shape
        self._export = export

    @property
    def memory(self) -> memoryview:
        """The elements as they lie in memory, without shape."""
        return memoryview(self._memory)

    @property
    def nbytes(self) -> int:
        """Size of the elements in bytes."""
        return self.memory.nbytes

    def __buffer__(self, flags: int, /) -> memoryview:
        if 0 in self.shape:
            raise BufferError("memoryview has no empty shapes; use numpy.asarray(tensor) or tensor.tolist()")
        # The type of the format is a Literal in the stubs; ours comes from a table.
        cast: Any = self.memory.cast("B").cast
        view: memoryview = cast(FORMATS[self.dtype], self.shape)
        return view

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        # Only reached for empty tensors: NumPy asks the buffer protocol first.
        import numpy as np

        return np.empty(self.shape, dtype=dtype or np.dtype(FORMATS[self.dtype]))

    def __dlpack_device__(self) -> tuple[int, int]:
        """Say where the memory is: the CPU."""
        return _DLPACK_CPU

    def __dlpack__(
        self,
        *,
        stream: object = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> object:
        """Lend the memory through DLPack, without copying.

        Args:
            stream: must be None, for the CPU has none.
            max_version: of DLPack; from 1.0 on the capsule says its version.
            dl_device: the CPU if anything.
            copy: must not be True.

        Raises:
            BufferError: if that cannot be had, or DLPack has no such element type.
        """
        if stream is not None or copy or dl_device not in (None, _DLPACK_CPU) or self._export is None:
            raise BufferError("this tensor can only be lent as it is, from the CPU's memory")
        from walle_engine import _native

        return _native.dlpack_capsule(self._export(), max_version is not None and max_version >= (1, 0))

    @staticmethod
    def from_dlpack(source: Any, /) -> Tensor:
        """View the memory of an object that speaks DLPack (PyTorch, NumPy, ...), without copying.

        Raises:
            EngineError: if it is not a dense tensor in the CPU's memory of a type the engine has.
        """
        memory, dtype, shape = _from_dlpack(source, "from_dlpack")
        return Tensor(memory, dtype, shape)

    def tolist(self) -> Any:
        """Return the elements as (nested) lists of Python numbers, or one number for a scalar.

        Those of 8-bit floats and of types below 8 bits are their bits.
        """
        if 0 in self.shape:
            return _empty_lists(self.shape)
        if self.dtype == "BF16":
            bits = array.array("I", (half << 16 for half in self.memory.cast("B").cast("H")))
            return memoryview(bits).cast("B").cast("f", self.shape).tolist()
        return memoryview(self).tolist()

    def __repr__(self) -> str:
        return f"Tensor({self.dtype}, shape={self.shape})"


class TextTensor:
    """A tensor of texts that the engine made.

    Args:
        texts: the elements in row-major order.
        shape: extents; ``()`` for a scalar.
    """

    __slots__ = ("_texts", "shape")

    dtype = "STRING"

    def __init__(self, texts: Sequence[str], shape: tuple[int, ...]) -> None:
        self._texts = tuple(texts)
        self.shape = shape

    def tolist(self) -> Any:
        """Return the elements as (nested) lists, or one text for a scalar."""
        if 0 in self.shape:
            return _empty_lists(self.shape)
        nested: list[Any] = list(self._texts)
        for size in reversed(self.shape[1:]):
            nested = [nested[i : i + size] for i in range(0, len(nested), size)]
        return nested if self.shape else nested[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        import numpy as np

        return np.array(self._texts, dtype=dtype or object).reshape(self.shape)

    def __repr__(self) -> str:
        return f"TextTensor(shape={self.shape})"


def text_view(value: Any, name: str) -> tuple[list[bytes], tuple[int, ...]]:
    """Read texts as UTF-8.

    Args:
        value: a text, nested sequences of texts, or anything with ``tolist`` that gives them (a NumPy array
            of texts or objects, a ``TextTensor``).
        name: of the input, for messages.

    Raises:
        EngineError: ``value`` is none of these, is ragged, or a text holds a NUL character.
    """
    convert: Any = getattr(value, "tolist", None)
    nested: Any = value if convert is None else convert()
    shape = getattr(value, "shape", None)
    shape = _shape_of(nested) if shape is None else tuple(int(size) for size in shape)
    texts: list[Any] = []
    if 0 not in shape:
        _flatten_texts(nested, shape, texts)
    encoded = [text.encode() if isinstance(text, str) else text for text in texts]
    if len(encoded) != math.prod(shape) or not all(
        isinstance(text, bytes) and b"\0" not in text for text in encoded
    ):
        raise _refuse(f"input '{name}' must hold texts without NUL characters, and not be ragged")
    return encoded, shape


def _flatten_texts(value: Any, shape: tuple[int, ...], out: list[Any]) -> None:
    if not shape:
        out.append(value)
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)) and len(value) == shape[0]:
        for item in value:
            _flatten_texts(item, shape[1:], out)


def _empty_lists(shape: tuple[int, ...]) -> Any:
    return [_empty_lists(shape[1:]) for _ in range(shape[0])] if len(shape) > 1 else []


def dtype_of_format(format_: str, itemsize: int) -> str:
    """Name the dtype of a buffer-protocol format.

    Args:
        format_: e.g. ``"f"``, ``"<i"``, ``"l"``.
        itemsize: bytes per element; decides what ``"l"`` means.

    Returns:
        The name, or ``""`` where the engine has no such type (big-endian and structured data among them).
    """
    code = format_[1:] if format_[:1] in "@=<" else format_
    if code == "?":
        return "BOOL"
    if code in _FLOATING:
        return _FLOATING[code]
    if code in "bhilqn" and code:
        return _SIGNED.get(itemsize, "")
    if code in "BHILQN" and code:
        return _UNSIGNED.get(itemsize, "")
    return ""


def dense_view(value: object, name: str, dtype: str) -> tuple[memoryview, str, tuple[int, ...]]:
    """View anything array-like as dense memory.

    Args:
        value: a buffer (NumPy array, Tensor, ``array.array``), an object with ``__dlpack__``, a number, or
            nested sequences of numbers.
        name: of the input, for messages.
        dtype: what the model wants; the type of numbers and sequences, which have none of their own.

    Returns:
        Memory (copied only where it was not dense), dtype, and shape.

    Raises:
        EngineError: ``value`` is none of these, is ragged, or holds elements the engine has no type for.
    """
    if isinstance(value, Tensor):
        return value.memory, value.dtype, value.shape
    try:
        view = memoryview(value)  # type: ignore[arg-type]
    except (TypeError, BufferError, ValueError):
        if hasattr(value, "__dlpack__"):
            return _from_dlpack(value, name)
        return _pack(value, name, dtype)
    found = dtype_of_format(view.format, view.itemsize)
    if not found:
        raise _refuse(f"input '{name}' has elements of format {view.format!r}; convert it to {dtype}")
    if found == _BITS.get(dtype):
        found = dtype
    shape = tuple(view.shape or ())
    return (view if view.c_contiguous else memoryview(view.tobytes())), found, shape


def _refuse(message: str) -> EngineError:
    return EngineError(message, status="INVALID_ARGUMENT")


def _from_dlpack(source: Any, name: str) -> tuple[memoryview, str, tuple[int, ...]]:
    from walle_engine import _native

    try:
        try:
            capsule = source.__dlpack__(max_version=(1, 0))
        except TypeError:  # a producer from before versions
            capsule = source.__dlpack__()
        lent, dtype, shape = _native.dlpack_take(capsule)
    except (BufferError, TypeError, ValueError, RuntimeError) as error:
        raise _refuse(f"input '{name}' cannot be read through DLPack: {error}") from error
    return memoryview(lent), dtype, shape


def _shape_of(value: object) -> tuple[int, ...]:
    shape: list[int] = []
    while isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _flatten(value: Any, shape: tuple[int, ...], out: list[Any]) -> bool:
    """Append the numbers of ``value``; False if it does not have that shape."""
    if not shape:
        out.append(value)
        return not isinstance(value, (Sequence, str))
    if not isinstance(value, Sequence) or len(value) != shape[0]:
        return False
    return all(_flatten(item, shape[1:], out) for item in value)


def _pack(value: object, name: str, dtype: str) -> tuple[memoryview, str, tuple[int, ...]]:
    """Numbers in (nested) sequences as memory of the model's type."""
    import struct

    shape = _shape_of(value)
    numbers: list[Any] = []
    if 0 not in shape and not _flatten(value, shape, numbers):
        raise _refuse(f"input '{name}' is ragged or holds something that is no number")
    if dtype in _BITS:
        raise _refuse(f"input '{name}' is {dtype}: pass its bits in a buffer of type {_BITS[dtype]}")
    try:
        packed = struct.pack(f"={math.prod(shape)}{FORMATS[dtype]}", *numbers)
    except (struct.error, OverflowError) as error:
        raise _refuse(f"input '{name}' does not fit {dtype}: {error}") from error
    return memoryview(packed), dtype, shape
