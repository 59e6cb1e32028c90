"""Takes in parts of updates, inside the transaction that remembers having had them. Refuses nothing loudly.

A device sends again what was not acknowledged, so an error here would make it send the same for ever. What
is wrong is counted at its round, if it names one, and forgotten. Rules:

1. Only a round that is open takes parts, and only of the devices of its cohort.
2. A device counts once: of two updates the first is taken, and parts of the other are dropped. A part that
   is sent twice changes nothing.
3. Parts are not looked into: that is done when the round ends (``updates``).
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace

from walle_control.db.sql import Connection
from walle_control.features.learning import store
from walle_control.features.learning.types import PlanRow, RoundRow
from walle_control.features.tasks import read_model as tasks
from walle_shared.ids import DeviceId
from walle_shared.learning import (
    BACKUP_RECORD,
    UPDATE_RECORD,
    BackupPart,
    UpdatePart,
    encoded_bytes,
    parts_of,
    vector_size,
)
from walle_shared.limits import LEARNING_MODEL_MAX_BYTES, LEARNING_PART_BYTES
from walle_shared.observe import get_logger
from walle_shared.protocol.tunnel import Record
from walle_shared.records import RecordError, from_plain
from walle_shared.targeting.hashing import in_share

_log = get_logger("control.learning")

_ID_MAX_CHARS = 64
_WRAPPED_MAX_CHARS = 1_000


def is_ours(record: Record) -> bool:
    """Whether a record of the tunnel is a part of an update or of a personal model, and no feature."""
    return record.name in (UPDATE_RECORD, BACKUP_RECORD)


def take(db: Connection, device_id: DeviceId, record: Record, now_ms: int) -> None:
    """Take in one part."""
    if record.name == BACKUP_RECORD:
        _take_backup(db, device_id, record)
    else:
        _take_update(db, device_id, record, now_ms)


def _take_backup(db: Connection, device_id: DeviceId, record: Record) -> None:
    """Keep a part of a sealed personal model, in place of those of an earlier one."""
    try:
        part = from_plain(BackupPart, dict(record.fields))
        body = base64.b64decode(part.body, validate=True)
    except (RecordError, binascii.Error, ValueError) as error:
        _log.warning("backup_refused", reason=str(error)[:200])
        return
    size_bytes = part.size_bytes
    fits = (
        0 < size_bytes <= LEARNING_MODEL_MAX_BYTES * 2
        and part.parts == parts_of(size_bytes)
        and 0 <= part.part < part.parts
        and len(body) == min(LEARNING_PART_BYTES, size_bytes - part.part * LEARNING_PART_BYTES)
        and max(len(part.id), len(part.sealed_to)) <= _ID_MAX_CHARS
        and len(part.wrapped) <= _WRAPPED_MAX_CHARS
        and 0 <= part.counter < 2**53
    )
    if not fits or not tasks.is_imported(db, record.scenario, record.task, record.version):
        _log.warning("backup_refused", reason="it is no part of a personal model of a known task")
        return
    store.insert_backup(db, device_id, (record.scenario, record.task), replace(part, body=""), body)


def _take_update(db: Connection, device_id: DeviceId, record: Record, now_ms: int) -> None:
    try:
        part = from_plain(UpdatePart, dict(record.fields))
    except RecordError as error:
        _log.warning("update_refused", reason=str(error)[:200])
        return
    plan, row = store.find_plan(db, part.plan), store.find_round(db, part.plan, part.round)
    if plan is None or row is None or (plan.scenario, plan.task) != (record.scenario, record.task):
        _log.warning("update_refused", reason="no such round")
        return
    if row.state != "open" or now_ms >= row.deadline_ms:
        store.count_update(db, plan.id, row.number, "late")
        return
    body = _body_of(part, plan, row, device_id)
    if body is None:
        store.count_update(db, plan.id, row.number, "refused")
        return
    begun = store.first_part(db, plan.id, row.number, device_id)
    if begun is None or begun == (part.id, part.parts):
        store.insert_part(db, device_id, part, body)


def _body_of(part: UpdatePart, plan: PlanRow, row: RoundRow, device_id: DeviceId) -> bytes | None:
    """The bytes of a part, if it can be one of an update of this round by this device."""
    size_bytes = encoded_bytes(vector_size(plan.parameters), plan.wish.encoding)
    fits = (
        part.encoding == plan.wish.encoding
        and part.parts == parts_of(size_bytes)
        and 0 <= part.part < part.parts
        and part.samples >= 1
        and len(part.id) <= _ID_MAX_CHARS
        and in_share(row.salt, device_id, row.share)
    )
    if not fits or len(part.body) > LEARNING_PART_BYTES * 2:
        return None
    try:
        body = base64.b64decode(part.body, validate=True)
    except (binascii.Error, ValueError):
        return None
    expected = min(LEARNING_PART_BYTES, size_bytes - part.part * LEARNING_PART_BYTES)
    return body if len(body) == expected else None
