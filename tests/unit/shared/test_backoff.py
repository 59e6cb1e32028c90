from __future__ import annotations

import random

from walle_shared.backoff import Backoff


def test_waits_rise_to_the_cap_and_start_again_after_success() -> None:
    backoff = Backoff(1.0, 10.0, rng=random.Random(1))
    waits = [backoff.next_delay_s() for _ in range(200)]
    for number, wait_s in enumerate(waits):
        ceiling_s = min(10.0, 2.0**number)
        assert ceiling_s / 2 <= wait_s <= ceiling_s
    backoff.reset()
    assert backoff.failures == 0
    assert backoff.next_delay_s() <= 1.0


def test_what_the_peer_asked_for_is_the_least() -> None:
    backoff = Backoff(1.0, 60.0, rng=random.Random(1))
    assert 30.0 <= backoff.next_delay_s(30.0) <= 31.0
    assert backoff.next_delay_s(1e9) <= 61.0
    assert backoff.next_delay_s(-5.0) > 0
