"""What may leave the device of what a task sees: one rule for agent, author's check and control plane. Pure.

Every field of an event has a class, ``local``, ``aggregate`` or ``upload``, from the registry (``schema``):

1. A task that sees no local field may send what its ``[uploads]`` declares.
2. A task that sees a local field is *confined*: each field that it may send must be *closed*, that is true
   or false, a number with a declared range, or one of a declared list of values (``[bounds]``).
   It asks no cloud half.
3. An ``aggregate`` field counts as local, unless all that is seen of it is what ``AGGREGATING`` functions of
   a ``[[prepare]]`` made of it.
4. What is not declared is local: an event, a field, the events of a task without ``[reads]``, files of the
   inbox. A value that is not what was declared of it is not shown.

Without a registry no field has a class, and nothing but ``[uploads]`` and ``[bounds]`` limits what is sent.
This stops accidents, not a script that hides data in allowed numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from walle_shared.manifest import AGGREGATING, ColumnType, Prepare, TaskFile, parse_value
from walle_shared.schema import ALWAYS, Bound, EventSchema

INBOX = "files of the inbox, which no class describes"
ALL_EVENTS = "all fields of all events: it has no [reads]"


def local_reads(task: TaskFile, schema: EventSchema | None) -> tuple[str, ...]:
    """What a task sees that confines it, by name; nothing if it is free."""
    if schema is None:
        return ()
    raw = [(key, path) for key, paths in (task.reads or {}).items() for path in paths]
    summed: list[tuple[str, str]] = []
    for stage in task.prepare:
        shown, used = _fields_of(stage)
        raw += [(key, path) for key in stage.events for path in shown]
        summed += [(key, path) for key in stage.events for path in used]
    seen = [f"{key}.{path}" for key, path in raw if schema.privacy(key, path) != "upload"]
    seen += [f"{key}.{path}" for key, path in summed if schema.privacy(key, path) == "local"]
    if task.task.entry and task.reads is None:
        seen.insert(0, ALL_EVENTS)
    if "inbox" in task.task.capabilities:
        seen.insert(0, INBOX)
    return tuple(dict.fromkeys(seen))


def _fields_of(stage: Prepare) -> tuple[list[str], list[str]]:
    """The fields whose values a stage's rows show, and those of which it shows aggregations."""
    values = [parse_value(text) for text in stage.values.values()]
    shown = [value.path for value in values if value.function not in AGGREGATING]
    used = [value.path for value in values if value.function in AGGREGATING and value.path]
    used += [*stage.where, *(["wall_ms"] if stage.window is not None else [])]
    return [*shown, *([stage.key_by] if stage.key_by else [])], used


def open_uploads(task: TaskFile) -> tuple[str, ...]:
    """The fields a confined task may not send, as ``upload.field``."""
    return tuple(
        f"{name}.{field}"
        for name, fields in task.uploads.items()
        for field, kind in fields.items()
        if not is_closed(kind, task.bounds.get(name, {}).get(field))
    )


def is_closed(kind: ColumnType, bound: Bound | None) -> bool:
    """Whether a field can hold only one of a number's range, or of a list."""
    if kind == "boolean":
        return True
    if bound is None:
        return False
    return bool(bound.values) or (kind in ("integer", "real") and None not in (bound.min, bound.max))


def complaints(task: TaskFile, schema: EventSchema | None) -> Iterator[tuple[str, str]]:
    """What keeps a task from being released or installed: the key of ``task.toml``, and a sentence."""
    confining = local_reads(task, schema)
    if not confining:
        return
    seen = ", ".join(confining[:3]) + (", ..." if confining[3:] else "")
    if "cloud" in task.task.capabilities:
        yield (
            "task.capabilities",
            f"the task sees what is local ({seen}), and what it asks its cloud half has no bounds: "
            "read less, or do without 'cloud'",
        )
    for path in open_uploads(task):
        name, field = path.split(".")
        yield (
            f"uploads.{path}",
            f"the task sees what is local ({seen}), so {field} needs a range or a list of values in "
            f"[bounds.{name}]: {field} = {{ min = 0, max = 9 }} or {{ values = [...] }}",
        )


def narrow_inputs(
    inputs: Mapping[str, Any], reads: Mapping[str, tuple[str, ...]] | None, schema: EventSchema | None
) -> dict[str, Any]:
    """The inputs of a run with only those events and fields that its task declares to read."""
    if reads is None:
        return dict(inputs)
    events = _narrow_events(inputs["events"], reads, schema)
    visit = inputs.get("visit")
    if visit is not None:
        own = visit.get("events")  # where they are not those of the run
        paths = {path for listed in reads.values() for path in listed}
        visit = {
            **{name: "" if name not in paths else visit[name] for name in ("visit_id", "page_id")},
            **{name: 0 if "wall_ms" not in paths else visit[name] for name in ("opened_ms", "closed_ms")},
            "reason": visit["reason"],
            **({} if own is None else {"events": _narrow_events(own, reads, schema)}),
        }
    return {**inputs, "events": events, "visit": visit}


def _narrow_events(
    events: list[dict[str, Any]], reads: Mapping[str, tuple[str, ...]], schema: EventSchema | None
) -> list[dict[str, Any]]:
    found = ((event, reads.get(event["event_id"], reads.get(event["kind"]))) for event in events)
    return [_narrow(event, paths, schema) for event, paths in found if paths is not None]


def _narrow(event: Mapping[str, Any], paths: tuple[str, ...], schema: EventSchema | None) -> dict[str, Any]:
    kept: dict[str, Any] = {name: event[name] for name in ALWAYS} | {"args": {}}
    for path in paths:
        names = path.split(".")
        value: Any = event
        for name in names:
            value = value.get(name) if isinstance(value, Mapping) else None
        if value is None or (
            schema is not None and not schema.shows(event["event_id"], event["kind"], path, value)
        ):
            continue
        place = kept
        for name in names[:-1]:
            place = place.setdefault(name, {})
        place[names[-1]] = value
    return kept
