"""The policy editor: to whom a version is released, checked while it is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from walle_control.console.changes import Change, Shape, changes
from walle_control.console.frame import Form, Page, Visit, go_to
from walle_control.console.releases import matching
from walle_control.features.audiences.types import Estimate, EstimateRequest
from walle_control.features.releases.types import CreateRelease, ReleaseRow, StageWish, Terms
from walle_control.web.access import ALL_SCENARIOS
from walle_shared.errors import WalleError
from walle_shared.ids import DeviceId
from walle_shared.targeting import PredicateError
from walle_shared.targeting.attributes import MEASURED
from walle_shared.targeting.predicate import JOINS, OPERATORS, STARTS

if TYPE_CHECKING:
    from walle_control.app import Control

_DEFAULTS: Final = {
    "stages": "1, 10, 50, 100",
    "hold_h": "0",
    "min_devices": "100",
    "control_percent": "50",
}
_VERSIONS_MAX: Final = 200

#: What the words of a predicate mean; the language is ``walle_shared.targeting.predicate``.
_MEANINGS: Final = {
    "==": "is", "!=": "is known, and is not", "<": "is less than, or older", "<=": "is at most",
    ">": "is more than, or newer", ">=": "is at least", "in": 'is one of ("a", "b"), or within 1..9',
    "not in": "is known, and none of", "startswith": "begins with", "endswith": "ends with",
    "contains": "has somewhere in it", "matches": "is like: * any text, ? one letter, [abc] one of them",
    "and": "both hold", "or": "at least one holds", "not": "the next does not hold",
    "has": "the device says it at all: has(name)",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a wish: a sentence, and where in the predicate if that is what is wrong."""

    problem: str
    before: str = ""
    at: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """What a wish would do."""

    findings: tuple[Finding, ...] = ()
    estimate: Estimate | None = None
    matching: float = 0.0
    device: str = ""
    device_matches: bool = False
    device_problem: str = ""


class PolicyViews:
    """The pages of the editor."""

    def __init__(self, control: Control) -> None:
        self._control = control

    async def edit(self, visit: Visit) -> Page:
        """An empty form, or one for the version that the query names."""
        chosen = {"version": visit.query("version"), "predicate": visit.query("predicate")}
        form = Form({**_DEFAULTS, **{name: value for name, value in chosen.items() if value}})
        return await self._page(visit, form, None)

    async def submit(self, visit: Visit) -> Page | Response:
        """Check a wish; create the release if that was asked for and nothing is wrong."""
        checked = await self._check(visit)
        if visit.form.text("do") == "create" and not checked.findings:
            try:
                wish = wish_of(visit.form)
                visit.who.require("releases:write", wish.scenario or "(none)")
                detail = await self._control.releases.create(wish, visit.who.name)
            except WalleError as error:
                checked = Checked((_finding(error, visit.form.text("predicate")),), checked.estimate)
            else:
                return go_to(f"/releases/{detail.release.id}", "create")
        return await self._page(visit, visit.form, checked)

    async def _page(self, visit: Visit, form: Form, checked: Checked | None) -> Page:
        control, who = self._control, visit.who
        versions = [
            found
            for found in (await control.tasks.list()).versions
            if found.state == "ready" and who.may("releases:write", found.scenario)
        ]
        scenario, task, _ = _version_of(form)
        last = await control.releases.newest_of(scenario, task) if task else None
        if last is not None and not who.may("releases:read", last.scenario):
            last = None
        facts = {
            "form": form,
            "versions": versions[:_VERSIONS_MAX],
            "checked": checked,
            "last": last,
            "changes": self._changes(last, form) if last is not None else None,
            "starts": [(word, _MEANINGS[word]) for word in STARTS],
            "operators": [(word, _MEANINGS[word]) for word in (*OPERATORS, *JOINS)],
            "attributes": (await control.audiences.attributes()).attributes
            if who.may("devices:read", ALL_SCENARIOS)
            else (),
            "measured": sorted(MEASURED),
            "segments": (await control.audiences.segments()).segments
            if who.may("releases:read", ALL_SCENARIOS)
            else (),
            "sets": (await control.audiences.sets()).sets if who.may("releases:read", ALL_SCENARIOS) else (),
        }
        status = 200 if checked is None or not checked.findings else 422
        return Page("policy.html", facts, status)

    def _changes(self, last: ReleaseRow, form: Form) -> tuple[Change, ...] | None:
        """What a wish does differently; ``None`` while it makes no sense."""
        try:
            wish = wish_of(form)
            guard = wish.guard.over(self._control.config.guard.settings())
            wished = Shape(wish.version, wish.predicate, wish.plan(), wish.terms, guard)
        except WalleError:
            return None
        return changes(Shape.of(last), wished)

    async def _check(self, visit: Visit) -> Checked:
        form, control = visit.form, self._control
        predicate = form.text("predicate")
        findings: list[Finding] = []
        estimate: Estimate | None = None
        try:
            estimate = await control.audiences.estimate(
                EstimateRequest(predicate, bool(form.text("optional")))
            )
        except WalleError as error:
            findings.append(_finding(error, predicate))
        try:
            wish = wish_of(form)
            wish.terms.checked(wish.plan())
        except WalleError as error:
            findings.append(Finding(error.message))
        if not visit.who.may("devices:read", ALL_SCENARIOS):
            return Checked(tuple(findings))
        checked = Checked(tuple(findings), estimate, matching(estimate))
        device = form.text("device")
        return await self._ask_device(checked, predicate, device) if device and estimate else checked

    async def _ask_device(self, checked: Checked, predicate: str, device: str) -> Checked:
        try:
            applies = await self._control.audiences.applies(predicate, DeviceId(device))
        except WalleError as error:
            return Checked(checked.findings, checked.estimate, checked.matching, device, False, error.message)
        return Checked(checked.findings, checked.estimate, checked.matching, device, applies)


def wish_of(form: Form) -> CreateRelease:
    """The release that a form asks for.

    Raises:
        RemoteProtocolError: a number is none.
        ConfigError: no version is chosen.
    """
    scenario, task, version = _version_of(form)
    hold_s = form.number("hold_h", 0.0) * 3600
    min_devices = round(form.number("min_devices", 100))
    stages = [part.strip() for part in form.text("stages", "100").split(",") if part.strip()]
    control = form.text("control_percent", "50") if len(stages) > 1 else "0"
    return CreateRelease(
        scenario,
        task,
        version,
        form.text("predicate"),
        stages=tuple(
            StageWish(percent, hold_s, min_devices, form.number("ramp_h", 0.0) * 3600) for percent in stages
        ),
        control_percent=control,
        terms=Terms(windows=form.text("windows"), cap=round(form.number("cap", 0))),
        optional=bool(form.text("optional")),
    )


def _version_of(form: Form) -> tuple[str, str, str]:
    """Scenario, task and version of ``scenario/task version``; empty while none is chosen."""
    name, _, version = form.text("version").partition(" ")
    scenario, _, task = name.partition("/")
    return scenario, task, version


def _finding(error: WalleError, predicate: str) -> Finding:
    """What is wrong; where in the predicate, if it says so."""
    # What is wrong in a segment points into that one's text.
    if not isinstance(error, PredicateError) or " ".join(predicate.split("\n")) not in error.message:
        return Finding(error.message)
    at = min(max(error.column, 0), len(predicate))
    end = at + 1
    while end < len(predicate) and (predicate[end].isalnum() or predicate[end] in "_."):
        end += 1
    return Finding(error.problem, predicate[:at], predicate[at:end] or " ", predicate[end:])
