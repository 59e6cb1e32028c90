"""Measured search: the fastest by the given clock is taken, equal nodes are timed once, time is bounded."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from walle_engine import api
from walle_shared.errors import ConfigError

Array = NDArray[np.float32]


def _model(layers: int = 1, width: int = 24) -> tuple[api.Model, dict[str, Array]]:
    rng = np.random.default_rng(7)
    builder = api.GraphBuilder("layers")
    builder.input("x", "F32", [1, width, 9, 9])
    name = "x"
    for layer in range(layers):
        builder.weight(f"w{layer}", rng.standard_normal((width, width, 3, 3), np.float32))
        builder.node("Conv", [name, f"w{layer}"], [f"y{layer}"], name=f"conv{layer}", pads=[1, 1, 1, 1])
        name = f"y{layer}"
    builder.output(name)
    return builder.finish(), {"x": rng.standard_normal((1, width, 9, 9), np.float32)}


def _scripted(seed: int) -> Callable[[], float]:
    """A clock that goes on by random steps, the same ones for the same seed."""
    steps = random.Random(seed)
    times = itertools.accumulate(steps.uniform(1e-6, 1e-4) for _ in itertools.count())
    return lambda: next(times)


def _trials(model: api.Model, inputs: dict[str, Array], **settings: Any) -> list[dict[str, Any]]:
    session = model.session(**settings)
    session.prepare(inputs)
    trials: list[dict[str, Any]] = session.explain()["trials"]
    return trials


def _check(trial: dict[str, Any]) -> None:
    alternatives = trial["alternatives"]
    measured = [a["measured_ms"] for a in alternatives if a["measured_ms"] is not None]
    assert alternatives[trial["chosen"]]["measured_ms"] == min(measured)
    assert alternatives[trial["predicted"]]["predicted_ms"] == min(a["predicted_ms"] for a in alternatives)


@pytest.mark.parametrize("search", ["measure", "exhaustive"])
@pytest.mark.parametrize("seed", range(5))
def test_the_clock_decides_and_decides_the_same_again(search: str, seed: int) -> None:
    model, inputs = _model()
    runs = [_trials(model, inputs, search=search, clock=_scripted(seed)) for _ in range(2)]
    assert runs[0] == runs[1]
    (trial,) = runs[0]
    assert not trial["remembered"]
    _check(trial)


def test_what_was_chosen_is_what_runs() -> None:
    model, inputs = _model()
    chosen = set()
    for seed in range(12):
        session = model.session(search="exhaustive", clock=_scripted(seed))
        session.prepare(inputs)
        program = session.explain()
        (trial,) = program["trials"]
        best = trial["alternatives"][trial["chosen"]]
        assert best["candidate"] in {step["candidate"] for step in program["steps"]}
        functions = {step["function"] for step in program["steps"] if step["command"] == "claim"}
        assert functions == ({best["claim"]} if best["claim"] else set())
        chosen.add((best["claim"], best["candidate"]))
        want = np.asarray(model.session(search="reference").run(inputs)["y0"], np.float64)
        wrong = np.asarray(session.run(inputs)["y0"]) - want
        assert np.linalg.norm(wrong) <= 1e-5 * np.linalg.norm(want)  # what 'high' promises
    assert len(chosen) > 1, "every clock led to the same choice"


@pytest.mark.parametrize("width", [8, 256])
def test_exhaustive_times_all_but_the_hopeless(width: int) -> None:
    model, inputs = _model(width=width)
    (trial,) = _trials(model, inputs, search="exhaustive")
    alternatives = trial["alternatives"]
    least = min(a["predicted_ms"] for a in alternatives)
    for a in alternatives:
        assert (a["measured_ms"] is not None) == (a["predicted_ms"] <= 20 * least)
    _check(trial)


def test_equal_layers_are_timed_once() -> None:
    model, inputs = _model(layers=4, width=20)
    trials = _trials(model, inputs, search="measure")
    inner = [trial["alternatives"] for trial in trials if trial["node"] != trials[0]["node"]]
    assert len(trials) == 4
    assert sum(trial["remembered"] for trial in trials) >= 2
    assert len({str(alternatives) for alternatives in inner}) <= 2  # the first reads the model's input
    assert all(trial["remembered"] for trial in _trials(model, inputs, search="measure"))


def test_time_is_bounded() -> None:
    model, inputs = _model(layers=6)
    times = itertools.count(0.0, 1.0)
    assert len(_trials(model, inputs, search="exhaustive", search_s=1, clock=lambda: next(times))) == 1


def test_the_model_alone_times_nothing() -> None:
    model, inputs = _model()
    for search in ("model", "reference"):
        assert _trials(model, inputs, search=search) == []


@pytest.mark.parametrize("wrong", [{"search": "guess"}, {"search_s": -1.0}, {"search_s": float("nan")}])
def test_wrong_settings_are_named(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        _model()[0].session(**wrong)
