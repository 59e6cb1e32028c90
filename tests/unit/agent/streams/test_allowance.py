"""What the tunnel may send, and what waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from walle_agent.streams.allowance import Allowance, Conditions, ConditionsFile
from walle_shared.errors import ConfigError
from walle_shared.protocol.tunnel import TunnelClass

ALL = frozenset(TunnelClass)
URGENT = frozenset({TunnelClass.REALTIME})


class Now:
    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


def test_an_hours_share_of_the_day_may_be_sent_at_once_and_comes_back() -> None:
    now = Now()
    allowance = Allowance(bytes_per_day=24_000, now_s=now)
    assert allowance.statistics().bytes_left == 1_000
    allowance.spend(1_500)  # urgent records may overdraw
    assert allowance.allowed() == URGENT
    assert allowance.statistics().waiting_for == "the bytes of another hour"
    now.s += 1_800
    assert allowance.allowed() == URGENT
    now.s += 10
    assert allowance.allowed() == ALL
    now.s += 10**6
    assert allowance.statistics().bytes_left == 1_000


@pytest.mark.parametrize(
    ("conditions", "allowed"),
    [
        (Conditions(), ALL),
        (Conditions(metered=True), URGENT),
        (Conditions(battery=0.1), URGENT),
        (Conditions(battery=0.1, charging=True), ALL),
        (Conditions(battery=0.9), ALL),
    ],
)
def test_records_that_can_wait_do(conditions: Conditions, allowed: frozenset[TunnelClass]) -> None:
    assert Allowance(battery_min=0.2, conditions=lambda: conditions, now_s=Now()).allowed() == allowed


def test_a_file_that_cannot_be_understood_counts_as_metered(tmp_path: Path) -> None:
    path = tmp_path / "conditions.json"
    read = ConditionsFile(path)
    assert read() == Conditions()
    path.write_text('{"battery": 0.5, "charging": true}')
    assert read() == Conditions(battery=0.5, charging=True)
    for text in ("{", '{"battery": "full"}', '{"mood": 1}'):
        path.write_text(text)
        assert read() == Conditions(metered=True)


def test_senseless_limits_are_refused() -> None:
    with pytest.raises(ConfigError):
        Allowance(bytes_per_day=-1)
