"""Clocks that jump, agents that die and machines that restart: what fires does not depend on it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from walle_agent.streams.event import RawEvent, make_event
from walle_agent.streams.flow import StreamFlow
from walle_agent.streams.pipeline import Firing
from walle_agent.streams.sequences import VisitTracker
from walle_agent.streams.storage import RunCommit, StreamStore
from walle_shared.ids import ScenarioName, TaskName
from walle_shared.manifest import Prepare, Trigger, WindowSpec
from walle_shared.targeting.policy import TaskKey

VISITS: TaskKey = (ScenarioName("demo"), TaskName("visits"))
PAIRS: TaskKey = (ScenarioName("demo"), TaskName("pairs"))
SUMS: TaskKey = (ScenarioName("demo"), TaskName("sums"))
TRIGGERS: dict[TaskKey, list[Trigger]] = {
    VISITS: [Trigger(("page:item.exit",))],
    PAIRS: [Trigger(on="on a ~> b within 20s"), Trigger(on="on b !a within 10s")],
    SUMS: [],
}
WINDOW = WindowSpec(tumbling_ms=5_000)
STAGE = Prepare("s", ("a", "b"), {"n": "count()"}, "log", window=WINDOW)

Fired = tuple[TaskKey, int, int, int]


@dataclass
class JumpyClock:
    """Wall and monotonic time that a test moves, each for itself."""

    wall: int = 1_700_000_000_000
    mono: int = 50_000_000_000

    def wall_ms(self) -> int:
        return self.wall

    def mono_ns(self) -> int:
        return self.mono

    def advance(self, ms: int) -> None:
        self.wall += ms
        self.mono += ms * 1_000_000


@dataclass
class Device:
    """A store on disk and what runs over it; commits are made now and then, as a busy device's are."""

    path: Path
    clock: JumpyClock = field(default_factory=JumpyClock)
    kept: list[Fired] = field(default_factory=list)
    rows: int = 0

    def __post_init__(self) -> None:
        self.numbers = 0
        self.owed = self.start()

    def start(self) -> list[Firing]:
        self.store = StreamStore.open(self.path, self.clock)
        self.flow = StreamFlow(self.store, self.clock, VisitTracker(self.visit_id))
        for task, triggers in TRIGGERS.items():
            self.flow.register(task, triggers, (STAGE,) if task == SUMS else ())
        return self.flow.recover()

    def visit_id(self) -> str:
        self.numbers += 1
        return str(self.numbers)

    def accept(self, *raw: RawEvent) -> None:
        self.owed += self.flow.accept(raw)

    def commit(self) -> None:
        for firing in self.owed:
            if self.store.commit_run(RunCommit(firing.task, "1", "r", firing.last_seq)):
                self.kept.append((firing.task, firing.first_seq, firing.end_seq, firing.last_seq))
                self.rows += sum(row.values["n"] for row in firing.prepared.get("s", ()))
            self.flow.dealt_with(firing.task, firing.last_seq)
        self.owed = []

    def die(self) -> None:
        lost = sorted((firing.task, firing.last_seq) for firing in self.owed)
        self.store._database.close()
        self.owed = self.start()
        assert sorted((firing.task, firing.last_seq) for firing in self.owed) == lost

    def reboot(self) -> None:
        self.clock.mono = 1_000_000_000
        self.die()


def event(name: str) -> RawEvent:
    match name:
        case "enter":
            return make_event("page_enter", page_id="item")
        case "exit":
            return make_event("page_exit", page_id="item")
        case _:
            return make_event("custom", event_id=name)


HOUR_MS = 3_600_000
jumps = st.sampled_from([1, -1, 3 * HOUR_MS, -3 * HOUR_MS, 30 * 365 * 24 * HOUR_MS, -30 * 365 * 24 * HOUR_MS])
waits = st.sampled_from([100, 1_000, 9_000, 12_000, 40 * 60_000])
happenings = st.one_of(
    st.sampled_from(["enter", "exit", "a", "a", "b", "commit", "die"]),
    waits,
    jumps.map(lambda ms: ("jump", ms)),
)


@settings(max_examples=60)
@given(st.lists(happenings, max_size=40))
def test_the_wall_clock_changes_no_firing(memory: Path, story: list[str | int | tuple[str, int]]) -> None:
    """But for windows, which are cut by it: of those, none loses an event that is not too late."""
    with TemporaryDirectory(dir=memory) as folder:
        steady, jumpy = Device(Path(folder) / "steady.db"), Device(Path(folder) / "jumpy.db")
        bought = 0
        for step in story:
            match step:
                case ("jump", int(ms)):
                    jumpy.clock.wall = max(1, jumpy.clock.wall + ms)
                case int():
                    for device in (steady, jumpy):
                        device.clock.advance(step)
                        device.accept()
                case "commit" | "die":
                    for device in (steady, jumpy):
                        getattr(device, step)()
                case str():
                    bought += step in ("a", "b")
                    for device in (steady, jumpy):
                        device.accept(event(step))
                case _:
                    raise AssertionError(step)
        for device in (steady, jumpy):
            device.commit()
            (stage,) = device.flow._pipeline._stages[SUMS]
            still = sum(row.values["n"] for row in stage.finish())
            assert device.rows + still + stage.late == bought
            device.store.close()
    triggered = [sorted(fired for fired in device.kept if fired[0] != SUMS) for device in (steady, jumpy)]
    assert triggered[0] == triggered[1]


@settings(max_examples=60)
@given(st.lists(st.one_of(happenings, st.just("reboot")), max_size=40))
def test_nothing_is_lost_or_doubled_over_restarts_of_the_machine(
    memory: Path, story: list[str | int | tuple[str, int]]
) -> None:
    with TemporaryDirectory(dir=memory) as folder:
        device = Device(Path(folder) / "s.db")
        entered = 0
        for step in story:
            match step:
                case ("jump", int(ms)):
                    device.clock.wall = max(1, device.clock.wall + ms)
                case int():
                    device.clock.advance(step)
                    device.accept()
                case "commit" | "die" | "reboot":
                    getattr(device, step)()
                case str():
                    device.clock.advance(1)
                    entered += step == "enter"
                    device.accept(event(step))
                case _:
                    raise AssertionError(step)
        device.reboot()  # what is open now is open no longer
        device.accept(event("c"))
        device.commit()
        log = device.store.read_log(1, 10**9)
        device.store.close()
    assert [logged.seq for logged in log] == sorted({logged.seq for logged in log})
    times = Counter((task, last_seq) for task, _, _, last_seq in device.kept)
    assert set(times.values()) <= {1}
    assert sum(task == VISITS for task, *_ in device.kept) == entered
