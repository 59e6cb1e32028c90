"""Learning together, between the real programs: rounds, what devices refuse, personal models, a crash."""

from __future__ import annotations

import json
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from walle_support.learning import npz, write_digits_model
from walle_support.live import SCENARIO, LiveControl, LiveDevice, commit_tasks, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow_session]

SCRIPT = """
    from walle_task import events, learn, tunnel


    def batch(samples):
        return {"image": [s["pixels"] for s in samples], "target": [s["label"] for s in samples]}


    def run():
        for event in events.all():
            if event.event_id == "digit_seen":
                learn.keep({"pixels": event.args["pixels"], "label": event.args["label"]})
            elif event.event_id == "personalise":
                learn.personalise(batch, steps=40, seconds=5.0, rate=0.2)
                scores = learn.personal().run({"image": batch(learn.samples())["image"]})["scores"]
                tunnel.send("own", {"right": _right(scores.tolist(), [s["label"] for s in learn.samples()])})
                learn.back_up()
            elif event.event_id == "try_own":
                scores = learn.personal().run({"image": event.args["pixels"]})["scores"]
                tunnel.send("tried", {"right": _right(scores.tolist(), event.args["labels"])})
            else:
                given = learn.contribute(batch)
                if given is not None:
                    tunnel.send("joined", {"round": given.round, "samples": given.samples})


    def _right(scores, labels):
        return sum(row.index(max(row)) == label for row, label in zip(scores, labels))
    """

TOML = f"""
[task]
scenario = "{SCENARIO}"
name = "digits"
capabilities = ["events", "model", "store", "tunnel", "params", "log", "learn"]

[[triggers]]
ids = ["event:digit_seen"]

[[triggers]]
ids = ["event:personalise"]

[[triggers]]
ids = ["event:try_own"]

[[triggers]]
ids = ["event:walle.learning_round"]

[limits]
output_bytes = 262144
memory_bytes = 134217728

[tables.samples]
pixels = "json"
label = "integer"

[retention.samples]
rows = 200

[uploads.joined]
round = "integer"
samples = "integer"

[uploads.own]
right = "integer"

[uploads.tried]
right = "integer"

[own]
files = ["personal.bin"]

[learning]
model = "digits"
table = "samples"
min_samples = 10
min_cohort = 3
rounds_per_day = 100
backup = true
"""

LEARNING = """
[learning]
consent = {consent}
poll_s = 0.5
rounds_per_day = 100
"""


class Learning(LiveDevice):
    """A device whose owner consents, or does not."""

    consent = "true"

    def run(self) -> None:
        settings = self.config.read_text()
        if "[learning]" not in settings:
            self.config.write_text(settings + LEARNING.format(consent=self.consent))
        super().run()


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
        source = folder / "src" / "digits"
        (source / "model").mkdir(parents=True)
        (source / "main.py").write_text(textwrap.dedent(SCRIPT))
        (source / "task.toml").write_text(TOML)
        write_digits_model(source / "model" / "digits.wmodel")
        repo = folder / "tasks.git"
        commit_tasks(repo, {"digits": source}, "1.0.0")
        answer = control.import_task(repo, "digits")
        assert answer.is_success, answer.text
        yield control
    finally:
        control.stop()


@pytest.fixture(scope="module")
def devices(folder: Path, control: LiveControl) -> Iterator[list[Learning]]:
    devices = [Learning(name, folder, {"group": "proof"}) for name in ("one", "two", "three", "shy")]
    devices[3].consent = "false"
    token = control.post("/enrol-tokens", {"uses": 4}).json()
    try:
        for device in devices:
            device.start(control.url, token["trusted_root"], token["token"])
        for device in devices:
            device.await_ready()
        control.release("digits")
        wait_for("all to have it", lambda: all(map(is_watching, devices)) or None)
        for number, device in enumerate(devices):
            device.emit(samples_of(number))
        wait_for("samples", lambda: all(kept(device) >= 100 for device in devices) or None)
        yield devices
    finally:
        for device in devices:
            device.stop()


def status(device: Learning) -> Any:
    """What its agent counts; nothing before it has begun."""
    try:
        return json.loads((device.folder / "data" / "status.json").read_bytes())
    except FileNotFoundError:
        return None


def is_watching(device: Learning) -> bool:
    """Whether the task is active: what comes now fires it."""
    now = status(device)
    return now is not None and now["streams"]["flow"]["pipeline"]["matcher"]["tasks"] == 1


def kept(device: Learning) -> int:
    """How many runs its agent has committed."""
    return int(status(device)["runs"]["ok"])


def samples_of(number: int) -> list[dict[str, Any]]:
    """What a device sees: scans of few digits."""
    digits = load_digits()
    rows = np.array_split(np.argsort(digits.target[:1200], kind="stable"), 4)[number][::3]
    return [
        {"kind": "custom", "event_id": "digit_seen", "args": {"pixels": p.tolist(), "label": int(y)}}
        for p, y in zip(digits.data[rows] / 16, digits.target[rows], strict=True)
    ]


def plan_of(control: LiveControl, plan: str) -> Any:
    return control.get(f"/learning/{plan}")


def test_devices_learn_together(folder: Path, control: LiveControl, devices: list[Learning]) -> None:
    digits = load_digits()
    (folder / "held.npz").write_bytes(
        npz(image=(digits.data[1200:] / 16).astype("f4"), target=digits.target[1200:])
    )
    plan = control.command(
        "learning", "start", f"{SCENARIO}/digits", "1.0.0", "--no-noise", "--rounds", "4",
        "--goal", "3", "--min-cohort", "3", "--epochs", "3", "--rate", "0.1", "--clip-norm", "1.0",
        "--cohort-percent", "100", "--deadline-s", "60", "--holdout", str(folder / "held.npz"),
    )  # fmt: skip
    wait_for("a first round", lambda: plan_of(control, plan["id"])["rounds_closed"] >= 1 or None)
    control.crash()  # whatever it was about
    control.restart()
    done = wait_for("the plan", lambda: p if (p := plan_of(control, plan["id"]))["state"] == "done" else None)
    rounds = control.command("learning", "rounds", plan["id"])["rounds"]
    closed = [each for each in rounds if each["state"] == "closed"]
    assert len(closed) == 4
    assert [each["updates"] for each in closed] == [3] * 4
    assert [each["refused"] for each in closed] == [0] * 4
    assert closed[0]["loss"] < closed[-1]["loss"] < 2.4  # newest first; untrained it is ln 10 and more
    assert done["epsilon"] is None
    # Only what the task declares is among the features, and the one who does not consent gave nothing.
    joined = wait_for("features", lambda: f if len(f := features(control, "joined")) >= 12 else None)
    assert len({each["device_id"] for each in joined}) == 3
    assert {each["name"] for each in control.features("digits")} <= {"joined", "own", "tried"}
    control.command("learning", "model", plan["id"], str(folder / "learnt.wmodel"))
    assert (folder / "learnt.wmodel").stat().st_size > 4_000


def features(control: LiveControl, name: str) -> list[dict[str, Any]]:
    return [each for each in control.features("digits") if each["name"] == name]


def found(control: LiveControl, name: str) -> list[Any]:
    return [each["fields"]["right"] for each in features(control, name)]


def test_a_device_has_a_model_of_its_own(control: LiveControl, devices: list[Learning]) -> None:
    before = len(found(control, "own"))
    devices[3].emit([{"kind": "custom", "event_id": "personalise"}])  # it takes no consent: nothing leaves
    own = wait_for("a personal model", lambda: found(control, "own")[before:] or None)
    assert own[0] > 60  # of 100 with few classes


def test_a_model_of_ones_own_comes_back_when_the_store_is_lost(
    control: LiveControl, devices: list[Learning]
) -> None:
    device, digits = devices[0], load_digits()
    known = np.argsort(digits.target[:1200], kind="stable")[:300:15]  # 20 of those that it has seen
    trial = {"pixels": (digits.data[known] / 16).round(4).tolist(), "labels": digits.target[known].tolist()}
    tries = {"kind": "custom", "event_id": "try_own", "args": trial}
    own = len(found(control, "own"))
    device.emit([{"kind": "custom", "event_id": "personalise"}])
    wait_for("a personal model", lambda: len(found(control, "own")) > own or None)
    device.emit([tries])
    before = wait_for("a trial", lambda: found(control, "tried") or None)[0]
    assert before > 12
    wait_for(
        "the backup", lambda: control.command("exclusive", "list", f"{SCENARIO}/digits")["files"] or None
    )
    device.crash()
    for file in (device.folder / "data").glob("streams.db*"):
        file.unlink()
    device.run()
    device.await_ready()
    where = "slots/*/digits/*/bundle/own/personal.bin"
    wait_for("the file", lambda: list((device.folder / "data").glob(where)) or None)
    wait_for("it to watch", lambda: is_watching(device) or None)
    device.emit([tries])
    after = wait_for("another trial", lambda: t if len(t := found(control, "tried")) == 2 else None)[1]
    assert after == before
    device.emit(samples_of(0))  # they were lost too, and others learn with them
    wait_for("samples", lambda: kept(device) >= 100 or None)
