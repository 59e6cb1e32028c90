"""Sticky, monotone, fair and independent: what a share promises."""

import fnmatch
import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walle_shared.ids import DeviceId, ReleaseId, ScenarioName, Sha256, TaskName, TaskVersion
from walle_shared.protocol.messages import FileRef
from walle_shared.targeting import (
    SHARE_ONE,
    Policy,
    PredicateError,
    Profile,
    Ramp,
    Release,
    Snapshot,
    compile_position,
    compile_share,
    in_share,
    parse_predicate,
    position,
)

salts = st.text(min_size=1, max_size=16)
units = st.text(min_size=1, max_size=40)
shares = st.integers(0, SHARE_ONE)


@given(salts, units, shares, shares)
def test_raising_a_share_only_adds(salt: str, unit: str, a: int, b: int) -> None:
    low, high = sorted((a, b))
    assert not in_share(salt, unit, low) or in_share(salt, unit, high)


@given(salts, units, shares | st.integers(0, 3) | st.integers(SHARE_ONE - 3, SHARE_ONE))
def test_a_compiled_share_answers_as_the_plain_one(salt: str, unit: str, share: int) -> None:
    assert compile_share(salt, share)(unit.encode()) == in_share(salt, unit, share)
    assert compile_position(salt)(unit.encode()) == position(salt, unit)


@given(salts, units)
def test_a_device_enters_exactly_above_its_position(salt: str, unit: str) -> None:
    enters = position(salt, unit) * SHARE_ONE // 2**64
    assert [compile_share(salt, share)(unit.encode()) for share in (enters, enters + 1)] == [False, True]


@given(salts, units)
def test_nobody_and_everybody_are_exact(salt: str, unit: str) -> None:
    assert not in_share(salt, unit, 0)
    assert in_share(salt, unit, SHARE_ONE)


@given(salts, units)
def test_a_position_is_sticky_and_on_the_line(salt: str, unit: str) -> None:
    assert position(salt, unit) == position(salt, unit)
    assert 0 <= position(salt, unit) < 2**64


def test_shares_hold_within_three_sigma_and_releases_are_independent() -> None:
    n = 50_000
    devices = [f"device-{i}" for i in range(n)]
    for share in (0.001, 0.01, 0.1, 0.5):
        ppb = round(share * SHARE_ONE)
        first = {d for d in devices if in_share("release-a", d, ppb)}
        second = {d for d in devices if in_share("release-b", d, ppb)}
        both = share * share
        assert abs(len(first) - n * share) <= 3 * math.sqrt(n * share * (1 - share))
        assert abs(len(first & second) - n * both) <= 3 * math.sqrt(n * both * (1 - both)) + 1


@pytest.mark.slow_session
def test_a_million_ids_hold_every_share_within_three_sigma() -> None:
    """The share, its ramp half-way, a control arm, the voters, a holdout, and two releases at once."""
    n, quarter, tenth = 1_000_000, SHARE_ONE // 4, SHARE_ONE // 10
    ramp = Ramp(0, 0, 1_000)
    parts = {
        ("share", quarter): compile_share("r", quarter),
        ("control", quarter): compile_share("r/control", quarter),
        ("voters", tenth): compile_share("r/voters", tenth),
        ("holdout", tenth // 2): compile_share("h", tenth // 2),
        ("ramp", quarter // 2): compile_share("r", ramp.share_at(500, quarter)),
        ("other", quarter): compile_share("other", quarter),
    }
    members = {name: set[int]() for name, _ in parts}
    for number in range(n):
        unit = f"d{number}".encode()
        for (name, _), contains in parts.items():
            if contains(unit):
                members[name].add(number)
    for name, share in parts:
        part = share / SHARE_ONE
        assert abs(len(members[name]) - n * part) <= 3 * math.sqrt(n * part * (1 - part)), name
    assert members["ramp"] <= members["share"]
    parts_of = {name: share / SHARE_ONE for name, share in parts}
    for a, b in itertools.combinations(["share", "control", "voters", "holdout", "other"], 2):
        both = parts_of[a] * parts_of[b]
        assert abs(len(members[a] & members[b]) - n * both) <= 4 * math.sqrt(n * both * (1 - both)), (a, b)


@given(st.text(max_size=80))
def test_no_text_breaks_the_parser(text: str) -> None:
    column = 0
    try:
        parse_predicate(text)({"a": 1})
    except PredicateError as error:
        column = error.column
    assert 0 <= column <= len(text)


scalars = st.sampled_from([True, False, 1, 0, 1.0, 2, "1", "x", "1.10"])
profiles = st.dictionaries(st.sampled_from(["a", "b_version", "c"]), scalars)
PREDICATES = [
    "",
    'a == "x"',
    "a == 1",
    "a == true",
    'b_version >= "1.9"',
    "exists(c) and a != 1",
    "not a == 1",
]


def _release(number: int, predicate: str, task: str) -> Release:
    ref = FileRef(Sha256("0" * 64), 1)
    names = ScenarioName("s"), TaskName(task), TaskVersion(f"{number}")
    return Release(ReleaseId(f"r{number}"), *names, ref, predicate, SHARE_ONE // 2, f"salt{number}", number)


@given(
    st.lists(st.tuples(st.sampled_from(PREDICATES), st.sampled_from("tu")), max_size=8),
    st.lists(profiles, max_size=6),
)
def test_remembered_classes_decide_as_the_plain_rule(
    rules: list[tuple[str, str]], asked: list[Profile]
) -> None:
    releases = [_release(n, predicate, task) for n, (predicate, task) in enumerate(rules)]
    policy = Policy(Snapshot(1, tuple(releases)))
    for profile in asked:
        plain: dict[str, str] = {}
        for release in releases:  # oldest first: a newer one overwrites
            if parse_predicate(release.predicate)(profile) and in_share(release.salt, "d", release.share):
                plain[release.task] = release.id
        decided = policy.decide(DeviceId("d"), profile)
        assert {key[1]: wanted.release_id for key, wanted in decided.items()} == plain


def test_arms_voters_and_share_are_independent_and_as_large_as_asked_for() -> None:
    old = _release(1, "", "t")
    new = replace(_release(2, "", "t"), control=SHARE_ONE // 4, voters=SHARE_ONE // 5)
    policy = Policy(Snapshot(1, (replace(old, share=SHARE_ONE), new)))
    n = 40_000
    decided = [policy.decide(DeviceId(f"d{i}"), {})["s", "t"] for i in range(n)]
    treated = [wanted for wanted in decided if wanted.release_id == new.id]
    counts = {
        1 / 2 * 3 / 4: len(treated),
        1 / 2 * 3 / 4 / 5: sum(wanted.votes for wanted in treated),
        1 / 2 * 1 / 4 / 5: sum(wanted.control_of == new.id for wanted in decided),
    }
    for part, count in counts.items():
        assert abs(count - n * part) < 4 * math.sqrt(n * part * (1 - part))


TOKENS = [
    "has",
    "set",
    "segment",
    "told",
    "device",
    "..",
    "matches",
    "contains",
    "a_at",
    "a",
    "b_version",
    "==",
    "!=",
    "<",
    ">=",
    "in",
    "startswith",
    "exists",
    "(",
    ")",
    ",",
    '"x"',
    "1",
    "1.5",
]


@given(st.text("[]!*?-&|~^ab:.\\", max_size=12), st.text("ab-]^", max_size=12))
def test_no_glob_breaks_and_each_matches_as_it_says(glob: str, text: str) -> None:
    quoted = glob.replace("\\", "\\\\")
    matches = parse_predicate(f'a matches "{quoted}"')
    assert matches({"a": text}) == fnmatch.fnmatchcase(text, glob)
    assert not matches({})


@given(st.lists(st.sampled_from([*TOKENS, "and", "or", "not", "true", "false"]), max_size=25))
def test_no_row_of_tokens_breaks_the_parser(tokens: list[str]) -> None:
    try:
        predicate = parse_predicate(" ".join(tokens))
    except PredicateError:
        return
    for profile in ({}, {"a": 1}, {"a": "x", "b_version": "1.0"}, {"a": True, "b_version": "x.y-z"}):
        assert predicate(profile) in (True, False)
