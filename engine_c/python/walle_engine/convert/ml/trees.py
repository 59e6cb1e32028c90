"""Ensembles of trees: the older forms brought to ``TreeEnsemble``, whose arrays become tensors.

The newest form has one target per leaf. The older ones may have many, which ``leaf_sizes`` says: an attribute
of the engine's, so that a forest over K classes is not stored K times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto, numpy_helper

from walle_engine.convert.ml.making import Making
from walle_engine.convert.ml.scores import best_label, both_sides, class_labels, label_above, post_transform

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER")
AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")

_INTEGERS = (
    "leaf_targetids", "nodes_falseleafs", "nodes_falsenodeids", "nodes_featureids",
    "nodes_missing_value_tracks_true", "nodes_trueleafs", "nodes_truenodeids", "tree_roots",
)  # fmt: skip
_TENSORS = ("leaf_weights", "membership_values", "nodes_modes", "nodes_splits")


def tree_ensemble(making: Making) -> None:
    """The newest form: its lists become tensors, its transform nodes."""
    arrays = {name: making.array(name, np.int64) for name in _INTEGERS}
    for name in _TENSORS:
        tensor = making.attribute(name)
        arrays[name] = numpy_helper.to_array(tensor) if tensor is not None else np.zeros(0, np.float32)
    transform = making.attribute("post_transform", 0)
    if not 0 <= transform < len(TRANSFORMS):
        raise making.wrong("'post_transform' must be 0 to 4")
    scores = _emit(
        making, arrays, making.attribute("n_targets", 1), making.attribute("aggregate_function", 1),
        making.rows(),
    )  # fmt: skip
    making.finish(post_transform(making, scores, TRANSFORMS[transform]))


def _emit(making: Making, arrays: dict[str, Any], targets: int, aggregate: int, rows: str) -> str:
    tensors = {name: numpy_helper.from_array(np.ascontiguousarray(a)) for name, a in arrays.items() if a.size}
    return making.emit(
        "TreeEnsemble", rows, domain="ai.onnx.ml", n_targets=targets, aggregate_function=aggregate, **tensors
    )


# ---- The older forms


@dataclass(frozen=True)
class _Votes:
    """What leaves say: parallel arrays."""

    tree: Any
    node: Any
    target: Any
    weight: Any


def _votes(making: Making, prefix: str) -> _Votes:
    votes = _Votes(
        tree=making.array(f"{prefix}_treeids", np.int64),
        node=making.array(f"{prefix}_nodeids", np.int64),
        target=making.array(f"{prefix}_ids", np.int64),
        weight=making.array(f"{prefix}_weights"),
    )
    if len({len(votes.tree), len(votes.node), len(votes.target), len(votes.weight)}) > 1:
        raise making.wrong(f"the attributes '{prefix}_*' have different lengths")
    return votes


class _Forest:
    """Nodes of the older forms: by tree and number, leaves among them."""

    def __init__(self, making: Making) -> None:
        self._making = making
        self._tree = making.array("nodes_treeids", np.int64)
        self._number = making.array("nodes_nodeids", np.int64)
        self._mode = np.array(making.attribute("nodes_modes", []), object)
        self._feature = making.array("nodes_featureids", np.int64)
        self._split = making.array("nodes_values")
        self._children = [making.array(f"nodes_{side}nodeids", np.int64) for side in ("true", "false")]
        self._missing = making.array("nodes_missing_value_tracks_true", np.int64)
        count = len(self._mode)
        parts = (self._tree, self._number, self._feature, self._split, *self._children)
        if any(len(part) != count for part in parts) or len(self._missing) not in (0, count):
            raise making.wrong("the attributes 'nodes_*' have different lengths")
        self.is_leaf = self._mode == "LEAF"
        if unknown := set(self._mode[~self.is_leaf]) - set(MODES[:-1]):
            raise making.wrong(f"the mode {sorted(unknown)[0]!r} is unknown")
        self._place = {
            key: i for i, key in enumerate(zip(self._tree.tolist(), self._number.tolist(), strict=True))
        }
        if len(self._place) != count:
            raise making.wrong("two nodes of a tree have one number")

    def _places(self, tree: Any, number: Any) -> Any:
        """Where nodes lie, by tree and number."""
        try:
            keys = zip(tree.tolist(), number.tolist(), strict=True)
            return np.array([self._place[key] for key in keys], np.int64)
        except KeyError as error:
            tree_id, node_id = error.args[0]
            raise self._making.wrong(f"tree {tree_id} has no node {node_id}") from error

    def arrays(self, votes: _Votes) -> dict[str, Any]:
        """The newest form's attributes. A tree that is a leaf gets a node whose branches both lead there."""
        inner = np.flatnonzero(~self.is_leaf)
        children = [self._places(self._tree[inner], side[inner]) for side in self._children]
        roots = np.setdiff1d(np.arange(len(self._mode)), np.concatenate(children))
        branches = np.tile(np.arange(len(self._mode)), (2, 1))
        branches[:, inner] = children
        self._require_sound(roots, branches)
        bare = roots[self.is_leaf[roots]]
        order = np.zeros(len(self._mode), np.int64)  # where each is among the leaves, or the inner nodes
        order[inner] = np.arange(len(inner))
        order[self.is_leaf] = np.arange(self.is_leaf.sum())
        true, false = (np.concatenate([side, bare]) for side in children)
        starts = np.where(self.is_leaf[roots], len(inner) + np.cumsum(self.is_leaf[roots]) - 1, order[roots])
        blank = np.zeros(len(bare), np.int64)
        missing = self._missing[inner] if len(self._missing) else np.zeros(0, np.int64)
        arrays = {
            "nodes_featureids": np.concatenate([self._feature[inner], blank]),
            "nodes_modes": np.concatenate([self._modes(inner), blank]).astype(np.uint8),
            "nodes_splits": np.concatenate([self._split[inner], blank]).astype(self._split.dtype),
            "nodes_truenodeids": order[true],
            "nodes_falsenodeids": order[false],
            "nodes_trueleafs": self.is_leaf[true].astype(np.uint8),
            "nodes_falseleafs": self.is_leaf[false].astype(np.uint8),
            "tree_roots": starts,
        }
        if missing.any():
            arrays["nodes_missing_value_tracks_true"] = np.concatenate([missing, blank])
        return arrays | self._leaves(votes, order)

    def _modes(self, inner: Any) -> Any:
        numbers = {mode: number for number, mode in enumerate(MODES)}
        return np.array([numbers[mode] for mode in self._mode[inner]], np.int64)

    def _require_sound(self, roots: Any, branches: Any) -> None:
        """Each tree has one root, from which branches [2, N] (of a leaf to itself) lead to all its nodes."""
        if sorted(self._tree[roots].tolist()) != sorted(set(self._tree.tolist())):
            raise self._making.wrong("each tree must have one root")
        reached, front = np.zeros(len(self._mode), bool), roots
        while front.size:
            reached[front] = True
            below = np.unique(branches[:, front])
            front = below[~reached[below]]
        if not reached.all():
            lost = int(np.argmin(reached))
            raise self._making.wrong(
                f"no branch of tree {self._tree[lost]} leads to node {self._number[lost]}"
            )

    def _leaves(self, votes: _Votes, order: Any) -> dict[str, Any]:
        places = self._places(votes.tree, votes.node)
        kept = self.is_leaf[places]  # votes of other nodes mean nothing
        leaves = order[places[kept]]
        by_leaf = np.argsort(leaves, kind="stable")
        return {
            "leaf_targetids": votes.target[kept][by_leaf],
            "leaf_weights": votes.weight[kept][by_leaf],
            "leaf_sizes": np.bincount(leaves, minlength=int(self.is_leaf.sum())).astype(np.int64),
        }


def _rows(making: Making) -> str:
    """Rows of floats; integers are compared as such."""
    kind = making.element_type()
    return making.rows() if kind == TensorProto.DOUBLE else making.floats(making.rows(), kind)


def _scores(making: Making, votes: _Votes, targets: int, aggregate: str) -> str:
    """The votes together, before base values, as float32."""
    if aggregate not in AGGREGATES:
        raise making.wrong(f"the aggregate function {aggregate!r} is unknown")
    arrays = _Forest(making).arrays(votes)
    scores = _emit(making, arrays, targets, AGGREGATES.index(aggregate), _rows(making))
    wide = making.element_type() == TensorProto.DOUBLE
    return making.floats(scores) if wide else scores


def _based(making: Making, scores: str, base: Any) -> str:
    return making.emit("Add", scores, making.constant(base, np.float32)) if len(base) else scores


def tree_regressor(making: Making) -> None:
    """Votes per target, plus base values."""
    targets = making.attribute("n_targets", 1)
    base = making.array("base_values")
    if len(base) not in (0, targets):
        raise making.wrong(f"{len(base)} base values do not fit {targets} targets")
    scores = _scores(making, _votes(making, "target"), targets, making.attribute("aggregate_function", "SUM"))
    scores = _based(making, scores, base)
    kind = making.attribute("post_transform", "NONE")
    # Of one score alone there is nothing to compare: ONNX Runtime leaves it, save for PROBIT.
    making.finish(scores if targets == 1 and kind != "PROBIT" else post_transform(making, scores, kind))


def tree_classifier(making: Making) -> None:
    """Votes per class; two classes of which only one is voted for are told apart by a bound."""
    labels, label_type = class_labels(making, "classlabels_int64s")
    votes, kind = _votes(making, "class"), making.attribute("post_transform", "NONE")
    base = making.array("base_values")
    if len(base) not in (0, 1, len(labels)):
        raise making.wrong(f"{len(base)} base values do not fit {len(labels)} classes")
    if len(labels) == 2 and set(votes.target.tolist()) in ({0}, {1}):
        _binary(making, votes, base, labels, label_type, kind)
        return
    scores = _based(making, _scores(making, votes, len(labels), "SUM"), base)
    making.finish(best_label(making, scores, labels, label_type))
    making.finish(post_transform(making, scores, kind), 1)


def _binary(
    making: Making, votes: _Votes, base: Any, labels: list[int] | list[str], label_type: type, kind: str
) -> None:
    """Two classes of which one is voted for.

    Votes for the first are the score of the second, whose opposite the first gets; votes for the second stand
    beside a zero.
    """
    second = votes.target[0] == 1
    if len(base) > (0 if second else 1) or (kind == "PROBIT" and not second):
        raise making.unsupported("votes for one of two classes go with at most one base value, and no PROBIT")
    alone = _Votes(votes.tree, votes.node, np.zeros_like(votes.target), votes.weight)
    score = _based(making, _scores(making, alone, 1, "SUM"), base)
    positive = bool((votes.weight >= 0).all())
    making.finish(label_above(making, score, 0.5 if positive else 0, labels, label_type))
    if second:
        beside = making.emit("Concat", making.emit("Sub", score, score), score, axis=1)
        making.finish(post_transform(making, beside, kind), 1)
    else:
        making.finish(both_sides(making, score, kind, complement=positive), 1)
