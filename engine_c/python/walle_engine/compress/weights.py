"""Weights alone in 8 or 4 bits: for models that spend their time on reading weights, not on multiplying.

- Products become ``MatMulNBits``: rows of codes in blocks with a scale each, two codes of 4 bits to a byte.
  The engine keeps them so where that is not slower, and makes float32 of them in registers.
- Recurrent cells get ``DequantizeLinear`` with a scale per unit; the engine widens them once, when it loads.
- Tables that are looked up stay bytes with a scale per row; what is picked is widened.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from walle_engine import wmodel
from walle_engine.compress import numbers
from walle_engine.compress.names import fresh_name, names_of
from walle_engine.compress.placement import CELL_AXIS, RECURRENT
from walle_engine.compress.source import Source, read_draft
from walle_engine.convert.draft import Draft
from walle_shared.errors import ModelError

type Array = np.ndarray[Any, Any]

BLOCKS = (16, 32, 64, 128, 256)
BLOCK_UNIT = 16  # what the length of a block must be a multiple of; a whole row is rounded up to it
SMALLEST = 1024  # elements: below, the nodes take more than is won


@dataclass(frozen=True)
class Packed:
    """What became of a model.

    Args:
        draft: the graph.
        packed: names of nodes whose weights are codes now.
    """

    draft: Draft
    packed: tuple[str, ...]


def quantize_weights(
    source: Source,
    bits: int = 8,
    *,
    block: int | None = None,
    symmetric: bool = True,
    keep: Sequence[str] = (),
) -> Packed:
    """Store and run the weights of products, recurrent cells and tables as codes; needs no data.

    Args:
        source: a ``.wmodel`` or ``.onnx`` file.
        bits: of a code, 8 or 4. Tables have 8 in either case.
        block: how many weights of a product's row share a scale: 16, 32, 64, 128 or 256; omitted: all of it
            with 8 bits, 32 with 4.
        symmetric: scales alone; without, each block has a zero point too, which fits skewed weights better.
        keep: names of nodes, or patterns, that stay as they are.

    Raises:
        ModelError: settings make no sense, a weight is not finite, no node fits ``keep``, or none has weights
            that are worth it.
    """
    if bits not in (4, 8):
        raise ModelError(f"weights of {bits} bits: use 4 or 8")
    if block is not None and block not in BLOCKS:
        raise ModelError(f"blocks of {block}: use one of {', '.join(map(str, BLOCKS))}")
    draft = read_draft(source)
    packing = _Packing(draft, bits, 32 if bits == 4 and block is None else block, symmetric)
    found = {node.name: pack for node in draft.nodes if (pack := packing.way_of(node)) is not None}
    kept = _kept(list(found), keep)
    nodes: list[wmodel.Node] = []
    for node in draft.nodes:
        pack = None if node.name in kept else found.get(node.name)
        nodes += [node] if pack is None else packing.checked(pack, node)
    packed = tuple(name for name in found if name not in kept)
    if not packed:
        raise ModelError(
            f"no weights to quantise: no product, recurrent cell or table of {SMALLEST} float32 or more"
        )
    result = draft.with_outputs(draft.outputs)
    result.nodes, result.weights = nodes, packing.weights
    result.prune()
    return Packed(result, packed)


def _kept(names: Sequence[str], patterns: Sequence[str]) -> set[str]:
    kept: set[str] = set()
    for pattern in patterns:
        fitting = fnmatch.filter(names, pattern)
        if not fitting:
            raise ModelError(
                f"no layer fits {pattern!r}: those with weights are {', '.join(names) or 'none'}"
            )
        kept.update(fitting)
    return kept


type Way = Callable[[wmodel.Node], list[wmodel.Node]]


class _Packing:
    """Nodes and constants of the new graph."""

    def __init__(self, draft: Draft, bits: int, block: int | None, symmetric: bool) -> None:
        self._draft, self._bits, self._block, self._symmetric = draft, bits, block, symmetric
        self._taken = names_of(draft)
        self._done: dict[str, tuple[str, ...]] = {}
        self.weights: dict[str, Array] = dict(draft.weights)

    def way_of(self, node: wmodel.Node) -> Way | None:
        """Return how a node's weights become codes; None where they stay."""
        if node.op == "MatMul" and self._is_weight(node.inputs[1], 2) and node.inputs[0] not in self.weights:
            return self._product
        if node.op == "Gemm" and self._is_weight(node.inputs[1], 2) and _is_plain(node):
            return self._gemm
        if node.op in RECURRENT and all(self._is_weight(name, 3) for name in node.inputs[1:3]):
            return self._cell
        if node.op == "Gather" and node.attrs.get("axis", 0) == 0 and self._is_weight(node.inputs[0], 2):
            return self._table
        return None

    def checked(self, way: Way, node: wmodel.Node) -> list[wmodel.Node]:
        """Make a node's replacement; says of which what is wrong."""
        try:
            return way(node)
        except ModelError as error:
            raise ModelError(f"layer {node.name!r}: {error}", node=node.name) from None

    def _is_weight(self, name: str, rank: int) -> bool:
        weight = self._draft.weights.get(name)
        return (
            weight is not None
            and weight.dtype == np.float32
            and weight.ndim == rank
            and weight.size >= SMALLEST
        )

    def _constant(self, wish: str, value: Any) -> str:
        name = fresh_name(self._taken, wish)
        self.weights[name] = np.asarray(value)
        return name

    def _value(self, wish: str) -> str:
        return fresh_name(self._taken, wish)

    # ---- Products

    def _product(self, node: wmodel.Node) -> list[wmodel.Node]:
        return [self._coded_product(node.name, node.inputs[0], node.inputs[1], False, node.outputs[0])]

    def _gemm(self, node: wmodel.Node) -> list[wmodel.Node]:
        x, weight, *rest = node.inputs
        turned = bool(node.attrs.get("transB", 0))
        bias = rest[0] if rest else ""
        if not bias:
            return [self._coded_product(node.name, x, weight, turned, node.outputs[0])]
        product = self._value(f"{node.outputs[0]}.product")
        return [
            self._coded_product(node.name, x, weight, turned, product),
            wmodel.Node("Add", self._value(f"{node.name}.bias"), (product, bias), node.outputs),
        ]

    def _coded_product(self, name: str, x: str, weight: str, turned: bool, out: str) -> wmodel.Node:
        array = self._draft.weights[weight]
        rows = array if turned else array.T
        n, k = rows.shape
        block = self._block or -(-k // BLOCK_UNIT) * BLOCK_UNIT
        key = f"{weight}.{turned}"
        if key not in self._done:
            blocks = numbers.quantize_blocks(rows, self._bits, block, symmetric=self._symmetric)
            self._done[key] = self._stored(weight, blocks)
        attrs = {"K": k, "N": n, "bits": self._bits, "block_size": block}
        return wmodel.Node("MatMulNBits", name, (x, *self._done[key]), (out,), attrs)

    def _stored(self, weight: str, blocks: numbers.Blocks) -> tuple[str, ...]:
        """Constants of a matrix in codes, as ONNX Runtime's operator has them."""
        pack = numbers.pack_nibbles if self._bits == 4 else np.ascontiguousarray
        codes = self._constant(f"{weight}.codes", pack(blocks.codes))
        scales = self._constant(f"{weight}.scales", blocks.scales)
        if blocks.zero_points is None:
            return codes, scales
        return codes, scales, self._constant(f"{weight}.zero_points", pack(blocks.zero_points))

    # ---- Cells and tables

    def _cell(self, node: wmodel.Node) -> list[wmodel.Node]:
        made: list[wmodel.Node] = []
        inputs = list(node.inputs)
        dtype = wmodel.numpy_dtype("I4" if self._bits == 4 else "I8")
        for place in (1, 2):
            wish, weight = inputs[place], self._draft.weights[inputs[place]]
            scales = numbers.channel_scales(weight, CELL_AXIS, self._bits)
            codes = numbers.quantize_channels(weight, scales, CELL_AXIS, self._bits)
            parameters = (
                self._constant(f"{wish}.codes", codes.astype(dtype)),
                self._constant(f"{wish}.scales", scales),
            )
            inputs[place] = wide = self._value(f"{wish}.wide")
            made.append(wmodel.Node("DequantizeLinear", wide, parameters, (wide,), {"axis": CELL_AXIS}))
        return [*made, replace(node, inputs=tuple(inputs))]

    def _table(self, node: wmodel.Node) -> list[wmodel.Node]:
        """``codes[i] * scales[i]``: a scale per row."""
        table, indices = node.inputs
        if table not in self._done:
            scales = numbers.channel_scales(self._draft.weights[table], 0)
            codes = numbers.quantize_channels(self._draft.weights[table], scales, 0)
            names = (
                self._constant(f"{table}.codes", codes),
                self._constant(f"{table}.scales", scales[:, None]),
            )
            self._done[table] = names
        codes_name, scales_name = self._done[table]
        picked, factor, wide = (
            self._value(f"{node.outputs[0]}.{what}") for what in ("codes", "scale", "wide")
        )
        return [
            wmodel.Node("Gather", node.name, (codes_name, indices), (picked,), {"axis": 0}),
            wmodel.Node("Gather", factor, (scales_name, indices), (factor,), {"axis": 0}),
            wmodel.Node("Cast", wide, (picked,), (wide,), {"to": "F32"}),
            wmodel.Node("Mul", self._value(f"{node.name}.scaled"), (wide, factor), node.outputs),
        ]


def _is_plain(node: wmodel.Node) -> bool:
    return (
        not node.attrs.get("transA", 0)
        and node.attrs.get("alpha", 1.0) == 1.0
        and node.attrs.get("beta", 1.0) == 1.0
    )
