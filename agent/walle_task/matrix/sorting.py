"""Elements in order. All sorts are stable; NaN counts as the largest."""

from walle_engine._native import argsort, sort

__all__ = ["argsort", "sort"]
