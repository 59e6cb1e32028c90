"""The ten-minute guide, command by command, as a reader would type it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from walle_support.live import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "first-task.md"

#: What goes on in a terminal of its own, and the file that is there once it answers.
SERVERS = {"walle-control serve": "control/address.json", "walle-agent run": "walle-agent-data/events.sock"}


def commands() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert lines[0].startswith("pip install")
    return lines[1:]


class Reader:
    """Types what the guide says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers: list[subprocess.Popen[bytes]] = []
        self.env = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "WALLE_CONTROL_SERVER__PORT": "0",  # the default port may be taken here
            **{
                f"GIT_{who}_{what}": "reader@localhost"
                for who in ("AUTHOR", "COMMITTER")
                for what in ("NAME", "EMAIL")
            },
        }

    def type(self, line: str) -> str:
        """Run a command; what it prints."""
        for beginning, sign in SERVERS.items():
            if line.startswith(beginning):
                return self._serve(line, self.folder / sign)
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").partition("=")
            self.env[name] = value
            return ""
        if "RELEASE" in line:
            newest = json.loads(self.type("walle-control release list --json"))["releases"][0]
            line = line.replace("RELEASE", newest["release"]["id"])
        done = subprocess.run(
            shlex.split(line),
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def _serve(self, line: str, sign: Path) -> str:
        with (self.folder / "log.txt").open("ab") as log:
            server = subprocess.Popen(
                shlex.split(line), cwd=self.folder, env=self.env, stdout=log, stderr=log
            )
        self.servers.append(server)

        def answers() -> bool | None:
            assert server.poll() is None, (self.folder / "log.txt").read_text()
            return sign.exists() or None

        wait_for(line, answers, timeout_s=60)
        return ""

    def leave(self) -> None:
        """Close the terminals."""
        for server in reversed(self.servers):
            server.terminate()
            server.wait(20)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    one = Reader(tmp_path)
    yield one
    one.leave()


def test_every_command_does_what_the_guide_says(reader: Reader) -> None:
    told: dict[str, str] = {}
    for line in commands():
        if line.startswith("walle-agent emit"):
            wait_for(
                "the task", lambda: "trial" in reader.type("walle-agent status --config agent.toml") or None
            )
        told[line] = reader.type(line)
    [tail] = [text for line, text in told.items() if line.startswith("walle-control features tail")]
    assert [line for line in tail.splitlines() if "dwell_ms" in line][1:2]
    [watched] = [text for line, text in told.items() if line.startswith("walle-control release watch")]
    assert "1 have run it, 0 failed" in watched
    assert "rolled_back" in told["walle-control release list"]
    wait_for(
        "the way back to 1.0.0",
        lambda: re.search(r"[ab]\*\s+\w+\s+1\.0\.0", reader.type("walle-agent status --config agent.toml")),
    )
