"""What predicates may ask for: the attributes that every device measures, and those that operators declare.

As long as none is declared, any name may be used. From the first on, a predicate that asks for a name that is
neither measured nor declared, or compares one as what it is not, is refused where it is written.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from walle_shared.errors import ConfigError
from walle_shared.ids import check_name
from walle_shared.targeting.predicate import (
    DEVICE,
    Kind,
    Predicate,
    PredicateError,
    Scalar,
    is_kind,
    kind_by_name,
)
from walle_shared.targeting.schedule import TIMEZONE

#: Where the values come from: from the device itself, or from operators, who keep them on the server.
Side = Literal["device", "server"]

#: What every device knows of itself.
MEASURED: Final[Mapping[str, Kind]] = {
    "agent_version": "version",
    "arch": "string",
    "cpu_count": "number",
    "memory_mb": "number",
    "os": "string",
    "python_version": "version",
    TIMEZONE: "string",
}


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute that predicates may ask for."""

    name: str
    kind: Kind
    side: Side = "device"
    note: str = ""

    def checked(self) -> Attribute:
        """This declaration, if it makes sense.

        Raises:
            ConfigError: saying what does not.
        """
        check_name(self.name, "attribute")
        if self.name == DEVICE or self.name in MEASURED:
            raise ConfigError(
                f"attribute {self.name!r} is there already, every device has it: choose another name"
            )
        if self.kind not in get_args(Kind):
            raise ConfigError(f"an attribute is one of {', '.join(get_args(Kind))}, not {self.kind!r}")
        by_name = kind_by_name(self.name)
        if by_name != (self.kind if self.kind in ("version", "time") else None):
            rule = "names of versions end in 'version', names of times in '_at' or 'date', and no others do"
            raise ConfigError(f"attribute {self.name!r} cannot be a {self.kind}: {rule}")
        return self

    def check_value(self, value: Scalar) -> Scalar:
        """A value, if it is of this kind.

        Raises:
            ConfigError: it is not.
        """
        if not is_kind(value, self.kind):
            raise ConfigError(f"attribute {self.name!r} must be of kind {self.kind}, and {value!r} is not")
        return value


def check_uses(predicate: Predicate, declared: Mapping[str, Attribute], *, optional: bool = False) -> None:
    """Check what a predicate's own text asks for; ``optional``: names that are not known may be used.

    Raises:
        PredicateError: pointing at the first attribute that is not known, or is of another kind.
    """
    if not declared:
        return
    kinds: dict[str, Kind] = {**MEASURED, **{name: attribute.kind for name, attribute in declared.items()}}
    for use in predicate.uses:
        kind = kinds.get(use.name)
        if kind is None and not optional:
            near = difflib.get_close_matches(use.name, kinds, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise PredicateError(f"no attribute {use.name!r} is declared{hint}", predicate.text, use.column)
        if kind is not None and use.kind not in (None, kind) and not _is_text(use.kind, kind):
            raise PredicateError(f"{use.name!r} is a {kind}, not a {use.kind}", predicate.text, use.column)


def _is_text(used: Kind | None, kind: Kind) -> bool:
    """Whether an attribute is looked at as text, as ``startswith`` does, that is text."""
    return used == "string" and kind in ("version", "time")
