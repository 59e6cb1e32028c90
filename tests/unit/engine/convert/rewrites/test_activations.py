"""Activations that exporters spell out become one operator; what only looks like one does not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

HEAD = "(float[N, 5] x) => (float[N, 5] y)"
ROOT = math.sqrt(2 / math.pi)

ERF = [
    "e = Erf(d) \n r = Add(e, #1.0) \n p = Mul(x, r) \n y = Mul(p, #0.5)",
    "e = Erf(d) \n r = Add(#1.0, e) \n p = Mul(r, x) \n y = Mul(#0.5, p)",
    "e = Erf(d) \n r = Add(e, #1.0) \n h = Mul(x, #0.5) \n y = Mul(h, r)",
    "e = Erf(d) \n r = Add(e, #1.0) \n h = Mul(#0.5, r) \n y = Mul(x, h)",
    "e = Erf(d) \n r = Add(e, #1.0) \n h = Div(x, #2.0) \n y = Mul(h, r)",
    "e = Erf(d) \n r = Add(e, #1.0) \n p = Mul(x, r) \n y = Div(p, #2.0)",
    "e = Erf(d) \n h = Mul(e, #0.5) \n r = Add(h, #0.5) \n y = Mul(x, r)",
]


@pytest.mark.parametrize("tail", ERF)
@pytest.mark.parametrize("inner", ["Div(x, #1.4142135)", "Mul(x, #0.70710678)", "Mul(#0.70710678, x)"])
def test_gelu(rewritten: Any, inner: str, tail: str) -> None:
    result = rewritten(f"{HEAD} {{ d = {inner} \n {tail} }}")
    assert result.rewrites == {"gelu": 1}
    assert result.ops == ["Gelu"]
    assert result.node("Gelu").attrs == {}


TANH = [
    f"c = Pow(x, #3.0) \n k = Mul(c, #0.044715) \n a = Add(x, k) \n i = Mul(a, #{ROOT})",
    f"s = Mul(x, x) \n c = Mul(s, x) \n k = Mul(#0.044715, c) \n a = Add(k, x) \n i = Mul(#{ROOT}, a)",
    f"s = Pow(x, #2.0) \n c = Mul(x, s) \n k = Mul(#0.044715, c) \n a = Add(k, x) \n i = Mul(#{ROOT}, a)",
    f"l = Mul(x, #{ROOT}) \n k = Mul(x, #0.044715) \n s = Mul(k, x) \n a = Add(#1.0, s) \n i = Mul(l, a)",
]


@pytest.mark.parametrize("inner", TANH)
def test_gelu_by_tanh(rewritten: Any, inner: str) -> None:
    tail = "t = Tanh(i) \n r = Add(t, #1.0) \n h = Mul(x, #0.5) \n y = Mul(h, r)"
    result = rewritten(f"{HEAD} {{ {inner} \n {tail} }}")
    assert result.rewrites == {"gelu": 1}
    assert result.node("Gelu").attrs == {"approximate": "tanh"}


@pytest.mark.parametrize(
    ("body", "op", "attributes"),
    [
        ("g = Sigmoid(x) \n y = Mul(x, g)", "Swish", {}),
        ("g = Sigmoid(x) \n y = Mul(g, x)", "Swish", {}),
        ("a = Mul(x, #1.75) \n g = Sigmoid(a) \n y = Mul(x, g)", "Swish", {"alpha": 1.75}),
        ("p = Softplus(x) \n t = Tanh(p) \n y = Mul(x, t)", "Mish", {}),
        ("a = Add(x, #3.0) \n c = Clip(a, #0.0, #6.0) \n p = Mul(x, c) \n y = Div(p, #6.0)", "HardSwish", {}),
        ("a = Add(x, #3.0) \n c = Clip(a, #0.0, #6.0) \n g = Div(c, #6.0) \n y = Mul(g, x)", "HardSwish", {}),
        (
            "a = Add(x, #3.0) \n c = Clip(a, #0.0, #6.0) \n g = Mul(c, #0.16666667) \n y = Mul(x, g)",
            "HardSwish",
            {},
        ),
        ("g = HardSigmoid <alpha = 0.16666667, beta = 0.5> (x) \n y = Mul(x, g)", "HardSwish", {}),
    ],
)
def test_gates(rewritten: Any, body: str, op: str, attributes: dict[str, Any]) -> None:
    result = rewritten(f"{HEAD} {{ {body} }}")
    assert list(result.rewrites.values()) == [1]
    assert result.ops == [op]
    assert result.node(op).attrs == attributes


NEAR_MISSES = {
    "another root": "d = Div(x, #1.4) \n e = Erf(d) \n r = Add(e, #1.0) \n p = Mul(x, r) \n y = Mul(p, #0.5)",
    "not a half": "d = Div(x, #1.4142135) \n e = Erf(d) \n r = Add(e, #1.0) \n p = Mul(x, r) \n "
    "y = Mul(p, #0.6)",
    "not one more": "d = Div(x, #1.4142135) \n e = Erf(d) \n r = Add(e, #2.0) \n p = Mul(x, r) \n "
    "y = Mul(p, #0.5)",
    "of something else": "n = Neg(x) \n g = Sigmoid(n) \n y = Mul(x, g)",
    "another clip": "a = Add(x, #3.0) \n c = Clip(a, #0.0, #5.0) \n p = Mul(x, c) \n y = Div(p, #6.0)",
    "another shift": "a = Add(x, #2.0) \n c = Clip(a, #0.0, #6.0) \n p = Mul(x, c) \n y = Div(p, #6.0)",
    "another slope": "g = HardSigmoid <alpha = 0.2, beta = 0.5> (x) \n y = Mul(x, g)",
    "another cube": f"c = Pow(x, #3.1) \n k = Mul(c, #0.044715) \n a = Add(x, k) \n i = Mul(a, #{ROOT}) \n"
    "t = Tanh(i) \n r = Add(t, #1.0) \n h = Mul(x, #0.5) \n y = Mul(h, r)",
    "subtracted": "p = Softplus(x) \n t = Tanh(p) \n y = Sub(x, t)",
}


@pytest.mark.parametrize("case", NEAR_MISSES)
def test_what_only_looks_like_it_is_left_alone(rewritten: Any, case: str) -> None:
    # A power of a fraction is no number below zero: keep to what is above.
    text = f"(float[N, 5] w) => (float[N, 5] y) {{ x = Exp(w) \n {NEAR_MISSES[case]} }}"
    assert rewritten(text).rewrites == {}


def test_an_inner_value_that_is_read_elsewhere_stays(rewritten: Any) -> None:
    text = (
        "(float[N, 5] x) => (float[N, 5] y, float[N, 5] z) { g = Sigmoid(x) \n y = Mul(x, g) \n z = Neg(g) }"
    )
    assert rewritten(text).rewrites == {}


def test_an_inner_value_that_is_an_output_stays(rewritten: Any) -> None:
    text = "(float[N, 5] x) => (float[N, 5] y, float[N, 5] g) { g = Sigmoid(x) \n y = Mul(x, g) }"
    assert rewritten(text).rewrites == {}


def test_a_constant_that_spreads_the_value_is_no_number(rewritten: Any) -> None:
    text = (
        "(float[5] x) => (float[1, 5] y)"
        "{ d = Div(x, #1.4142135) \n e = Erf(d) \n r = Add(e, #1.0) \n p = Mul(x, r) \n y = Mul(p, half) }"
    )
    assert rewritten(text, half=np.full((1, 1), 0.5, np.float32)).rewrites == {}
