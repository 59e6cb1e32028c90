"""What this library has, as the standard asks for it."""

from __future__ import annotations

from typing import Any

from walle_engine._native import DType, dtypes
from walle_task.matrix.dtypes import isdtype

__all__ = ["__array_namespace_info__"]


class Info:
    """Capabilities, devices and dtypes."""

    def capabilities(self) -> dict[str, Any]:
        """Return what depends on data may be done, and the largest number of dimensions."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 8}

    def default_device(self) -> str:
        """Return where arrays are."""
        return "cpu"

    def devices(self) -> list[str]:
        """Return all places where arrays can be."""
        return ["cpu"]

    def default_dtypes(self, *, device: str | None = None) -> dict[str, DType]:  # noqa: ARG002  # one device
        """Return what arrays have where no dtype is asked for."""
        return {
            "real floating": dtypes["float64"],
            "complex floating": dtypes["complex128"],
            "integral": dtypes["int64"],
            "indexing": dtypes["int64"],
        }

    def dtypes(
        self,
        *,
        device: str | None = None,  # noqa: ARG002  # one device
        kind: DType | str | tuple[DType | str, ...] | None = None,
    ) -> dict[str, DType]:
        """Return the dtypes by name, of a kind."""
        return {name: dtype for name, dtype in dtypes.items() if kind is None or isdtype(dtype, kind)}


def __array_namespace_info__() -> Info:  # noqa: N807  # the standard's name
    """Return what this library has."""
    return Info()
