"""Support vector machines: a kernel between rows and support vectors, then a matrix product."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from walle_engine.convert.ml.making import Making
from walle_engine.convert.ml.scores import best_label, both_sides, class_labels, pick_label, post_transform


def svm_regressor(making: Making) -> None:
    """One score per row; of a one-class machine its sign."""
    count = making.attribute("n_supports", 0)
    weights, rho = making.array("coefficients"), making.array("rho")
    if len(rho) == 0 or len(weights) == 0 or (count and len(weights) != count):
        raise making.wrong("'coefficients', 'rho' and 'n_supports' do not fit")
    features = _kernels(making, count) if count else making.float_rows()
    product = making.emit("MatMul", features, making.constant(weights.reshape(-1, 1)))
    score = making.emit("Add", product, making.constant(rho[:1]))
    if making.attribute("one_class", 0):
        inside = making.emit("Greater", score, making.constant(0, np.float32))
        ends = making.constant(1, np.float32), making.constant(-1, np.float32)
        score = making.emit("Where", inside, *ends)
    making.finish(score)


def svm_classifier(making: Making) -> None:
    """One machine per pair of classes votes; without support vectors one score per class decides."""
    if making.attribute("prob_a"):
        raise making.unsupported("it estimates probabilities: export it with scores alone")
    sizes = making.attribute("vectors_per_class", [])
    (_by_pairs if sum(sizes) else _by_class)(making)


def _by_class(making: Making) -> None:
    labels, label_type = class_labels(making, "classlabels_ints")
    weights, rho, count = making.array("coefficients"), making.array("rho"), len(labels)
    if len(rho) == 0 or len(weights) == 0 or len(weights) % count:
        raise making.wrong("'coefficients', 'rho' and the labels do not fit")
    product = making.emit("MatMul", making.float_rows(), making.constant(weights.reshape(count, -1).T.copy()))
    scores = making.emit("Add", product, making.constant(rho[:1]))
    if count == 2:
        making.finish(_second_if_positive(making, scores, labels, label_type, bool((weights >= 0).all())))
    else:
        making.finish(best_label(making, scores, labels, label_type))
    making.finish(post_transform(making, scores, making.attribute("post_transform", "NONE")), 1)


def _second_if_positive(
    making: Making, scores: str, labels: list[int] | list[str], label_type: type, all_positive: bool
) -> str:
    """ONNX Runtime's rule for two classes: the second where any score is above a bound."""
    most = making.emit("ReduceMax", scores, making.constant([1], np.int64), keepdims=0)
    above = making.emit(
        "GreaterOrEqual" if all_positive else "Greater",
        most,
        making.constant(0.5 if all_positive else 0, np.float32),
    )
    best = making.emit("ArgMax", scores, axis=1, keepdims=0)
    place = making.emit("Where", above, making.constant(1, np.int64), best)
    return pick_label(making, place, labels, label_type)


def _by_pairs(making: Making) -> None:
    labels, label_type = class_labels(making, "classlabels_ints")
    kind = making.attribute("post_transform", "NONE")
    weights, rho = _pair_weights(making, len(labels))
    scores = making.emit("MatMul", _kernels(making, len(weights)), making.constant(weights))
    scores = making.emit("Add", scores, making.constant(rho))
    making.finish(_voted_label(making, scores, labels, label_type))
    if len(labels) == 2:
        scores = both_sides(making, scores, kind, complement=kind != "NONE")
        making.finish(scores, 1)
    else:
        making.finish(post_transform(making, scores, kind), 1)


def _pairs(classes: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(classes) for j in range(i + 1, classes)]


def _pair_weights(making: Making, classes: int) -> tuple[Any, Any]:
    """[V, P] weights and [P] offsets. A pair's machine sees only the support vectors of its classes."""
    sizes = making.attribute("vectors_per_class")
    count, pairs = sum(sizes), _pairs(classes)
    given, rho = making.array("coefficients"), making.array("rho")
    if len(sizes) != classes or min(sizes) < 0 or len(given) < (classes - 1) * count or len(rho) < len(pairs):
        raise making.wrong("'coefficients', 'rho', 'vectors_per_class' and the labels do not fit")
    given = given[: (classes - 1) * count].reshape(classes - 1, count)
    ends = np.cumsum(sizes)
    spans = [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]
    weights = np.zeros((count, len(pairs)), np.float32)
    for pair, (i, j) in enumerate(pairs):
        weights[spans[i], pair] = given[j - 1, spans[i]]
        weights[spans[j], pair] = given[i, spans[j]]
    return weights, rho[: len(pairs)]


def _voted_label(making: Making, scores: str, labels: list[int] | list[str], label_type: type) -> str:
    """A positive score is a vote for the first class of the pair, any other for the second."""
    pairs = _pairs(len(labels))
    first, second = (np.eye(len(labels), dtype=np.float32)[[pair[k] for pair in pairs]] for k in (0, 1))
    positive = making.emit("Greater", scores, making.constant(0, np.float32))
    wins = making.emit("Cast", positive, to=TensorProto.FLOAT)
    gained = making.emit("MatMul", wins, making.constant(first - second))
    votes = making.emit("Add", gained, making.constant(second.sum(axis=0)))
    return best_label(making, votes, labels, label_type)


def _kernels(making: Making, count: int) -> str:
    """The kernel between each row and each support vector, [N, V]."""
    vectors = making.array("support_vectors")
    if len(vectors) == 0 or len(vectors) % count:
        raise making.wrong(f"'support_vectors' does not hold {count} rows")
    vectors = vectors.reshape(count, -1)
    gamma, offset, degree = [*making.attribute("kernel_params", []), 0.0, 0.0, 0.0][:3]
    kind, x = making.attribute("kernel_type", "LINEAR"), making.float_rows()
    if kind == "RBF":
        return _radial(making, x, vectors, gamma)
    product = making.emit("MatMul", x, making.constant(vectors.T.copy()))
    if kind == "LINEAR":
        return product
    scaled = making.emit("Mul", product, making.constant(gamma, np.float32))
    scaled = making.emit("Add", scaled, making.constant(offset, np.float32))
    if kind == "POLY":
        return making.emit("Pow", scaled, making.constant(degree, np.float32))
    if kind == "SIGMOID":
        return making.emit("Tanh", scaled)
    raise making.wrong(f"the kernel {kind!r} is unknown")


def _radial(making: Making, x: str, vectors: Any, gamma: float) -> str:
    """exp(-gamma |x - v|^2) by |x|^2 - 2xv + |v|^2, in float64 as the terms nearly cancel."""
    vectors = vectors.astype(np.float64)
    x = making.emit("Cast", x, to=TensorProto.DOUBLE)
    product = making.emit("MatMul", x, making.constant(-2 * vectors.T))
    own = making.emit("ReduceSumSquare", x, making.constant([1], np.int64))
    distance = making.emit("Add", making.emit("Add", product, own), making.constant((vectors**2).sum(axis=1)))
    exponent = making.emit("Mul", distance, making.constant(-gamma, np.float64))
    return making.floats(making.emit("Exp", exponent))
