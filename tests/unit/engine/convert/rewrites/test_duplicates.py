"""Nodes that compute the same are computed once."""

from __future__ import annotations

from typing import Any

import pytest

HEAD = "(float[N, 4] x) => (float[N, 4] y)"


@pytest.mark.parametrize(
    "twice",
    [
        "a = Exp(x) \n b = Exp(x)",
        "a = LeakyRelu <alpha = 0.25> (x) \n b = LeakyRelu <alpha = 0.25> (x)",
        "a = Mul(x, #0.5) \n b = Mul(x, #0.5)",
        "p = Exp(x) \n a = Neg(p) \n q = Exp(x) \n b = Neg(q)",
    ],
)
def test_equal_nodes(rewritten: Any, twice: str) -> None:
    result = rewritten(f"{HEAD} {{ {twice} \n y = Add(a, b) }}")
    assert set(result.rewrites) == {"duplicate"}
    assert len(result.ops) == 1 + len(twice.split("\n")) // 2


def test_an_output_keeps_its_name(rewritten: Any) -> None:
    text = "(float[N, 4] x) => (float[N, 4] y, float[N, 4] b) { a = Exp(x) \n b = Exp(x) \n y = Add(a, b) }"
    result = rewritten(text)
    assert result.rewrites == {"duplicate": 1}
    assert result.node("Exp").outputs == ("b",)


@pytest.mark.parametrize(
    "two",
    [
        "a = Exp(x) \n b = Neg(x)",
        "a = LeakyRelu <alpha = 0.25> (x) \n b = LeakyRelu <alpha = 0.5> (x)",
        "a = Mul(x, #0.5) \n b = Mul(x, #0.25)",
        "a = Sub(x, #1.0) \n b = Sub(#1.0, x)",
    ],
)
def test_unequal_nodes_stay(rewritten: Any, two: str) -> None:
    assert rewritten(f"{HEAD} {{ {two} \n y = Add(a, b) }}").rewrites == {}


def test_two_outputs_stay(rewritten: Any) -> None:
    text = "(float[N, 4] x) => (float[N, 4] a, float[N, 4] b) { a = Exp(x) \n b = Exp(x) }"
    assert rewritten(text).rewrites == {}
