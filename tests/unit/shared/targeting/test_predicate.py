import pytest

from walle_shared.errors import ConfigError
from walle_shared.limits import PREDICATE_MAX_CHARS
from walle_shared.targeting import PredicateError, parse_predicate

PROFILE = {
    "group": "beta",
    "app_version": "7.10.0",
    "os": "linux",
    "memory_mb": 4096,
    "metered": False,
    "region": "eu-north",
    "load": 0.5,
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
