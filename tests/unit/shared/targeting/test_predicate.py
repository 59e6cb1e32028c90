import pytest

from walle_shared.errors import ConfigError
from walle_shared.limits import PREDICATE_MAX_CHARS
from walle_shared.targeting import PredicateError, parse_predicate
from walle_shared.targeting.predicate import SetQuestion, set_answer, told_answer

PROFILE = {
    "group": "beta",
    "app_version": "7.10.0",
    "os": "linux",
    "memory_mb": 4096,
    "metered": False,
    "region": "eu-north",
    "load": 0.5,
    "enrolled_at": "2026-01-31T23:00",
    "seen_at": 1_700_000_000_000,
    "build_date": "2026-01-01",
    "group_at": "beta",
    "flag_at": True,
    "set": 3,
    "segment": 4,
}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "true",
        'group == "beta"',
        'group != "stable"',
        'app_version >= "7.9"',
        'app_version == "7.10"',
        'app_version > "7.10.0-rc.2"',
        "memory_mb >= 4096 and memory_mb < 4097",
        "load <= 0.5",
        "metered == false",
        'os in ("android", "linux")',
        "memory_mb in (1, 4096)",
        'region startswith "eu-"',
        "exists(region)",
        "not exists(rooted)",
        'not group == "stable"',
        'group == "x" or os == "linux" and memory_mb > 1',
        '(group == "x" or os == "linux") and not (memory_mb < 1)',
        "not not true",
        "has(region)",
        'region endswith "north" and region contains "-n"',
        'region matches "eu-*" and region matches "??-[mn]orth"',
        "memory_mb in 4096..8192 and memory_mb in 0..4096 and load in 0.5..1",
        'app_version in "7.9".."7.10"',
        'app_version > "7.10-rc.10" and app_version == "7.10.0+build.5"',
        'group not in ("stable", "canary") and memory_mb not in 1..4095',
        "metered not in (true)",
        'enrolled_at < "2026-02-01" and enrolled_at > "2026-01-31T22:59Z"',
        'enrolled_at == "2026-02-01T00:00+01:00"',
        'seen_at in "2023-11-14".."2023-11-15"',
        'build_date not in ("2026-01-02")',
        "set == 3 and segment == 4",
    ],
)
def test_matches(text: str) -> None:
    assert parse_predicate(text)(PROFILE)


@pytest.mark.parametrize(
    "text",
    [
        "false",
        'group == "stable"',
        'app_version < "7.9"',
        'app_version >= "7.10.1"',
        'group == "x" or os == "linux" and memory_mb > 9999',
        'missing == "x"',
        'missing != "x"',
        "missing < 3",
        'memory_mb == "4096"',
        "group == 1",
        "metered == 0",
        'memory_mb startswith "4"',
        "exists(missing)",
        'missing not in ("a") or missing not in 1..2',
        'group not in 1..2 or memory_mb not in ("a")',
        "metered not in 1..2 or metered in 0..1",
        'missing matches "*" or memory_mb matches "*"',
        'region matches "EU-*" or region matches "eu"',
        'missing_at < "2026-01-01" or group_at < "2026-01-01" or flag_at > "1970-01-01"',
        'group_at not in ("2026-01-01")',
        'app_version > "7.10.0"',
    ],
)
def test_does_not_match(text: str) -> None:
    assert not parse_predicate(text)(PROFILE)


@pytest.mark.parametrize(
    ("text", "column", "problem"),
    [
        ('group = "beta"', 6, "cannot read '='"),
        ('group == "beta', 9, "cannot read"),
        ("group ==", 8, "expected a value"),
        ("group", 5, "expected a comparison after 'group'"),
        ("and", 0, "expected an attribute name"),
        ('group == "a" group == "b"', 13, "expected 'and', 'or' or the end"),
        ('(group == "a"', 13, r"expected '\)'"),
        ("app_version >= 7.2", 15, "write the version in quotes"),
        ("metered > true", 8, "have no order"),
        ("group in ()", 10, "expected a value"),
        ('group in "a"', 9, r"expected '\('"),
        ("exists group", 7, r"expected '\('"),
        ("region startswith 3", 7, "needs a string"),
        ("group == beta", 9, "text goes in double quotes"),
        ("1 == 1", 0, "expected an attribute name"),
        ('group == "a" ; true', 13, "cannot read ';'"),
        ('__import__("os")', 10, "expected a comparison"),
        ("load in 2..1", 11, "the range is empty"),
        ('load in 1.."2"', 11, "two numbers or two strings"),
        ("metered in false .. true", 20, "two numbers or two strings"),
        ("load in 1...2", 11, "cannot read"),
        ('group not "a"', 10, "expected 'in'"),
        ('enrolled_at < "yesterday"', 14, "is compared with a time"),
        ('enrolled_at in ("2026-01-01", "2026-13-01")', 30, "is compared with a time"),
        ('device == "d1"', 0, "asked for by device in set"),
        ("has(device)", 4, "asked for by device in set"),
        ("device in set(beta)", 14, "expected a name in double quotes"),
        ('group == "a" and segment("nobody")', 17, "no segment 'nobody' is known"),
        ("region matches 3", 7, "matches needs a string"),
    ],
)
def test_a_bad_predicate_is_pointed_at(text: str, column: int, problem: str) -> None:
    with pytest.raises(PredicateError, match=problem) as caught:
        parse_predicate(text)
    assert caught.value.column == column
    assert caught.value.message.splitlines()[2] == "  " + " " * column + "^"


def test_depth_and_length_are_bounded() -> None:
    with pytest.raises(PredicateError, match="nested deeper"):
        parse_predicate("(" * 100 + "true" + ")" * 100)
    with pytest.raises(PredicateError, match="nested deeper"):
        parse_predicate("not " * 100 + "true")
    with pytest.raises(ConfigError, match="at most"):
        parse_predicate(" " * (PREDICATE_MAX_CHARS + 1))


def test_a_predicate_knows_what_it_reads() -> None:
    parsed = parse_predicate('group == "a" and not exists(region) or os in ("x")')
    assert parsed.attributes == {"group", "region", "os"}


SEGMENTS = {
    "testers": 'group == "beta"',
    "wide": 'segment("testers") or os == "plan9"',
    "loop": 'segment("pool")',
    "pool": 'not segment("loop")',
    "broken": "group ==",
}


def test_segments_stand_for_their_predicates() -> None:
    parsed = parse_predicate('device in segment("wide") and memory_mb > 1', SEGMENTS)
    assert parsed(PROFILE)
    assert parsed.attributes == {"group", "os", "memory_mb"}
    assert parsed.segments == {"wide", "testers"}
    assert [use.name for use in parsed.uses] == ["memory_mb"]
    assert not parse_predicate('not segment("wide")', SEGMENTS)(PROFILE)
    assert not parse_predicate('device not in segment("wide")', SEGMENTS)(PROFILE)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            'true and segment("loop")',
            r"(?s)contains itself: loop -> pool -> loop.*\n  true and seg.*\n           \^",
        ),
        ('segment("broken")', r"(?s)segment 'broken': expected a value.*\n  group ==\n"),
    ],
)
def test_segments_that_cannot_be_are_pointed_at(text: str, problem: str) -> None:
    with pytest.raises(PredicateError, match=problem):
        parse_predicate(text, SEGMENTS)


def test_segments_are_bounded_in_depth_and_number() -> None:
    deep = {f"s{n}": f'segment("s{n + 1}")' for n in range(20)} | {"s20": "true"}
    with pytest.raises(PredicateError, match="segments nested deeper"):
        parse_predicate('segment("s0")', deep)
    wide = {f"s{n}": " or ".join([f'segment("s{n + 1}")'] * 100) for n in range(7)} | {"s7": "true"}
    with pytest.raises(PredicateError, match="over 256 segments"):
        parse_predicate('segment("s0")', wide)


def test_sets_and_what_the_server_told_are_asked_for_and_answered_in_the_profile() -> None:
    parsed = parse_predicate('device in set("a") and user not in set("b@2") and told("r1")')
    device, user = SetQuestion("device", "a"), SetQuestion("user", "b@2")
    assert parsed.sets == {device, user}
    answered = {set_answer(device): True, set_answer(user): False, told_answer("r1"): True}
    assert parsed.attributes == answered.keys()
    assert parsed(answered)
    for name in answered:
        assert not parsed({**answered, name: not answered[name]})
        assert not parsed({other: value for other, value in answered.items() if other != name})


def test_a_predicate_tells_how_it_uses_an_attribute() -> None:
    parsed = parse_predicate(
        'has(a) and b == 1 and c_version > "1" and d == true and e matches "x" and f_at < "2026-01-01"'
    )
    kinds = [(use.name, use.kind, use.column) for use in parsed.uses]
    assert kinds == [
        ("a", None, 4), ("b", "number", 11), ("c_version", "version", 22), ("d", "boolean", 42),
        ("e", "string", 56), ("f_at", "time", 74),
    ]  # fmt: skip


def test_no_glob_takes_long() -> None:
    assert not parse_predicate('group matches "' + "*a" * 40 + '*b"')({"group": "a" * 10_000})
