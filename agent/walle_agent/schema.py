"""``walle-agent events schema``: what the app's events hold, how private it is; a recording against it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from walle_agent.streams.event import EventError, parse_event
from walle_shared.records import to_plain
from walle_shared.schema import ENVELOPE, EventSchema, describe

#: Complaints shown; the rest are counted.
SHOWN = 20


@dataclass(slots=True)
class Verdict:
    """What a recording came to: events by how they are declared, and complaints by line."""

    events: int = 0
    complaints: list[tuple[int, str]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every line is an event as declared."""
        return not self.complaints


def judge(schema: EventSchema, lines: Iterable[str]) -> Verdict:
    """Hold recorded events, one JSON object a line, against a schema."""
    verdict = Verdict(counts=dict.fromkeys(schema.events, 0))
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            event = parse_event(line.strip().encode())
        except EventError as error:
            verdict.complaints.append((number, error.message))
            continue
        verdict.events += 1
        key = event.event_id if event.event_id in schema.events else event.kind
        if key in verdict.counts:
            verdict.counts[key] += 1
        if complaint := schema.complaint(event.event_id, event.kind, event.args):
            verdict.complaints.append((number, complaint))
    return verdict


def tell(schema: EventSchema, verdict: Verdict | None) -> str:
    """The schema as a table, and what became of a recording."""
    rows = list(_rows(schema, verdict))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)) for row in rows
    ]
    text = "\n".join(line.rstrip() for line in lines)
    if verdict is None:
        return text
    shown = [f"  line {number}: {complaint}" for number, complaint in verdict.complaints[:SHOWN]]
    if more := len(verdict.complaints) - SHOWN:
        shown += [f"  and {more} more"] if more > 0 else []
    found = "all as declared" if verdict.ok else f"{len(verdict.complaints)} not as declared"
    return "\n".join([text, "", f"{verdict.events} events, {found}", *shown])


def tell_plain(schema: EventSchema, verdict: Verdict | None) -> str:
    """The same for a script, as JSON."""
    plain: dict[str, Any] = {"schema": to_plain(schema)}
    if verdict is not None:
        complaints = [{"line": number, "message": text} for number, text in verdict.complaints]
        plain |= {
            "ok": verdict.ok,
            "events": verdict.events,
            "counts": verdict.counts,
            "complaints": complaints,
        }
    return json.dumps(plain, indent=2)


def _rows(schema: EventSchema, verdict: Verdict | None) -> Iterator[tuple[str, str, str, str]]:
    yield "EVENT", "FIELD", "CLASS", "WHAT"
    for name in ENVELOPE:
        yield "(every)", name, schema.envelope.get(name, "local"), ""
    for event_id, spec in sorted(schema.events.items()):
        times = "" if verdict is None else f"{verdict.counts[event_id]} times"
        yield event_id, "", "", ", ".join(word for word in (spec.kind, times, spec.doc) if word)
        for path, arg in spec.args.items():
            yield "", f"args.{path}", arg.privacy, describe(arg) + (", required" if arg.required else "")
