"""What tasks return, on its way to apps: over the real socket."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from walle_agent.streams.event import EventError, RawEvent
from walle_agent.streams.ingest import EventListener
from walle_agent.streams.results import ResultBoard, ResultListener, parse_listen
from walle_shared.ids import ScenarioName, TaskName, TaskVersion
from walle_shared.limits import LISTENED_TASKS_MAX, RESULTS_WAITING_MAX
from walle_shared.targeting.policy import TaskKey

KEY: TaskKey = (ScenarioName("demo"), TaskName("recommend"))
VERSION = TaskVersion("1.0.0")
LISTEN = b'{"walle_listen":"demo/recommend"}\n'


async def refuse_nothing(raw: RawEvent) -> None:
    pass


@pytest.fixture
def board() -> ResultBoard:
    return ResultBoard()


@pytest.fixture
async def path(tmp_path: Path, board: ResultBoard, nursery: trio.Nursery) -> Path:
    path = tmp_path / "events.sock"
    await nursery.start(EventListener(path, refuse_nothing, results=board).run)
    return path


async def read_lines(stream: trio.SocketStream, count: int) -> list[dict[str, Any]]:
    data = b""
    with trio.fail_after(10):
        while data.count(b"\n") < count:
            data += await stream.receive_some()
    return [orjson.loads(line) for line in data.splitlines()]


async def wait_until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while not condition():
            await trio.testing.wait_all_tasks_blocked()


async def test_an_app_hears_what_its_task_returns_and_nothing_else(path: Path, board: ResultBoard) -> None:
    board.tell(KEY, VERSION, {"order": ["too", "early"]})
    async with await trio.open_unix_socket(str(path)) as app:
        await app.send_all(LISTEN)
        assert await read_lines(app, 1) == [{"listening": "demo/recommend"}]
        board.tell((KEY[0], TaskName("other")), VERSION, 1)
        board.tell(KEY, VERSION, None)
        board.tell(KEY, VERSION, {"order": ["b", "a"], "scores": memoryview(bytearray(b"\1\2"))})
        (told,) = await read_lines(app, 1)
        assert told["result"] == {
            "task": "demo/recommend",
            "version": "1.0.0",
            "value": {"order": ["b", "a"], "scores": [1, 2]},
        }
        assert board.statistics().listening == board.statistics().told == 1
    await wait_until(lambda: board.statistics().listening == 0)


async def test_a_complaint_and_results_share_the_connection(path: Path, board: ResultBoard) -> None:
    async with await trio.open_unix_socket(str(path)) as app:
        await app.send_all(LISTEN + b'rubbish\n{"walle_listen":"Demo/x"}\n{"walle_listen":7}\n')
        heard = await read_lines(app, 4)
        assert {"listening": "demo/recommend"} in heard
        errors = [line["error"] for line in heard if "error" in line]
        assert [error["line"] for error in errors] == [2, 3, 4]
        assert "scenario/task" in errors[1]["message"]
        board.tell(KEY, VERSION, 7)
        (told,) = await read_lines(app, 1)
        assert told["result"]["value"] == 7


async def test_an_app_that_does_not_read_holds_nobody_up_and_gets_the_newest(
    path: Path, board: ResultBoard
) -> None:
    async with await trio.open_unix_socket(str(path)) as app:
        await app.send_all(LISTEN)
        assert await read_lines(app, 1)
        text = "x" * 50_000
        for number in range(3 * RESULTS_WAITING_MAX):
            board.tell(KEY, VERSION, [number, text])
            await trio.lowlevel.checkpoint()
        assert board.statistics().lost > 0
        left = 3 * RESULTS_WAITING_MAX - board.statistics().lost
        numbers = [line["result"]["value"][0] for line in await read_lines(app, left)]
        assert numbers == sorted(numbers)
        assert numbers[-RESULTS_WAITING_MAX:] == list(range(2 * RESULTS_WAITING_MAX, 3 * RESULTS_WAITING_MAX))


def test_what_json_cannot_hold_is_counted_as_lost(board: ResultBoard) -> None:
    listener = ResultListener(board)
    listener.listen(KEY)
    board.tell(KEY, VERSION, 2**70)
    assert (board.statistics().told, board.statistics().lost) == (0, 1)


def test_one_connection_listens_for_so_many_tasks(board: ResultBoard) -> None:
    listener = ResultListener(board)
    for number in range(LISTENED_TASKS_MAX):
        listener.listen((KEY[0], TaskName(f"t{number}")))
    listener.listen((KEY[0], TaskName("t0")))
    with pytest.raises(EventError, match="open another"):
        listener.listen(KEY)
    listener.close()
    assert board.statistics().listening == 0


def test_lines_that_ask_for_nothing_are_events_or_rubbish() -> None:
    assert parse_listen(b'{"walle_listen":"demo/recommend"}') == KEY
    for line in (
        b'{"kind":"click"}',
        b'{"walle_listen"',
        b'["walle_listen"]',
        b'{"walle_listen":"a/b","x":1}',
    ):
        assert parse_listen(line) is None


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=5))
def test_no_listen_line_crashes(wanted: Any) -> None:
    try:
        line = orjson.dumps({"walle_listen": wanted})
    except TypeError:
        return
    try:
        task = parse_listen(line)
    except EventError:
        return
    assert task is not None
    assert "/".join(task) == wanted
