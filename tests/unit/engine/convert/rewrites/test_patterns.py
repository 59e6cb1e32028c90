"""The matcher on its own: holes, constants, alternatives, and what it may take away."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from walle_engine import wmodel
from walle_engine.convert.draft import Draft
from walle_engine.convert.rewrites import Alias, Rewrite, rewrite
from walle_engine.convert.rewrites.index import Index
from walle_engine.convert.rewrites.patterns import (
    Pattern,
    constant,
    either,
    find,
    maybe_cast,
    number,
    op,
    ops_of,
    product,
    scalar,
    value,
)

X, Y = value("x"), value("y")


def index(*nodes: tuple[str, str, str], outputs: str = "z", **weights: Any) -> Index:
    """Nodes as (operator, inputs, output)."""
    return Index(draft(*nodes, outputs=outputs, **weights))


def draft(*nodes: tuple[str, str, str], outputs: str = "z", **weights: Any) -> Draft:
    made = [wmodel.Node(op_, f"{op_}_{out}", tuple(ins.split()), (out,)) for op_, ins, out in nodes]
    values = [wmodel.Value(name, "F32", ("N",)) for name in outputs.split()]
    inputs = [wmodel.Value(name, "F32", ("N",)) for name in ("u", "v", "w")]
    return Draft("test", "", inputs, values, made, {name: np.asarray(a) for name, a in weights.items()})


def test_a_hole_is_one_value_wherever_it_stands() -> None:
    square = op("Mul", X, X)
    assert find(index(("Mul", "u u", "z")), square, "z")
    assert find(index(("Mul", "u v", "z")), square, "z") is None


def test_holes_of_constants_take_equal_ones() -> None:
    pattern = op("Add", op("Mul", X, constant("c")), constant("c"))
    nodes = (("Mul", "u a", "m"), ("Add", "m b", "z"))
    assert find(index(*nodes, a=np.ones(3), b=np.ones(3)), pattern, "z")
    assert find(index(*nodes, a=np.ones(3), b=np.zeros(3)), pattern, "z") is None
    assert find(index(*nodes, a=np.ones(3), b=np.ones(3, np.float32)), pattern, "z") is None


@pytest.mark.parametrize(("name", "commutes"), [("Add", True), ("Mul", True), ("Sub", False), ("Div", False)])
def test_operands_of_some_may_stand_either_way(name: str, commutes: bool) -> None:
    pattern = op(name, op("Exp", X), Y)
    assert find(index(("Exp", "u", "e"), (name, "e v", "z")), pattern, "z")
    turned = find(index(("Exp", "u", "e"), (name, "v e", "z")), pattern, "z")
    assert (turned is not None) == commutes


def test_the_matcher_goes_back_where_a_first_choice_fails() -> None:
    # Add(Exp(x), x): the first operand that is an Exp is not the one.
    pattern = op("Add", op("Exp", X), op("Exp", op("Exp", X)))
    nodes = (("Exp", "u", "e"), ("Exp", "e", "f"), ("Exp", "u", "g"), ("Add", "f g", "z"))
    match = find(index(*nodes), pattern, "z")
    assert match
    assert match.values == {"x": "u"}


@pytest.mark.parametrize(
    ("array", "fits"),
    [
        (np.float32(0.1), True),
        (np.array([[0.1]], np.float32), True),
        (np.float64(0.1), True),
        (np.float16(0.1), True),
        (ml_dtypes.bfloat16(0.1), True),
        (np.float32(0.1001), False),
        (np.float64(0.10001), False),
        (np.array([0.1, 0.1], np.float32), False),
        (np.float32(np.nan), False),
        (np.int64(0), False),
    ],
)
def test_numbers(array: Any, fits: bool) -> None:
    match = find(index(("Add", "u c", "z"), c=array), op("Add", X, number(0.1)), "z")
    assert (match is not None) == fits


def test_scalars_have_one_element() -> None:
    pattern = op("Add", X, scalar("c"))
    assert find(index(("Add", "u c", "z"), c=np.ones((1, 1))), pattern, "z")
    assert find(index(("Add", "u c", "z"), c=np.ones(2)), pattern, "z") is None
    assert find(index(("Add", "u v", "z")), pattern, "z") is None


def test_all_orders_of_a_product() -> None:
    pattern = product(op("Exp", X), op("Neg", X), Y)
    for first, second, third in (("e", "n", "v"), ("e", "v", "n"), ("n", "v", "e"), ("v", "n", "e")):
        nodes = (
            ("Exp", "u", "e"),
            ("Neg", "u", "n"),
            ("Mul", f"{first} {second}", "m"),
            ("Mul", f"m {third}", "z"),
        )
        assert find(index(*nodes), pattern, "z"), (first, second, third)


def test_alternatives_and_casts() -> None:
    pattern = op("Neg", maybe_cast(either(op("Exp", X), op("Log", X))))
    for nodes in (
        [("Exp", "u", "e")],
        [("Log", "u", "e")],
        [("Log", "u", "l"), ("Cast", "l", "e")],
    ):
        assert find(index(*nodes, ("Neg", "e", "z")), pattern, "z")
    assert find(index(("Sin", "u", "e"), ("Neg", "e", "z")), pattern, "z") is None
    assert ops_of(either(op("Exp|Log", X), op("Neg", X))) == {"Exp", "Log", "Neg"}


CHAIN: Pattern = op("Neg", op("Exp", X))


def test_what_others_read_is_not_taken() -> None:
    nodes = (("Exp", "u", "e"), ("Neg", "e", "z"))
    assert find(index(*nodes), CHAIN, "z")
    assert find(index(*nodes, outputs="z e"), CHAIN, "z") is None
    assert find(index(*nodes, ("Sin", "e", "s")), CHAIN, "z") is None
    body = wmodel.Graph(
        "body", (), (wmodel.Value("o", "", None),), (wmodel.Node("Abs", "a", ("e",), ("o",)),)
    )
    read = draft(*nodes)
    read.nodes.append(wmodel.Node("If", "i", ("c",), ("r",), {"then_branch": body}))
    assert find(Index(read), CHAIN, "z") is None


def test_a_value_read_twice_inside_is_taken() -> None:
    pattern = op("Mul", op("Exp", X), op("Neg", op("Exp", X)))
    assert find(index(("Exp", "u", "e"), ("Neg", "e", "n"), ("Mul", "e n", "z")), pattern, "z")


def test_inputs_omitted_at_the_end_do_not_count() -> None:
    made = Index(Draft("t", "", [], [], [wmodel.Node("Clip", "c", ("u", "", ""), ("z",))]))
    assert find(made, op("Clip", X), "z")
    assert find(made, op("Clip", X, Y), "z") is None


def test_a_rewrite_that_never_ends_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    from walle_engine.convert import rewrites

    def again(_index: Index, match: Any) -> list[wmodel.Node]:
        return [match.root]

    monkeypatch.setattr(rewrites, "REWRITES", (Rewrite("again", op("Neg", X), again),))
    assert rewrite(draft(("Neg", "u", "z"))) == {"again": rewrites.MAX_PASSES}


def test_a_rewrite_to_a_value_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    from walle_engine.convert import rewrites

    rows = (Rewrite("double", op("Neg", op("Neg", X)), lambda _index, match: Alias(match.values["x"])),)
    monkeypatch.setattr(rewrites, "REWRITES", rows)
    made = draft(("Exp", "u", "a"), ("Neg", "a", "b"), ("Neg", "b", "c"), ("Sin", "c", "z"))
    assert rewrite(made) == {"double": 1}
    assert [(node.op, node.inputs) for node in made.nodes] == [("Exp", ("u",)), ("Sin", ("a",))]
