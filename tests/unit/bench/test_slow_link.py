"""The relay of the slow link, without a network: what it delays, keeps in order, and drops."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator

import pytest

from slow_link import Way


@pytest.fixture
def pipes() -> Iterator[tuple[int, int, int, int]]:
    ends = (*os.pipe2(os.O_NONBLOCK), *os.pipe2(os.O_NONBLOCK))
    yield ends
    for end in ends:
        os.close(end)


def test_a_packet_is_delivered_when_it_is_due_and_not_before(pipes: tuple[int, int, int, int]) -> None:
    source, app, out, target = pipes
    way = Way(source, target, 5.0, 0.0, random.Random(1))
    os.write(app, b"one")
    way.take()
    now = time.monotonic()
    due = way.give(now)
    assert now < due <= now + 5.0
    with pytest.raises(BlockingIOError):
        os.read(out, 10)
    way.give(due)
    assert os.read(out, 10) == b"one"


def test_the_part_that_is_lost_is_the_part_asked_for(pipes: tuple[int, int, int, int]) -> None:
    source, app, out, target = pipes
    way = Way(source, target, 0.0, 0.25, random.Random(1))
    for _ in range(1_000):
        os.write(app, b"x")
        way.take()
        way.give(time.monotonic())
    assert len(os.read(out, 10_000)) == pytest.approx(750, abs=60)
