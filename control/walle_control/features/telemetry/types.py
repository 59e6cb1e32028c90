"""Types of the telemetry feature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from walle_control.features.telemetry.sinks.sink import SinkStatistics
from walle_control.web.describe import within
from walle_control.web.requests import page_after, page_limit
from walle_shared.ids import DeviceId, ReleaseId, ScenarioName, TaskName, TaskVersion

#: So long may ``GET features`` be asked to wait for its first row: proxies cut silence after a minute.
FEATURES_WAIT_MAX_S: Final = 50


@dataclass(frozen=True, slots=True)
class ReportCount:
    """How many reports of a release came with this stage, outcome and error class."""

    stage: str
    outcome: str
    error_class: str
    n: int


@dataclass(frozen=True, slots=True)
class InstalledTask:
    """What a device last reported about one task's installation or revert."""

    scenario: ScenarioName
    task: TaskName
    version: TaskVersion
    release_id: ReleaseId
    stage: str
    outcome: str
    at_ms: int


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
    """A feature as received; ``id`` rises with arrival. (``device_id``, ``origin``) names it for ever."""

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
