"""Turns and workers: who runs when, what counts, and what an engine that misbehaves leads to."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from walle_engine.bench import driver
from walle_engine.bench.driver import Contestant, Samples, Turn, Worker, WorkerError, race, running
from walle_engine.bench.worker import take_turn


class FakeRacer:
    """Plays back turns; writes down when it was asked."""

    def __init__(self, name: str, turns: list[Turn | str], log: list[str]) -> None:
        self._name, self._turns, self._log = name, iter(turns), log

    def turn(self, turn_s: float) -> Turn:
        self._log.append(self._name)
        turn = next(self._turns)
        if isinstance(turn, str):
            raise WorkerError(turn)
        return turn


def test_racers_take_turns_in_rounds() -> None:
    log: list[str] = []
    racers = {name: FakeRacer(name, [Turn(1.0, 0.5)] * 9, log) for name in "abc"}
    samples, failures = race(racers, turns=3)
    assert log == list("abc" * 3)
    assert samples == {name: Samples((1.0,) * 3, 0, 0.5) for name in "abc"}
    assert failures == {}


def test_disturbed_turns_are_repeated_and_left_out() -> None:
    log: list[str] = []
    racers = {
        "a": FakeRacer(
            "a", [Turn(9.0, 4.5, disturbed=True), Turn(1.0, 0.5), Turn(2.0, 1.0), Turn(3.0, 1.5)], log
        ),
        "b": FakeRacer("b", [Turn(5.0, 2.5)] * 3, log),
    }
    rests: list[float] = []
    samples, _ = race(racers, turns=3, patience=3, rest=rests.append)
    assert len(rests) == 1
    assert log == list("abababa")
    assert samples == {"a": Samples((1.0, 2.0, 3.0), 0, 0.5), "b": Samples((5.0,) * 3, 0, 2.5)}
    assert samples["a"].median_s == 2.0
    assert samples["a"].span_s == (0.5, 3.0)


def test_where_hardly_a_turn_was_quiet_all_count_and_that_is_told() -> None:
    turns: list[Turn | str] = [Turn(9.0, 4.5, disturbed=True)] * 4 + [Turn(1.0, 0.5)]
    samples, _ = race({"a": FakeRacer("a", turns, [])}, turns=3, patience=2, rest=lambda _: None)
    assert samples == {"a": Samples((1.0, 9.0, 9.0, 9.0, 9.0), 4, 0.5)}


def test_one_that_dies_drops_out_and_the_others_go_on() -> None:
    log: list[str] = []
    racers = {
        "a": FakeRacer("a", [Turn(1.0, 0.5), "died"], log),
        "b": FakeRacer("b", [Turn(2.0, 1.0)] * 3, log),
    }
    samples, failures = race(racers, turns=3)
    assert log == list("ababb")
    assert samples == {"b": Samples((2.0,) * 3, 0, 1.0)}
    assert failures == {"a": "died"}


def test_the_fastest_is_among_those_that_ran() -> None:
    samples = {"a": Samples((3.0,)), "b": Samples((1.0,)), "c": Samples((2.0,))}
    assert driver.fastest(samples, ["a", "c", "absent"]) == "c"
    assert driver.fastest(samples, ["absent"]) is None


def test_a_turn_is_the_median_of_its_calls() -> None:
    ticks = iter([0.0, 1.0, 3.0, 4.0])
    calls: list[int] = []
    turn = take_turn(lambda: calls.append(1), 3.5, lambda: next(ticks))
    assert (turn["median_s"], turn["fastest_s"], turn["wall_s"]) == (1.0, 1.0, 4.0)
    assert turn["waited_s"] >= 0
    assert len(calls) == 4  # one to warm up


# ---- Real processes ----------------------------------------------------------------------------------------

_ENGINE = """
import os, sys, time
import numpy as np
DISTRIBUTION = "numpy"
def prepare(job):
    print("chatter on standard output", flush=True)
def load(job):
    settings = job["settings"]
    if settings.get("refuse"):
        raise ValueError("no such\\n operator")
    if settings.get("die"):
        print("last words", file=sys.stderr, flush=True)
        os.kill(os.getpid(), 9)
    ballast = np.ones(int(settings.get("megabytes", 0)) << 17)
    left = [int(settings.get("runs", 10**9))]
    def run():
        left[0] -= 1
        if left[0] < 0:
            sys.exit("worn out")
        time.sleep(0.002)
        return [job["inputs"]["x"] * job["threads"], np.array([ballast.size])]
    return run
"""


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / "engine.py"
    path.write_text(_ENGINE)
    return path


@pytest.fixture
def job(tmp_path: Path) -> dict[str, Any]:
    np.savez(tmp_path / "inputs.npz", x=np.float32([1, 2]))
    return {"model": "", "folder": str(tmp_path), "inputs": str(tmp_path / "inputs.npz"), "threads": 2}


def _state(worker: Worker) -> str:
    return Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.slow
def test_a_worker_loads_then_runs_in_its_turns_and_is_stopped_between(
    engine: Path, job: dict[str, Any]
) -> None:
    with Worker(Contestant("a", engine, {"megabytes": "64"}), job) as worker:
        assert worker.loaded.version == np.__version__
        assert worker.loaded.load_s >= 0.002
        assert 60e6 < worker.loaded.growth_bytes < 90e6
        with np.load(worker.loaded.outputs) as outputs:
            np.testing.assert_array_equal(outputs["arr_0"], [2, 4])
        assert _state(worker) in "Tt"
        assert 0.002 <= worker.turn(0.02).median_s < 0.1
        assert _state(worker) in "Tt"
        pid = worker.pid
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "why"),
    [({"refuse": "yes"}, "ValueError: no such operator"), ({"die": "yes"}, "killed by SIGKILL: last words")],
)
def test_why_a_worker_cannot_load_is_one_line(
    engine: Path, job: dict[str, Any], settings: dict[str, str], why: str
) -> None:
    contestants = [Contestant("a", engine, settings), Contestant("b", engine)]
    with running(contestants, job) as (workers, failures):
        assert list(workers) == ["b"]
        assert failures == {"a": why}
        pid = workers["b"].pid
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.slow
def test_a_worker_that_ends_in_its_turn_says_so(engine: Path, job: dict[str, Any]) -> None:
    with (
        Worker(Contestant("a", engine, {"runs": "3"}), job) as worker,
        pytest.raises(WorkerError, match="exit status 1: worn out"),
    ):
        worker.turn(1.0)


@pytest.mark.slow
def test_a_stopped_worker_ends_with_a_driver_that_was_killed(engine: Path, job: dict[str, Any]) -> None:
    code = (
        "import json, sys, time; from pathlib import Path; from walle_engine.bench.driver import *\n"
        "worker = Worker(Contestant('a', Path(sys.argv[1])), json.loads(sys.argv[2]))\n"
        "print(worker.pid, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(engine), json.dumps(job)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        worker = Path("/proc") / parent.stdout.readline().decode().strip()
        assert worker.exists()
        parent.kill()
    deadline = time.monotonic() + 10
    while _lives(worker) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _lives(worker)


def _lives(process: Path) -> bool:
    """Whether a process exists and is no zombie: nobody may be there to collect it."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_an_interpreter_that_does_not_exist(engine: Path, job: dict[str, Any]) -> None:
    with pytest.raises(WorkerError, match="cannot run /nowhere/python: No such file"):
        Worker(Contestant("a", engine, python="/nowhere/python"), job)


@pytest.mark.slow
def test_a_worker_that_says_nothing_is_given_up(
    engine: Path, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(driver, "LOAD_LIMIT_S", 0.3)
    with pytest.raises(WorkerError, match="no answer within"):
        Worker(Contestant("a", engine), job)
