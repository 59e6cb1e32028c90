"""Extended triggers through log, pipeline and store: restarts at any moment change no firing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from walle_agent.streams.event import Event, EventKind, make_event
from walle_agent.streams.flow import StreamFlow
from walle_agent.streams.pipeline import Firing
from walle_agent.streams.sequences import VisitTracker
from walle_agent.streams.storage import RunCommit, StreamStore
from walle_shared.clock import FixedClock
from walle_shared.ids import ScenarioName, TaskName
from walle_shared.manifest import Trigger
from walle_shared.targeting.policy import TaskKey

TEXTS = (
    "on a ~> b within 20s",
    "on a !c ~> b{1,2} within 15s every",
    "on enter(item) ~> exit(item) within 30s per visit",
    "on a !b within 10s",
    "on b !(a|c) within 5s every",
    "on a a b",
    "on a ~> c within 1min gap 8s per arg(n)",
    "on b[n >= 1] !a within 12s per arg(n)",
)
Fired = tuple[TaskKey, int, int, int, str, tuple[int, ...]]


@dataclass
class Device:
    """One store on disk and the flow over it; ``crash`` forgets everything that is only in memory."""

    path: Path
    clock: FixedClock
    tasks: dict[TaskKey, list[Trigger]]

    def __post_init__(self) -> None:
        self.visits = Random(1)
        self.start()

    def start(self) -> list[Firing]:
        self.store = StreamStore.open(self.path, self.clock)
        self.flow = StreamFlow(self.store, self.clock, VisitTracker(lambda: str(self.visits.random())))
        for task, triggers in self.tasks.items():
            self.flow.register(task, triggers)
        return self.flow.recover()

    def crash(self) -> list[Firing]:
        self.store._database.close()
        return self.start()

    def keep(self, firing: Firing) -> None:
        self.store.commit_run(RunCommit(firing.task, "1.0", "r", firing.last_seq))
        self.flow.dealt_with(firing.task, firing.last_seq)


def fired(firing: Firing) -> Fired:
    events = tuple(event.seq for event in firing.events)
    return firing.task, firing.first_seq, firing.end_seq, firing.last_seq, firing.key, events


def tasks_of(random: Random) -> dict[TaskKey, list[Trigger]]:
    return {
        (ScenarioName("demo"), TaskName(f"t{number}")): [
            Trigger(on=text) for text in random.sample(TEXTS, random.randint(1, 2))
        ]
        for number in range(3)
    } | {(ScenarioName("demo"), TaskName("paper")): [Trigger(("event:a", "event:b"))]}


@pytest.mark.parametrize("come_and_go", [False, True], ids=["same tasks", "tasks come and go"])
@pytest.mark.parametrize("seed", range(20))
def test_restarts_change_no_firing(tmp_path: Path, seed: int, come_and_go: bool) -> None:
    random = Random(seed)
    tasks = tasks_of(random)
    clock = FixedClock(mono_ns=10**9, wall_ms=10**12)
    steady = Device(tmp_path / "steady.db", clock, tasks)
    shaken = Device(tmp_path / "shaken.db", clock, tasks)
    wanted: list[Fired] = []
    got: dict[tuple[TaskKey, int], Fired] = {}
    owed: list[Firing] = []
    for _ in range(60):
        clock.advance(random.choice([0.1, 1.0, 3.0, 11.0]))
        kind: EventKind = random.choice(["custom", "custom", "custom", "page_enter", "page_exit"])
        name = random.choice("abc") if kind == "custom" else ""
        args = {"n": random.randint(0, 1)} if random.random() < 0.7 else {}
        page = "item" if kind == "page_enter" else ""
        batch = [make_event(kind, event_id=name, page_id=page, args=args)]
        if random.random() < 0.2:
            batch = []
        wanted += map(fired, steady.flow.accept(batch))
        owed += shaken.flow.accept(batch)
        random.shuffle(owed)
        while owed and random.random() < 0.6:
            firing = owed.pop()
            assert got.setdefault((firing.task, firing.last_seq), fired(firing)) == fired(firing)
            shaken.keep(firing)
        if come_and_go and random.random() < 0.15:
            task = random.choice([*tasks_of(random)])
            for firing in [firing for firing in owed if firing.task == task]:
                owed.remove(firing)  # a restart owes nothing to a task that is gone
                got[task, firing.last_seq] = fired(firing)
                shaken.keep(firing)
            if task in tasks:
                del tasks[task]
                steady.flow.deregister(task)
                shaken.flow.deregister(task)
            else:
                tasks[task] = tasks_of(random)[task]
                steady.flow.register(task, tasks[task])
                shaken.flow.register(task, tasks[task])
        if random.random() < 0.2:
            lost = {fired(firing) for firing in owed}
            owed = shaken.crash()
            assert {fired(firing) for firing in owed} == lost
    for firing in owed:
        got[firing.task, firing.last_seq] = fired(firing)
    assert sorted(got.values()) == sorted(wanted)
    assert len(wanted) > 5 or come_and_go
    steady.store.close()
    shaken.store.close()


def test_a_consecutive_trigger_never_sees_what_was_before_its_task(tmp_path: Path) -> None:
    """Not even if the log is read again from before, because another task still waits for its run."""
    clock = FixedClock(mono_ns=10**9, wall_ms=10**12)
    early = (ScenarioName("demo"), TaskName("early"))
    late = (ScenarioName("demo"), TaskName("late"))
    device = Device(tmp_path / "s.db", clock, {early: [Trigger(("event:a",))]})
    device.flow.accept([make_event("custom", event_id=name) for name in "abab"])
    device.tasks[late] = [Trigger(("event:a", "event:b")), Trigger(("event:b", "event:b"))]
    device.flow.register(late, device.tasks[late])
    owed = device.crash()
    assert [(firing.task, firing.last_seq) for firing in owed] == [(early, 1), (early, 3)]
    assert device.flow.accept([make_event("custom", event_id="b")]) == []  # it began before, too
    fired = device.flow.accept([make_event("custom", event_id=name) for name in "ab"])
    assert [(firing.task, firing.first_seq, firing.last_seq) for firing in fired] == [
        (early, 6, 6),
        (late, 6, 7),
    ]
    device.flow.register(late, device.tasks[late])  # a new version with the same triggers: still owed
    owed = device.crash()
    assert (late, 7) in [(firing.task, firing.last_seq) for firing in owed]
    device.flow.deregister(late)
    device.flow.register(late, device.tasks[late])
    device.flow.accept([make_event("custom", event_id="c")])
    owed = device.crash()
    assert [firing.last_seq for firing in owed if firing.task == late] == []
    device.store.close()


def logged(store: StreamStore) -> list[Event]:
    return list(store.read_log(1, 10**9))


def test_silence_is_an_event_of_the_log(tmp_path: Path) -> None:
    clock = FixedClock(mono_ns=10**9, wall_ms=10**12)
    task = (ScenarioName("demo"), TaskName("t"))
    device = Device(tmp_path / "s.db", clock, {task: [Trigger(on="on a !b within 10s")]})
    assert device.flow.accept([make_event("custom", event_id="a")]) == []
    clock.advance(10.0)
    assert device.flow.accept([]) == []
    clock.advance(0.01)
    device.crash()
    (firing,) = device.flow.accept([])
    assert [event.event_id for event in logged(device.store)] == ["a", "walle.silence"]
    assert (firing.first_seq, firing.end_seq, firing.last_seq) == (1, 1, 2)
    assert [event.event_id for event in firing.events] == ["a"]
    device.store.close()


def test_an_event_behind_the_end_of_a_silence_does_not_break_it(tmp_path: Path) -> None:
    """Even if both come in one batch, as when the agent was busy."""
    clock = FixedClock(mono_ns=10**9, wall_ms=10**12)
    task = (ScenarioName("demo"), TaskName("t"))
    device = Device(tmp_path / "s.db", clock, {task: [Trigger(on="on a !b within 10s")]})
    first = make_event("custom", event_id="a")
    stamped = [
        type(first)(e.kind, e.event_id, mono_ns=at_s * 10**9, wall_ms=10**12 + at_s * 1000)
        for e, at_s in ((first, 1), (make_event("custom", event_id="b"), 12))
    ]
    clock.advance(20.0)
    (firing,) = device.flow.accept(stamped)
    assert [event.event_id for event in logged(device.store)] == ["a", "walle.silence", "b"]
    assert firing.last_seq == 2
    device.store.close()


def test_a_snapshot_of_another_format_is_refused_and_the_log_read(tmp_path: Path) -> None:
    clock = FixedClock(mono_ns=10**9, wall_ms=10**12)
    task = (ScenarioName("demo"), TaskName("t"))
    device = Device(tmp_path / "s.db", clock, {task: [Trigger(on="on a ~> b within 10s")]})
    device.flow.accept([make_event("custom", event_id="a")])
    device.store.settle(0, 1, b'{"format": 2}')
    device.store.append([])
    device.crash()
    (firing,) = device.flow.accept([make_event("custom", event_id="b")])
    assert (firing.first_seq, firing.last_seq) == (1, 2)
    device.store.close()
