"""The OpenCL back end, on whatever device there is: PoCL makes one of the processor."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from walle_engine import api
from walle_shared.errors import ConfigError, EngineError

_SRC = Path(__file__).parents[3] / "engine_c" / "src" / "backend"

needs_device = pytest.mark.skipif(
    not api.devices(), reason="no OpenCL device: a driver such as pocl-opencl-icd makes one of the processor"
)

type Array = np.ndarray[Any, Any]

_DTYPES = {
    "float32": "F32",
    "float64": "F64",
    "float16": "F16",
    "int32": "I32",
    "int64": "I64",
    "uint8": "U8",
}


def _f(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def _model(
    op: str, inputs: list[Array], weights: tuple[Array, ...] = (), outputs: int = 1, **attrs: object
) -> tuple[api.Model, dict[str, Array]]:
    builder = api.GraphBuilder(op)
    for index, value in enumerate(inputs):
        builder.input(f"x{index}", _DTYPES[str(value.dtype)], value.shape)
    for index, value in enumerate(weights):
        builder.weight(f"w{index}", value)
    names = [f"x{i}" for i in range(len(inputs))] + [f"w{i}" for i in range(len(weights))]
    results = [f"y{index}" for index in range(outputs)]
    builder.node(op, names, results, name="node", **attrs)
    for name in results:
        builder.output(name)
    return builder.finish(), {f"x{index}": value for index, value in enumerate(inputs)}


def _explained(session: api.Session) -> dict[str, Any]:
    return dict(session.explain())


def _places(session: api.Session) -> set[str]:
    return {step["place"] for step in _explained(session)["steps"]}


def _assert_as_cpu(model: api.Model, feeds: Mapping[str, Array], places: set[str]) -> None:
    session = model.session(backend="opencl")
    exact = model.session(backend="cpu", precision="highest")
    got, want = session.run(feeds), exact.run(feeds)
    assert _places(session) == places
    for name, value in want.items():
        found, expected = np.asarray(got[name]), np.asarray(value)
        assert found.dtype == expected.dtype
        if expected.dtype.kind == "f":
            np.testing.assert_allclose(found, expected, rtol=3e-5, atol=3e-5)
        else:
            np.testing.assert_array_equal(found, expected)


_INDICES = np.array([[3, -1], [0, 2]], np.int64)

CASES: dict[str, tuple[str, list[Array], tuple[Array, ...], dict[str, Any]]] = {
    "function": ("Erf", [_f(3, 1001)], (), {}),
    "of integers": ("Abs", [np.array([-3, 0, 2**31 + 5], np.int64)], (), {}),
    "broadcast": ("Sub", [_f(4, 1, 5), _f(3, 1)], (), {}),
    "comparison": ("Less", [_f(3, 7), _f(7)], (), {}),
    "choice": ("Where", [_f(3, 5), _f(3, 1)], (), {}),
    "product": ("MatMul", [_f(2, 37, 64), _f(2, 64, 36)], (), {}),
    "product of odd sizes": ("MatMul", [_f(5, 7), _f(7, 3)], (), {}),
    "product of doubles": ("MatMul", [_f(5, 7).astype(np.float64), _f(7, 3).astype(np.float64)], (), {}),
    "product with a long sum": ("MatMul", [_f(2, 2048)], (_f(2048, 3),), {}),
    "product of several panels": ("MatMul", [_f(50, 300)], (_f(300, 70),), {}),
    "product of columns": ("Gemm", [_f(40, 14), _f(33, 40), _f(33)], (), {"transA": 1, "transB": 1}),
    "sum": ("ReduceSum", [_f(3, 500)], (np.array([1]),), {}),
    "largest of columns": ("ReduceMax", [_f(50, 6)], (np.array([0]),), {}),
    "place of the largest": ("ArgMax", [_f(4, 9, 3)], (), {"axis": 1}),
    "transposition": ("Transpose", [_f(3, 4, 5)], (), {"perm": [2, 0, 1]}),
    "several regions": ("Concat", [_f(2, 3), _f(2, 1), _f(2, 4)], (), {"axis": 1}),
    "padding": ("Pad", [_f(3, 4)], (np.array([1, 0, 2, 1]), np.float32(7).reshape(())), {}),
    "indexed read": ("Gather", [_f(4, 6)], (_INDICES,), {}),
    "indexed write": ("ScatterElements", [_f(4, 2), _f(2, 2)], (), {"reduction": "add"}),
    "convolution": ("Conv", [_f(2, 6, 9, 7)], (_f(8, 6, 3, 3), _f(8)), {"pads": [1, 0, 2, 1]}),
    "convolution of long rows": ("Conv", [_f(2, 3, 5, 40)], (_f(7, 3, 3, 3),), {"pads": [1, 1, 1, 1]}),
    "convolution of points": ("Conv", [_f(2, 8, 4, 4)], (_f(12, 8, 1, 1),), {}),
    "convolution of groups": ("Conv", [_f(1, 40, 6, 6)], (_f(40, 20, 3, 3),), {"group": 2}),
    "depthwise convolution": ("Conv", [_f(1, 8, 6, 6)], (_f(8, 1, 3, 3),), {"group": 8}),
    "pool": ("MaxPool", [_f(1, 3, 9, 9)], (), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}),
    "mean": ("AveragePool", [_f(1, 3, 9, 9)], (), {"kernel_shape": [3, 3], "pads": [1] * 4}),
    "softmax": ("Softmax", [_f(3, 130)], (), {}),
    "norm": ("LayerNormalization", [_f(3, 130)], (_f(130), _f(130)), {}),
    "attention": ("Attention", [_f(1, 2, 35, 16), _f(1, 2, 70, 16), _f(1, 2, 70, 8)], (), {"is_causal": 1}),
}  # fmt: skip


@needs_device
@pytest.mark.parametrize("name", CASES)
def test_a_device_computes_what_the_cpu_does(name: str) -> None:
    op, inputs, weights, attrs = CASES[name]
    if op == "Where":
        weights, inputs = (), [inputs[0] > 0, *inputs]  # type: ignore[assignment]
        builder = api.GraphBuilder(op)
        builder.input("x0", "BOOL", inputs[0].shape)
        for index in (1, 2):
            builder.input(f"x{index}", "F32", inputs[index].shape)
        builder.node(op, ["x0", "x1", "x2"], ["y0"], name="node")
        builder.output("y0")
        model, feeds = builder.finish(), {f"x{i}": value for i, value in enumerate(inputs)}
    elif op == "ScatterElements":
        model, feeds = _model(op, [inputs[0], np.array([[1, 1], [3, 1]], np.int64), inputs[1]], **attrs)
    else:
        model, feeds = _model(op, inputs, weights, **attrs)
    _assert_as_cpu(model, feeds, {"opencl"})


@needs_device
@pytest.mark.parametrize("dtype", ["float16", "int32"])
def test_casts_round_as_the_cpu_does(dtype: str) -> None:
    values = np.array([0, -0.5, 1.5, 2.5, 65504, 1e5, -1e9, 3e9, np.inf, 2.0**-24], np.float32)
    model, feeds = _model("Cast", [values], to=_DTYPES[dtype])
    _assert_as_cpu(model, feeds, {"opencl"})


@needs_device
@pytest.mark.parametrize("op", ["RandomUniform", "RandomNormal"])
def test_numbers_of_a_seed_are_those_of_the_cpu(op: str) -> None:
    model, feeds = _model(op, [], shape=[7, 11], seed=3.0)
    _assert_as_cpu(model, feeds, {"opencl"})


@needs_device
def test_a_chain_is_one_launch() -> None:
    builder = api.GraphBuilder("chain")
    builder.input("x", "F32", (3, 50))
    builder.weight("half", np.float32(0.5).reshape(()))
    for op, inputs, output in (("Erf", ["x"], "a"), ("Add", ["a", "half"], "b"), ("Mul", ["x", "b"], "y")):
        builder.node(op, inputs, [output], name=op)
    builder.output("y")
    model, feeds = builder.finish(), {"x": _f(3, 50)}
    _assert_as_cpu(model, feeds, {"opencl"})
    session = model.session(backend="opencl")
    session.run(feeds)
    assert [step["command"] for step in _explained(session)["steps"]] == ["chain"]


@needs_device
def test_what_follows_a_convolution_becomes_part_of_it() -> None:
    builder = api.GraphBuilder("block")
    builder.input("x", "F32", (1, 8, 5, 5))
    builder.weight("w", _f(8, 8, 3, 3))
    builder.node("Conv", ["x", "w"], ["c"], name="conv", pads=[1] * 4)
    builder.node("Add", ["c", "x"], ["s"], name="add")
    builder.node("Relu", ["s"], ["y"], name="relu")
    builder.output("y")
    model, feeds = builder.finish(), {"x": _f(1, 8, 5, 5)}
    _assert_as_cpu(model, feeds, {"opencl"})
    session = model.session(backend="opencl")
    session.run(feeds)
    assert [step["function"] for step in _explained(session)["steps"]] == ["tiled_conv"]


@needs_device
def test_what_the_device_has_no_kernel_for_runs_on_the_cpu() -> None:
    builder = api.GraphBuilder("mixed")
    builder.input("x", "F32", (1, 2, 4, 4))
    builder.input("grid", "F32", (1, 3, 3, 2))
    builder.node("Exp", ["x"], ["e"], name="exp")
    builder.node("GridSample", ["e", "grid"], ["g"], name="sample")
    builder.node("Softmax", ["g"], ["s"], name="softmax")
    builder.node("Sqrt", ["g"], ["r"], name="root")
    builder.output("s")
    builder.output("r")
    feeds = {"x": _f(1, 2, 4, 4), "grid": np.tanh(_f(1, 3, 3, 2))}
    _assert_as_cpu(builder.finish(), feeds, {"cpu", "opencl"})


@needs_device
def test_an_index_outside_is_named() -> None:
    model, feeds = _model("Gather", [_f(4, 6), np.array([0, 4], np.int64)])
    session = model.session(backend="opencl")
    with pytest.raises(EngineError, match="index 4 is outside an axis of 4") as caught:
        session.run(feeds)
    assert (caught.value.op, caught.value.node) == ("Gather", "node")
    good = session.run(feeds | {"x1": np.array([0, 3], np.int64)})  # the session is none the worse for it
    np.testing.assert_array_equal(np.asarray(good["y0"]), feeds["x0"][[0, 3]])


@needs_device
def test_runs_may_overlap() -> None:
    model, _ = _model("MatMul", [_f(32, 64)], (_f(64, 48),))
    session = model.session(backend="opencl")
    inputs = [_f(32, 64) * scale for scale in range(1, 5)]
    results: list[Array] = [np.empty(0)] * len(inputs)

    def run(index: int) -> None:
        for _ in range(10):
            results[index] = np.asarray(session.run({"x0": inputs[index]})["y0"])

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for scale, result in enumerate(results, start=1):
        np.testing.assert_allclose(result, results[0] * scale, rtol=1e-5, atol=1e-4)


@needs_device
def test_steps_are_profiled() -> None:
    model, feeds = _model("Erf", [_f(100)])
    session = model.session(backend="opencl")
    with session.profile() as profile:
        session.run(feeds)
    assert [step.candidate for step in profile.steps] == ["opencl"]


def _convolutions(weights: list[Array]) -> tuple[api.Model, dict[str, Array]]:
    """One behind the other, a pool between the first two; some depthwise, the last with a residual."""
    builder = api.GraphBuilder("convolutions")
    builder.input("x", "F32", (1, 16, 20, 21))
    last = "x"
    for index, value in enumerate(weights):
        builder.weight(f"w{index}", value)
        group = 1 if value.shape[1] > 1 else value.shape[0]
        pads = [value.shape[2] // 2] * 4
        builder.node("Conv", [last, f"w{index}"], [f"c{index}"], name=f"conv{index}", pads=pads, group=group)
        builder.node("Relu", [f"c{index}"], [f"r{index}"], name=f"relu{index}")
        last = f"r{index}"
        if index == 0:
            builder.node("MaxPool", [last], ["p"], name="pool", kernel_shape=[3, 3], pads=[1] * 4)
            last = "p"
    builder.node("Conv", [last, "w1"], ["c"], name="last", pads=[1] * 4, group=16)
    builder.node("Add", ["c", last], ["y"], name="add")
    builder.output("y")
    return builder.finish(), {"x": _f(1, 16, 20, 21)}


_SHAPES = ((16, 16, 3, 3), (16, 1, 3, 3), (16, 16, 1, 1))


def _norm_error(got: object, want: object) -> float:
    found, expected = (np.asarray(value, np.float64) for value in (got, want))
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@needs_device
def test_medium_stores_weights_and_images_in_16_bits() -> None:
    model, feeds = _convolutions([_f(*shape) * np.float32(0.3) for shape in _SHAPES])
    want = model.session(backend="cpu", precision="highest").run(feeds)["y"]
    seen = {}
    for precision in ("high", "medium"):
        session = model.session(backend="opencl", precision=precision)
        got = session.run(feeds)["y"]
        explained = _explained(session)
        seen[precision] = explained["device_memory"]
        forms = [step["out"]["dtype"] for step in explained["steps"]]
        assert forms == ["BF16" if precision == "medium" else "F32"] * 4 + ["F32"]
        assert _norm_error(got, want) <= (2e-2 if precision == "medium" else 1e-5)
    cpu = model.session(backend="cpu", precision="medium").run(feeds)["y"]
    assert _norm_error(cpu, want) <= 2e-2
    floats = sum(int(np.prod(shape)) for shape in _SHAPES)
    assert seen["high"]["constant_bytes"] - seen["medium"]["constant_bytes"] == pytest.approx(
        2 * floats, abs=3 * 256
    )  # each begins at a multiple of 256
    assert seen["medium"]["run_bytes"] < seen["high"]["run_bytes"]


@needs_device
def test_weights_that_are_halves_are_stored_as_such() -> None:
    weights = [_f(*shape).astype(np.float16).astype(np.float32) for shape in _SHAPES]
    model, feeds = _convolutions(weights)
    others, _ = _convolutions([value + np.float32(1e-4) for value in weights])
    session, wider = (m.session(backend="opencl", precision="highest") for m in (model, others))
    got = session.run(feeds)["y"]
    wider.run(feeds)
    assert _norm_error(got, model.session(backend="cpu", precision="highest").run(feeds)["y"]) <= 1e-6
    halves, floats = (_explained(s)["device_memory"]["constant_bytes"] for s in (session, wider))
    assert halves < 0.6 * floats


def _model_of_halves() -> tuple[api.Model, dict[str, Array]]:
    builder = api.GraphBuilder("halves")
    builder.input("x", "F16", (1, 16, 20, 21))
    for name, shape in (("w", (16, 16, 3, 3)), ("d", (16, 1, 3, 3)), ("m", (21, 24))):
        builder.weight(name, (_f(*shape) * np.float32(0.1)).astype(np.float16))
    builder.node("Conv", ["x", "w"], ["c"], name="conv", pads=[1] * 4)
    builder.node("Sigmoid", ["c"], ["s"], name="sigmoid")
    builder.node("Mul", ["c", "s"], ["p"], name="gate")
    builder.node("Conv", ["p", "d"], ["e"], name="depthwise", pads=[1] * 4, group=16)
    builder.node("MatMul", ["e", "m"], ["y"], name="product")
    builder.output("y")
    return builder.finish(), {"x": _f(1, 16, 20, 21).astype(np.float16)}


@needs_device
def test_a_model_of_halves_needs_no_casts() -> None:
    model, feeds = _model_of_halves()
    session = model.session(backend="opencl")
    got, want = (np.asarray(s.run(feeds)["y"]) for s in (session, model.session(precision="highest")))
    assert got.dtype == np.float16
    assert _norm_error(got, want) <= 1e-3
    steps = _explained(session)["steps"]
    assert [step["out"]["dtype"] for step in steps] == ["F16"] * 5
    assert "cast" not in {step["command"] for step in steps}
    apart = model.session(backend="opencl", fuse=False)
    np.testing.assert_array_equal(np.asarray(apart.run(feeds)["y"]), got)  # to the bit
    assert "cast" in {step["command"] for step in _explained(apart)["steps"]}
    assert _explained(apart)["device_memory"]["run_bytes"] > _explained(session)["device_memory"]["run_bytes"]


@needs_device
def test_a_product_reads_constants_of_16_bits_in_any_order() -> None:
    halves = _f(60, 44).astype(np.float16).astype(np.float32)
    for op, inputs, attrs in (
        ("MatMul", [_f(3, 33, 60)], {}),
        ("Gemm", [_f(33, 44)], {"transB": 1}),
        ("Gemm", [_f(60, 33)], {"transA": 1}),
    ):
        model, feeds = _model(op, inputs, (halves,), **attrs)
        _assert_as_cpu(model, feeds, {"opencl"})
        got = model.session(backend="opencl", precision="medium").run(feeds)["y0"]
        np.testing.assert_allclose(
            np.asarray(got), np.asarray(model.session(precision="highest").run(feeds)["y0"]), atol=1e-4
        )  # what is a half already is not rounded


def test_settings_are_checked() -> None:
    model, _ = _model("Erf", [_f(4)])
    for backend in ("gpu", "opencl:", "opencl:x", "cpu:0", "auto:y"):
        with pytest.raises(ConfigError, match="is unknown; use 'cpu', 'opencl', 'auto'"):
            model.session(backend=backend)
    with pytest.raises(ConfigError, match=r"no OpenCL device 99|there is none"):
        model.session(backend="opencl:99")


_TWICE = """
import sys, numpy as np
from walle_engine import api
builder = api.GraphBuilder("cached")
builder.input("x", "F32", (3, 4))
builder.node("Asinh", ["x"], ["y"], name="node")
builder.output("y")
x = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)
y = builder.finish().session(backend="opencl").run({"x": x})["y"]
np.testing.assert_allclose(np.asarray(y), np.arcsinh(x), rtol=1e-6)
"""


@needs_device
@pytest.mark.slow
def test_programs_are_kept_and_bad_files_left_aside(tmp_path: Path) -> None:
    environment = {**os.environ, "WALLE_CACHE_HOME": str(tmp_path), "WALLE_ENGINE_CALIBRATION": ""}

    def run() -> None:
        subprocess.run([sys.executable, "-c", _TWICE], env=environment, check=True, timeout=60)

    run()
    (kept,) = (tmp_path / "opencl").iterdir()
    whole = kept.read_bytes()
    for damaged in (whole[:-50], b"", whole.replace(b"asinh", b"acosh")):
        kept.write_bytes(damaged)
        run()
        assert kept.read_bytes()[:2000] == whole[:2000]  # written anew


_TUNED = """
import numpy as np
from walle_engine import api
builder = api.GraphBuilder("tuned")
builder.input("x", "F32", (20, 300))
builder.weight("w", np.ones((300, 40), np.float32))
builder.node("MatMul", ["x", "w"], ["y"], name="node")
builder.output("y")
session = builder.finish().session(backend="opencl", search="measure", search_s=0.05)
y = np.asarray(session.run({"x": np.ones((20, 300), np.float32)})["y"])
assert (y == 300).all()
"""


@needs_device
@pytest.mark.slow_session
def test_timed_products_are_kept_and_bad_lines_passed_over(tmp_path: Path) -> None:
    environment = {**os.environ, "WALLE_CACHE_HOME": str(tmp_path), "WALLE_ENGINE_CALIBRATION": ""}

    def run() -> None:
        subprocess.run([sys.executable, "-c", _TUNED], env=environment, check=True, timeout=120)

    run()
    (path,) = (tmp_path / "opencl").glob("tuned-*.txt")
    assert re.fullmatch(r"20x40x300x1:\S+ \d+ \d+\n", path.read_text())
    for text in (path.read_text().replace(" ", " 99 "), "no numbers here", "x" * 5000):
        path.write_text(text)
        run()


_CUTS = """
import numpy as np
from walle_engine import api
random = np.random.default_rng(0)
values = lambda *shape: random.standard_normal(shape).astype(np.float32)

def check(op, inputs, weights=(), **attrs):
    builder = api.GraphBuilder(op)
    names = [f"x{i}" for i in range(len(inputs))] + [f"w{i}" for i in range(len(weights))]
    for name, value in zip(names, inputs):
        builder.input(name, "F32", value.shape)
    for name, value in zip(names[len(inputs):], weights):
        builder.weight(name, value)
    builder.node(op, names, ["y"], name="node", **attrs)
    builder.output("y")
    model, feeds = builder.finish(), dict(zip(names, inputs))
    got = model.session(backend="opencl", search="measure", search_s=0.02).run(feeds)["y"]
    want = model.session(backend="cpu", precision="highest").run(feeds)["y"]
    np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=3e-5, atol=1e-4)

check("MatMul", [values(2, 33, 520), values(2, 520, 35)])
check("MatMul", [values(1, 700), values(700, 90)])
check("Gemm", [values(300, 21), values(67, 300), values(67)], transA=1, transB=1)
check("Conv", [values(2, 30, 6, 37)], [values(21, 30, 3, 3), values(21)], pads=[1, 1, 1, 1])
check("Conv", [values(2, 40, 9, 7)], [values(24, 20, 3, 3)], group=2, strides=[2, 1])
check("Conv", [values(3, 260, 5, 5)], [values(20, 260, 1, 1), values(20)])
"""


@needs_device
@pytest.mark.slow_session
def test_a_device_computes_products_cut_in_every_way(tmp_path: Path) -> None:
    environment = {**os.environ, "WALLE_CACHE_HOME": str(tmp_path), "WALLE_ENGINE_CALIBRATION": ""}

    def run() -> None:
        subprocess.run([sys.executable, "-c", _CUTS], env=environment, check=True, timeout=300)

    run()
    (path,) = (tmp_path / "opencl").glob("tuned-*.txt")
    keys = [line.split()[0] for line in path.read_text().splitlines()]
    assert len(keys) == 6
    rows = re.findall(r"^WE_OPENCL_\w+_ROW\(", (_SRC / "opencl" / "tiles.inc").read_text(), re.MULTILINE)
    for tile in range(len(rows)):  # those that the device has not are passed over
        for splits in (1, 2, 4):
            path.write_text("".join(f"{key} {tile} {splits}\n" for key in keys))
            run()


# ---- No more kernels than the op table asks for ------------------------------------------------------------

#: Programs for atomic operators, and for the raster.
_ATOMIC = {"elementwise", "reduce", "loop", "matmul", "raster"}


def _claims(backend: str) -> set[str]:
    rows = (_SRC / "claims.inc").read_text()
    return set(re.findall(rf"^WE_CLAIM_ROW\(\w+, {backend}, (\w+)\)", rows, re.MULTILINE))


def test_a_program_is_for_an_atom_or_a_declared_claim() -> None:
    folder = _SRC / "opencl"
    claimed = {name: (folder / f"claim_{name}.c").read_text() for name in _claims("opencl")}
    assert {f"claim_{name}.c" for name in claimed} == {path.name for path in folder.glob("claim_*.c")}
    texts = [*claimed.values(), *(path.read_text() for path in (folder / "rows.c", folder / "window.c"))]
    used = set(re.findall(r"we_cl_(\w+)", "".join(texts)))
    assert {path.stem for path in folder.glob("*.cl")} == _ATOMIC | used


def test_every_claim_of_the_cpu_is_declared() -> None:
    declared = _claims("cpu")
    exported: set[str] = set()
    for path in (_SRC / "cpu").glob("*.c"):
        exported |= set(
            re.findall(r"^const we_claim_methods we_claim_(\w+) =", path.read_text(), re.MULTILINE)
        )
    assert exported
    assert exported <= declared


@needs_device
def test_devices_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    from walle_engine.cli import main

    assert main(["devices", "--json"]) == 0
    (first, *_) = json.loads(capsys.readouterr().out)["devices"]
    assert (first["name"], first["units"]) == (api.devices()[0].name, api.devices()[0].units)
    assert main(["devices"]) == 0
    assert "opencl:0" in capsys.readouterr().out


@needs_device
def test_explain_shows_both_places(perceptron: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from walle_engine.cli import main

    assert main(["explain", str(perceptron), "--backend", "auto", "--no-run", "--dim", "N=4"]) == 0
    shown = capsys.readouterr().out
    assert "device µs" in shown
    assert "copies in a run: " in shown
    assert main(["run", str(perceptron), "--backend", "opencl", "--dim", "N=4"]) == 0
