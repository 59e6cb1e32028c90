"""All triggers of all tasks in one trie, matched event by event (paper profile).

The root's children are the *static* pending list: a match may start at any event. The *dynamic* pending list
holds the nodes that the last event matched, whose children may go on; it is made anew for each event. An
event has several ids (``event:...``, ``kind:...``, ``page:...``) in spaces that never overlap, and a node
matches any of them, so one event reaches a node at most once and nothing needs to be removed twice.

Matching is consecutive: an event that continues no partial match ends it. By default no event is ignored: a
scroll between two clicks is a scroll between two clicks. Only the closings that the agent adds itself are
*asides*: they may continue a match and never end one.

A trigger never matches events from before its registration. The cost of an event is a few dictionary look-ups
per pending node, whatever the number of triggers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from walle_shared.errors import LimitExceeded
from walle_shared.limits import TRIGGER_MAX_IDS, TRIGGERS_MAX
from walle_shared.manifest import Trigger
from walle_shared.targeting.policy import TaskKey

#: Distinct id tuples whose first step is remembered; apps have a few hundred, attackers do not get more.
_STATIC_CACHE_MAX = 4_096


#: A trigger of a task, by its ids.
Watch = tuple[TaskKey, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Match:
    """One task fires: the trigger, and the first and last event of the match."""

    task: TaskKey
    trigger: Trigger
    first_seq: int
    last_seq: int


@dataclass(frozen=True, slots=True)
class MatcherStatistics:
    """What the trie holds, and counters since the start."""

    tasks: int
    triggers: int
    nodes: int
    pending: int
    events: int
    fires: int
    collapsed: int


@dataclass(slots=True, eq=False)
class _End:
    task: TaskKey
    trigger: Trigger
    rank: int  # position among its task's triggers
    since_seq: int


@dataclass(slots=True, eq=False)
class _Node:
    children: dict[str, _Node] = field(default_factory=dict)
    ends: list[_End] = field(default_factory=list)


#: Nodes of the static pending list that one tuple of ids matches: those with children, those that end.
_Static = tuple[list[_Node], list[_Node]]


class Matcher:
    """The trie and its pending lists. Pure state, no I/O."""

    def __init__(self) -> None:
        self._root = _Node()
        self._pending: list[tuple[_Node, int]] = []
        self._static: dict[tuple[str, ...], _Static] = {}
        self._tasks: dict[TaskKey, tuple[Trigger, ...]] = {}
        self._triggers = 0
        self._nodes = 0
        self._last_seq = 0
        self._events = 0
        self._fires = 0
        self._collapsed = 0

    def register(self, task: TaskKey, triggers: Sequence[Trigger]) -> None:
        """Add a task's triggers, in place of those it had; they match events from the next one on.

        Raises:
            LimitExceeded: over ``TRIGGERS_MAX`` triggers in all, or a trigger with no or too many ids.
        """
        triggers = tuple(dict.fromkeys(triggers))  # listed twice says no more than once
        kept = self._triggers - len(self._tasks.get(task, ()))
        if kept + len(triggers) > TRIGGERS_MAX:
            raise LimitExceeded(f"{kept + len(triggers)} triggers are over the limit of {TRIGGERS_MAX}")
        for trigger in triggers:
            if not 1 <= len(trigger.ids) <= TRIGGER_MAX_IDS:
                raise LimitExceeded(f"a trigger of {task[1]} must hold 1 to {TRIGGER_MAX_IDS} ids")
        self.deregister(task)
        self._tasks[task] = triggers
        self._triggers += len(triggers)
        for rank, trigger in enumerate(triggers):
            self._insert(trigger.ids).ends.append(_End(task, trigger, rank, self._last_seq + 1))
        self._static.clear()

    def deregister(self, task: TaskKey) -> None:
        """Forget a task; unknown ones are no error, so that it may be repeated."""
        triggers = self._tasks.pop(task, ())
        for trigger in triggers:
            self._remove(task, trigger.ids)
        self._triggers -= len(triggers)
        self._static.clear()

    def restore(self, since: Mapping[Watch, int], otherwise: int) -> None:
        """Let each trigger match from the event on that it was registered at; call once, before any event.

        Args:
            since: what an earlier process knew.
            otherwise: for triggers that it did not know.
        """
        for task, triggers in self._tasks.items():
            for trigger in triggers:
                for end in self._node(trigger.ids).ends:
                    if end.task == task:
                        end.since_seq = since.get((task, trigger.ids), otherwise)

    def feed(self, ids: tuple[str, ...], seq: int, *, aside: bool = False) -> list[Match]:
        """Match the next event.

        Args:
            ids: the event's ids, all different.
            seq: its number; rising.
            aside: it may continue matches but ends none.

        Returns:
            At most one match per task: that of its first listed trigger.
        """
        self._events += 1
        self._last_seq = seq
        static = self._static.get(ids)
        if static is None:
            static = self._find_static(ids)
        going_on, ending = static
        pending = [(node, seq) for node in going_on] if going_on else []
        ended = [(node, seq) for node in ending] if ending else []
        for node, first_seq in self._pending:
            children = node.children
            for key in ids:
                if key in children:
                    child = children[key]
                    if child.children:
                        pending.append((child, first_seq))
                    if child.ends:
                        ended.append((child, first_seq))
        self._pending = self._with_kept(pending) if aside else pending
        return self._fire(ended, seq) if ended else []

    def statistics(self) -> MatcherStatistics:
        """Sizes now, counters since the start; ``collapsed``: further triggers of a task that fired."""
        return MatcherStatistics(
            len(self._tasks),
            self._triggers,
            self._nodes,
            len(self._pending),
            self._events,
            self._fires,
            self._collapsed,
        )

    def _find_static(self, ids: tuple[str, ...]) -> _Static:
        children = self._root.children
        nodes = [children[key] for key in ids if key in children]
        static = ([node for node in nodes if node.children], [node for node in nodes if node.ends])
        if len(self._static) >= _STATIC_CACHE_MAX:
            self._static.clear()
        self._static[ids] = static
        return static

    def _fire(self, ended: list[tuple[_Node, int]], seq: int) -> list[Match]:
        best: dict[TaskKey, tuple[_End, int]] = {}
        for node, first_seq in ended:
            for end in node.ends:
                if first_seq < end.since_seq:
                    continue
                present = best.get(end.task)
                if present is not None:
                    self._collapsed += 1
                    if present[0].rank <= end.rank:
                        continue
                best[end.task] = (end, first_seq)
        self._fires += len(best)
        return [Match(task, end.trigger, first_seq, seq) for task, (end, first_seq) in best.items()]

    def _with_kept(self, pending: list[tuple[_Node, int]]) -> list[tuple[_Node, int]]:
        """What waited before an aside waits on; a node that was reached again counts from its later start."""
        starts = dict(self._pending)
        for node, first_seq in pending:
            starts[node] = max(first_seq, starts.get(node, 0))
        return list(starts.items())

    def _insert(self, ids: tuple[str, ...]) -> _Node:
        node = self._root
        for key in ids:
            child = node.children.get(key)
            if child is None:
                child = node.children[key] = _Node()
                self._nodes += 1
            node = child
        return node

    def _node(self, ids: tuple[str, ...]) -> _Node:
        node = self._root
        for key in ids:
            node = node.children[key]
        return node

    def _remove(self, task: TaskKey, ids: tuple[str, ...]) -> None:
        path = [self._root]
        for key in ids:
            path.append(path[-1].children[key])
        path[-1].ends = [end for end in path[-1].ends if end.task != task]
        for key, parent, node in zip(reversed(ids), reversed(path[:-1]), reversed(path[1:]), strict=True):
            if node.ends or node.children:
                break
            del parent.children[key]
            self._nodes -= 1
