"""A device that works until it is killed; run by ``test_tunnel_kill.py`` as a process of its own.

The app's stream is endless and known in advance: event ``n`` (from 0) belongs to visit ``n // 4``. Where to
go on after a kill is read from the log alone. Each visit that closes must leave one row and one record; so
must each that an extended trigger has followed from its beginning; and every click is in one row of sums.
"""

from __future__ import annotations

import sys
from pathlib import Path

from walle_agent.streams.event import RawEvent, make_event
from walle_agent.streams.flow import StreamFlow
from walle_agent.streams.pipeline import Firing
from walle_agent.streams.storage import RunCommit, StoreLimits, StreamStore
from walle_shared.clock import SystemClock
from walle_shared.ids import ScenarioName, TaskName
from walle_shared.manifest import Prepare, Trigger, WindowSpec
from walle_shared.protocol.tunnel import Record, TunnelClass
from walle_shared.targeting.policy import TaskKey
from walle_task.preparing import plain_rows

TASK: TaskKey = (ScenarioName("demo"), TaskName("page_view"))
FOLLOWING: TaskKey = (ScenarioName("demo"), TaskName("following"))
SUMMING: TaskKey = (ScenarioName("demo"), TaskName("summing"))
FOLLOWED = Trigger(on="on enter(item) ~> exit(item) within 1h per visit")
#: Windows by the wall clock, so that where they end is another matter in every run.
SUMS = Prepare("sums", ("click",), {"clicks": "count()"}, "log", window=WindowSpec(tumbling_ms=20))

#: Nothing is evicted, so that every visit must arrive.
ROOMY = StoreLimits(outbox_rows=10**6, outbox_bytes=10**9, table_rows=10**6)


def event(number: int) -> RawEvent:
    visit_id, step = f"v{number // 4}", number % 4
    if step == 0:
        return make_event("page_enter", page_id="item", visit_id=visit_id)
    return make_event("page_exit" if step == 3 else "click", visit_id=visit_id)


def run_of(firing: Firing) -> RunCommit:
    if firing.task == SUMMING:
        rows = [("sums", row) for row in plain_rows(SUMS, firing.prepared["sums"])]
        return RunCommit(SUMMING, "1.0", "r1", firing.last_seq, tuple(rows))
    assert firing.visit is not None
    if firing.task == FOLLOWING:
        row = {"visit": int(firing.visit.visit_id[1:])}
        return RunCommit(FOLLOWING, "1.0", "r1", firing.last_seq, (("followed", row),))
    number = int(firing.visit.visit_id[1:])
    fields = {"visit": number, "events": len(firing.events)}
    record = Record("demo", "page_view", "1.0", "r1", "view", 1, fields)
    klass = TunnelClass.BATCH if number % 3 == 0 else TunnelClass.REALTIME
    return RunCommit(
        TASK, "1.0", "r1", firing.last_seq, (("features", fields),), (record,), classes={record.name: klass}
    )


def open_device(path: Path) -> tuple[StreamStore, StreamFlow]:
    store = StreamStore.open(path, SystemClock(), ROOMY)
    store.declare(TASK, {"features": {"visit": "integer", "events": "integer"}})
    store.declare(FOLLOWING, {"followed": {"visit": "integer"}})
    store.declare(SUMMING, {"sums": {"start_ms": "integer", "end_ms": "integer", "clicks": "integer"}})
    flow = StreamFlow(store, SystemClock())
    flow.register(TASK, [Trigger(("page:item.exit",))])
    flow.register(FOLLOWING, [FOLLOWED])
    flow.register(SUMMING, [], [SUMS])
    return store, flow


def commit(store: StreamStore, flow: StreamFlow, firings: list[Firing]) -> None:
    outcomes = store.commit_runs([run_of(firing) for firing in firings])
    assert outcomes == [True] * len(firings), outcomes
    for firing in firings:
        flow.dealt_with(firing.task, firing.last_seq)


def main(path: Path) -> None:
    store, flow = open_device(path)
    waiting = flow.recover()
    print("working", flush=True)
    while True:
        first = store.next_seq - 1
        waiting += flow.accept([event(number) for number in range(first, first + 5)])
        if len(waiting) > first % 7:  # groups of different sizes, out of step with the appends
            commit(store, flow, waiting)
            waiting = []


if __name__ == "__main__":
    main(Path(sys.argv[1]))
