"""Figures of a report beside plain formulas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from walle_engine.compress import Samples, compress, report_on, store
from walle_engine.compress.metrics import Comparison, accuracy, auc, metric_for
from walle_engine.convert.draft import Draft
from walle_shared.errors import ModelError


def test_differences_are_the_formulas_over_all_batches() -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((9, 5))
    b = a + 0.1 * rng.standard_normal((9, 5))
    comparison = Comparison("scores")
    for rows in (slice(0, 4), slice(4, 9)):
        comparison.add(a[rows], b[rows])
    found = comparison.result()
    assert found.max_abs == pytest.approx(np.abs(a - b).max())
    assert found.mean_abs == pytest.approx(np.abs(a - b).mean())
    assert found.cosine == pytest.approx((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))
    assert found.sqnr_db == pytest.approx(20 * math.log10(np.linalg.norm(a) / np.linalg.norm(a - b)))
    assert found.top1 == np.mean(a.argmax(1) == b.argmax(1))


def test_equal_tensors_and_shapes_that_differ() -> None:
    comparison = Comparison("zeros")
    comparison.add(np.zeros(3), np.zeros(3))
    assert comparison.result().cosine == 1
    assert math.isinf(comparison.result().sqnr_db)
    with pytest.raises(ModelError, match=r"shape \[2\] where \[3\]"):
        comparison.add(np.zeros(3), np.zeros(2))


def test_the_area_under_the_curve_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    labels, scores = rng.integers(0, 2, 300), np.round(rng.standard_normal(300), 1)
    assert auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))
    with pytest.raises(ModelError, match="both kinds"):
        auc(scores, np.zeros(300))


def test_the_metric_that_fits() -> None:
    scores, classes = np.eye(3, dtype=np.float32), np.arange(3)
    assert metric_for(None, scores, classes) == ("accuracy", accuracy)
    assert metric_for(None, scores[:, :1], np.array([1, 0, 0]))[0] == "auc"
    assert metric_for(None, scores, scores + 0.5)[0] == "mse"
    with pytest.raises(ModelError, match="do not fit"):
        metric_for(None, scores, np.zeros(7))
    with pytest.raises(ModelError, match="unknown metric 'f1'"):
        metric_for("f1", scores, classes)


def test_a_report_has_times_and_sizes(digits: Draft, calibration: Samples) -> None:
    report = report_on(digits, store(digits, "float16").draft, calibration)
    assert report.ms_before > 0
    assert report.ms_after > 0
    assert report.task is None
    assert report.drop == 1 - (report.outputs[0].top1 or 0)


def test_labels_and_outputs_that_do_not_fit(digits: Draft, heldout: Samples) -> None:
    small = store(digits, "float16").draft
    with pytest.raises(ModelError, match="7 labels for 259 samples"):
        report_on(digits, small, Samples(heldout.batches, np.zeros(7, int)), timed=False)
    with pytest.raises(ModelError, match="no output 'logits'"):
        report_on(digits, small, heldout, output="logits", timed=False)


def test_what_is_worse_than_allowed_is_refused_with_the_layer(
    digits: Draft, calibration: Samples, heldout: Samples
) -> None:
    how: dict[str, Any] = {"judge": heldout, "weight_bits": 2}
    with pytest.raises(
        ModelError, match=r"worse by 0\.\d+, more than 0\.01; furthest off is layer 'fc2'"
    ) as it:
        compress(digits, calibration, **how, max_drop=0.01)
    assert it.value.node == "fc2"
    report = compress(digits, calibration, **how).report
    assert report is not None
    assert report.drop > 0.01


def test_settings_that_contradict_each_other(digits: Draft, calibration: Samples) -> None:
    with pytest.raises(ModelError, match="needs data"):
        compress(digits)
    with pytest.raises(ModelError, match="needs data to measure"):
        compress(digits, stored="float16", max_drop=0.1)
    with pytest.raises(ModelError, match="needs a bound"):
        compress(digits, calibration, keep_worst=True)
