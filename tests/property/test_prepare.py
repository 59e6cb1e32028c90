"""Declared pre-processing against the same stream in a script, over the whole log, with restarts anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from walle_agent.streams.event import Event, make_event
from walle_agent.streams.flow import StreamFlow
from walle_agent.streams.pipeline import Firing
from walle_agent.streams.storage import RunCommit, StreamStore
from walle_shared.clock import FixedClock
from walle_shared.ids import ScenarioName, TaskName
from walle_shared.manifest import Prepare, Trigger, WindowSpec
from walle_task import streams
from walle_task.preparing import RunningStage, Stage
from walle_task.streams import CLOCK_SET_MS, Row, session, sliding, tumbling

TASK = (ScenarioName("demo"), TaskName("t"))
VALUES = {
    "n": "count()",
    "total": "sum(args.n)",
    "mean": "mean(args.n)",
    "least": "min(args.n)",
    "most": "max(args.n)",
    "bins": "histogram(args.n, 1, 3)",
    "first": "first(args.n)",
    "last": "last(args.s)",
}
WINDOWS = st.one_of(
    st.integers(1, 12).map(lambda size: WindowSpec(tumbling_ms=size)),
    st.tuples(st.integers(1, 5), st.integers(1, 4)).map(
        lambda t: WindowSpec(sliding_ms=t[0] * t[1], step_ms=t[0])
    ),
    st.integers(1, 9).map(lambda gap: WindowSpec(session_ms=gap)),
)
numbers = st.one_of(st.integers(-3, 6), st.sampled_from([0.5, 2**70, "x", None, True, 1e308]))


@st.composite
def logs(draw: st.DrawFn) -> list[Event]:
    """A log whose times are out of order by less than 10 ms."""
    log: list[Event] = []
    now_ms = 1_000
    for seq in range(1, draw(st.integers(0, 40)) + 1):
        now_ms += draw(st.sampled_from([0, 0, 1, 2, 7, 30]))
        args = {"n": draw(numbers), "s": draw(st.sampled_from(["a", "b"])), "where": draw(st.booleans())}
        page = draw(st.sampled_from(["p", "q", ""]))
        kind = draw(st.sampled_from(["click", "scroll"]))
        event_id = draw(st.sampled_from(["buy", kind]))
        log.append(Event(seq, kind, event_id, page, "", now_ms - draw(st.integers(0, 9)), seq, args))
    return log


specs = st.builds(
    Prepare,
    name=st.just("s"),
    events=st.sampled_from([("click",), ("buy", "scroll"), ("click", "scroll")]),
    values=st.just(VALUES),
    over=st.just("log"),
    where=st.sampled_from([{}, {"args.where": True}, {"page_id": "p"}]),
    key_by=st.sampled_from(["", "page_id", "args.s", "args.n"]),
    window=WINDOWS,
)


def number(path: str) -> Callable[[Event], Any]:
    """A field if it is a finite number, written out as a script would."""

    def read(event: Event) -> Any:
        value = event.args.get(path)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    return read


def script(spec: Prepare, log: Sequence[Event], delay_ms: int | None) -> list[Row]:
    """What a task's author would write by hand."""
    stream = streams.of(log).filter(lambda e: e.event_id in spec.events or e.kind in spec.events)
    if "args.where" in spec.where:
        stream = stream.filter(lambda e: e.args["where"] is True)
    if "page_id" in spec.where:
        stream = stream.filter(page_id="p")
    keys: dict[str, Callable[[Event], Any]] = {
        "page_id": lambda e: e.page_id,
        "args.s": lambda e: e.args["s"],
        "args.n": lambda e: e.args["n"],
    }
    cut = stream.key_by(keys[spec.key_by]) if spec.key_by else stream
    assert spec.window is not None
    window = (
        tumbling(spec.window.tumbling_ms)
        if spec.window.tumbling_ms
        else session(spec.window.session_ms)
        if spec.window.session_ms
        else sliding(spec.window.sliding_ms, spec.window.step_ms)
    )
    return cut.time_window(window, delay_ms=delay_ms).aggregate(
        n=streams.count(),
        total=streams.sum_(number("n")),
        mean=streams.mean(number("n")),
        least=streams.min_(number("n")),
        most=streams.max_(number("n")),
        bins=streams.histogram(number("n"), 1, 3),
        first=streams.first("args.n"),
        last=streams.last("args.s"),
    )


def sorted_rows(rows: Sequence[Row]) -> list[str]:
    return sorted(str(tuple(row)).replace("inf", "None") for row in rows)


def delayed(spec: Prepare, delay_ms: int) -> Prepare:
    assert spec.window is not None
    window = spec.window
    cut = WindowSpec(window.tumbling_ms, window.sliding_ms, window.step_ms, window.session_ms, delay_ms)
    return Prepare(spec.name, spec.events, spec.values, "log", spec.where, spec.key_by, cut)


@settings(max_examples=60)
@given(specs, logs(), st.sets(st.integers(0, 40)))
def test_a_stage_over_the_log_gives_what_a_script_over_all_of_it_would(
    spec: Prepare, log: list[Event], restarts: set[int]
) -> None:
    declared = delayed(spec, 10)
    running = RunningStage(Stage(declared))
    rows: list[Row] = []
    for place, event in enumerate(log):
        if place in restarts:
            saved = running.save()
            running = RunningStage(Stage(declared))
            running.load(saved)
            assert running.save() == saved
        rows += running.feed(event)
    rows += running.finish()
    assert running.late == 0
    assert sorted_rows(rows) == sorted_rows(script(spec, log, 10))


@settings(max_examples=50)
@given(specs, logs())
def test_rows_come_in_the_scripts_order_too(spec: Prepare, log: list[Event]) -> None:
    """Where no other events let time pass, and even if too many come late."""
    taken = [event for event in log if Stage(spec).takes(event) and Stage(spec).key(event) is not None]
    running = RunningStage(Stage(spec))
    rows = [row for event in taken for row in running.feed(event)] + running.finish()
    assert [str(row).replace("inf", "None") for row in rows] == [
        str(row).replace("inf", "None") for row in script(spec, taken, 0)
    ]


@settings(max_examples=50)
@given(specs, logs())
def test_a_stage_over_a_run_is_a_script_over_its_events(spec: Prepare, log: list[Event]) -> None:
    rows = Stage(spec).rows(log)
    assert sorted_rows(rows) == sorted_rows(script(spec, log, None))


@settings(max_examples=50)
@given(specs, logs(), st.integers(0, 40))
def test_a_clock_that_was_wrong_for_a_while_blocks_nothing(
    spec: Prepare, log: list[Event], wrong: int
) -> None:
    running = RunningStage(Stage(delayed(spec, 10)))
    far_ms = 50 * 365 * 86_400_000
    first = [row for event in log[:wrong] for row in running.feed(event)]
    odd = Event(100, "click", "buy", "p", "", far_ms, 1, {"n": 1, "s": "a", "where": True})
    first += running.feed(odd)
    rest = [row for event in log[wrong:] for row in running.feed(event)] + running.finish()
    assert running.late == 0
    counted = sum(row.values["n"] for row in script(spec, [*log[:wrong], odd], 10))
    counted += sum(row.values["n"] for row in script(spec, log[wrong:], 10))
    assert sum(row.values["n"] for row in first + rest) == counted
    assert far_ms > CLOCK_SET_MS


class Device:
    """One store, one task with a stage over the log; ``crash`` forgets what is only in memory."""

    def __init__(self, path: Path, spec: Prepare, triggers: Sequence[Trigger]) -> None:
        self.path, self.spec, self.triggers = path, spec, triggers
        self.clock = FixedClock(mono_ns=10**9, wall_ms=10**12)
        self.kept: dict[int, list[Row]] = {}
        self.owed = self.start()

    def start(self) -> list[Firing]:
        self.store = StreamStore.open(self.path, self.clock)
        self.flow = StreamFlow(self.store, self.clock)
        self.flow.register(TASK, self.triggers, (self.spec,))
        return self.flow.recover()

    def crash(self) -> None:
        lost = {(firing.last_seq, rows_of(firing)) for firing in self.owed}
        self.store._database.close()
        self.owed = self.start()
        assert {(firing.last_seq, rows_of(firing)) for firing in self.owed} == lost

    def commit(self, firing: Firing) -> None:
        self.owed.remove(firing)
        if self.store.commit_run(RunCommit(TASK, "1", "r", firing.last_seq)):
            self.kept[firing.last_seq] = list(firing.prepared.get("s", ()))
        self.flow.dealt_with(TASK, firing.last_seq)


def rows_of(firing: Firing) -> str:
    return str([tuple(row) for row in firing.prepared.get("s", ())])


steps = st.lists(
    st.sampled_from(["buy", "buy", "buy", "scroll", "wait", "later", "commit", "crash", "many"]), max_size=30
)


@settings(max_examples=40)
@given(steps, st.sampled_from(["paper", "extended", "none"]), WINDOWS)
def test_every_window_reaches_its_task_once_whatever_dies_when(
    memory: Path, script_of: list[str], profile: str, window: WindowSpec
) -> None:
    triggers = {
        "paper": [Trigger(("event:buy", "kind:scroll"))],
        "extended": [Trigger(on="on event(buy) ~> kind(scroll) within 1min")],
        "none": [],
    }[profile]
    spec = Prepare(
        "s", ("buy",), {"n": "count()", "total": "sum(args.n)"}, "log", key_by="args.k", window=window
    )
    with TemporaryDirectory(dir=memory) as folder:
        device = Device(Path(folder) / "s.db", spec, triggers)
        for place, step in enumerate(script_of):
            if step in ("buy", "scroll", "many"):
                bought_now = make_event("click", event_id="buy", args={"n": place, "k": place % 3})
                event = make_event("scroll") if step == "scroll" else bought_now
                events = [event] * (270 if step == "many" else 1)  # snapshots come every 256 events
                device.owed += device.flow.accept(events)
            elif step == "commit" and device.owed:
                device.commit(device.owed[place % len(device.owed)])
            elif step == "crash":
                device.crash()
            else:
                device.clock.advance(0.004 if step == "wait" else 1.0)
        for firing in list(device.owed):
            device.commit(firing)
        found = [row for seq in sorted(device.kept) for row in device.kept[seq]]
        still = [
            row
            for running in device.flow._pipeline._stages[TASK]
            for row in running.finish()  # what has not closed yet
        ]
        device.store.close()
    bought = sum({"buy": 1, "many": 270}.get(step, 0) for step in script_of)
    overlap = 1 if not window.sliding_ms else window.sliding_ms // window.step_ms
    assert sum(row.values["n"] for row in found + still) == bought * overlap
    assert len({(row.key, row.start_ms) for row in found + still}) == len(found + still)
