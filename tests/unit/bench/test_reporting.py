"""Figures of the benchmark as tables, as JSON and against the run that was kept."""

from __future__ import annotations

import io
import json
from dataclasses import asdict

import numpy as np
import pytest
from onnx import TensorProto, helper
from rich.console import Console

from reference import frobenius_error, largest_error, widened
from reporting import Cell, Grid, Measured, Report, Row, load_report, markdown, print_report


@pytest.fixture
def report() -> Report:
    grid = Grid("nets", "Latency", "ms", notes={"": ["c is absent"]})
    grid.put("m, 1 thread", "a", Cell(2.0, 1.5, 3.0))
    grid.put("m, 1 thread", "a / b", Cell(0.5, unit="x", text="b"))
    grid.put("m, 1 thread", "b", Cell(1.0, 1.0, 1.0))
    grid.put("m, 2 threads", "b", Cell(0.25, 0.2, 0.3))
    return Report([Row("nets", "rate", 10.0, "runs/s", 9.0, 11.0)], [grid])


def test_a_report_survives_json(report: Report) -> None:
    assert load_report(json.loads(json.dumps(asdict(report)))) == report


def test_figures_have_names_and_ratios_are_not_compared(report: Report) -> None:
    assert report.figures() == {
        "nets: rate": 10.0,
        "nets: Latency: m, 1 thread: a": 2.0,
        "nets: Latency: m, 1 thread: b": 1.0,
        "nets: Latency: m, 2 threads: b": 0.25,
    }


def test_figures_stand_beside_the_kept_run(report: Report) -> None:
    console = Console(file=io.StringIO(), width=120)
    kept = {"nets: rate": 5.0, "nets: Latency: m, 1 thread: a": 5.0}
    print_report(console, report, kept)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "2 (2.50x)" in text
    assert "2.00x" in text  # twice the rate
    assert "c is absent" in text


def test_the_page_has_the_grid_and_its_spans(report: Report) -> None:
    lines = markdown({"nets": Measured(report, {"cpu": "Fast", "isa": ["a", "b"]})}).splitlines()
    assert "Measured on: cpu Fast; isa a, b." in lines
    assert "|  | a | b | a / b |" in lines
    assert "| m, 1 thread | 2 | 1 | 0.5x b |" in lines
    assert "| m, 2 threads | - | 0.25 | - |" in lines
    assert "| m, 1 thread | 1.5 .. 3 | 1 .. 1 |" in lines
    assert "- c is absent" in lines


def test_a_newer_run_replaces_the_rows_it_measured(report: Report) -> None:
    report.grids[0].note("m, 1 thread", "was noisy")
    report.grids[0].note("m, 2 threads", "a failed")
    grid = Grid("nets", "Latency", "ms", notes={"": ["d is absent"]})
    grid.put("m, 1 thread", "b", Cell(7.0))
    grid.put("n, 1 thread", "b", Cell(8.0))
    (merged,) = report.updated(Report(report.rows, [grid])).grids
    assert list(merged.cells) == ["m, 1 thread", "m, 2 threads", "n, 1 thread"]
    assert merged.cells["m, 1 thread"] == {"b": Cell(7.0)}
    assert merged.cells["m, 2 threads"] == {"b": Cell(0.25, 0.2, 0.3)}
    assert merged.sentences() == ["d is absent", "m, 2 threads: a failed"]


def test_errors_are_those_of_the_worst_output() -> None:
    reference = [np.array([3.0, 4.0]), np.array([1.0])]
    outputs = [np.array([3.0, 4.5]), np.array([1.3])]
    assert np.isclose(frobenius_error(outputs, reference), 0.3)
    assert np.isclose(largest_error(outputs[:1], reference[:1]), 0.125)


def test_a_widened_model_has_no_float32_left() -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["n"], ["c"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["c", "w"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("n", TensorProto.INT64, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
        [helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])],
    )
    text = str(widened(helper.make_model(graph)))
    assert f"data_type: {TensorProto.FLOAT}\n" not in text
    assert f"elem_type: {TensorProto.FLOAT}\n" not in text
    assert f"i: {TensorProto.FLOAT}\n" not in text
