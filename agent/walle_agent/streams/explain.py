"""Why a trigger fires, or does not: its steps as a picture, and its way through a recorded stream.

The verdicts are worked out run by run from the paths of the trigger, without the matcher's trie and pending
lists; a test holds both against each other. Pure, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Literal

from walle_agent.streams.event import Event, RawEvent
from walle_agent.streams.pipeline import EventTime, event_ids
from walle_agent.streams.relaxed import key_of
from walle_agent.streams.sequences import PageSequences, VisitTracker, is_aside
from walle_shared.manifest import Trigger
from walle_shared.triggers import Atom, Compiled, Edge, Path, Step, compile_trigger, parse
from walle_shared.triggers import Sequence as TriggerSequence
from walle_shared.triggers.syntax import ANY, show_time

Outcome = Literal["fired", "waiting", "broken"]

_NEXT, _LATER = "│", "┆"


@dataclass(frozen=True, slots=True)
class Sight:
    """One event of a stream, as matching sees it."""

    seq: int
    at_ms: int
    ids: tuple[str, ...]
    visit_id: str
    args: Mapping[str, Any]
    aside: bool
    label: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One beginning of a match, and what became of it.

    Attributes:
        reached: numbers of the events that were taken as steps.
        steps: how many steps the way has that came furthest.
        why: one sentence; for ``fired``, when.
    """

    outcome: Outcome
    key: str
    reached: tuple[int, ...]
    steps: int
    why: str


@dataclass(frozen=True, slots=True)
class _Walk:
    """One path from one event: the sights taken, and what ended it (nothing: the path is done)."""

    path: Path
    taken: tuple[Sight, ...]
    ended: str | None = None
    waiting: bool = False


def compiled(trigger: Trigger) -> Compiled:
    """A trigger of a task file; one of the paper profile as the same thing said in the extended one."""
    if trigger.on:
        return compile_trigger(parse(trigger.on))
    return compile_trigger(TriggerSequence(tuple(Step((Atom(i),)) for i in trigger.ids), every=True))


def draw(trigger: Compiled) -> str:
    """The trigger as a chain of steps, top to bottom: ``│`` the very next event, ``┆`` a later one."""
    sequence = trigger.sequence
    lines = ["○ start"]
    for number, step in enumerate(sequence.steps, 1):
        bar = _LATER if step.relaxed else _NEXT
        notes = ["other events may come between"] if step.relaxed else []
        if number > 1 and sequence.gap_ms is not None:
            notes.append(f"at most {show_time(sequence.gap_ms)} after the step before")
        lines += [f"{bar} {'; '.join(notes)}".rstrip()]
        lines += [f"{bar} ✗ ends if {atom} comes first" for atom in step.absent]
        lines.append(f"{number} {_described(step)}")
    if sequence.trailing:
        lines.append(f"{_LATER} silence until {show_time(sequence.within_ms or 0)} after the first event")
        lines += [f"{_LATER} ✗ ends if {atom} comes" for atom in sequence.trailing]
    lines += [_NEXT, f"● fires {_clauses(sequence)}"]
    return "\n".join(lines)


def sights_of(raw: Iterable[RawEvent]) -> Iterator[Sight]:
    """A recorded stream as the log would keep it: with visits, and with the closings that the agent adds.

    Events without a time of their own come at the time of the one before.
    """
    ids = count(1)
    tracker, pages, time = VisitTracker(lambda: str(next(ids))), PageSequences(), EventTime()
    seq, wall_ms = 0, 1
    for incoming in raw:
        wall_ms = max(incoming.wall_ms, wall_ms)
        stamped = replace(incoming, wall_ms=wall_ms, mono_ns=wall_ms * 1_000_000)
        for r in tracker.complete(stamped):
            seq += 1
            event = Event(seq, r.kind, r.event_id, r.page_id, r.visit_id, r.wall_ms, r.mono_ns, r.args)
            closed = pages.feed(event) is not None
            yield Sight(
                seq,
                time.advance(event.mono_ns, event.wall_ms),
                event_ids(event, closed=closed),
                event.visit_id,
                event.args,
                is_aside(event),
                _label(event),
            )


def explain(trigger: Compiled, stream: Sequence[Sight]) -> list[Attempt]:
    """What became of each event that a match could begin with, in order."""
    by_key: dict[str, list[Sight]] = {}
    for sight in stream:
        key = key_of(trigger.sequence.per, sight.visit_id, sight.args)
        if key is not None:
            by_key.setdefault(key, []).append(sight)
    now_ms = stream[-1].at_ms if stream else 0
    attempts = [attempt for key, own in by_key.items() for attempt in _attempts(trigger, key, own, now_ms)]
    return sorted(attempts, key=lambda attempt: attempt.reached)


def _attempts(trigger: Compiled, key: str, own: list[Sight], now_ms: int) -> list[Attempt]:
    walks = [
        walk
        for start, sight in enumerate(own)
        if any(_hits(path[0].atom, sight) for path in trigger.paths)
        for walk in _telling([_walk(trigger, path, own, start) for path in trigger.paths])
    ]
    latest = {walk.taken[-1].seq: walk for walk in walks if walk.ended is None}  # later starts win
    judged: dict[int, tuple[Outcome, str]] = {}
    fired_to = 0
    for walk in sorted(latest.values(), key=lambda walk: _order(trigger, walk)):
        last_seq = walk.taken[-1].seq
        outcome, why = _verdict(trigger, walk, own, now_ms)
        if outcome == "fired" and not trigger.sequence.every:
            if walk.taken[0].seq <= fired_to:
                outcome, why = (
                    "broken",
                    f"it overlaps the match that ended at #{fired_to}; 'every' would fire",
                )
            else:
                fired_to = last_seq
        judged[last_seq] = outcome, why
    return [_attempt(key, walk, latest, judged) for walk in walks]


def _attempt(
    key: str, walk: _Walk, latest: Mapping[int, _Walk], judged: Mapping[int, tuple[Outcome, str]]
) -> Attempt:
    reached = tuple(sight.seq for sight in walk.taken)
    if walk.ended is not None:
        return Attempt("waiting" if walk.waiting else "broken", key, reached, len(walk.path), walk.ended)
    winner = latest[reached[-1]].taken[0].seq
    if winner != reached[0]:
        why = f"the match that begins at #{winner} ends at the same event, and fires for both"
        return Attempt("broken", key, reached, len(walk.path), why)
    outcome, why = judged[reached[-1]]
    return Attempt(outcome, key, reached, len(walk.path), why)


def _walk(trigger: Compiled, path: Path, own: list[Sight], start: int) -> _Walk:
    if not _hits(path[0].atom, own[start]):
        return _Walk(path, (), "it does not begin so")
    taken = [own[start]]
    for sight in own[start + 1 :]:
        if len(taken) == len(path):
            break
        ended = _step(trigger, path[len(taken)], taken, sight)
        if ended:
            return _Walk(path, tuple(taken), ended)
    if len(taken) < len(path):
        missing = f"the stream ends while it waits for {path[len(taken)].atom}"
        return _Walk(path, tuple(taken), missing, waiting=True)
    within_ms = trigger.sequence.within_ms
    took_ms = taken[-1].at_ms - taken[0].at_ms
    if within_ms is not None and took_ms > within_ms:
        return _Walk(path, tuple(taken), f"it took {_took(took_ms)}, more than {show_time(within_ms)}")
    return _Walk(path, tuple(taken))


def _step(trigger: Compiled, edge: Edge, taken: list[Sight], sight: Sight) -> str | None:
    """Go on with an event, or say why that is over."""
    within_ms = trigger.sequence.within_ms
    waited_ms = sight.at_ms - taken[0].at_ms
    if within_ms is not None and waited_ms > within_ms and not _hits(edge.atom, sight):
        return f"{show_time(within_ms)} were over before {edge.atom} came"
    if _hits(edge.atom, sight):
        pause_ms = sight.at_ms - taken[-1].at_ms
        if edge.gap_ms is not None and pause_ms > edge.gap_ms:
            return f"{sight.label} came {_took(pause_ms)} after the step before, later than the gap allows"
        taken.append(sight)
        return None
    if any(_hits(atom, sight) for atom in edge.absent):
        return f"{sight.label} came before {edge.atom}"
    if not edge.relaxed and not sight.aside:
        return f"the very next event had to be {edge.atom}; it was {sight.label}"
    return None


def _verdict(trigger: Compiled, walk: _Walk, own: list[Sight], now_ms: int) -> tuple[Outcome, str]:
    first, last = walk.taken[0], walk.taken[-1]
    if not trigger.sequence.trailing:
        took = f"at {last.label}, {_took(last.at_ms - first.at_ms)} after its first event"
        return "fired", took if last is not first else "at once"
    limit_ms = trigger.sequence.within_ms or 0
    for sight in own:
        hit = any(_hits(atom, sight) for atom in trigger.sequence.trailing)
        if sight.seq > last.seq and hit and sight.at_ms - first.at_ms <= limit_ms:
            return "broken", f"{sight.label} broke the silence"
    if now_ms - first.at_ms > limit_ms:
        return "fired", f"by silence, {show_time(limit_ms)} after its first event"
    return "waiting", "the stream ends before the silence is over"


def _order(trigger: Compiled, walk: _Walk) -> tuple[int, int]:
    first, last = walk.taken[0], walk.taken[-1]
    return (first.at_ms, last.seq) if trigger.sequence.trailing else (last.seq, first.seq)


def _telling(walks: list[_Walk]) -> list[_Walk]:
    """Of one beginning: the ways that were gone to their ends, or else the one that came furthest."""
    done = {walk.taken[-1].seq: walk for walk in walks if walk.ended is None}
    return list(done.values()) or [max(walks, key=lambda w: (w.waiting, len(w.taken), -len(w.path)))]


def _hits(atom: Atom, sight: Sight) -> bool:
    return (atom.id == ANY or atom.id in sight.ids) and atom.accepts(sight.args)


def _label(event: Event) -> str:
    name = event.kind if event.event_id == event.kind else f"{event.kind} {event.event_id}"
    return f"#{event.seq} {name}" + (f" on {event.page_id}" if event.page_id else "")


def _described(step: Step) -> str:
    plain = replace(step, low=1, high=1)
    if (step.low, step.high) == (1, 1):
        return str(plain)
    if step.high == 1:
        return f"{plain}  (may be missing)"
    times = f"{step.low}" if step.low == step.high else f"{step.low} to {step.high}"
    return f"{plain}  ({times} times)"


def _clauses(sequence: TriggerSequence) -> str:
    words = ["at every match" if sequence.every else "once; the next match begins behind it"]
    if sequence.within_ms is not None and not sequence.trailing:
        words.append(f"within {show_time(sequence.within_ms)} of the first event")
    if sequence.per != "device":
        words.append(f"for each {sequence.per} apart")
    return "; ".join(words)


def _took(ms: int) -> str:
    return f"{ms / 1_000:g}s"
