"""Run the float model on data, and remember of its values what choosing scales takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from walle_engine.compress.data import Samples
from walle_engine.compress.ranges import METHODS, PERCENTILE, Method, Observer, Range, range_of
from walle_engine.compress.source import watching
from walle_engine.convert.draft import Draft
from walle_shared.errors import ModelError

type Progress = Callable[[str, int, int], None]
"""Told what is done, how much of it, and how much there is."""


def no_progress(what: str, done: int, total: int) -> None:
    """Tell nobody."""
    del what, done, total


def observe(
    draft: Draft,
    names: Sequence[str],
    samples: Samples,
    *,
    method: Method = "minmax",
    percentile: float = PERCENTILE,
    threads: int = 1,
    progress: Progress = no_progress,
) -> dict[str, Range]:
    """Choose ranges for values of a model.

    Args:
        draft: the model in float32.
        names: its values of interest; those that turn out to be no float32 are left out of the result.
        samples: what to run it on, twice unless the method is ``"minmax"``.
        method: see :func:`walle_engine.compress.ranges.range_of`.
        percentile: for the method of that name.
        threads: of the session.
        progress: told of each batch.

    Raises:
        ModelError: the method is unknown, or a value is not finite; names it.
        EngineError: a batch does not fit the model.
    """
    if method not in METHODS:
        raise ModelError(f"unknown calibration method {method!r}: use one of {', '.join(METHODS)}")
    if not 50 < percentile <= 100:
        raise ModelError(f"percentile is {percentile}: it must be above 50, at most 100")
    inputs = {value.name for value in draft.inputs}
    session = watching(draft, [name for name in names if name not in inputs]).session(threads=threads)
    observers = {name: Observer(name) for name in names}
    passes = 1 if method == "minmax" else 2
    total = passes * len(samples.batches)

    def each(number: int, see: Callable[[Observer, Any], None]) -> None:
        for done, batch in enumerate(samples.batches, number * len(samples.batches)):
            seen = {**batch, **session.run(batch)}
            for name in list(observers):
                array = np.asarray(seen[name])
                if array.dtype == np.float32:
                    see(observers[name], array)
                else:
                    del observers[name]
            progress("observing", done + 1, total)

    each(0, Observer.see_range)
    if passes == 2:
        for observer in observers.values():
            observer.start_counting(method)
        each(1, Observer.count)
    return {name: range_of(one, method, percentile=percentile) for name, one in observers.items()}
