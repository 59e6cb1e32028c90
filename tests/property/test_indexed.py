"""Indexed reads and writes in pieces against the plain loop that steps from iteration to iteration."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from walle_engine import api
from walle_shared.errors import EngineError

Array = np.ndarray[Any, Any]
DTYPES = {"F32": np.float32, "F64": np.float64, "U8": np.uint8, "F16": np.float16, "I64": np.int64}
REDUCTIONS = ("none", "add", "mul", "max", "min")


@st.composite
def shapes(draw: st.DrawFn, rank: int) -> list[int]:
    """Small dims, and sometimes a last one that passes the length of a piece."""
    dims = [draw(st.integers(1, 5)) for _ in range(rank)]
    dims[-1] = draw(st.one_of(st.integers(1, 5), st.sampled_from([255, 256, 257, 600])))
    return dims


def _random(seed: int, shape: list[int], dtype: str) -> Array:
    return np.random.default_rng(seed).integers(0, 7, shape).astype(DTYPES[dtype])


def _run(
    op: str, inputs: dict[str, Array], dtype: str, attrs: dict[str, Any], **settings: Any
) -> bytes | str:
    builder = api.GraphBuilder(op)
    for name, value in inputs.items():
        builder.input(name, {"i": "I32" if value.dtype == np.int32 else "I64"}.get(name, dtype), value.shape)
    builder.node(op, list(inputs), ["y"], **attrs)
    builder.output("y")
    given = {n: v.view(np.uint16) if v.dtype == np.float16 else v for n, v in inputs.items()}
    try:
        return bytes(memoryview(builder.finish().session(**settings).run(given)["y"]).cast("B"))  # type: ignore[arg-type]
    except EngineError as error:
        return str(error)


def _agree(op: str, inputs: dict[str, Array], dtype: str, attrs: dict[str, Any]) -> bytes | str:
    plain = _run(op, inputs, dtype, attrs, search="reference")
    assert _run(op, inputs, dtype, attrs) == plain
    assert _run(op, inputs, dtype, attrs, threads=2) == plain
    return plain


def _indices(
    data: st.DataObject, seed: int, shape: list[int], extent: int, *, may_be_outside: bool = True
) -> Array:
    rng = np.random.default_rng(seed)
    index = rng.integers(-extent, extent, shape).astype(data.draw(st.sampled_from([np.int32, np.int64])))
    if may_be_outside and data.draw(st.integers(0, 9)) == 0:
        index.reshape(-1)[-1] = data.draw(st.sampled_from([extent, -extent - 1]))
    return index


@given(data=st.data(), rank=st.integers(1, 4), seed=st.integers(0, 99), dtype=st.sampled_from(list(DTYPES)))
def test_elements_along_an_axis(data: st.DataObject, rank: int, seed: int, dtype: str) -> None:
    shape, axis = data.draw(shapes(rank)), data.draw(st.integers(0, rank - 1))
    inside = [data.draw(st.integers(1, n)) for n in shape]
    inside[axis] = data.draw(st.integers(1, 300))
    index = _indices(data, seed, inside, shape[axis])
    x, updates = _random(seed, shape, dtype), _random(seed + 1, inside, dtype)
    _agree("GatherElements", {"x": x, "i": index}, dtype, {"axis": axis})
    reduction = data.draw(st.sampled_from(REDUCTIONS))
    _agree(
        "ScatterElements", {"x": x, "i": index, "u": updates}, dtype, {"axis": axis, "reduction": reduction}
    )


@given(data=st.data(), rank=st.integers(1, 4), seed=st.integers(0, 99), dtype=st.sampled_from(list(DTYPES)))
def test_slices_by_components(data: st.DataObject, rank: int, seed: int, dtype: str) -> None:
    shape, components = data.draw(shapes(rank)), data.draw(st.integers(1, rank))
    counts = [data.draw(st.integers(1, 4)), data.draw(st.sampled_from([1, 3, 300]))]
    parts = [_indices(data, seed + c, counts, shape[c]) for c in range(components)]
    index = np.stack([part.astype(np.int64) for part in parts], axis=-1)
    x, updates = _random(seed, shape, dtype), _random(seed + 1, [*counts, *shape[components:]], dtype)
    _agree("GatherND", {"x": x, "i": index}, dtype, {})
    reduction = data.draw(st.sampled_from(REDUCTIONS))
    _agree("ScatterND", {"x": x, "i": index, "u": updates}, dtype, {"reduction": reduction})


@given(data=st.data(), rank=st.integers(1, 4), seed=st.integers(0, 99), dtype=st.sampled_from(list(DTYPES)))
def test_slices_along_an_axis(data: st.DataObject, rank: int, seed: int, dtype: str) -> None:
    shape, axis = data.draw(shapes(rank)), data.draw(st.integers(0, rank - 1))
    index = _indices(data, seed, [data.draw(st.sampled_from([1, 3, 300]))], shape[axis])
    found = _agree("Gather", {"x": _random(seed, shape, dtype), "i": index}, dtype, {"axis": axis})
    if isinstance(found, bytes):
        wanted = np.take(_random(seed, shape, dtype), index.astype(np.int64), axis=axis)
        assert found == wanted.tobytes()


@pytest.mark.parametrize("search", ["model", "reference"])
def test_the_first_index_outside_is_named_either_way(search: str) -> None:
    index = np.zeros(1000, np.int64)
    index[[400, 900]] = 7, 8
    said = _run(
        "Gather", {"x": np.zeros(5, np.float32), "i": index}, "F32", {"axis": 0}, search=search, threads=2
    )
    assert "index 7 is outside an axis of 5" in said  # type: ignore[operator]


@pytest.mark.of_cpu
def test_only_the_search_chooses_pieces() -> None:
    builder = api.GraphBuilder("g")
    builder.input("x", "F32", [8])
    builder.input("i", "I64", [4])
    builder.node("Gather", ["x", "i"], ["y"])
    builder.output("y")
    model = builder.finish()
    for search, wanted in (("model", "loop in pieces"), ("reference", "simple loop")):
        session = model.session(search=search)
        session.run({"x": np.zeros(8, np.float32), "i": np.zeros(4, np.int64)})
        assert wanted in [step["candidate"] for step in session.explain()["steps"]]
