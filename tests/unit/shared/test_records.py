from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from walle_shared.records import RecordError, from_plain, to_plain


@dataclass(frozen=True)
class Inner:
    name: str
    share: float = 1.0


@dataclass(frozen=True)
class Outer:
    count: int
    inner: Inner
    many: tuple[Inner, ...] = ()
    table: Mapping[str, int] = field(default_factory=dict)
    mode: Literal["a", "b"] = "a"
    maybe: int | None = None


@dataclass(frozen=True)
class Open:
    a: int
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Tree:
    children: tuple["Tree", ...] = ()


PLAIN = {
    "count": 2,
    "inner": {"name": "x", "share": 1},
    "many": [{"name": "y"}],
    "table": {"k": 3},
    "mode": "b",
    "maybe": None,
}


def test_values_become_a_record_and_return() -> None:
    outer = from_plain(Outer, PLAIN)
    assert outer == Outer(2, Inner("x", 1.0), (Inner("y"),), {"k": 3}, "b", None)
    assert from_plain(Outer, to_plain(outer)) == outer


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"count": "2"}, "count: expected an integer, got '2'"),
        ({"count": True}, "count: expected an integer, got True"),
        ({"count": 2.0}, "count: expected an integer, got 2.0"),
        ({"inner": {"name": 3}}, "inner.name: expected a string, got 3"),
        ({"inner": {}}, "inner.name: is missing"),
        (
            {"many": [{"name": "y"}, {"name": "z", "x": 1}]},
            r"many\[1\].x: is not known; known here: name, share",
        ),
        ({"many": {"name": "y"}}, "many: expected a list"),
        ({"table": {"k": "v"}}, "table.k: expected an integer"),
        ({"table": [1]}, "table: expected a table"),
        ({"mode": "c"}, "mode: expected one of 'a', 'b', got 'c'"),
        ({"maybe": "x"}, "maybe: expected"),
        ({"other": 1}, "other: is not known"),
    ],
)
def test_a_misfit_is_named_by_its_path(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RecordError, match=complaint):
        from_plain(Outer, PLAIN | change)


def test_unknown_members_are_kept_where_the_record_says_so() -> None:
    record = from_plain(Open, {"a": 1, "new": [1, 2]})
    assert record.extra == {"new": [1, 2]}
    assert to_plain(record) == {"a": 1, "new": [1, 2]}


def test_a_record_may_contain_itself() -> None:
    assert from_plain(Tree, {"children": [{"children": []}]}) == Tree((Tree(),))


def test_long_values_are_shortened_in_complaints() -> None:
    with pytest.raises(RecordError) as caught:
        from_plain(Outer, PLAIN | {"count": "x" * 10_000})
    assert len(str(caught.value)) < 200
