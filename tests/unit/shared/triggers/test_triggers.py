"""Text, builder and checks of the trigger language."""

from __future__ import annotations

import pytest

from walle_shared.triggers import (
    Predicate,
    TriggerError,
    compile_trigger,
    enter,
    event,
    exit_,
    kind,
    page,
    parse,
    step,
)

EXAMPLE = (
    'on enter(item) ~> click[area="cart"]{1,3} !~ exit(item) ~> enter(order)'
    " within 30s gap 10s per visit once"
)


def test_builder_equals_text() -> None:
    built = (
        enter("item")
        .then(kind("click").where(Predicate("area", "=", "cart")).times(1, 3))
        .unless(exit_("item"))
        .then(enter("order"))
        .within(30_000)
        .gap(10_000)
        .per("visit")
    )
    assert built.sequence == parse(EXAMPLE)
    assert parse(str(built)) == built.sequence
    assert [len(path) for path in built.compile().paths] == [3, 4, 5]


def test_builder_alternatives_absence_and_strict_steps() -> None:
    built = (
        (event("a") | page("p")).next(step("*").optional()).next(event("b")).unless(event("x")).within(1_500)
    )
    assert built.every().sequence == parse("on (event(a)|page(p)) *? b !x within 1500ms every")


@pytest.mark.parametrize(
    ("text", "column", "why"),
    [
        ("enter(item)", 0, "expected 'on'"),
        ("on", 2, "expected a step"),
        ("on a # b", 5, "unexpected '#'"),
        ("on a{1,}", 7, "whole number"),
        ("on a{2", 6, "expected '}'"),
        ("on a* b", 4, "without an end"),
        ("on a !x -> b", 8, "needs '~>'"),
        ("on click(cart)", 3, "takes no argument"),
        ("on kind(swipe)", 7, "no event kind"),
        ("on enter(a.exit)", 8, "must not end"),
        ("on a[n ~ 1]", 7, "expected =, !="),
        ("on a[n=b]", 7, "expected a value"),
        ("on a[n=01]", 7, "not a value"),
        ("on a[n startswith 1]", 18, "text in quotes"),
        ("on a ~> b within 3", 18, "expected ms"),
        ("on a ~> b within 25h", 17, "at most 24h"),
        ("on a per user", 9, "expected device"),
        ("on a once every", 10, "contradicts"),
        ("on a once b", 10, "expected one of"),
    ],
)
def test_errors_point_at_the_place(text: str, column: int, why: str) -> None:
    with pytest.raises(TriggerError) as caught:
        parse(text)
    assert why in caught.value.message
    assert caught.value.column == column
    assert caught.value.message.endswith(f"\n  {' ' * column}^")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("on a ~> b", "wait for ever"),
        ("on a !b", "wait for ever"),
        ("on a? b? ", "every step is optional"),
        ("on a{0,0}", "repeats"),
        ("on a{3,2}", "repeats"),
        ("on a{1,9}", "repeats"),
        ("on a b? !c ~> d within 1s", "behind the optional"),
        ("on a !c ~> b? d within 1s", "before the optional"),
        ("on a b? !c within 1s", "behind the optional"),
        ("on (a|b){6} c{0,1}", "128 paths"),
        ("on a{8} b{8} c{8} d{8} e", "33 events"),
    ],
)
def test_meaningless_triggers_are_refused(text: str, why: str) -> None:
    with pytest.raises(TriggerError, match=why):
        compile_trigger(parse(text))


def test_too_long_text_is_refused_before_reading_it() -> None:
    with pytest.raises(TriggerError, match="limit of 2000"):
        parse("on " + "a " * 1_000)


@pytest.mark.parametrize(
    ("test", "passing", "failing"),
    [
        ('x="a"', ["a"], ["b", 1, None]),
        ("x=1", [1, 1.0], [True, "1", 2]),
        ("x!=1", [2], [1, "1", True]),
        ("x<2", [1, 1.5], [2, "1", True]),
        ("x>=2", [2, 3], [1, None]),
        ('x>"b"', ["c"], ["a", 5]),
        ('x in ("a", 1)', ["a", 1], [True, "b"]),
        ('x startswith "ab"', ["abc"], ["ba", 1]),
        ("x exists", [None, 0, []], []),
    ],
)
def test_predicates(test: str, passing: list[object], failing: list[object]) -> None:
    [atom] = parse(f"on a[{test}]").steps[0].choices
    assert all(atom.accepts({"x": value}) for value in passing)
    assert not any(atom.accepts({"x": value}) for value in failing)
    assert not atom.accepts({})
