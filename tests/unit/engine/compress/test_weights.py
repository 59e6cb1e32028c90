"""Weights as codes: what is packed how, the same answers with and without the claim and from ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest

from walle_engine import api
from walle_engine.compress import quantize_weights, to_bytes, to_model, to_onnx
from walle_engine.compress.numbers import quantize_blocks
from walle_engine.convert.draft import Draft
from walle_shared.errors import ConfigError, ModelError


def _weight(*shape: int) -> Any:
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def _product(make_draft: Any, k: int, n: int) -> Draft:
    draft: Draft = make_draft(
        [("MatMul", "product", ("x", "w"), ("y",))], {"x": ("N", k)}, {"y": ("N", n)}, {"w": _weight(k, n)}
    )
    return draft


def _steps(session: api.Session) -> list[str]:
    return [step["candidate"] for step in session.explain()["steps"]]


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("block", [None, 16, 64])
@pytest.mark.parametrize("symmetric", [True, False])
def test_products_are_those_of_the_rounded_weights(
    make_draft: Any, bits: int, block: int | None, symmetric: bool
) -> None:
    draft = _product(make_draft, 100, 70)
    made = quantize_weights(draft, bits, block=block, symmetric=symmetric).draft
    (node,) = made.nodes
    size = node.attrs["block_size"]
    assert isinstance(size, int)
    rounded = quantize_blocks(draft.weights["w"].T, bits, size, symmetric=symmetric).dequantize().T
    model = to_model(made)
    options = onnxruntime.SessionOptions()  # whose optimiser would round activations as well
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    theirs = onnxruntime.InferenceSession(to_onnx(made).SerializeToString(), options)
    for rows in (1, 9):
        x = _weight(rows, 100)
        want = x.astype(np.float64) @ rounded
        for how in ({}, {"memory": "low"}, {"claims": False}):
            np.testing.assert_allclose(model.session(**how).run({"x": x})["y"], want, atol=1e-4)
        np.testing.assert_allclose(theirs.run(None, {"x": x})[0], want, atol=1e-4)


@pytest.mark.of_cpu
@pytest.mark.optimised("claims", "isa")
def test_low_memory_keeps_codes_where_that_is_slower(make_draft: Any) -> None:
    draft = _product(make_draft, 256, 256)
    model = to_model(quantize_weights(draft, 4).draft)
    many = _weight(25, 256)  # for which making weights does not pay on any instruction set
    fast, small = model.session(), model.session(memory="low")
    for session in (fast, small):
        session.run({"x": many})
    assert _steps(small) == ["coded_rows"]
    assert _steps(fast) != ["coded_rows"]
    few = model.session()
    few.run({"x": many[:1]})
    assert _steps(few) == ["coded_rows"]
    packed = [session.explain()["memory"]["packed_bytes"] for session in (few, fast)]
    assert packed[0] < 0.25 * packed[1]
    with pytest.raises(ConfigError, match="use 'any' or 'low'"):
        model.session(memory="tiny")  # type: ignore[arg-type]


def test_a_layer_with_bias_and_a_turned_weight(make_draft: Any) -> None:
    weights = {"w": _weight(40, 64), "b": _weight(40)}
    draft = make_draft(
        [("Gemm", "fc", ("x", "w", "b"), ("y",), {"transB": 1})], {"x": ("N", 64)}, {"y": ("N", 40)}, weights
    )
    made = quantize_weights(draft).draft
    assert [node.op for node in made.nodes] == ["MatMulNBits", "Add"]
    x = _weight(3, 64)
    out = np.asarray(to_model(made).session().run({"x": x})["y"])
    assert np.abs(out - (x @ weights["w"].T + weights["b"])).max() < 0.2


@pytest.mark.parametrize("bits", [4, 8])
def test_cells_and_tables(make_draft: Any, bits: int) -> None:
    table, w, r = _weight(50, 32), _weight(1, 96, 32), _weight(1, 96, 32) / 6
    draft = make_draft(
        [
            ("Gather", "look", ("table", "at"), ("steps",)),
            ("Add", "shift", ("steps", "x"), ("moved",)),
            ("GRU", "gru", ("moved", "w", "r"), ("", "last"), {"hidden_size": 32}),
        ],
        {"x": (4, 1, 32)}, {"last": (1, 1, 32)},
        {"table": table, "at": np.array([[3], [0], [49], [7]]), "w": w, "r": r},
    )  # fmt: skip
    made = quantize_weights(draft, bits)
    assert made.packed == ("look", "gru")
    assert made.draft.weights["table.codes"].dtype == np.int8
    x = {"x": np.zeros((4, 1, 32), np.float32)}
    got, want = (np.asarray(to_model(one).session().run(x)["last"]) for one in (made.draft, draft))
    assert np.abs(got - want).mean() < (0.02 if bits == 8 else 0.25)
    assert len(to_bytes(made.draft)) < len(to_bytes(draft)) * (0.5 if bits == 8 else 0.4)


def test_what_stays(make_draft: Any, digits: Draft) -> None:
    assert quantize_weights(digits).packed == ("fc1",)
    small = make_draft([("Relu", "bend", ("x",), ("y",))], {"x": ("N", 2)}, {"y": ("N", 2)}, {})
    with pytest.raises(ModelError, match="no weights to quantise"):
        quantize_weights(small)
    with pytest.raises(ModelError, match="no layer fits 'head'"):
        quantize_weights(digits, keep=["head"])
    with pytest.raises(ModelError, match="no weights to quantise"):
        quantize_weights(digits, keep=["fc*"])


@pytest.mark.parametrize(("bits", "block", "words"), [(3, None, "of 3 bits"), (4, 48, "blocks of 48")])
def test_settings_that_make_no_sense(digits: Draft, bits: int, block: int | None, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        quantize_weights(digits, bits, block=block)


def test_a_weight_that_is_not_finite(make_draft: Any) -> None:
    draft = _product(make_draft, 64, 64)
    draft.weights["w"][3, 5] = np.nan
    with pytest.raises(ModelError, match="layer 'product': a weight is not finite") as caught:
        quantize_weights(draft)
    assert caught.value.node == "product"
