"""The installed programs as real processes, as the demo starts them, with levers to crash them."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parents[3] / "examples" / "common"))
from world import BIN, ControlPlane, Device, Program, commit_tasks, wait_for

__all__ = ["SCENARIO", "LiveControl", "LiveDevice", "commit_tasks", "task_folder", "wait_for"]

SCENARIO = "proof"

#: Short waits, so that an agent comes back within a test; a log that a test can read.
_IMPATIENT = """
[link]
poll_s = 0.5
backoff_base_s = 0.05
backoff_cap_s = 0.5

[deploy]
download_attempts = 1
install_attempts = 100
retry_cap_s = 0.5

[log]
format = "json"
"""


class LiveControl(ControlPlane):
    """A control plane that can be crashed and started again under the same address."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, lambda words: None)

    def ask(self, method: str, path: str, body: Mapping[str, Any]) -> httpx.Response:
        """Ask anything of the server."""
        assert self._client is not None
        return self._client.request(method, path, json=body)

    def let_drafts_through(self) -> None:
        """Release what fails its simulations too; before the start."""
        self.settle("require_simulation", "true", "false")

    def listen_at(self, host: str) -> None:
        """Listen at this address; before the start."""
        self.settle("host", '"127.0.0.1"', f'"{host}"')

    def settle(self, key: str, default: str, value: str) -> None:
        """Set what has its default otherwise; before the start."""
        self.command("init")
        settings = self.data / "control.toml"
        text = settings.read_text()
        assert text.count(f"\n{key} = {default}\n") == 1
        settings.write_text(text.replace(f"\n{key} = {default}\n", f"\n{key} = {value}\n"))

    def log_lines(self) -> list[dict[str, Any]]:
        """Every whole line it has logged; ``[log] format`` must be JSON."""
        return _lines_of(self.data.parent / "control.log")

    def live_fleet(self, scenario: Path) -> Program:
        """Let simulated devices live on the server until the program is stopped."""
        words = ["fleet-sim", "--scenario", str(scenario), "--seconds", "3600", "--data", str(self.data)]
        return Program("fleet-sim", [str(BIN / "walle-control"), *words], self.data.parent / "fleet.log")

    def post(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        """Ask the admin API for a change."""
        assert self._client is not None
        return self._client.post(f"/api/v1{path}", json=body)

    def crash(self) -> None:
        """SIGKILL."""
        assert self._program is not None
        assert self._client is not None
        self._program.kill()
        self._client.close()
        (self.data / "address.json").unlink()

    def restart(self) -> None:
        """Start again where it was."""
        port = httpx.URL(self.url).port
        assert port is not None
        self.start(port)

    def import_task(self, repo: Path, task: str, version: str = "1.0.0") -> httpx.Response:
        """Import a version from a git tag."""
        return self.post("/tasks", {"repository": str(repo), "task": task, "version": version})

    def release(self, task: str, version: str = "1.0.0") -> str:
        """Release a version to everybody; the release's id."""
        answer = self.post("/releases", {"scenario": SCENARIO, "task": task, "version": version})
        assert answer.status_code == 201, answer.text
        release_id: str = answer.json()["release"]["id"]
        return release_id

    def reports(self, release_id: str, stage: str, outcome: str) -> list[dict[str, Any]]:
        """What devices said about one stage of a release."""
        found = self.get("/reports", release=release_id, outcome=outcome)["reports"]
        return [report for report in found if report["stage"] == stage]

    def await_report(self, release_id: str, stage: str, outcome: str) -> dict[str, Any]:
        """The first such report, once there is one."""
        what = f"a report of {stage} {outcome} for {release_id}"
        first: dict[str, Any] = wait_for(what, lambda: self.reports(release_id, stage, outcome) or None)[0]
        return first

    def features(self, task: str) -> list[dict[str, Any]]:
        """All features of a task, by arrival."""
        rows: list[dict[str, Any]] = []
        while page := self.get("/features", task=task, after=rows[-1]["id"] if rows else 0)["features"]:
            rows += page
        return rows


class LiveDevice(Device):
    """An agent with short waits that can be crashed and started again.

    ``traced``: all has a trace. ``link`` is more of its settings' section of that name.
    """

    traced = False
    link = ""

    def run(self) -> None:
        """Start the agent with the settings it has, and with short waits."""
        settings = self.config.read_text()
        if "[link]" not in settings:
            traces = "[run]\ntrace_share = 1.0\n" if self.traced else ""
            waits = _IMPATIENT.replace("[link]\n", f"[link]\n{self.link}")
            self.config.write_text(settings + waits + traces)
        super().run()

    def await_ready(self) -> None:
        """Wait until it listens for events."""
        wait_for(f"{self.name} to listen", self.ready)

    def crash(self) -> None:
        """SIGKILL."""
        assert self._program is not None
        self._program.kill()
        self.socket.unlink()

    def log_lines(self) -> list[dict[str, Any]]:
        """Every whole line it has logged."""
        return _lines_of(self.folder / "agent.log")


def _lines_of(log: Path) -> list[dict[str, Any]]:
    *lines, _unfinished = log.read_text().split("\n")
    return [json.loads(line) for line in lines if line.startswith("{")]


def task_folder(folder: Path, name: str, script: str, *, toml: str = "", trigger: str = "") -> Path:
    """Write a task that fires on ``event:go_<name>`` and may upload ``seen`` with one text, ``what``.

    Args:
        folder: where to make it.
        name: the task's name, and its folder's.
        script: ``main.py``, indented as you like.
        toml: more of ``task.toml``.
        trigger: another trigger id.
    """
    task = folder / name
    task.mkdir(parents=True)
    (task / "main.py").write_text(textwrap.dedent(script))
    head = f"""\
        [task]
        scenario = "{SCENARIO}"
        name = "{name}"
        capabilities = ["events", "model", "tunnel", "params", "log"]
        [[triggers]]
        ids = ["{trigger or f"event:go_{name}"}"]
        [uploads.seen]
        what = "text"
        """
    (task / "task.toml").write_text(textwrap.dedent(head) + textwrap.dedent(toml))
    return task
