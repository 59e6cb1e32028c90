"""Gradients of the engine beside finite differences, in double precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from walle_engine import api

type Array = np.ndarray[Any, Any]
type Nodes = Callable[[api.GraphBuilder], Sequence[str]]

_STEP = 1e-6
_DTYPES = {
    "float32": "F32", "float64": "F64", "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64",
    "bool": "BOOL", "uint8": "U8",
}  # fmt: skip


def add_loss(builder: api.GraphBuilder, outputs: Sequence[tuple[str, tuple[int, ...]]], dtype: str) -> str:
    """Add the sum of all outputs, each element times a number of its own; return its name."""
    kind = np.float64 if dtype == "F64" else np.float32
    rng, terms = np.random.default_rng(1), []
    for name, shape in outputs:
        builder.weight(f"{name}.share", rng.uniform(0.5, 1.5, shape).astype(kind))
        builder.node("Mul", [name, f"{name}.share"], [f"{name}.shared"])
        builder.node("ReduceSum", [f"{name}.shared"], [f"{name}.sum"], keepdims=0)
        terms.append(f"{name}.sum")
    builder.node("Sum", terms, ["loss"])
    return "loss"


def gradient_session(
    nodes: Nodes,
    inputs: Mapping[str, Array],
    shapes: Mapping[str, tuple[int, ...]],
    chosen: Sequence[str],
    **settings: Any,
) -> api.Session:
    """Return a session of ``nodes`` with the outputs ``loss`` and ``grad.<name>`` of each chosen input.

    ``shapes`` says of which outputs the loss is made.
    """
    builder = api.GraphBuilder("gradient")
    for name, value in inputs.items():
        builder.input(name, _DTYPES[value.dtype.name], value.shape)
    nodes(builder)
    dtype = _DTYPES[inputs[chosen[0]].dtype.name]
    loss = add_loss(builder, list(shapes.items()), dtype)
    builder.node("Gradient", [*chosen, loss], [f"grad.{name}" for name in chosen], name="gradient")
    for name in (loss, *(f"grad.{name}" for name in chosen)):
        builder.output(name)
    return builder.finish().session(**settings)


def assert_gradients(
    session: api.Session, inputs: Mapping[str, Array], chosen: Sequence[str], *, directions: int = 3
) -> None:
    """Compare the slope of the loss along random directions with what the gradients say of it."""
    rng = np.random.default_rng(2)
    results = {name: np.asarray(value) for name, value in session.run(dict(inputs)).items()}
    for name in chosen:
        gradient, x = results[f"grad.{name}"], inputs[name]
        assert gradient.shape == x.shape
        assert gradient.dtype == x.dtype
        for _ in range(directions):
            way = rng.standard_normal(x.shape)
            step = _STEP * way
            ahead = float(np.asarray(session.run({**inputs, name: x + step})["loss"]))
            behind = float(np.asarray(session.run({**inputs, name: x - step})["loss"]))
            slope, said = (ahead - behind) / (2 * _STEP), float(np.sum(gradient * way))
            scale = max(1.0, abs(slope), float(np.abs(gradient * way).sum()), abs(ahead))
            assert abs(slope - said) <= 2e-7 * scale, (name, slope, said)
