"""A run's time and chance: repeated in a simulation, the machine's own otherwise."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from walle_shared.errors import TaskError
from walle_task import clock, random
from walle_task.context import RunContext, set_current
from walle_task.testing import fake_host

EVENTS = [{"kind": "click", "wall_ms": 1_700_000_000_000, "mono_ns": 5_000_000_000}]


def test_a_simulated_run_begins_at_its_last_event_and_repeats_its_readings():
    def read() -> tuple[object, ...]:
        with fake_host(events=EVENTS):
            return clock.now(), clock.wall_ms(), clock.monotonic(), clock.mono_ns()

    first = read()
    assert first == read()
    assert first[0] == datetime(2023, 11, 14, 22, 13, 20, 1, tzinfo=UTC)
    assert first[1:] == (1_700_000_000_000, 5.000003, 5_000_004_000)


def test_a_loop_that_waits_for_time_to_pass_ends():
    with fake_host():
        began_s = clock.monotonic()
        while clock.monotonic() - began_s < 0.001:
            pass


def test_a_test_may_set_the_time():
    with fake_host(events=EVENTS, wall_ms=0):
        assert clock.now().year == 2026
    with fake_host(events=EVENTS, wall_ms=1_000):
        assert clock.wall_ms() == 1_000


def draws() -> list[object]:
    items = list(range(10))
    random.shuffle(items)
    numbers = [random.random(), random.uniform(2, 3), random.gauss(), random.randint(1, 6)]
    return [items, random.choice("abcdef"), random.sample(range(100), 3), numbers]


def test_chance_is_repeated_by_seed():
    def draw(seed: int) -> list[object]:
        with fake_host(seed=seed):
            return draws()

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_on_a_device_both_are_the_machines_own(tmp_path: Path):
    context = RunContext(
        inputs={}, params={}, bundle_dir=tmp_path, capabilities=frozenset(), call=lambda name, args: None
    )
    set_current(context)
    try:
        assert abs(clock.wall_ms() - time.time() * 1_000) < 60_000
        assert abs(clock.mono_ns() - time.monotonic_ns()) < 60_000_000_000
        assert draws() != draws()
    finally:
        set_current(None)


@pytest.mark.parametrize("call", [clock.now, clock.mono_ns, random.random])
def test_outside_a_run_there_is_neither(call):
    with pytest.raises(TaskError, match="no run is going on"):
        call()
