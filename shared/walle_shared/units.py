"""Units in names: ``_s`` seconds, ``_ms`` milliseconds, ``_bytes`` bytes. Standard library only."""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB

MINUTE_S = 60.0
HOUR_S = 60.0 * MINUTE_S
DAY_S = 24.0 * HOUR_S


def format_bytes(size_bytes: float) -> str:
    """Format a size for people: ``18.2 KB`` (decimal thousands, as networks count)."""
    for unit in ("B", "KB", "MB", "GB"):
        if abs(size_bytes) < 1000 or unit == "GB":
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    raise AssertionError("unreachable")


def format_seconds(seconds: float) -> str:
    """Format a duration for people: ``35 µs``, ``4.1 ms``, ``2.3 s``."""
    if abs(seconds) < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    if abs(seconds) < 1:
        return f"{seconds * 1e3:.1f} ms"
    return f"{seconds:.1f} s"
