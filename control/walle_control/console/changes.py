"""What a wish for a release would do differently from the last release of its task. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import zip_longest
from typing import Any, Final

from walle_control.console.words import count, label, rate, span
from walle_control.features.releases.types import ReleaseRow, Terms
from walle_control.features.rollouts.guard import GuardSettings, RolloutPlan, RolloutStage
from walle_control.percent import percent_of

_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|\w+(?:\.\w+)*|\s+|.', re.DOTALL)
#: Settings that are parts of one.
_RATES: Final = frozenset({"max_failure_rate", "tolerance"})


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a text, and whether the other text lacks it."""

    text: str
    differs: bool


@dataclass(frozen=True, slots=True)
class Change:
    """What differs, as it was and as it would be."""

    what: str
    before: tuple[Piece, ...]
    after: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """All of a release that somebody chooses."""

    version: str
    predicate: str
    plan: RolloutPlan
    terms: Terms
    guard: GuardSettings

    @classmethod
    def of(cls, row: ReleaseRow) -> Shape:
        """Of a release that is there."""
        return cls(row.version, row.predicate, row.plan, row.terms, row.guard)


def changes(before: Shape, after: Shape) -> tuple[Change, ...]:
    """Everything that differs, each with both values; the predicate piece by piece."""
    found = [_change("version", before.version, after.version)]
    if before.predicate != after.predicate:
        found.append(Change("for devices where", *_pieces(before.predicate, after.predicate)))
    stages = zip_longest(before.plan.stages, after.plan.stages)
    found += [_change(f"stage {number}", *map(_stage, pair)) for number, pair in enumerate(stages, 1)]
    found.append(
        _change("held back", f"{percent_of(before.plan.control)} %", f"{percent_of(after.plan.control)} %")
    )
    found.append(
        _change(
            "that tell every outcome",
            f"{percent_of(before.plan.voters)} %",
            f"{percent_of(after.plan.voters)} %",
        )
    )
    found += _of_fields("", before.terms, after.terms)
    found += _of_fields("guard: ", before.guard, after.guard)
    return tuple(change for change in found if change.before != change.after)


def _of_fields(prefix: str, before: Any, after: Any) -> Iterator[Change]:
    for field in fields(before):
        values = (_said(field.name, getattr(shape, field.name)) for shape in (before, after))
        yield _change(prefix + label(field.name.removesuffix("_s")), *values)


def _said(name: str, value: Any) -> str:
    """A setting for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value or "-"
    if name.endswith("_s"):
        return f"{span(value)} ({value:g} s)" if value else "0 s"
    return rate(value) if name in _RATES else f"{value:g}"


def _stage(stage: RolloutStage | None) -> str:
    if stage is None:
        return "-"
    words = [f"{percent_of(stage.share)} %", f"{count(stage.min_devices)} devices"]
    words += [f"holds {_said('hold_s', stage.hold_s)}"] if stage.hold_s else []
    words += [f"grows within {_said('ramp_s', stage.ramp_s)}"] if stage.ramp_s else []
    return ", ".join(words)


def _change(what: str, before: str, after: str) -> Change:
    return Change(what, (Piece(before, False),), (Piece(after, False),))


def _pieces(before: str, after: str) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
    """Both texts in pieces, cut where they begin or cease to be the same."""
    old, new = _WORD.findall(before), _WORD.findall(after)
    blocks = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return (
        _marked(old, [(start, end, tag != "equal") for tag, start, end, _, _ in blocks]) or _ALL,
        _marked(new, [(start, end, tag != "equal") for tag, _, _, start, end in blocks]) or _ALL,
    )


#: The predicate that is empty.
_ALL: Final = (Piece("all devices", True),)


def _marked(words: Sequence[str], parts: list[tuple[int, int, bool]]) -> tuple[Piece, ...]:
    return tuple(Piece("".join(words[start:end]), differs) for start, end, differs in parts if start < end)
