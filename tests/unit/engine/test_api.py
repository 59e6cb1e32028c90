from __future__ import annotations

import array
import gc
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import walle_engine
from walle_engine import api
from walle_engine.tensor import Tensor, dtype_of_format
from walle_shared.errors import ConfigError, EngineError, ModelError, StorageError, UnsupportedError


def _mlp() -> api.Model:
    builder = api.GraphBuilder("mlp")
    builder.input("x", "F32", ["N", 2])
    builder.weight("w", [[1.0, -1.0], [2.0, 0.5]])
    builder.weight("b", [0.5, 0.5])
    builder.node("MatMul", ["x", "w"], ["m"], name="product")
    builder.node("Add", ["m", "b"], ["a"], name="bias")
    builder.node("Relu", ["a"], ["y"], name="relu")
    builder.output("y")
    return builder.finish()


def _one(op: str, inputs: list[str], outputs: list[str], **attrs: Any) -> api.Model:
    builder = api.GraphBuilder()
    builder.input("x", "F32", [2, 3])
    builder.node(op, inputs, outputs, name="n", **attrs)
    builder.output(outputs[0])
    return builder.finish()


def test_runs_on_arrays_buffers_sequences_and_tensors_alike() -> None:
    session = _mlp().session()
    first = session.run({"x": [[1, 2], [-3, 4]]})["y"]
    assert first.tolist() == [[5.5, 0.5], [5.5, 5.5]]
    inputs: list[object] = [
        np.array([[1, 2], [-3, 4]], np.float32),
        np.array([[1, -3], [2, 4]], np.float32).T,  # not dense
        memoryview(array.array("f", [1, 2, -3, 4])).cast("B").cast("f", (2, 2)),
        Tensor(array.array("f", [1, 2, -3, 4]), "F32", (2, 2)),
    ]
    for value in inputs:
        assert session.run({"x": value})["y"].tolist() == first.tolist()


def test_describes_inputs_and_outputs() -> None:
    model = _mlp()
    assert model.inputs == (api.ValueInfo("x", "F32", ("N", 2)),)
    assert model.outputs == (api.ValueInfo("y", "", None),)
    assert (model.name, model.node_count) == ("mlp", 3)


@pytest.mark.optimised("fuse")
def test_fuses_bias_and_relu_into_one_step() -> None:
    session = _mlp().session()
    session.prepare({"x": np.zeros((3, 2), np.float32)})
    (step,) = session.explain()["steps"]
    assert (step["command"], step["bias"], step["relu"]) == ("matmul", "column", True)
    plain = _mlp().session(fuse=False)
    plain.prepare({"x": np.zeros((3, 2), np.float32)})
    assert [s["command"] for s in plain.explain()["steps"]] == ["matmul", "binary", "unary"]


@pytest.mark.optimised("isa")
def test_packs_constant_weights_of_large_products_once() -> None:
    builder = api.GraphBuilder()
    builder.input("x", "F32", [64, 64])
    builder.weight("w", np.eye(64, dtype=np.float32))
    builder.node("MatMul", ["x", "w"], ["y"])
    builder.output("y")
    session = builder.finish().session()
    x = np.arange(4096, dtype=np.float32).reshape(64, 64)
    np.testing.assert_array_equal(np.asarray(session.run({"x": x})["y"]), x)
    (step,) = session.explain()["steps"]
    assert step["candidate"].startswith("we_f32_matmul_")
    assert step["packed"] is True


def test_a_result_outlives_session_model_and_tensor_object() -> None:
    before = api.live_blocks()
    view = memoryview(_mlp().session().run({"x": [[1, 2]]})["y"])
    assert view.tolist() == [[5.5, 0.5]]
    assert api.live_blocks() == before + 1
    del view
    assert api.live_blocks() == before


def test_empty_tensors_go_in_and_out() -> None:
    result = _mlp().session().run({"x": np.zeros((0, 2), np.float32)})["y"]
    assert result.tolist() == []
    assert np.asarray(result).shape == (0, 2)
    with pytest.raises(BufferError):
        memoryview(result)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "'x' is missing"),
        ({"x": [[1, 2]], "z": 1}, "no input 'z'"),
        ({"x": np.zeros((1, 2))}, "is F64, not F32"),
        ({"x": [1, 2]}, "rank 1, not 2"),
        ({"x": [[1, 2, 3]]}, "3 in dim 1, not 2"),
        ({"x": [[1, 2], [3]]}, "ragged"),
        ({"x": [["a", "b"]]}, "holds something that is no number"),
        ({"x": [[None, 1]]}, "does not fit F32"),
        ({"x": np.zeros((1, 2), ">f4")}, "elements of format"),
        ({"x": np.zeros((1,) * 9, np.float32)}, "9 dims"),
    ],
)
def test_bad_inputs_are_named(inputs: dict[str, object], words: str) -> None:
    session = _mlp().session()
    with pytest.raises(EngineError, match=words) as caught:
        session.run(inputs)
    assert caught.value.status == "INVALID_ARGUMENT"
    assert session.run({"x": [[1, 2]]})["y"].tolist() == [[5.5, 0.5]]  # the session goes on


def test_equal_symbols_must_be_equal() -> None:
    builder = api.GraphBuilder()
    builder.input("a", "F32", ["N"])
    builder.input("b", "F32", ["N"])
    builder.node("Add", ["a", "b"], ["y"])
    builder.output("y")
    session = builder.finish().session()
    with pytest.raises(EngineError, match="dim 'N' is 2 in one input and 1"):
        session.run({"a": [1, 2], "b": [1]})


@pytest.mark.parametrize(
    ("op", "inputs", "attrs", "error", "words"),
    [
        ("Frobnicate", ["x"], {}, UnsupportedError, "not in this engine's table"),
        ("Relu", ["x", "x"], {}, ModelError, "takes 1 to 1 inputs, not 2"),
        ("Relu", ["nowhere"], {}, ModelError, "defined nowhere"),
        ("Relu", ["y"], {}, ModelError, "cycle"),
        ("Relu", ["x"], {"slope": 1}, UnsupportedError, "no attribute 'slope'"),
        ("Transpose", ["x"], {"perm": 1.5}, ModelError, "wrong type"),
        ("LeakyRelu", ["x"], {"alpha": float("nan")}, ModelError, "not finite"),
        ("Add", ["x", ""], {}, ModelError, "input 1 of Add is required"),
    ],
)
def test_the_verifier_names_op_and_node(
    op: str, inputs: list[str], attrs: dict[str, Any], error: type[EngineError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        _one(op, inputs, ["y"], **attrs)
    assert caught.value.op == op
    assert caught.value.node == "n"


@pytest.mark.parametrize(
    ("op", "attrs", "error"),
    [
        ("Transpose", {"perm": [0, 0]}, ModelError),
        ("Concat", {"axis": 5}, ModelError),
        ("MaxPool", {"kernel_shape": [2]}, UnsupportedError),
        ("Split", {"num_outputs": 3}, ModelError),
        ("Gelu", {"approximate": "roughly"}, ModelError),
        ("Cast", {"to": "F8"}, UnsupportedError),
    ],
)
def test_shapes_are_checked_when_a_session_prepares(
    op: str, attrs: dict[str, Any], error: type[EngineError]
) -> None:
    session = _one(op, ["x"], ["y"], **attrs).session()
    with pytest.raises(error) as caught:
        session.run({"x": np.zeros((2, 3), np.float32)})
    assert (caught.value.op, caught.value.node) == (op, "n")


def test_an_index_out_of_range_fails_the_run_only() -> None:
    builder = api.GraphBuilder()
    builder.input("i", "I64", [1])
    builder.weight("t", [10.0, 20.0])
    builder.node("Gather", ["t", "i"], ["y"], name="lookup")
    builder.output("y")
    session = builder.finish().session()
    with pytest.raises(EngineError, match="index 5 is outside an axis of 2") as caught:
        session.run({"i": [5]})
    assert caught.value.node == "lookup"
    assert session.run({"i": [-1]})["y"].tolist() == [20.0]


@pytest.mark.optimised("merge")
def test_shape_arithmetic_folds_away() -> None:
    builder = api.GraphBuilder()
    builder.input("x", "F32", ["N", 2, 3])
    builder.weight("zero", [0], "I64")
    builder.weight("minus", [-1], "I64")
    builder.node("Shape", ["x"], ["s"])
    builder.node("Gather", ["s", "zero"], ["n"])
    builder.node("Concat", ["n", "minus"], ["wanted"], axis=0)
    builder.node("Reshape", ["x", "wanted"], ["y"])
    builder.output("y")
    session = builder.finish().session()
    assert np.asarray(session.run({"x": np.zeros((4, 2, 3), np.float32)})["y"]).shape == (4, 6)
    assert len(session.explain()["steps"]) == 0  # a view of the input


@pytest.mark.parametrize(
    "settings",
    [{"threads": 65}, {"threads": -1}, {"precision": "exact"}, {"backend": "gpu"}, {"search": "luck"}],
)
def test_unknown_settings_are_config_errors(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=str(next(iter(settings.values())))):
        _mlp().session(**settings)


def test_explain_needs_a_prepared_session() -> None:
    with pytest.raises(EngineError, match="nothing is prepared"):
        _mlp().session().explain()


def test_one_session_serves_many_threads_and_shapes() -> None:
    session = _mlp().session(threads=2)
    wrong: list[object] = []

    def work(rows: int) -> None:
        x = np.full((rows, 2), rows, np.float32)
        want = [[3.5 * rows - rows / 2 + 0.5, max(0.5 - rows / 2, 0)]] * rows
        for _ in range(50):
            got = session.run({"x": x})["y"].tolist()
            if got != want:
                wrong.append(got)

    threads = [threading.Thread(target=work, args=(rows,)) for rows in (1, 2, 3, 5, 8, 13)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_missing_file_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot open the model"):
        api.load(tmp_path / "none.wmodel")
    with pytest.raises(StorageError, match="not a regular file"):
        api.load(tmp_path)


def test_tables_describe_ops_and_kernels() -> None:
    rows = {op.name: op for op in api.ops()}
    assert rows["Conv"].op_class == "COMPOSITE"
    assert (rows["MaxPool"].claims, rows["Resize"].claims) == ("cpu,opencl", "cpu")
    assert {kernel.family for kernel in api.kernels()} == {
        "unary", "binary", "reduce", "matmul", "depthwise", "window", "softmax", "norm", "gemv",
        "winograd", "transpose", "split", "arg", "cast", "resample", "grouped", "plane", "place",
        "select", "dense", "fft", "sort", "image", "coded", "byte_matmul", "byte_depthwise", "byte_rows",
    }  # fmt: skip
    assert api.isas()[0] == "ref"
    assert all(cells["ref"] in {"chosen", "available"} for cells in api.coverage().values())


@pytest.mark.parametrize(
    ("format_", "size", "dtype"),
    [("f", 4, "F32"), ("<q", 8, "I64"), ("l", 8, "I64"), ("?", 1, "BOOL"), (">f", 4, ""), ("T{f:a:}", 4, "")],
)
def test_formats_map_to_dtypes(format_: str, size: int, dtype: str) -> None:
    assert dtype_of_format(format_, size) == dtype


def _session_under(words: str) -> subprocess.CompletedProcess[str]:
    code = (
        "from walle_engine import api\n"
        "from walle_shared.errors import ConfigError\n"
        "builder = api.GraphBuilder()\n"
        "builder.input('x', 'F32', [2, 3])\n"
        "builder.node('Transpose', ['x'], ['t'])\n"
        "builder.node('Transpose', ['t'], ['y'])\n"
        "builder.output('y')\n"
        "try: session = builder.finish().session()\n"
        "except ConfigError as error: print(error); raise SystemExit(3)\n"
        "session.run({'x': [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]})\n"
        "print(len(session.explain()['steps']))"
    )
    environment = {**os.environ, "WALLE_ENGINE_DISABLE": words}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.mark.slow
def test_switches_of_the_process_are_obeyed_and_checked() -> None:
    assert int(_session_under("merge").stdout) == 2
    assert int(_session_under("").stdout) < 2
    assert int(_session_under("fuse,horizontal,claims,reuse").stdout) < 2
    for words, unknown in (("merge,speed", "speed"), ("merges", "merges"), ("fuse,,merge", "")):
        refused = _session_under(words)
        assert refused.returncode == 3
        assert f"'{unknown}'" in refused.stdout
        assert "merge, vertical, horizontal, claims, fuse, reuse" in refused.stdout


def _isa_under(cap: str) -> subprocess.CompletedProcess[str]:
    code = "from walle_engine import api; from walle_shared.errors import ConfigError\n"
    code += "try: print(api.isa())\nexcept ConfigError as error: print(error); raise SystemExit(3)"
    environment = {**os.environ, "WALLE_ENGINE_ISA": cap}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.mark.slow
def test_the_isa_cap_is_obeyed_and_checked() -> None:
    assert _isa_under("ref").stdout.strip() == "ref"
    refused = _isa_under("sse9")
    assert refused.returncode == 3
    assert "'sse9'" in refused.stdout
    assert "ref, neon, neondot, neonbf16, avx2, avx512, avx512vnni, avx512bf16, amx" in refused.stdout


@pytest.mark.slow
def test_importing_the_package_loads_nothing_native() -> None:
    code = "import sys, walle_engine; print([m for m in sys.modules if m.endswith('_cffi')])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.strip() == "[]"
    assert "load" in dir(walle_engine)
    with pytest.raises(AttributeError):
        _ = walle_engine.nothing


@pytest.mark.parametrize(
    "dtype", ["float16", "float64", "int8", "int16", "int32", "uint8", "uint16", "uint32"]
)
def test_narrow_types_are_widened_and_narrowed_at_the_edge_of_an_op(dtype: str) -> None:
    builder = api.GraphBuilder()
    name = dtype_of_format(np.dtype(dtype).char, np.dtype(dtype).itemsize)
    builder.input("a", name, [3])
    builder.input("b", name, [1])
    builder.node("Add", ["a", "b"], ["s"])
    builder.node("ReduceMax", ["s"], ["y"], keepdims=0)
    builder.output("s")
    builder.output("y")
    a, b = np.array([1, 2, 100], dtype), np.array([100], dtype)
    got = builder.finish().session().run({"a": a, "b": b})
    np.testing.assert_array_equal(np.asarray(got["s"]), a + b)  # int8 wraps in both
    np.testing.assert_array_equal(np.asarray(got["y"]), (a + b).max())


def test_bfloat16_keeps_its_bits_in_buffers_and_its_values_in_lists() -> None:
    builder = api.GraphBuilder()
    builder.input("x", "F32", [2])
    builder.node("Cast", ["x"], ["y"], to="BF16")
    builder.node("Mul", ["y", "y"], ["z"])
    builder.output("y")
    builder.output("z")
    got = builder.finish().session().run({"x": [1.5, -3.0]})
    assert got["y"].tolist() == [1.5, -3.0]
    assert got["z"].tolist() == [2.25, 9.0]
    assert memoryview(got["y"]).tolist() == [0x3FC0, 0xC040]


def test_unsigned_64_bit_arithmetic_wraps() -> None:
    builder = api.GraphBuilder()
    builder.input("x", "U64", [2])
    builder.node("Add", ["x", "x"], ["y"], name="sum")
    builder.output("y")
    assert builder.finish().session().run({"x": [1, 2**63 + 1]})["y"].tolist() == [2, 2]


def test_many_inputs_and_odd_buffers_take_the_long_way() -> None:
    builder = api.GraphBuilder("sum")
    names = [f"x{i}" for i in range(20)]
    for name in names:
        builder.input(name, "F32", [2])
    builder.node("Sum", names, ["y"])
    builder.output("y")
    session = builder.finish().session()
    inputs: dict[str, object] = {name: np.full(2, i, np.float32) for i, name in enumerate(names)}
    assert session.run(inputs)["y"].tolist() == [190, 190]
    inputs["x0"] = np.arange(4, dtype=np.float32)[::2]
    assert session.run(inputs)["y"].tolist() == [190, 192]
    mlp = _mlp().session()
    for value in (np.ones((4, 4), np.float32)[::2, ::2], np.asfortranarray(np.ones((2, 2), np.float32))):
        assert mlp.run({"x": value})["y"].shape == (2, 2)
    with pytest.raises(EngineError, match="F64, not F32"):
        mlp.run({"x": np.ones((1, 2))})
    with pytest.raises(EngineError, match="no input 'z'"):
        mlp.run({"x": np.ones((1, 2), np.float32), "z": np.ones(1, np.float32)})


def test_a_buffer_may_change_the_inputs_it_is_read_from() -> None:
    class Greedy:
        def __buffer__(self, flags: int, /) -> memoryview:
            inputs.clear()
            return memoryview(np.ones((1, 2), np.float32))

    session = _mlp().session()
    inputs: dict[str, object] = {"x": Greedy()}
    with pytest.raises(EngineError, match="missing"):
        session.run(inputs)
    assert session.run({"x": np.ones((1, 2), np.float32)})["y"].shape == (1, 2)


def test_the_result_outlives_its_session() -> None:
    gc.collect()  # what other tests left in cycles
    before = api.live_blocks()
    y = _mlp().session().run({"x": np.ones((1, 2), np.float32)})["y"]
    assert memoryview(y).tolist() == [[3.5, 0.0]]
    assert np.from_dlpack(y).tolist() == [[3.5, 0.0]]
    del y
    assert api.live_blocks() == before
