"""A simulated fleet on a real server: everybody gets what the policy says, and a bad version goes back."""

from __future__ import annotations

import json
import subprocess
import sys
from bisect import bisect_right
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from walle_control.fleet.model import Model, Pull, Servers, run_model
from walle_control.fleet.scenario import Group, Network, Scenario, Version
from walle_control.fleet.simulator import Target, open_fleet
from walle_support.live import SCENARIO, LiveControl, commit_tasks, task_folder, wait_for

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
    return Target(control.url, granted["trusted_root"], granted["token"])


def all_told(control: LiveControl) -> bool | None:
    """Whether every device is known to run the old version."""
    tasks = [task for device in control.get("/devices")["devices"] for task in device["tasks"]]
    return all((task["state"], task["version"]) == ("installed", "1.0.0") for task in tasks) or None


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
            await trio.to_thread.run_sync(wait_for, "all to say what they run", lambda: all_told(control))
    detail = control.get(f"/releases/{release}")
    assert (detail["release"]["state"], detail["history"][-1]["actor"]) == ("rolled_back", "guard")
    tally = fleet.tally
    assert set(tally.errors) <= {"connection_lost"}  # the simulated network's, and nothing about trust
    assert tally.enrolled == DEVICES
    assert len(tally.activations[BAD]) < DEVICES / 2
    assert sum(count["n"] for count in detail["counts"]) > 0


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


def test_a_release_that_is_refused_is_one_sentence(control):
    words = [
        "fleet-sim",
        "--devices",
        "2",
        "--release",
        f"{SCENARIO}/greeter",
        "9.9.9",
        "--data",
        control.data,
    ]
    done = subprocess.run(
        [Path(sys.executable).with_name("walle-control"), *words],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    complaint = done.stderr.decode().splitlines()[-1]
    assert complaint.startswith(
        f"walle-control: error: version 9.9.9 of task {SCENARIO}/greeter was not imported"
    )


#: How far the model's part of the devices may be from the real one at any time: at most what chance moves the
#: curve of so many devices by (Kolmogorov-Smirnov, one in a thousand), and what a busy machine adds.
TOLERANCE = 0.15


@pytest.mark.slow_session
async def test_the_model_says_what_devices_true_to_the_protocol_do(control):
    """The same fleet twice: once device by device against a real server, once as counts."""
    fleet_of = Scenario(
        devices=300,
        seed=11,
        streaming=0.2,
        business_s=20.0,
        poll_s=40.0,
        online_s=60.0,
        offline_s=20.0,
        networks=(Network("wifi", 2.0, 20, 3e6), Network("mobile", 1.0, 150, 3e5)),
        versions=(Version(run_after_s=5.0),),
    )
    granted = control.post("/enrol-tokens", {"uses": 300}).json()
    goal = Target(control.url, granted["trusted_root"], granted["token"])
    version = f"{SCENARIO}/greeter 2.0.0"
    with trio.fail_after(400):
        async with open_fleet(fleet_of, goal) as fleet:
            await fleet.wait_enrolled()
            online = fleet.tally.online / 300
            published = fleet.tally.now()
            await trio.to_thread.run_sync(control.release, "greeter", "2.0.0")
            await fleet.wait_covered(version, 0.97)
    times = sorted(at - published for at in fleet.tally.activations[version])
    servers = Servers(requests_per_s=500.0, pushes_per_s=2_000.0)
    model = Model(
        fleet_of, servers, Pull((500, 600, 1_500, 400, 100, 100, 300), 6), online=online, until=0.97
    )
    curves = [run_model(replace(model, fleet=replace(fleet_of, seed=seed))) for seed in range(10)]
    apart = 0.0
    for at in range(1, round(times[-1])):
        real = bisect_right(times, at) / 300
        modelled = [each.covered[min(at * 10, len(each.covered) - 1)] / 300 for each in curves]
        apart = max(apart, abs(real - sum(modelled) / len(modelled)))
    print(f"the curves are at most {apart:.3f} apart")
    assert apart <= TOLERANCE
