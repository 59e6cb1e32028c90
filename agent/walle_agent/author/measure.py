"""Runs a task often enough to see where its time goes, with and without the profile in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from walle_agent.author.simulate import Options, open_simulator
from walle_container.spec import ProfileNode
from walle_shared.errors import TaskError
from walle_task.authoring import TaskFolder

PASSES_MAX = 200


@dataclass(frozen=True, slots=True)
class Measured:
    """Trees of the profiled runs, and what runs took in the middle, profiled and not."""

    profiles: tuple[tuple[ProfileNode, ...], ...]
    profiled_ms: float
    plain_ms: float

    @property
    def runs(self) -> int:
        """How many runs were profiled."""
        return len(self.profiles)


async def measure(task: TaskFolder, lines: Sequence[bytes], options: Options, seconds: float) -> Measured:
    """Play the events again and again, until profiled runs have taken so many seconds.

    Raises:
        TaskError: the events fire nothing.
    """
    profiled: list[tuple[float, tuple[ProfileNode, ...]]] = []
    plain_s: list[float] = []
    async with open_simulator(task) as simulator:
        await simulator.play(lines, options)  # the first pass loads modules and models
        for _ in range(PASSES_MAX):
            outcome = await simulator.play(lines, replace(options, profile=True))
            if not outcome.runs:
                raise TaskError("the events fire nothing; 'walle-agent task run' says why")
            profiled += [(run.result.wall_s, run.result.profile) for run in outcome.runs]
            outcome = await simulator.play(lines, options)
            plain_s += [run.result.wall_s for run in outcome.runs]
            if sum(wall_s for wall_s, _ in profiled) >= seconds:
                break
    trees = tuple(tree for _, tree in profiled if tree)  # a run that was cut off has none
    return Measured(trees, 1e3 * median(wall_s for wall_s, _ in profiled), 1e3 * median(plain_s))
