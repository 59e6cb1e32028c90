"""The trie against a brute-force oracle that looks at every trigger at every event."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from walle_agent.streams.matcher import Matcher
from walle_shared.ids import ScenarioName, TaskName
from walle_shared.manifest import Trigger
from walle_shared.targeting.policy import TaskKey

IDS = ("event:a", "event:b", "kind:click", "kind:scroll", "page:p", "page:p.exit")


def task_key(name: str) -> TaskKey:
    return ScenarioName("demo"), TaskName(name)


@dataclass(frozen=True)
class Seen:
    seq: int
    ids: tuple[str, ...]
    aside: bool


@dataclass(frozen=True)
class Register:
    task: TaskKey
    triggers: tuple[Trigger, ...]


@dataclass(frozen=True)
class Deregister:
    task: TaskKey


Step = Seen | Register | Deregister


class Oracle:
    """Keeps the whole history and matches each trigger backwards from its end."""

    def __init__(self) -> None:
        self.history: list[Seen] = []
        self.tasks: dict[TaskKey, tuple[tuple[Trigger, ...], int]] = {}

    def register(self, task: TaskKey, triggers: tuple[Trigger, ...]) -> None:
        self.tasks[task] = (triggers, len(self.history))

    def deregister(self, task: TaskKey) -> None:
        self.tasks.pop(task, None)

    def feed(self, seen: Seen) -> set[tuple[TaskKey, Trigger, int]]:
        self.history.append(seen)
        fires = set()
        for task, (triggers, since) in self.tasks.items():
            for trigger in triggers:
                start = self._match_back(trigger.ids, len(self.history) - 1, since)
                if start is not None:
                    fires.add((task, trigger, self.history[start].seq))
                    break
        return fires

    def _match_back(self, ids: tuple[str, ...], at: int, since: int) -> int | None:
        """Latest start of a match of ``ids`` that ends exactly at ``at``."""
        if at < since or ids[-1] not in self.history[at].ids:
            return None
        if len(ids) == 1:
            return at
        before = at - 1
        while before >= since:
            start = self._match_back(ids[:-1], before, since)
            if start is not None:
                return start
            if not self.history[before].aside:
                return None
            before -= 1
        return None


triggers = st.lists(st.sampled_from(IDS), min_size=1, max_size=4).map(lambda ids: Trigger(tuple(ids)))
tasks = st.sampled_from([task_key(name) for name in "uvwx"])
registers = st.builds(Register, tasks, st.lists(triggers, min_size=1, max_size=4).map(tuple))
events = st.builds(
    Seen,
    st.just(0),
    st.lists(st.sampled_from(IDS), min_size=1, max_size=3, unique=True).map(tuple),
    st.integers(0, 9).map(lambda n: n == 0),
)
steps = st.lists(
    st.one_of(events, events, events, events, registers, st.builds(Deregister, tasks)), max_size=60
)


@settings(max_examples=1_000)
@given(st.lists(registers, min_size=1, max_size=4), steps)
def test_trie_fires_as_the_oracle_does(first: list[Register], later: list[Step]) -> None:
    matcher, oracle = Matcher(), Oracle()
    seq = 0
    for step in [*first, *later]:
        match step:
            case Register(task, listed):
                matcher.register(task, listed)
                oracle.register(task, listed)
            case Deregister(task):
                matcher.deregister(task)
                oracle.deregister(task)
            case Seen(_, ids, aside):
                seq += 1
                matches = matcher.feed(ids, seq, aside=aside)
                got = {(match.task, match.trigger, match.first_seq) for match in matches}
                assert len(got) == len(matches)
                assert got == oracle.feed(Seen(seq, ids, aside))


@given(st.lists(registers, min_size=1, max_size=12))
def test_deregistering_everything_leaves_an_empty_trie(registered: list[Register]) -> None:
    matcher = Matcher()
    for step in registered:
        matcher.register(step.task, step.triggers)
    for step in registered:
        matcher.deregister(step.task)
    statistics = matcher.statistics()
    assert (statistics.tasks, statistics.triggers, statistics.nodes) == (0, 0, 0)
