from __future__ import annotations

import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.backend.base import Backend

from walle_engine import onnx_backend
from walle_shared.errors import ConfigError, EngineError, ModelError, UnsupportedError


def _model(op: str = "Relu", inputs: int = 1) -> object:
    names = [f"x{i}" for i in range(inputs)]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2]) for name in names]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])
    graph = helper.make_graph([helper.make_node(op, names, ["y"])], "g", values, [output])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])


X = np.array([[-1, 2]], np.float32)


def test_the_class_is_an_onnx_backend_and_the_module_has_its_functions() -> None:
    assert issubclass(onnx_backend.WalleBackend, Backend)
    assert onnx_backend.supports_device("CPU")
    assert onnx_backend.supports_device("CPU:0")
    assert not onnx_backend.supports_device("CUDA")
    (y,) = onnx_backend.run_model(_model(), [X])
    np.testing.assert_array_equal(y, [[0, 2]])


def test_a_prepared_model_runs_with_inputs_by_order_and_by_name() -> None:
    prepared = onnx_backend.prepare(_model("Sub", 2), threads=1)
    np.testing.assert_array_equal(prepared.run([X, X])[0], np.zeros((1, 2)))
    np.testing.assert_array_equal(prepared.run({"x1": X, "x0": 2 * X})[0], X)


def test_a_node_runs_by_itself() -> None:
    node = helper.make_node("Concat", ["a", "b"], ["y"], axis=0)
    (y,) = onnx_backend.run_node(node, [X, X])
    np.testing.assert_array_equal(y, np.concatenate([X, X]))
    (y,) = onnx_backend.run_node(node, [X, X], outputs_info=[(np.float32, (2, 2))], opset_version=13)
    assert y.shape == (2, 2)


def test_bfloat16_goes_in_and_comes_out() -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    x = np.array([1.5, -2], ml_dtypes.bfloat16)
    (y,) = onnx_backend.run_node(node, [x])
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y.astype(np.float32), [1.5, -2])


def test_what_cannot_run_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="'CUDA'"):
        onnx_backend.prepare(_model(), "CUDA")
    with pytest.raises(ConfigError, match="speed"):
        onnx_backend.prepare(_model(), speed=11)
    with pytest.raises(ConfigError, match="speed"):
        onnx_backend.prepare(_model()).run([X], speed=11)
    with pytest.raises(ModelError, match="2 inputs were given, the model has 1"):
        onnx_backend.prepare(_model()).run([X, X])
    with pytest.raises(ModelError, match="not valid ONNX"):
        onnx_backend.prepare(helper.make_model(helper.make_graph([], "", [], [])))
    with pytest.raises(ModelError, match="No schema"):
        onnx_backend.run_node(helper.make_node("Nonsense", ["x"], ["y"]), [X])
    with pytest.raises(EngineError):
        onnx_backend.run_model(_model(), [X.astype(np.int32)])


def test_compatible_is_what_can_be_prepared() -> None:
    assert onnx_backend.is_compatible(_model())
    assert not onnx_backend.is_compatible(_model(), "CUDA")
    unknown = helper.make_model(
        helper.make_graph(
            [helper.make_node("Thing", ["x"], ["y"], domain="com.example")],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        ),
        opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("com.example", 1)],
    )
    assert not onnx_backend.is_compatible(unknown)
    with pytest.raises(UnsupportedError, match=r"com\.example\.Thing"):
        onnx_backend.prepare(unknown)


@pytest.mark.slow
def test_running_a_model_imports_no_other_runtime() -> None:
    code = (
        "import sys, numpy as np; from onnx import helper; from walle_engine import onnx_backend as b;"
        "b.run_node(helper.make_node('Relu', ['x'], ['y']), [np.ones(2, np.float32)]);"
        "sys.exit(any(m.startswith(('onnx.reference', 'onnxruntime', 'torch')) for m in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
