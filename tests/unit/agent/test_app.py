"""The whole agent in one process: real streams, real container, a control plane in memory."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trio.testing

from walle_agent import app
from walle_agent.cli import format_status, read_status
from walle_agent.config import AgentConfig, AgentSection, ControlSection, LinkSection
from walle_agent.streams.event import make_event
from walle_shared.clock import FixedClock
from walle_shared.errors import ConfigError
from walle_shared.protocol.messages import Report
from walle_support.control import ISSUED_MS, TOKEN, URL, SimulatedControl


def make_config(folder: Path, control: SimulatedControl) -> AgentConfig:
    return AgentConfig(
        AgentSection(str(folder / "data")),
        ControlSection(URL, str(control.trust.pin), TOKEN),
        {"group": "beta"},
        LinkSection(report_linger_s=0.0, backoff_base_s=0.05),
    )


SCRIPT = b"""
from walle_task import events, store, tunnel

def run():
    value = events.last().args["value"]
    store.table("reads").put({"value": value})
    tunnel.send("result", {"value": value})
"""


def runs(reports: list[Report]) -> list[tuple[str, str]]:
    return [(report.version, report.outcome) for report in reports if report.stage == "run"]


@pytest.mark.slow
async def test_from_release_to_stored_row_and_back_after_a_bad_version(tmp_path: Path) -> None:
    control = SimulatedControl()
    config = make_config(tmp_path, control)
    control.release(control.add_version(files={"main.py": SCRIPT}))
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            agent: app.Agent = await nursery.start(
                lambda task_status: app.run_agent(
                    config, clock=FixedClock(ISSUED_MS), wire=control.wire(), task_status=task_status
                )
            )
            await control.wait_reports(2)  # begun and installed
            await agent.streams.inlet.emit(make_event("click", event_id="go", args={"value": 7}))
            await control.wait_reports(3)
            assert await agent.streams.read_rows(("demo", "reader"), "reads") == [{"value": 7}]  # type: ignore[arg-type]

            bad = control.release(
                control.add_version(version="2.0", files={"main.py": b"def run():\n    1 / 0\n"}),
                version="2.0",
            )
            await control.wait_reports(5)
            await agent.streams.inlet.emit(make_event("click", event_id="go", args={"value": 8}))
            await control.wait_reports(6)
            control.roll_back(bad)
            await control.wait_reports(7)
            await agent.streams.inlet.emit(make_event("click", event_id="go", args={"value": 9}))
            await control.wait_reports(8)
            assert runs(control.reports) == [("1.0", "success"), ("2.0", "failure"), ("1.0", "success")]
            assert "ZeroDivisionError" in control.reports[5].message

            with pytest.raises(ConfigError, match="another agent uses this folder"):
                await app.run_agent(config, wire=control.wire())
            nursery.cancel_scope.cancel()

    status = read_status(config)
    assert status["running"] is False
    assert (status["device_id"], status["epoch"]) == ("d1", control.epoch)
    assert "demo/reader" in format_status(status)


async def test_a_service_that_dies_is_started_again(autojump_clock: trio.testing.MockClock) -> None:
    lives: list[float] = []

    async def frail() -> None:
        lives.append(trio.current_time())
        raise ValueError("a bug")

    with trio.move_on_after(100):
        await app.supervise("frail", frail)
    gaps = [after - before for before, after in itertools.pairwise(lives)]
    assert len(gaps) >= 4
    assert gaps[-1] > gaps[0]
    assert max(gaps) <= 60


async def test_cancellation_passes_through_supervision() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(app.supervise, "patient", trio.sleep_forever)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


def test_a_folder_belongs_to_one_agent(tmp_path: Path) -> None:
    assert not app.is_running(tmp_path)
    with app.folder_lock(tmp_path):
        assert app.is_running(tmp_path)
        with pytest.raises(ConfigError, match="another agent"), app.folder_lock(tmp_path):
            pass
    assert not app.is_running(tmp_path)


@pytest.mark.slow
def test_the_agent_does_not_load_what_it_does_not_need() -> None:
    heavy = ("numpy", "onnx", "onnxruntime", "starlette", "hypercorn", "walle_control")
    script = f"import sys, walle_agent.cli; print([name for name in {heavy!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
