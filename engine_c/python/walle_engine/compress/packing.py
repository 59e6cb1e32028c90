"""Constants of 4 bits in a file: two to a byte, taken apart by the first nodes of the graph.

ONNX's types of 4 bits take a byte per element in memory and in our files. Here the low halves of bytes are
the first half of the elements and the high halves the second, so that taking apart is two operators and a
concatenation. The engine does it once, when it loads the model.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from walle_engine import wmodel
from walle_engine.compress.names import fresh_name, names_of
from walle_engine.convert.draft import Draft

type Array = np.ndarray[Any, Any]

_OFFSETS = {"I4": 8, "U4": 0}  # what makes codes non-negative
#: Elements: taking one apart adds some 1.7 kB of nodes and constants to a file, half of these (2026-11-27).
_SMALLEST = 3_400


def packed(draft: Draft) -> Draft:
    """Return the graph with its 4-bit constants packed; the same draft where there is none.

    They become I8 and U8 behind the nodes that take them apart; operators take these wherever they take the
    types of 4 bits.
    """
    names = [name for name, array in draft.weights.items() if wmodel.dtype_name(array.dtype) in _OFFSETS]
    if not names:
        return draft
    result = draft.with_outputs(draft.outputs)
    taken = names_of(draft)
    before: list[wmodel.Node] = []
    for name in names:
        array = result.weights.pop(name)
        offset = _OFFSETS[wmodel.dtype_name(array.dtype)]
        codes = array.astype(np.int8)
        if array.size < _SMALLEST:
            result.weights[name] = codes if offset else codes.astype(np.uint8)
        else:
            before += _taken_apart(result, taken, name, codes, offset)
    result.nodes = [*before, *result.nodes]
    return result


def _taken_apart(draft: Draft, taken: set[str], name: str, codes: Array, offset: int) -> list[wmodel.Node]:
    """Nodes that make a constant of its packed form."""
    nodes: list[wmodel.Node] = []

    def constant(wish: str, value: Array) -> str:
        made = fresh_name(taken, f"{name}.{wish}")
        draft.weights[made] = value
        return made

    def node(op: str, *inputs: str, out: str = "", **attrs: wmodel.Attribute) -> str:
        made = out or fresh_name(taken, f"{name}.{op.lower()}")
        nodes.append(wmodel.Node(op, made, inputs, (made,), attrs))
        return made

    packed_codes = constant("packed", halves(codes, offset))
    low = node("BitwiseAnd", packed_codes, constant("low", np.array(15, np.uint8)))
    high = node("BitShift", packed_codes, constant("four", np.array(4, np.uint8)), direction="RIGHT")
    flat = node("Concat", low, high, axis=0)
    if codes.size % 2:
        bounds = (constant(wish, np.array([value])) for wish, value in (("from", 0), ("to", codes.size)))
        flat = node("Slice", flat, *bounds)
    shape = constant("shape", np.array(codes.shape, np.int64))
    if not offset:
        node("Reshape", flat, shape, out=name)
        return nodes
    signed = node("Sub", node("Cast", flat, to="I8"), constant("offset", np.array(offset, np.int8)))
    node("Reshape", signed, shape, out=name)
    return nodes


def halves(codes: Array, offset: int) -> Array:
    """Return codes two to a byte: the first half of them in the low bits."""
    flat = (codes.reshape(-1).astype(np.int16) + offset).astype(np.uint8)
    half = math.ceil(flat.size / 2)
    both = np.zeros(2 * half, np.uint8)
    both[: flat.size] = flat
    result: Array = both[:half] | both[half:] << 4
    return result
