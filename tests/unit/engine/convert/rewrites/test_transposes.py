"""Transposes merge, cancel, and become flags of a product."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

NORMAL = np.random.default_rng(8).standard_normal


def test_two_become_one(rewritten: Any) -> None:
    text = """(float[N, 3, 4] x) => (float[4, N, 3] y) { a = Transpose <perm = [1, 0, 2]> (x)
        y = Transpose <perm = [2, 1, 0]> (a) }"""
    result = rewritten(text)
    assert result.rewrites == {"transpose_merge": 1}
    assert result.nodes[0].attrs == {"perm": [2, 0, 1]}


def test_one_that_undoes_another_goes_with_it(rewritten: Any) -> None:
    text = """(float[N, 3, 4] x) => (float[N, 3, 4] y)
        { e = Exp(x) \n a = Transpose <perm = [1, 2, 0]> (e) \n b = Transpose <perm = [2, 0, 1]> (a)
        y = Neg(b) }"""
    assert rewritten(text).ops == ["Exp", "Neg"]


@pytest.mark.parametrize(
    "middle", ["Relu(a)", "Clip(a, #0.0, #1.0)", "Clip(a, #0.5)", "LeakyRelu <alpha = 0.1> (a)", "Tanh(a)"]
)
def test_round_an_element_wise_operator_they_cancel(rewritten: Any, middle: str) -> None:
    text = f"""(float[N, 3, 4] x) => (float[N, 3, 4] y)
        {{ a = Transpose <perm = [0, 2, 1]> (x) \n b = {middle} \n y = Transpose <perm = [0, 2, 1]> (b) }}"""
    result = rewritten(text)
    assert result.rewrites == {"transpose_cancel": 1}
    assert len(result.nodes) == 1


@pytest.mark.parametrize(("a", "b"), [("a", "bt"), ("at", "b"), ("at", "bt")])
@pytest.mark.parametrize(
    "product", ["MatMul({a}, {b})", "Gemm({a}, {b})", "Gemm <alpha = 0.5> ({a}, {b}, c)"]
)
def test_into_a_product(rewritten: Any, a: str, b: str, product: str) -> None:
    inputs = f"float[{'M, 4' if a == 'a' else '4, M'}] a0, float[{'4, 5' if b == 'b' else '5, 4'}] b0"
    turns = (
        "a = Identity(a0) \n b = Identity(b0) \n at = Transpose(a0) \n bt = Transpose <perm = [1, 0]> (b0)"
    )
    text = f"({inputs}) => (float[M, 5] y) {{ {turns} \n y = {product.format(a=a, b=b)} }}"
    result = rewritten(text, c=NORMAL(5).astype(np.float32))
    assert result.rewrites["transpose_into_product"] == 1
    assert result.ops == ["Gemm"]
    flags = {name: value for name, value in result.nodes[0].attrs.items() if name != "alpha"}
    assert flags == {**({"transA": 1} if a == "at" else {}), **({"transB": 1} if b == "bt" else {})}


def test_turned_twice_is_not_turned(rewritten: Any) -> None:
    text = """(float[M, 4] x, float[4, 5] w) => (float[M, 5] y) { t = Transpose(w)
        y = Gemm <transB = 1> (x, t) }"""
    result = rewritten(text)
    assert result.ops == ["Gemm"]
    assert result.nodes[0].attrs == {}


def test_a_split_behind_a_transpose_moves_before_it(rewritten: Any) -> None:
    text = """(float[5, N, 8] x) => (float[N, 2, 4, 5] y)
        { t = Transpose <perm = [1, 2, 0]> (x) \n y = Reshape(t, #[0, 2, 4, 5]) }"""
    result = rewritten(text)
    assert result.rewrites == {"split_before_transpose": 1}
    assert result.ops == ["Reshape", "Transpose"]
    assert result.node("Transpose").attrs == {"perm": [1, 2, 3, 0]}


NEAR_MISSES = {
    "another order": """(float[2, 3, 3] x) => (float[2, 3, 3] y) { a = Transpose <perm = [0, 2, 1]> (x)
        r = Relu(a) \n s = Softmax(r) \n y = Transpose <perm = [0, 2, 1]> (s) }""",
    "not undone": """(float[3, 3, 3] x) => (float[3, 3, 3] y) { a = Transpose <perm = [1, 2, 0]> (x)
        r = Relu(a) \n y = Transpose <perm = [1, 2, 0]> (r) }""",
    "more than matrices": """(float[N, 3, 4] x, float[N, 5, 4] w) => (float[N, 3, 5] y)
        { t = Transpose <perm = [0, 2, 1]> (w) \n y = MatMul(x, t) }""",
    "two dims joined": """(float[2, 3, 4] x) => (float[3, 8] y)
        { t = Transpose <perm = [1, 0, 2]> (x) \n y = Reshape(t, #[3, 8]) }""",
    "two dims split": """(float[4, 6] x) => (float[2, 3, 2, 2] y) { t = Transpose(x)
        y = Reshape(t, #[2, 3, 2, 2]) }""",
    "also an output": """(float[N, 3] x) => (float[3, N] a, float[N, 3] y) { a = Transpose(x)
        y = Transpose(a) }""",
    "another user": """(float[N, 3] x) => (float[3, N] z, float[N, 3] y)
        { a = Transpose(x) \n z = Neg(a) \n r = Relu(a) \n y = Transpose(r) }""",
}


@pytest.mark.parametrize("case", NEAR_MISSES)
def test_what_must_stay_stays(rewritten: Any, case: str) -> None:
    assert rewritten(NEAR_MISSES[case]).rewrites == {}
