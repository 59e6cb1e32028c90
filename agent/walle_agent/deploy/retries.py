"""How often a release is tried, and how long it is left alone once it failed: as it asks, within limits.

A release may ask for both; what it does not ask for, and how far it may go, are this device's settings. Pure.
"""

from __future__ import annotations

from walle_agent.config import DeploySection
from walle_shared.limits import QUARANTINE_MAX_S


def attempts_of(wish: int, config: DeploySection) -> int:
    """After how many failed installations a release is left alone; ``wish`` 0: it says nothing."""
    most = max(config.install_attempts_max, config.install_attempts)
    return min(wish, most) if wish > 0 else config.install_attempts


def quarantine_of(wish_s: float, config: DeploySection) -> float:
    """For how long, the first time; 0: for good. ``wish_s`` 0: it says nothing."""
    own_s = config.quarantine_s
    if own_s == 0 or not wish_s > 0:
        return own_s
    return min(max(wish_s, min(config.quarantine_min_s, own_s)), QUARANTINE_MAX_S)
