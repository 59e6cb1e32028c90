"""The device's profile: what its settings say of it and what can be measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import version

from walle_shared.targeting.predicate import Scalar
from walle_shared.units import MIB


def measure_profile(configured: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Attributes that release conditions may ask for; configured ones win over measured ones."""
    measured: dict[str, Scalar] = {
        "os": platform.system().lower(),
        "arch": platform.machine(),
        "cpu_count": os.cpu_count() or 1,
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MIB,
        "python_version": platform.python_version(),
        "agent_version": version("walle"),
    }
    return {**measured, **configured}
