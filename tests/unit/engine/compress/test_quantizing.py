"""Quantised models: their form, the same answers from ONNX Runtime, and layers that stay in float."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from walle_engine import wmodel
from walle_engine.compress import Samples, harm_of_layers, quantize, read_draft, report_on, to_model, to_onnx
from walle_engine.compress.numbers import dequantize_channels, top_of
from walle_engine.compress.source import write
from walle_engine.convert.draft import Draft
from walle_shared.errors import EngineError, ModelError


def _run(draft: Draft, batch: Any) -> dict[str, Any]:
    return {name: np.asarray(value) for name, value in to_model(draft).session().run(batch).items()}


@pytest.mark.parametrize("bits", [8, 4])
def test_onnx_runtime_computes_the_same(digits: Draft, calibration: Samples, bits: int) -> None:
    made = quantize(digits, calibration, weight_bits=bits)
    proto = to_onnx(made.draft)
    onnx.checker.check_model(proto, full_check=True)
    batch = dict(calibration.batches[0])
    theirs = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, batch)[0]
    # One code more or less in the last layer is what its kernels of integers may differ by.
    assert np.abs(theirs - _run(made.draft, batch)["scores"]).max() < 0.01


def test_the_form_is_pairs_around_layers(digits: Draft, calibration: Samples) -> None:
    made = quantize(digits, calibration).draft
    producers = made.producers()
    for node in made.nodes:
        if node.op not in ("Conv", "Gemm"):
            continue
        assert [producers[name].op for name in node.inputs] == ["DequantizeLinear"] * 3
        (reader,) = [other for other in made.nodes if node.outputs[0] in other.inputs]
        assert reader.op == "QuantizeLinear"  # rectifiers are what the codes do by saturating
        weight, bias = (made.weights[producers[name].inputs[0]] for name in node.inputs[1:])
        assert weight.dtype == np.int8
        assert bias.dtype == np.int32
        assert made.weights[reader.inputs[2]].dtype == np.uint8
    assert "Relu" not in {node.op for node in made.nodes}


@pytest.mark.parametrize(
    ("low", "high", "stays"),
    [(0.0, 6.0, False), (-1.0, 6.0, False), (-1.0, 2.0, False), (0.5, 6.0, True), (-3.0, -1.0, True)],
)
def test_limits_stay_where_codes_do_not_saturate_alike(
    make_draft: Any, low: float, high: float, stays: bool
) -> None:
    nodes = [("Gemm", "fc", ("x", "w"), ("y",)), ("Clip", "limit", ("y", "low", "high"), ("out",))]
    weights = {"w": np.eye(2, dtype=np.float32), "low": np.float32(low), "high": np.float32(high)}
    draft = make_draft(nodes, {"x": ("N", 2)}, {"out": ("N", 2)}, weights)
    x = {"x": np.float32([[-9, 9]])}
    made = quantize(draft, x).draft
    assert ("Clip" in {node.op for node in made.nodes}) == stays
    assert _run(made, x)["out"][0].tolist() == pytest.approx([low, high], abs=0.03)


@pytest.mark.parametrize("method", ["minmax", "kl", "percentile"])
def test_digits_are_read_as_well(digits: Draft, calibration: Samples, heldout: Samples, method: Any) -> None:
    made = quantize(digits, calibration, method=method)
    report = report_on(digits, made.draft, heldout, timed=False)
    assert report.task is not None
    assert report.task.metric == "accuracy"
    assert report.task.compressed >= report.task.original - 0.005
    assert report.outputs[0].sqnr_db > 40
    assert report.size_after < 0.35 * report.size_before


def test_values_keep_their_names(digits: Draft, calibration: Samples, heldout: Samples) -> None:
    made = quantize(digits, calibration)
    report = report_on(digits, made.draft, heldout, layers=[("conv1", "r1"), ("fc2", "logits")], timed=False)
    assert {one.name for one in report.layers} == {"conv1", "fc2"}
    assert all(one.sqnr_db > 35 for one in report.layers)
    assert [value.name for value in made.draft.outputs] == ["scores"]


def test_the_worst_layers_stay_in_float_until_the_drop_is_small(digits: Draft, calibration: Samples) -> None:
    harms = harm_of_layers(digits, calibration, weight_bits=2)
    assert list(harms.values()) == sorted(harms.values(), reverse=True)
    made = quantize(digits, calibration, weight_bits=2, max_drop=0.25)
    assert made.layers
    assert len(made.layers) < len(harms)
    assert not set(made.layers) & set(list(harms)[: len(harms) - len(made.layers)])
    with pytest.raises(ModelError, match="allow more") as caught:
        quantize(digits, calibration, weight_bits=2, max_drop=0)
    assert caught.value.node == list(harms)[-1]


def test_a_large_bias_has_a_code(make_draft: Any) -> None:
    weights = {"w": np.full((1, 2), 1e-9, np.float32), "b": np.float32([1000, -1000])}
    draft = make_draft([("Gemm", "fc", ("x", "w", "b"), ("y",))], {"x": ("N", 1)}, {"y": ("N", 2)}, weights)
    out = _run(quantize(draft, {"x": np.float32([[1], [2]])}).draft, {"x": np.float32([[2]])})["y"]
    assert out[0].tolist() == pytest.approx([1000, -1000], rel=0.01)


def test_weights_are_what_their_codes_say(digits: Draft, calibration: Samples) -> None:
    made = quantize(digits, calibration, weight_bits=4).draft
    for node in made.nodes:
        if node.op != "DequantizeLinear" or node.inputs[0] not in made.weights:
            continue
        codes, scales = (made.weights[name] for name in node.inputs[:2])
        if codes.dtype != wmodel.numpy_dtype("I4"):
            continue
        float_weight = digits.weights[node.inputs[0].removesuffix(".codes")]
        back = dequantize_channels(codes.astype(np.int8), scales, 0)
        step = scales.reshape(-1, *[1] * (back.ndim - 1))
        assert np.all(np.abs(back - float_weight) <= 0.5001 * step)
        assert np.abs(codes.astype(int)).max() == top_of(4)


def test_four_bits_take_half_a_byte_in_the_file(digits: Draft, calibration: Samples, tmp_path: Any) -> None:
    made = quantize(digits, calibration, weight_bits=4).draft
    write(made, tmp_path / "four.wmodel")
    sizes = {name: info.size_bytes for name, info in wmodel.read(tmp_path / "four.wmodel").weights.items()}
    assert sizes["fc1.w.codes.packed"] == digits.weights["fc1.w"].size // 2
    again = read_draft(tmp_path / "four.wmodel")
    batch = dict(calibration.batches[0])
    assert np.array_equal(_run(again, batch)["scores"], _run(made, batch)["scores"])


def test_nothing_to_quantize(make_draft: Any) -> None:
    draft = make_draft([("Relu", "bend", ("x",), ("y",))], {"x": ("N", 2)}, {"y": ("N", 2)}, {})
    with pytest.raises(ModelError, match="nothing to quantise"):
        quantize(draft, {"x": np.ones((3, 2), np.float32)})


def test_a_model_that_is_quantized_already(digits: Draft, calibration: Samples) -> None:
    with pytest.raises(ModelError, match="quantised already"):
        quantize(quantize(digits, calibration).draft, calibration)


@pytest.mark.parametrize(
    "node",
    [
        wmodel.Node("Conv", "short", (), ("y",)),
        wmodel.Node("MatMul", "short", ("x",), ("y",)),
        wmodel.Node("Conv", "flat", ("x", "w"), ("y",)),
        wmodel.Node("Reshape", "none", ("",), ("y",)),
        wmodel.Node("Nothing", "unknown", ("x",), ("y",)),
    ],
)
def test_files_of_malformed_graphs(tmp_path: Path, node: wmodel.Node) -> None:
    graph = wmodel.Graph(
        "bad", (wmodel.Value("x", "F32", ("N", 2)),), (wmodel.Value("y", "F32", ("N", 2)),), (node,)
    )
    wmodel.write(tmp_path / "bad.wmodel", graph, {"w": wmodel.weight_from_array(np.eye(2, dtype="f4"))})
    with pytest.raises(EngineError):
        quantize(tmp_path / "bad.wmodel", {"x": np.ones((1, 2), np.float32)})


def test_all_layers_kept(digits: Draft, calibration: Samples) -> None:
    with pytest.raises(ModelError, match="keep fewer"):
        quantize(digits, calibration, keep=["*"])


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"method": "best"}, "unknown calibration method 'best'"),
        ({"method": "percentile", "percentile": 30.0}, "percentile is 30"),
        ({"weight_bits": 9}, "weights of 9 bits"),
    ],
)
def test_settings_that_make_no_sense(digits: Draft, calibration: Samples, how: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        quantize(digits, calibration, **how)


def test_a_model_that_makes_numbers_that_are_not_finite(make_draft: Any) -> None:
    nodes = [("Log", "log", ("x",), ("l",)), ("Gemm", "fc", ("l", "w"), ("y",))]
    draft = make_draft(nodes, {"x": ("N", 2)}, {"y": ("N", 2)}, {"w": np.eye(2, dtype=np.float32)})
    with pytest.raises(ModelError, match=r"value .l. .* not finite"):
        quantize(draft, {"x": np.zeros((1, 2), np.float32)})


def test_a_weight_that_is_not_finite(make_draft: Any) -> None:
    weights = {"w": np.float32([[np.inf, 1], [1, 1]])}
    draft = make_draft([("Gemm", "fc", ("x", "w"), ("y",))], {"x": ("N", 2)}, {"y": ("N", 2)}, weights)
    with pytest.raises(ModelError, match="not finite"):
        quantize(draft, {"x": np.ones((1, 2), np.float32)})


@pytest.mark.parametrize("rank", [2, 3])
def test_a_product_takes_its_bias_where_it_multiplies_a_matrix(make_draft: Any, rank: int) -> None:
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal(shape).astype("f4") for name, shape in (("w", (5, 4)), ("b", (4,)))}
    shape = ("N", 5) if rank == 2 else ("N", 3, 5)
    draft = make_draft(
        [
            ("MatMul", "fc", ("x", "w"), ("p",)),
            ("Add", "shift", ("b", "p"), ("s",)),
            ("Relu", "bend", ("s",), ("y",)),
        ],
        {"x": shape}, {"y": (*shape[:-1], 4)}, weights,
    )  # fmt: skip
    x = {"x": rng.standard_normal((7, *shape[1:])).astype(np.float32)}
    made = quantize(draft, x)
    ops = [node.op for node in made.draft.nodes if "quantize" not in node.name]
    assert ops == (["Gemm"] if rank == 2 else ["MatMul", "Add", "Relu"])
    assert made.layers == ("fc",)
    np.testing.assert_allclose(_run(made.draft, x)["y"], _run(draft, x)["y"], atol=0.1)
