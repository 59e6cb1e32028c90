"""Linear models: a matrix product, intercepts, a transform of the scores."""

from __future__ import annotations

from walle_engine.convert.ml.making import Making
from walle_engine.convert.ml.scores import best_label, both_sides, class_labels, label_above, post_transform


def _scores(making: Making, targets: int) -> str:
    """X times the coefficients [targets, F], plus one intercept per target."""
    weights, intercepts = making.array("coefficients"), making.array("intercepts")
    if len(weights) == 0 or len(weights) % targets:
        raise making.wrong(f"{len(weights)} coefficients do not make {targets} rows")
    product = making.emit(
        "MatMul", making.float_rows(), making.constant(weights.reshape(targets, -1).T.copy())
    )
    if len(intercepts) == 0:
        return product
    if len(intercepts) != targets:
        raise making.wrong(f"{len(intercepts)} intercepts do not fit {targets} targets")
    return making.emit("Add", product, making.constant(intercepts))


def linear_regressor(making: Making) -> None:
    """One score per target."""
    targets = making.attribute("targets", 1)
    if targets < 1:
        raise making.wrong("'targets' must be 1 or more")
    scores = _scores(making, targets)
    kind = making.attribute("post_transform", "NONE")
    # Of one score alone there is nothing to compare: ONNX Runtime leaves it, save for PROBIT.
    making.finish(scores if targets == 1 and kind != "PROBIT" else post_transform(making, scores, kind))


def linear_classifier(making: Making) -> None:
    """One score per class, or one for two classes, whose sign decides."""
    labels, label_type = class_labels(making, "classlabels_ints")
    count = max(len(making.array("intercepts")), 1)
    scores = _scores(making, count)
    kind = making.attribute("post_transform", "NONE")
    if count > 1:
        if len(labels) != count:
            raise making.wrong(f"{len(labels)} labels do not fit {count} scores")
        making.finish(best_label(making, scores, labels, label_type))
        making.finish(post_transform(making, scores, kind), 1)
        return
    two = labels if len(labels) == 2 else ["0", "1"] if label_type is object else [0, 1]
    making.finish(label_above(making, scores, 0, two, label_type))
    if len(labels) == 2:
        making.finish(both_sides(making, scores, kind, complement=True), 1)
    else:
        making.finish(post_transform(making, scores, kind) if kind == "PROBIT" else scores, 1)
