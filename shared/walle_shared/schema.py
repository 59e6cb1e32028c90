"""What an app's events hold and how private it is: the registry that an app's integrator writes.

``events.toml``::

    [envelope]                          # what every event has beside its args
    page_id = "upload"

    [events.add_cart]                   # by event id, or by kind for events that have no table of their own
    kind = "click"

    [events.add_cart.args]
    item_id = { type = "text", privacy = "upload" }
    price = { type = "real", min = 0, max = 100000, privacy = "aggregate" }
    note = { type = "text" }
    "seller.type" = { type = "text", values = ["shop", "person"], privacy = "upload" }

Whatever is not declared is ``local``: an event, an argument, a member of an argument. What the classes mean
is in ``walle_shared.privacy``. Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from walle_shared.errors import ConfigError
from walle_shared.limits import SCHEMA_MAX_EVENTS, SCHEMA_MAX_VALUES
from walle_shared.settings import parse_checked

SCHEMA_FILE = "events.toml"

#: From the most private to the least.
Privacy = Literal["local", "aggregate", "upload"]
PRIVACY: tuple[Privacy, ...] = get_args(Privacy)

EventKind = Literal["page_enter", "scroll", "exposure", "click", "page_exit", "custom"]
EVENT_KINDS: frozenset[str] = frozenset(get_args(EventKind))

FieldType = Literal["text", "integer", "real", "boolean", "json"]

#: What every event shows to whoever reads it: triggers name kinds and ids, runs name the numbers of events.
ALWAYS = ("seq", "kind", "event_id")
#: What else an event has beside its args.
ENVELOPE = ("page_id", "visit_id", "wall_ms", "mono_ns")
ARGS = "args."

_EVENT_ID = re.compile(r"[A-Za-z0-9_.\-]{1,128}")
_PATH = re.compile(r"[^.]{1,128}(\.[^.]{1,128}){0,15}")
_NUMERIC = frozenset({"integer", "real"})


@dataclass(frozen=True, slots=True)
class Bound:
    """What a value may be: a number from ``min`` to ``max``, or one of ``values``."""

    min: float | None = None
    max: float | None = None
    values: tuple[str | int, ...] = ()

    def holds(self, value: object) -> bool:
        """Whether a value of the right type is within."""
        if self.values:
            return any(type(value) is type(known) and value == known for known in self.values)
        if isinstance(value, int | float):
            return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)
        return self.min is None and self.max is None


@dataclass(frozen=True, slots=True)
class ArgSpec:
    """One argument, or a member of one."""

    type: FieldType = "json"
    privacy: Privacy = "local"
    min: float | None = None
    max: float | None = None
    values: tuple[str | int, ...] = ()
    required: bool = False

    @property
    def bound(self) -> Bound:
        """What its values may be."""
        return Bound(self.min, self.max, self.values)

    def holds(self, value: object) -> bool:
        """Whether a value is what was declared."""
        return is_of_type(self.type, value) and self.bound.holds(value)


@dataclass(frozen=True, slots=True)
class EventSpec:
    """Events of one id, or of one kind."""

    kind: str = ""
    args: Mapping[str, ArgSpec] = field(default_factory=dict)
    doc: str = ""


@dataclass(frozen=True, slots=True)
class EventSchema:
    """The registry. Made by ``parse_schema``."""

    events: Mapping[str, EventSpec] = field(default_factory=dict)
    envelope: Mapping[str, Privacy] = field(default_factory=dict)

    def find(self, event_id: str, kind: str) -> EventSpec | None:
        """What is declared of an event: under its id, else under its kind."""
        return self.events.get(event_id) or self.events.get(kind)

    def complaint(self, event_id: str, kind: str, args: Mapping[str, Any]) -> str:
        """How an event differs from what is declared; empty if it does not."""
        spec = self.find(event_id, kind)
        if spec is None:
            return f"event {event_id!r} of kind {kind!r} is not declared: add [events.{event_id}]"
        if spec.kind and spec.kind != kind:
            return f"event {event_id!r} is a {spec.kind}, not a {kind}"
        for path, arg in spec.args.items():
            if arg.required and read_path(args, path) is None:
                return f"{event_id}.args.{path} is missing"
        return next((f"{event_id}.args.{problem}" for problem in _misfits(spec.args, "", args)), "")

    def privacy(self, key: str, path: str) -> Privacy:
        """The class of a field of the events that a task reads by ``key``, an event id or a kind.

        Args:
            key: as in a task's ``[reads]``.
            path: ``page_id``, or ``args.price``.
        """
        if path in ALWAYS:
            return "upload"
        if path in ENVELOPE:
            return self.envelope.get(path, "local")
        if key not in self.events:
            return "local"
        specs = [self.events[key]]
        if key in EVENT_KINDS:  # then it stands for all events of the kind, whatever their ids
            specs += [spec for spec in self.events.values() if spec.kind in ("", key)]
        args = [arg_at(spec.args, path) for spec in specs]
        classes: list[Privacy] = [arg.privacy if arg is not None else "local" for arg in args]
        return min(classes, key=PRIVACY.index)

    def shows(self, event_id: str, kind: str, path: str, value: object) -> bool:
        """Whether a task may be shown a value on the word of its class: only if it is what was declared."""
        spec = self.find(event_id, kind)
        if spec is not None and spec.kind not in ("", kind):
            return False
        arg = arg_at(spec.args, path) if spec is not None else None
        return arg is None or arg.privacy == "local" or arg.holds(value)


def parse_schema(text: str, where: str = SCHEMA_FILE) -> EventSchema:
    """Parse and check an ``events.toml``.

    Raises:
        ConfigError: naming the file and the key.
    """
    return parse_checked(EventSchema, text, where, _check)


def check_bound(bound: Bound, kind: FieldType, where: str) -> None:
    """Refuse bounds that make no sense for their type.

    Raises:
        ConfigError: naming what is wrong.
    """
    numbers = [number for number in (bound.min, bound.max) if number is not None]
    if numbers and kind not in _NUMERIC:
        raise ConfigError(f"{where}: min and max are for integer and real, not for {kind}")
    if any(not math.isfinite(number) for number in numbers) or numbers != sorted(numbers):
        raise ConfigError(f"{where}: min and max must be finite, and min not above max")
    if bound.values and numbers:
        raise ConfigError(f"{where}: give min and max, or values, not both")
    if len(bound.values) > SCHEMA_MAX_VALUES:
        raise ConfigError(f"{where}: {len(bound.values)} values are over the limit of {SCHEMA_MAX_VALUES}")
    wanted = {"text": str, "integer": int}.get(kind)
    if bound.values and (wanted is None or any(type(value) is not wanted for value in bound.values)):
        raise ConfigError(f"{where}: values must be a list of texts for text, of integers for integer")


def is_of_type(kind: FieldType, value: object) -> bool:
    """Whether a JSON value is of a declared type."""
    match kind:
        case "text":
            return isinstance(value, str)
        case "integer":
            return type(value) is int
        case "real":
            return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
        case "boolean":
            return isinstance(value, bool)
        case "json":
            return True


def arg_at(args: Mapping[str, ArgSpec], path: str) -> ArgSpec | None:
    """What is declared of ``args.item.price``: by its own path, or by that of an argument it is part of."""
    if not path.startswith(ARGS):
        return None
    names = path.removeprefix(ARGS).split(".")
    own = args.get(".".join(names))
    if own is not None:
        return own
    above = (args.get(".".join(names[:length])) for length in range(len(names) - 1, 0, -1))
    return next((arg for arg in above if arg is not None and arg.type == "json"), None)


def read_path(item: Any, path: str) -> Any:
    """The member at ``item.price``, or None."""
    for name in path.split("."):
        item = item.get(name) if isinstance(item, Mapping) else None
    return item


def _misfits(declared: Mapping[str, ArgSpec], prefix: str, args: Mapping[str, Any]) -> Iterator[str]:
    for name, value in args.items():
        path = f"{prefix}{name}"
        arg = declared.get(path)
        if arg is not None:
            if value is not None and not arg.holds(value):
                yield f"{path} is {value!r:.60}, not what is declared ({describe(arg)})"
        elif isinstance(value, Mapping) and any(known.startswith(path + ".") for known in declared):
            yield from _misfits(declared, path + ".", value)
        else:
            yield f"{path[:80]} is not declared"


def describe(arg: ArgSpec) -> str:
    """Type and range of an argument, in words."""
    if arg.values:
        return f"{arg.type}: one of {', '.join(map(str, arg.values[:8]))}" + ("…" if arg.values[8:] else "")
    low = "" if arg.min is None else f" from {arg.min:g}"
    high = "" if arg.max is None else f" to {arg.max:g}"
    return f"{arg.type}{low}{high}"


def _check(schema: EventSchema) -> None:
    if len(schema.events) > SCHEMA_MAX_EVENTS:
        raise ConfigError(f"{len(schema.events)} events are over the limit of {SCHEMA_MAX_EVENTS}")
    for name in schema.envelope:
        if name not in ENVELOPE:
            raise ConfigError(f"envelope.{name[:80]} is not known; known: {', '.join(ENVELOPE)}")
    for event_id, spec in schema.events.items():
        if not _EVENT_ID.fullmatch(event_id):
            raise ConfigError(
                f"events.{event_id[:80]!r} is no event id: use letters, digits, '_', '-' and '.'"
            )
        if spec.kind and spec.kind not in EVENT_KINDS:
            raise ConfigError(f"events.{event_id}.kind must be one of {', '.join(sorted(EVENT_KINDS))}")
        for path, arg in spec.args.items():
            where = f"events.{event_id}.args.{path[:80]}"
            if not _PATH.fullmatch(path):
                raise ConfigError(f"{where} must be the name of an argument, or names joined by dots")
            check_bound(arg.bound, arg.type, where)
            above = path.rpartition(".")[0]
            if above and arg_at(spec.args, ARGS + above) is not None:
                raise ConfigError(f"{where} is part of one that is declared as a whole: declare its members")
