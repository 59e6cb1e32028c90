"""Profiles: what is recorded, summed up and written."""

from __future__ import annotations

import itertools
import json
import threading
from pathlib import Path

import numpy as np
import pytest

from walle_engine import api
from walle_engine.profile import Profile, Step
from walle_shared.errors import EngineError, StorageError

X = np.ones((2, 3), np.float32)


def test_every_step_is_timed_by_the_given_clock(perceptron: Path) -> None:
    session = api.load(perceptron).session()
    ticks = itertools.count()
    with session.profile(lambda: float(next(ticks))) as profile:
        assert profile.steps == ()
        session.run({"x": X})
    steps = session.explain()["steps"]
    assert [step.node for step in profile.steps] == [step["node"] for step in steps]
    assert [(step.start_s, step.end_s) for step in profile.steps] == [
        (2 * i, 2 * i + 1) for i in range(len(steps))
    ]
    assert profile.steps[0].command == steps[0]["command"]
    assert profile.steps[0].candidate == steps[0]["candidate"]
    assert profile.dropped == 0
    assert sum(row.total_ms for row in profile.table()) == 1000 * len(steps)


def test_only_runs_inside_the_block_are_recorded(perceptron: Path) -> None:
    session = api.load(perceptron).session()
    session.run({"x": X})
    with session.profile() as first:
        session.run({"x": X})
        session.run({"x": X})
    session.run({"x": X})
    with session.profile() as second:
        pass
    assert len(first.steps) == 2 * len(session.explain()["steps"])
    assert all(step.end_s >= step.start_s for step in first.steps)
    assert second.steps == ()
    assert second.table() == ()


def test_threads_are_told_apart(perceptron: Path) -> None:
    session = api.load(perceptron).session()
    both = threading.Barrier(2)

    def run() -> None:
        both.wait(timeout=10)
        session.run({"x": X})
        both.wait(timeout=10)

    with session.profile() as profile:
        threads = [threading.Thread(target=run) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=10)
    assert len({step.thread for step in profile.steps}) == 2


def test_one_profile_at_a_time(perceptron: Path) -> None:
    session = api.load(perceptron).session()
    with session.profile(), pytest.raises(EngineError, match="being profiled already"), session.profile():
        pass
    with session.profile():  # the refused one has not spoilt it
        pass


def test_a_failure_inside_the_block_ends_the_profile(perceptron: Path) -> None:
    session = api.load(perceptron).session()
    with pytest.raises(EngineError), session.profile() as profile:
        session.run({})
    assert profile.steps == ()
    with session.profile():
        pass


def test_the_table_sums_up_and_sorts() -> None:
    steps = [
        Step("a", "Conv", "matmul", "tile", 1, 0.0, 1.0),
        Step("b", "Relu", "unary", "ref", 1, 1.0, 1.5),
        Step("c", "Conv", "matmul", "tile", 1, 2.0, 4.5),
    ]
    dearest, cheapest = Profile(steps).table()
    assert (dearest.op, dearest.count, dearest.total_ms, dearest.share) == ("Conv", 2, 3500, 0.875)
    assert (cheapest.op, cheapest.command, cheapest.candidate) == ("Relu", "unary", "ref")


def test_the_trace_is_in_chromes_format(tmp_path: Path) -> None:
    steps = [
        Step("a", "Conv", "matmul", "tile", 77, 5.0, 5.25),
        Step("b", "Relu", "unary", "ref", 99, 5.5, 6.0),
    ]
    Profile(steps).write_trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert [(e["name"], e["ph"], e["tid"], e["ts"], e["dur"]) for e in events] == [
        ("Conv", "X", 0, 0, 250_000),
        ("Relu", "X", 1, 500_000, 500_000),
    ]
    assert events[0]["args"] == {"node": "a", "candidate": "tile"}


def test_a_trace_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot write"):
        Profile().write_trace(tmp_path / "no" / "trace.json")
