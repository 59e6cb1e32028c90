"""What a trigger's text means: the tree, and how it is written.

Grammar::

    trigger   = "on" step { link step } [ negations ] { clause }
    link      = [ negations ] "~>"        followed by: other events may come between
              | [ "->" ]                  strict: the very next event
    negations = { "!" [ "~" ] choice }    none of these may come before the step is reached
    step      = choice [ "?" | "{n}" | "{m,n}" ]
    choice    = atom | "(" atom { "|" atom } ")"
    atom      = ( "*" | enter(P) | exit(P) | page(P) | event(E) | kind(K) | NAME ) [ predicates ]
    predicates= "[" NAME operator value { "," ... } "]"
    operator  = "=" "!=" "<" "<=" ">" ">=" "startswith" "in" (value, ...) "exists" (no value)
    clause    = "within" time | "gap" time | "per" ( "device" | "visit" | "arg(" NAME ")" ) | "once" | "every"
    time      = a whole number of ms, s, min or h

A bare NAME is an event kind where there is one of that name (``click``), else an event id. Repeats of a step
are linked as the step itself is; those of the first step are strict. Negations behind the last step mean that
none of these comes until ``within``, counted from the first event, is over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Operator = Literal["=", "!=", "<", "<=", ">", ">=", "in", "startswith", "exists"]
Value = str | int | float | bool
#: Any single event; an id that no event can have.
ANY = "*"
KINDS = frozenset({"page_enter", "scroll", "exposure", "click", "page_exit", "custom"})

_TIMES = (("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1))


@dataclass(frozen=True, slots=True)
class Predicate:
    """A test on one argument of an event; ``value`` is a tuple for ``in`` and None for ``exists``."""

    name: str
    operator: Operator
    value: Value | tuple[Value, ...] | None = None

    def holds(self, args: Mapping[str, Any]) -> bool:
        """Whether ``args`` pass. A missing argument, or one of another type, passes no test, ``!=`` too."""
        if self.name not in args:
            return False
        have, want = args[self.name], self.value
        match self.operator:
            case "exists":
                return True
            case "in":
                return isinstance(want, tuple) and any(_equal(have, item) for item in want)
            case "startswith":
                return isinstance(have, str) and isinstance(want, str) and have.startswith(want)
            case "=":
                return _equal(have, want)
            case "!=":
                return _family(have) == _family(want) and have != want
            case _:
                return _family(have) == _family(want) in ("number", "text") and _ordered(
                    self.operator, have, want
                )

    def __str__(self) -> str:
        if self.operator == "exists":
            return f"{self.name} exists"
        if isinstance(self.value, tuple):
            return f"{self.name} in ({', '.join(map(_show, self.value))})"
        gap = " " if self.operator == "startswith" else ""
        return f"{self.name}{gap}{self.operator}{gap}{_show(self.value)}"


@dataclass(frozen=True, slots=True)
class Atom:
    """One event: an id (``ANY`` for every event) and tests that must all hold."""

    id: str
    predicates: tuple[Predicate, ...] = ()

    def accepts(self, args: Mapping[str, Any]) -> bool:
        """Whether an event that has the id passes the tests."""
        return all(predicate.holds(args) for predicate in self.predicates)

    def __str__(self) -> str:
        tests = f"[{', '.join(map(str, self.predicates))}]" if self.predicates else ""
        return _show_id(self.id) + tests


@dataclass(frozen=True, slots=True)
class Step:
    """One step: alternatives, how often, and how it is reached from the step before."""

    choices: tuple[Atom, ...]
    low: int = 1
    high: int = 1
    relaxed: bool = False
    absent: tuple[Atom, ...] = ()

    def __str__(self) -> str:
        text = str(self.choices[0]) if len(self.choices) == 1 else f"({'|'.join(map(str, self.choices))})"
        if (self.low, self.high) == (0, 1):
            return text + "?"
        if (self.low, self.high) == (1, 1):
            return text
        return text + (f"{{{self.low}}}" if self.low == self.high else f"{{{self.low},{self.high}}}")


@dataclass(frozen=True, slots=True)
class Sequence:
    """A whole trigger.

    Attributes:
        trailing: atoms none of which may come until ``within_ms`` is over.
        within_ms, gap_ms: milliseconds from first to last event, and between steps;
            None = no limit. Inclusive.
        per: ``device``, ``visit`` or ``arg(<name>)``.
        every: fire at each completing event; else a match starts behind the end of the last one.
    """

    steps: tuple[Step, ...]
    trailing: tuple[Atom, ...] = ()
    within_ms: int | None = None
    gap_ms: int | None = None
    per: str = "device"
    every: bool = False

    def __str__(self) -> str:
        parts = ["on", str(self.steps[0])]
        for step in self.steps[1:]:
            parts += [f"!{atom}" for atom in step.absent]
            parts += ["~>" if step.relaxed else "->", str(step)]
        parts += [f"!{atom}" for atom in self.trailing]
        for name, limit_ms in (("within", self.within_ms), ("gap", self.gap_ms)):
            if limit_ms is not None:
                parts.append(f"{name} {show_time(limit_ms)}")
        if self.per != "device":
            parts.append(f"per {self.per}")
        if self.every:
            parts.append("every")
        return " ".join(parts)


def _family(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else "other"


def _equal(have: object, want: object) -> bool:
    return _family(have) == _family(want) and have == want


def _ordered(operator: str, have: Any, want: Any) -> bool:
    match operator:
        case "<":
            return bool(have < want)
        case "<=":
            return bool(have <= want)
        case ">":
            return bool(have > want)
        case _:
            return bool(have >= want)


def _show(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _show_id(trigger_id: str) -> str:
    if trigger_id == ANY:
        return ANY
    space, name = trigger_id.split(":", 1)
    if space == "page":
        for mark, word in ((".enter", "enter"), (".exit", "exit")):
            if name.endswith(mark):
                return f"{word}({name.removesuffix(mark)})"
    return f"{space}({name})"


def show_time(limit_ms: int) -> str:
    """A time limit as a trigger's text has it."""
    unit, size = next((unit, size) for unit, size in _TIMES if limit_ms % size == 0)
    return f"{limit_ms // size}{unit}"
