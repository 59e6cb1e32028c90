"""Element-wise nodes of random graphs give the same bits run together, block by block, as one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from walle_engine import api

Array = np.ndarray[Any, Any]

UNARY = ("Abs", "Neg", "Relu", "Tanh", "Sigmoid", "Erf", "Floor", "Softplus")
BINARY = ("Add", "Sub", "Mul", "Max", "Min")


@st.composite
def _graphs(draw: st.DrawFn) -> dict[str, Any]:
    shape = draw(st.sampled_from([(3,), (5, 7), (2, 3, 4), (1030,), (3, 1100), (4, 600, 2)]))
    nodes: list[tuple[str, list[str], str]] = []
    values = [f"x{i}" for i in range(5)]
    for i in range(draw(st.integers(2, 20))):
        op = draw(st.sampled_from([*UNARY, *BINARY, "Where"]))
        reads = 1 if op in UNARY else 2
        # Near ones more often, so that chains grow.
        picks = [draw(st.sampled_from(values[-3:] if draw(st.booleans()) else values)) for _ in range(reads)]
        if op == "Where":
            nodes.append(("Greater", picks, f"c{i}"))
            picks = [f"c{i}", *picks]
        nodes.append((op, picks, f"v{i}"))
        values.append(f"v{i}")
    # x0 is whole; the others repeat in some dims.
    masks = [[True] * len(shape)] + [[draw(st.booleans()) for _ in shape] for _ in range(4)]
    shapes = [[d if keep else 1 for d, keep in zip(shape, mask, strict=True)] for mask in masks]
    outputs = {draw(st.integers(0, 19)) for _ in range(draw(st.integers(0, 2)))}
    return {"shapes": shapes, "nodes": nodes, "outputs": outputs, "seed": draw(st.integers(0, 99))}


@given(_graphs(), st.integers(1, 3))
def test_chains_equal_their_steps(case: dict[str, Any], threads: int) -> None:
    builder = api.GraphBuilder("chains")
    rng = np.random.default_rng(case["seed"])
    feeds: dict[str, Array] = {}
    for i, shape in enumerate(case["shapes"]):
        feeds[f"x{i}"] = rng.normal(size=shape).astype(np.float32)
        builder.input(f"x{i}", "F32", shape)
    for op, inputs, name in case["nodes"]:
        builder.node(op, inputs, [name], name=name)
    results = [name for _, _, name in case["nodes"] if name.startswith("v")]
    outputs = {results[-1], *(results[i] for i in case["outputs"] if i < len(results))}
    for name in sorted(outputs):
        builder.output(name)
    model = builder.finish()
    session = model.session(threads=threads)
    got, want = session.run(feeds), model.session(fuse=False).run(feeds)
    event(f"chains: {sum(step['command'] == 'chain' for step in session.explain()['steps']) > 0}")
    for name in outputs:
        np.testing.assert_array_equal(got[name], want[name])


@pytest.mark.optimised("fuse")
def test_a_gelu_is_one_step() -> None:
    builder = api.GraphBuilder("gelu")
    builder.input("x", "F32", [3, 2000])
    builder.node("Gelu", ["x"], ["y"])
    builder.output("y")
    session = builder.finish().session()
    session.run({"x": np.ones((3, 2000), np.float32)})
    (step,) = session.explain()["steps"]
    assert step["command"] == "chain"
    assert step["functions"] == ["Mul", "Erf", "Add", "Mul", "Mul"]
