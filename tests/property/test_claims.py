"""Operators the back end runs natively equal their decomposition over random shapes and options."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from walle_engine import api

Array = np.ndarray[Any, Any]


class _Node:
    """One node with float32 inputs, some of them constants, others omitted (None)."""

    def __init__(self, op: str, outputs: int, **attrs: Any) -> None:
        self.builder = api.GraphBuilder(op)
        self.op, self.attrs = op, attrs
        self.names: list[str] = []
        self.feeds: dict[str, Array] = {}
        self.outputs = [f"y{i}" for i in range(outputs)]

    def add(self, value: Array | None, *, constant: bool = False) -> None:
        name = "" if value is None else f"x{len(self.names)}"
        self.names.append(name)
        if value is None:
            return
        if constant:
            self.builder.weight(name, value)
        else:
            dtype = "BOOL" if value.dtype == np.bool_ else "F32"
            self.builder.input(name, dtype, value.shape)
            self.feeds[name] = value

    def check(self, claim: str, tolerance: float, threads: int, *, omitted: tuple[int, ...] = ()) -> None:
        """Run with the claim, which is the only step then, and without; compare the outputs kept. In 'medium'
        they are near as a whole."""
        kept = [name for i, name in enumerate(self.outputs) if i not in omitted]
        outputs = [name if name in kept else "" for name in self.outputs]
        self.builder.node(self.op, self.names, outputs, **self.attrs)
        for name in kept:
            self.builder.output(name)
        model = self.builder.finish()
        session = model.session(threads=threads)
        got = session.run(self.feeds)
        steps = session.explain()["steps"]
        assume(any(step["command"] == "claim" for step in steps))  # a tiny call may cost less decomposed
        (step,) = steps
        assert (step["command"], step["candidate"].startswith(claim)) == ("claim", True)
        want = model.session(claims=False).run(self.feeds)
        for name in kept:
            np.testing.assert_allclose(got[name], want[name], rtol=tolerance, atol=tolerance)
        rough = model.session(threads=threads, precision="medium").run(self.feeds)
        for name in kept:
            finite = np.isfinite(np.asarray(want[name]))
            right, near = np.asarray(want[name])[finite], np.asarray(rough[name])[finite]
            off = near - right
            assert np.linalg.norm(off) <= 0.05 * (np.linalg.norm(right) + 0.2 * np.sqrt(right.size))


def _values(seed: int, *shape: int, scale: float = 1.0) -> Array:
    return np.random.default_rng([seed, *shape]).normal(0, scale, shape).astype(np.float32)


SEEDS = st.integers(0, 99)
THREADS = st.integers(1, 3)


@st.composite
def _recurrences(draw: st.DrawFn) -> dict[str, Any]:
    op = draw(st.sampled_from(["RNN", "GRU", "LSTM"]))
    direction = draw(st.sampled_from(["forward", "reverse", "bidirectional"]))
    count = {"RNN": 1, "GRU": 2, "LSTM": 3}[op] * (1 + (direction == "bidirectional"))
    attrs: dict[str, Any] = {"direction": direction, "layout": draw(st.integers(0, 1))}
    bounded = ["Sigmoid", "Tanh"]
    if draw(st.booleans()):
        attrs["clip"] = 0.5
        bounded += ["Relu", "Softplus"]  # without a clip, rounding grows from step to step
    if draw(st.booleans()):
        attrs["activations"] = draw(st.lists(st.sampled_from(bounded), min_size=count, max_size=count))
    if op == "GRU":
        attrs["linear_before_reset"] = draw(st.integers(0, 1))
    if op == "LSTM":
        attrs["input_forget"] = draw(st.integers(0, 1))
    return {
        "op": op, "attrs": attrs, "steps": draw(st.integers(1, 5)), "batch": draw(st.integers(1, 9)),
        "inputs": draw(st.integers(1, 20)), "hidden": draw(st.sampled_from([1, 7, 32, 64, 65, 130, 192])),
        "bias": draw(st.booleans()), "peepholes": draw(st.booleans()),
        "states": [draw(st.booleans()) for _ in range(2)],
        "omitted": tuple(i for i in range(3 if op == "LSTM" else 2) if draw(st.integers(0, 3)) == 0),
        "seed": draw(SEEDS), "threads": draw(THREADS),
    }  # fmt: skip


@pytest.mark.optimised("claims")
@settings(max_examples=150, deadline=None)
@given(_recurrences())
def test_recurrences(case: dict[str, Any]) -> None:
    op, seed, hidden, batch = case["op"], case["seed"], case["hidden"], case["batch"]
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[op]
    directions = 2 if case["attrs"]["direction"] == "bidirectional" else 1
    sequences = (case["steps"], batch) if case["attrs"]["layout"] == 0 else (batch, case["steps"])
    state = (directions, batch, hidden) if case["attrs"]["layout"] == 0 else (batch, directions, hidden)
    outputs = 3 if op == "LSTM" else 2
    node = _Node(op, outputs, hidden_size=hidden, **case["attrs"])
    node.add(_values(seed, *sequences, case["inputs"]))
    scale = 1 / np.sqrt(hidden)
    node.add(_values(seed, directions, gates * hidden, case["inputs"], scale=0.3), constant=True)
    node.add(_values(seed, directions, gates * hidden, hidden, scale=scale), constant=True)
    node.add(_values(seed, directions, 2 * gates * hidden) if case["bias"] else None, constant=True)
    node.add(None)
    node.add(_values(seed, *state) if case["states"][0] else None)
    if op == "LSTM":
        node.add(_values(seed + 100, *state) if case["states"][1] else None)
        node.add(_values(seed, directions, 3 * hidden) if case["peepholes"] else None, constant=True)
    omitted = case["omitted"] if len(case["omitted"]) < outputs else ()
    node.check("recurrent", 2e-5, case["threads"], omitted=omitted)


@pytest.mark.optimised("claims")
@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(2, 70), st.integers(0, 2), SEEDS, THREADS)
def test_softmax(rows: int, k: int, trailing: int, seed: int, threads: int) -> None:
    node = _Node("Softmax", 1, axis=1)
    node.add(_values(seed, rows, k, *[1] * trailing, scale=5))
    node.check("softmax", 1e-6, threads)


@pytest.mark.optimised("claims")
@settings(max_examples=60, deadline=None)
@given(st.booleans(), st.booleans(), st.booleans(), st.integers(1, 9), st.integers(1, 70), SEEDS, THREADS)
def test_normalisation(
    centred: bool, constant: bool, shifted: bool, rows: int, k: int, seed: int, threads: int
) -> None:
    node = _Node(
        "LayerNormalization" if centred else "RMSNormalization", 3 if centred else 1, axis=1, epsilon=1e-3
    )
    node.add(_values(seed, rows, k, 2))
    node.add(_values(seed, k, 2), constant=constant)
    if centred and shifted:
        node.add(_values(seed + 1, k, 2))
    node.check("norm", 1e-5, threads, omitted=(1,) if constant else ())


@pytest.mark.optimised("claims")
@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(0, 4),
    st.integers(1, 5),
    st.lists(st.integers(1, 40), max_size=2),
    SEEDS,
    THREADS,
)
def test_normalisation_of_groups(
    batch: int, groups: int, size: int, spatial: list[int], seed: int, threads: int
) -> None:
    """Without groups, every channel is one."""
    if groups:
        node = _Node("GroupNormalization", 1, num_groups=groups, epsilon=1e-3)
    else:
        node = _Node("InstanceNormalization", 1, epsilon=1e-3)
    channels = max(groups, 1) * size
    node.add(_values(seed, batch, channels, *(spatial or [1])))
    node.add(_values(seed, channels))
    node.add(_values(seed + 1, channels))
    node.check("group_norm", 2e-5, threads)


@pytest.mark.optimised("claims")
@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 1),
    st.integers(0, 1),
    st.integers(1, 20),
    st.integers(1, 70),
    st.integers(1, 140),
    SEEDS,
    THREADS,
)
def test_running_sums(
    exclusive: int, reverse: int, outer: int, n: int, inner: int, seed: int, threads: int
) -> None:
    node = _Node("CumSum", 1, exclusive=exclusive, reverse=reverse)
    node.add(_values(seed, outer, n, 1 if seed % 2 else inner))
    node.add(np.array(1, np.int64), constant=True)
    node.check("cum_sum", 1e-4, threads)


@st.composite
def _attentions(draw: st.DrawFn) -> dict[str, Any]:
    shared, group = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    case = {
        "batch": draw(st.integers(1, 3)), "shared": shared, "heads": shared * group,
        "queries": draw(st.integers(1, 70)), "keys": draw(st.integers(1, 70)),
        "size": draw(st.integers(1, 40)), "value_size": draw(st.integers(1, 70)),
        "packed": draw(st.booleans()), "mask": draw(st.sampled_from(["", "float", "bool"])),
        "seed": draw(SEEDS), "threads": draw(THREADS),
    }  # fmt: skip
    dims = [case["batch"], case["heads"], case["queries"]]
    dims = [dim if draw(st.booleans()) else 1 for dim in dims]
    case["mask_shape"] = [*dims[draw(st.integers(0, 2)) :], case["keys"]]
    case["attrs"] = {"is_causal": draw(st.integers(0, 1))}
    if draw(st.booleans()):
        case["attrs"]["scale"] = 0.3
    return case


@pytest.mark.optimised("claims", "horizontal", "isa")
@settings(max_examples=150, deadline=None)
@given(_attentions())
def test_attention(case: dict[str, Any]) -> None:
    seed, attrs = case["seed"], case["attrs"]
    if case["packed"]:
        attrs |= {"q_num_heads": case["heads"], "kv_num_heads": case["shared"]}
    node = _Node("Attention", 1, **attrs)
    for heads, length, size, salt in (
        (case["heads"], case["queries"], case["size"], 0),
        (case["shared"], case["keys"], case["size"], 1),
        (case["shared"], case["keys"], case["value_size"], 2),
    ):
        dims = (length, heads * size) if case["packed"] else (heads, length, size)
        node.add(_values(seed + 100 * salt, case["batch"], *dims))
    mask = _values(seed, *case["mask_shape"])
    if case["mask"] == "bool":  # some rows see nothing
        node.add(mask > (9 if seed % 3 == 0 else 0))
    elif case["mask"]:
        node.add(np.where(mask > 1, -np.inf, mask).astype(np.float32))
    node.check("we_f32_matmul", 1e-5, case["threads"])


@st.composite
def _resizes(draw: st.DrawFn) -> dict[str, Any]:
    mode = draw(st.sampled_from(["nearest", "linear", "cubic"]))
    rules = ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]
    attrs: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": draw(st.sampled_from(rules))}
    if mode == "nearest":
        roundings = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
        attrs["nearest_mode"] = draw(st.sampled_from(roundings))
    else:
        attrs["antialias"] = draw(st.integers(0, 1))
        attrs["exclude_outside"] = draw(st.integers(0, 1)) if mode == "cubic" else 0
    sides = st.integers(1, 40)
    return {
        "attrs": attrs, "sides": (draw(sides), draw(sides)), "wanted": (draw(sides), draw(sides)),
        "outer": draw(st.sampled_from([(), (2,), (2, 3), (3, 1, 2)])), "seed": draw(SEEDS),
        "special": draw(st.sampled_from([None, None, np.nan, np.inf])), "threads": draw(THREADS),
    }  # fmt: skip


@pytest.mark.optimised("claims")
@settings(max_examples=150, deadline=None)
@given(_resizes())
def test_resize(case: dict[str, Any]) -> None:
    node = _Node("Resize", 1, **case["attrs"])
    x = _values(case["seed"], *case["outer"], *case["sides"])
    if case["special"] is not None:  # what sees it is the same, in whatever order the axes come
        x.flat[x.size // 2] = case["special"]
    node.add(x)
    node.add(None)
    node.add(None)
    node.add(np.array([*case["outer"], *case["wanted"]], np.int64), constant=True)
    node.check("resize", 1e-5, case["threads"])


@pytest.mark.optimised("claims", "merge")
@settings(max_examples=40, deadline=None)
@given(_resizes())
def test_resize_between_convolutions(case: dict[str, Any]) -> None:
    """Whatever order of the channels is chosen for it."""
    seed, attrs = case["seed"], case["attrs"]
    builder = api.GraphBuilder("upsampling")
    builder.input("x", "F32", (2, 3, *case["sides"]))
    builder.weight("w", _values(seed, 32, 3, 1, 1))
    builder.weight("v", _values(seed, 4, 32, 1, 1))
    builder.weight("sizes", np.array([2, 32, *case["wanted"]], np.int64))
    builder.node("Conv", ["x", "w"], ["wide"])
    builder.node("Relu", ["wide"], ["positive"])
    builder.node("Resize", ["positive", "", "", "sizes"], ["resized"], **attrs)
    builder.node("Conv", ["resized", "v"], ["y"])
    builder.output("y")
    model, feeds = builder.finish(), {"x": _values(seed, 2, 3, *case["sides"])}
    session = model.session(threads=case["threads"])
    got, want = session.run(feeds), model.session(claims=False).run(feeds)
    np.testing.assert_allclose(got["y"], want["y"], rtol=1e-4, atol=1e-4)


def test_constants_are_folded_rather_than_claimed() -> None:
    builder = api.GraphBuilder("constant")
    builder.input("x", "F32", (1, 2, 8, 8))
    builder.weight("positions", _values(0, 1, 2, 4, 4))
    builder.weight("scales", np.array([1, 1, 2, 2], np.float32))
    builder.node("Resize", ["positions", "", "scales"], ["resized"], mode="linear")
    builder.node("Add", ["x", "resized"], ["y"])
    builder.output("y")
    session = builder.finish().session()
    session.run({"x": _values(1, 1, 2, 8, 8)})
    assert [step["command"] for step in session.explain()["steps"]] == ["binary"]


@st.composite
def _planes(draw: st.DrawFn) -> dict[str, Any]:
    """Windows over planes: any size, steps, holes and padding, wider and narrower than a few vectors."""
    kernel = [draw(st.integers(1, 7)) for _ in range(2)]
    dilation = [draw(st.sampled_from([1, 1, 1, 2, 3])) for _ in range(2)]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    return {
        "size": [draw(st.integers(reach[0], reach[0] + 20)), draw(st.integers(reach[1], reach[1] + 90))],
        "channels": draw(st.integers(1, 5)), "items": draw(st.integers(1, 2)), "seed": draw(SEEDS),
        "threads": draw(THREADS), "relu": draw(st.booleans()), "bias": draw(st.booleans()),
        "window": {
            "kernel_shape": kernel, "dilations": dilation,
            "strides": [draw(st.sampled_from([1, 1, 2, 2, 3])) for _ in range(2)],
            "pads": [draw(st.integers(0, reach[i % 2] - 1)) for i in range(4)],
        },
    }  # fmt: skip


@pytest.mark.optimised("claims")
@settings(max_examples=100, deadline=None)
@given(_planes(), st.sampled_from(["Conv", "MaxPool", "AveragePool"]), st.integers(0, 1))
def test_windows_over_planes(case: dict[str, Any], op: str, counts_padding: int) -> None:
    shape = (case["items"], case["channels"], *case["size"])
    x = _values(case["seed"], *shape)
    builder = api.GraphBuilder("planes")
    builder.input("x", "F32", shape)
    names, attrs = ["x"], dict(case["window"])
    if op == "Conv":
        names += ["w", "b"] if case["bias"] else ["w"]
        attrs["group"] = case["channels"]
        builder.weight("w", _values(1, case["channels"], 1, *attrs["kernel_shape"]))
        builder.weight("b", _values(2, case["channels"]))
    elif op == "AveragePool":
        attrs["count_include_pad"] = counts_padding
    else:
        x.flat[case["seed"] % x.size] = np.nan
    builder.node(op, names, ["t"], **attrs)
    builder.node("Relu" if case["relu"] else "Identity", ["t"], ["y"])
    builder.output("y")
    model = builder.finish()
    session = model.session(threads=case["threads"])
    got = np.asarray(session.run({"x": x})["y"])
    assume(any("planes" in step["candidate"] for step in session.explain()["steps"]))
    want = np.asarray(model.session(claims=False, search="reference").run({"x": x})["y"])
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.optimised("claims")
@settings(max_examples=40)
@given(
    bits=st.sampled_from([4, 8]),
    block=st.sampled_from([16, 32, 48]),
    k=st.integers(1, 130),
    n=st.integers(1, 150),
    rows=st.integers(1, 20),
    zeros=st.booleans(),
    seed=SEEDS,
    threads=THREADS,
)
def test_products_with_codes(
    bits: int, block: int, k: int, n: int, rows: int, zeros: bool, seed: int, threads: int
) -> None:
    rng = np.random.default_rng(seed)
    blocks = -(-k // block)
    node = _Node("MatMulNBits", 1, K=k, N=n, bits=bits, block_size=block)
    node.add(_values(seed, rows, k))
    node.add(rng.integers(0, 256, (n, blocks, block * bits // 8), np.uint8), constant=True)
    node.add(_values(seed, n, blocks, scale=0.02), constant=True)
    if zeros:
        node.add(rng.integers(0, 256, (n, (blocks * bits + 7) // 8), np.uint8), constant=True)
    node.check("coded_rows", 1e-4, threads)
