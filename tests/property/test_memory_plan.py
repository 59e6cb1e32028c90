"""Memory plans of random graphs: tensors alive together never overlap; sharing memory changes no result."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from walle_engine import api

_UNARY = ["Neg", "Abs", "Relu", "Exp"]
_BINARY = ["Add", "Sub", "Mul", "Max"]


@st.composite
def _graphs(draw: st.DrawFn) -> tuple[Any, int]:
    """A random graph over ``[4, n]`` tensors of several sizes, with several outputs."""
    builder = api.GraphBuilder("random")
    builder.input("v0", "F32", (4, 8))
    widths = {"v0": 8}
    for i in range(1, draw(st.integers(2, 14))):
        name, source = f"v{i}", draw(st.sampled_from(sorted(widths)))
        kind = draw(st.integers(0, 3))
        mates = [v for v in sorted(widths) if widths[v] == widths[source]]
        if kind == 0:
            builder.node(draw(st.sampled_from(_UNARY)), [source], [name])
        elif kind == 1:
            builder.node(draw(st.sampled_from(_BINARY)), [source, draw(st.sampled_from(mates))], [name])
        elif kind == 2 and widths[source] < 64:
            builder.node("Concat", [source, draw(st.sampled_from(mates))], [name], axis=1)
        else:
            builder.node("Softmax", [source], [name])
        widths[name] = widths[source] * (2 if kind == 2 and widths[source] < 64 else 1)
    names = sorted(set(widths) - {"v0"})
    outputs = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
    for name in outputs:
        builder.output(name)
    return builder.finish(), len(outputs)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(_graphs())
def test_live_tensors_never_overlap_and_sharing_is_invisible(graph: tuple[Any, int]) -> None:
    model, count = graph
    x = np.linspace(-1, 1, 32, dtype=np.float32).reshape(4, 8)
    results = []
    for reuse in (True, False):
        session = model.session(reuse=reuse)
        results.append(session.run({"v0": x}))
        memory = session.explain()["memory"]
        spans = memory["spans"]
        for i, a in enumerate(spans):
            assert a["offset"] + a["bytes"] <= memory["arena_bytes"]
            for b in spans[i + 1 :]:
                alive_together = a["first"] <= b["last"] and b["first"] <= a["last"]
                apart = a["offset"] + a["bytes"] <= b["offset"] or b["offset"] + b["bytes"] <= a["offset"]
                assert apart or not alive_together
        if reuse:
            assert memory["arena_bytes"] >= memory["lower_bound_bytes"]
    assert len(results[0]) == count
    for name, value in results[0].items():
        np.testing.assert_array_equal(np.asarray(value), np.asarray(results[1][name]))
