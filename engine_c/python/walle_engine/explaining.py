"""What a session's steps were expected to take and took, and what another choice would have gained."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from walle_engine.profile import Step
from walle_shared.units import format_bytes

__all__ = ["Group", "Regret", "add_measured", "group", "regrets", "totals"]

Program = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Group:
    """Equal steps: of one operator, run the same way on the same sizes.

    Attributes:
        nodes: the first one's name, and how many there are.
        measured_ms: ``None`` where nothing was run.
        size: what makes a step cost what it costs.
    """

    nodes: str
    op: str
    command: str
    candidate: str
    shape: str
    size: str
    count: int
    bytes: int
    predicted_ms: float
    measured_ms: float | None

    @property
    def ratio(self) -> float | None:
        """Measured over predicted."""
        return self.measured_ms / self.predicted_ms if self.measured_ms and self.predicted_ms else None


@dataclass(frozen=True, slots=True)
class Regret:
    """A node's alternatives, timed: what the model chose, and what was fastest."""

    node: str
    op: str
    count: int
    chosen: str
    chosen_ms: float
    best: str
    best_ms: float
    tried: int

    @property
    def lost_ms(self) -> float:
        """What all nodes of the row take longer than they had to."""
        return self.count * (self.chosen_ms - self.best_ms)


def add_measured(program: dict[str, Any], steps: Sequence[Step]) -> None:
    """Give each of the program's steps ``measured_ms``, the median of the runs profiled."""
    planned: list[dict[str, Any]] = program["steps"]
    for index, step in enumerate(planned):
        times_ms = [(run.end_s - run.start_s) * 1e3 for run in steps[index :: len(planned)]]
        step["measured_ms"] = statistics.median(times_ms)


def group(program: Program, *, worst_first: bool) -> list[Group]:
    """Put equal steps together: in the order they run, or the dearest first."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for step in program["steps"]:
        key = (step["op"], step["command"], step["candidate"], _shape(step), step_size(step))
        groups.setdefault(key, []).append(step)
    rows = [_group(steps) for steps in groups.values()]
    if worst_first:
        rows.sort(key=lambda row: -(row.predicted_ms if row.measured_ms is None else row.measured_ms))
    return rows


def _group(steps: Sequence[Mapping[str, Any]]) -> Group:
    first = steps[0]
    return Group(
        nodes=first["node"] if len(steps) == 1 else f"{first['node']} +{len(steps) - 1}",
        op=first["op"],
        command=first["command"],
        candidate=first["candidate"],
        shape=_shape(first),
        size=step_size(first),
        count=len(steps),
        bytes=sum(step["bytes"] for step in steps),
        predicted_ms=sum(step["predicted_ms"] for step in steps),
        measured_ms=sum(step["measured_ms"] for step in steps) if "measured_ms" in first else None,
    )


def _shape(step: Mapping[str, Any]) -> str:
    return f"{step['out']['dtype']} {step['out']['shape']}"


def step_size(step: Mapping[str, Any]) -> str:
    """What makes the step cost what it costs."""
    if "m" in step:
        return f"{step['m']} x {step['n']} x {step['k']}"
    if "regions" in step:
        return f"{step['regions']} regions, {format_bytes(step['bytes_moved'])} moved"
    return ""


def regrets(program: Program) -> list[Regret]:
    """The trials of a session with ``search="exhaustive"``, equal ones together, the largest loss first."""
    counts: dict[str, int] = {}
    trials: dict[str, Mapping[str, Any]] = {}
    for trial in program["trials"]:
        key = f"{trial['op']} {trial['alternatives']}"
        counts[key] = counts.get(key, 0) + 1
        trials.setdefault(key, trial)
    rows = [_regret(trial, counts[key]) for key, trial in trials.items()]
    return sorted(rows, key=lambda row: -row.lost_ms)


def _regret(trial: Mapping[str, Any], count: int) -> Regret:
    alternatives = trial["alternatives"]
    chosen, best = alternatives[trial["predicted"]], alternatives[trial["chosen"]]
    return Regret(
        trial["node"], trial["op"], count, _name(chosen), chosen["measured_ms"], _name(best),
        best["measured_ms"], sum(a["measured_ms"] is not None for a in alternatives),
    )  # fmt: skip


def _name(alternative: Mapping[str, Any]) -> str:
    """The claim, or the decomposition, and its kernel."""
    way, candidate = alternative["claim"] or "decomposed", alternative["candidate"]
    return way if candidate in ("", way) else f"{way}, {candidate.removeprefix('we_')}"


def totals(program: Program, found: Iterable[Regret] = ()) -> dict[str, float | None]:
    """Sums over the program; the regret is the share of the best time that the model's choices lose.

    Returns:
        ``predicted_ms``, ``measured_ms`` (``None`` where nothing was run), ``regret`` (``None`` without
        trials).
    """
    steps = program["steps"]
    measured = [step["measured_ms"] for step in steps if "measured_ms" in step]
    found = list(found)
    best_ms = sum(row.count * row.best_ms for row in found)
    return {
        "predicted_ms": sum(step["predicted_ms"] for step in steps),
        "measured_ms": sum(measured) if measured else None,
        "regret": sum(row.lost_ms for row in found) / best_ms if best_ms else None,
    }
