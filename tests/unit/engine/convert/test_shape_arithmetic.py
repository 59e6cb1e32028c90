"""Shape arithmetic with open dims: what is known folds, what is open is followed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from walle_engine.convert.draft import Draft
from walle_engine.convert.loading import translate
from walle_engine.convert.shape_arithmetic import fold_shapes, reshape_target, rest_of

CONSTANTS = {
    "zero": np.int64(0),
    "one": np.int64(1),
    "two": np.int64(2),
    "first": np.array([0]),
    "second": np.array([1]),
    "minus": np.array([-1]),
    "third": np.array([2]),
    "end": np.array([99]),
    "four": np.array([4]),
    "pair": np.array([4, 4]),
}


def folded(body: str, head: str = "(float[N, S, 16] x) => (int64[a] y)") -> tuple[Draft, int]:
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> test {head} {{ {body} }}')
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), n) for n, a in CONSTANTS.items())
    draft = translate(model).draft
    return draft, fold_shapes(draft)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("s = Shape(x) \n y = Gather(s, second)", None),
        ("s = Shape(x) \n g = Gather(s, two) \n y = Unsqueeze(g, first)", [16]),
        ("s = Shape(x) \n y = Slice(s, first, second)", None),
        ("s = Shape(x) \n y = Slice(s, third, end)", [16]),
        ("s = Shape(x) \n y = Slice(s, third, end, first, second)", [16]),
        ("s = Shape <start = 2> (x) \n y = Identity(s)", [16]),
        ("s = Shape <start = 2, end = 3> (x) \n y = Concat <axis = 0> (s, four)", [16, 4]),
        (
            "s = Shape <start = -1> (x) \n g = Squeeze(s) \n c = Cast <to = 7> (g) \n "
            "y = Unsqueeze(c, first)",
            [16],
        ),
        ("s = Shape <start = 2> (x) \n y = Mul(s, four)", [64]),
        ("s = Shape <start = 1> (x) \n y = Gather(s, second)", [16]),
        ("s = Shape(x) \n g = Gather(s, zero) \n y = Unsqueeze(g, first)", None),
    ],
)
def test_what_is_known_becomes_constant(body: str, expected: list[int] | None) -> None:
    draft, _count = folded(body)
    made = draft.constant("y")
    assert (None if made is None else made.tolist()) == expected
    assert made is None or made.dtype == np.int64
    assert made is None or not draft.nodes or draft.nodes[-1].outputs != ("y",)


def target_of(draft: Draft) -> list[int] | None:
    (reshape,) = (node for node in draft.nodes if node.op == "Reshape")
    array = draft.constant(reshape.inputs[1])
    return None if array is None else array.tolist()


DIMS = "s = Shape(x) \n n0 = Gather(s, first) \n n1 = Gather(s, second)"


def test_a_reshape_finds_open_dims_itself() -> None:
    draft, _count = folded(
        f"{DIMS} \n to = Concat <axis = 0> (n0, n1, pair) \n y = Reshape(x, to)",
        "(float[N, S, 16] x) => (float[a, b, c, d] y)",
    )
    assert target_of(draft) == [0, 0, 4, 4]


def test_one_that_is_nowhere_in_the_input_is_the_rest() -> None:
    draft, _count = folded(
        f"{DIMS} \n to = Concat <axis = 0> (n1, n0, pair) \n y = Reshape(x, to)",
        "(float[N, S, 16] x) => (float[a, b, c, d] y)",
    )
    assert target_of(draft) is None  # two of them


def test_a_size_that_inference_gave_up_on_is_learnt_everywhere() -> None:
    draft, _count = folded(
        f"{DIMS} \n to = Concat <axis = 0> (n0, n1, pair) \n r = Reshape(x, to) \n"
        "y = Transpose <perm = [0, 2, 1, 3]> (r)",
        "(float[N, S, 16] x) => (float[a, b, c, d] y)",
    )
    assert draft.values["r"].shape == ("N", "S", 4, 4)


@pytest.mark.parametrize(
    ("source", "wanted", "expected"),
    [
        (["N", 16], ["N", 4, 4], [0, 4, 4]),
        (["N", "S", 16], ["N", "S", 16], [0, 0, 16]),
        (["N", "S"], ["S", "N"], None),
        ([16, "N"], ["N", 16], [-1, 16]),
        (["N", 4], ["M", 2, 2], [-1, 2, 2]),
        (["N", 4], [None, 2], [-1, 2]),
        (["N", 4], [None, None], None),
        ([0, "N"], [0, "N"], None),
        ([4, 4], [16], [16]),
        ([1], [], []),
    ],
)
def test_reshape_target(source: Sequence[Any], wanted: Sequence[Any], expected: list[int] | None) -> None:
    assert reshape_target(source, wanted) == expected


@pytest.mark.parametrize(
    ("source", "others", "rest"),
    [
        (["N", "S", 4, 4], ["N", "S"], 16),
        (["N", 12], ["N", 4], 3),
        (["N", 4], [4], "N"),
        (["N", 4], [2, 2], "N"),
        (["N", 4], [2], None),
        (["N", "S"], [], None),
        (["N", 4], ["M"], None),
        ([6], [4], None),
        ([0, 6], [0], 6),
        ([6], [0], None),
    ],
)
def test_what_is_left_for_one_dim(source: Sequence[Any], others: Sequence[Any], rest: Any) -> None:
    assert rest_of(source, others) == rest


def test_the_rest_of_a_reshape_is_learnt() -> None:
    draft, _count = folded(
        f"{DIMS} \n to = Concat <axis = 0> (n0, n1, minus) \n r = Reshape(x, to) \n y = Relu(r)",
        "(float[N, S, 4, 4] x) => (float[a, b, c] y)",
    )
    assert target_of(draft) == [0, 0, 16]
    assert draft.values["r"].shape == ("N", "S", 16)
