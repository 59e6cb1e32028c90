"""Graph rewrites: they make a model smaller or faster without changing what it computes.

Each is a row of ``REWRITES``: a name, a declared pattern (``patterns.py``), and a builder that returns what
takes its place: nodes, the last making the same value; or ``Alias``, an existing value that is the same; or
None where a condition that the pattern cannot state does not hold. A pattern is left alone where something
outside of it reads a value inside it. Rows stand in the order in which they are tried: larger patterns before
their parts.
"""

from __future__ import annotations

from collections import Counter

from walle_engine.convert.draft import Draft
from walle_engine.convert.rewrites import absorption, activations, attention, norms, removal, transposes
from walle_engine.convert.rewrites.duplicates import merge_duplicates
from walle_engine.convert.rewrites.index import Index
from walle_engine.convert.rewrites.patterns import find, ops_of
from walle_engine.convert.rewrites.row import Alias, Rewrite

__all__ = ["REWRITES", "Alias", "Rewrite", "rewrite"]

# Each pass removes nodes or brings them nearer to where they go; a model that wants more is as good as done.
MAX_PASSES = 32

REWRITES: tuple[Rewrite, ...] = (
    *removal.ROWS,
    *norms.ROWS,
    *activations.ROWS,
    *attention.ROWS,
    *absorption.ROWS,
    *transposes.ROWS,
)


def rewrite(draft: Draft) -> dict[str, int]:
    """Apply every row wherever it fits, until none does; returns how often each was applied."""
    applied: Counter[str] = Counter()
    for _ in range(MAX_PASSES):
        draft.prune()  # a node that nobody needs must not keep what it reads
        merged = merge_duplicates(draft)
        index = Index(draft)
        changes = Counter({row.name: count for row in REWRITES if (count := _apply(index, row))})
        draft.nodes = index.nodes()
        changes += Counter({"duplicate": merged})
        if not changes:
            break
        applied += changes
    draft.prune()
    return dict(applied)


def _apply(index: Index, row: Rewrite) -> int:
    """Apply a row once in each place; returns in how many."""
    count = 0
    ends = ops_of(row.pattern)
    for slot in range(len(index)):
        for node in index.nodes_at(slot):
            if node.op in ends and _apply_at(index, row, node.outputs[0]):
                count += 1
    return count


def _apply_at(index: Index, row: Rewrite, name: str) -> bool:
    match = find(index, row.pattern, name) if index.producer(name) else None
    built = row.build(index, match) if match else None
    if match is None or built is None:
        return False
    if isinstance(built, Alias):
        return index.alias(match.root, built.value)
    index.replace(match, built)
    return True
