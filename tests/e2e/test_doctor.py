"""Both doctors look at real programs, and name what is wrong with them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from walle_support.live import LiveControl, LiveDevice, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def findings(*words: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """What a doctor prints: the exit code, and findings by what they are about (the last of each)."""
    done = subprocess.run(
        [sys.executable, "-m", *words, "--json"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    return done.returncode, {finding["about"]: finding for finding in json.loads(done.stdout)}


def wrongs(found: dict[str, dict[str, Any]]) -> set[str]:
    assert all(finding["cure"] for finding in found.values() if finding["level"] != "ok")
    return {about for about, finding in found.items() if finding["level"] == "wrong"}


def test_doctors_tell_the_well_from_the_ill(tmp_path: Path) -> None:
    control, device = LiveControl(tmp_path), LiveDevice("phone", tmp_path, {"group": "x"})
    of_control = ("walle_control", "doctor", "--data", str(control.data))
    of_device = ("walle_agent", "doctor", "--config", str(device.config))
    try:
        control.start()
        enrolment = control.post("/enrol-tokens", {"uses": 1}).json()
        device.start(control.url, enrolment["trusted_root"], enrolment["token"])
        device.await_ready()
        wait_for("the first epoch", lambda: findings(*of_device)[1]["epoch"]["level"] == "ok" or None)

        code, found = findings(*of_device)
        assert (code, wrongs(found)) == (0, set())
        assert (
            found["enrolment"]["tells"].startswith("this is d-") or "this is" in found["enrolment"]["tells"]
        )
        assert found["trust"]["level"] == found["wall clock"]["level"] == "ok"

        code, found = findings(*of_control)
        assert (code, wrongs(found)) == (0, set())
        assert {"data folder", "disk", "server", "epoch", "trust", "releases"} <= found.keys()

        (control.data / "keys").chmod(0o755)
        code, found = findings(*of_control)
        assert (code, wrongs(found)) == (1, {"data folder"})
        (control.data / "keys").chmod(0o700)

        settings = device.config.read_text()
        stranger = enrolment["trusted_root"].split(".")[0] + "." + "0" * 64
        device.config.write_text(settings.replace(enrolment["trusted_root"], stranger))
        code, found = findings(*of_device)
        assert (code, wrongs(found)) == (1, {"trust"})
        assert "trusted_root" in found["trust"]["cure"]
        device.config.write_text(settings)

        device.stop()
        control.stop()
        reports = device.folder / "data" / "reports.db"
        reports.write_bytes(b"SQLite format 3\0" + b"\xff" * 4096)
        code, found = findings(*of_device)
        assert (code, wrongs(found)) == (1, {"control plane", "reports.db"})
        assert found["agent"]["level"] == "note"
        assert control.url in found["control plane"]["tells"]
    finally:
        device.stop()
        control.stop()
