"""Reading ONNX files: what is translated, and what is refused with which cure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from walle_engine.convert.loading import load
from walle_shared.errors import ModelError, StorageError, UnsupportedError

type SaveModel = Callable[..., Path]

RELU = helper.make_node("Relu", ["x"], ["y"], "relu")


def test_names_shapes_and_attributes(save_model: SaveModel) -> None:
    node = helper.make_node("Gemm", ["x", "w"], ["y"], "fc", transB=1, alpha=0.5)
    path = save_model([node], {"x": ["N", 3]}, {"y": ["N", 2]}, {"w": np.ones((2, 3), np.float32)})
    loaded = load(path)
    draft = loaded.draft
    assert (loaded.opset, loaded.untranslated) == (21, ())
    assert draft.inputs[0].shape == ("N", 3)
    assert draft.nodes[0].attrs == {"transB": 1, "alpha": 0.5}
    assert draft.weights["w"].shape == (2, 3)


def test_nodes_without_a_name_get_one_of_their_own(save_model: SaveModel) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"], "twin"),
        helper.make_node("Relu", ["b"], ["y"], "twin"),
    ]
    names = [node.name for node in load(save_model(nodes, {"x": [1]}, {"y": [1]})).draft.nodes]
    assert names == ["Relu_0", "twin", "Relu_2"]


def test_an_unnamed_dim_gets_a_name_of_its_own(save_model: SaveModel) -> None:
    path = save_model([RELU], {"x": ["N", None]}, {"y": ["N", None]})  # type: ignore[list-item]
    assert load(path).draft.inputs[0].shape == ("N", "x.1")


def test_constants_become_weights(save_model: SaveModel) -> None:
    nodes = [
        helper.make_node("Constant", [], ["a"], value=numpy_helper.from_array(np.float32([[1, 2]]))),
        helper.make_node("Constant", [], ["b"], value_float=2.5),
        helper.make_node("Constant", [], ["c"], value_floats=[1.0, 2.0]),
        helper.make_node("Sum", ["x", "a", "b", "c"], ["y"]),
    ]
    weights = load(save_model(nodes, {"x": [1, 2]}, {"y": [1, 2]})).draft.weights
    assert {name: value.tolist() for name, value in weights.items()} == {"a": [[1, 2]], "b": 2.5, "c": [1, 2]}


def test_a_constant_of_text_is_refused(save_model: SaveModel) -> None:
    nodes = [helper.make_node("Constant", [], ["t"], "words", value_string="hello"), RELU]
    with pytest.raises(UnsupportedError, match="'words' holds no numbers but value_string"):
        load(save_model(nodes, {"x": [1]}, {"y": [1]}))


def test_old_opsets_are_brought_up(save_model: SaveModel) -> None:
    # Until opset 13 Squeeze had its axes as an attribute; now they are an input.
    path = save_model(
        [helper.make_node("Squeeze", ["x"], ["y"], axes=[0])], {"x": [1, 3]}, {"y": [3]}, opset=11
    )
    loaded = load(path)
    assert loaded.opset == 11
    squeeze = next(node for node in loaded.draft.nodes if node.op == "Squeeze")
    assert len(squeeze.inputs) == 2
    assert "axes" not in squeeze.attrs


def test_newer_opsets_are_taken_where_they_mean_the_same(save_model: SaveModel) -> None:
    path = save_model([RELU], {"x": [1]}, {"y": [1]}, opset=22)
    assert load(path).draft.nodes[0].op == "Relu"


def test_local_functions_are_inlined(save_model: SaveModel) -> None:
    body = [helper.make_node("Relu", ["a"], ["r"]), helper.make_node("Neg", ["r"], ["b"])]
    function = helper.make_function("custom", "NegRelu", ["a"], ["b"], body, [helper.make_opsetid("", 21)])
    node = helper.make_node("NegRelu", ["x"], ["y"], domain="custom")
    path = save_model([node], {"x": [1]}, {"y": [1]}, functions=[function])
    assert [node.op for node in load(path).draft.nodes] == ["Relu", "Neg"]


def test_foreign_domains_and_sub_graphs_are_listed(save_model: SaveModel) -> None:
    branch = helper.make_graph([helper.make_node("Neg", ["x"], ["n"])], "b", [], [
        helper.make_tensor_value_info("n", onnx.TensorProto.FLOAT, [1])
    ])  # fmt: skip
    nodes = [
        helper.make_node("Magic", ["x"], ["m"], "trick", domain="custom"),
        helper.make_node("If", ["c"], ["i"], "choice", then_branch=branch, else_branch=branch),
        helper.make_node("Add", ["m", "i"], ["y"]),
    ]
    path = save_model(nodes, {"x": [1]}, {"y": [1]}, {"c": np.array(True)})
    assert load(path).untranslated == (("custom.Magic", "trick"), ("If", "choice"))


def test_external_data_is_found_beside_the_model(save_model: SaveModel, tmp_path: Path) -> None:
    weight = np.arange(300, dtype=np.float32)
    path = save_model([helper.make_node("Add", ["x", "w"], ["y"])], {"x": [300]}, {"y": [300]}, {"w": weight})
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    assert load(path).draft.weights["w"].tolist() == weight.tolist()
    (tmp_path / "w.bin").unlink()
    with pytest.raises((ModelError, StorageError), match=r"w\.bin"):
        load(path)


def test_files_that_are_no_models(tmp_path: Path, save_model: SaveModel) -> None:
    with pytest.raises(StorageError, match="no such file"):
        load(tmp_path / "missing.onnx")
    with pytest.raises(StorageError, match="cannot read"):
        load(tmp_path)
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"\xff" * 100)
    with pytest.raises(ModelError, match="not an ONNX model"):
        load(junk)
    broken = save_model([helper.make_node("Relu", ["nobody"], ["y"])], {"x": [1]}, {"y": [1]})
    with pytest.raises(ModelError, match="not a valid ONNX model"):
        load(broken)


def test_contradicting_types_are_refused(save_model: SaveModel) -> None:
    path = save_model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": [2, 3]}, {"y": [2, 2]},
                      {"w": np.ones((4, 2), np.float32)})  # fmt: skip
    with pytest.raises(ModelError, match="contradict"):
        load(path)


def test_strings_are_refused(save_model: SaveModel) -> None:
    path = save_model(
        [helper.make_node("Identity", ["x"], ["y"])], {"x": [1]}, {"y": [1]}, dtype=onnx.TensorProto.STRING
    )
    with pytest.raises(UnsupportedError, match="'x' is not a tensor of a type this engine has"):
        load(path)


def test_attributes_that_say_the_default_are_dropped(save_model: SaveModel) -> None:
    node = helper.make_node("Gemm", ["x", "w"], ["y"], alpha=1.0, beta=0.5, transA=0, transB=1)
    path = save_model([node], {"x": ["N", 3]}, {"y": ["N", 2]}, {"w": np.ones((2, 3), np.float32)})
    assert load(path).draft.nodes[0].attrs == {"beta": 0.5, "transB": 1}


def test_a_cast_names_its_target(save_model: SaveModel) -> None:
    to_half = helper.make_node("Cast", ["x"], ["h"], "narrow", to=onnx.TensorProto.FLOAT16)
    back = helper.make_node("Cast", ["h"], ["y"], "widen", to=onnx.TensorProto.FLOAT)
    nodes = load(save_model([to_half, back], {"x": [1]}, {"y": [1]})).draft.nodes
    assert [node.attrs["to"] for node in nodes] == ["F16", "F32"]


def test_a_cast_to_text_is_refused(save_model: SaveModel) -> None:
    nodes = [helper.make_node("Cast", ["x"], ["t"], "spell", to=onnx.TensorProto.STRING), RELU]
    with pytest.raises(UnsupportedError, match="Cast 'spell' is to ONNX type 8"):
        load(save_model(nodes, {"x": [1]}, {"y": [1]}))
