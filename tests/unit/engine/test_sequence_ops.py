"""Operators on sequences refuse shapes and attributes that contradict each other, and name the reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from walle_engine import api
from walle_shared.errors import EngineError, ModelError

_QKV = [(2, 3, 4, 8), (2, 3, 6, 8), (2, 3, 6, 5)]
_LSTM = [(4, 3, 2), (1, 20, 2), (1, 20, 5)]
_LOSS = [(2, 4, 3), (2, 3)]


def _session(op: str, shapes: Sequence[tuple[int, ...] | None], attrs: dict[str, Any], outputs: int) -> Any:
    builder = api.GraphBuilder()
    names = ["" if shape is None else f"x{i}" for i, shape in enumerate(shapes)]
    for name, shape in zip(names, shapes, strict=True):
        if shape is not None:
            builder.input(name, "F32", shape)
    builder.node(op, names, [f"y{i}" for i in range(outputs)], name="n", **attrs)
    for i in range(outputs):
        builder.output(f"y{i}")
    feeds = {
        name: np.zeros(shape, np.float32)
        for name, shape in zip(names, shapes, strict=True)
        if shape is not None
    }
    return builder.finish().session(), feeds


@pytest.mark.parametrize(
    ("op", "shapes", "attrs", "words"),
    [
        ("Attention", [(2, 3, 4), (2, 3, 6, 8), (2, 3, 6, 5)], {}, "rank 3 or all rank 4"),
        ("Attention", [(2, 3, 7)] * 3, {"q_num_heads": 2, "kv_num_heads": 1}, "divide into 2 heads"),
        ("Attention", [(2, 3, 8)] * 3, {}, "divide into 0 heads"),
        ("Attention", [(2, 3, 4, 8), (2, 2, 6, 8), (2, 2, 6, 5)], {}, "3 query heads cannot share 2"),
        ("Attention", [(2, 3, 4, 8), (2, 3, 6, 8), (2, 3, 7, 5)], {}, "lengths"),
        ("Attention", [*_QKV, (4, 7)], {}, "mask does not broadcast"),
        ("Attention", [*_QKV, (3, 1, 4, 6)], {}, "mask does not broadcast"),
        ("Attention", [*_QKV, None, (2, 3, 2, 8)], {}, "given together"),
        ("Attention", [*_QKV, None, (2, 3, 2, 8), (2, 3, 1, 5)], {}, "past_key and past_value must be"),
        ("Attention", [*_QKV, None, None, None, (2,)], {}, "nonpad_kv_seqlen must be I64"),
        ("Attention", _QKV, {"left_window_size": -2}, "windows must be"),
        ("Attention", _QKV, {"qk_matmul_output_mode": 4}, "qk_matmul_output_mode"),
        ("LinearAttention", [(2, 5, 6)] * 3, {"q_num_heads": 3, "kv_num_heads": 3}, "needs decay"),
        ("LinearAttention", [(2, 5, 6)] * 3, {"update_rule": "linear"}, "divide into 0 and 0 heads"),
        ("LinearAttention", [(2, 5, 6)] * 3, {"update_rule": "least"}, "update_rule 'least' is unknown"),
        ("RotaryEmbedding", [(2, 4, 3, 8), (2, 3, 3), (2, 3, 3)], {}, "caches must be"),
        ("RotaryEmbedding", [(2, 4, 3, 7), (2, 3, 3), (2, 3, 3)], {}, "7 of 7 elements per head"),
        ("RotaryEmbedding", [(2, 4, 3, 8), (7, 4), (7, 4), (2, 3)], {}, "position_ids must be integers"),
        ("LSTM", [(4, 3, 2), (1, 20, 3), (1, 20, 5)], {}, "do not fit 1 directions, 2 inputs and 5 hidden"),
        ("LSTM", _LSTM, {"direction": "bidirectional"}, "do not fit 2 directions"),
        ("LSTM", _LSTM, {"direction": "sideways"}, "direction 'sideways' is unknown"),
        ("LSTM", _LSTM, {"hidden_size": 4}, "hidden_size is not the last dim of R"),
        ("LSTM", [*_LSTM, None, (3,)], {}, "sequence_lens must be integers"),
        ("LSTM", [*_LSTM, None, None, (3, 1, 5)], {}, r"must be \[directions, batch, hidden\]"),
        ("LSTM", _LSTM, {"activations": ["Tanh"]}, "does not name a function for every use"),
        ("RNN", [(4, 3, 2), (1, 5, 2), (1, 5, 5)], {"activations": ["Cosh"]}, "does not exist"),
        ("Einsum", [(2, 3)], {"equation": "i->i"}, "does not fit its term"),
        ("Einsum", [(2, 3)], {"equation": "ij,jk"}, "one term per input"),
        ("Einsum", [(2, 3)], {"equation": "ij->k"}, "one that no input has"),
        ("Einsum", [(2, 3)], {"equation": "ij->ii"}, "repeats a letter"),
        ("Einsum", [(2, 3)], {"equation": "i1"}, "illegal character '1'"),
        ("Einsum", [(2, 3), (4, 5)], {"equation": "ij,jk"}, "stands for both 3 and 4"),
        ("Einsum", [(2, 3)], {"equation": "ij->i->j"}, "more than one output term|illegal character"),
        ("NegativeLogLikelihoodLoss", _LOSS, {}, "target must hold integers"),
        ("NegativeLogLikelihoodLoss", _LOSS, {"reduction": "most"}, "reduction 'most' is unknown"),
        ("GroupNormalization", [(2, 6, 3), (6,), (6,)], {"num_groups": 4}, "6 channels do not divide into 4"),
        ("InstanceNormalization", [(2, 6, 3), (5,), (6,)], {}, "one entry per channel"),
        ("RMSNormalization", [(2, 3), (4,)], {}, "does not broadcast"),
        ("LpNormalization", [(2, 3)], {"p": 3}, "'p' must be 1 or 2"),
        ("SwiGLU", [(2, 3), (3,)], {}, "one shape and type"),
    ],
)
def test_contradictions_are_model_errors(
    op: str, shapes: list[tuple[int, ...] | None], attrs: dict[str, Any], words: str
) -> None:
    session, feeds = _session(op, shapes, attrs, 1)
    with pytest.raises(ModelError, match=words) as caught:
        session.run(feeds)
    assert (caught.value.op, caught.value.node) == (op, "n")


@pytest.mark.parametrize(
    ("op", "shapes", "outputs", "words"),
    [
        ("BatchNormalization", [(2, 3), *[(3,)] * 4], 3, "only with training_mode 1"),
        ("Momentum", [(), (), (3,), (3,), (3,), (3,)], 2, "3 equal lists"),
        ("Adam", [(), (), (3,), (3,), (3,), (4,)], 3, "shape of its value"),
    ],
)
def test_outputs_that_do_not_fit(
    op: str, shapes: list[tuple[int, ...] | None], outputs: int, words: str
) -> None:
    session, feeds = _session(op, shapes, {}, outputs)
    with pytest.raises(ModelError, match=words):
        session.run(feeds)


def test_a_position_outside_the_cache_fails_the_run_only() -> None:
    builder = api.GraphBuilder()
    for name, shape in {"x": (1, 2, 3, 4), "cos": (7, 2), "sin": (7, 2)}.items():
        builder.input(name, "F32", shape)
    builder.input("at", "I64", (1, 3))
    builder.node("RotaryEmbedding", ["x", "cos", "sin", "at"], ["y"], name="turn")
    builder.output("y")
    session = builder.finish().session()
    feeds = {
        "x": np.ones((1, 2, 3, 4), np.float32), "cos": np.ones((7, 2), np.float32),
        "sin": np.zeros((7, 2), np.float32),
    }  # fmt: skip
    with pytest.raises(EngineError, match="index 7 is outside an axis of 7") as caught:
        session.run({**feeds, "at": [[0, 1, 7]]})
    assert caught.value.node == "turn"
    assert np.array_equal(np.asarray(session.run({**feeds, "at": [[0, 1, 6]]})["y"]), feeds["x"])


def test_a_class_outside_the_classes_costs_nothing() -> None:
    builder = api.GraphBuilder()
    builder.input("x", "F32", (2, 3))
    builder.input("t", "I64", (2,))
    builder.node("NegativeLogLikelihoodLoss", ["x", "t"], ["y"], reduction="none")
    builder.output("y")
    x = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    assert builder.finish().session().run({"x": x, "t": [1, 2**40]})["y"].tolist() == [-2.0, 0.0]


@pytest.mark.parametrize("lengths", [[0, 0, 0], [4, 0, 2]])
def test_an_ended_sequence_keeps_its_state(lengths: list[int]) -> None:
    builder = api.GraphBuilder()
    for name, shape in {"x": (4, 3, 2), "w": (1, 5, 2), "r": (1, 5, 5), "h": (1, 3, 5)}.items():
        builder.input(name, "F32", shape)
    builder.input("n", "I32", (3,))
    builder.node("RNN", ["x", "w", "r", "", "n", "h"], ["y", "last"], hidden_size=5)
    builder.output("y")
    builder.output("last")
    rng = np.random.default_rng(0)
    feeds = {name: rng.normal(size=shape).astype(np.float32) for name, shape in
             {"x": (4, 3, 2), "w": (1, 5, 2), "r": (1, 5, 5), "h": (1, 3, 5)}.items()}  # fmt: skip
    results = builder.finish().session().run({**feeds, "n": np.array(lengths, np.int32)})
    y, last = np.asarray(results["y"]), np.asarray(results["last"])
    for row, length in enumerate(lengths):
        assert np.all(y[length:, 0, row] == 0)
        wanted = y[length - 1, 0, row] if length else feeds["h"][0, row]
        assert np.array_equal(last[0, row], wanted)
