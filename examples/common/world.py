"""An example's world: real processes of the installed programs, their folders, and how to talk to them."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

BIN = Path(sys.executable).parent


class DemoError(Exception):
    """A stage did not come to the end it should; the sentence says what was seen."""


def wait_for[T](
    what: str, probe: Callable[[], T | None], *, timeout_s: float = 20.0, every_s: float = 0.05
) -> T:
    """Ask ``probe`` until it answers.

    Raises:
        DemoError: naming ``what``, when the time is up.
    """
    deadline = time.monotonic() + timeout_s
    while (answer := probe()) is None:
        if time.monotonic() > deadline:
            raise DemoError(f"waited {timeout_s:.0f} s for {what}")
        time.sleep(every_s)
    return answer


class Program:
    """A long-running process of ours, its log in a file."""

    def __init__(self, name: str, words: list[str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(words, stdout=out, stderr=out, stdin=subprocess.DEVNULL)

    def check(self) -> None:
        """Raise ``DemoError`` with the end of its log if it has stopped."""
        if self._process.poll() is not None:
            tail = self.log.read_text(errors="replace")[-2000:]
            raise DemoError(f"{self.name} stopped with exit code {self._process.returncode}:\n{tail}")

    def stop(self) -> None:
        """Ask it to stop; insist after ten seconds."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._process.kill()
        self._process.wait()


class ControlPlane:
    """``walle-control`` as an operator uses it: its command line, and the admin API behind it."""

    def __init__(self, folder: Path, announce: Callable[[list[str]], None]) -> None:
        self.data = folder / "control"
        self._announce = announce
        self._program: Program | None = None
        self._client: httpx.Client | None = None
        self.url = ""

    def start(self, port: int = 0) -> None:
        """Initialise the data folder, start the server (0: on a free port), wait until it answers."""
        self.command("init")
        words = [str(BIN / "walle-control"), "serve", "--data", str(self.data), "--port", str(port)]
        self._program = Program("walle-control", words, self.data.parent / "control.log")
        address = wait_for("walle-control to listen", self._address)
        self.url = address["url"]
        token = (self.data / "admin.token").read_text().strip()
        self._client = httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=10
        )

    def command(self, *words: str) -> Any:
        """Run a ``walle-control`` command and return what it prints with ``--json``.

        Raises:
            DemoError: it failed; with its own words.
        """
        self._announce(["walle-control", *words])
        full = [str(BIN / "walle-control"), *words, "--data", str(self.data), "--json"]
        done = subprocess.run(full, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            raise DemoError(f"walle-control {' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def get(self, path: str, **query: str | int) -> Any:
        """Ask the admin API."""
        assert self._client is not None
        answer = self._client.get(f"/api/v1{path}", params=query)
        answer.raise_for_status()
        return answer.json()

    def check(self) -> None:
        """Raise if the server has stopped."""
        if self._program is not None:
            self._program.check()

    def stop(self) -> None:
        """Stop the server."""
        if self._client is not None:
            self._client.close()
        if self._program is not None:
            self._program.stop()

    def _address(self) -> dict[str, str] | None:
        self.check()
        path = self.data / "address.json"
        return json.loads(path.read_text()) if path.exists() else None


class Device:
    """A ``walle-agent`` with a profile of its own, and the app beside it that emits events."""

    def __init__(
        self, name: str, folder: Path, profile: Mapping[str, str], agent: Path = BIN / "walle-agent"
    ) -> None:
        self.name = name
        self.agent = agent
        self.profile = profile
        self.folder = folder / name
        self.config = self.folder / "agent.toml"
        self.socket = self.folder / "data" / "events.sock"
        self._program: Program | None = None

    def start(self, control_url: str, trusted_root: str, token: str) -> None:
        """Write its settings and start the agent."""
        self.folder.mkdir(parents=True)
        self.config.write_text(_agent_settings(self, control_url, trusted_root, token))
        self.run()

    def run(self) -> None:
        """Start the agent with the settings it has."""
        words = [str(self.agent), "run", "--config", str(self.config)]
        self._program = Program(f"walle-agent on {self.name}", words, self.folder / "agent.log")

    def emit(self, events: Iterable[Mapping[str, Any]], *, pause_s: float = 0.0) -> None:
        """Write events to the agent's socket, as an app would, with a pause after each page visit."""
        with socket.socket(socket.AF_UNIX) as app:
            app.connect(str(self.socket))
            for event in events:
                app.sendall(json.dumps(event).encode() + b"\n")
                if event["kind"] == "page_exit":
                    time.sleep(pause_s)

    def ready(self) -> bool | None:
        """True once the agent listens for events; ``None`` before."""
        self.check()
        return True if self.socket.exists() else None

    def check(self) -> None:
        """Raise if the agent has stopped."""
        if self._program is not None:
            self._program.check()

    def stop(self) -> None:
        """Stop the agent."""
        if self._program is not None:
            self._program.stop()


@dataclass
class World:
    """A control plane, its devices, and what was learnt on the way; an example adds what it needs besides.

    Attributes:
        folder: where all of it lies; ``tasks`` in it is the git repository of tasks.
        control: the control plane.
        devices: by name; the name is in each one's profile.
        names: device id to name, of those that have enrolled.
        releases: ``"task version"`` to the release as it was created.
        summary: figures, as they are written by ``--json``.
    """

    folder: Path
    control: ControlPlane
    devices: dict[str, Device]
    names: dict[str, str] = field(default_factory=dict)
    releases: dict[str, dict[str, Any]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Raise if any process has died."""
        self.control.check()
        for device in self.devices.values():
            device.check()

    def stop(self) -> None:
        """Stop all processes."""
        for device in self.devices.values():
            device.stop()
        self.control.stop()

    def enrol(self) -> None:
        """Start all devices with one token between them; wait until they have enrolled and listen."""
        enrolment = self.control.command("enrol-token", "create", "--uses", str(len(self.devices)))
        for device in self.devices.values():
            device.start(self.control.url, enrolment["trusted_root"], enrolment["token"])
        wait_for("the agents to enrol and listen", self._all_enrolled)

    def _all_enrolled(self) -> bool | None:
        self.check()
        for row in self.control.get("/devices")["devices"]:
            self.names[row["id"]] = row["profile"]["name"]
        ready = all(device.ready() for device in self.devices.values())
        return True if ready and len(self.names) == len(self.devices) else None

    def bring(self, task: str, version: str) -> None:
        """Import a tagged version of a task from the repository."""
        self.control.command("import", task, version, "--repo", str(self.folder / "tasks"))

    def release(self, task: str, version: str, *, predicate: str = "", **guard: str) -> dict[str, Any]:
        """Release a version to all devices for which a predicate holds.

        Args:
            task: the task's name, in the scenario ``demo``.
            version: its version.
            predicate: which devices; ``""``: all.
            guard: options of ``walle-control release create``, such as ``min_reports="3"``.
        """
        words = ["release", "create", f"demo/{task}", version, "--percent", "100"]
        if predicate:
            words += ["--where", predicate]
        for name, value in guard.items():
            words += [f"--{name.replace('_', '-')}", value]
        release: dict[str, Any] = self.control.command(*words)["release"]
        self.releases[f"{task} {version}"] = release
        return release

    def installed(self) -> dict[tuple[str, str], tuple[dict[str, Any], dict[str, Any]]]:
        """By task and name of device: the report of the newest installation, and its release."""
        found = {}
        for release in self.releases.values():
            for report in self.reports(release["id"]):
                if report["stage"] == "install" and report["outcome"] == "success":
                    found[report["task"], self.names[report["device_id"]]] = report, release
        return found

    def features(self, task: str, name: str, *, after: int = 0) -> list[dict[str, Any]]:
        """What devices sent under ``name``, oldest first, from the row after the one with id ``after`` on."""
        rows: list[dict[str, Any]] = []
        while True:
            last = rows[-1]["id"] if rows else after
            query = {"scenario": "demo", "task": task, "name": name, "after": last}
            page = self.control.get("/features", **query)["features"]
            if not page:
                return rows
            rows += page

    def reports(self, release_id: str) -> list[dict[str, Any]]:
        """What devices reported of a release."""
        rows: list[dict[str, Any]] = self.control.get("/reports", release=release_id)["reports"]
        return rows


def wall_ms() -> int:
    """The wall clock, as events have it."""
    return time.time_ns() // 1_000_000


def commit_tasks(
    repo: Path, tasks: Mapping[str, Path], tag: str, *, changes: Mapping[str, Path] | None = None
) -> None:
    """Commit task folders to a git repository, made if it is not there, and tag each as ``<task>/<tag>``.

    Args:
        repo: the repository's folder.
        tasks: task name to the folder it is copied from.
        tag: the version.
        changes: path in the repository to the file that replaces it afterwards.
    """
    if not repo.exists():
        _git(repo.parent, "init", "--quiet", "--initial-branch=main", str(repo))
    for name, source in tasks.items():
        shutil.copytree(source, repo / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    for path, source in (changes or {}).items():
        shutil.copy(source, repo / path)
    _git(repo, "add", "--all")
    _git(repo, "commit", "--quiet", "--message", f"Release {tag}")
    for name in tasks:
        _git(repo, "tag", f"{name}/{tag}")


def _git(folder: Path, *words: str) -> None:
    author = ("user.name=Walle example", "user.email=example@localhost", "commit.gpgsign=false")
    settings = [word for setting in author for word in ("-c", setting)]
    subprocess.run(["git", *settings, *words], cwd=folder, check=True, capture_output=True, timeout=30)


def _agent_settings(device: Device, control_url: str, trusted_root: str, token: str) -> str:
    profile = "\n".join(f"{name} = {json.dumps(value)}" for name, value in device.profile.items())
    return f"""\
[agent]
data_dir = {json.dumps(str(device.folder / "data"))}

[control]
url = {json.dumps(control_url)}
trusted_root = {json.dumps(trusted_root)}
enrol_token = {json.dumps(token)}

[profile]
{profile}
"""
