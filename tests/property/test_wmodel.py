"""Any graph and any weights survive the file; any damage is an error of ours."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import safe_open

from walle_engine import wmodel
from walle_shared.errors import ModelError

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(
    lambda name: name != "__metadata__" and not name.startswith("walle.pad.")
)
dtypes = st.sampled_from([np.dtype(n) for n in ("f4", "f8", "f2", "i1", "i4", "i8", "u2", "u8", "?")])
arrays = hnp.arrays(dtypes, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
dims = st.one_of(st.integers(0, 2**40), names)
dtype_names = st.sampled_from(list(wmodel.DTYPE_BYTES))
values = st.builds(wmodel.Value, names, dtype_names, st.lists(dims, max_size=8).map(tuple))
finite = st.floats(allow_nan=False, allow_infinity=False)
attributes = st.one_of(st.integers(-(2**63), 2**63 - 1), finite, names, st.lists(finite, max_size=4))
nodes = st.builds(
    wmodel.Node,
    names,
    names,
    st.lists(names, max_size=3).map(tuple),
    st.lists(names, max_size=3).map(tuple),
    st.dictionaries(names, attributes, max_size=3),
)
graphs = st.builds(
    wmodel.Graph,
    names,
    st.lists(values, max_size=3).map(tuple),
    st.lists(values, max_size=3).map(tuple),
    st.lists(nodes, max_size=4).map(tuple),
    names,
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(graphs, st.dictionaries(names, arrays, max_size=5))
def test_round_trip(graph: wmodel.Graph, weights: dict[str, np.ndarray]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.wmodel"
        wmodel.write(path, graph, {name: wmodel.weight_from_array(array) for name, array in weights.items()})
        model = wmodel.read(path)
        assert model.graph == graph
        assert set(model.weights) == set(weights)
        with safe_open(path, "numpy") as other:
            for name, array in weights.items():
                assert model.array(name).tobytes() == array.tobytes()
                assert other.get_tensor(name).tobytes() == array.tobytes()


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damage_is_refused_or_harmless(data: st.DataObject) -> None:
    node = wmodel.Node("Relu", "r", ("x",), ("y",))
    graph = wmodel.Graph("g", (wmodel.Value("x", "F32", ("N",)),), (), (node,))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.wmodel"
        wmodel.write(path, graph, {"w": wmodel.weight_from_array(np.arange(20, dtype=np.float32))})
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
        with contextlib.suppress(ModelError):
            wmodel.read(path)
