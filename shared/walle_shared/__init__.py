"""What both sides of the wire must agree on: errors, ids, limits, messages, signatures, targeting.

This module, ``errors``, ``ids``, ``units`` and ``limits`` are standard library only, so that task code in an
isolated interpreter can import them.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
