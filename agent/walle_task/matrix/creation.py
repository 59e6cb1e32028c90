"""Making arrays."""

from __future__ import annotations

from walle_engine._native import asarray

__all__ = ["asarray"]
