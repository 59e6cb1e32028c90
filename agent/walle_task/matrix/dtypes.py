"""Data types and what they hold."""

from __future__ import annotations

from walle_engine._native import DType, dtypes

__all__ = [
    "DType",
    "bool",
    "complex128",
    "complex64",
    "float32",
    "float64",
    "int16",
    "int32",
    "int64",
    "int8",
    "uint16",
    "uint32",
    "uint64",
    "uint8",
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
