"""The comparison behind ``walle-engine bench``: shapes, ratios, the chart."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from walle_engine import wmodel
from walle_engine.bench.chart import bar, print_chart
from walle_engine.bench.compare import Comparison, Request, _inputs, _results
from walle_engine.bench.driver import Loaded, Samples
from walle_shared.errors import ConfigError

_IMAGE = wmodel.Value("image", "F32", ("N", 3, "side", "side"))
_FIXED = wmodel.Value("image", "F32", (1, 3))


def _shapes(value: wmodel.Value, **settings: object) -> tuple[int, ...]:
    request = Request(Path("m.wmodel"), **settings)  # type: ignore[arg-type]
    return _inputs(request, [value])["image"].shape


def test_inputs_take_their_shapes_from_the_request() -> None:
    assert _shapes(_IMAGE) == (1, 3, 1, 1)
    assert _shapes(_IMAGE, batch=4, sizes={"side": 8}) == (4, 3, 8, 8)
    assert _shapes(_IMAGE, batch=4, shapes={"image": [2, 3, 5, 6]}) == (2, 3, 5, 6)
    assert _shapes(wmodel.Value("image", "F32", None), shapes={"image": [7]}) == (7,)
    assert _shapes(_FIXED, batch=1) == (1, 3)


@pytest.mark.parametrize(
    ("value", "settings", "why"),
    [
        (_FIXED, {"batch": 2}, "fixed batch of 1"),
        (_FIXED, {"shapes": {"image": [2, 3]}}, r"is \[1, 3\] in the model, not \[2, 3\]"),
        (_IMAGE, {"shapes": {"image": [2, 3]}}, "in the model"),
        (_IMAGE, {"shapes": {"x": [2]}}, "no input 'x': its inputs are image"),
    ],
)
def test_shapes_that_do_not_suit_the_model_are_refused(
    value: wmodel.Value, settings: dict[str, object], why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        _shapes(value, **settings)


def _comparison() -> Comparison:
    samples = {"Walle": Samples((0.002, 0.004)), "Other": Samples((0.006,), disturbed=1)}
    loaded = {name: Loaded("package", "1.0", 0.05, 2_000_000, Path("out.npz")) for name in samples}
    results = tuple(_results(dict(reversed(samples.items())), loaded, 2))
    return Comparison(results, {"x": (1, 3)}, {"Third": "no interpreter has the module third"})


def test_results_are_fastest_first_with_ratios_to_ours() -> None:
    ours, other = _comparison().results
    assert (ours.engine, ours.median_ms, ours.min_ms, ours.max_ms, ours.times) == (
        "Walle",
        3.0,
        2.0,
        4.0,
        None,
    )
    assert (other.engine, other.threads, other.disturbed) == ("Other", 2, True)
    assert np.isclose(other.times or 0, 2.0)


def test_the_chart_fits_a_narrow_terminal_and_says_what_is_missing() -> None:
    console = Console(file=io.StringIO(), width=80)
    print_chart(console, _comparison())
    text = console.file.getvalue()  # type: ignore[attr-defined]
    ours, other = (
        next(line for line in text.splitlines() if line.startswith(name)) for name in ("Walle  ", "Other*")
    )
    assert other.count("█") == 2 * ours.count("█") == 16
    assert "2.00x" in other
    assert "3 ms" in ours
    assert "Third: no interpreter has the module third" in text
    assert "run again on a quiet machine" in text


@pytest.mark.parametrize(("share", "expected"), [(1.0, "████"), (0.5, "██"), (0.53125, "██▏"), (0.0, "▏")])
def test_bars_are_as_long_as_their_share(share: float, expected: str) -> None:
    assert bar(share, 4) == expected
