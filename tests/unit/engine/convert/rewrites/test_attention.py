"""Scaled dot-product attention in the ways exporters spell it out, and near misses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

RNG = np.random.default_rng(6)
FOUR = "(float[N, 2, S, 4] q, float[N, 2, T, 4] k, float[N, 2, T, 3] v) => (float[N, 2, S, 3] y)"
TURN = "t = Transpose <perm = [0, 1, 3, 2]> (k)"
SCORES = {
    "plain": (f"{TURN} \n s = MatMul(q, t)", 1.0),
    "multiplied": (f"{TURN} \n p = MatMul(q, t) \n s = Mul(p, #0.5)", 0.5),
    "divided": (f"{TURN} \n p = MatMul(q, t) \n s = Div(p, #4.0)", 0.25),
    "query first": (f"{TURN} \n c = Mul(#0.5, q) \n s = MatMul(c, t)", 0.5),
    "query divided": (f"{TURN} \n c = Div(q, #2.0) \n s = MatMul(c, t)", 0.5),
    "both": (f"{TURN} \n c = Mul(q, #0.5) \n d = Mul(t, #0.5) \n s = MatMul(c, d)", 0.25),
}


@pytest.mark.parametrize("case", SCORES)
def test_four_dims(rewritten: Any, case: str) -> None:
    scores, scale = SCORES[case]
    result = rewritten(f"{FOUR} {{ {scores} \n w = Softmax <axis = 3> (s) \n y = MatMul(w, v) }}")
    assert result.rewrites == {"attention": 1}
    assert result.ops == ["Attention"]
    assert result.node("Attention").inputs == ("q", "k", "v")
    assert result.node("Attention").attrs == {"scale": pytest.approx(scale)}


@pytest.mark.parametrize("mask", ["N, 1, 1, T", "N, 1, S, T", "1, 1, S, T", "N, 2, S, T", "S, T", "T"])
def test_a_mask(rewritten: Any, mask: str) -> None:
    head = FOUR.replace(") =>", f", float[{mask}] m) =>")
    text = f"{head} {{ {SCORES['divided'][0]} \n a = Add(s, m) \n w = Softmax(a) \n y = MatMul(w, v) }}"
    result = rewritten(text)
    assert result.ops == ["Attention"]
    assert result.node("Attention").inputs == ("q", "k", "v", "m")


def test_a_mask_whose_length_has_another_name_is_spread_over_all_keys(rewritten: Any) -> None:
    head = FOUR.replace(") =>", ", float[N, 1, 1, L] m) =>")
    text = f"{head} {{ {SCORES['divided'][0]} \n a = Add(s, m) \n w = Softmax(a) \n y = MatMul(w, v) }}"
    result = rewritten(text)  # with one key, and with three
    assert result.ops == ["Shape", "Expand", "Attention"]


def test_three_dims(rewritten: Any) -> None:
    text = """(float[N, S, 4] q, float[N, T, 4] k, float[N, T, 3] v, float[N, S, T] m) => (float[N, S, 3] y)
        { t = Transpose <perm = [0, 2, 1]> (k) \n s = MatMul(q, t) \n a = Add(m, s)
        w = Softmax(a) \n y = MatMul(w, v) }"""
    result = rewritten(text)
    assert result.rewrites == {"attention": 1}
    assert sorted(result.ops) == ["Attention", "Squeeze", "Unsqueeze", "Unsqueeze", "Unsqueeze"]


def test_keys_turned_from_another_layout(rewritten: Any) -> None:
    text = """(float[N, 2, S, 4] q, float[N, T, 2, 4] k, float[N, 2, T, 3] v)
        => (float[N, 2, S, 3] y) { t = Transpose <perm = [0, 2, 3, 1]> (k) \n s = MatMul(q, t)
        w = Softmax(s)
        y = MatMul(w, v) }"""
    result = rewritten(text)
    assert result.ops == ["Transpose", "Attention"]
    assert result.node("Transpose").attrs == {"perm": [0, 2, 1, 3]}


def test_keys_and_values_behind_those_of_the_past(rewritten: Any) -> None:
    text = """(float[N, 2, 1, 4] q, float[N, 2, T, 4] kp, float[N, 2, 1, 4] kn, float[N, 2, T, 3] vp,
        float[N, 2, 1, 3] vn) => (float[N, 2, 1, 3] y, float[N, 2, U, 4] k, float[N, 2, V, 3] v)
        { k = Concat <axis = 2> (kp, kn) \n v = Concat <axis = 2> (vp, vn)
        t = Transpose <perm = [0, 1, 3, 2]> (k) \n s = MatMul(q, t) \n w = Softmax(s) \n y = MatMul(w, v) }"""
    assert rewritten(text).ops == ["Concat", "Concat", "Attention"]


HEADS = "(float[N, S, 8] q, float[N, T, 8] k, float[N, T, 6] v) => (float[N, S, 6] y)"
SPLIT = """a = Reshape(q, #[0, 0, 2, 4]) \n qh = Transpose <perm = [0, 2, 1, 3]> (a)
    b = Reshape(k, #[0, 0, 2, 4]) \n kh = Transpose <perm = [0, 2, 3, 1]> (b)
    c = Reshape(v, #[0, 0, 2, 3]) \n vh = Transpose <perm = [0, 2, 1, 3]> (c)
    p = MatMul(qh, kh) \n s = Div(p, #2.0) \n w = Softmax(s) \n h = MatMul(w, vh)"""


def test_heads_are_split_by_the_operator_itself(rewritten: Any) -> None:
    text = f"{HEADS} {{ {SPLIT} \n j = Transpose <perm = [0, 2, 1, 3]> (h) \n y = Reshape(j, #[0, 0, 6]) }}"
    result = rewritten(text)
    assert result.rewrites == {"attention": 1, "attention_heads": 1}
    assert result.ops == ["Attention"]
    assert result.node("Attention").attrs == {"scale": 0.5, "q_num_heads": 2, "kv_num_heads": 2}


def test_heads_by_shape_arithmetic_with_open_dims(rewritten: Any) -> None:
    def split(x: str, perm: str) -> str:
        return f"""{x}s = Shape({x}) \n {x}0 = Gather({x}s, zero) \n {x}1 = Gather({x}s, one)
            {x}2 = Unsqueeze({x}0, #[0]) \n {x}3 = Unsqueeze({x}1, #[0])
            {x}4 = Concat <axis = 0> ({x}2, {x}3, #[2], #[4])
            {x}5 = Reshape({x}, {x}4) \n {x}h = Transpose <perm = {perm}> ({x}5)"""

    text = f"""(float[N, S, 8] q, float[N, T, 8] k, float[N, T, 8] v) => (float[N, S, 8] y) {{
        {split("q", "[0, 2, 1, 3]")} \n {split("k", "[0, 2, 3, 1]")} \n {split("v", "[0, 2, 1, 3]")}
        p = MatMul(qh, kh) \n s = Div(p, #2.0) \n w = Softmax(s) \n h = MatMul(w, vh)
        j = Transpose <perm = [0, 2, 1, 3]> (h) \n to = Concat <axis = 0> (q2, q3, #[8])
        y = Reshape(j, to) }}"""
    result = rewritten(text, zero=np.int64(0), one=np.int64(1))
    assert result.rewrites["attention_heads"] == 1
    assert result.ops == ["Attention"]


def test_keys_turned_by_way_of_three_dims(rewritten: Any) -> None:
    text = """(float[2, 2, 5, 4] q, float[2, 2, 5, 4] k, float[2, 2, 5, 3] v) => (float[2, 2, 5, 3] y)
        { a = Reshape(k, #[-1, 5, 4]) \n b = Transpose <perm = [0, 2, 1]> (a) \n c = Reshape(b, #[2, 2, 4, 5])
        d = Mul(q, #0.5) \n e = Mul(c, #0.5) \n s = MatMul(d, e) \n w = Softmax(s) \n y = MatMul(w, v) }"""
    result = rewritten(text)
    assert result.ops == ["Attention"]


NEAR_MISSES = {
    "softmax over queries": f"{FOUR} {{ {SCORES['plain'][0]} \n w = Softmax <axis = 2> (s) \n "
    f"y = MatMul(w, v) }}",
    "softmax over heads": f"{FOUR} {{ {SCORES['plain'][0]} \n w = Softmax <axis = 1> (s) \n "
    f"y = MatMul(w, v) }}",
    "a scale per head": f"{FOUR} {{ {TURN} \n p = MatMul(q, t) \n s = Mul(p, f) \n w = Softmax(s) \n "
    f"y = MatMul(w, v) }}",
    "scale below zero": f"{FOUR} {{ {TURN} \n p = MatMul(q, t) \n s = Mul(p, #-0.5) \n "
    f"w = Softmax(s) \n y = MatMul(w, v) }}",
    "a sigmoid": f"{FOUR} {{ {SCORES['plain'][0]} \n w = Sigmoid(s) \n y = MatMul(w, v) }}",
    "subtracted mask": f"{FOUR.replace(') =>', ', float[S, T] m) =>')} {{ {SCORES['plain'][0]} \n "
    f"a = Sub(s, m)"
    " \n w = Softmax(a) \n y = MatMul(w, v) }",
    "mask of one key": f"{FOUR.replace(') =>', ', float[N, 1, S, 1] m) =>')} {{ {SCORES['plain'][0]}"
    " \n a = Add(s, m) \n w = Softmax(a) \n y = MatMul(w, v) }",
    "keys shared by heads": """(float[N, 2, S, 4] q, float[N, 1, T, 4] k, float[N, 2, T, 3] v)
        => (float[N, 2, S, 3] y) { t = Transpose <perm = [0, 1, 3, 2]> (k)
        s = MatMul(q, t) \n w = Softmax(s)
        y = MatMul(w, v) }""",
    "keys not turned": """(float[N, 2, S, 4] q, float[N, 2, 4, T] t, float[N, 2, T, 3] v)
        => (float[N, 2, S, 3] y) { s = MatMul(q, t) \n w = Softmax(s) \n y = MatMul(w, v) }""",
    "two dims": """(float[S, 4] q, float[T, 4] k, float[T, 3] v) => (float[S, 3] y)
        { t = Transpose <perm = [1, 0]> (k) \n s = MatMul(q, t) \n w = Softmax(s) \n y = MatMul(w, v) }""",
}


@pytest.mark.parametrize("case", NEAR_MISSES)
def test_what_only_looks_like_it_is_left_alone(rewritten: Any, case: str) -> None:
    weights = (
        {"f": RNG.uniform(0.5, 2, (2, 1, 1)).astype(np.float32)} if "Mul(p, f)" in NEAR_MISSES[case] else {}
    )
    assert "attention" not in rewritten(NEAR_MISSES[case], **weights).rewrites


@pytest.mark.parametrize("kept", ["s", "w"])
def test_an_inner_value_that_is_read_elsewhere_stays(rewritten: Any, kept: str) -> None:
    head = FOUR.replace("y)", "y, float[N, 2, S, T] z)")
    text = f"{head} {{ {SCORES['divided'][0]} \n w = Softmax(s) \n y = MatMul(w, v) \n z = Neg({kept}) }}"
    assert rewritten(text).rewrites == {}


@pytest.mark.parametrize("kept", ["w", "s"])
def test_an_inner_value_that_is_an_output_stays(rewritten: Any, kept: str) -> None:
    head = FOUR.replace("y)", f"y, float[N, 2, S, T] {kept})")
    text = f"{head} {{ {SCORES['divided'][0]} \n w = Softmax(s) \n y = MatMul(w, v) }}"
    assert rewritten(text).rewrites == {}


def test_heads_joined_in_another_order_stay(rewritten: Any) -> None:
    head = HEADS.replace("float[N, S, 6] y", "float[N, 2, Z] y")
    result = rewritten(
        f"{head} {{ {SPLIT} \n j = Transpose <perm = [0, 1, 3, 2]> (h) \n y = Reshape(j, #[0, 0, -1]) }}"
    )
    assert result.rewrites == {"attention": 1}
