"""Data types: what they are, what they hold, how they meet."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from typing import Any

from walle_engine._native import Array, DType, astype, dtype_beside, dtypes, promote_types

__all__ = [
    "DType",
    "astype",
    "bool",
    "can_cast",
    "complex64",
    "complex128",
    "finfo",
    "float32",
    "float64",
    "iinfo",
    "int8",
    "int16",
    "int32",
    "int64",
    "isdtype",
    "promote_types",
    "result_type",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]

bool = dtypes["bool"]
int8 = dtypes["int8"]
int16 = dtypes["int16"]
int32 = dtypes["int32"]
int64 = dtypes["int64"]
uint8 = dtypes["uint8"]
uint16 = dtypes["uint16"]
uint32 = dtypes["uint32"]
uint64 = dtypes["uint64"]
float32 = dtypes["float32"]
float64 = dtypes["float64"]
complex64 = dtypes["complex64"]
complex128 = dtypes["complex128"]

_KINDS = {
    "bool": "b",
    "signed integer": "i",
    "unsigned integer": "u",
    "integral": "iu",
    "real floating": "f",
    "complex floating": "c",
    "numeric": "iufc",
}


@dataclass(frozen=True, slots=True)
class FloatInfo:
    """Limits of a floating-point dtype; of a complex one, those of its parts."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: DType

    @property
    def tiny(self) -> float:
        """NumPy's name of the smallest normal number."""
        return self.smallest_normal


@dataclass(frozen=True, slots=True)
class IntegerInfo:
    """Limits of an integer dtype."""

    bits: int
    max: int
    min: int
    dtype: DType


def _dtype(value: object) -> DType:
    return value.dtype if isinstance(value, Array) else promote_types(value, value)


def finfo(type: object, /) -> FloatInfo:  # the standard's name
    """Return the limits of a floating-point dtype, or of an array's."""
    dtype = _dtype(type)
    if dtype.kind not in "fc":
        raise TypeError(f"finfo() describes floating-point dtypes, not {dtype}: use iinfo()")
    if dtype in (float32, complex64):
        largest = (2 - 2**-23) * 2.0**127
        return FloatInfo(32, 2.0**-23, largest, -largest, 2.0**-126, float32)
    largest = (2 - 2**-52) * 2.0**1023
    return FloatInfo(64, 2.0**-52, largest, -largest, 2.0**-1022, float64)


def iinfo(type: object, /) -> IntegerInfo:  # the standard's name
    """Return the limits of an integer dtype, or of an array's."""
    dtype = _dtype(type)
    bits = 8 * dtype.itemsize
    if dtype.kind == "u":
        return IntegerInfo(bits, 2**bits - 1, 0, dtype)
    if dtype.kind != "i":
        raise TypeError(f"iinfo() describes integer dtypes, not {dtype}: use finfo()")
    return IntegerInfo(bits, 2 ** (bits - 1) - 1, -(2 ** (bits - 1)), dtype)


def isdtype(dtype: DType, kind: DType | str | tuple[DType | str, ...]) -> builtins.bool:
    """Whether a dtype is, or is of, a kind: a dtype, a name such as ``"integral"``, or a tuple of those."""
    if isinstance(kind, tuple):
        return any(isdtype(dtype, one) for one in kind)
    if isinstance(kind, DType):
        return dtype == kind
    if kind not in _KINDS:
        raise ValueError(f"{kind!r} is no kind of dtype: use one of {', '.join(map(repr, _KINDS))}")
    return dtype.kind in _KINDS[kind]


def can_cast(from_: Any, to: DType, /) -> builtins.bool:
    """Whether an array or a dtype becomes another dtype by promotion alone, losing nothing."""
    return promote_types(_dtype(from_), to) == to


def result_type(*arrays_and_dtypes: Any) -> DType:
    """Return the dtype that arrays, dtypes and Python numbers have together; numbers follow the others.

    Raises:
        ValueError: nothing was given, or numbers alone.
    """
    result: DType | None = None
    numbers: list[Any] = []
    for one in arrays_and_dtypes:
        if isinstance(one, builtins.bool | int | float | complex) and not isinstance(one, type):
            numbers.append(one)
        else:
            result = _dtype(one) if result is None else promote_types(result, _dtype(one))
    if result is None:
        raise ValueError("result_type() needs at least one array or dtype")
    for number in numbers:
        result = dtype_beside(result, number)
    return result
