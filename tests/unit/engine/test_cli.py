"""The walle-engine program: exit codes, sentences on standard error, JSON for scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper

from walle_engine import wmodel
from walle_engine.cli import main, workload


@pytest.fixture
def onnx_model(tmp_path: Path) -> Path:
    """``y = relu(x w)``."""
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["p"], "product"),
            helper.make_node("Relu", ["p"], ["y"], "relu"),
        ],
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(np.float32([[1, 0], [0, -1], [1, 1]]), "w")],
    )
    path = tmp_path / "dense.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


def json_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def failure_of(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 1) -> str:
    assert main(arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("walle-engine: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_convert_writes_beside_the_model(onnx_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(onnx_model)]) == 0
    assert "same results as ONNX Runtime on 2 random inputs" in capsys.readouterr().out
    assert wmodel.read(onnx_model.with_suffix(".wmodel")).graph.name == "dense"


def test_convert_to_another_place_without_the_check(
    onnx_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "other.wmodel"
    report = json_of(capsys, "convert", str(onnx_model), "-o", str(target), "--no-check")
    assert report["check"] is None
    assert (report["nodes_before"], report["nodes_after"]) == (2, 2)
    assert report["size_bytes"] == target.stat().st_size


def test_convert_names_the_file_to_write_once(
    onnx_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "other.wmodel"
    assert json_of(capsys, "convert", str(onnx_model), str(target))["path"] == str(target)
    assert main(["convert", str(onnx_model), "a.wmodel", "-o", "b.wmodel"]) == 2
    assert "leave one out" in capsys.readouterr().err


def test_convert_a_folder_that_holds_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "has no config.json" in failure_of(capsys, "convert", str(tmp_path))


def test_convert_lists_what_is_missing_line_by_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21, "custom" : 1]> g (float[4] x) => (float[4] y)'
        "{ m = custom.Magic(x) \n y = custom.Riddle(m) }"
    )
    source = tmp_path / "odd.onnx"
    onnx.save(model, source)
    assert main(["convert", str(source)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line[:20] for line in lines[1:]] == ["  - custom.Magic (do", "  - custom.Riddle (d"]


def test_convert_leaves_the_graph_as_it_is_where_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]> g (float[4] x) => (float[4] y)'
        "{ s = Sigmoid(x) \n m = Mul(x, s) \n y = Identity(m) }"
    )
    source = tmp_path / "swish.onnx"
    onnx.save(model, source)
    assert json_of(capsys, "convert", str(source))["rewrites"] == {"no_op": 1, "swish": 1}
    report = json_of(capsys, "convert", str(source), "--no-optimise")
    assert (report["rewrites"], report["nodes_after"]) == ({}, 3)


def test_convert_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such file" in failure_of(capsys, "convert", str(tmp_path / "none.onnx"))
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"\xff" * 9)
    assert "export it again" in failure_of(capsys, "convert", str(junk))


def test_info(perceptron: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(perceptron)]) == 0
    text = capsys.readouterr().out
    assert "[N, 3]" in text
    assert "MatMul" in text
    document = json_of(capsys, "info", str(perceptron))
    assert document["ops"] == {"MatMul": 1, "Add": 1, "Relu": 1}
    assert document["weights"]["w"]["shape"] == [3, 2]


def test_info_of_a_truncated_file(perceptron: Path, capsys: pytest.CaptureFixture[str]) -> None:
    perceptron.write_bytes(perceptron.read_bytes()[:100])
    assert "truncated" in failure_of(capsys, "info", str(perceptron))


def test_run_on_a_file(perceptron: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", np.float32([[1, 2, 3]]))
    document = json_of(capsys, "run", str(perceptron), "--input", f"x={tmp_path / 'x.npy'}", "--repeat", "3")
    assert document["outputs"]["y"] == {"dtype": "F32", "shape": [1, 2], "data": [[4.0, 0.0]]}
    assert document["timing"]["runs"] == 3
    assert 0 < document["timing"]["min_ms"] <= document["timing"]["median_ms"] <= document["timing"]["max_ms"]


def test_run_on_random_input(perceptron: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = json_of(capsys, "run", str(perceptron), "--input", "x=random", "--dim", "N=5")
    assert document["outputs"]["y"]["shape"] == [5, 2]
    assert main(["run", str(perceptron)]) == 0
    assert "F32 [1, 2]" in capsys.readouterr().out


def test_run_refuses_wrong_inputs(
    perceptron: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(perceptron)
    assert "no input 'z': its inputs are x" in failure_of(capsys, "run", model, "--input", "z=random", code=2)
    assert "no.npy" in failure_of(capsys, "run", model, "--input", "x=no.npy")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    assert "plain numbers" in failure_of(capsys, "run", model, "--input", f"x={tmp_path / 'objects.npy'}")
    np.save(tmp_path / "wide.npy", np.zeros((1, 4), np.float32))
    assert "x" in failure_of(capsys, "run", model, "--input", f"x={tmp_path / 'wide.npy'}")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["unknown"],
        ["convert"],
        ["run", "m", "--repeat", "0"],
        ["run", "m", "--dim", "N"],
        ["run", "m", "--input", "x="],
        ["run", "m", "--precision", "sloppy"],
    ],
)
def test_wrong_usage_is_exit_code_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: walle-engine" in capsys.readouterr().err


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert "walle-engine convert digits.onnx" in capsys.readouterr().out


def test_explain_shows_every_program_of_a_module(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value = wmodel.Value("x", "F32", (3,))
    nodes = (
        wmodel.Node("Abs", "first", ("x",), ("a",)),
        wmodel.Node("NonZero", "places", ("a",), ("p",)),
        wmodel.Node("Neg", "last", ("p",), ("y",)),
    )
    path = tmp_path / "places.wmodel"
    wmodel.write(path, wmodel.Graph("places", (value,), (wmodel.Value("y", "I64", (1, "n")),), nodes), {})
    assert len(json_of(capsys, "explain", str(path))["segments"]) == 2
    assert main(["explain", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "nodes from 0 on" in shown
    assert "nodes from 2 on" in shown


def test_explain_shows_steps(perceptron: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = json_of(capsys, "explain", str(perceptron))
    assert document["steps"]
    assert main(["explain", str(perceptron)]) == 0
    assert "product" in capsys.readouterr().out


def test_coverage_lists_operators_and_kernels(capsys: pytest.CaptureFixture[str]) -> None:
    document = json_of(capsys, "coverage")
    assert {"MatMul", "Conv", "Relu"} <= {op["name"] for op in document["ops"]}
    assert any(kernel["chosen"] for kernel in document["kernels"])
    assert main(["coverage"]) == 0
    assert "in use here: " + document["isa"] in capsys.readouterr().out


def test_workload_applies_the_formula(capsys: pytest.CaptureFixture[str]) -> None:
    figures = workload({"ATOMIC": 61, "TRANSFORM": 45, "COMPOSITE": 16, "CONTROL": 2}, 16)
    assert (figures["without"], figures["with"]) == (1954, 1055)  # the paper's own counts
    document = json_of(capsys, "workload")
    assert document["with"] < document["without"]
    assert main(["workload"]) == 0
    assert "fewer" in capsys.readouterr().out


@pytest.fixture
def data(tmp_path: Path) -> str:
    np.savez(tmp_path / "data.npz", x=np.float32([[1, 2, 3], [0, 1, 0]]), labels=np.array([0, 1]))
    return str(tmp_path / "data.npz")


def test_compress_writes_beside_the_model_and_reports(
    onnx_model: Path, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compress", str(onnx_model), "--data", data]) == 0
    out = capsys.readouterr().out
    assert "accuracy of y, 2 samples" in out
    assert "product" in out
    assert f"wrote {onnx_model.with_name('dense-int8.wmodel')}" in out
    ops = {node.op for node in wmodel.read(onnx_model.with_name("dense-int8.wmodel")).graph.nodes}
    assert ops == {"QuantizeLinear", "DequantizeLinear", "MatMul"}


def test_compress_for_a_script_and_for_other_engines(
    onnx_model: Path, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small, proto = tmp_path / "small.wmodel", tmp_path / "qdq.onnx"
    found = json_of(capsys, "compress", str(onnx_model), str(small), "--data", data, "--onnx", str(proto))
    assert found["path"] == str(small)
    assert found["report"]["task"]["compressed"] == found["report"]["task"]["original"]
    onnx.checker.check_model(proto)


def test_compress_weights_alone_and_in_sixteen_bits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weight = np.random.default_rng(0).standard_normal((40, 40)).astype(np.float32)
    graph = wmodel.Graph(
        "wide", (wmodel.Value("x", "F32", ("N", 40)),), (wmodel.Value("y", "F32", ("N", 40)),),
        (wmodel.Node("MatMul", "product", ("x", "w"), ("y",)),),
    )  # fmt: skip
    model = tmp_path / "wide.wmodel"
    wmodel.write(model, graph, {"w": wmodel.weight_from_array(weight)})
    assert main(["compress", str(model), "--weights", "int4", "--block", "16", "--asymmetric"]) == 0
    (node,) = wmodel.read(tmp_path / "wide-weights-int4.wmodel").graph.nodes
    assert (node.op, node.attrs["bits"], node.attrs["block_size"], len(node.inputs)) == (
        "MatMulNBits",
        4,
        16,
        4,
    )
    assert main(["compress", str(model), "--store", "float16"]) == 0
    assert wmodel.read(tmp_path / "wide-float16.wmodel").weights["w.float16"].dtype == "F16"
    capsys.readouterr()
    both = failure_of(capsys, "compress", str(model), "--store", "float16", "--weights", "int8")
    assert "choose one" in both


def test_compress_refuses_what_is_worse(
    onnx_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "hard.npz", x=np.float32([[0, -0.01, 5], [100, 0, 0]]))
    arguments = ["compress", str(onnx_model), "--data", str(tmp_path / "hard.npz"), "--max-drop", "0"]
    assert "layer 'product'" in failure_of(capsys, *arguments)
    assert not onnx_model.with_name("dense-int8.wmodel").exists()
    assert "needs data" in failure_of(capsys, "compress", str(onnx_model))


@pytest.mark.slow
def test_bench_beside_a_peer(onnx_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["bench", str(onnx_model), "--turns", "1", "--turn-s", "0.01", "--batch", "5"]
    document = json_of(capsys, *arguments, "--threads", "1,2", "--peers")
    assert document["inputs"] == {"x": [5, 3]}
    times = {(row["engine"], row["threads"]): row for row in document["results"]}
    assert {("Walle", 1), ("Walle", 2), ("ONNX Runtime", 1), ("ONNX Runtime", 2)} <= times.keys()
    for threads in (1, 2):
        ours, peer = times["Walle", threads], times["ONNX Runtime", threads]
        assert ours["times"] is None
        assert peer["times"] == pytest.approx(peer["median_ms"] / ours["median_ms"])
    assert main(arguments) == 0
    assert "Walle" in capsys.readouterr().out


def test_bench_says_what_is_wrong(perceptron: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(perceptron)
    assert "give the .onnx" in failure_of(capsys, "bench", model, "--peers", code=2)
    assert "no input 'z'" in failure_of(capsys, "bench", model, "--shape", "z=1", code=2)
    assert "not [1, 4]" in failure_of(capsys, "bench", model, "--shape", "x=1,4", code=2)
    assert "no such file" in failure_of(capsys, "bench", "none.onnx", code=2)
