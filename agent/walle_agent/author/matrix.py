"""Simulations that a task declares: recorded events, on kinds of devices, against what is expected.

``simulations/simulations.toml`` of the task's folder::

    [[recordings]]                    # events as they were recorded, one file for each version of the app
    name = "visit"
    events = "visit-{app_version}.jsonl"
    app_versions = ["7.10", "8.0"]

    [profiles.small]                  # a kind of device: the most it lets a run have, its instructions
    memory_max_bytes = 33554432
    isa = "avx2"

    [budgets]                         # of every run
    cpu_s = 0.2
    memory_bytes = 8388608

Every recording is played for each of its versions of the app on every profile: that is a *cell*. What its
runs produce must be what ``simulations/golden/`` holds; numbers may differ by ``tolerance``, since devices
have different instructions. A task without the file is *smoked*: its entry must load.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import math
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

import orjson

from walle_agent.author.report import run_to_plain
from walle_agent.author.simulate import Options, Outcome, Simulator, inbox_beside, open_simulator
from walle_agent.config import RunSection
from walle_container import TaskResult
from walle_shared.errors import ConfigError
from walle_shared.manifest import SIMULATIONS_FOLDER
from walle_shared.settings import parse_checked
from walle_shared.units import MIB
from walle_task.authoring import TaskFolder

SIMULATIONS_FILE: Final = "simulations.toml"
_GOLDEN_FOLDER: Final = "golden"
_APP_VERSION: Final = "{app_version}"
_ISA: Final = "WALLE_ENGINE_ISA"

#: What devices let a run have by default.
_USUAL: Final = RunSection()

#: What is kept of a run to be compared: what it produced, never what it cost.
_GOLDEN: Final = ("ok", "trigger", "last_seq", "value", "rows", "values", "uploads")

#: Differences of one cell that are told; more of them tell no more.
_DIFFERENCES_MAX: Final = 5

FailureKind = Literal[
    "load", "refused_event", "nothing_fired", "run_failed", "over_cpu", "over_memory", "over_output",
    "no_golden", "golden_differs",
]  # fmt: skip

Isa = Literal[
    "", "ref", "neon", "neondot", "neonbf16", "avx2", "avx512", "avx512vnni", "avx512bf16", "amx",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recording:
    """Recorded events. ``events`` may name ``{app_version}``; ``fires`` false: nothing is to fire."""

    name: str
    events: str
    app_versions: tuple[str, ...] = ()
    seed: int = 0
    end_visits: bool = False
    fires: bool = True


@dataclass(frozen=True, slots=True)
class Profile:
    """A kind of device."""

    wall_max_s: float = _USUAL.wall_max_s
    memory_max_bytes: int = _USUAL.memory_max_bytes
    isa: Isa = ""


@dataclass(frozen=True, slots=True)
class Budgets:
    """What a run may take; 0: as much as its own limits allow. (Wall time depends on the machine.)"""

    cpu_s: float = 0.0
    memory_bytes: int = 0
    output_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Suite:
    """A parsed ``simulations.toml``. ``float32_fields`` hold arrays of numbers as Base64 of float32."""

    recordings: tuple[Recording, ...] = ()
    profiles: Mapping[str, Profile] = field(default_factory=lambda: {"any": Profile()})
    budgets: Budgets = Budgets()
    tolerance: float = 1e-4
    float32_fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """What is wrong with a cell."""

    kind: FailureKind
    message: str


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the matrix, simulated. ``cpu_s`` and ``peak_bytes`` are the largest of its runs."""

    recording: str
    app_version: str
    profile: str
    runs: int
    cpu_s: float
    peak_bytes: int
    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class MatrixResult:
    """All cells; ``smoked``: the task declares no simulation, and only its loading was tried."""

    passed: bool
    smoked: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class _Play:
    """A recording in one version of the app."""

    recording: Recording
    app_version: str
    events: Path
    golden: Path


async def simulate_matrix(task: TaskFolder, *, update: bool = False) -> MatrixResult:
    """Play every cell, or smoke a task that has none.

    Args:
        task: the task.
        update: write what the runs of each recording produce on the first profile as what is expected.

    Raises:
        ConfigError: the file, or a recording that it names, is wrong.
        InternalError: no worker starts.
    """
    suite = read_suite(task.root)
    if not suite.recordings:
        cell = await _smoke(task)
        return MatrixResult(not cell.failures, smoked=True, cells=(cell,))
    plays = list(_plays(task.root, suite))
    cells: list[Cell] = []
    for number, (name, profile) in enumerate(suite.profiles.items()):
        config = replace(_USUAL, wall_max_s=profile.wall_max_s, memory_max_bytes=profile.memory_max_bytes)
        with _capped(profile.isa):
            async with open_simulator(task, config) as simulator:
                for play in plays:
                    cells.append(await _cell(suite, name, play, simulator, update=update and number == 0))
    return MatrixResult(not any(cell.failures for cell in cells), smoked=False, cells=tuple(cells))


def read_suite(root: Path) -> Suite:
    """The simulations that a task's folder declares; an empty suite if it declares none.

    Raises:
        ConfigError: naming the file and the key.
    """
    path = root / SIMULATIONS_FOLDER / SIMULATIONS_FILE
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return Suite()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    return parse_checked(Suite, text, f"{SIMULATIONS_FOLDER}/{SIMULATIONS_FILE}", _check_suite)


def _check_suite(suite: Suite) -> None:
    names = [recording.name for recording in suite.recordings]
    rules = [
        ("recordings", bool(names), "must not be empty"),
        ("recordings", len(names) == len(set(names)), "must have names of their own"),
        ("profiles", bool(suite.profiles), "must not be empty"),
        ("tolerance", 0 <= suite.tolerance < 1, "must be at least 0 and below 1"),
    ]
    for n, recording in enumerate(suite.recordings):
        has_place = _APP_VERSION in recording.events
        rules += [
            (f"recordings[{n}].name", _is_file_name(recording.name), "must be letters, digits, '_' and '-'"),
            (f"recordings[{n}].events", has_place == bool(recording.app_versions),
             f"must name {_APP_VERSION} if there are app_versions, and only then"),
            (f"recordings[{n}].app_versions", all(map(_is_file_name, recording.app_versions)),
             "must be letters, digits, '.', '_' and '-'"),
        ]  # fmt: skip
    for name, profile in suite.profiles.items():
        rules += [
            (f"profiles.{name}.wall_max_s", profile.wall_max_s > 0, "must be over 0"),
            (f"profiles.{name}.memory_max_bytes", profile.memory_max_bytes > 0, "must be over 0"),
        ]
    for budget in ("cpu_s", "memory_bytes", "output_bytes"):
        rules.append((f"budgets.{budget}", getattr(suite.budgets, budget) >= 0, "must not be negative"))
    for key, holds, rule in rules:
        if not holds:
            raise ConfigError(f"{key} {rule}")


def _is_file_name(text: str) -> bool:
    return bool(text) and text.replace(".", "a").replace("_", "a").replace("-", "a").isalnum()


def _plays(root: Path, suite: Suite) -> Iterator[_Play]:
    folder = root / SIMULATIONS_FOLDER
    for recording in suite.recordings:
        for app_version in recording.app_versions or ("",):
            events = folder / recording.events.replace(_APP_VERSION, app_version)
            if not events.resolve().is_relative_to(folder.resolve()):
                raise ConfigError(
                    f"{SIMULATIONS_FOLDER}/{recording.events}: lies outside of the folder: put it below it"
                )
            golden = "-".join(filter(None, (recording.name, app_version)))
            yield _Play(recording, app_version, events, folder / _GOLDEN_FOLDER / f"{golden}.json")


@contextlib.contextmanager
def _capped(isa: Isa) -> Iterator[None]:
    """Let workers that start now use no more than some instructions."""
    before = os.environ.get(_ISA)
    if isa:
        os.environ[_ISA] = isa
    try:
        yield
    finally:
        if isa:
            os.environ.pop(_ISA, None)
            os.environ.update({_ISA: before} if before is not None else {})


async def _cell(suite: Suite, profile: str, play: _Play, simulator: Simulator, *, update: bool) -> Cell:
    try:
        lines = play.events.read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(f"{play.events}: cannot be read: {error.strerror or error}") from None
    options = Options(play.recording.seed, play.recording.end_visits, inbox=inbox_beside(play.events))
    outcome = await simulator.play(lines, options)
    plain = [run_to_plain(run) for run in outcome.runs]
    found = [{name: run[name] for name in _GOLDEN} for run in plain]
    if update:
        play.golden.parent.mkdir(exist_ok=True)
        play.golden.write_bytes(
            orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"
        )
    failures = [
        *_wrong_runs(play.recording, outcome),
        *_over_budget(suite.budgets, plain),
        *_golden_failures(play.golden, found, suite),
    ]
    results = [run.result for run in outcome.runs]
    return _cell_of(play.recording.name, play.app_version, profile, results, failures)


async def _smoke(task: TaskFolder) -> Cell:
    async with open_simulator(task) as simulator:
        result = await simulator.load()
    failures = [] if result.ok else [Failure("load", _told(result))]
    return _cell_of("", "", "any", [result], failures)


def _cell_of(
    recording: str, app_version: str, profile: str, results: Sequence[TaskResult], failures: Sequence[Failure]
) -> Cell:
    return Cell(
        recording,
        app_version,
        profile,
        len(results),
        max((result.cpu_s for result in results), default=0.0),
        max((result.peak_bytes for result in results), default=0),
        tuple(failures),
    )


def _wrong_runs(recording: Recording, outcome: Outcome) -> Iterator[Failure]:
    for line, complaint in outcome.refused[:_DIFFERENCES_MAX]:
        yield Failure("refused_event", f"{recording.events} line {line}: {complaint}")
    if recording.fires and not outcome.runs:
        yield Failure("nothing_fired", f"nothing fired in {outcome.events} events")
    if not recording.fires and outcome.runs:
        yield Failure("golden_differs", f"{len(outcome.runs)} runs, where nothing is to fire")
    failed = [(n, run.result) for n, run in enumerate(outcome.runs, 1) if not run.result.ok]
    for number, result in failed[:_DIFFERENCES_MAX]:
        yield Failure("run_failed", f"run {number}: {_told(result)}")


def _told(result: TaskResult) -> str:
    where = result.traceback.strip().splitlines()
    return f"{result.error_kind or 'no worker'}: {result.error}" + (
        f" ({where[-1].strip()})" if where else ""
    )


def _over_budget(budgets: Budgets, runs: Sequence[Mapping[str, Any]]) -> Iterator[Failure]:
    table: tuple[tuple[FailureKind, str, float, str], ...] = (
        ("over_cpu", "cpu_s", budgets.cpu_s, "s of processor time"),
        ("over_memory", "peak_bytes", budgets.memory_bytes, "bytes of memory"),
        ("over_output", "output_bytes", budgets.output_bytes, "bytes of output"),
    )
    for kind, name, allowed, unit in table:
        most, number = max(((run[name], n) for n, run in enumerate(runs, 1)), default=(0, 0))
        if allowed and most > allowed:
            yield Failure(kind, f"run {number} took {most:g} {unit}, over the budget of {allowed:g}")


def _golden_failures(path: Path, found: Sequence[Mapping[str, Any]], suite: Suite) -> Iterator[Failure]:
    name = f"{SIMULATIONS_FOLDER}/{_GOLDEN_FOLDER}/{path.name}"
    try:
        expected = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        yield Failure("no_golden", f"{name} is not there: write it with 'walle-agent task simulate --update'")
        return
    except (OSError, orjson.JSONDecodeError) as error:
        yield Failure("no_golden", f"{name}: cannot be read: {error}")
        return
    told = orjson.loads(orjson.dumps(found))
    fields = suite.float32_fields
    pairs = differences(_with_numbers(expected, fields), _with_numbers(told, fields), suite.tolerance)
    for count, difference in enumerate(pairs):
        if count == _DIFFERENCES_MAX:
            return
        yield Failure("golden_differs", f"{name}: {difference}")


def _with_numbers(value: Any, fields: Sequence[str], name: str = "") -> Any:
    """A JSON value with its texts of packed numbers unpacked."""
    match value:
        case dict():
            return {key: _with_numbers(item, fields, key) for key, item in value.items()}
        case list():
            return [_with_numbers(item, fields, name) for item in value]
        case str() if name in fields:
            try:
                data = base64.b64decode(value, validate=True)
                return [number for (number,) in struct.iter_unpack("<f", data)]
            except (binascii.Error, struct.error):
                return value
        case _:
            return value


def differences(expected: Any, found: Any, tolerance: float, path: str = "runs") -> Iterator[str]:
    """Where two JSON values differ, numbers by more than ``tolerance`` (of the larger one, or of 1)."""
    match expected, found:
        case dict(), dict():
            for key in sorted(expected.keys() | found.keys()):
                if key not in found or key not in expected:
                    yield f"{path}.{key}: {'missing' if key not in found else 'not expected'}"
                else:
                    yield from differences(expected[key], found[key], tolerance, f"{path}.{key}")
        case list(), list():
            if len(expected) != len(found):
                yield f"{path}: {len(found)} items, {len(expected)} expected"
            for number, (one, other) in enumerate(zip(expected, found, strict=False)):
                yield from differences(one, other, tolerance, f"{path}[{number}]")
        case (bool(), _) | (_, bool()):
            if expected is not found:
                yield f"{path}: {_short(found)}, expected {_short(expected)}"
        case int() | float(), int() | float():
            if not math.isclose(expected, found, rel_tol=tolerance, abs_tol=tolerance):
                yield f"{path}: {found}, expected {expected}"
        case _:
            if expected != found:
                yield f"{path}: {_short(found)}, expected {_short(expected)}"


def _short(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 60 else text[:57] + "..."


def matrix_lines(result: MatrixResult) -> Iterator[str]:
    """A matrix of simulations for a person: a line for each cell, and what is wrong with it."""
    for cell in result.cells:
        name = " ".join(filter(None, (cell.recording or "loads", cell.app_version, f"on {cell.profile}")))
        used = f"{cell.runs} runs, {cell.cpu_s * 1e3:.1f} ms, {cell.peak_bytes / MIB:.1f} MiB at most"
        yield f"{'failed' if cell.failures else 'ok':<7} {name}: {used}"
        for failure in cell.failures:
            yield f"        {failure.kind}: {failure.message}"
    failed = sum(bool(cell.failures) for cell in result.cells)
    yield f"{len(result.cells)} cells, {failed} failed"
    if result.smoked:
        yield "no simulations are declared: it was only loaded (docs/guide/simulate-a-task.md)"
