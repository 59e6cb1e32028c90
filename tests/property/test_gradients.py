"""Gradients of what only moves elements: the transposed map, exactly, however its regions overlap."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from walle_engine import api

type Array = np.ndarray[Any, Any]
_MAX_ELEMENTS = 600


class _Moves:
    """A chain of transforms under construction; ``shape`` is that of its latest value."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.builder = api.GraphBuilder("moves")
        self.builder.input("v0", "F64", shape)
        self.shape = shape
        self.count = self.constants = 0

    @property
    def value(self) -> str:
        return f"v{self.count}"

    def constant(self, values: Any) -> str:
        name = f"c{self.constants}"
        self.constants += 1
        self.builder.weight(name, np.asarray(values))
        return name

    def node(self, op: str, shape: tuple[int, ...], *inputs: str, **attrs: Any) -> None:
        self.builder.node(op, list(inputs), [f"v{self.count + 1}"], **attrs)
        self.count += 1
        self.shape = shape


def _transpose(moves: _Moves, draw: Any) -> None:
    perm = list(draw(st.permutations(range(len(moves.shape)))))
    moves.node("Transpose", tuple(moves.shape[i] for i in perm), moves.value, perm=perm)


def _slice(moves: _Moves, draw: Any) -> None:
    axis = draw(st.integers(0, len(moves.shape) - 1))
    step = draw(st.sampled_from([1, 2, 3, -1, -2]))
    dim = moves.shape[axis]
    low = draw(st.integers(0, dim - 1))
    start, end = (low, dim) if step > 0 else (low, -1 - dim)
    size = len(range(dim)[start : None if step < 0 else end : step])
    bounds = [moves.constant(np.array([v])) for v in (start, end, axis, step)]
    moves.node("Slice", (*moves.shape[:axis], size, *moves.shape[axis + 1 :]), moves.value, *bounds)


def _pad(moves: _Moves, draw: Any) -> None:
    mode = draw(st.sampled_from(["constant", "edge", "reflect", "wrap"]))
    before = [draw(st.integers(0, min(2, dim - 1))) for dim in moves.shape]
    after = [draw(st.integers(0, min(2, dim - 1))) for dim in moves.shape]
    shape = tuple(b + dim + a for b, dim, a in zip(before, moves.shape, after, strict=True))
    moves.node("Pad", shape, moves.value, moves.constant(before + after), mode=mode)


def _tile(moves: _Moves, draw: Any) -> None:
    repeats = [draw(st.integers(1, 3)) for _ in moves.shape]
    shape = tuple(r * dim for r, dim in zip(repeats, moves.shape, strict=True))
    moves.node("Tile", shape, moves.value, moves.constant(repeats))


def _expand(moves: _Moves, draw: Any) -> None:
    shape = (draw(st.integers(1, 3)), *moves.shape)
    moves.node("Expand", shape, moves.value, moves.constant(shape))


def _concat(moves: _Moves, draw: Any) -> None:
    axis = draw(st.integers(0, len(moves.shape) - 1))
    shape = (*moves.shape[:axis], 2 * moves.shape[axis], *moves.shape[axis + 1 :])
    moves.node("Concat", shape, moves.value, moves.value, axis=axis)


def _frames(moves: _Moves, draw: Any) -> None:
    """What each place of a window sees, by a convolution whose filters pick one place each."""
    count = int(np.prod(moves.shape))
    kernel = draw(st.integers(1, min(4, count)))
    stride, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    if (kernel - 1) * dilation >= count:
        dilation = 1
    moves.node("Reshape", (1, 1, count), moves.value, moves.constant([1, 1, count]))
    places = (count - (kernel - 1) * dilation - 1) // stride + 1
    picks = moves.constant(np.eye(kernel)[:, None])
    attrs = {"strides": [stride], "dilations": [dilation]}
    moves.node("Conv", (1, kernel, places), moves.value, picks, **attrs)


def _gather(moves: _Moves, draw: Any) -> None:
    axis = draw(st.integers(0, len(moves.shape) - 1))
    dim = moves.shape[axis]
    indices = draw(st.lists(st.integers(-dim, dim - 1), min_size=1, max_size=5))
    shape = (*moves.shape[:axis], len(indices), *moves.shape[axis + 1 :])
    moves.node("Gather", shape, moves.value, moves.constant(indices), axis=axis)


_STEPS = [_transpose, _slice, _pad, _tile, _expand, _concat, _frames, _gather]
_SETTINGS: list[dict[str, Any]] = [{}, {"merge": False}, {"verify": True, "threads": 2}]


@given(st.data())
def test_the_gradient_of_moving_is_moving_back(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    moves = _Moves(shape)
    for _ in range(data.draw(st.integers(1, 4))):
        if int(np.prod(moves.shape)) * 9 > _MAX_ELEMENTS or len(moves.shape) > 5:
            break
        data.draw(st.sampled_from(_STEPS))(moves, data.draw)
    builder = moves.builder
    builder.input("share", "F64", moves.shape)
    builder.node("Mul", [moves.value, "share"], ["shared"])
    builder.node("ReduceSum", ["shared"], ["loss"], keepdims=0)
    builder.node("Gradient", ["v0", "loss"], ["gradient"])
    for name in ("loss", "gradient"):
        builder.output(name)
    model = builder.finish()
    rng = np.random.default_rng(0)
    share = rng.integers(-9, 9, moves.shape).astype(np.float64)
    x = rng.integers(-9, 9, shape).astype(np.float64)
    for settings in _SETTINGS:
        results = model.session(**settings).run({"v0": x, "share": share})
        # A linear map: <share, f(x)> = <gradient, x>, and small integers leave nothing to round.
        gradient = np.asarray(results["gradient"])
        assert float(np.sum(gradient * x)) == float(np.asarray(results["loss"]))
