"""Who gets a release, between the real programs: by set, by the server's word, by permit; and the header."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from walle_agent.client.epochs import EpochHook
from walle_control.push import EpochHeader, EpochSource
from walle_support.asgi import on_asyncio
from walle_support.live import SCENARIO, LiveControl, LiveDevice, commit_tasks, task_folder, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow_session]

RUNS = """
    def run():
        return None
    """
TASKS = ("by_set", "by_server", "by_permit", "for_all", "pushed")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder with a short name: the path of a Unix socket has room for 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="w-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def control(folder: Path) -> Iterator[LiveControl]:
    control = LiveControl(folder)
    try:
        control.start()
        repo = folder / "tasks.git"
        commit_tasks(repo, {name: task_folder(folder / "src", name, RUNS) for name in TASKS}, "1.0.0")
        for name in TASKS:
            assert control.import_task(repo, name).is_success
        yield control
    finally:
        control.stop()


@pytest.fixture(scope="module")
def devices(folder: Path, control: LiveControl) -> Iterator[list[LiveDevice]]:
    devices = [LiveDevice(name, folder, {"group": "proof"}) for name in ("one", "two")]
    token = control.post("/enrol-tokens", {"uses": 2}).json()
    try:
        for device in devices:
            device.start(control.url, token["trusted_root"], token["token"])
            device.await_ready()
        yield devices
    finally:
        for device in devices:
            device.stop()


def enrolled(control: LiveControl) -> list[str]:
    """The ids of both devices, once they have enrolled."""
    return wait_for(
        "two devices",
        lambda: ids if len(ids := [each["id"] for each in control.get("/devices")["devices"]]) == 2 else None,
    )


def having(control: LiveControl, task: str) -> set[str]:
    """The devices that said that they have a task."""
    found = control.get("/devices")["devices"]
    return {each["id"] for each in found for installed in each["tasks"] if installed["task"] == task}


def release(control: LiveControl, task: str, **more: object) -> None:
    wish = {"scenario": SCENARIO, "task": task, "version": "1.0.0", **more}
    answer = control.post("/releases", wish)
    assert answer.is_success, answer.text


def test_a_release_reaches_exactly_those_it_is_for(control: LiveControl, devices: list[LiveDevice]) -> None:
    first, second = enrolled(control)
    ids = devices[0].folder / "ids.txt"
    ids.write_text(f"{first}\nnobody\n")
    control.command("set", "upload", "friends", str(ids))
    control.command("attribute", "declare", "tier", "string", "--side", "server")
    control.command("device", "describe", second, "tier=gold")
    release(control, "by_set", predicate='device in set("friends")')
    release(control, "by_server", predicate='tier == "gold"')
    release(control, "by_permit", terms={"cap": 1})
    wait_for("the set's device", lambda: having(control, "by_set") or None)
    wait_for("the server's device", lambda: having(control, "by_server") or None)
    wait_for("the permit's device", lambda: having(control, "by_permit") or None)
    release(control, "for_all")  # by then, both have decided about all the others
    wait_for("both", lambda: len(having(control, "for_all")) == 2 or None)
    assert having(control, "by_set") == {first}
    assert having(control, "by_server") == {second}
    assert len(having(control, "by_permit")) == 1
    reasons = {
        each["release_id"]: each["reason"]
        for each in control.command("release", "explain", first)["releases"]
    }
    assert any('decided by the server: tier == "gold"' in reason for reason in reasons.values())


def test_the_apps_own_server_brings_an_epoch_to_the_agent(
    control: LiveControl, devices: list[LiveDevice]
) -> None:
    async def shop(scope, receive, send):  # type: ignore[no-untyped-def]  # an ASGI application
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    enrolled(control)
    hook = EpochHook(devices[0].socket)
    with (
        EpochSource(control.url, poll_s=0.05) as source,
        on_asyncio(EpochHeader(shop, source)) as url,
        httpx.Client(base_url=url, event_hooks=hook.hooks(), trust_env=False) as client,
    ):
        release(control, "pushed")
        newest = control.get("/epoch")["epoch"]
        wait_for("the header", lambda: (client.get("/"), hook.epoch == newest)[1] or None)
    wait_for("both", lambda: len(having(control, "pushed")) == 2 or None)
    assert any(line["event"] == "epoch_hinted" for line in devices[0].log_lines())
