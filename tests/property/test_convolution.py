"""Native convolution and pooling: equal to their decomposition, with whatever is fused behind them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from walle_engine import api

Array = np.ndarray[Any, Any]


@st.composite
def _cases(draw: st.DrawFn) -> dict[str, Any]:
    kernel = [draw(st.integers(1, 4)) for _ in range(2)]
    dilation = [draw(st.integers(1, 3)) for _ in range(2)]
    size = [(k - 1) * d + draw(st.integers(1, 40)) for k, d in zip(kernel, dilation, strict=True)]
    return {
        "kernel": kernel, "dilation": dilation, "size": size,
        "pads": [draw(st.integers(0, kernel[i % 2] - 1)) for i in range(4)],
        "stride": [draw(st.integers(1, 3)) for _ in range(2)],
        "batch": draw(st.integers(1, 5)), "group": draw(st.integers(1, 3)),
        "ins": draw(st.sampled_from([1, 2, 9, 40])), "outs": draw(st.sampled_from([1, 3, 17])),
        "bias": draw(st.booleans()), "tail": draw(st.sampled_from(["", "Relu", "Add", "Add Relu", "Clip"])),
        "threads": draw(st.integers(1, 2)), "seed": draw(st.integers(0, 99)),
    }  # fmt: skip


def _model(case: dict[str, Any]) -> tuple[api.Model, dict[str, Array]]:
    """A convolution with that tail; the added tensor is a graph input of the result's shape."""
    random = np.random.default_rng(case["seed"])

    def numbers(*shape: int) -> Array:
        return random.standard_normal(shape).astype(np.float32)

    x = numbers(case["batch"], case["group"] * case["ins"], *case["size"])
    filters = case["group"] * case["outs"]
    builder = api.GraphBuilder("convolution")
    builder.input("x", "F32", x.shape)
    builder.weight("w", numbers(filters, case["ins"], *case["kernel"]))
    builder.weight("b", numbers(filters))
    builder.node(
        "Conv", ["x", "w", "b"] if case["bias"] else ["x", "w"], ["t"],
        strides=case["stride"], dilations=case["dilation"], pads=case["pads"], group=case["group"],
    )  # fmt: skip
    inputs, last = {"x": x}, "t"
    if "Add" in case["tail"]:
        spatial = [
            (n + before + after - (k - 1) * d - 1) // s + 1
            for n, before, after, k, d, s in zip(
                case["size"], case["pads"][:2], case["pads"][2:], case["kernel"], case["dilation"],
                case["stride"], strict=True,
            )
        ]  # fmt: skip
        inputs["z"] = numbers(case["batch"], filters, *spatial)
        builder.input("z", "F32", inputs["z"].shape)
        builder.node("Add", ["z", last], ["a"])
        last = "a"
    if "Relu" in case["tail"]:
        builder.node("Relu", [last], ["r"])
        last = "r"
    if case["tail"] == "Clip":
        builder.weight("low", np.float32(0))
        builder.weight("high", np.float32(2))
        builder.node("Clip", [last, "low", "high"], ["c"])
        last = "c"
    builder.output(last)
    return builder.finish(), inputs


def _only(outputs: dict[str, Any]) -> Array:
    (value,) = outputs.values()
    return np.asarray(value)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(_cases())
def test_native_convolution_equals_its_decomposition(case: dict[str, Any]) -> None:
    model, inputs = _model(case)
    want = _only(model.session(search="reference", claims=False, fuse=False).run(inputs))
    got = _only(model.session(threads=case["threads"]).run(inputs))
    terms = case["ins"] * case["kernel"][0] * case["kernel"][1]
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-6 * (terms + 8))


@st.composite
def _small_groups(draw: st.DrawFn) -> dict[str, Any]:
    """Groups of one and of a few channels, windows up to 7 x 7, rows long enough for outputs in blocks."""
    case = draw(_cases())
    case["kernel"] = [draw(st.integers(1, 7)) for _ in range(2)]
    case["size"] = [
        (k - 1) * d + draw(st.integers(1, 25)) for k, d in zip(case["kernel"], case["dilation"], strict=True)
    ]
    case["ins"] = case["outs"] = draw(st.sampled_from([1, 1, 2, 4, 8]))
    case["group"] = draw(st.integers(2, 20))
    return case


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(_small_groups())
def test_small_groups_equal_their_decomposition(case: dict[str, Any]) -> None:
    model, inputs = _model(case)
    want = _only(model.session(search="reference", claims=False, fuse=False).run(inputs))
    got = _only(model.session(threads=case["threads"]).run(inputs))
    terms = case["ins"] * case["kernel"][0] * case["kernel"][1]
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-6 * (terms + 8))


def _steps(session: api.Session) -> list[str]:
    return [step["command"] for step in session.explain()["steps"]]


@pytest.mark.of_cpu
@pytest.mark.optimised("merge", "vertical", "claims", "fuse", "isa")
@pytest.mark.parametrize("tail", ["Relu", "Clip", ""])
def test_what_follows_a_convolution_is_part_of_it(tail: str) -> None:
    case = {
        "kernel": [3, 3], "dilation": [1, 1], "size": [12, 12], "pads": [1, 1, 1, 1], "stride": [1, 1],
        "batch": 2, "group": 1, "ins": 16, "outs": 16, "bias": True, "tail": tail, "threads": 1, "seed": 0,
    }  # fmt: skip
    model, inputs = _model(case)
    session = model.session(precision="highest")
    session.run(inputs)
    assert _steps(session) == [
        "claim",
        "raster",
    ]  # the image comes as it is, the result is wanted channels first


@pytest.mark.optimised("merge", "vertical", "claims", "fuse", "isa")
def test_layouts_meet_between_convolutions() -> None:
    # Pooling, skip connections and activations run in the order of the convolutions: nothing moves between.
    random = np.random.default_rng(0)
    builder = api.GraphBuilder("residual")
    builder.input("x", "F32", [2, 16, 12, 12])
    for name in ("u", "v", "w"):
        builder.weight(name, random.standard_normal((16, 16, 3, 3)).astype(np.float32) / 12)
    builder.node("Conv", ["x", "u"], ["a"], pads=[1, 1, 1, 1])
    builder.node("MaxPool", ["a"], ["p"], kernel_shape=[2, 2], strides=[2, 2])
    builder.node("Sigmoid", ["p"], ["q"])
    builder.node("Conv", ["q", "v"], ["b"], pads=[1, 1, 1, 1])
    builder.node("Add", ["b", "q"], ["c"])
    builder.node("Relu", ["c"], ["d"])
    builder.node("Conv", ["d", "w"], ["e"], pads=[1, 1, 1, 1])
    builder.node("Add", ["d", "e"], ["f"])
    builder.node("GlobalAveragePool", ["f"], ["y"])
    builder.output("y")
    model = builder.finish()
    inputs = {"x": random.standard_normal((2, 16, 12, 12)).astype(np.float32)}
    session = model.session(verify=True, precision="highest")
    got = session.run(inputs)["y"]
    want = model.session(search="reference", claims=False, merge=False, fuse=False).run(inputs)["y"]
    np.testing.assert_allclose(np.asarray(got), np.asarray(want), atol=1e-5)
    assert "raster" not in _steps(session)


@pytest.mark.of_cpu
@pytest.mark.optimised("merge", "vertical", "claims", "fuse", "reuse", "isa")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("shared", [False, True])
def test_joined_results_are_written_where_they_are_joined(threads: int, batch: int, shared: bool) -> None:
    # Where `shared`, one more branch is joined that others read as well: that one is copied.
    random = np.random.default_rng(0)
    builder = api.GraphBuilder("join")
    builder.input("x", "F32", [batch, 33, 10, 9])
    shapes = {"s": (33, 33, 1, 1), "u": (40, 33, 1, 1), "v": (32, 33, 3, 3), "w": (33, 1, 3, 3)}
    for name, shape in {**shapes, "z": (20, 138 + 33 * shared, 1, 1)}.items():
        builder.weight(name, random.standard_normal(shape).astype(np.float32) / 10)
    builder.node("Conv", ["x", "s"], ["t"])
    builder.node("Conv", ["t", "u"], ["a"])
    builder.node("Conv", ["t", "v"], ["b"], pads=[1, 1, 1, 1])
    builder.node("Relu", ["b"], ["c"])
    builder.node("Conv", ["t", "w"], ["d"], pads=[1, 1, 1, 1], group=33)
    builder.node("MaxPool", ["t"], ["e"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    builder.node("Concat", ["a", "c", "d", "e", "t"] if shared else ["a", "c", "d", "e"], ["j"], axis=1)
    builder.node("Conv", ["j", "z"], ["k"])
    builder.node("GlobalAveragePool", ["k"], ["y"])
    builder.output("y")
    model = builder.finish()
    inputs = {"x": random.standard_normal((batch, 33, 10, 9)).astype(np.float32)}
    session = model.session(threads=threads)
    got = session.run(inputs)["y"]
    want = model.session(search="reference", claims=False, merge=False, fuse=False).run(inputs)["y"]
    np.testing.assert_allclose(np.asarray(got), np.asarray(want), atol=1e-5)
    rasters = [step for step in session.explain()["steps"] if step["command"] == "raster"]
    moved = sum(step["bytes_moved"] for step in rasters)
    position = batch * 90 * 4  # bytes of a channel
    assert moved == position * (33 + 33 * shared)  # the input is turned; the shared branch is copied


@st.composite
def _small_filters(draw: st.DrawFn) -> dict[str, Any]:
    """Convolutions that Winograd's way takes: 3 x 3, dense, any padding and tail."""
    return {
        "kernel": [3, 3], "dilation": [1, 1], "stride": [1, 1], "group": 1,
        "size": [draw(st.integers(3, 23)) for _ in range(2)],
        "pads": [draw(st.integers(0, 2)) for _ in range(4)],
        "batch": draw(st.integers(1, 3)), "ins": draw(st.sampled_from([1, 16, 33, 64])),
        "outs": draw(st.sampled_from([1, 16, 40])), "bias": draw(st.booleans()),
        "tail": draw(st.sampled_from(["", "Relu", "Add", "Add Relu", "Clip"])),
        "threads": draw(st.integers(1, 2)), "seed": draw(st.integers(0, 99)),
    }  # fmt: skip


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(_small_filters())
def test_small_filters_keep_the_precision_asked_for(case: dict[str, Any]) -> None:
    model, inputs = _model(case)
    want = _only(model.session(search="reference", claims=False, fuse=False).run(inputs)).astype(np.float64)
    bounds: dict[api.Precision, float] = {"highest": 2e-6, "high": 1e-5}
    for precision, bound in bounds.items():
        session = model.session(threads=case["threads"], precision=precision)
        wrong = np.linalg.norm(_only(session.run(inputs)) - want)
        # A sum of that many products of normal numbers is some sqrt(terms) large, unless its terms cancel.
        usual = np.sqrt(want.size * case["ins"] * 9)
        assert wrong <= bound * max(float(np.linalg.norm(want)), usual)


@pytest.mark.of_cpu
@pytest.mark.optimised("claims")
def test_winograd_is_left_alone_where_the_precision_is_highest() -> None:
    case = {
        "kernel": [3, 3], "dilation": [1, 1], "size": [56, 56], "pads": [1, 1, 1, 1], "stride": [1, 1],
        "batch": 1, "group": 1, "ins": 64, "outs": 64, "bias": True, "tail": "", "threads": 1, "seed": 0,
    }  # fmt: skip
    model, inputs = _model(case)
    functions = {}
    for precision in ("highest", "high"):
        session = model.session(precision=precision)
        session.run(inputs)
        functions[precision] = [step["function"] for step in session.explain()["steps"]]
    assert "conv" in functions["highest"]
    assert any(function.startswith("conv_winograd") for function in functions["high"])


@pytest.mark.of_cpu
@pytest.mark.optimised("claims", "isa")
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    ("outputs", "batch", "side", "channels"),
    [
        (4, 1, 14, 192),  # too few tiles for whole chunks each, planes of 12 KiB
        (4, 1, 27, 48),  # one chunk for one thread, one each for more
        (4, 3, 32, 64),  # several of unequal size each
        (2, 1, 7, 96),
        (6, 1, 60, 64),
    ],
)
def test_winograd_in_chunks_equals_the_decomposition(
    outputs: int, batch: int, side: int, channels: int, threads: int
) -> None:
    case = {
        "kernel": [3, 3], "dilation": [1, 1], "size": [side, side], "pads": [1, 1, 1, 1], "stride": [1, 1],
        "batch": batch, "group": 1, "ins": channels, "outs": channels, "bias": True, "tail": "Add Relu",
        "seed": side,
    }  # fmt: skip
    model, inputs = _model(case)
    want = _only(model.session(claims=False, fuse=False).run(inputs))
    session = model.session(threads=threads, precision="high")
    got = _only(session.run(inputs))
    assert np.linalg.norm(got - want) < 1e-5 * np.linalg.norm(want)
    functions = [step["function"] for step in session.explain()["steps"]]
    # Which tile is chosen depends on what the machine measured of itself; here it is mostly this one.
    assert any(function.startswith("conv_winograd") for function in functions), outputs


@pytest.mark.optimised("claims", "fuse", "isa")
def test_a_tensor_made_later_is_added_by_itself() -> None:
    # Added inside, the skip connection would be read before it is computed.
    random = np.random.default_rng(0)
    builder = api.GraphBuilder("skip")
    builder.input("x", "F32", [1, 16, 8, 8])
    builder.weight("w", random.standard_normal((16, 16, 3, 3)).astype(np.float32))
    builder.node("Conv", ["x", "w"], ["t"], pads=[1, 1, 1, 1])
    builder.node("Sigmoid", ["x"], ["s"])
    builder.node("Add", ["t", "s"], ["y"])
    builder.output("y")
    model = builder.finish()
    inputs = {"x": random.standard_normal((1, 16, 8, 8)).astype(np.float32)}
    want = _only(model.session(search="reference", claims=False, fuse=False).run(inputs))
    np.testing.assert_allclose(_only(model.session().run(inputs)), want, rtol=0, atol=1e-4)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(_cases())
def test_native_max_pool_equals_its_decomposition(case: dict[str, Any]) -> None:
    random = np.random.default_rng(case["seed"])
    x = random.standard_normal((case["batch"], case["ins"], *case["size"])).astype(np.float32)
    x.flat[random.integers(x.size)] = np.nan
    builder = api.GraphBuilder("pool")
    builder.input("x", "F32", x.shape)
    builder.node(
        "MaxPool", ["x"], ["y"],
        kernel_shape=case["kernel"], strides=case["stride"], dilations=case["dilation"], pads=case["pads"],
    )  # fmt: skip
    builder.output("y")
    model = builder.finish()
    want = _only(model.session(search="reference", claims=False).run({"x": x}))
    np.testing.assert_array_equal(_only(model.session(threads=case["threads"]).run({"x": x})), want)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(_cases())
def test_native_average_pool_equals_its_decomposition(case: dict[str, Any]) -> None:
    random = np.random.default_rng(case["seed"])
    x = random.standard_normal((case["batch"], case["ins"], *case["size"])).astype(np.float32)
    for counts_padding in (0, 1):
        builder = api.GraphBuilder("pool")
        builder.input("x", "F32", x.shape)
        builder.node(
            "AveragePool", ["x"], ["y"], kernel_shape=case["kernel"], strides=case["stride"],
            dilations=case["dilation"], pads=case["pads"], count_include_pad=counts_padding,
        )  # fmt: skip
        builder.output("y")
        model = builder.finish()
        want = _only(model.session(search="reference", claims=False).run({"x": x}))
        got = _only(model.session(threads=case["threads"]).run({"x": x}))
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-6)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(_cases(), st.sampled_from(["MaxPool", "AveragePool"]))
def test_pools_behind_convolutions_equal_their_decomposition(case: dict[str, Any], op: str) -> None:
    random = np.random.default_rng(case["seed"])
    x = random.standard_normal((case["batch"], case["ins"], *case["size"])).astype(np.float32)
    builder = api.GraphBuilder("pool")
    builder.input("x", "F32", x.shape)
    builder.weight("w", random.standard_normal((40, case["ins"], 1, 1)).astype(np.float32))
    builder.node("Conv", ["x", "w"], ["t"])
    builder.node("Relu", ["t"], ["u"])
    builder.node(
        op, ["u"], ["y"],
        kernel_shape=case["kernel"], strides=case["stride"], dilations=case["dilation"], pads=case["pads"],
    )  # fmt: skip
    builder.output("y")
    model = builder.finish()
    want = _only(model.session(search="reference", claims=False).run({"x": x}))
    session = model.session(threads=case["threads"])
    np.testing.assert_allclose(_only(session.run({"x": x})), want, rtol=0, atol=1e-4)


@st.composite
def _transposed(draw: st.DrawFn) -> dict[str, Any]:
    """Transposed convolutions: strides below, at and past the kernel, holes, crops, groups, tails."""
    kernel = [draw(st.integers(1, 4)) for _ in range(2)]
    stride = [draw(st.integers(1, 3)) for _ in range(2)]
    dilation = [draw(st.integers(1, 2)) for _ in range(2)]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    return {
        "attributes": {
            "strides": stride, "dilations": dilation, "group": (group := draw(st.integers(1, 2))),
            "pads": [draw(st.integers(0, min(2, reach[i % 2] - 1) // 2)) for i in range(4)],
            "output_padding": [draw(st.integers(0, s - 1)) for s in stride],
        },
        "batch": draw(st.integers(1, 2)), "ins": group * draw(st.sampled_from([1, 5, 33])),
        "size": [draw(st.integers(1, 9)) for _ in range(2)],
        "outs": draw(st.sampled_from([1, 7, 40])), "kernel": kernel, "bias": draw(st.booleans()),
        "relu": draw(st.booleans()), "threads": draw(st.integers(1, 2)), "seed": draw(st.integers(0, 99)),
    }  # fmt: skip


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(_transposed())
def test_native_transposed_convolution_equals_its_decomposition(case: dict[str, Any]) -> None:
    random = np.random.default_rng(case["seed"])
    x = random.standard_normal((case["batch"], case["ins"], *case["size"])).astype(np.float32)
    group = case["attributes"]["group"]
    builder = api.GraphBuilder("transposed")
    builder.input("x", "F32", x.shape)
    shape = (x.shape[1], case["outs"], *case["kernel"])
    builder.weight("w", random.standard_normal(shape).astype(np.float32))
    builder.weight("b", random.standard_normal(group * case["outs"]).astype(np.float32))
    names = ["x", "w", "b"] if case["bias"] else ["x", "w"]
    builder.node("ConvTranspose", names, ["t"], **case["attributes"])
    builder.node("Relu" if case["relu"] else "Neg", ["t"], ["y"])
    builder.output("y")
    model = builder.finish()
    want = _only(model.session(search="reference", claims=False, fuse=False).run({"x": x}))
    got = _only(model.session(threads=case["threads"]).run({"x": x}))
    terms = x.shape[1] // group * case["kernel"][0] * case["kernel"][1]
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-6 * (terms + 8))


@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_joined_results_go_where_they_belong(channels: int, axis: int) -> None:
    """Where a result has one channel its dims do not tell the order it lies in."""
    random = np.random.default_rng(0)
    x = random.standard_normal((1, channels, 6, 7)).astype(np.float32)
    w = random.standard_normal((2 * channels, channels, 3, 3)).astype(np.float32)
    builder = api.GraphBuilder("joined")
    builder.input("x", "F32", x.shape)
    for i, weights in enumerate(np.split(w, 2)):
        builder.weight(f"w{i}", weights)
        builder.node("Conv", ["x", f"w{i}"], [f"c{i}"], pads=[1] * 4, kernel_shape=[3, 3])
        builder.node("Relu", [f"c{i}"], [f"r{i}"])
    builder.node("Concat", ["r0", "r1"], ["y"], axis=axis)
    builder.output("y")
    model = builder.finish()
    want = model.session(fuse=False, claims=False).run({"x": x})["y"]
    np.testing.assert_allclose(model.session().run({"x": x})["y"], want, rtol=1e-5, atol=1e-5)
