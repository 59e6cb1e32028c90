"""Matching of extended triggers: gaps, negation, time limits, keys, timers.

Per ``per`` clause there is one trie of edges, and per key one state. Each trie edge (that is, the node it
leads to) has at most one run waiting for it: that with the latest start. All runs at an edge advance or die
at the same event, and a later start, and a later last step, pass every time limit that an earlier one
passes, so nothing is lost, and what waits is bounded by the trie. Relaxed edges are found by the id they
wait for: an event touches only the nodes that wait for one of its ids.

An event that completes a step is consumed by it: it is not also tested as a negation of that step. Time
never runs backwards: an event with an earlier time counts as of the latest time seen.

A silence is over when time says so, and nothing is said by time alone: ``due`` names the silences that are
over, and ``end_silence`` fires one. Whoever keeps a log writes each into it first, so that the log alone
decides what fired.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

from walle_agent.streams.snapshot import MatcherSnapshot, SavedEnd, SavedRun, SavedState, SavedWait, edge_text
from walle_shared.errors import LimitExceeded
from walle_shared.ids import ScenarioName, TaskName
from walle_shared.limits import TRIGGERS_MAX
from walle_shared.targeting.policy import TaskKey
from walle_shared.triggers import Atom, Compiled, Edge
from walle_shared.triggers.syntax import ANY

#: Keys (visits, values of an argument) with a state of their own, per ``per`` clause.
KEYS_MAX = 256
#: Edges with a run waiting, per key.
PENDING_MAX = 10_000


@dataclass(frozen=True, slots=True)
class RelaxedMatch:
    """One task fires.

    Attributes:
        rank: the trigger's position among its task's.
        first_seq, last_seq: first and last event of the match.
        key: the visit or argument matched in; empty for ``per device``.
    """

    task: TaskKey
    rank: int
    first_seq: int
    last_seq: int
    key: str


@dataclass(frozen=True, slots=True)
class Silence:
    """A wait for nothing that is over: of which trigger (its text), in which key, since which last step."""

    task: TaskKey
    trigger: str
    key: str
    last_seq: int


@dataclass(frozen=True, slots=True)
class RelaxedStatistics:
    """Sizes now, and counters since the start."""

    triggers: int
    nodes: int
    keys: int
    pending: int
    silences: int
    fires: int
    collapsed: int
    keys_evicted: int
    pending_dropped: int


class _Run(NamedTuple):
    first_seq: int
    first_ms: int
    last_ms: int


@dataclass(slots=True, eq=False)
class _End:
    task: TaskKey
    rank: int
    since_seq: int
    trigger: Compiled

    @property
    def text(self) -> str:
        return str(self.trigger.sequence)

    @property
    def within_ms(self) -> int:
        return self.trigger.sequence.within_ms or 0


@dataclass(slots=True, eq=False)
class _Node:
    edge: Edge
    parent: _Node | None
    children: dict[Edge, _Node] = field(default_factory=dict)
    ends: dict[_End, None] = field(default_factory=dict)

    @property
    def path(self) -> tuple[str, ...]:
        """The edges that lead here, as text."""
        above = self.parent.path if self.parent is not None else ()
        return (*above, edge_text(self.edge))


_Waiting = dict[str, dict[_Node, _Run]]


@dataclass(slots=True, eq=False)
class _State:
    """Of one key: ``relaxed`` by awaited id, ``blocked`` by ids of negations; ``strict`` lives one event."""

    strict: dict[_Node, _Run] = field(default_factory=dict)
    relaxed: _Waiting = field(default_factory=dict)
    blocked: dict[str, dict[_Node, None]] = field(default_factory=dict)
    pending: int = 0
    # Last event of each end's last fire, and what waits for silence: last event -> the run that ended there.
    fired: dict[_End, int] = field(default_factory=dict)
    silences: dict[_End, dict[int, _Run]] = field(default_factory=dict)

    def wait(self, node: _Node, run: _Run) -> None:
        if not node.edge.relaxed:
            self.strict[node] = run
            return
        waiting = self.relaxed.setdefault(node.edge.atom.id, {})
        if waiting.pop(node, None) is None:  # popped, so that dict order is order of arrival
            self.pending += 1
        waiting[node] = run
        for atom in node.edge.absent:
            self.blocked.setdefault(atom.id, {})[node] = None

    def forget(self, node: _Node) -> None:
        """Drop a relaxed wait, if there is one."""
        waiting = self.relaxed.get(node.edge.atom.id, {})
        if waiting.pop(node, None) is None:
            return
        self.pending -= 1
        if not waiting:
            del self.relaxed[node.edge.atom.id]
        for atom in node.edge.absent:
            blocked = self.blocked.get(atom.id, {})
            blocked.pop(node, None)
            if not blocked:
                self.blocked.pop(atom.id, None)


@dataclass(slots=True, eq=False)
class _Group:
    """All triggers of one ``per`` clause."""

    per: str
    roots: dict[str, dict[Edge, _Node]] = field(default_factory=dict)  # by the first edge's id
    states: OrderedDict[str, _State] = field(default_factory=OrderedDict)
    triggers: int = 0


class RelaxedMatcher:
    """Tries, states and timers of all extended triggers. Pure state, no I/O."""

    def __init__(self, *, keys_max: int = KEYS_MAX, pending_max: int = PENDING_MAX) -> None:
        self._keys_max = keys_max
        self._pending_max = pending_max
        self._groups: dict[str, _Group] = {}
        self._tasks: dict[TaskKey, list[_End]] = {}
        self._triggers = 0
        self._trailing: dict[_End, None] = {}  # those that fire for a silence
        self._now_ms = 0
        self._last_seq = 0
        self._nodes = 0
        self._fires = 0
        self._collapsed = 0
        self._keys_evicted = 0
        self._pending_dropped = 0

    def register(self, task: TaskKey, triggers: Mapping[int, Compiled]) -> None:
        """Add a task's triggers by rank, in place of those it had; they match events from the next one on.

        Raises:
            LimitExceeded: over ``TRIGGERS_MAX`` triggers in all.
        """
        kept = self._triggers - len(self._tasks.get(task, ()))
        if kept + len(triggers) > TRIGGERS_MAX:
            raise LimitExceeded(f"{kept + len(triggers)} triggers are over the limit of {TRIGGERS_MAX}")
        self.deregister(task)
        ends = [_End(task, rank, self._last_seq + 1, trigger) for rank, trigger in triggers.items()]
        for end in ends:
            self._insert(end)
            if end.trigger.sequence.trailing:
                self._trailing[end] = None
        if ends:
            self._tasks[task] = ends
            self._triggers += len(ends)

    def deregister(self, task: TaskKey) -> None:
        """Forget a task and all that waits for it; unknown ones are no error."""
        ends = self._tasks.pop(task, ())
        self._triggers -= len(ends)
        for end in ends:
            self._trailing.pop(end, None)
            self._remove(end)

    def feed(
        self,
        ids: tuple[str, ...],
        seq: int,
        at_ms: int,
        *,
        visit_id: str = "",
        args: Mapping[str, Any] | None = None,
        aside: bool = False,
    ) -> list[RelaxedMatch]:
        """Match the next event.

        Args:
            ids: the event's ids, all different.
            seq: its number; rising.
            at_ms: its time.
            visit_id, args: for ``per`` and predicates; without its key, a ``per`` trigger sees no event.
            aside: it breaks no strict step.

        Returns:
            At most one match per task and last event: that of the lowest rank.
        """
        args = args or {}
        self._now_ms = max(at_ms, self._now_ms)
        self._last_seq = seq
        fired: list[RelaxedMatch] = []
        for group in self._groups.values():
            key = key_of(group.per, visit_id, args)
            if key is not None:
                state = self._state(group, key)
                fired += self._feed_state(group, state, key, (*ids, ANY), args, seq, aside)
        return self._collapse(fired) if fired else fired

    def due(self, now_ms: int) -> list[Silence]:
        """The silences that are over at ``now_ms``, in the order in which they should end."""
        over = [
            (run.first_ms, seq, Silence(end.task, end.text, key, seq))
            for end, key, seq, run in self._silences()
            if now_ms - run.first_ms > end.within_ms
        ]
        return [silence for _, _, silence in sorted(over, key=lambda item: item[:2])]

    def end_silence(self, silence: Silence, seq: int) -> RelaxedMatch | None:
        """Fire for a silence of ``due``, as event ``seq``; None if that is not its turn any more.

        It is not, if its task is gone, or if it began before the end of another match of a ``once`` trigger.
        """
        self._last_seq = seq
        for end in self._tasks.get(silence.task, ()):
            group = self._groups[end.trigger.sequence.per]
            state = group.states.get(silence.key)
            if end.text != silence.trigger or state is None:
                continue
            runs = state.silences.get(end, {})
            run = runs.pop(silence.last_seq, None)
            if not runs:
                state.silences.pop(end, None)
            if run is not None:
                fired = self._fire(state, silence.key, end, run.first_seq, silence.last_seq)
                self._fires += len(fired)
                return fired[0] if fired else None
        return None

    def quiet_until_ms(self, now_ms: int) -> float:
        """No silence can be over before or at this time, if no event is fed before ``now_ms``."""
        waiting = min((run.first_ms + end.within_ms for end, _, _, run in self._silences()), default=math.inf)
        if not self._trailing:
            return waiting
        return min(waiting, now_ms + min(end.within_ms for end in self._trailing))

    def oldest_seq(self) -> int | None:
        """First event of the oldest match in the making that can still fire; a restart reads from there."""
        return min((run.first_seq for run in self._live_runs()), default=None)

    def snapshot(self) -> MatcherSnapshot:
        """What is known now, to be given to ``restore`` after a restart."""
        ends = list(chain.from_iterable(self._tasks.values()))
        return MatcherSnapshot(
            self._last_seq,
            self._now_ms,
            tuple(_saved_end(end, end.since_seq) for end in ends),
            tuple(
                _saved_state(group, key, state)
                for group in self._groups.values()
                for key, state in group.states.items()
            ),
        )

    def restore(self, snapshot: MatcherSnapshot) -> None:
        """Take over what still has a home here; call once, when the tasks are registered.

        Triggers that the snapshot does not know watch from the next event on.
        """
        self._now_ms, self._last_seq = snapshot.now_ms, snapshot.last_seq
        ends = {(end.task, end.text): end for end in chain.from_iterable(self._tasks.values())}
        since = {(saved.scenario, saved.task, saved.trigger): saved.seq for saved in snapshot.since}
        for (task, text), end in ends.items():
            end.since_seq = since.get((*task, text), snapshot.last_seq + 1)
        nodes = {per: _nodes_by_path(group) for per, group in self._groups.items()}
        for saved in snapshot.states:
            group = self._groups.get(saved.per)
            if group is not None:
                group.states[saved.key] = _restored(saved, nodes[saved.per], ends)

    def watch_from(self, seq: int) -> None:
        """Let no trigger match events before ``seq``: for a log that nobody has a snapshot of."""
        for end in chain.from_iterable(self._tasks.values()):
            end.since_seq = max(end.since_seq, seq)

    def statistics(self) -> RelaxedStatistics:
        """Sizes and counters; ``collapsed``: fires that gave way to another of their task."""
        states = [state for group in self._groups.values() for state in group.states.values()]
        return RelaxedStatistics(
            triggers=self._triggers,
            nodes=self._nodes,
            keys=len(states),
            pending=sum(state.pending + len(state.strict) for state in states),
            silences=sum(1 for _ in self._silences()),
            fires=self._fires,
            collapsed=self._collapsed,
            keys_evicted=self._keys_evicted,
            pending_dropped=self._pending_dropped,
        )

    def _feed_state(
        self,
        group: _Group,
        state: _State,
        key: str,
        ids: tuple[str, ...],
        args: Mapping[str, Any],
        seq: int,
        aside: bool,
    ) -> list[RelaxedMatch]:
        advanced = self._advance(state, ids, args, aside)
        self._break_silences(state, ids, args)
        start = _Run(seq, self._now_ms, self._now_ms)
        for first_id in ids:
            for node in group.roots.get(first_id, {}).values():
                if node.edge.atom.accepts(args):
                    advanced.append((node, start))
        ended: dict[_End, _Run] = {}
        for node, run in advanced:
            moved = run._replace(last_ms=self._now_ms)
            for child in node.children.values():
                state.wait(child, moved)
            for end in node.ends:
                if end not in ended or ended[end].first_seq < run.first_seq:
                    ended[end] = moved
        self._drop_over(state)
        return self._end(state, key, ended, seq)

    def _advance(
        self, state: _State, ids: tuple[str, ...], args: Mapping[str, Any], aside: bool
    ) -> list[tuple[_Node, _Run]]:
        """Take out the runs whose step this event is, and those that it ends."""
        reached: list[tuple[_Node, _Run]] = []
        kept: dict[_Node, _Run] = {}
        for node, run in state.strict.items():
            if node.edge.atom.id in ids and node.edge.atom.accepts(args):
                reached.append((node, run))
            elif aside:
                kept[node] = run
        state.strict = kept
        for awaited in ids:
            for node, run in list(state.relaxed.get(awaited, {}).items()):
                if node.edge.atom.accepts(args):
                    state.forget(node)
                    reached.append((node, run))
        for barrier in ids:
            for node in list(state.blocked.get(barrier, ())):
                if _hit(node.edge.absent, barrier, args):
                    state.forget(node)
        return [
            (node, run)
            for node, run in reached
            if node.edge.gap_ms is None or self._now_ms - run.last_ms <= node.edge.gap_ms
        ]

    def _end(self, state: _State, key: str, ended: dict[_End, _Run], seq: int) -> list[RelaxedMatch]:
        fired: list[RelaxedMatch] = []
        for end, run in ended.items():
            sequence = end.trigger.sequence
            over = sequence.within_ms is not None and self._now_ms - run.first_ms > sequence.within_ms
            if run.first_seq < end.since_seq or over:
                continue
            if sequence.trailing:
                state.silences.setdefault(end, {})[seq] = run
            else:
                fired += self._fire(state, key, end, run.first_seq, seq)
        return fired

    def _fire(self, state: _State, key: str, end: _End, first_seq: int, last_seq: int) -> list[RelaxedMatch]:
        if not end.trigger.sequence.every:
            if first_seq <= state.fired.get(end, 0):
                return []
            state.fired[end] = last_seq
        return [RelaxedMatch(end.task, end.rank, first_seq, last_seq, key)]

    def _silences(self) -> Iterator[tuple[_End, str, int, _Run]]:
        for end in self._trailing:
            for key, state in self._groups[end.trigger.sequence.per].states.items():
                for seq, run in state.silences.get(end, {}).items():
                    yield end, key, seq, run

    def _break_silences(self, state: _State, ids: tuple[str, ...], args: Mapping[str, Any]) -> None:
        """An event that had to stay away came; silences that were over before it stay."""
        for end in list(state.silences):
            if any(_hit(end.trigger.sequence.trailing, event_id, args) for event_id in ids):
                kept = {
                    seq: run
                    for seq, run in state.silences[end].items()
                    if self._now_ms - run.first_ms > end.within_ms
                }
                if kept:
                    state.silences[end] = kept
                else:
                    del state.silences[end]

    def _collapse(self, fired: list[RelaxedMatch]) -> list[RelaxedMatch]:
        best: dict[tuple[TaskKey, int], RelaxedMatch] = {}
        for match in fired:
            present = best.setdefault((match.task, match.last_seq), match)
            if match.rank < present.rank:
                best[match.task, match.last_seq] = match
        self._fires += len(best)
        self._collapsed += len(fired) - len(best)
        return list(best.values())

    def _drop_over(self, state: _State) -> None:
        """Keep a key's waits within the cap: the oldest starts go."""
        over = state.pending - self._pending_max
        if over <= 0:
            return
        runs = [(run.first_seq, node) for waiting in state.relaxed.values() for node, run in waiting.items()]
        for _, node in sorted(runs, key=lambda item: item[0])[:over]:
            state.forget(node)
        self._pending_dropped += over

    def _state(self, group: _Group, key: str) -> _State:
        state = group.states.get(key)
        if state is None:
            state = group.states[key] = _State()
            if len(group.states) > self._keys_max:
                group.states.popitem(last=False)
                self._keys_evicted += 1
        group.states.move_to_end(key)
        return state

    def _live_runs(self) -> Iterable[_Run]:
        for group in self._groups.values():
            for state in group.states.values():
                yield from state.strict.values()
                for waiting in state.relaxed.values():
                    for node, run in waiting.items():
                        if self._now_ms - run.first_ms <= _horizon_ms(node):
                            yield run
                for runs in state.silences.values():
                    yield from runs.values()

    def _insert(self, end: _End) -> None:
        group = self._groups.setdefault(end.trigger.sequence.per, _Group(end.trigger.sequence.per))
        group.triggers += 1
        for path in end.trigger.paths:
            children = group.roots.setdefault(path[0].atom.id, {})
            node: _Node | None = None
            for edge in path:
                node = self._child(children, edge, node)
                children = node.children
            if node is not None:
                node.ends[end] = None

    def _child(self, children: dict[Edge, _Node], edge: Edge, parent: _Node | None) -> _Node:
        node = children.get(edge)
        if node is None:
            node = children[edge] = _Node(edge, parent)
            self._nodes += 1
        return node

    def _remove(self, end: _End) -> None:
        group = self._groups[end.trigger.sequence.per]
        group.triggers -= 1
        for state in group.states.values():
            state.fired.pop(end, None)
            state.silences.pop(end, None)
        for path in end.trigger.paths:
            self._remove_path(group, end, path)
        if not group.triggers:
            del self._groups[group.per]

    def _remove_path(self, group: _Group, end: _End, path: tuple[Edge, ...]) -> None:
        places: list[tuple[dict[Edge, _Node], _Node]] = []
        children = group.roots[path[0].atom.id]
        for edge in path:
            places.append((children, children[edge]))
            children = children[edge].children
        places[-1][1].ends.pop(end, None)
        for children, node in reversed(places):
            if node.ends or node.children:
                break
            del children[node.edge]
            self._nodes -= 1
            for state in group.states.values():
                state.strict.pop(node, None)
                state.forget(node)
        if not group.roots[path[0].atom.id]:
            del group.roots[path[0].atom.id]


def _hit(atoms: tuple[Atom, ...], event_id: str, args: Mapping[str, Any]) -> bool:
    return any(atom.id == event_id and atom.accepts(args) for atom in atoms)


def key_of(per: str, visit_id: str, args: Mapping[str, Any]) -> str | None:
    """The key an event belongs to under a ``per`` clause; None: to none."""
    if per == "device":
        return ""
    if per == "visit":
        return visit_id or None
    value = args.get(per.removeprefix("arg(").removesuffix(")"))
    if isinstance(value, str | int | float):
        return f"{type(value).__name__}:{value}"
    return None


def _horizon_ms(node: _Node) -> int:
    """Longest ``within`` of the triggers below a relaxed edge; all of them have one."""
    limits = [end.trigger.sequence.within_ms or 0 for end in node.ends]
    return max([*limits, *map(_horizon_ms, node.children.values())], default=0)


def _saved_end(end: _End, seq: int, run: _Run | None = None) -> SavedEnd:
    return SavedEnd(
        *end.task, end.text, seq, None if run is None else SavedRun(run.first_seq, run.first_ms, run.last_ms)
    )


def _saved_state(group: _Group, key: str, state: _State) -> SavedState:
    waits = [state.strict.items(), *(waiting.items() for waiting in state.relaxed.values())]
    return SavedState(
        group.per,
        key,
        tuple(
            SavedWait(node.path, SavedRun(run.first_seq, run.first_ms, run.last_ms))
            for node, run in chain.from_iterable(waits)
        ),
        tuple(_saved_end(end, seq) for end, seq in state.fired.items()),
        tuple(_saved_end(end, seq, run) for end, runs in state.silences.items() for seq, run in runs.items()),
    )


def _restored(
    saved: SavedState, nodes: Mapping[tuple[str, ...], _Node], ends: Mapping[tuple[TaskKey, str], _End]
) -> _State:
    state = _State()
    for wait in saved.waits:
        node = nodes.get(wait.path)
        if node is not None:
            state.wait(node, _run(wait.run))
    for fired in saved.fired:
        if end := ends.get(_end_name(fired)):
            state.fired[end] = fired.seq
    for silence in saved.silences:
        if silence.run is not None and (end := ends.get(_end_name(silence))):
            state.silences.setdefault(end, {})[silence.seq] = _run(silence.run)
    return state


def _run(saved: SavedRun) -> _Run:
    return _Run(saved.first_seq, saved.first_ms, saved.last_ms)


def _end_name(saved: SavedEnd) -> tuple[TaskKey, str]:
    return (ScenarioName(saved.scenario), TaskName(saved.task)), saved.trigger


def _nodes_by_path(group: _Group) -> dict[tuple[str, ...], _Node]:
    """Every node of a trie by the edges that lead to it."""
    nodes = list(chain.from_iterable(children.values() for children in group.roots.values()))
    for node in nodes:  # grows on the way
        nodes += node.children.values()
    return {node.path: node for node in nodes}
