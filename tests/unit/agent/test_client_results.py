"""The results client for apps, against the agent's real socket."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import trio

from walle_agent.client.results import TaskResult, TaskResults
from walle_agent.client.under_trio import open_results
from walle_agent.streams.event import EventError, RawEvent
from walle_agent.streams.ingest import EventListener
from walle_agent.streams.results import ResultBoard
from walle_shared.ids import ScenarioName, TaskName, TaskVersion

KEY = (ScenarioName("demo"), TaskName("recommend"))
VERSION = TaskVersion("1.2")


async def submit(raw: RawEvent) -> None:
    pass


async def test_an_app_waits_for_a_result_takes_it_and_goes_on_without_one(tmp_path: Path) -> None:
    board, path = ResultBoard(), tmp_path / "events.sock"
    results = TaskResults(path, "demo/recommend", "demo/other")
    assert not results.wait_listening(0.01)  # no agent: nothing fails
    assert results.next(0.0) is None
    for _ in range(2):  # the agent starts, goes away, and starts again
        async with trio.open_nursery() as nursery:
            await nursery.start(EventListener(path, submit, results=board).run)
            assert await trio.to_thread.run_sync(results.wait_listening, 20.0)
            board.tell(KEY, VERSION, {"order": ["b", "a"]})
            board.tell(KEY, VERSION, 2)
            first = await trio.to_thread.run_sync(results.next, 20.0)
            assert first == TaskResult("demo/recommend", "1.2", {"order": ["b", "a"]})
            second = await trio.to_thread.run_sync(results.next, 20.0)
            assert second is not None
            assert second.value == 2
            nursery.cancel_scope.cancel()
        assert await trio.to_thread.run_sync(results.next, 0.02) is None
    results.close()


async def test_a_name_that_is_none_is_said_to_the_app(tmp_path: Path) -> None:
    path = tmp_path / "events.sock"
    async with trio.open_nursery() as nursery:
        await nursery.start(EventListener(path, submit).run)
        with TaskResults(path, "nonsense") as results, pytest.raises(EventError, match="scenario/task"):
            await trio.to_thread.run_sync(partial(results.wait_listening, 20.0))
        nursery.cancel_scope.cancel()


async def test_under_trio_results_come_and_a_new_agent_is_found(tmp_path: Path) -> None:
    board, path = ResultBoard(), tmp_path / "events.sock"
    async with open_results(path, "demo/recommend") as results:
        async with trio.open_nursery() as nursery:
            await nursery.start(EventListener(path, submit, results=board).run)
            with trio.fail_after(60):
                await results.wait_listening()
                board.tell(KEY, VERSION, 1)
                board.tell(KEY, VERSION, 2)
                assert [(await results.next()).value for _ in range(2)] == [1, 2]
            nursery.cancel_scope.cancel()
        async with trio.open_nursery() as nursery:
            await nursery.start(EventListener(path, submit, results=board).run)
            with trio.fail_after(60):
                heard = False
                while not heard:
                    board.tell(KEY, VERSION, 3)
                    with trio.move_on_after(0.01):
                        heard = (await results.next()).value == 3
            nursery.cancel_scope.cancel()


async def test_under_trio_a_refusal_is_raised_where_one_waits(tmp_path: Path) -> None:
    path = tmp_path / "events.sock"
    async with trio.open_nursery() as nursery:
        await nursery.start(EventListener(path, submit).run)
        async with open_results(path, "nonsense") as results:
            with trio.fail_after(60), pytest.raises(EventError, match="scenario/task"):
                await results.next()
        nursery.cancel_scope.cancel()
