"""What a run produced, against what its manifest declares. Pure; refuses rather than repairs.

The container's word is not taken for anything: names, fields and types are checked here, in the process that
holds the keys, before a row is stored or a byte leaves the device.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from walle_agent.streams.tables import Columns, check_row
from walle_agent.tasks.registry import InstalledTask
from walle_container import LaterAsk, StoreWrite, TunnelSend
from walle_shared.errors import NotAllowed
from walle_shared.learning import BACKUP_RECORD, TAKEN_KEY, UPDATE_RECORD
from walle_shared.privacy import open_uploads
from walle_shared.protocol.asks import LATER
from walle_shared.protocol.tunnel import Record, TunnelClass
from walle_shared.schema import Bound


def check_rows(
    task: InstalledTask, writes: Iterable[StoreWrite]
) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    """The rows of a run, if all of them fit declared tables.

    Raises:
        NotAllowed: a table or column that ``[tables]`` does not declare.
        TaskError: a value of another type than its column's.
    """
    rows: list[tuple[str, Mapping[str, Any]]] = []
    for write in writes:
        _check(task.definition.tables, "tables", write.table, write.row)
        rows.append((write.table, write.row))
    return tuple(rows)


def check_uploads(
    task: InstalledTask, sends: Iterable[TunnelSend], at_ms: int, *, confined: bool = False
) -> tuple[Record, ...]:
    """The messages of a run as records, if all of them fit declared uploads: nothing else becomes a record.

    Args:
        task: the task.
        sends: what it wants to send.
        at_ms: stamped on the records.
        confined: it may have seen local fields, so that only closed fields may hold anything.

    Raises:
        NotAllowed: a message or field that ``[uploads]`` does not declare, a value beyond its ``[bounds]``,
            or an open field of a confined task: it stays on the device.
        TaskError: a value of another type than declared.
    """
    scenario, name = task.key
    open_fields = frozenset(open_uploads(task.definition)) if confined else frozenset[str]()
    records: list[Record] = []
    for send in sends:
        _check(task.definition.uploads, "uploads", send.name, send.fields)
        _check_values(task.definition.bounds.get(send.name, {}), open_fields, send)
        records.append(
            Record(scenario, name, task.version, task.release_id, send.name, at_ms, dict(send.fields))
        )
    return tuple(records)


def check_later(
    task: InstalledTask, asked: Iterable[LaterAsk], at_ms: int, *, confined: bool = False
) -> tuple[Record, ...]:
    """The questions of a run that can wait, as records.

    Raises:
        NotAllowed: the task is confined: a question has no closed range.
    """
    scenario, name = task.key
    records = tuple(
        Record(
            scenario,
            name,
            task.version,
            task.release_id,
            LATER,
            at_ms,
            {"payload": dict(each.payload), "data": each.data},
        )
        for each in asked
    )
    if records and confined:
        raise NotAllowed(
            "cloud.ask_later: the task may have seen what is local, and questions have no bounds"
        )
    return records


def check_values(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a run keeps by key, if none of it is the agent's own.

    Raises:
        NotAllowed: a key that is.
    """
    if TAKEN_KEY in values:
        raise NotAllowed(f"the key {TAKEN_KEY!r} of the store is the agent's own: choose another")
    return values


def upload_classes(task: InstalledTask) -> dict[str, TunnelClass]:
    """The priority class of each record that the task says can wait, or cannot; updates always can."""
    said = {name: TunnelClass[word.upper()] for name, word in task.definition.delivery.items()}
    return {**said, UPDATE_RECORD: TunnelClass.BATCH, BACKUP_RECORD: TunnelClass.BATCH}


def _check_values(bounds: Mapping[str, Bound], open_fields: frozenset[str], send: TunnelSend) -> None:
    for field, value in send.fields.items():
        if value is None:
            continue
        if f"{send.name}.{field}" in open_fields:
            raise NotAllowed(
                f"{send.name}.{field} has no closed range, and the task may have seen what is local: "
                f"declare [bounds.{send.name}] {field}, or read less"
            )
        bound = bounds.get(field)
        if bound is not None and not bound.holds(value):
            raise NotAllowed(
                f"{send.name}.{field} is not within [bounds.{send.name}] of task.toml: clamp it, or"
                " correct the bounds"
            )


def _check(declared: Mapping[str, Columns], section: str, name: str, fields: Mapping[str, Any]) -> None:
    columns = declared.get(name)
    if columns is None:
        raise NotAllowed(f"{name[:80]!r} is not declared: add [{section}.{name[:80]}] to task.toml")
    strangers = sorted(fields.keys() - columns.keys())
    if strangers:
        raise NotAllowed(
            f"{name}.{strangers[0][:80]} is not declared in [{section}.{name}] of task.toml: add it there"
        )
    check_row(columns, fields, name)
