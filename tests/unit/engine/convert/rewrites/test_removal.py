"""Nodes that hand on their input go away; those that do more stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

HEAD = "(float[N, 4, 6] x) => (float[N, 4, 6] y)"
NO_OPS = [
    "Identity(a)", "Dropout(a)", "Dropout(a, half)", "Dropout(a, half, never)", "Cast <to = 1> (a)",
    "CastLike(a, x)",
    "Concat <axis = 1> (a)", "Sum(a)", "Mean(a)", "Max(a)", "Min(a)",
    "Reshape(a, #[0, 0, 6])", "Reshape(a, #[-1, 4, 6])", "Expand(a, #[1, 4, 6])", "Expand(a, #[1])",
    "Tile(a, #[1, 1, 1])", "Transpose <perm = [0, 1, 2]> (a)", "Slice(a, #[0], #[9999], #[1])",
    "Slice(a, #[0, 0], #[4, 6], #[1, 2])", "Pad(a, #[0, 0, 0, 0, 0, 0])", "Mul(a, #1.0)",
    "Mul(#1.0, a)", "Div(a, #1.0)",
]  # fmt: skip
CONSTANTS = {"half": np.float32(0.5), "never": np.bool_(False), "always": np.bool_(True)}


@pytest.mark.parametrize("no_op", NO_OPS)
def test_between_two_nodes(rewritten: Any, no_op: str) -> None:
    result = rewritten(f"{HEAD} {{ a = Relu(x) \n b = {no_op} \n y = Neg(b) }}", **CONSTANTS)
    assert sum(result.rewrites.values()) == 1
    assert result.ops == ["Relu", "Neg"]


@pytest.mark.parametrize("no_op", ["Identity(a)", "Mul(a, #1.0)"])
def test_at_the_end_the_output_keeps_its_name(rewritten: Any, no_op: str) -> None:
    result = rewritten(f"{HEAD} {{ a = Relu(x) \n y = {no_op} }}")
    assert result.ops == ["Relu"]
    assert result.nodes[0].outputs == ("y",)


def test_an_output_that_is_an_input_needs_its_node(rewritten: Any) -> None:
    assert rewritten(f"{HEAD} {{ y = Identity(x) }}").ops == ["Identity"]


def test_two_outputs_need_two_nodes(rewritten: Any) -> None:
    head = "(float[N, 4, 6] x) => (float[N, 4, 6] a, float[N, 4, 6] y)"
    assert rewritten(f"{head} {{ a = Relu(x) \n y = Identity(a) }}").ops == ["Relu", "Identity"]


def test_a_row_of_them(rewritten: Any) -> None:
    chain = " \n ".join(f"a{i + 1} = Identity(a{i})" for i in range(30))
    result = rewritten(f"{HEAD} {{ a0 = Relu(x) \n {chain} \n y = Neg(a30) }}")
    assert result.rewrites == {"no_op": 30}
    assert result.ops == ["Relu", "Neg"]


def test_a_value_that_a_body_reads_keeps_its_name(rewritten: Any) -> None:
    text = """(bool c, float[N] x) => (float[N] y) { a = Relu(x) \n b = Identity(a)
        y = If (c) <then_branch = then () => (float[N] t) { t = Neg(b) },
                    else_branch = other () => (float[N] e) { e = Abs(b) }> }"""
    assert rewritten(text).ops == ["Relu", "Identity", "If"]


DO_MORE = {
    "another type": "i = Cast <to = 6> (a) \n y = Cast <to = 1> (i)",
    "back to front": "y = Slice(a, #[-1], #[-9999], #[2], #[-1])",
    "twice": "t = Tile(a, #[1, 2, 1]) \n y = Slice(t, #[2], #[6], #[1])",
    "two parts": "n = Neg(a) \n c = Concat <axis = 1> (a, n) \n y = Slice(c, #[2], #[6], #[1])",
    "shifted": "p = Pad(a, #[0, 1, 0, 0, 0, 0]) \n y = Slice(p, #[0], #[4], #[1])",
    "spread": "s = Slice(a, #[0], #[1], #[1]) \n y = Expand(s, #[1, 4, 1])",
    "almost one": "y = Mul(a, #1.01)",
    "the other way": "y = Div(#1.0, a)",
}


@pytest.mark.parametrize("case", DO_MORE)
def test_those_that_do_more_stay(rewritten: Any, case: str) -> None:
    assert rewritten(f"{HEAD} {{ e = Exp(x) \n a = Relu(e) \n {DO_MORE[case]} }}").rewrites == {}


def test_another_order_of_equal_dims_stays(rewritten: Any) -> None:
    text = "(float[3, 3] x) => (float[3, 3] y) { a = Relu(x) \n b = Transpose(a) \n y = Softmax(b) }"
    assert rewritten(text).ops == ["Relu", "Transpose", "Softmax"]


def test_the_last_reshape_says_it_all(rewritten: Any) -> None:
    text = """(float[N, 4, 6] x) => (float[N, 24] y) { a = Reshape(x, #[0, 2, 12])
        b = Unsqueeze(a, #[1]) \n c = Reshape(b, #[-1, 24]) \n y = Neg(c) }"""
    result = rewritten(text)
    assert result.rewrites == {"reshape_twice": 2}
    assert result.ops == ["Reshape", "Neg"]


def test_a_reshape_that_copies_dims_of_the_one_before_stays(rewritten: Any) -> None:
    text = "(float[N, 4, 6] x) => (float[M, 12] y) { a = Reshape(x, #[-1, 12]) \n y = Reshape(a, #[0, 12]) }"
    result = rewritten(text)
    assert "reshape_twice" not in result.rewrites


def test_nodes_nobody_needs_go_away(rewritten: Any) -> None:
    result = rewritten(f"{HEAD} {{ y = Relu(x) \n z = Add(x, #2.0) }}")
    assert result.ops == ["Relu"]


def test_outputs_nobody_uses_are_omitted(rewritten: Any) -> None:
    result = rewritten(f"{HEAD} {{ a = Relu(x) \n b, mask = Dropout(a) \n y = Neg(b) }}")
    assert result.ops == ["Relu", "Neg"]
