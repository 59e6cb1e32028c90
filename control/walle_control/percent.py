"""Percentages as operators write them, and the parts per billion that they mean."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from walle_shared.errors import ConfigError
from walle_shared.targeting import SHARE_ONE


def share_of(percent: str | float) -> int:
    """A percentage as parts per billion, exactly.

    Raises:
        ConfigError: not a decimal number from 0 to 100 with at most 7 digits after the point.
    """
    try:
        share = Decimal(str(percent)) * (SHARE_ONE // 100)
    except InvalidOperation:
        share = Decimal("NaN")
    if not share.is_finite() or not 0 <= share <= SHARE_ONE or share != share.to_integral_value():
        raise ConfigError(
            f"percent {str(percent)[:40]!r} must be a number from 0 to 100, in steps of 0.0000001"
        )
    return int(share)


def percent_of(share: int) -> str:
    """Parts per billion as a percentage in plain decimals."""
    return f"{(Decimal(share) / (SHARE_ONE // 100)).normalize():f}"
