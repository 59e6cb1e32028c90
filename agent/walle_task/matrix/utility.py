"""Truth of many elements at once."""

from walle_engine._native import all, any

__all__ = ["all", "any"]
