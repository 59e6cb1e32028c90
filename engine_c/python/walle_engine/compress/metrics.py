"""How far results are from others, and how right they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from walle_shared.errors import ModelError

type Array = np.ndarray[Any, Any]
type Metric = Callable[[Array, Array], float]
"""Of results and labels, both with samples in front: the larger the better."""


@dataclass(frozen=True)
class Difference:
    """How far one tensor is from another that it stands for, over all samples.

    Args:
        name: of the value.
        max_abs: the largest difference.
        mean_abs: the mean difference.
        cosine: of the angle between the two; 1 where both are all zero.
        sqnr_db: the signal's power over the difference's, in decibels; infinite where they are equal.
        top1: how often the largest of the last axis is the same; None where that has no second element.
    """

    name: str
    max_abs: float
    mean_abs: float
    cosine: float
    sqnr_db: float
    top1: float | None


class Comparison:
    """Sums over batches, from which :class:`Difference` is made; holds no tensor."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._count = self._rows = self._same = 0
        self._max = self._sum = self._noise = self._signal = self._other = self._product = 0.0
        self._ranks = True

    def add(self, expected: Array, actual: Array) -> None:
        """Take in one batch.

        Raises:
            ModelError: if they have different shapes.
        """
        if expected.shape != actual.shape:
            raise ModelError(
                f"{self._name!r} has shape {list(actual.shape)} where {list(expected.shape)} is expected"
            )
        a, b = expected.astype(np.float64), actual.astype(np.float64)
        apart = np.abs(a - b)
        self._count += a.size
        self._max = max(self._max, float(apart.max(initial=0.0)))
        self._sum += float(apart.sum())
        self._noise += float((apart**2).sum())
        self._signal += float((a**2).sum())
        self._other += float((b**2).sum())
        self._product += float((a * b).sum())
        self._ranks = self._ranks and a.ndim >= 2 and a.shape[-1] >= 2
        if self._ranks and a.size:
            same = a.argmax(axis=-1) == b.argmax(axis=-1)
            self._rows += same.size
            self._same += int(same.sum())

    def result(self) -> Difference:
        """Return what the sums say."""
        lengths = math.sqrt(self._signal * self._other)
        equal = self._noise == 0
        sqnr = math.inf if equal else 10 * math.log10(max(self._signal, 1e-300) / self._noise)
        cosine = self._product / lengths if lengths else float(equal)
        top1 = self._same / self._rows if self._ranks and self._rows else None
        return Difference(self._name, self._max, self._sum / max(self._count, 1), cosine, sqnr, top1)


def accuracy(scores: Array, labels: Array) -> float:
    """Return how often the largest score is that of the label: ``[N, ..., C]`` and ``[N, ...]``."""
    return float(np.mean(scores.argmax(axis=-1) == labels))


def auc(scores: Array, labels: Array) -> float:
    """Return how often a sample labelled 1 scores above one labelled 0; a tie counts half.

    Source: the rank-sum statistic of Mann and Whitney, 1947.
    """
    flat, positive = scores.reshape(-1).astype(np.float64), labels.reshape(-1) > 0.5
    _, group, sizes = np.unique(flat, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(sizes) - (sizes - 1) / 2)[group]
    yes, no = int(positive.sum()), int((~positive).sum())
    if not yes or not no:
        raise ModelError("an area under the curve needs labels of both kinds")
    return float((ranks[positive].sum() - yes * (yes + 1) / 2) / (yes * no))


def closeness(scores: Array, labels: Array) -> float:
    """Return minus the mean squared error."""
    return -float(np.mean((scores.astype(np.float64) - labels) ** 2))


METRICS: dict[str, Metric] = {"accuracy": accuracy, "auc": auc, "mse": closeness}


def metric_for(name: str | None, scores: Array, labels: Array) -> tuple[str, Metric]:
    """Return the metric of that name, or the one that fits scores and labels.

    Raises:
        ModelError: if there is none of that name, or none that fits.
    """
    if name is not None:
        if name not in METRICS:
            raise ModelError(f"unknown metric {name!r}: use one of {', '.join(METRICS)}")
        return name, METRICS[name]
    if scores.ndim == labels.ndim + 1 and scores.shape[-1] >= 2 and labels.dtype.kind in "iu":
        return "accuracy", accuracy
    if scores.size == labels.size and set(np.unique(labels).tolist()) <= {0, 1}:
        return "auc", auc
    if scores.shape == labels.shape:
        return "mse", closeness
    raise ModelError(
        f"labels of shape {list(labels.shape)} do not fit results of shape {list(scores.shape)}: "
        "give one label per sample"
    )
