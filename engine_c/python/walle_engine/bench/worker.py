"""The process one engine is measured in: ``python -P worker.py ENGINE.py JOB.json``.

Runs under any Python from 3.11 on and imports nothing but NumPy and what the engine needs, so an engine may
live in an environment of its own. ENGINE.py defines

- ``DISTRIBUTION``, the package whose version is reported,
- ``load(job)``, which returns a function without arguments that runs the model once and returns its outputs,
- and, where the engine has a file format of its own, ``prepare(job)``, which converts once and is not timed.

``job`` has ``model`` (path of the ONNX file), ``folder`` (for what ``prepare`` makes; kept from run to run),
``inputs`` (name to array), ``threads``, and ``settings`` (of the engine's own).

Standard output carries one JSON object a line. First ``{"distribution", "version", "load_s", "growth_bytes",
"outputs"}`` or ``{"failed"}``; then, for each line ``{"turn_s"}`` read, ``{"median_s", "fastest_s", "wall_s",
"waited_s"}``. It ends with its input.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import importlib.util
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

CLEAR_PEAK = "5"  # Source: proc_pid_clear_refs(5)
PR_SET_PDEATHSIG = 1  # Source: prctl(2)


def main(engine_path: str, job_path: str) -> None:
    """Load the engine and the model, then serve turns."""
    _end_with_parent()
    reply = _private_stdout()
    try:
        run, loaded = _load(Path(engine_path), Path(job_path))
    except Exception as error:  # noqa: BLE001 - engines raise what they like, and the driver is told
        _say(reply, {"failed": f"{type(error).__name__}: {error}"})
        return
    _say(reply, loaded)
    for line in sys.stdin:
        _say(reply, take_turn(run, json.loads(line)["turn_s"]))


def _end_with_parent() -> None:
    """Stopped, we would not notice that the driver was killed, and stay for ever."""
    with contextlib.suppress(AttributeError, OSError):  # not Linux
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _private_stdout() -> TextIO:
    """Keep the pipe to the driver to ourselves: engines print to standard output, from C too."""
    reply = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return reply


def _say(reply: TextIO, message: Mapping[str, object]) -> None:
    print(json.dumps(message), file=reply, flush=True)


def _load(engine_path: Path, job_path: Path) -> tuple[Callable[[], Sequence[Any]], dict[str, object]]:
    job = json.loads(job_path.read_text())
    with np.load(job["inputs"]) as arrays:
        job["inputs"] = dict(arrays)
    engine = _import(engine_path)
    if hasattr(engine, "prepare"):
        engine.prepare(job)
    before_bytes = reset_peak()
    started = time.perf_counter()
    run = engine.load(job)
    outputs = run()
    load_s = time.perf_counter() - started
    growth_bytes = peak_bytes() - before_bytes
    path = job_path.with_suffix(".outputs.npz")
    np.savez(path, *[np.asarray(value) for value in outputs])
    version = importlib.metadata.version(engine.DISTRIBUTION)
    return run, {
        "distribution": engine.DISTRIBUTION, "version": version, "load_s": load_s,
        "growth_bytes": growth_bytes, "outputs": str(path),
    }  # fmt: skip


def _import(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"engine_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def take_turn(
    run: Callable[[], object], turn_s: float, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Call for about ``turn_s`` seconds, at least three times, after one more; the median of the calls."""
    waited_s, times = waiting_s(), list[float]()
    run()
    start = now = clock()
    end = now + turn_s
    while now < end or len(times) < 3:
        run()
        before, now = now, clock()
        times.append(now - before)
    return {
        "median_s": statistics.median(times), "fastest_s": min(times), "wall_s": now - start,
        "waited_s": waiting_s() - waited_s,
    }  # fmt: skip


def waiting_s() -> float:
    """How long our threads have been ready to run without a core; 0 where the kernel does not say."""
    waited_ns = 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # the thread has ended
            waited_ns += int(path.read_text().split()[1])  # Source: Linux, sched-stats.rst
    return waited_ns / 1e9


def reset_peak() -> int:
    """Make the process's peak what it holds now, and return that."""
    with contextlib.suppress(OSError):  # a kernel without it: the peak is then that of the whole life
        Path("/proc/self/clear_refs").write_text(CLEAR_PEAK)
    return _status_bytes("VmRSS")


def peak_bytes() -> int:
    """The most memory that was resident since ``reset_peak``."""
    return _status_bytes("VmHWM")


def _status_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    return 0


if __name__ == "__main__":
    main(*sys.argv[1:])
