"""Taking elements by their indices."""

from walle_engine._native import take, take_along_axis

__all__ = ["take", "take_along_axis"]
