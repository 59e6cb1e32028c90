"""Types of the telemetry feature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from walle_control.features.telemetry.sinks.sink import SinkStatistics
from walle_shared.ids import DeviceId, ReleaseId, ScenarioName, TaskName, TaskVersion


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
class ReportQuery:
    """Which reports; empty text means any."""

    release: str = ""
    device: str = ""
    outcome: str = ""
