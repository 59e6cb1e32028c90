"""What other features may ask about audiences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from walle_control.db.sql import Connection
from walle_control.features.audiences import store
from walle_shared.ids import DeviceId, ScenarioName
from walle_shared.targeting import (
    Holdout,
    IdSet,
    Predicate,
    Profile,
    Segment,
    by_reference,
    holdouts_of,
    parse_predicate,
)
from walle_shared.targeting.attributes import Attribute, check_uses
from walle_shared.targeting.predicate import PredicateError


@dataclass(frozen=True, slots=True)
class Audiences:
    """All that predicates may refer to, as it stands in a transaction."""

    segments: Mapping[str, Segment]
    sets: Mapping[str, IdSet]
    attributes: Mapping[str, Attribute]

    def parse(self, text: str) -> Predicate:
        """Parse a predicate with what it refers to.

        Raises:
            PredicateError: it cannot be read, or refers to what is not there.
        """
        predicate = parse_predicate(text, {name: each.predicate for name, each in self.segments.items()})
        unknown = sorted(
            question.set_name for question in predicate.sets if question.set_name not in self.sets
        )
        if unknown:
            raise PredicateError(f"no set {unknown[0]!r} is known", text, max(text.find(unknown[0]), 0))
        return predicate

    def check(self, text: str, *, optional: bool = False) -> Predicate:
        """Parse a predicate that an operator wrote; ``optional``: it may ask for undeclared attributes.

        Raises:
            PredicateError: as ``parse``, or it asks for an attribute that is not known or of another kind.
        """
        predicate = self.parse(text)
        check_uses(predicate, self.attributes, optional=optional)
        return predicate

    def is_decided_here(self, predicate: Predicate) -> bool:
        """Whether it asks for attributes that only the server knows."""
        asked = predicate.attributes | {question.attribute for question in predicate.sets}
        return any(self.attributes[name].side == "server" for name in asked & self.attributes.keys())


def audiences(db: Connection) -> Audiences:
    """All that predicates may refer to."""
    return Audiences(
        by_reference(store.segments(db)),
        by_reference(store.sets(db)),
        {attribute.name: attribute for attribute in store.attributes(db)},
    )


def full_profile(db: Connection, device_id: DeviceId, profile: Profile) -> Profile:
    """What a device says of itself, and what operators say of it and of its user; its own matter most."""
    full = {**profile, **store.said_of(db, "device", device_id)}
    user = full.get("user")
    return {**store.said_of(db, "user", user), **full} if isinstance(user, str) else full


def holdouts(db: Connection) -> list[Holdout]:
    """All holdouts, by name."""
    return store.holdouts(db)


def is_held_out(db: Connection, device_id: DeviceId, scenario: ScenarioName) -> bool:
    """Whether a holdout keeps a scenario's releases from a device."""
    return bool(holdouts_of(device_id, scenario, store.holdouts(db)))
