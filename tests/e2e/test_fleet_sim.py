"""A simulated fleet on a real server: everybody gets what the policy says, and a bad version goes back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from walle_control.fleet.scenario import Group, Network, Scenario, Version
from walle_control.fleet.simulator import Target, open_fleet
from walle_support.live import SCENARIO, LiveControl, commit_tasks, task_folder

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

DEVICES = 120
OLD, BAD = f"{SCENARIO}/greeter 1.0.0", f"{SCENARIO}/greeter 2.0.0"


@pytest.fixture(scope="module")
def control(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fleet")
    control = LiveControl(folder)
    try:
        control.start()
        for version, value in (("1.0.0", 1), ("2.0.0", 2)):
            task = task_folder(folder / version, "greeter", f"def run():\n    return {value}\n")
            commit_tasks(folder / "tasks", {"greeter": task}, version)
            assert control.import_task(folder / "tasks", "greeter", version).status_code == 201
        yield control
    finally:
        control.stop()


def target(control: LiveControl) -> Target:
    granted = control.post("/enrol-tokens", {"uses": DEVICES}).json()
    return Target(control.url, granted["public_key"], granted["token"])


async def test_a_fleet_takes_a_version_over_and_gives_a_failing_one_back(control):
    scenario = Scenario(
        devices=DEVICES,
        streaming=0.9,
        business_s=1.0,
        poll_s=2.0,
        groups=(Group(3.0, {"group": "stable"}), Group(1.0, {"group": "beta"})),
        networks=(Network(), Network("mobile", rtt_ms=5, bytes_per_s=1e6, failure=0.2)),
        versions=(
            Version(version="2.0.0", run_failure=0.5, run_after_s=0.1),
            Version(run_after_s=0.1),
        ),
    )
    with trio.fail_after(60):
        async with open_fleet(scenario, target(control)) as fleet:
            await fleet.wait_enrolled()
            await trio.to_thread.run_sync(control.release, "greeter", "1.0.0")
            await fleet.wait_covered(OLD, 1.0)
            beta = await trio.to_thread.run_sync(
                control.post,
                "/releases",
                {"scenario": SCENARIO, "task": "greeter", "version": "2.0.0", "predicate": 'group == "beta"'},
            )
            release = beta.json()["release"]["id"]
            await fleet.tally.wait_until(lambda: fleet.tally.running[BAD] > 0)
            await fleet.wait_covered(OLD, 1.0)  # the guard has taken it back
    detail = control.get(f"/releases/{release}")
    assert (detail["release"]["state"], detail["history"][-1]["actor"]) == ("rolled_back", "guard")
    tally = fleet.tally
    assert set(tally.errors) <= {"connection_lost"}  # the simulated network's, and nothing about trust
    assert tally.enrolled == DEVICES
    assert len(tally.activations[BAD]) < DEVICES / 2
    assert sum(count["n"] for count in detail["counts"]) > 0
    states = {task["state"] for device in control.get("/devices")["devices"] for task in device["tasks"]}
    assert states <= {"installed", "waiting"}


def test_the_command_runs_a_fleet_and_draws_its_coverage(control, tmp_path):
    scenario = tmp_path / "fleet.toml"
    scenario.write_text("devices = 30\nseed = 7\n")
    chart = tmp_path / "coverage.svg"
    words = ["fleet-sim", "--scenario", scenario, "--release", f"{SCENARIO}/greeter", "1.0.0"]
    words += ["--seconds", "60", "--plot", chart, "--json", "--data", control.data]
    done = subprocess.run(
        [Path(sys.executable).with_name("walle-control"), *words],
        capture_output=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["enrolled"], summary["versions"][OLD]["devices"], summary["errors"]) == (30, 30, {})
    assert OLD in chart.read_text()
