from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from walle_agent.streams.event import make_event
from walle_agent.streams.flow import StreamFlow
from walle_agent.streams.storage import RunCommit, StoreLimits, StreamStore
from walle_agent.streams.tables import Columns
from walle_shared.clock import FixedClock
from walle_shared.errors import ConfigError, Conflict, LimitExceeded, NotFound, TaskError, WalleError
from walle_shared.ids import ScenarioName, TaskName
from walle_shared.limits import VISIT_MAX_S
from walle_shared.manifest import Retention, Trigger
from walle_shared.protocol.tunnel import Record, TunnelClass
from walle_shared.targeting.policy import TaskKey

TASK = (ScenarioName("demo"), TaskName("page_view"))
OTHER = (ScenarioName("demo"), TaskName("other"))
LIMITS = StoreLimits(outbox_rows=4, table_rows=3)


def record(n: int = 0, **fields: object) -> Record:
    return Record("demo", "page_view", "1.0", "r1", "view", 1_700_000_000_000, {"n": n, **fields})


def run(last_seq: int, n: int = 0, *, ok: bool = True, version: str = "1.0") -> RunCommit:
    return RunCommit(TASK, version, "r1", last_seq, (("features", {"n": n}),), (record(n),), ok=ok)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(mono_ns=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "streams.db"


@pytest.fixture
def store(path: Path, clock: FixedClock) -> Iterator[StreamStore]:
    store = StreamStore.open(path, clock, LIMITS)
    store.declare(TASK, {"features": {"n": "integer"}})
    yield store
    store.close()


def test_a_run_is_kept_once_whatever_its_version(store: StreamStore) -> None:
    assert store.commit_run(run(5, 1))
    assert not store.commit_run(run(5, 2))
    assert not store.commit_run(run(5, 2, version="2.0"))
    assert store.read_rows(TASK, "features") == [{"n": 1}]
    assert [entry.seq for entry in store.next_batch({}, 10)] == [1]
    assert store.statistics().repeated == 2


def test_a_failed_run_leaves_only_its_mark(store: StreamStore) -> None:
    assert store.commit_run(run(5, 1, ok=False))
    assert store.read_rows(TASK, "features") == []
    assert store.next_batch({}, 10) == []
    assert not store.commit_run(run(5, 1))


def test_a_run_that_does_not_fit_leaves_its_group_alone(store: StreamStore) -> None:
    bad = RunCommit(TASK, "1.0", "r1", 6, (("features", {"n": "six"}),), (record(6),))
    first, second, third = store.commit_runs([run(5, 5), bad, run(7, 7)])
    assert (first, third) == (True, True)
    assert isinstance(second, TaskError)
    assert store.read_rows(TASK, "features") == [{"n": 5}, {"n": 7}]
    assert [entry.seq for entry in store.next_batch({}, 10)] == [1, 2]
    assert store.commit_run(run(6, 6, ok=False))


@pytest.mark.parametrize(
    ("commit", "error", "named"),
    [
        (RunCommit(TASK, "1", "r", 1, (("none", {}),)), NotFound, "no table 'none'"),
        (RunCommit(OTHER, "1", "r", 1, (("features", {"n": 1}),)), NotFound, "task other has no table"),
        (RunCommit(TASK, "1", "r", 1, (("features", {"m": 1}),)), TaskError, "features.m is not declared"),
        (
            RunCommit(TASK, "1", "r", 1, (("features", {"n": True}),)),
            TaskError,
            "features.n must be an integer",
        ),
        (
            RunCommit(TASK, "1", "r", 1, (("features", {"n": 2**63}),)),
            TaskError,
            "features.n must be an integer",
        ),
        (RunCommit(TASK, "1", "r", 1, uploads=(record(text="x" * 300_000),)), LimitExceeded, "record view"),
        (RunCommit(TASK, "1", "r", 1, values={"k": "x" * 70_000}), LimitExceeded, "store value 'k'"),
        (RunCommit(TASK, "1", "r", 1, values={"k": object()}), TaskError, "store value 'k'"),
    ],
)
def test_what_does_not_fit_is_named(
    store: StreamStore, commit: RunCommit, error: type[WalleError], named: str
) -> None:
    with pytest.raises(error, match=named):
        store.commit_run(commit)
    assert store.commit_run(RunCommit(TASK, "1", "r", 1, ok=False))


def test_columns_keep_their_types_and_may_be_added(store: StreamStore) -> None:
    everything = {"a": "text", "b": "real", "c": "boolean", "d": "json", "n": "integer"}
    store.declare(TASK, {"features": everything})  # type: ignore[dict-item]
    row = {"a": "é", "b": 0.5, "c": True, "d": {"x": [1, None]}, "n": -3}
    commit = RunCommit(TASK, "1.0", "r1", 1, (("features", row), ("features", {"n": 4, "b": 2})))
    assert store.commit_run(commit)
    assert store.read_rows(TASK, "features", where={"c": True}) == [row]
    empty = {"a": None, "b": 2.0, "c": None, "d": None, "n": 4}
    assert store.read_rows(TASK, "features", where={"a": None}) == [empty]
    with pytest.raises(Conflict, match="n is integer and cannot become text"):
        store.declare(TASK, {"features": {"n": "text"}})
    with pytest.raises(ConfigError, match="not a name"):
        store.declare(TASK, {"features": {'n"; DROP TABLE meta; --': "text"}})


def test_tables_keep_their_newest_rows(store: StreamStore) -> None:
    for n in range(5):
        store.commit_run(run(n + 1, n))
    assert [row["n"] for row in store.read_rows(TASK, "features")] == [2, 3, 4]
    assert [row["n"] for row in store.read_rows(TASK, "features", limit=1)] == [4]
    assert store.statistics().rows_evicted == 2


def put(store: StreamStore, seq: int, table: str, task: TaskKey = TASK, **row: object) -> None:
    store.commit_run(RunCommit(task, "1.0", "r1", seq, ((table, row),)))


def test_rows_that_are_too_old_are_not_read_and_go(path: Path, clock: FixedClock) -> None:
    store = StreamStore.open(path, clock)
    store.declare(TASK, {"features": {"n": "integer"}}, {"features": Retention(days=1.0)})
    put(store, 1, "features", n=1)
    clock.advance(80_000)
    put(store, 2, "features", n=2)
    clock.advance(10_000)
    assert [row["n"] for row in store.read_rows(TASK, "features")] == [2]
    put(store, 3, "features", n=3)
    assert store.statistics().rows_evicted == 1
    assert store.used_bytes(TASK) == 2 * 40
    store.close()


def test_a_table_keeps_as_many_rows_as_its_task_asked_for(path: Path, clock: FixedClock) -> None:
    store = StreamStore.open(path, clock)
    store.declare(TASK, {"features": {"n": "integer"}}, {"features": Retention(rows=2)})
    for n in range(5):
        put(store, n + 1, "features", n=n)
    assert [row["n"] for row in store.read_rows(TASK, "features")] == [3, 4]
    store.close()


def test_a_task_over_its_bytes_loses_its_own_oldest_rows_only(path: Path, clock: FixedClock) -> None:
    store = StreamStore.open(path, clock, StoreLimits(task_bytes=1_000))
    tables: dict[str, Columns] = {"big": {"text": "text"}, "small": {"n": "integer"}}
    for task in (TASK, OTHER):
        store.declare(task, tables)
        put(store, 1, "small", task, n=1)
    for seq in range(2, 7):
        put(store, seq, "big", text="x" * 300)
    assert len(store.read_rows(TASK, "big")) == 2
    assert len(store.read_rows(TASK, "small")) == 1
    put(store, 7, "small", n=7)
    put(store, 8, "big", text="y" * 960)
    assert store.used_bytes(TASK) == 992
    assert [row["text"][0] for row in store.read_rows(TASK, "big")] == ["y"]
    assert store.read_rows(TASK, "small") == []
    assert len(store.read_rows(OTHER, "small")) == 1
    used = store.used_bytes(TASK)
    store.close()
    again = StreamStore.open(path, clock, StoreLimits(task_bytes=1_000))
    assert again.used_bytes(TASK) == used
    again.close()


def test_a_file_from_before_rows_had_a_time_is_taken_over(path: Path, clock: FixedClock) -> None:
    store = StreamStore.open(path, clock)
    store.declare(TASK, {"features": {"n": "integer"}})
    put(store, 1, "features", n=1)
    with store._database.transaction() as connection:
        for column in ("_at_ms", "_bytes"):
            connection.execute(f'ALTER TABLE "rows.demo.page_view.features" DROP COLUMN {column}')
    store._database.close()
    again = StreamStore.open(path, clock)
    again.declare(TASK, {"features": {"n": "integer"}})
    put(again, 2, "features", n=2)
    assert [row["n"] for row in again.read_rows(TASK, "features")] == [1, 2]
    again.close()


def test_values_count_as_rows_do_and_are_never_pushed_out(path: Path, clock: FixedClock) -> None:
    limits = StoreLimits(task_bytes=1_000)
    store = StreamStore.open(path, clock, limits)
    for task in (TASK, OTHER):
        store.declare(task, {"big": {"text": "text"}})
    for seq in (1, 2):
        put(store, seq, "big", text="x" * 300)
    store.commit_run(RunCommit(OTHER, "1", "r", 1, values={"k": "y" * 900}))
    before = store.used_bytes(TASK)
    store.commit_run(RunCommit(TASK, "1", "r", 3, values={"k": "y" * 400}))
    assert len(store.read_rows(TASK, "big")) == 1
    assert store.used_bytes(TASK) == before - 332 + 32 + 1 + 402
    put(store, 4, "big", text="z" * 600)
    assert [row["text"][0] for row in store.read_rows(TASK, "big")] == ["z"]
    assert store.get_value(TASK, "k") == "y" * 400
    with pytest.raises(LimitExceeded, match="would take 1270 bytes"):
        store.commit_run(RunCommit(TASK, "1", "r", 5, values={"l": "y" * 800}))
    store.commit_run(RunCommit(TASK, "1", "r", 5, values={"l": "y" * 500}))  # not marked by the refusal
    assert store.commit_run(RunCommit(TASK, "1", "r", 5, values={"l": "y" * 800})) is False
    used = store.used_bytes(TASK)
    store.close()
    again = StreamStore.open(path, clock, limits)
    assert again.used_bytes(TASK) == used
    again.commit_run(RunCommit(TASK, "1", "r", 6, values={"k": None, "l": None}))
    assert again.used_bytes(TASK) == sum(row_bytes(row) for row in again.read_rows(TASK, "big"))
    again.close()


def row_bytes(row: dict[str, object]) -> int:
    return 32 + len(str(row["text"]))


def test_a_later_version_may_add_columns_and_drop_some(path: Path, clock: FixedClock) -> None:
    store = StreamStore.open(path, clock)
    store.declare(TASK, {"features": {"n": "integer", "old": "text"}})
    put(store, 1, "features", n=1, old="a")
    store.declare(TASK, {"features": {"n": "integer", "new": "real"}})
    put(store, 2, "features", n=2, new=0.5)
    store.close()
    again = StreamStore.open(path, clock)
    again.declare(TASK, {"features": {"n": "integer", "new": "real"}})
    assert again.read_rows(TASK, "features") == [
        {"n": 1, "old": "a", "new": None},
        {"n": 2, "old": None, "new": 0.5},
    ]
    assert again.read_rows(TASK, "features", where={"new": 0.5})[0]["n"] == 2
    again.close()


def test_values_are_kept_and_forgotten(store: StreamStore) -> None:
    store.commit_run(RunCommit(TASK, "1", "r", 1, values={"k": {"x": 1}, "l": 2}))
    assert store.get_value(TASK, "k") == {"x": 1}
    store.commit_run(RunCommit(TASK, "1", "r", 2, values={"k": None}))
    assert (store.get_value(TASK, "k"), store.get_value(TASK, "l"), store.get_value(OTHER, "l")) == (
        None,
        2,
        None,
    )


def test_the_oldest_of_the_lowest_class_are_evicted_into_one_tombstone(store: StreamStore) -> None:
    for n in range(4):
        store.commit_run(
            RunCommit(TASK, "1", "r", n + 1, uploads=(record(n),), classes={"view": TunnelClass.BATCH})
        )
    for n in range(3):
        store.commit_run(RunCommit(TASK, "1", "r", n + 10, uploads=(record(n),)))
    batch = [(e.klass, e.seq, e.last_seq, e.payload is None) for e in store.next_batch({}, 10)]
    urgent, later = TunnelClass.REALTIME, TunnelClass.BATCH
    records = [(urgent, 1, 1, False), (urgent, 2, 2, False), (urgent, 3, 3, False)]
    assert batch == [*records, (later, 1, 3, True), (later, 4, 4, False)]
    assert store.statistics().outbox.evicted == 3
    store.ack(later, 2)
    assert store.numbers() == {urgent: (1, 3), later: (3, 4)}


def test_numbers_go_on_after_everything_was_acknowledged(
    store: StreamStore, path: Path, clock: FixedClock
) -> None:
    store.commit_run(run(1))
    store.ack(TunnelClass.REALTIME, 1)
    again = StreamStore.open(path, clock, LIMITS)
    assert again.numbers()[TunnelClass.REALTIME] == (2, 1)
    again.commit_run(run(2))
    assert [entry.seq for entry in again.next_batch({}, 10)] == [2]
    again.close()


def new_flow(store: StreamStore, clock: FixedClock) -> StreamFlow:
    flow = StreamFlow(store, clock)
    flow.register(TASK, [Trigger(("page:item.exit",))])
    return flow


def test_owed_firings_come_back_after_a_restart_and_dealt_ones_do_not(
    store: StreamStore, path: Path, clock: FixedClock
) -> None:
    flow = new_flow(store, clock)
    enter, leave = make_event("page_enter", page_id="item"), make_event("page_exit")
    first, second = flow.accept([enter, leave, enter, leave])
    open_visit = flow.accept([enter, make_event("click")])
    assert open_visit == []
    store.commit_run(run(second.last_seq))
    flow.dealt_with(TASK, second.last_seq)
    store.append([])  # writes what was settled

    reopened = StreamStore.open(path, clock, LIMITS)
    resumed = new_flow(reopened, clock)
    assert resumed.recover() == [first]
    assert resumed.statistics().skipped_firings == 1
    (third,) = resumed.accept([leave])
    assert [event.kind for event in third.events] == ["page_enter", "click", "page_exit"]
    reopened.close()


def test_the_log_is_cut_behind_what_a_restart_needs(store: StreamStore, clock: FixedClock) -> None:
    flow = new_flow(store, clock)
    for _ in range(400):
        (firing,) = flow.accept([make_event("page_enter", page_id="item"), make_event("page_exit")])
        store.commit_run(run(firing.last_seq))
        flow.dealt_with(TASK, firing.last_seq)
    replay = store.pending()
    assert len(replay.events) < 100
    assert len(replay.marked) <= 200
    assert replay.cursor >= 798


def test_a_visit_that_grew_too_old_closes_without_an_event(store: StreamStore, clock: FixedClock) -> None:
    flow = new_flow(store, clock)
    flow.accept([make_event("page_enter", page_id="item")])
    clock.advance(VISIT_MAX_S)
    (firing,) = flow.accept([])
    assert firing.visit is not None
    assert firing.visit.reason == "age"
    assert store.pending().events[-1].event_id == "walle.closed.age"
