"""Takes in reports and features, each exactly once however often a device sends it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import islice

import orjson
import trio

from walle_control.db.batches import Batches
from walle_control.db.connection import Database
from walle_control.db.sql import Connection
from walle_control.features.learning import intake as learning
from walle_control.features.releases import read_model as releases
from walle_control.features.rollouts.votes import Told, count_votes
from walle_control.features.telemetry import store
from walle_control.features.telemetry.arrivals import Arrivals
from walle_control.features.telemetry.sinks.pump import Sinks
from walle_control.features.telemetry.types import (
    FeaturePage,
    FeatureQuery,
    ReportPage,
    ReportQuery,
    SinkList,
    StoredReport,
)
from walle_control.features.webhooks import outbox
from walle_shared.clock import Clock
from walle_shared.errors import LimitExceeded, RemoteProtocolError
from walle_shared.ids import DeviceId, ReleaseId
from walle_shared.limits import REPORT_BATCH_MAX
from walle_shared.protocol.asks import LATER
from walle_shared.protocol.messages import NO_RELEASE, Report, ReportBatch, ReportReceipt
from walle_shared.protocol.tunnel import Record
from walle_shared.protocol.tunnel_receiver import (
    HelloReceived,
    RecordReceived,
    SequenceLedger,
    TombstoneReceived,
)
from walle_shared.units import HOUR_S

#: Longest texts of a report, in characters.
_ID_MAX_CHARS = 128
_CODE_MAX_CHARS = 64
_MESSAGE_MAX_CHARS = 4_000
_INT_MAX = 2**63 - 1

#: How often webhooks hear that devices give up on a release.
_QUARANTINE_TOLD_S = HOUR_S


KeepLater = Callable[[Connection, DeviceId, str, Record, bytes], None]
"""Keeps a question: in the transaction, of a device, named for ever, the record and its fields as JSON."""


class TelemetryService:
    """Stores what devices send.

    Args:
        database: holds the journal of features and all reports.
        clock: wall time.
        on_reports: is called once new reports are committed.
        arrivals: is told how far the journal reaches.
        sinks: where features go besides; none by default.
        keep_later: keeps a record that is a question; without it, it is a feature like others.
        on_later: is called once such records are committed.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        on_reports: Callable[[], None],
        arrivals: Arrivals | None = None,
        sinks: Sinks | None = None,
        keep_later: KeepLater | None = None,
        on_later: Callable[[], None] = lambda: None,
    ) -> None:
        self._keep_later = keep_later
        self._on_later = on_later
        self._database = database
        self._reports = Batches(database, _record_batches)
        self._clock = clock
        self._on_reports = on_reports
        self._arrivals = arrivals or Arrivals()
        self.reports_new = self.reports_repeated = 0
        self.sinks = sinks or Sinks((), database, self._arrivals, clock)

    async def record_reports(self, device_id: DeviceId, batch: ReportBatch) -> ReportReceipt:
        """Store a batch of reports in one transaction, perhaps together with others'.

        Raises:
            LimitExceeded: over ``REPORT_BATCH_MAX`` reports, or a text is too long.
            RemoteProtocolError: a number is out of range.
        """
        if len(batch.reports) > REPORT_BATCH_MAX:
            raise LimitExceeded(
                f"{len(batch.reports)} reports are over the limit of {REPORT_BATCH_MAX} a batch"
            )
        for number, report in enumerate(batch.reports):
            _check_report(report, f"reports[{number}]")
        now_ms = self._clock.wall_ms()
        accepted = await self._reports.write([Told(device_id, report, now_ms) for report in batch.reports])
        self.reports_new += accepted
        self.reports_repeated += len(batch.reports) - accepted
        if accepted:
            self._on_reports()
        return ReportReceipt(accepted, len(batch.reports) - accepted)

    async def open_tunnel(self, device_id: DeviceId, hello: HelloReceived) -> SequenceLedger:
        """Begin a connection: settle with the device what both remember; the committed ledger."""
        now_ms = self._clock.wall_ms()

        def job(db: Connection) -> SequenceLedger:
            ledger = SequenceLedger.from_plain(store.load_ledger(db, device_id, hello.incarnation))
            lost = ledger.settle(hello)
            store.save_ledger(db, device_id, hello.incarnation, ledger.to_plain(), lost, now_ms)
            return ledger

        return await self._database.write(job)

    async def record_tunnel(
        self, device_id: DeviceId, incarnation: str, items: Sequence[RecordReceived | TombstoneReceived]
    ) -> SequenceLedger:
        """Store records and the memory of having them in one transaction; the committed ledger.

        They are in the journal then, but perhaps not in every sink: wait for ``journal_head`` there before
        telling the device. What devices send to learn together goes elsewhere; no sink ever has it.

        Raises:
            LimitExceeded: the device left too many gaps.
            RemoteProtocolError: a record's names are no names, or its fields too deep to be written.
        """
        # Encoded here and not in the writer's thread, which all devices share.
        encoded = [_encode_fields(item) if isinstance(item, RecordReceived) else b"" for item in items]
        now_ms = self._clock.wall_ms()

        keep_later = self._keep_later
        has_later = any(isinstance(item, RecordReceived) and item.record.name == LATER for item in items)

        def job(db: Connection) -> tuple[SequenceLedger, int, int]:
            ledger = SequenceLedger.from_plain(store.load_ledger(db, device_id, incarnation))
            lost = size_bytes = 0
            for item, fields in zip(items, encoded, strict=True):
                fresh = ledger.admit(item)
                if isinstance(item, TombstoneReceived):
                    lost += fresh
                elif fresh and learning.is_ours(item.record):
                    learning.take(db, device_id, item.record, now_ms)
                elif fresh:
                    origin = f"{incarnation}:{item.klass.name}:{item.seq}"
                    if keep_later is not None and item.record.name == LATER:
                        keep_later(db, device_id, origin, item.record, fields)
                        continue
                    size_bytes += len(fields)
                    store.insert_feature(db, device_id, origin, item.record, fields, now_ms)
            store.save_ledger(db, device_id, incarnation, ledger.to_plain(), lost, now_ms)
            return ledger, store.journal_head(db), size_bytes

        ledger, head, size_bytes = await self._database.write(job)
        self._arrivals.advance(head, size_bytes)
        if has_later:
            self._on_later()
        return ledger

    @property
    def arrivals(self) -> Arrivals:
        """What wakes whoever waits for features."""
        return self._arrivals

    @property
    def journal_head(self) -> int:
        """The newest id that is committed."""
        return self._arrivals.head

    def end_polls(self) -> None:
        """Answer everybody who waits for features."""
        self._arrivals.end_polls()

    @property
    def journal_bytes(self) -> int:
        """How many bytes of fields were taken in since the start."""
        return self._arrivals.size_bytes

    def sink_list(self) -> SinkList:
        """How far each sink is."""
        return SinkList(self._arrivals.head, self.sinks.statistics())

    async def scenario_of(self, release: str) -> str:
        """The scenario of a release; empty if there is none of that id."""
        return await self._database.read(lambda db: releases.scenario_of(db, ReleaseId(release))) or ""

    async def reports(self, query: ReportQuery, after: int, limit: int) -> ReportPage:
        """A page of reports by arrival."""
        found = await self._database.read(lambda db: store.list_reports(db, query, after, limit))
        return ReportPage(tuple(found), found[-1].id if found else after)

    async def newest_reports(self, query: ReportQuery, limit: int) -> tuple[StoredReport, ...]:
        """The last reports, newest first."""
        return tuple(await self._database.read(lambda db: store.newest_reports(db, query, limit)))

    async def features(self, query: FeatureQuery, after: int, limit: int, wait_s: float = 0.0) -> FeaturePage:
        """A page of features by arrival; an empty one only after waiting ``wait_s`` for the first."""
        deadline = trio.current_time() + wait_s
        while True:
            seen = self._arrivals.head
            found = await self._database.read(lambda db: store.list_features(db, query, after, limit))
            if found:
                return FeaturePage(tuple(found), found[-1].id)
            if not await self._arrivals.poll_beyond(seen, max(0.0, deadline - trio.current_time())):
                return FeaturePage((), after)


def record(db: Connection, told: Sequence[Told]) -> list[bool]:
    """Store reports and what they mean; for each whether it is new.

    It does not matter which are recorded together.
    """
    are_new = store.insert_reports(db, told)
    fresh = [each for each, is_new in zip(told, are_new, strict=True) if is_new]
    named = {release for _, r, _ in fresh for release in (r.release_id, r.control_of)} - {NO_RELEASE}
    scenarios = releases.scenarios_of(db, named)
    # Others are kept for diagnosis, but speak for no release of ours.
    known = [each for each in fresh if each.report.release_id in scenarios]
    store.count_reports(db, [each.report for each in known])
    store.set_installed(
        db,
        [(each, scenarios[each.report.release_id]) for each in known if _is_of_installation(each.report)],
    )
    count_votes(db, known, scenarios)
    for each in known:
        if each.report.barred_s:
            _tell_of_quarantine(db, each, scenarios[each.report.release_id])
    return are_new


def _record_batches(db: Connection, batches: Sequence[Sequence[Told]]) -> list[int]:
    """How many reports of each batch are new."""
    are_new = iter(record(db, [each for batch in batches for each in batch]))
    return [sum(islice(are_new, len(batch))) for batch in batches]


def _is_of_installation(report: Report) -> bool:
    return report.stage in ("install", "revert") or _begins_installation(report)


def _tell_of_quarantine(db: Connection, told: Told, scenario: str) -> None:
    device_id, report, now_ms = told
    data = {
        "device": device_id, "task": report.task, "version": report.version, "stage": report.stage,
        "code": report.code, "barred_s": report.barred_s,
    }  # fmt: skip
    outbox.emit_seldom(
        db, now_ms, "release.quarantine", scenario, report.release_id, data, every_s=_QUARANTINE_TOLD_S
    )


def _begins_installation(report: Report) -> bool:
    return report.stage == "start" and report.control_of == NO_RELEASE


def _encode_fields(item: RecordReceived) -> bytes:
    _check_names(item)
    try:
        return orjson.dumps(item.record.fields)
    except orjson.JSONEncodeError as error:  # nested deeper than it writes
        raise RemoteProtocolError(f"tunnel record {item.klass.name} {item.seq}: fields: {error}") from None


def _check_names(item: RecordReceived) -> None:
    record = item.record
    names = {
        "scenario": record.scenario,
        "task": record.task,
        "version": record.version,
        "release_id": record.release_id,
        "name": record.name,
    }
    for member, text in names.items():
        if len(text) > _ID_MAX_CHARS or not text.isprintable():
            raise RemoteProtocolError(
                f"tunnel record {item.klass.name} {item.seq}: {member} is not a name of at most"
                f" {_ID_MAX_CHARS} printable characters"
            )


def _check_report(report: Report, where: str) -> None:
    texts = {
        "report_id": (report.report_id, _ID_MAX_CHARS),
        "release_id": (report.release_id, _ID_MAX_CHARS),
        "control_of": (report.control_of, _ID_MAX_CHARS),
        "task": (report.task, _ID_MAX_CHARS),
        "version": (report.version, _ID_MAX_CHARS),
        "code": (report.code, _CODE_MAX_CHARS),
        "message": (report.message, _MESSAGE_MAX_CHARS),
    }
    for name, (text, limit) in texts.items():
        if len(text) > limit:
            raise LimitExceeded(f"{where}.{name} has {len(text)} characters, over the limit of {limit}")
    if not report.report_id or "\0" in report.report_id:  # which PostgreSQL would store as another id
        raise RemoteProtocolError(f"{where}.report_id is empty, or holds U+0000")
    numbers = {
        "attempt": report.attempt,
        "at_ms": report.at_ms,
        "duration_ms": report.duration_ms,
        "peak_bytes": report.peak_bytes,
        "barred_s": report.barred_s,
    }
    for name, number in numbers.items():
        if not math.isfinite(number) or not 0 <= number <= _INT_MAX:
            raise RemoteProtocolError(f"{where}.{name} is out of range")
