"""How good a ranking is."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def auc(scores: Array, clicked: Array) -> float:
    """How often a clicked item scores above one that was not; a tie counts half. NaN without both."""
    yes = np.asarray(clicked, bool)
    positives, negatives = int(yes.sum()), int((~yes).sum())
    if not positives or not negatives:
        return float("nan")
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]  # equal scores share the mean of their ranks
    return float((ranks[yes].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def gauc(scores: Array, clicked: Array, groups: Array) -> float:
    """The mean of the groups' AUC by their numbers of cards; groups without both kinds are left out.

    Source: Zhou et al., Deep Interest Network for Click-Through Rate Prediction, KDD 2018, section 6.2.
    """
    order = np.argsort(groups, kind="stable")
    borders = np.flatnonzero(np.diff(groups[order])) + 1
    parts = [(len(part), auc(scores[part], clicked[part])) for part in np.split(order, borders)]
    known = [(size, value) for size, value in parts if value == value]
    return (
        sum(size * value for size, value in known) / sum(size for size, _ in known) if known else float("nan")
    )


def interval(values: Array) -> tuple[float, float]:
    """The mean and the half width of its 95 % confidence interval, of independent values."""
    return float(np.mean(values)), float(1.96 * np.std(values, ddof=1) / np.sqrt(len(values)))
