"""Cases of ``TreeEnsemble`` in the engine's own form, with a walk in Python to compare with."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
COMPARISONS = (np.less_equal, np.less, np.greater_equal, np.greater, np.equal, np.not_equal)

# Two trees: the first compares, the second asks for members. Leaf 2 has two votes, leaf 3 none.
TREES: dict[str, Any] = {
    "n_targets": 3,
    "nodes_featureids": np.array([0, 1, 2, 0]),
    "nodes_modes": np.array([0, 3, 6, 4], np.uint8),
    "nodes_splits": np.array([0.5, -0.25, 0, 1], np.float32),
    "nodes_truenodeids": np.array([1, 0, 3, 3]),
    "nodes_falsenodeids": np.array([2, 1, 4, 0]),
    "nodes_trueleafs": np.array([0, 1, 0, 1]),
    "nodes_falseleafs": np.array([1, 1, 1, 1]),
    "nodes_missing_value_tracks_true": np.array([1, 0, 1, 0]),
    "tree_roots": np.array([0, 2]),
    "membership_values": np.array([1, -2, np.nan], np.float32),
    "leaf_sizes": np.array([1, 1, 2, 0, 1]),
    "leaf_targetids": np.array([0, 1, 0, 2, 1]),
    "leaf_weights": np.array([0.5, -1.5, 0.25, 2, -0.75], np.float32),
}


def _leaf(trees: dict[str, Any], root: int, row: Array) -> int:
    node = root
    while True:
        value, mode = row[trees["nodes_featureids"][node]], trees["nodes_modes"][node]
        if np.isnan(value) and trees["nodes_missing_value_tracks_true"][node]:
            holds = True
        elif mode == 6:
            holds = bool((trees["membership_values"] == value).any())
        else:
            holds = bool(COMPARISONS[mode](value, trees["nodes_splits"][node]))
        side = "true" if holds else "false"
        leaf, node = trees[f"nodes_{side}leafs"][node], trees[f"nodes_{side}nodeids"][node]
        if leaf:
            return int(node)


def _walked(aggregate: int) -> Any:
    ends = np.concatenate([[0], np.cumsum(TREES["leaf_sizes"])])
    combine = {2: np.minimum, 3: np.maximum}.get(aggregate, np.add)

    def walk(x: Array) -> Array:
        out = np.zeros((len(x), TREES["n_targets"]))
        for row, to in zip(x, out, strict=True):
            voted = np.zeros(len(to), bool)
            for root in TREES["tree_roots"]:
                leaf = _leaf(TREES, root, row)
                for vote in range(ends[leaf], ends[leaf + 1]):
                    target, weight = TREES["leaf_targetids"][vote], float(TREES["leaf_weights"][vote])
                    to[target] = combine(to[target], weight) if voted[target] else weight
                    voted[target] = True
        return out / len(TREES["tree_roots"]) if aggregate == 0 else out

    return walk


def _rows(count: int, dtype: Any) -> Array:
    rng = np.random.default_rng(count)
    x = rng.integers(-8, 8, (count, 3)) / 4
    x[rng.random(x.shape) < 0.15] = np.nan
    return x.astype(dtype)


CASES: tuple[dict[str, Any], ...] = tuple(
    {
        "op": "TreeEnsemble",
        "inputs": [_rows(rows, dtype)],
        "reference": _walked(aggregate),
        "attrs": {**TREES, "aggregate_function": aggregate},
        "terms": 2,
    }
    for aggregate in range(4)
    for rows, dtype in ((1, np.float32), (8, np.float32), (100, np.float32), (19, np.float64))
)
