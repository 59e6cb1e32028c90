"""Layer norm and root-mean-square norm in the ways exporters spell them out, and near misses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

RNG = np.random.default_rng(5)
HEAD = "(float[N, 4, 6] x) => (float[N, 4, 6] y)"
AFFINE = {
    "g": RNG.uniform(0.5, 2, 6).astype(np.float32),
    "b": RNG.standard_normal(6).astype(np.float32),
}

CENTRED = "m = ReduceMean(x, #[-1]) \n d = Sub(x, m)"
SQUARES = ["s = Pow(d, #2.0)", "s = Mul(d, d)", "c = Cast <to = 1> (d) \n s = Pow(c, #2.0)"]
VARIANCE = "v = ReduceMean(s, #[-1]) \n e = Add(v, #0.001)"
QUOTIENTS = [
    "r = Sqrt(e) \n q = Div(d, r)",
    "r = Sqrt(e) \n i = Reciprocal(r) \n q = Mul(d, i)",
    "r = Sqrt(e) \n i = Div(#1.0, r) \n q = Mul(i, d)",
    "i = Pow(e, #-0.5) \n q = Mul(d, i)",
    "r = Pow(e, #0.5) \n q = Div(d, r)",
]


@pytest.mark.parametrize("square", SQUARES)
@pytest.mark.parametrize("quotient", QUOTIENTS)
def test_layer_norm(rewritten: Any, square: str, quotient: str) -> None:
    text = f"{HEAD} {{ {CENTRED} \n {square} \n {VARIANCE} \n {quotient} \n a = Mul(q, g) \n y = Add(a, b) }}"
    result = rewritten(text, **AFFINE)
    assert result.rewrites["layer_norm"] == 1
    assert result.ops == ["LayerNormalization"]
    node = result.node("LayerNormalization")
    assert node.inputs == ("x", "g", "b")
    assert node.attrs == {"axis": -1, "epsilon": pytest.approx(1e-3)}


@pytest.mark.parametrize(
    ("tail", "inputs"),
    [("y = Mul(g, q)", 2), ("y = Identity(q)", 2), ("a = Mul(g, q) \n y = Add(b, a)", 3)],
)
def test_layer_norm_with_less_behind_it(rewritten: Any, tail: str, inputs: int) -> None:
    text = f"{HEAD} {{ {CENTRED} \n {SQUARES[0]} \n {VARIANCE} \n {QUOTIENTS[0]} \n {tail} }}"
    result = rewritten(text, **AFFINE)
    assert result.rewrites["layer_norm"] == 1
    assert len(result.node("LayerNormalization").inputs) == inputs


def test_layer_norm_over_two_dims_counted_from_the_front(rewritten: Any) -> None:
    text = f"""{HEAD} {{ m = ReduceMean(x, #[2, 1]) \n d = Sub(x, m) \n s = Mul(d, d)
        v = ReduceMean(s, #[2, 1]) \n e = Add(#0.001, v) \n r = Sqrt(e) \n q = Div(d, r)
        y = Mul(q, g) }}"""
    gain = RNG.uniform(0.5, 2, (4, 6)).astype(np.float32)
    assert rewritten(text, g=gain).node("LayerNormalization").attrs["axis"] == -2


def test_layer_norm_as_tensorflow_has_it(rewritten: Any) -> None:
    text = f"""{HEAD} {{ {CENTRED} \n {SQUARES[1]} \n {VARIANCE} \n r = Sqrt(e) \n i = Reciprocal(r)
        k = Mul(i, g) \n xk = Mul(x, k) \n mk = Mul(m, k) \n t = Sub(b, mk) \n y = Add(xk, t) }}"""
    result = rewritten(text, **AFFINE)
    assert result.rewrites == {"layer_norm": 1}
    assert result.ops == ["LayerNormalization"]


def test_layer_norm_whose_mean_is_computed_twice(rewritten: Any) -> None:
    text = f"""{HEAD} {{ {CENTRED} \n m2 = ReduceMean(x, #[-1]) \n d2 = Sub(x, m2) \n s = Mul(d2, d2)
        {VARIANCE} \n r = Sqrt(e) \n q = Div(d, r) \n a = Mul(q, g) \n y = Add(a, b) }}"""
    assert rewritten(text, **AFFINE).ops == ["LayerNormalization"]


@pytest.mark.parametrize("quotient", QUOTIENTS)
@pytest.mark.parametrize(
    "tail", ["y = Mul(g, q)", "c = Cast <to = 1> (q) \n y = Mul(c, g)", "y = Identity(q)"]
)
def test_rms_norm(rewritten: Any, quotient: str, tail: str) -> None:
    quotient = quotient.replace("(d, ", "(x, ").replace(", d)", ", x)")
    text = f"{HEAD} {{ s = Pow(x, #2.0) \n {VARIANCE} \n {quotient} \n {tail} }}"
    result = rewritten(text, **AFFINE)
    assert result.rewrites["rms_norm"] == 1
    assert result.ops == ["RMSNormalization"]


FULL = f"{CENTRED} \n {SQUARES[0]} \n {VARIANCE} \n {QUOTIENTS[0]} \n a = Mul(q, g) \n y = Add(a, b)"
NEAR_MISSES = {
    "another power": FULL.replace("#2.0", "#4.0"),
    "not the last axis": FULL.replace("#[-1]", "#[1]"),
    "an axis between": FULL.replace("#[-1]", "#[0, 2]"),
    "another root": FULL.replace("r = Sqrt(e)", "r = Exp(e)"),
    "spread of something else": FULL.replace("Pow(d", "Pow(x"),
    "divided by the variance": FULL.replace("Div(d, r)", "Div(d, e)"),
    "turned round": FULL.replace("Div(d, r)", "Div(r, d)"),
}


@pytest.mark.parametrize("case", NEAR_MISSES)
def test_what_only_looks_like_it_is_left_alone(rewritten: Any, case: str) -> None:
    result = rewritten(f"{HEAD} {{ {NEAR_MISSES[case]} }}", **AFFINE)
    assert "layer_norm" not in result.rewrites
    assert "rms_norm" not in result.rewrites


def test_another_axis_for_the_mean_leaves_a_root_mean_square(rewritten: Any) -> None:
    text = FULL.replace("m = ReduceMean(x, #[-1])", "m = ReduceMean(x, #[1])")
    result = rewritten(f"{HEAD} {{ {text} }}", **AFFINE)
    assert result.rewrites == {"rms_norm": 1}
    assert result.ops == ["ReduceMean", "Sub", "RMSNormalization", "Add"]


@pytest.mark.parametrize("kept", ["m", "v", "q"])
def test_an_inner_value_that_is_read_elsewhere_stays(rewritten: Any, kept: str) -> None:
    head = "(float[N, 4, 6] x) => (float[N, 4, 6] y, float[N, 4, D] z)"
    result = rewritten(f"{head} {{ {FULL} \n z = Neg({kept}) }}", **AFFINE)
    # The mean of the quotient is of a whole norm, with what comes behind it left outside.
    assert result.ops.count("LayerNormalization") == (1 if kept == "q" else 0)


def test_a_gain_that_spreads_the_value_stays_outside(rewritten: Any) -> None:
    text = f"""(float[1, 6] x) => (float[3, 6] y) {{ {CENTRED} \n {SQUARES[0]} \n {VARIANCE}
        {QUOTIENTS[0]} \n y = Mul(q, g) }}"""
    result = rewritten(text, g=RNG.uniform(0.5, 2, (3, 6)).astype(np.float32))
    assert result.ops == ["LayerNormalization", "Mul"]
