"""Compare engines on one model of the user's, with random inputs. Needs NumPy; for ONNX the converter too."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from walle_engine import wmodel
from walle_engine.bench.driver import ENGINES, Contestant, Loaded, Samples, race, running
from walle_engine.bench.peers import PEERS, interpreters, resolve
from walle_engine.samples import random_array
from walle_shared.errors import ConfigError, ModelError

__all__ = ["OURS", "Comparison", "Request", "Result", "compare"]

#: Our engine's name in results.
OURS = "Walle"


@dataclass(frozen=True, slots=True)
class Request:
    """What to compare.

    Args:
        model: an ``.onnx`` or ``.wmodel`` file.
        peers: whether to run other engines too; they read ONNX.
        threads: one comparison for each number of them.
        precision: of our engine.
        batch: the size of a symbolic first dim; None leaves that to ``sizes``.
        shapes: whole shapes of inputs, by name.
        sizes: sizes of symbolic dims, by name; others are 1.
        turns: undisturbed turns of each engine.
        turn_s: how long a turn lasts.
    """

    model: Path
    peers: bool = False
    threads: Sequence[int] = (1,)
    precision: str = "high"
    batch: int | None = None
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict[str, Sequence[int]])
    sizes: Mapping[str, int] = field(default_factory=dict[str, int])
    turns: int = 7
    turn_s: float = 0.3


@dataclass(frozen=True, slots=True)
class Result:
    """What one engine did with one number of threads; ``times`` is how many times as long as ours it took."""

    engine: str
    version: str
    threads: int
    median_ms: float
    min_ms: float
    max_ms: float
    times: float | None
    load_ms: float
    growth_bytes: int
    disturbed: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """All results, the shapes they are of, and why engines are missing."""

    results: tuple[Result, ...]
    inputs: Mapping[str, Sequence[int]]
    missing: Mapping[str, str]


def compare(request: Request, tell: Callable[[str], object] = lambda _: None) -> Comparison:
    """Run the comparison.

    Args:
        request: what to compare.
        tell: is given a few words about what goes on.

    Raises:
        ConfigError: the request does not suit the model.
        WalleError: the model cannot be read, converted or run by our engine.

    Blocks: until all have had their turns.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        contestants, missing = _contestants(request, folder, tell)
        inputs = _inputs(request, wmodel.read(Path(contestants[0].settings["converted"])).graph.inputs)
        np.savez(folder / "inputs.npz", **inputs)  # pyright: ignore[reportArgumentType] - names are free
        job = {"model": str(request.model), "folder": name, "inputs": str(folder / "inputs.npz")}
        results: list[Result] = []
        for threads in request.threads:
            tell(f"{threads} thread{'s' * (threads > 1)}")
            found, why = _race(contestants, {**job, "threads": threads}, request)
            results += found
            missing.update(why)
    return Comparison(tuple(results), {name: array.shape for name, array in inputs.items()}, missing)


def _contestants(
    request: Request, folder: Path, tell: Callable[[str], object]
) -> tuple[list[Contestant], dict[str, str]]:
    """Ours first; the second result says why peers are missing."""
    if not request.model.exists():
        raise ConfigError(f"{request.model}: no such file: name a model")
    converted, peers, missing = request.model, list[Contestant](), dict[str, str]()
    if request.model.suffix == ".onnx":
        from walle_engine.convert import convert

        tell("converting")
        converted = folder / "model.wmodel"
        convert(request.model, converted, check=False)
        if request.peers:
            peers, missing = resolve(PEERS, interpreters())
    elif request.peers:
        raise ConfigError(f"other engines cannot read {request.model.name}: give the .onnx it was made of")
    settings = {"converted": str(converted), "precision": request.precision}
    return [Contestant(OURS, ENGINES / "walle.py", settings), *peers], missing


def _inputs(request: Request, values: Sequence[wmodel.Value]) -> dict[str, Any]:
    known = [value.name for value in values]
    for name in request.shapes:
        if name not in known:
            raise ConfigError(f"the model has no input {name!r}: its inputs are {', '.join(known)}")
    rng = np.random.default_rng(0)
    return {value.name: random_array(_shaped(request, value), request.sizes, 1, rng) for value in values}


def _shaped(request: Request, value: wmodel.Value) -> wmodel.Value:
    """The input with what the request says of its shape."""
    shape: Sequence[int | str] | None = value.shape
    if value.name in request.shapes:
        wanted = request.shapes[value.name]
        fits = shape is None or (
            len(shape) == len(wanted)
            and all(isinstance(dim, str) or dim == size for dim, size in zip(shape, wanted, strict=True))
        )
        if not fits:
            raise ConfigError(f"input {value.name!r} is {list(shape or ())} in the model, not {list(wanted)}")
        shape = wanted
    elif request.batch is not None and shape:
        if shape[0] != request.batch and not isinstance(shape[0], str):
            raise ConfigError(
                f"input {value.name!r} has a fixed batch of {shape[0]}: export the model with a symbolic one"
            )
        shape = (request.batch, *shape[1:])
    return replace(value, shape=None if shape is None else tuple(shape))


def _race(
    contestants: Sequence[Contestant], job: Mapping[str, Any], request: Request
) -> tuple[list[Result], dict[str, str]]:
    with running(contestants, job) as (workers, failures):
        samples, died = race(workers, turns=request.turns, turn_s=request.turn_s, patience=request.turns)
        failures |= died
        if OURS in failures:
            raise ModelError(f"our own engine failed: {failures[OURS]}")
        loaded = {name: workers[name].loaded for name in samples}
    return list(_results(samples, loaded, job["threads"])), failures


def _results(samples: Mapping[str, Samples], loaded: Mapping[str, Loaded], threads: int) -> Iterator[Result]:
    """Fastest first."""
    ours = samples[OURS].median_s
    for name in sorted(samples, key=lambda name: samples[name].median_s):
        sample, cost = samples[name], loaded[name]
        low, high = sample.span_s
        yield Result(
            name, cost.version, threads, sample.median_s * 1e3, low * 1e3, high * 1e3,
            None if name == OURS else sample.median_s / ours, cost.load_s * 1e3, cost.growth_bytes,
            sample.disturbed > 0,
        )  # fmt: skip
