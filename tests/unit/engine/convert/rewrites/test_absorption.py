"""Batch normalisation and constants behind a layer go into its weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

RNG = np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape).astype(np.float32)


def norm(channels: int) -> dict[str, Any]:
    return {
        "ng": RNG.uniform(0.5, 2, channels).astype(np.float32),
        "nb": normal(channels),
        "nm": normal(channels),
        "nv": RNG.uniform(0.5, 2, channels).astype(np.float32),
    }


# The layer, how many channels it makes, and its weights.
LAYERS: dict[str, tuple[str, str, int, dict[str, Any]]] = {
    "conv": ("Conv <pads = [1, 1, 1, 1]> (x, w)", "N, 4, 6, 6", 4, {"w": normal(4, 4, 3, 3)}),
    "conv with bias": ("Conv (x, w, c)", "N, 6, 4, 4", 6, {"w": normal(6, 4, 3, 3), "c": normal(6)}),
    "grouped conv": ("Conv <group = 2> (x, w)", "N, 6, 4, 4", 6, {"w": normal(6, 2, 3, 3)}),
    "transposed": ("ConvTranspose <strides = [2, 2]> (x, w)", "N, 3, 12, 12", 3, {"w": normal(4, 3, 2, 2)}),
    "grouped transposed": (
        "ConvTranspose <group = 2, strides = [2, 2]> (x, w, c)",
        "N, 6, 12, 12",
        6,
        {"w": normal(4, 3, 2, 2), "c": normal(6)},
    ),
}
DENSE: dict[str, tuple[str, str, int, dict[str, Any]]] = {
    "gemm": ("Gemm (x, w)", "N, 5", 5, {"w": normal(4, 5)}),
    "gemm with bias": ("Gemm <transB = 1> (x, w, c)", "N, 5", 5, {"w": normal(5, 4), "c": normal(5)}),
    "gemm with a row": ("Gemm (x, w, c)", "N, 5", 5, {"w": normal(4, 5), "c": normal(1, 5)}),
    "gemm with a number": ("Gemm (x, w, c)", "N, 5", 5, {"w": normal(4, 5), "c": normal()}),
}
IMAGE, ROWS = "float[N, 4, 6, 6] x", "float[N, 4] x"


@pytest.mark.parametrize("layer", [*LAYERS, *DENSE])
def test_batch_norm(rewritten: Any, layer: str) -> None:
    text, shape, channels, weights = {**LAYERS, **DENSE}[layer]
    head = f"({IMAGE if layer in LAYERS else ROWS}) => (float[{shape}] y)"
    body = f"a = {text} \n y = BatchNormalization <epsilon = 0.001> (a, ng, nb, nm, nv)"
    result = rewritten(f"{head} {{ {body} }}", **weights, **norm(channels))
    assert result.rewrites == {f"batch_norm_into_{'conv' if layer in LAYERS else 'gemm'}": 1}
    assert result.ops == [text.split()[0]]
    assert len(result.nodes[0].inputs) == 3


@pytest.mark.parametrize("layer", [*LAYERS, *DENSE])
@pytest.mark.parametrize("op", ["Mul(a, k)", "Mul(k, a)", "Div(a, k)", "Add(a, k)", "Add(k, a)", "Sub(a, k)"])
@pytest.mark.parametrize("kind", ["per channel", "one"])
def test_a_constant(rewritten: Any, layer: str, op: str, kind: str) -> None:
    text, shape, channels, weights = {**LAYERS, **DENSE}[layer]
    behind = () if layer in DENSE else (1, 1)
    k = RNG.uniform(0.5, 2, (channels, *behind) if kind == "per channel" else ()).astype(np.float32)
    head = f"({IMAGE if layer in LAYERS else ROWS}) => (float[{shape}] y)"
    result = rewritten(f"{head} {{ a = {text} \n y = {op} }}", k=k, **weights)
    assert result.rewrites == {"constant_into_layer": 1}
    assert result.ops == [text.split()[0]]


def test_several_in_a_row(rewritten: Any) -> None:
    text = f"""({IMAGE}) => (float[N, 4, 4, 4] y) {{ a = Conv(x, w) \n b = Mul(a, k)
        c = Add(b, l) \n y = BatchNormalization(c, ng, nb, nm, nv) }}"""
    weights = {"w": normal(4, 4, 3, 3), "k": normal(4, 1, 1), "l": normal(1, 4, 1, 1), **norm(4)}
    result = rewritten(text, **weights)
    assert result.rewrites == {"constant_into_layer": 2, "batch_norm_into_conv": 1}
    assert result.ops == ["Conv"]


CONV = LAYERS["conv"][3]
IMAGES = "float[N, 4, 6, 6]"
NEAR_MISSES: dict[str, tuple[str, dict[str, Any]]] = {
    "weights not constant": (
        f"({IMAGE}, float[4, 4, 3, 3] w) => ({IMAGES} y) {{ a = Conv <pads = [1, 1, 1, 1]> (x, w) \n "
        f"y = Mul(a, #2.0) }}",
        {},
    ),
    "a constant per column": (
        f"({IMAGE}) => ({IMAGES} y) {{ a = Conv <pads = [1, 1, 1, 1]> (x, w) \n y = Mul(a, k) }}",
        {**CONV, "k": normal(6)},
    ),
    "a constant per row and channel": (
        f"({IMAGE}) => ({IMAGES} y) {{ a = Conv <pads = [1, 1, 1, 1]> (x, w) \n y = Add(a, k) }}",
        {**CONV, "k": normal(4, 6, 1)},
    ),
    "a constant of more dims": (
        f"({IMAGE}) => (float[1, N, 4, 6, 6] y) {{ a = Conv <pads = [1, 1, 1, 1]> (x, w) \n y = Add(a, k) }}",
        {**CONV, "k": normal(1, 1, 4, 1, 1)},
    ),
    "divided the other way": (
        f"({IMAGE}) => ({IMAGES} y) {{ a = Conv <pads = [1, 1, 1, 1]> (x, w) \n y = Sub(#1.0, a) }}",
        CONV,
    ),
    "also an output": (
        f"({IMAGE}) => ({IMAGES} y, {IMAGES} a) {{ a = Conv <pads = [1, 1, 1, 1]> (x, w) \n "
        f"y = Mul(a, #2.0) }}",
        CONV,
    ),
    "another user": (
        f"({IMAGE}) => ({IMAGES} y, {IMAGES} z) {{ a = Conv <pads = [1, 1, 1, 1]> (x, w) \n "
        f"y = Mul(a, #2.0) \n z = Neg(a) }}",
        CONV,
    ),
    "a product with a scale": (
        f"({ROWS}) => (float[N, 5] y) {{ a = Gemm <alpha = 0.5> (x, w) \n y = Mul(a, #2.0) }}",
        {"w": normal(4, 5)},
    ),
    "a bias per row": (
        "(float[3, 4] x) => (float[3, 5] y) { a = Gemm (x, w, c) \n y = Mul(a, #2.0) }",
        {"w": normal(4, 5), "c": normal(3, 1)},
    ),
    "a layer that is none": (f"({IMAGE}) => ({IMAGES} y) {{ a = Relu(x) \n y = Mul(a, #2.0) }}", {}),
    "divided by nothing": (
        f"({IMAGE}) => ({IMAGES} y) {{ a = Conv <pads = [1, 1, 1, 1]> (x, w) \n y = Div(a, #0.0) }}",
        CONV,
    ),
    "statistics not constant": (
        f"({IMAGE}, float[4] nm) => ({IMAGES} y) {{ a = Conv <pads = [1, 1, 1, 1]> (x, w)"
        " \n y = BatchNormalization(a, ng, nb, nm, nv) }",
        {**CONV, **{name: array for name, array in norm(4).items() if name != "nm"}},
    ),
}


@pytest.mark.parametrize("case", NEAR_MISSES)
def test_what_must_stay_stays(rewritten: Any, case: str) -> None:
    text, weights = NEAR_MISSES[case]
    assert rewritten(text, **weights).rewrites == {}


def test_a_shared_weight_is_not_spoilt_for_its_other_user(rewritten: Any) -> None:
    text = f"""({IMAGE}) => (float[N, 4, 4, 4] y, float[N, 4, 4, 4] z) {{ a = Conv(x, w)
        y = Mul(a, #2.0) \n n = Neg(x) \n z = Conv(n, w) }}"""
    result = rewritten(text, w=normal(4, 4, 3, 3))
    assert result.rewrites == {"constant_into_layer": 1}
    assert [node.inputs[1] for node in result.nodes if node.op == "Conv"] == ["w.scaled", "w"]
