"""Releases: the list, one of them with its evidence, and what may be done about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from walle_control.console import charts, words
from walle_control.console.charts import Interval, Point
from walle_control.console.frame import Page, View, Visit, go_to
from walle_control.features.audiences.types import Estimate
from walle_control.features.releases.approvals import Decision
from walle_control.features.releases.types import (
    ACTIONS,
    TRANSITIONS,
    Approval,
    ReleaseAction,
    ReleaseDetail,
    ReleaseEvent,
    ReleaseRow,
    ReleaseState,
    ReleaseSummary,
)
from walle_control.features.releases.verdicts import Verdicts
from walle_control.features.rollouts.guard import RULES, GuardSettings, Rule, Verdict
from walle_control.features.rollouts.sequential import rate_interval
from walle_shared.errors import ConfigError
from walle_shared.ids import ReleaseId
from walle_shared.targeting import SHARE_ONE

if TYPE_CHECKING:
    from walle_control.app import Control

_PAGE: Final = 50
_REASON_MAX: Final = 500

#: What the list can be narrowed to.
FILTERS: Final[Mapping[str, tuple[ReleaseState, ...]]] = {
    "all": (),
    "under way": ("pending", "live", "paused"),
    "ended": ("stopped", "rolled_back", "rejected"),
}

#: What each rule looks for, in a person's words.
RULE_WORDS: Final[Mapping[Rule, str]] = {
    "failing_runs": "runs fail more often than allowed",
    "failing_installations": "installations fail more often than allowed",
    "worse_than_before": "fails more often than the version before",
    "silent": "more devices fall silent than before",
    "slower": "runs take longer than before",
    "larger": "runs need more memory than before",
}

#: What each arm is.
ARM_WORDS: Final[Mapping[str, str]] = {
    "treatment": "new version",
    "control": "held back",
    "holdout": "holdout",
}


@dataclass(frozen=True, slots=True)
class Action:
    """Something that may be done now, and what comes of it."""

    word: str
    name: str
    explanation: str
    tone: str = ""
    reason_needed: bool = False


ACTION_TEXTS: Final[Mapping[ReleaseAction, Action]] = {
    "promote": Action(
        "promote", "Promote", "It goes on to its next stage now, without waiting for the guard."
    ),
    "pause": Action("pause", "Pause", "Devices keep it, and it grows no further until it is resumed."),
    "resume": Action("resume", "Resume", "It goes on from where it was."),
    "stop": Action(
        "stop", "Stop", "All devices go back to what they had before; it can be resumed.", "danger"
    ),
    "rollback": Action(
        "rollback", "Roll back", "All devices go back to what they had before. This is for good.", "danger"
    ),
}


@dataclass(frozen=True, slots=True)
class StageView:
    """A stage of the timeline."""

    number: int
    percent: str
    place: str
    terms: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class RuleView:
    """A rule of the guard: its evidence beside what it needs, both as powers of ten."""

    name: str
    words: str
    has: float
    needed: float
    leads_to: str


class ReleaseViews:
    """Pages and forms about releases."""

    def __init__(self, control: Control) -> None:
        self._control = control

    async def scenario(self, request: Request) -> str:
        """The scenario of the release in the path."""
        return await self._control.releases.scenario_of(ReleaseId(request.path_params["release_id"]))

    async def list(self, visit: Visit) -> Page:
        """A page of releases."""
        chosen = visit.query("show", "all")
        before = visit.place_in_list("before")
        found = await summaries(self._control, FILTERS.get(chosen, ()), before, _PAGE)
        facts = {
            "live": before == 0,
            "filters": tuple(FILTERS),
            "chosen": chosen,
            "releases": [each for each in found if visit.who.may("releases:read", each.release.scenario)],
            "next": found[-1].release.rank if len(found) == _PAGE else 0,
        }
        return Page("releases.html", facts)

    async def show(self, visit: Visit) -> Page:
        """One release."""
        control = self._control
        detail = await control.releases.show(ReleaseId(visit.path("release_id")), judged=False)
        row, now_ms = detail.release, control.console.clock.wall_ms()
        found = await control.console.soon.of(
            {
                ("verdicts", (row.id,)): partial(control.releases.verdicts, (row.id,)),
                ("coverage", row.id): partial(control.console.coverage.of, row.id),
                ("estimate", row.predicate): partial(self._estimate, row.predicate),
            }
        )
        points: Sequence[tuple[int, int]] = found.get(("coverage", row.id), ())
        estimate: Estimate | None = found.get(("estimate", row.predicate))
        verdicts: Mapping[ReleaseId, Verdict] = found.get(("verdicts", (row.id,)), {})
        detail = replace(detail, verdict=verdicts.get(row.id, detail.verdict))
        request = open_request(detail)
        facts = {
            "live": True,
            "detail": detail,
            "r": row,
            "stages": timeline(detail),
            "verdict": detail.verdict,
            "arms": detail.verdict.evidence.get("arms", {}),
            "arm_words": ARM_WORDS,
            "rates": rates_chart(detail),
            "rules": rules_of(detail.verdict.evidence),
            "coverage": coverage_chart(detail, points, estimate, now_ms),
            "has_it": points[-1][1] if points else 0,
            "estimate": estimate,
            "waits_for": request,
            "actions": self._actions(visit, detail),
            "decisions": self._decisions(visit, detail, request),
            "before": await control.releases.newest_of(row.scenario, row.task, before_rank=row.rank),
            "done": visit.query("done"),
        }
        return Page("release.html", facts)

    def act(self, action: ReleaseAction) -> View:
        """The form of an action."""

        async def view(visit: Visit) -> Response:
            release_id = ReleaseId(visit.path("release_id"))
            reason = visit.form.text("reason")[:_REASON_MAX]
            await self._control.releases.act(release_id, action, visit.who.name, reason)
            return go_to(f"/releases/{release_id}", action)

        return view

    def decide(self, decision: Decision) -> View:
        """The form of a decision about what a release waits for."""

        async def view(visit: Visit) -> Response:
            release_id = ReleaseId(visit.path("release_id"))
            reason = visit.form.text("reason")[:_REASON_MAX]
            await self._control.releases.decide(release_id, decision, visit.who.name, reason)
            return go_to(f"/releases/{release_id}", decision)

        return view

    async def _estimate(self, predicate: str) -> Estimate | None:
        """How many devices the release is for; ``None`` if its predicate can no longer be read."""
        try:
            return await self._control.console.estimates.of(predicate, self._control.audiences.estimate)
        except ConfigError:
            return None

    def _actions(self, visit: Visit, detail: ReleaseDetail) -> Sequence[Action]:
        row = detail.release
        if not visit.who.may("releases:write", row.scenario):
            return []
        return [
            ACTION_TEXTS[action]
            for action in ACTIONS
            if (row.state, action) in TRANSITIONS and (action != "promote" or row.has_next_stage)
        ]

    def _decisions(self, visit: Visit, detail: ReleaseDetail, request: Approval | None) -> Sequence[Action]:
        if request is None:
            return []
        who, scenario = visit.who, detail.release.scenario
        own = who.name in (request.asked_by, detail.history[0].actor if detail.history else "")
        found = []
        if who.may("releases:approve", scenario) and not own:
            found += [
                Action("approve", "Approve", f"It goes on with step {request.step!r}.", "main"),
                Action("reject", "Turn down", f"It does not go on with step {request.step!r}.", "danger"),
            ]
        if who.may("releases:break_glass", scenario):
            found.append(
                Action("break-glass", "Break the glass",
                       "It goes on without approval. The reason is kept, under this name.", "danger", True)
            )  # fmt: skip
        return found


async def summaries(
    control: Control, states: Sequence[ReleaseState], before_rank: int, limit: int
) -> Sequence[ReleaseSummary]:
    """A page of releases, with what the guard makes of them as far as that is known."""
    found = (await control.releases.page(states, before_rank, limit, judged=False)).releases
    return await Verdicts(control.releases, control.console.soon).on_all(found)


def open_request(detail: ReleaseDetail) -> Approval | None:
    """The request that waits for a decision."""
    newest = detail.approvals[-1:]
    return newest[0] if newest and newest[0].state == "open" else None


def stage_times(history: Sequence[ReleaseEvent]) -> list[int]:
    """When a release came to each of its stages."""
    times: list[int] = []
    for event in history:
        step = event.evidence.get("step")
        if event.event == "create":
            times = [event.at_ms]
        elif event.event in ("approve", "break_glass") and step == "create":
            times = [event.at_ms]  # it begins now
        elif event.event == "promote" or (event.event in ("approve", "break_glass") and step == "full"):
            times.append(event.at_ms)
    return times


def timeline(detail: ReleaseDetail) -> list[StageView]:
    """The stages, and where the release is among them."""
    row, times = detail.release, stage_times(detail.history)
    return [
        StageView(
            number + 1,
            f"{stage.share * 100 / SHARE_ONE:.7g}",
            "past" if number < row.stage else "now" if number == row.stage else "to come",
            _terms(stage.hold_s, stage.ramp_s, stage.min_devices, is_last=number == len(row.plan.stages) - 1),
            times[number] if number < len(times) and number <= row.stage else 0,
        )
        for number, stage in enumerate(row.plan.stages)
    ]


def _terms(hold_s: float, ramp_s: float, min_devices: int, *, is_last: bool) -> str:
    terms = [f"grows in {words.span(ramp_s)}"] if ramp_s else []
    if not is_last:
        terms += [f"holds {words.span(hold_s)}"] if hold_s else []
        terms.append(f"{words.count(max(min_devices, 1))} devices")
    return ", ".join(terms)


def rules_of(evidence: Mapping[str, Any]) -> list[RuleView]:
    """The rules with their evidence; none if the verdict was an operator's own rule."""
    has, needed = evidence.get("log10_e", {}), evidence.get("log10_needed", {})
    return [
        RuleView(words.label(rule), RULE_WORDS[rule], has[rule], needed[rule], words.CONSEQUENCES[leads_to])
        for rule, (leads_to, _) in RULES.items()
        if rule in has and rule in needed
    ]


def rates_chart(detail: ReleaseDetail) -> Markup:
    """The failure rates of the arms with their intervals; empty before any device has started."""
    arms = [
        (ARM_WORDS[name], arm["failed"], arm["started"])
        for name, arm in detail.verdict.evidence.get("arms", {}).items()
        if arm["started"]
    ]
    if not arms:
        return Markup("")
    guard: GuardSettings = detail.release.guard
    shown = [
        Interval(name, failed / started, *rate_interval(failed, started)) for name, failed, started in arms
    ]
    said = "; ".join(
        f"{arm.name} {words.rate(arm.rate)}, between {words.rate(arm.low)} and {words.rate(arm.high)}"
        for arm in shown
    )
    title = f"Failure rates: {said}; allowed {words.rate(guard.max_failure_rate)}"
    return charts.intervals(shown, guard.max_failure_rate, title)


def coverage_chart(
    detail: ReleaseDetail, points: Sequence[Point], estimate: Estimate | None, now_ms: int
) -> Markup:
    """Devices that installed it, over time, against the plan; empty while there is nothing to draw."""
    row, times = detail.release, stage_times(detail.history)
    if not times or row.state in ("pending", "rejected"):
        return Markup("")
    voters = row.plan.voters / SHARE_ONE
    heard = [(float(at), count / voters) for at, count in points if at > times[0]]
    is_over = row.state not in ("live", "paused")
    stop_ms = max(detail.history[-1].at_ms if is_over else now_ms, times[0] + 1)
    end_ms = max([float(stop_ms), *(at for at, _ in heard)])  # some say so after the end
    plan = plan_line(row, times, stop_ms, matching(estimate)) if estimate else []
    planned = f", the plan says {words.count(plan[-1][1])}" if plan else ""
    if plan and is_over:
        plan += [(float(stop_ms), 0.0), (end_ms, 0.0)]
    last = heard[-1][1] if heard else 0.0
    said = f"{words.count(last)} devices installed it" if heard else "no device has installed it"
    curve = [(float(times[0]), 0.0), *heard, (end_ms, last)]
    return charts.coverage(curve, plan, f"Coverage over time: {said}{planned}")


def matching(estimate: Estimate | None) -> float:
    """How many devices match, about."""
    if estimate is None or not estimate.sampled:
        return 0.0
    return estimate.devices * estimate.matching / estimate.sampled


def plan_line(row: ReleaseRow, times: Sequence[int], end_ms: int, devices: float) -> list[Point]:
    """How many devices should have it by when: each stage's share without its control arm, ramps included."""
    line: list[Point] = []
    for stage, since_ms in enumerate(times[: len(row.plan.stages)]):
        until_ms = times[stage + 1] if stage + 1 < len(times) else end_ms
        before = line[-1][1] if line else 0.0
        plan = row.plan.stages[stage]
        part = plan.share / SHARE_ONE * (1 - row.plan.control_at(stage) / SHARE_ONE)
        goal = part * devices
        ramp_ms = plan.ramp_s * 1000
        reached = before + (goal - before) * min((until_ms - since_ms) / ramp_ms, 1.0) if ramp_ms else goal
        line += [(float(since_ms), before)]
        line += [(min(since_ms + ramp_ms, float(until_ms)), reached), (float(until_ms), reached)]
    return line
