from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from walle_agent.emit import Pace, open_lines, send_events
from walle_shared.errors import ConfigError, ConnectionLost


class Agent:
    """Takes lines on a socket and refuses those with ``bad`` in them."""

    def __init__(self, path: Path) -> None:
        self.lines: list[bytes] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._socket.accept()
        with connection, connection.makefile("rwb") as file:
            for line in file:
                self.lines.append(line)
                if b"bad" in line:
                    file.write(b'{"error":{"message":"no event"}}\n')
                    file.flush()

    def close(self) -> None:
        self._thread.join(5)
        self._socket.close()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(tmp_path / "e.sock")
    yield agent
    agent.close()


def test_every_line_but_comments_is_sent(tmp_path: Path, agent: Agent) -> None:
    outcome = send_events(tmp_path / "e.sock", ["# recorded\n", '{"kind":"click"}\n', "\n", "last"], Pace())
    assert (outcome.sent, outcome.refused) == (2, 0)
    agent.close()
    assert agent.lines == [b'{"kind":"click"}\n', b"last\n"]


def test_refusals_are_counted_and_kept(tmp_path: Path, agent: Agent) -> None:
    outcome = send_events(tmp_path / "e.sock", ["bad\n"] * 3 + ["good\n"], Pace(), progress=io.StringIO())
    assert (outcome.sent, outcome.refused) == (4, 3)
    assert "no event" in outcome.refusals[0]


def test_no_agent_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConnectionLost, match="is the agent running"):
        send_events(tmp_path / "none.sock", [], Pace())


def test_pace() -> None:
    assert Pace().due_s(100, 5_000) == 0
    assert Pace(rate_per_s=50).due_s(100, 5_000) == 2.0
    assert Pace(speed=10).due_s(100, 5_000) == 0.5


def test_an_unreadable_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"none\.jsonl: cannot be read"), open_lines("none.jsonl"):
        pass
