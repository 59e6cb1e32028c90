"""Types of the telemetry feature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from walle_control.features.telemetry.sinks.sink import SinkStatistics
from walle_control.web.describe import within
from walle_control.web.requests import page_after, page_limit
from walle_shared.ids import DeviceId, ReleaseId, ScenarioName, TaskName, TaskVersion
from walle_shared.protocol.messages import VOTING_ERRORS
from walle_shared.units import DAY_S

#: So long may ``GET features`` be asked to wait for its first row: proxies cut silence after a minute.
FEATURES_WAIT_MAX_S: Final = 50


@dataclass(frozen=True, slots=True)
class ReportCount:
    """How many reports of a release came with this stage, outcome and error class."""

    stage: str
    outcome: str
    error_class: str
    n: int


#: A task on a device. ``waiting``: its network or disk failed, it tries again; ``quarantined``: it will not,
#: for a while; ``unknown``: the installation began and nothing was heard of it since.
TaskState = Literal["installing", "unknown", "installed", "waiting", "failed", "quarantined", "reverted"]

#: So long after its beginning an installation counts as one of which nothing is known.
UNKNOWN_AFTER_S: Final = DAY_S


@dataclass(frozen=True, slots=True)
class InstalledTask:
    """What a device last reported about one task's installation or revert, and what that means now."""

    scenario: ScenarioName
    task: TaskName
    version: TaskVersion
    release_id: ReleaseId
    stage: str
    outcome: str
    at_ms: int
    error_class: str
    attempt: int
    barred_s: float
    received_ms: int
    state: TaskState = "installed"

    def as_of(self, now_ms: int) -> InstalledTask:
        """This with its ``state``."""
        return replace(self, state=self._state(now_ms))

    def _state(self, now_ms: int) -> TaskState:
        age_s = (now_ms - self.received_ms) / 1000
        if self.stage == "start":
            return "installing" if age_s < UNKNOWN_AFTER_S else "unknown"
        if age_s < self.barred_s:
            return "quarantined"
        if self.outcome == "success":
            return "installed"
        if self.stage == "revert":
            return "reverted"
        return "failed" if self.error_class in VOTING_ERRORS else "waiting"


@dataclass(frozen=True, slots=True)
class Installations:
    """On how many devices a version is."""

    scenario: str
    task: str
    version: str
    devices: int


@dataclass(frozen=True, slots=True)
class FailureCount:
    """How often something failed lately, and when last."""

    release_id: str
    stage: str
    error_class: str
    code: str
    n: int
    last_ms: int


@dataclass(frozen=True, slots=True)
class StoredReport:
    """A report as received; ``id`` rises with arrival."""

    id: int
    device_id: DeviceId
    report_id: str
    release_id: ReleaseId
    task: TaskName
    version: TaskVersion
    stage: str
    outcome: str
    error_class: str
    code: str
    message: str
    attempt: int
    at_ms: int
    duration_ms: float
    received_ms: int


@dataclass(frozen=True, slots=True)
class StoredFeature:
    """A feature as received; ``id`` rises with arrival. (``device_id``, ``origin``) names it for ever.

    ``trace_id``: of the run that made it, if that was followed.
    """

    id: int
    device_id: DeviceId
    origin: str
    scenario: str
    task: str
    version: str
    release_id: str
    name: str
    at_ms: int
    received_ms: int
    fields: Mapping[str, Any]
    trace_id: str = ""


@dataclass(frozen=True, slots=True)
class ReportPage:
    """Reports by arrival; ask again with ``after=next``."""

    reports: tuple[StoredReport, ...]
    next: int


@dataclass(frozen=True, slots=True)
class FeaturePage:
    """Features by arrival; ask again with ``after=next``."""

    features: tuple[StoredFeature, ...]
    next: int


@dataclass(frozen=True, slots=True)
class SinkList:
    """Every sink besides the database, and the journal's newest id."""

    head: int
    sinks: tuple[SinkStatistics, ...]


@dataclass(frozen=True, slots=True)
class FeatureQuery:
    """Which features; empty text means any."""

    scenario: str = ""
    task: str = ""
    name: str = ""
    device: str = ""
    release: str = ""


@dataclass(frozen=True, slots=True)
class FeaturesAsked(FeatureQuery):
    """A page of features; ``wait_s``: so long an answer may wait for its first row."""

    after: int = page_after()
    limit: int = page_limit()
    wait_s: int = within(0, 0, FEATURES_WAIT_MAX_S)


@dataclass(frozen=True, slots=True)
class ReportQuery:
    """Which reports; empty text means any."""

    release: str = ""
    device: str = ""
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class ReportsAsked(ReportQuery):
    """A page of reports."""

    after: int = page_after()
    limit: int = page_limit()
