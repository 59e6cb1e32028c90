"""A task with a cloud half through the installed programs: asked, answered, refused, and gone on without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from walle_support.live import (
    LiveControl,
    LiveDevice,
    commit_tasks,  # pyright: ignore[reportAttributeAccessIssue]
    task_folder,
    wait_for,  # pyright: ignore[reportAttributeAccessIssue]
)

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.slow_session]

DEVICE = """
    from walle_task import cloud, events, tunnel


    def run():
        last = events.last()
        if last.event_id == "cloud_answer":
            tunnel.send("seen", {"what": f"later {last.args['payload']['sum']}"})
            return
        what = last.args
        if what.get("later"):
            cloud.ask_later({"values": what["values"]}, data=b"abc")
            return
        try:
            question = {"values": what["values"], "s": what.get("s", 0)}
            told = cloud.ask(question, data=b"x" * 100_000, timeout_s=4.0)
            tunnel.send("seen", {"what": f"sum {told['sum']}"})
        except cloud.Unavailable as error:
            tunnel.send("seen", {"what": error.reason})
    """
HALF = """
import time


def answer(request):
    time.sleep(request.payload.get("s", 0))
    return {"sum": sum(request.payload["values"]) + len(request.data)}
"""
TOML = """
[[triggers]]
ids = ["event:cloud_answer"]
[limits]
wall_s = 5.0
[cloud]
wall_s = 5.0
asks_per_device_hour = 4
"""


@pytest.fixture
def control(tmp_path: Path) -> Iterator[LiveControl]:
    one = LiveControl(tmp_path)
    one.start()
    yield one
    one.stop()


@pytest.fixture
def device(tmp_path: Path, control: LiveControl) -> Iterator[LiveDevice]:
    tasks = tmp_path / "tasks"
    folder = task_folder(tasks, "asker", DEVICE, toml=TOML)
    settings = folder / "task.toml"
    settings.write_text(settings.read_text().replace('"log"]', '"log", "cloud"]'))
    (folder / "cloud.py").write_text(HALF)
    commit_tasks(tmp_path / "repo", {"asker": folder}, "1.0.0")
    answer = control.import_task(tmp_path / "repo", "asker")
    assert answer.is_success, answer.text
    release_id = control.release("asker")
    one = LiveDevice("phone", tmp_path, {"group": "proof"})
    enrolment = control.post("/enrol-tokens", {"uses": 1}).json()
    one.start(control.url, enrolment["trusted_root"], enrolment["token"])
    one.await_ready()
    control.await_report(release_id, "install", "success")
    yield one
    one.stop()


def test_a_device_asks_and_goes_on(control: LiveControl, device: LiveDevice) -> None:
    seen = 0

    def told() -> str:
        """What comes next."""
        nonlocal seen
        rows = wait_for("a record", lambda: control.features("asker")[seen:] or None)
        seen += 1
        what: str = rows[0]["fields"]["what"]
        return what

    def ask(**args: Any) -> None:
        device.emit([{"kind": "custom", "event_id": "go_asker", "args": args}])

    ask(values=[1, 2])
    assert told() == "sum 100003"
    assert not list(device.folder.rglob("cloud.py"))
    ask(values=[5], later=True)
    assert told() == "later 8"
    ask(values=[1], s=3)
    wait_for("the question to be worked on", lambda: control.get("/status")["cloud_running"] or None)
    control.crash()
    control.restart()
    assert told() == "offline"
    wait_for("the tunnel", lambda: control.get("/status")["tunnels"] or None)
    ask(values=[3])
    assert told() == "sum 100003"
    for _ in range(10):  # an hour may end meanwhile, and its budget with it
        ask(values=[0])
        if told() == "budget":
            break
    else:
        pytest.fail("the budget was never used up")
