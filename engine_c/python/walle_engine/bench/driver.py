"""Start workers, let them take turns, and keep the figures.

- While one worker has its turn the others are stopped, so no engine's spinning threads slow another.
- A turn in which the worker had to wait for a core is disturbed: it is repeated while patience lasts.
- What a worker says is checked no further: it runs our own ``worker.py``.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

__all__ = [
    "ENGINES",
    "Contestant",
    "Loaded",
    "Racer",
    "Samples",
    "Turn",
    "Worker",
    "WorkerError",
    "race",
    "running",
]

#: Where the files of the engines that come with Walle are.
ENGINES = Path(__file__).parent / "engines"
WORKER = Path(__file__).parent / "worker.py"

LOAD_LIMIT_S = 600.0
TURN_LIMIT_S = 120.0
#: Share of a turn that a worker's threads may wait for a core before it counts as disturbed.
WAITING_SHARE = 0.05
REST_S = 1.0
URGENT_NICE = -15


class WorkerError(Exception):
    """An engine could not load or run the model; says why in one line."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """An engine with settings, in an environment.

    Args:
        name: in tables.
        engine: its file.
        settings: what that file understands.
        python: the interpreter that has it.
        environment: variables it needs besides those of this process.
    """

    name: str
    engine: Path
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    python: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Loaded:
    """What loading a model cost.

    Args:
        distribution: the package that the engine comes in.
        version: of that.
        load_s: from the file to the outputs of the first inference, the package being imported.
        growth_bytes: by how much the peak of that exceeds what was resident before.
        outputs: an ``.npz`` of the outputs, in order.
    """

    distribution: str
    version: str
    load_s: float
    growth_bytes: int
    outputs: Path


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn: the median of its calls, the fastest of them, and whether it had to wait for a core."""

    median_s: float
    fastest_s: float
    disturbed: bool = False


@dataclass(frozen=True, slots=True)
class Samples:
    """Seconds per call: a median for each turn, and the fastest call of all where calls were timed."""

    turns_s: tuple[float, ...]
    disturbed: int = 0
    fastest_s: float | None = None

    @property
    def median_s(self) -> float:
        """Median of the turns."""
        return statistics.median(self.turns_s)

    @property
    def span_s(self) -> tuple[float, float]:
        """Fastest call, or turn, and slowest turn."""
        return self.fastest_s or min(self.turns_s), max(self.turns_s)


class Racer(Protocol):
    """What takes turns: a worker, or a fake of one."""

    def turn(self, turn_s: float) -> Turn:
        """Run for about so long."""
        ...


def race(
    racers: Mapping[str, Racer],
    *,
    turns: int = 7,
    turn_s: float = 0.3,
    patience: int = 7,
    rest: Callable[[float], object] = time.sleep,
) -> tuple[dict[str, Samples], dict[str, str]]:
    """Let all take turns, in rounds.

    Args:
        racers: by name.
        turns: undisturbed turns wanted of each.
        turn_s: how long a turn lasts.
        patience: further rounds to make up for disturbed turns.
        rest: waits so many seconds after a round with a disturbed turn: a neighbour's burst may pass.

    Returns:
        The samples of those that lasted, and for each that did not, why. The samples are of the undisturbed
        turns, or of all where fewer than half of those wanted were undisturbed.
    """
    quiet: dict[str, list[Turn]] = {name: [] for name in racers}
    disturbed: dict[str, list[Turn]] = {name: [] for name in racers}
    failures: dict[str, str] = {}
    for _ in range(turns + patience):
        calm = True
        for name, racer in racers.items():
            if name in failures or len(quiet[name]) == turns:
                continue
            try:
                turn = racer.turn(turn_s)
            except WorkerError as error:
                failures[name] = str(error)
            else:
                (disturbed if turn.disturbed else quiet)[name].append(turn)
                calm &= not turn.disturbed
        if not calm:
            rest(REST_S)
    samples = {}
    for name in racers.keys() - failures.keys():
        enough = 2 * len(quiet[name]) >= turns
        kept = quiet[name] if enough else quiet[name] + disturbed[name]
        samples[name] = Samples(
            tuple(turn.median_s for turn in kept),
            0 if enough else len(disturbed[name]),
            min(turn.fastest_s for turn in quiet[name] + disturbed[name]),
        )
    return {name: samples[name] for name in racers if name in samples}, failures


class Worker:
    """The process of a contestant with a model loaded; stopped but for its turns. A context manager."""

    def __init__(self, contestant: Contestant, job: Mapping[str, Any], *, urgent: bool = False) -> None:
        """Start the process and load the model.

        Args:
            contestant: the engine.
            job: what ``worker.py`` says, without ``settings``; ``inputs`` is the path of an ``.npz``.
            urgent: let it run before all others, where that is allowed.

        Raises:
            WorkerError: the engine is not installed there, or cannot load or run the model.
        """
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / "job.json"
        path.write_text(json.dumps({**job, "settings": dict(contestant.settings)}))
        self._errors = (Path(self._folder.name) / "stderr").open("w+b")
        command = [contestant.python, "-P", str(WORKER), str(contestant.engine), str(path)]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
                env={**os.environ, **contestant.environment}, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            self._errors.close()
            self._folder.cleanup()
            raise WorkerError(f"cannot run {contestant.python}: {error.strerror or error}") from error
        if urgent:
            hurry(self.pid)
        try:
            message = self._receive(LOAD_LIMIT_S)
        except BaseException:
            self.close()
            raise
        self.loaded = Loaded(
            message["distribution"],
            message["version"],
            message["load_s"],
            message["growth_bytes"],
            Path(message["outputs"]),
        )
        self._stop()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def turn(self, turn_s: float) -> Turn:
        """Let the worker run for about ``turn_s`` seconds.

        Raises:
            WorkerError: it died or took far longer.
        """
        self._process.send_signal(signal.SIGCONT)
        self._send({"turn_s": turn_s})
        message = self._receive(turn_s + TURN_LIMIT_S)
        self._stop()
        waited = message["waited_s"] > WAITING_SHARE * message["wall_s"]
        return Turn(message["median_s"], message["fastest_s"], waited)

    def close(self) -> None:
        """End the process and remove its files."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()
        self._folder.cleanup()

    def _stop(self) -> None:
        """Stop the process, and see that it has stopped (or ended) before another has its turn."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def _send(self, message: Mapping[str, object]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise WorkerError(self._last_words()) from None

    def _receive(self, limit_s: float) -> dict[str, Any]:
        stream = self._process.stdout
        assert stream is not None
        if not select.select([stream], [], [], limit_s)[0]:
            raise WorkerError(f"no answer within {limit_s:.0f} s")
        line = stream.readline()
        if not line.endswith(b"\n"):
            raise WorkerError(self._last_words())
        message: dict[str, Any] = json.loads(line)
        if "failed" in message:
            raise WorkerError(_one_line(message["failed"]))
        return message

    def _last_words(self) -> str:
        """Why the process ended: the last line it wrote, or its exit status."""
        status = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        said = next((line for line in reversed(lines) if line.strip()), "it said nothing")
        ended = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        return f"{ended}: {_one_line(said)}"


def _one_line(text: str, limit: int = 160) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def hurry(pid: int) -> None:
    """Let a process run before all others as far as we may: over its own nice value, and its session's."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, URGENT_NICE)
    with contextlib.suppress(OSError):  # Source: sched(7): with autogrouping, nice acts within a session only
        Path(f"/proc/{pid}/autogroup").write_text(str(URGENT_NICE))


def fastest(samples: Mapping[str, Samples], names: Sequence[str]) -> str | None:
    """The one of ``names`` with the lowest median; None where none of them ran."""
    present = [name for name in names if name in samples]
    return min(present, key=lambda name: samples[name].median_s, default=None)


@contextlib.contextmanager
def running(
    contestants: Sequence[Contestant], job: Mapping[str, Any], *, urgent: bool = False
) -> Generator[tuple[dict[str, Worker], dict[str, str]]]:
    """Start a worker for each contestant, one by one, and end them all.

    Yields:
        The workers by name, and for each contestant that has none, why.
    """
    workers: dict[str, Worker] = {}
    failures: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        for contestant in contestants:
            try:
                workers[contestant.name] = stack.enter_context(Worker(contestant, job, urgent=urgent))
            except WorkerError as error:
                failures[contestant.name] = str(error)
        yield workers, failures
