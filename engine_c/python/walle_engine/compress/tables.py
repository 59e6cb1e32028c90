"""A report as tables of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from walle_engine.compress.metrics import Difference
from walle_engine.compress.report import Report
from walle_shared.units import format_bytes

type Table = tuple[Sequence[str], Sequence[Sequence[str]]]

_MEASURES = ("max error", "mean error", "cosine", "SQNR dB", "same top 1")


def tables_of(report: Report, worst: int) -> Iterator[Table]:
    """Yield headers and rows: both models, outputs, and the layers that are furthest off."""
    yield ("", "float32", "compressed", "change"), _both(report)
    yield ("output", *_MEASURES), [_row(one) for one in report.outputs]
    yield ("layer", *_MEASURES), [_row(one) for one in report.layers[:worst]]


def _both(report: Report) -> list[tuple[str, str, str, str]]:
    rows = [
        (
            "file",
            format_bytes(report.size_before),
            format_bytes(report.size_after),
            f"{report.size_after / report.size_before - 1:+.0%}",
        ),
        (
            "time of a run",
            f"{report.ms_before:.3f} ms",
            f"{report.ms_after:.3f} ms",
            f"{report.ms_after / report.ms_before - 1:+.0%}" if report.ms_before else "",
        ),
    ]
    if report.task is not None:
        task = report.task
        rows.append(
            (
                f"{task.metric} of {task.output}, {task.samples} samples",
                f"{task.original:.4f}",
                f"{task.compressed:.4f}",
                f"{task.compressed - task.original:+.4f}",
            )
        )
    return rows


def _row(one: Difference) -> tuple[str, ...]:
    return (
        one.name,
        f"{one.max_abs:.3g}",
        f"{one.mean_abs:.3g}",
        f"{one.cosine:.6f}",
        f"{one.sqnr_db:.1f}",
        "-" if one.top1 is None else f"{one.top1:.2%}",
    )
