"""Triggers written in Python; equal to the text form, which ``str`` gives.

enter("item").then(kind("click")).times(1, 3).unless(exit_("item")).then(enter("order")).within(30_000)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from walle_shared.triggers.compiler import Compiled, compile_trigger
from walle_shared.triggers.syntax import Atom, Predicate, Sequence, Step


@dataclass(frozen=True, slots=True)
class Builder:
    """A trigger in the making. Immutable: each call returns a new one."""

    sequence: Sequence

    def next(self, other: Builder) -> Builder:
        """The very next event is ``other``'s step."""
        return self._append(other, relaxed=False)

    def then(self, other: Builder) -> Builder:
        """``other``'s step comes later; other events may come between."""
        return self._append(other, relaxed=True)

    def unless(self, *others: Builder) -> Builder:
        """None of these comes before the next ``then``, or, at the end, before ``within`` is over."""
        atoms = tuple(atom for other in others for atom in other.sequence.steps[0].choices)
        return Builder(replace(self.sequence, trailing=self.sequence.trailing + atoms))

    def where(self, *tests: Predicate) -> Builder:
        """Add tests on the last step's arguments."""
        choices = tuple(Atom(atom.id, atom.predicates + tests) for atom in self._last.choices)
        return self._with_last(replace(self._last, choices=choices))

    def times(self, low: int, high: int | None = None) -> Builder:
        """Repeat the last step ``low`` to ``high`` times."""
        return self._with_last(replace(self._last, low=low, high=low if high is None else high))

    def optional(self) -> Builder:
        """The last step may be missing."""
        return self.times(0, 1)

    def __or__(self, other: Builder) -> Builder:
        """Either of two single steps."""
        choices = dict.fromkeys(self._last.choices + other.sequence.steps[0].choices)
        return self._with_last(replace(self._last, choices=tuple(choices)))

    def within(self, limit_ms: int) -> Builder:
        """Longest time from first to last event, milliseconds."""
        return Builder(replace(self.sequence, within_ms=limit_ms))

    def gap(self, limit_ms: int) -> Builder:
        """Longest time from step to step, milliseconds."""
        return Builder(replace(self.sequence, gap_ms=limit_ms))

    def per(self, key: str) -> Builder:
        """Match apart for each ``device``, ``visit`` or ``arg(name)``."""
        return Builder(replace(self.sequence, per=key))

    def every(self) -> Builder:
        """Fire at each completing event, not only for matches that begin behind the last one."""
        return Builder(replace(self.sequence, every=True))

    def compile(self) -> Compiled:
        """Check it; see ``compile_trigger``."""
        return compile_trigger(self.sequence)

    def __str__(self) -> str:
        return str(self.sequence)

    @property
    def _last(self) -> Step:
        return self.sequence.steps[-1]

    def _with_last(self, last: Step) -> Builder:
        return Builder(replace(self.sequence, steps=(*self.sequence.steps[:-1], last)))

    def _append(self, other: Builder, *, relaxed: bool) -> Builder:
        first, *rest = other.sequence.steps
        linked = replace(first, relaxed=relaxed, absent=self.sequence.trailing)
        steps = (*self.sequence.steps, linked, *rest)
        return Builder(replace(self.sequence, steps=steps, trailing=other.sequence.trailing))


def step(trigger_id: str) -> Builder:
    """One event by its id, such as ``event:add_cart``, or ``*`` for any."""
    return Builder(Sequence((Step((Atom(trigger_id),)),)))


def enter(page_id: str) -> Builder:
    """A page is entered."""
    return step(f"page:{page_id}.enter")


def exit_(page_id: str) -> Builder:
    """A page visit closed, for whatever reason."""
    return step(f"page:{page_id}.exit")


def page(page_id: str) -> Builder:
    """Any event on a page."""
    return step(f"page:{page_id}")


def event(event_id: str) -> Builder:
    """An event id."""
    return step(f"event:{event_id}")


def kind(name: str) -> Builder:
    """An event kind."""
    return step(f"kind:{name}")
