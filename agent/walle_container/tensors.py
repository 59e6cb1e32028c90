"""Numbers on their way between agent and task: they go as shared memory beside the frame, not as JSON in it.

Wherever a frame's JSON may hold a value, it may hold ``{"$tensor": 2}`` instead: the third entry of the
frame's table, which gives format and shape of each block in the memory that came with the frame. Both sides
use this module, so a task sees the same in every tier. Invariants:

1. Whoever receives memory maps it only if it is sealed: what was checked cannot change afterwards.
2. Nothing of a table is believed: blocks that do not fit the memory, or formats that are not numbers, are a
   ``ValueError``, and the caller says whose fault that is.

Standard library only.
"""

from __future__ import annotations

import math
import struct

from walle_container import _vm

TYPE_CHECKING = False  # as in locate.py: every slot loads this
if TYPE_CHECKING:
    from typing import Any

LEAF = "$tensor"
TABLE = "tensors"
ALIGNMENT = 64
MAX_RANK = 8
MAX_TENSORS = 1_024

#: Single letters of the buffer protocol, all native and fixed in size: numbers and truth values.
FORMATS = frozenset("?bBhHiIqQefd")
_SAME = {
    "l": f"{'i' if struct.calcsize('l') == 4 else 'q'}",
    "L": f"{'I' if struct.calcsize('L') == 4 else 'Q'}",
}


class Parcel:
    """Buffers that a frame takes along."""

    def __init__(self) -> None:
        self.views: list[memoryview] = []

    def leaf(self, value: object) -> dict[str, int]:
        """Stand in for ``value`` in JSON; the ``default`` of a JSON writer.

        Raises:
            TypeError: it is no buffer of numbers.
        """
        view = view_of(value)
        if view is None:
            raise TypeError(f"{type(value).__name__} is neither JSON nor a buffer of numbers")
        if len(self.views) == MAX_TENSORS:
            raise TypeError(f"a frame holds at most {MAX_TENSORS} tensors")
        self.views.append(view)
        return {LEAF: len(self.views) - 1}

    def table(self) -> list[list[Any]]:
        """Format and shape of each buffer, for the frame."""
        return [[_letter(view), list(view.shape or ())] for view in self.views]

    def total_bytes(self) -> int:
        """All of them together."""
        return sum(view.nbytes for view in self.views)


def view_of(value: object) -> memoryview | None:
    """``value`` as a view of numbers; None where it is none."""
    try:
        view = memoryview(value)  # type: ignore[arg-type]  # that is the question
    except (TypeError, BufferError):
        return None
    fits = _letter(view) in FORMATS and view.ndim <= MAX_RANK
    return view if fits else None


def _letter(view: memoryview) -> str:
    letter = view.format[-1:] if len(view.format) == 1 or view.format[0] in "@=<" else ""
    return _SAME.get(letter, letter)


def unpack(table: Any, attached: int) -> list[memoryview]:
    """The blocks of the memory behind the descriptor ``attached``, which is taken over.

    Raises:
        ValueError: there is no memory, it is not sealed, or the table does not fit it.
    """
    if attached < 0:
        raise ValueError("a table of tensors came without memory")
    try:
        memory = memoryview(_vm.map_shared(attached))
    except OSError as error:
        raise ValueError(f"the memory of tensors cannot be mapped: {error}") from error
    if not isinstance(table, list) or len(table) > MAX_TENSORS:
        raise ValueError("the table of tensors is no list, or too long")
    found = []
    start = 0
    for entry in table:
        letter, shape = _check_entry(entry)
        size_bytes = struct.calcsize(letter) * math.prod(shape)
        if size_bytes > len(memory) - start:
            raise ValueError("a tensor is larger than the memory it came in")
        block: Any = memory[start : start + size_bytes]  # typing knows no cast to a letter it cannot see
        # A view cannot have a dimension of 0, so what is empty arrives flat.
        found.append(block.cast(letter, shape) if size_bytes else block.cast(letter))
        start += (size_bytes + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
    return found


def _check_entry(entry: Any) -> tuple[str, list[int]]:
    if not isinstance(entry, list) or len(entry) != 2:
        raise ValueError("an entry of the table of tensors is not format and shape")
    letter, shape = entry
    if not isinstance(letter, str) or letter not in FORMATS:
        raise ValueError(f"the tensor format {str(letter)[:10]!r} is not one of numbers")
    if not isinstance(shape, list) or len(shape) > MAX_RANK:
        raise ValueError("a tensor's shape is no list, or too long")
    if not all(type(size) is int and 0 <= size < 1 << 48 for size in shape):
        raise ValueError("a tensor's shape holds something else than sizes")
    return letter, shape


def restore(value: Any, views: list[memoryview]) -> Any:
    """``value`` with the views in the places of their leaves."""
    if isinstance(value, dict):
        number = value.get(LEAF) if len(value) == 1 else None
        if type(number) is int and 0 <= number < len(views):
            return views[number]
        return {name: restore(item, views) for name, item in value.items()}
    if isinstance(value, list):
        return [restore(item, views) for item in value]
    return value
