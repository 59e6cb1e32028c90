"""Tree to paths: alternatives, optional steps and repeats are written out, within limits."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from walle_shared.triggers.parser import TIME_MAX_MS, TriggerError
from walle_shared.triggers.syntax import Atom, Sequence, Step

PATHS_MAX = 64
EDGES_MAX = 32
REPEATS_MAX = 8


@dataclass(frozen=True, slots=True)
class Edge:
    """One event of a path. Equal edges below one node of a trie are one edge.

    Attributes:
        relaxed: other events may come first; False: the very next event. The first edge is never relaxed.
        absent: atoms that end the match if they come first.
        gap_ms: longest time since the edge before, inclusive; None on the first edge.
    """

    atom: Atom
    relaxed: bool = False
    absent: tuple[Atom, ...] = ()
    gap_ms: int | None = None


Path = tuple[Edge, ...]


@dataclass(frozen=True, slots=True)
class Compiled:
    """A checked trigger and its paths, all different; any of them fires it."""

    sequence: Sequence
    paths: tuple[Path, ...]


def compile_trigger(sequence: Sequence) -> Compiled:
    """Check a trigger and write its paths out.

    Raises:
        TriggerError: too many paths, events or repeats; no event at all; a negation beside an optional step;
            an open-ended wait.
    """
    _check(sequence)
    count = 1
    for step in sequence.steps:
        count *= sum(len(step.choices) ** times for times in range(step.low, step.high + 1))
    if count > PATHS_MAX:
        raise TriggerError(f"the trigger has {count} paths; the limit is {PATHS_MAX}: use fewer alternatives")
    paths = dict.fromkeys(
        _path(sequence, parts) for parts in product(*(_variants(step) for step in sequence.steps))
    )
    if () in paths:
        raise TriggerError("every step is optional: at least one must be required")
    longest = max(map(len, paths))
    if longest > EDGES_MAX:
        raise TriggerError(
            f"a match would have {longest} events; the limit is {EDGES_MAX}: use fewer repeats"
        )
    return Compiled(sequence, tuple(paths))


def _check(sequence: Sequence) -> None:
    for step in sequence.steps:
        if not step.choices:
            raise TriggerError("a step needs at least one alternative")
        if not 0 <= step.low <= step.high or not 1 <= step.high <= REPEATS_MAX:
            raise TriggerError(
                f"step {step}: repeats must be {{m,n}} with m <= n and 1 <= n <= {REPEATS_MAX}"
            )
    for before, step in zip(sequence.steps, sequence.steps[1:], strict=False):
        if step.absent and before.low == 0:
            raise TriggerError(f"a negation must not come behind the optional {before}: make it required")
        if step.absent and step.low == 0:
            raise TriggerError(f"a negation must not come before the optional {step}: make it required")
    if sequence.trailing and sequence.steps[-1].low == 0:
        raise TriggerError(
            f"a negation must not come behind the optional {sequence.steps[-1]}: make it required"
        )
    for name, limit_ms in (("within", sequence.within_ms), ("gap", sequence.gap_ms)):
        if limit_ms is not None and not 0 < limit_ms <= TIME_MAX_MS:
            raise TriggerError(f"{name} must be over 0 and at most 24h")
    waits = sequence.trailing or any(step.relaxed for step in sequence.steps)
    if waits and sequence.within_ms is None:
        raise TriggerError("'~>' and a negation at the end wait for ever: add a limit such as 'within 30s'")


def _variants(step: Step) -> list[tuple[Edge, ...]]:
    edges = [Edge(atom, step.relaxed, step.absent) for atom in step.choices]
    return [part for times in range(step.low, step.high + 1) for part in product(edges, repeat=times)]


def _path(sequence: Sequence, parts: tuple[tuple[Edge, ...], ...]) -> Path:
    edges = [edge for part in parts for edge in part]
    return tuple(
        Edge(edge.atom, edge.relaxed, edge.absent, sequence.gap_ms) if at else Edge(edge.atom)
        for at, edge in enumerate(edges)
    )
