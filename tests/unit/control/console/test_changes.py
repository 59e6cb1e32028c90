"""What a wish changes: everything that differs, with both values, and nothing else."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walle_control.console.changes import Change, Shape, _pieces, changes
from walle_control.features.releases.types import Terms
from walle_control.features.rollouts.guard import GuardSettings, RolloutPlan, RolloutStage

ONE = 10_000_000  # a percent
PLAN = RolloutPlan((RolloutStage(ONE), RolloutStage(100 * ONE)), 50 * ONE)
SHAPE = Shape("1.0.0", 'group == "beta"', PLAN, Terms(), GuardSettings())


def said(change: Change) -> tuple[str, str, str]:
    before, after = ("".join(piece.text for piece in side) for side in (change.before, change.after))
    return change.what, before, after


def test_what_is_the_same_changes_nothing():
    assert changes(SHAPE, SHAPE) == ()


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"version": "1.1.0"}, ("version", "1.0.0", "1.1.0")),
        ({"predicate": ""}, ("for devices where", 'group == "beta"', "all devices")),
        ({"plan": replace(PLAN, control=0)}, ("held back", "50 %", "0 %")),
        ({"plan": replace(PLAN, voters=ONE)}, ("that tell every outcome", "100 %", "1 %")),
        ({"terms": Terms(windows="02:00-05:00")}, ("windows", "-", "02:00-05:00")),
        ({"terms": Terms(everyone=True)}, ("everyone", "no", "yes")),
        ({"terms": Terms(spread_s=7200)}, ("spread", "0 s", "2 h (7200 s)")),
        ({"guard": GuardSettings(tolerance=0.1)}, ("guard: tolerance", "0.5 %", "10 %")),
    ],
)
def test_each_setting_is_compared(changed, line):
    (change,) = changes(SHAPE, replace(SHAPE, **changed))
    assert said(change) == line


def test_stages_are_compared_one_by_one():
    stages = (RolloutStage(ONE, 3600), RolloutStage(10 * ONE, 0, 7, 60), RolloutStage(100 * ONE))
    found = [said(change) for change in changes(SHAPE, replace(SHAPE, plan=replace(PLAN, stages=stages)))]
    assert found == [
        ("stage 1", "1 %, 100 devices", "1 %, 100 devices, holds 1 h (3600 s)"),
        ("stage 2", "100 %, 100 devices", "10 %, 7 devices, grows within 1 min (60 s)"),
        ("stage 3", "-", "100 %, 100 devices"),
    ]


@pytest.mark.parametrize("kind", [Terms, GuardSettings])
def test_no_setting_is_forgotten(kind):
    name = "terms" if kind is Terms else "guard"
    for field in fields(kind):
        value = getattr(kind(), field.name)
        other = (not value) if isinstance(value, bool) else value + ("x" if isinstance(value, str) else 1)
        found = changes(SHAPE, replace(SHAPE, **{name: replace(kind(), **{field.name: other})}))
        assert len(found) == 1, field.name


@given(st.text(max_size=60), st.text(max_size=60))
def test_pieces_are_the_texts_and_what_is_unmarked_is_common(before, after):
    sides = _pieces(before, after)
    for text, pieces in zip((before, after), sides, strict=True):
        assert "".join(piece.text for piece in pieces) == (text or "all devices")
    common = ["".join(piece.text for piece in pieces if not piece.differs) for pieces in sides]
    assert common[0] == common[1]
