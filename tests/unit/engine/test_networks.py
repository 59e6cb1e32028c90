"""The shared networks: right in the engine, and tame enough that errors and speeds mean something."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from walle_engine import api
from walle_support.networks import Network, din, small

_NETWORKS = dict(small())


def _outputs(network: Network) -> list[np.ndarray]:
    return [np.asarray(value) for value in network.load().session().run(network.inputs).values()]


#: Relative Frobenius error against ONNX Runtime's float32.
_BOUNDS: dict[api.Precision, float] = {"highest": 1e-5, "high": 1e-4, "medium": 0.03}


@pytest.mark.parametrize("network", _NETWORKS.values(), ids=list(_NETWORKS))
def test_a_network_computes_what_onnx_runtime_computes(network: Network) -> None:
    onnx.checker.check_model(network.proto, full_check=True)
    peer = onnxruntime.InferenceSession(network.proto.SerializeToString())
    wanted = peer.run(None, dict(network.inputs))
    model = network.load()
    for precision, bound in _BOUNDS.items():
        results = model.session(precision=precision).run(network.inputs)
        for ours, theirs in zip(results.values(), wanted, strict=True):
            assert np.linalg.norm(ours - theirs) <= bound * np.linalg.norm(theirs), precision
            if precision != "medium":
                np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("network", _NETWORKS.values(), ids=list(_NETWORKS))
def test_activations_keep_their_size(network: Network) -> None:
    model = onnx.shape_inference.infer_shapes(network.proto)
    layers = {
        name
        for node in model.graph.node
        if node.op_type in ("Conv", "Gemm", "MatMul")
        for name in node.output
    }
    del model.graph.output[:]
    model.graph.output.extend(value for value in model.graph.value_info if value.name in layers)
    for value in onnxruntime.InferenceSession(model.SerializeToString()).run(None, dict(network.inputs)):
        assert 0.03 < np.sqrt(np.mean(np.square(value))) < 10


def test_din_depends_on_its_attention() -> None:
    (sharp,), (uniform,) = _outputs(din(batch=8)), _outputs(din(batch=8, sharpness=0))
    assert np.abs(sharp - uniform).max() > 0.05
