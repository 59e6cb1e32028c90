"""A real server with a simulated fleet, and a real browser looking at it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from walle_support.live import SCENARIO, LiveControl, commit_tasks, task_folder, wait_for

#: How many devices live on the server; enough for arms that tell something.
DEVICES = int(os.environ.get("WALLE_BROWSER_DEVICES", "1000"))

_FLEET = f"""
devices = {DEVICES}
seed = 3
streaming = 0.2
poll_s = 2.0
business_s = 2.0

[[groups]]
weight = 3.0
profile = {{ group = "stable", os = "linux" }}

[[groups]]
weight = 1.0
profile = {{ group = "beta", os = "android" }}

[[versions]]
version = "2.0.0"
run_failure = 0.6
run_after_s = 3.0

[[versions]]
run_after_s = 1.0
"""


@pytest.fixture(scope="session")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveControl]:
    """A server with three versions, the first on every device."""
    folder: Path = tmp_path_factory.mktemp("console")
    control = LiveControl(folder)
    fleet = None
    try:
        control.start()
        for version, value in (("1.0.0", 1), ("2.0.0", 2), ("3.0.0", 3)):
            task = task_folder(folder / version, "greeter", f"def run():\n    return {value}\n")
            commit_tasks(folder / "tasks", {"greeter": task}, version)
            assert control.import_task(folder / "tasks", "greeter", version).status_code == 201
        mirror = {"name": "tasks", "url": str(folder / "tasks"), "scenario": SCENARIO}
        assert control.post("/repositories", mirror).status_code == 201
        assert control.post("/repositories/tasks/sync", {}).status_code == 200
        (folder / "fleet.toml").write_text(_FLEET)
        fleet = control.live_fleet(folder / "fleet.toml")
        wait_for(
            "the devices to enrol",
            lambda: control.get("/status")["devices"] == DEVICES or None,
            timeout_s=180,
        )
        first = control.release("greeter", "1.0.0")
        wait_for("the first version on all", lambda: _covered(control, first), timeout_s=180, every_s=1)
        yield control
    finally:
        if fleet is not None:
            fleet.stop()
        control.stop()


def _covered(control: LiveControl, release: str) -> bool | None:
    counts = control.get(f"/releases/{release}")["counts"]
    installed = sum(c["n"] for c in counts if (c["stage"], c["outcome"]) == ("install", "success"))
    return installed >= DEVICES or None


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Debian's Chromium."""
    program = shutil.which("chromium")
    assert program is not None, "no chromium found: apt-get install chromium"
    from playwright.sync_api import sync_playwright  # of the group "browser", which the default suite lacks

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any, control: LiveControl) -> Iterator[Any]:
    """``open_page(signed_in=True, ...)``: a page of a browser of its own; what goes wrong in it is kept."""
    contexts: list[Any] = []

    def opened(*, signed_in: bool = True, **options: Any) -> Any:
        context = chromium.new_context(base_url=control.url, **{"reduced_motion": "reduce", **options})
        contexts.append(context)
        page = context.new_page()
        page.troubles = []
        page.on("pageerror", lambda error: page.troubles.append(str(error)))
        page.on("dialog", lambda dialog: (page.troubles.append("a dialog"), dialog.dismiss()))
        page.on(
            "console",
            lambda line: page.troubles.append(line.text) if "Content Security Policy" in line.text else None,
        )
        page.on(
            "request",
            lambda asked: None if asked.url.startswith(control.url) else page.troubles.append(asked.url),
        )
        if signed_in:
            page.goto("/console")
            page.get_by_label("Token").fill((control.data / "admin.token").read_text().strip())
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_url("**/console/")
        return page

    yield opened
    for context in contexts:
        context.close()


__all__ = ["DEVICES", "SCENARIO"]
