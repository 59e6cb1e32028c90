"""Weights in 16 bits: what is narrowed, what is left, and what it costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from walle_engine.compress import Samples, report_on, store, to_bytes, to_model
from walle_engine.convert.draft import Draft
from walle_shared.errors import ModelError


@pytest.mark.parametrize(("stored", "sqnr_db"), [("float16", 70), ("bfloat16", 50)])
def test_half_the_file_and_the_same_digits(
    digits: Draft, heldout: Samples, stored: Any, sqnr_db: float
) -> None:
    made = store(digits, stored)
    report = report_on(digits, made.draft, heldout, timed=False)
    assert report.size_after < 0.52 * report.size_before
    assert report.drop == 0
    assert report.outputs[0].sqnr_db > sqnr_db
    assert not made.left


def test_a_table_stays_narrow_until_it_is_picked_from(make_draft: Any) -> None:
    table = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    draft = make_draft(
        [("Gather", "look", ("table", "at"), ("rows",)), ("Add", "sum", ("x", "rows"), ("y",))],
        {"x": (2, 8)}, {"y": (2, 8)}, {"table": table, "at": np.array([7, 0])},
    )  # fmt: skip
    made = store(draft, "bfloat16").draft
    assert made.weights["table"].dtype.name == "bfloat16"
    assert [node.op for node in made.nodes] == ["Gather", "Cast", "Add"]
    out = np.asarray(to_model(made).session().run({"x": np.zeros((2, 8), np.float32)})["y"])
    assert np.array_equal(out, made.weights["table"][[7, 0]].astype(np.float32))


def test_what_does_not_fit_is_left(make_draft: Any) -> None:
    large, small = np.full((8, 8), 1e30, np.float32), np.ones((8, 8), np.float32)
    draft = make_draft(
        [("MatMul", "a", ("x", "large"), ("h",)), ("MatMul", "b", ("h", "small"), ("y",))],
        {"x": ("N", 8)}, {"y": ("N", 8)}, {"large": large, "small": small},
    )  # fmt: skip
    made = store(draft, "float16")
    assert made.narrowed == ("small",)
    assert made.left == {"large": "it holds numbers past the type's range"}
    assert store(draft, "bfloat16").narrowed == ("large", "small")


def test_nothing_to_store_and_unknown_types(make_draft: Any, digits: Draft) -> None:
    draft = make_draft([("Relu", "bend", ("x",), ("y",))], {"x": ("N", 2)}, {"y": ("N", 2)}, {})
    with pytest.raises(ModelError, match="no float32 weight"):
        store(draft, "float16")
    with pytest.raises(ModelError, match="use one of float16, bfloat16"):
        store(digits, "int7")  # type: ignore[arg-type]


def test_files_are_the_same_each_time(digits: Draft) -> None:
    assert to_bytes(store(digits, "float16").draft) == to_bytes(store(digits, "float16").draft)
