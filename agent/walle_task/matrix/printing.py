"""Arrays as text, laid out as NumPy does it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from walle_engine._native import Array, concat

__all__ = ["array_repr", "array_str"]

SUMMARISE_FROM = 1000
"""Elements; of more, only the first and last of each dimension are shown."""
EDGE = 3
PRECISION = 8
LINE = 75


def array_repr(x: Array, /) -> str:
    """Return ``array([1., 2.])``, naming the dtype where the numbers do not tell it."""
    prefix = "array("
    text = "[]" if x.size == 0 else _body(x, len(prefix), ", ")
    default = x.dtype.name in ("float64", "int64", "bool", "complex128") and x.size > 0
    shape = f", shape={x.shape}" if x.size == 0 and x.shape != (0,) else ""
    dtype = "" if default else f", dtype={x.dtype.name}"
    return f"{prefix}{text}{shape}{dtype})"


def array_str(x: Array, /) -> str:
    """Return ``[1. 2.]``."""
    return "[]" if x.size == 0 else _body(x, 0, " ")


def _body(x: Array, indent: int, separator: str) -> str:
    summarise = x.size > SUMMARISE_FROM
    shown = _edges(x) if summarise else x
    numbers = shown.reshape(-1).tolist()
    form = _formatter(x.dtype.kind, numbers)
    width = max(len(form(number)) for number in numbers)
    return _layout(x, lambda number: form(number).rjust(width), indent, separator, summarise)


def _edges(x: Array) -> Array:
    for axis, dim in enumerate(x.shape):
        if dim > 2 * EDGE:
            key = (slice(None),) * axis
            x = concat([x[(*key, slice(None, EDGE))], x[(*key, slice(-EDGE, None))]], axis=axis)
    return x


def _layout(x: Array, form: Callable[[Any], str], indent: int, separator: str, summarise: bool) -> str:
    if x.ndim == 0:
        return form(x.item()).strip()
    indices: list[int | None] = list(range(x.shape[0]))
    if summarise and x.shape[0] > 2 * EDGE:
        indices = [*indices[:EDGE], None, *indices[-EDGE:]]
    if x.ndim == 1:
        words = ["..." if i is None else form(x[i].item()) for i in indices]
        return "[" + _wrapped(words, indent + 1, separator) + "]"
    rows = ["..." if i is None else _layout(x[i], form, indent + 1, separator, summarise) for i in indices]
    gap = separator.rstrip() + "\n" * (x.ndim - 1) + " " * (indent + 1)
    return "[" + gap.join(rows) + "]"


def _wrapped(words: list[str], indent: int, separator: str) -> str:
    lines, line = [], words[0]
    for word in words[1:]:
        if indent + len(line) + len(separator) + len(word) > LINE:
            lines.append(line + separator.rstrip())
            line = word
        else:
            line += separator + word
    return ("\n" + " " * indent).join([*lines, line])


def _formatter(kind: str, numbers: list[Any]) -> Callable[[Any], str]:
    if kind == "f":
        return _float_formatter(numbers)
    if kind == "c":
        real = _float_formatter([number.real for number in numbers])
        imag = _float_formatter([abs(number.imag) for number in numbers])

        def form(number: complex) -> str:
            sign = "-" if math.copysign(1, number.imag) < 0 else "+"
            part = imag(abs(number.imag))
            digits = part.rstrip()
            return f"{real(number.real)}{sign}{digits}j{part[len(digits) :]}"

        return form
    return str


def _float_formatter(numbers: list[float]) -> Callable[[float], str]:
    """As many digits as the neediest number needs, up to eight; with exponents where sizes differ widely."""
    finite = [abs(number) for number in numbers if math.isfinite(number)]
    sizes = [number for number in finite if number != 0]
    scientific = bool(sizes) and (
        max(sizes) >= 1e8 or min(sizes) < 1e-4 or max(sizes) / min(sizes) > 1000
    )  # NumPy's rule
    style = "e" if scientific else "f"
    digits = max((_digits(number, style) for number in finite), default=0)

    def form(number: float) -> str:
        if not math.isfinite(number):
            return str(number)
        text = f"{number:#.{digits}{style}}"
        if scientific:
            return text
        whole, fraction = text.split(".")
        return f"{whole}.{fraction.rstrip('0').ljust(digits)}"

    return form


def _digits(number: float, style: str) -> int:
    """Digits behind the point of the shortest text that reads back, of at most eight."""
    text = f"{number:.{PRECISION}{style}}"
    mantissa = text.split("e")[0]
    return len(mantissa.rstrip("0").split(".")[1]) if "." in mantissa else 0
