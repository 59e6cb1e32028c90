"""Send recorded events to a running agent, as an app would: one JSON object a line over its Unix socket."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from walle_shared.errors import ConfigError, ConnectionLost

_PROGRESS_EVERY_S = 0.2
_ANSWER_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast: so many a second, or the recorded gaps so many times faster, or as fast as they are taken."""

    rate_per_s: float | None = None
    speed: float | None = None

    def due_s(self, number: int, elapsed_wall_ms: int) -> float:
        """Seconds after the start at which event ``number`` (from 0) is due."""
        if self.rate_per_s is not None:
            return number / self.rate_per_s
        if self.speed is not None:
            return elapsed_wall_ms / 1_000 / self.speed
        return 0.0


@dataclass(slots=True)
class EmitOutcome:
    """Events sent, how many of them the agent refused, and its first complaints."""

    sent: int = 0
    refused: int = 0
    refusals: list[str] = field(default_factory=list)


@contextmanager
def open_lines(name: str) -> Iterator[Iterable[str]]:
    """The lines of a file, or of standard input for ``-``.

    Raises:
        ConfigError: the file cannot be read.
    """
    if name == "-":
        yield sys.stdin
        return
    try:
        file = Path(name).open(encoding="utf-8")  # noqa: SIM115  # closed below, when the caller is done
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error.strerror or error}") from None
    with file:
        yield file


def send_events(
    path: Path, lines: Iterable[str], pace: Pace, *, progress: TextIO | None = None
) -> EmitOutcome:
    """Send every line that is not blank or a ``#`` comment, and collect the agent's complaints.

    Raises:
        ConnectionLost: no agent listens there, or it went away.

    Blocks:
        Until all are sent at the pace asked for, and the agent has taken them.
    """
    outcome = EmitOutcome()
    answers = _Answers(outcome)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(str(path))
            _send_all(connection, lines, pace, outcome, answers, progress)
            connection.shutdown(socket.SHUT_WR)
            while data := connection.recv(_ANSWER_BYTES):
                answers.take(data)
    except OSError as error:
        raise ConnectionLost(f"{path}: {error.strerror or error}: is the agent running?") from None
    _show(progress, outcome, end="\n")
    return outcome


def _send_all(
    connection: socket.socket,
    lines: Iterable[str],
    pace: Pace,
    outcome: EmitOutcome,
    answers: _Answers,
    progress: TextIO | None,
) -> None:
    started_s = shown_s = time.monotonic()
    first_ms: int | None = None
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        wall_ms = _wall_ms(line) if pace.speed is not None else None
        first_ms = wall_ms if first_ms is None else first_ms
        due_s = pace.due_s(outcome.sent, max(0, (wall_ms or 0) - (first_ms or 0)))
        time.sleep(max(0.0, started_s + due_s - time.monotonic()))
        connection.sendall(line.rstrip("\n").encode() + b"\n")
        outcome.sent += 1
        answers.poll(connection)
        if time.monotonic() - shown_s > _PROGRESS_EVERY_S:
            shown_s = time.monotonic()
            _show(progress, outcome)


class _Answers:
    """The agent answers only what it refuses, one JSON line each."""

    def __init__(self, outcome: EmitOutcome) -> None:
        self._outcome = outcome
        self._rest = b""

    def poll(self, connection: socket.socket) -> None:
        """Take what has come, without waiting."""
        try:
            self.take(connection.recv(_ANSWER_BYTES, socket.MSG_DONTWAIT))
        except BlockingIOError:
            return

    def take(self, data: bytes) -> None:
        """Take bytes of answers."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._outcome.refused += 1
            self._outcome.refusals.append(line.decode(errors="replace")[:300])


def _wall_ms(line: str) -> int | None:
    try:
        value = json.loads(line).get("wall_ms")
    except (ValueError, AttributeError):
        return None  # the agent will say what is wrong with it
    return value if type(value) is int else None


def _show(progress: TextIO | None, outcome: EmitOutcome, end: str = "") -> None:
    if progress is not None and progress.isatty():
        progress.write(f"\r{outcome.sent} events sent, {outcome.refused} refused{end}")
        progress.flush()
