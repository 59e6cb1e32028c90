"""Types of the audiences feature."""

from __future__ import annotations

from dataclasses import dataclass

from walle_shared.targeting import Holdout


@dataclass(frozen=True, slots=True)
class HoldoutWish:
    """Keep ``percent`` of all devices out of a scenario's releases (of all, if it names none)."""

    name: str
    percent: str | int | float
    scenario: str = ""


@dataclass(frozen=True, slots=True)
class HoldoutList:
    """All holdouts, by name."""

    holdouts: tuple[Holdout, ...]
