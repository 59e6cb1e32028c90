"""From raw scores [N, K] to what classifiers and regressors return."""

from __future__ import annotations

import numpy as np

from walle_engine.convert.ml.making import Making

NEARLY_ZERO = 1e-7  # Source: ONNX Runtime's SOFTMAX_ZERO


def post_transform(making: Making, scores: str, kind: str) -> str:
    """Apply ``NONE``, ``SOFTMAX``, ``LOGISTIC``, ``SOFTMAX_ZERO`` or ``PROBIT`` to each row."""
    if kind == "NONE":
        return scores
    if kind == "SOFTMAX":
        return making.emit("Softmax", scores, axis=-1)
    if kind == "LOGISTIC":
        return making.emit("Sigmoid", scores)
    if kind == "SOFTMAX_ZERO":
        return _softmax_zero(making, scores)
    if kind == "PROBIT":
        return _probit(making, scores)
    raise making.wrong(f"the transform {kind!r} is unknown")


def _softmax_zero(making: Making, x: str) -> str:
    """Softmax over what is not zero; zeros stay (almost) what they are."""
    last = making.constant([-1], np.int64)
    most = making.emit("ReduceMax", x, last)
    raised = making.emit("Exp", making.emit("Sub", x, most))
    is_zero = making.emit("LessOrEqual", making.emit("Abs", x), making.constant(NEARLY_ZERO, np.float32))
    counted = making.emit("Where", is_zero, making.constant(0, np.float32), raised)
    small = making.emit("Mul", x, making.emit("Exp", making.emit("Neg", most)))
    return making.emit(
        "Div", making.emit("Where", is_zero, small, raised), making.emit("ReduceSum", counted, last)
    )


def _probit(making: Making, x: str) -> str:
    """sqrt(2) erfinv(2x - 1), by Winitzki's approximation as ONNX Runtime does."""
    a = 0.147

    def number(value: float) -> str:
        return making.constant(value, np.float32)

    x = making.emit("Sub", making.emit("Mul", x, number(2)), number(1))
    product = making.emit("Mul", making.emit("Sub", number(1), x), making.emit("Add", number(1), x))
    log = making.emit("Log", product)
    v = making.emit("Add", making.emit("Mul", log, number(0.5)), number(2 / (3.14159 * a)))
    root = making.emit(
        "Sqrt", making.emit("Sub", making.emit("Mul", v, v), making.emit("Mul", log, number(1 / a)))
    )
    size = making.emit("Sqrt", making.emit("Sub", root, v))
    return making.emit("Mul", making.emit("Mul", making.emit("Sign", x), size), number(1.41421356))


def class_labels(making: Making, integers: str) -> tuple[list[int] | list[str], type]:
    """Return the labels of a classifier and their type; ``integers`` is the attribute of integer ones."""
    texts: list[str] = making.attribute("classlabels_strings", [])
    numbers: list[int] = making.attribute(integers, [])
    if bool(texts) == bool(numbers):
        raise making.wrong(f"one of 'classlabels_strings' and {integers!r} is required")
    return (texts, object) if texts else (numbers, np.int64)


def pick_label(making: Making, place: str, labels: list[int] | list[str], kind: type) -> str:
    """Return the labels at places [N]."""
    return making.emit("Gather", making.constant(labels, kind), place)


def best_label(making: Making, scores: str, labels: list[int] | list[str], kind: type) -> str:
    """Return the label of the largest score of each row, the first of equals."""
    return pick_label(making, making.emit("ArgMax", scores, axis=1, keepdims=0), labels, kind)


def label_above(making: Making, score: str, bound: float, labels: list[int] | list[str], kind: type) -> str:
    """Return the second label where the one score [N, 1] is above a bound, else the first."""
    above = making.emit("Greater", score, making.constant(bound, np.float32))
    place = making.emit("Cast", making.emit("Reshape", above, making.constant([-1], np.int64)), to=7)
    return pick_label(making, place, labels, kind)


def both_sides(making: Making, score: str, kind: str, *, complement: bool) -> str:
    """Return the scores of two classes [N, 2] of which only the second's [N, 1] is known.

    Args:
        complement: the first's is what is missing to 1, not the opposite.
    """
    if kind == "LOGISTIC":
        other, score = making.emit("Sigmoid", making.emit("Neg", score)), making.emit("Sigmoid", score)
    elif complement:
        other = making.emit("Sub", making.constant(1, np.float32), score)
    else:
        other = making.emit("Neg", score)
    return making.emit("Concat", other, score, axis=1)
