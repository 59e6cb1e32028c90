"""Where codes lie: what belongs to a layer, what hands codes on, what shares a scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from walle_engine.compress.placement import layers_of, place
from walle_engine.convert.draft import Draft
from walle_shared.errors import ModelError

_FILTER = np.ones((4, 4, 1, 1), np.float32)
_IMAGE = ("N", 4, 6, 6)


def _conv(name: str, x: str, y: str, *more: str) -> tuple[Any, ...]:
    return "Conv", name, (x, "w", *more), (y,)


def _groups(draft: Draft, **how: Any) -> set[frozenset[str]]:
    return {frozenset(group) for group in place(draft, **how).groups}


def test_no_codes_between_a_layer_and_its_activation(make_draft: Any) -> None:
    nodes = [_conv("a", "x", "y"), ("Relu", "bend", ("y",), ("z",)), _conv("b", "z", "out")]
    draft = make_draft(nodes, {"x": _IMAGE}, {"out": _IMAGE}, {"w": _FILTER})
    assert place(draft).values == ("x", "z", "out")


def test_a_value_with_another_reader_is_coded_itself(make_draft: Any) -> None:
    nodes = [
        _conv("a", "x", "y"),
        ("Relu", "bend", ("y",), ("z",)),
        ("Neg", "other", ("y",), ("n",)),
        _conv("b", "z", "o"),
        ("Add", "sum", ("o", "n"), ("out",)),
    ]
    draft = make_draft(nodes, {"x": _IMAGE}, {"out": _IMAGE}, {"w": _FILTER})
    assert {"y", "z"} <= set(place(draft).values)


def test_residuals_flow_as_codes(make_draft: Any) -> None:
    nodes = [
        _conv("a", "x", "y"),
        ("Add", "sum", ("y", "x"), ("s",)),
        ("Relu", "bend", ("s",), ("z",)),
        _conv("b", "z", "out"),
    ]
    draft = make_draft(nodes, {"x": _IMAGE}, {"out": _IMAGE}, {"w": _FILTER})
    assert set(place(draft).values) == {"x", "y", "z", "out"}


def test_what_moves_elements_shares_a_scale_and_so_do_parts(make_draft: Any) -> None:
    nodes = [
        _conv("a", "x", "y"),
        ("MaxPool", "pool", ("y",), ("p",), {"kernel_shape": [1, 1]}),
        ("Transpose", "turn", ("x",), ("t",), {"perm": [0, 1, 3, 2]}),
        ("Concat", "join", ("p", "t"), ("j",), {"axis": 2}),
        _conv("b", "j", "out"),
    ]
    draft = make_draft(nodes, {"x": _IMAGE}, {"out": ("N", 4, 12, 6)}, {"w": _FILTER})
    assert _groups(draft) == {frozenset("ypxtj"), frozenset({"out"})}


def test_what_is_added_to_a_product_is_added_in_float(make_draft: Any) -> None:
    nodes = [
        ("MatMul", "product", ("x", "m"), ("p",)),
        ("Add", "shift", ("p", "b"), ("s",)),
        ("Relu", "bend", ("s",), ("out",)),
    ]
    weights = {"m": np.ones((3, 2), np.float32), "b": np.ones(2, np.float32)}
    draft = make_draft(nodes, {"x": ("N", 3)}, {"out": ("N", 2)}, weights)
    assert place(draft).values == ("x", "p")


def test_products_of_two_values_and_of_other_types_stay(make_draft: Any) -> None:
    nodes = [("MatMul", "values", ("x", "x"), ("p",)), ("MatMul", "wide", ("d", "w"), ("q",))]
    draft = make_draft(nodes, {"x": (2, 2), "d": (2, 2)}, {"p": (2, 2), "q": (2, 2)}, {"w": np.ones((2, 2))})
    assert layers_of(draft) == ()


def test_layers_stay_in_float_by_name(digits: Draft) -> None:
    names = {layer.node.name for layer in place(digits, keep=["fc*", "conv1"]).layers}
    assert names == {"conv2"}
    with pytest.raises(ModelError, match=r"no layer fits 'head': .* conv1, conv2, fc1, fc2"):
        place(digits, keep=["head"])
