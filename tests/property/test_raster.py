"""Chains of transforms: merged rasters, unmerged rasters and NumPy agree bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from walle_engine import api

Array = np.ndarray[Any, Any]
_MAX_ELEMENTS = 4000


class _Chain:
    """A graph under construction beside what NumPy says it computes."""

    def __init__(self, x: Array) -> None:
        self.builder = api.GraphBuilder("chain")
        self.builder.input("v0", "F32", x.shape)
        self.value = x
        self.count = 0
        self.constants = 0
        self.sums = 0  # nodes that do not only move elements

    def constant(self, values: list[int]) -> str:
        name = f"c{self.constants}"
        self.constants += 1
        self.builder.weight(name, np.array(values, np.int64))
        return name

    def node(self, op: str, value: Array, *constants: str, **attrs: Any) -> None:
        self.builder.node(op, [f"v{self.count}", *constants], [f"v{self.count + 1}"], **attrs)
        self.count += 1
        self.value = value


def _transpose(chain: _Chain, draw: Any) -> None:
    perm = draw(st.permutations(range(chain.value.ndim)))
    chain.node("Transpose", chain.value.transpose(perm), perm=list(perm))


def _reshape(chain: _Chain, draw: Any) -> None:
    left, shape = chain.value.size, []
    while left > 1 and len(shape) < 4:
        factor = draw(st.sampled_from([d for d in range(1, left + 1) if left % d == 0]))
        shape.append(factor)
        left //= factor
    shape.append(left)
    chain.node("Reshape", chain.value.reshape(shape), chain.constant(shape))


def _slice(chain: _Chain, draw: Any) -> None:
    starts, ends, steps = [], [], []
    for dim in chain.value.shape:
        step = draw(st.sampled_from([1, 1, 2, -1, -2]))
        low = draw(st.integers(0, dim - 1))
        high = draw(st.integers(low + 1, dim))
        starts.append(low if step > 0 else high - 1)
        ends.append(high if step > 0 else low - 1 - dim)
        steps.append(step)
    axes = list(range(chain.value.ndim))
    value = chain.value[tuple(slice(s, e, t) for s, e, t in zip(starts, ends, steps, strict=True))]
    chain.node("Slice", value, *(chain.constant(v) for v in (starts, ends, axes, steps)))


def _pad(chain: _Chain, draw: Any) -> None:
    mode = draw(st.sampled_from(["constant", "edge", "reflect"]))
    widths = [
        (draw(st.integers(0, min(2, d - 1))), draw(st.integers(0, min(2, d - 1)))) for d in chain.value.shape
    ]
    pads = [w[0] for w in widths] + [w[1] for w in widths]
    kind: Any = mode
    chain.node("Pad", np.pad(chain.value, widths, mode=kind), chain.constant(pads), mode=mode)


def _tile(chain: _Chain, draw: Any) -> None:
    repeats = [draw(st.integers(1, 2)) for _ in chain.value.shape]
    chain.node("Tile", np.tile(chain.value, repeats), chain.constant(repeats))


def _expand(chain: _Chain, draw: Any) -> None:
    shape = [draw(st.integers(1, 3)), *chain.value.shape]
    chain.node("Expand", np.broadcast_to(chain.value, shape), chain.constant(shape))


def _concat(chain: _Chain, draw: Any) -> None:
    axis = draw(st.integers(0, chain.value.ndim - 1))
    name = f"v{chain.count}"
    chain.builder.node("Concat", [name, name], [f"v{chain.count + 1}"], axis=axis)
    chain.count += 1
    chain.value = np.concatenate([chain.value, chain.value], axis)


def _add_turned(chain: _Chain, draw: Any) -> None:
    """Add the value to itself, turned round along some axes or repeated: an operand read by steps."""
    before, x = f"v{chain.count}", chain.value
    axes = draw(st.lists(st.integers(0, x.ndim - 1), unique=True))
    starts, ends, steps = [-1] * len(axes), [-1 - x.shape[axis] for axis in axes], [-1] * len(axes)
    if axes:
        chain.node("Slice", np.flip(x, axes), *(chain.constant(v) for v in (starts, ends, axes, steps)))
    else:
        _expand(chain, draw)
    chain.builder.node("Add", [before, f"v{chain.count}"], [f"v{chain.count + 1}"])
    chain.count += 1
    chain.sums += 1
    chain.value = x + chain.value


_STEPS = [_transpose, _reshape, _slice, _pad, _tile, _expand, _concat, _add_turned]


_SETTINGS: list[dict[str, Any]] = [
    {"verify": True},
    {"vertical": False, "verify": True},
    {"horizontal": False, "verify": True},
    {"merge": False},
]


def _draw_input(data: st.DataObject) -> Array:
    shape = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    return np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)


def _draw_steps(chain: _Chain, data: st.DataObject, most: int) -> None:
    for step in data.draw(st.lists(st.sampled_from(_STEPS), min_size=1, max_size=most)):
        if chain.value.ndim < 5 and chain.value.size < _MAX_ELEMENTS:
            step(chain, data.draw)


@pytest.mark.slow
@given(st.data())
def test_merged_chains_equal_unmerged_chains_and_numpy(data: st.DataObject) -> None:
    x = _draw_input(data)
    chain = _Chain(x)
    _draw_steps(chain, data, 6)
    if chain.count == 0:
        return
    chain.builder.output(f"v{chain.count}")
    model = chain.builder.finish()
    for settings in _SETTINGS:
        session = model.session(**settings)
        got = np.asarray(session.run({"v0": x})[f"v{chain.count}"])
        np.testing.assert_array_equal(got, chain.value)
        program = session.explain()
        after, moves = program["merging"]["after"]["rasters"], chain.count - chain.sums
        assert after == sum(step["command"] == "raster" for step in program["steps"])
        assert after <= moves if settings.get("merge", True) else after == moves


@pytest.mark.slow
@pytest.mark.optimised("merge", "horizontal")
@given(st.data())
def test_branches_of_one_input_are_merged_and_shared_rightly(data: st.DataObject) -> None:
    """Equal branches, and a concatenation of different ones, read in parts by a last chain."""
    x = _draw_input(data)
    chain = _Chain(x)
    _draw_steps(chain, data, 3)
    flat = chain.value.reshape(-1)
    chain.node("Reshape", flat, chain.constant([-1]))
    first, start = f"v{chain.count}", chain.count
    chain.node("Pad", np.pad(flat, (1, 2)), chain.constant([1, 2]))
    chain.builder.node("Pad", [first, "again"], ["twin"])
    chain.builder.weight("again", np.array([1, 2], np.int64))
    padded = f"v{chain.count}"
    chain.builder.node("Concat", [padded, first, "twin"], [f"v{chain.count + 1}"], axis=0)
    chain.count += 1
    chain.value = np.concatenate([np.pad(flat, (1, 2)), flat, np.pad(flat, (1, 2))])
    assert chain.count == start + 2
    _draw_steps(chain, data, 3)
    last = f"v{chain.count}"
    for name in (padded, "twin", last):
        chain.builder.output(name)
    model = chain.builder.finish()
    for settings in _SETTINGS:
        session = model.session(**settings)
        got = {name: np.asarray(value) for name, value in session.run({"v0": x}).items()}
        np.testing.assert_array_equal(got[last], chain.value)
        np.testing.assert_array_equal(got[padded], np.pad(flat, (1, 2)))
        np.testing.assert_array_equal(got["twin"], got[padded])
        shared = session.explain()["merging"]["shared"]
        assert shared >= (settings.get("merge", True) and settings.get("horizontal", True))
