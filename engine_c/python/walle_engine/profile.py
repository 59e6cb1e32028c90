"""What each step of a session's runs took: a table by operator, and a trace for Perfetto or ``chrome://tracing``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from walle_shared.errors import StorageError

__all__ = ["OpTime", "Profile", "Step"]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of one run.

    Args:
        node: the model's node it belongs to.
        op: that node's operator.
        command: what kind of step it is, ``"matmul"`` or ``"raster"`` for example.
        candidate: which kernel or loop ran it.
        thread: a number of the thread that ran it.
        start_s: when it began, on the profile's clock.
        end_s: when it ended.
    """

    node: str
    op: str
    command: str
    candidate: str
    thread: int
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class OpTime:
    """A row of the table: all steps of one operator and candidate.

    Args:
        op: the operator.
        command: the kind of step.
        candidate: which kernel or loop ran it.
        count: how many steps.
        total_ms: what they took together.
        share: their part of the whole, 0 to 1.
    """

    op: str
    command: str
    candidate: str
    count: int
    total_ms: float
    share: float


class Profile:
    """The steps recorded while ``Session.profile`` was entered; empty until it is left.

    Attributes:
        steps: in the order in which they ended.
        dropped: steps that found no room any more.
    """

    def __init__(self, steps: Iterable[Step] = (), dropped: int = 0) -> None:
        self.steps = tuple(steps)
        self.dropped = dropped

    def table(self) -> tuple[OpTime, ...]:
        """Sum up by operator, kind of step and candidate, the dearest first."""
        sums: dict[tuple[str, str, str], tuple[int, float]] = {}
        for step in self.steps:
            key = (step.op, step.command, step.candidate)
            count, seconds = sums.get(key, (0, 0.0))
            sums[key] = (count + 1, seconds + step.end_s - step.start_s)
        whole = sum(seconds for _, seconds in sums.values())
        rows = (
            OpTime(*key, count, seconds * 1e3, seconds / whole if whole else 0.0)
            for key, (count, seconds) in sums.items()
        )
        return tuple(sorted(rows, key=lambda row: -row.total_ms))

    def trace(self) -> str:
        """Return the steps in the Chrome trace event format; times are microseconds from the first step."""
        start_s = min((step.start_s for step in self.steps), default=0.0)
        threads = {
            thread: number for number, thread in enumerate(dict.fromkeys(s.thread for s in self.steps))
        }
        events = [
            {
                "name": step.op,
                "cat": step.command,
                "ph": "X",
                "pid": 0,
                "tid": threads[step.thread],
                "ts": (step.start_s - start_s) * 1e6,
                "dur": (step.end_s - step.start_s) * 1e6,
                "args": {"node": step.node, "candidate": step.candidate},
            }
            for step in self.steps
        ]
        return json.dumps({"displayTimeUnit": "ms", "traceEvents": events})

    def write_trace(self, path: str | PathLike[str]) -> None:
        """Write :meth:`trace` to a file, for https://ui.perfetto.dev or ``chrome://tracing``.

        Raises:
            StorageError: if the file cannot be written.
        """
        try:
            Path(path).write_text(self.trace(), encoding="utf-8")
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
