"""Weights stored in 16 bits: half the file; the engine widens them when it loads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from walle_engine import wmodel
from walle_engine.compress.names import fresh_name, names_of
from walle_engine.compress.source import Source, read_draft
from walle_engine.convert.draft import Draft, captures
from walle_shared.errors import ModelError

type Array = np.ndarray[Any, Any]
type Stored = Literal["float16", "bfloat16"]

STORED: dict[Stored, str] = {"float16": "F16", "bfloat16": "BF16"}
#: Elements: below, a name and a node take more than is won.
SMALLEST = 64
#: Bytes in float32: the engine computes larger constants anew in every run (``MAX_FOLDED`` of run/prepare.c).
LARGEST_WIDENED = 64 << 20


@dataclass(frozen=True)
class Narrowed:
    """What became of a model.

    Args:
        draft: the graph.
        narrowed: names of the weights that take half the room.
        left: those that do not, with the reason.
    """

    draft: Draft
    narrowed: tuple[str, ...]
    left: dict[str, str]


def store(source: Source, stored: Stored) -> Narrowed:
    """Store the float32 weights of a model in 16 bits.

    A table that is only looked up stays narrow in memory, and what is picked is widened.

    Args:
        source: a ``.wmodel`` or ``.onnx`` file.
        stored: ``"float16"``, 11 significant bits up to 65504, or ``"bfloat16"``, 8 and float32's range.

    Raises:
        ModelError: the type is unknown, or there is no such weight.
    """
    if stored not in STORED:
        raise ModelError(f"cannot store weights as {stored!r}: use one of {', '.join(STORED)}")
    draft = read_draft(source)
    result = draft.with_outputs(draft.outputs)
    taken, named = names_of(draft), _fixed_names(draft)
    narrowed: list[str] = []
    left: dict[str, str] = {}
    casts: list[wmodel.Node] = []
    for name, array in draft.weights.items():
        if array.dtype != np.float32 or array.size < SMALLEST:
            continue
        narrow = _narrow(array, STORED[stored])
        looked_up = _is_looked_up(draft, name)
        reason = _obstacle(array, narrow, name in named, looked_up)
        if reason:
            left[name] = reason
            continue
        narrowed.append(name)
        if looked_up:
            result.weights[name] = narrow
            result.nodes = _widened_behind(result.nodes, name, taken)
        else:
            kept = fresh_name(taken, f"{name}.{stored}")
            del result.weights[name]
            result.weights[kept] = narrow
            casts.append(
                wmodel.Node("Cast", fresh_name(taken, f"{name}.widen"), (kept,), (name,), {"to": "F32"})
            )
    if not narrowed:
        raise ModelError(
            f"the model has no float32 weight of {SMALLEST} elements or more that {stored} holds"
        )
    result.nodes = [*casts, *result.nodes]
    return Narrowed(result, tuple(narrowed), left)


def _narrow(array: Array, dtype: str) -> Array:
    with np.errstate(over="ignore"):
        return array.astype(wmodel.numpy_dtype(dtype))


def _obstacle(array: Array, narrow: Array, is_fixed: bool, looked_up: bool) -> str:
    if is_fixed:
        return "an attribute, a body or an output names it"
    if not np.array_equal(np.isfinite(array), np.isfinite(narrow.astype(np.float32))):
        return "it holds numbers past the type's range"
    if array.nbytes > LARGEST_WIDENED and not looked_up:
        return "it is so large that it would be widened in every run"
    return ""


def _fixed_names(draft: Draft) -> set[str]:
    fixed = {value.name for value in draft.outputs}
    for node in draft.nodes:
        fixed.update(captures(node))
        fixed.update(
            value["tensor"]
            for value in node.attrs.values()
            if isinstance(value, dict) and isinstance(value.get("tensor"), str)
        )
    return fixed


def _is_looked_up(draft: Draft, name: str) -> bool:
    readers = [node for node in draft.nodes if name in node.inputs]
    return bool(readers) and all(
        node.op == "Gather" and node.inputs[0] == name and name not in node.inputs[1:] for node in readers
    )


def _widened_behind(nodes: list[wmodel.Node], table: str, taken: set[str]) -> list[wmodel.Node]:
    """Nodes with a cast behind each that picks from a table."""
    result: list[wmodel.Node] = []
    for node in nodes:
        if table not in node.inputs:
            result.append(node)
            continue
        picked = fresh_name(taken, f"{node.outputs[0]}.narrow")
        result.append(wmodel.Node(node.op, node.name, node.inputs, (picked,), node.attrs))
        name = fresh_name(taken, f"{node.name}.widen")
        result.append(wmodel.Node("Cast", name, (picked,), node.outputs, {"to": "F32"}))
    return result
