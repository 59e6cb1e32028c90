"""Types of the audiences feature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from walle_shared.targeting import Holdout, IdSet, Profile, Segment
from walle_shared.targeting.attributes import Attribute

#: Of whom operators can say something. A device is a user's if its attribute ``user`` says so.
Whom = Literal["device", "user"]


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


@dataclass(frozen=True, slots=True)
class SegmentWish:
    """Give a predicate a name; ``optional``: it may ask for attributes that nobody declared."""

    name: str
    predicate: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class SegmentList:
    """All versions of all segments, by name, newest first."""

    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class SetList:
    """All versions of all sets of ids, by name, newest first."""

    sets: tuple[IdSet, ...]


@dataclass(frozen=True, slots=True)
class AttributeList:
    """All declared attributes, by name."""

    attributes: tuple[Attribute, ...]


@dataclass(frozen=True, slots=True)
class SaidAttributes:
    """What operators say of a device or a user; as a wish, ``values`` replace those of the same name."""

    values: Profile


@dataclass(frozen=True, slots=True)
class EstimateRequest:
    """A predicate; ``optional``: it may ask for attributes that nobody declared."""

    predicate: str = ""
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Estimate:
    """How many devices a predicate matches: ``matching`` of ``sampled``, out of ``devices`` in all."""

    devices: int
    sampled: int
    matching: int
