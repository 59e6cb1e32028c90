"""Quantised models in the form DequantizeLinear -> operator -> QuantizeLinear run as layers on bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from walle_engine import _native, api
from walle_shared.errors import ModelError

Array = np.ndarray[Any, Any]


@pytest.fixture(autouse=True)
def _standard_rates() -> Iterator[None]:
    _native.reset_parameters()
    yield
    _native.reset_parameters()


class _Net:
    """A network that is written down as tools for quantisation do it."""

    def __init__(self, seed: int = 0) -> None:
        self.builder = api.GraphBuilder("quantised")
        self.rng = np.random.default_rng(seed)
        self.count = 0

    def name(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def weight(self, value: Any, dtype: str) -> str:
        name = self.name()
        self.builder.weight(name, np.asarray(value, dtype))
        return name

    def node(self, op: str, inputs: list[str], **attrs: Any) -> str:
        name = self.name()
        self.builder.node(op, inputs, [name], **attrs)
        return name

    def quantised(self, x: str, scale: float, zero: int = 0, dtype: str = "u1") -> tuple[str, list[str]]:
        """x as bytes, and what they stand for."""
        how = [self.weight(scale, "f4"), self.weight(zero, dtype)]
        return self.node("QuantizeLinear", [x, *how]), how

    def through(self, x: str, scale: float, zero: int = 0, dtype: str = "u1") -> str:
        stored, how = self.quantised(x, scale, zero, dtype)
        return self.node("DequantizeLinear", [stored, *how])

    def weights(self, *shape: int, axis: int = 0) -> tuple[str, Array]:
        scale = self.rng.uniform(0.002, 0.01, shape[axis]).astype("f4")
        stored = [self.weight(self.rng.integers(-127, 128, shape), "i1"), self.weight(scale, "f4")]
        zero = self.weight(np.zeros(shape[axis]), "i1")
        return self.node("DequantizeLinear", [*stored, zero], axis=axis), scale

    def bias(self, scale: Array) -> str:
        stored = self.weight(self.rng.integers(-500, 500, len(scale)), "i4")
        return self.node("DequantizeLinear", [stored, self.weight(scale, "f4")], axis=0)


def _residual_net(dtype: str = "u1", side: int = 12) -> tuple[api.Model, dict[str, Array]]:
    """All forms of layers, one behind the other."""
    net = _Net()
    zero = 0 if dtype == "u1" else -128
    net.builder.input("image", "F32", [1, 3, side, side])
    x = net.through("image", 0.02, 120 if dtype == "u1" else -8, dtype)
    w, scale = net.weights(64, 3, 3, 3)
    x = net.node("Conv", [x, w, net.bias(scale * np.float32(0.02))], pads=[1, 1, 1, 1])
    x = net.through(net.node("Relu", [x]), 0.03, zero, dtype)
    x = net.through(net.node("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2]), 0.03, zero, dtype)
    w, scale = net.weights(64, 64, 1, 1)
    y = net.node("Conv", [x, w, net.weight(net.rng.normal(0, 1, 64), "f4")])
    y = net.through(y, 0.1, 100 if dtype == "u1" else -28, dtype)
    x = net.through(net.node("Relu", [net.node("Add", [y, x])]), 0.08, zero, dtype)
    w, scale = net.weights(64, 1, 3, 3)
    limits = [net.weight(0.0, "f4"), net.weight(6.0, "f4")]
    y = net.node("Conv", [x, w, net.bias(scale * np.float32(0.08))], group=64, pads=[1, 1, 1, 1])
    x = net.through(net.node("Clip", [y, *limits]), 6 / 255, zero, dtype)
    x = net.through(net.node("GlobalAveragePool", [x]), 0.02, zero, dtype)
    x = net.through(net.node("Flatten", [x]), 0.02, zero, dtype)
    w, scale = net.weights(10, 64)
    x = net.node("Gemm", [x, w, net.bias(scale * np.float32(0.02))], transB=1)
    net.builder.node("Identity", [net.through(x, 0.05, 130 if dtype == "u1" else 2, dtype)], ["y"])
    net.builder.output("y")
    image = net.rng.normal(0, 1, (1, 3, side, side)).astype("f4")
    return net.builder.finish(), {"image": image}


def _steps(session: api.Session) -> list[tuple[str, str]]:
    return [(step["op"], step["candidate"]) for step in session.explain()["steps"]]


def _set_rates(bytes_per_ns: float, cycles_per_ns: float) -> None:
    for name, *_ in _native.parameters():
        if name.startswith("bytes."):
            _native.set_parameter(name, bytes_per_ns)
        if name.startswith("cycles."):
            _native.set_parameter(name, cycles_per_ns)


def _favour_bytes() -> None:
    """Even where a layer is too small to be worth it, and under every cap of the instruction set."""
    _native.set_parameter("start", 10_000.0)
    _set_rates(400.0, 0.5)


@pytest.mark.optimised("claims", "fuse")
@pytest.mark.parametrize("dtype", ["u1", "i1"])
@pytest.mark.parametrize("threads", [1, 2])
def test_every_form_becomes_a_layer_on_bytes(dtype: str, threads: int) -> None:
    _favour_bytes()
    model, feeds = _residual_net(dtype)
    session = model.session(threads=threads)
    got = np.asarray(session.run(feeds)["y"])
    names = {candidate for _, candidate in _steps(session)}
    assert {"byte_conv", "byte_depthwise", "byte_max_pool", "byte_mean", "byte_matmul"} <= names
    assert not any(op == "Conv" or op == "Gemm" for op, _ in _steps(session))
    want = np.asarray(model.session(fuse=False).run(feeds)["y"])
    # Layers on bytes sum exactly; float32 rounds, so an element may be another quantum, and move others.
    assert np.abs(got - want).max() <= 2.01 * 0.05
    assert np.mean(got == want) > 0.5


@pytest.mark.optimised("claims", "fuse", "merge", "vertical")
def test_an_addition_is_part_of_the_convolution_before_it() -> None:
    _favour_bytes()
    model, feeds = _residual_net()
    session = model.session()
    session.run(feeds)
    assert not any(candidate.startswith("byte_add") for _, candidate in _steps(session))


def _one_layer(side: int = 14) -> tuple[api.Model, dict[str, Array]]:
    net = _Net(3)
    net.builder.input("x", "F32", [1, 64, side, side])
    x = net.through("x", 0.02, 128)
    w, scale = net.weights(64, 64, 3, 3)
    x = net.node("Conv", [x, w, net.bias(scale * np.float32(0.02))], pads=[1, 1, 1, 1])
    net.builder.node("Identity", [net.through(x, 0.2, 128)], ["y"])
    net.builder.output("y")
    return net.builder.finish(), {"x": net.rng.normal(0, 1, (1, 64, side, side)).astype("f4")}


@pytest.mark.optimised("claims", "fuse")
def test_what_bytes_cost_decides() -> None:
    model, feeds = _one_layer()
    results = []
    for bytes_per_ns, cycles_per_ns, chosen in ((400.0, 0.5, True), (0.5, 5.0, False)):
        _set_rates(bytes_per_ns, cycles_per_ns)
        session = model.session()
        results.append(np.asarray(session.run(feeds)["y"]))
        assert any(candidate == "byte_conv" for _, candidate in _steps(session)) == chosen
        assert any(op == "Conv" for op, _ in _steps(session)) != chosen
        (layer,) = session.explain()["layers"]
        assert layer["on_bytes"] == (layer["bytes_ms"] <= layer["parts_ms"]) == chosen
    assert np.abs(results[0] - results[1]).max() <= 1.01 * 0.2


@pytest.mark.optimised("claims", "fuse")
def test_what_others_read_stays_as_it_is() -> None:
    net = _Net()
    net.builder.input("x", "F32", [1, 64, 9, 9])
    w, _ = net.weights(64, 64, 1, 1)
    y = net.node("Conv", [net.through("x", 0.02, 128), w])
    net.builder.node("Identity", [net.through(y, 0.1)], ["z"])
    net.builder.node("Identity", [y], ["plain"])
    net.builder.output("z")
    net.builder.output("plain")
    session = net.builder.finish().session()
    session.run({"x": np.ones((1, 64, 9, 9), "f4")})
    assert any(op == "Conv" for op, _ in _steps(session))


@pytest.mark.optimised("claims", "fuse")
def test_measuring_takes_layers_too() -> None:
    _set_rates(400.0, 0.5)
    model, feeds = _one_layer()
    session = model.session(search="measure", search_s=0.05)
    got = np.asarray(session.run(feeds)["y"])
    want = np.asarray(model.session(fuse=False).run(feeds)["y"])
    assert np.abs(got - want).max() <= 1.01 * 0.2


def test_a_bias_of_another_length_is_refused() -> None:
    builder = api.GraphBuilder("wrong")
    builder.input("x", "U8", [1, 4, 5, 5])
    for name, value in {
        "s": np.float32(0.1), "z": np.uint8(3), "w": np.zeros((4, 4, 1, 1), "i1"), "wz": np.int8(0),
        "b": np.zeros(3, "i4"),
    }.items():  # fmt: skip
        builder.weight(name, np.asarray(value))
    builder.node("QLinearConv", ["x", "s", "z", "w", "s", "wz", "s", "z", "b"], ["y"])
    builder.output("y")
    model = builder.finish()
    with pytest.raises(ModelError, match="one entry per channel"):
        model.session().run({"x": np.zeros((1, 4, 5, 5), np.uint8)})
