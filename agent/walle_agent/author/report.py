"""What a simulation found, for a person and for a script. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from statistics import median
from typing import Any

import orjson

from walle_agent.author.simulate import Outcome, Run
from walle_container import TaskResult, TaskSpec
from walle_shared.manifest import TaskFile
from walle_shared.units import KIB, MIB

_VALUE_CHARS = 160
_IDS_SHOWN = 8


def run_lines(number: int, run: Run, spec: TaskSpec) -> Iterator[str]:
    """A run for a person: how it ended, what it used beside what it may, what it produced."""
    result, firing = run.result, run.firing
    state = "ok" if result.ok else f"failed: {result.error_kind or 'no worker'}"
    trigger = firing.trigger.on or " ".join(firing.trigger.ids) or "a window closed"
    yield f"run {number}  {state}  [{trigger}] at event {firing.last_seq}, {len(firing.events)} events"
    yield f"  used      {_used(result, run, spec)}"
    if not result.ok:
        yield f"  error     {result.error}"
        yield from ("  " + line for line in result.traceback.splitlines())
    if result.value is not None:
        yield f"  returned  {_shown(result.value)}"
    for table, row in run.commit.rows:
        yield f"  row       {table}  {_shown(row)}"
    for key, value in run.commit.values.items():
        yield f"  kept      {key}  {_shown(value)}"
    for record in run.commit.uploads:
        yield f"  sends     {record.name}  {_shown(record.fields)}"
    for entry in result.logs:
        fields = "".join(f" {name}={_shown(value)}" for name, value in entry.fields.items())
        yield f"  log       {entry.level}: {entry.message}{fields}"
    if result.logs_dropped:
        yield f"  log       {result.logs_dropped} more lines were dropped"
    for line in result.stdout_tail.splitlines():
        yield f"  printed   {line}"


def _used(result: TaskResult, run: Run, spec: TaskSpec) -> str:
    limits = spec.limits
    return (
        f"{result.wall_s * 1e3:.1f} of {limits.wall_s * 1e3:.0f} ms, processor {result.cpu_s * 1e3:.1f} ms, "
        f"memory {result.peak_bytes / MIB:.1f} of {limits.memory_bytes / MIB:.0f} MiB, "
        f"output {_produced_bytes(run) / KIB:.1f} of {limits.output_bytes / KIB:.0f} KiB"
    )


def _produced_bytes(run: Run) -> int:
    parts = [
        *(row for _, row in run.commit.rows),
        *(record.fields for record in run.commit.uploads),
        run.result.value,
    ]
    values = [{key: value} for key, value in run.commit.values.items()]
    return sum(len(orjson.dumps(part)) for part in [*parts, *values])


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _VALUE_CHARS else text[: _VALUE_CHARS - 3] + "..."


def summary_lines(outcome: Outcome, task: TaskFile) -> Iterator[str]:
    """The whole file of events for a person."""
    for number, complaint in outcome.refused[:5]:
        yield f"line {number} refused: {complaint}"
    if len(outcome.refused) > 5:
        yield f"{len(outcome.refused) - 5} more lines refused"
    if outcome.open_visits:
        yield (
            f"{outcome.open_visits} visits are still open at the end: end them with a page_exit, "
            "or let them end with --end-visits"
        )
    if not outcome.runs:
        yield from _why_nothing(outcome, task)
        return
    failed = sum(not run.result.ok for run in outcome.runs)
    times_ms = [run.result.wall_s * 1e3 for run in outcome.runs]
    sent = [record for run in outcome.runs for record in run.commit.uploads]
    sent_bytes = sum(len(orjson.dumps(record.fields)) for record in sent)
    yield (
        f"{outcome.events} events, {len(outcome.runs)} runs, {failed} failed; "
        f"{median(times_ms):.1f} ms in the middle, {max(times_ms):.1f} ms at most"
    )
    if sent and outcome.event_bytes:
        yield (
            f"{len(sent)} messages of {sent_bytes / KIB:.1f} KiB for {outcome.event_bytes / KIB:.1f} KiB of "
            f"events: {1 - sent_bytes / outcome.event_bytes:.0%} less"
        )


def _why_nothing(outcome: Outcome, task: TaskFile) -> Iterator[str]:
    yield f"nothing fired in {outcome.events} events"
    for trigger in task.triggers:
        if trigger.on:
            yield f"  the trigger is {trigger.on!r}: 'walle-agent trigger explain' tells its story"
            continue
        parts = (f"{name} ({_how_often(name, outcome)})" for name in trigger.ids)
        yield "  the trigger waits for " + ", then at once ".join(parts)
    known = sorted(outcome.ids.items(), key=lambda item: -item[1])[:_IDS_SHOWN]
    yield "  the events have " + (", ".join(f"{name} ({count})" for name, count in known) or "no ids")


def _how_often(name: str, outcome: Outcome) -> str:
    plain = name
    if name.startswith("page:"):
        plain = name.removesuffix(".enter").removesuffix(".exit")
    count = outcome.ids.get(plain, 0)
    return "never there" if count == 0 else f"there {count} times"


def to_plain(outcome: Outcome, spec: TaskSpec) -> dict[str, Any]:
    """The same for a script."""
    limits = spec.limits
    return {
        "task": spec.task,
        "events": outcome.events,
        "event_bytes": outcome.event_bytes,
        "refused": [{"line": line, "message": message} for line, message in outcome.refused],
        "open_visits": outcome.open_visits,
        "limits": {
            "wall_s": limits.wall_s,
            "memory_bytes": limits.memory_bytes,
            "output_bytes": limits.output_bytes,
        },
        "runs": [run_to_plain(run) for run in outcome.runs],
    }


def run_to_plain(run: Run) -> dict[str, Any]:
    """One run for a script."""
    result, firing = run.result, run.firing
    return {
        "ok": result.ok,
        "trigger": firing.trigger.on or list(firing.trigger.ids),
        "first_seq": firing.first_seq,
        "last_seq": firing.last_seq,
        "events": len(firing.events),
        "error_kind": result.error_kind,
        "error": result.error,
        "traceback": result.traceback,
        "value": result.value,
        "rows": [{"table": table, "row": dict(row)} for table, row in run.commit.rows],
        "values": dict(run.commit.values),
        "uploads": [{"name": record.name, "fields": dict(record.fields)} for record in run.commit.uploads],
        "logs": [
            {"level": entry.level, "message": entry.message, "fields": dict(entry.fields)}
            for entry in result.logs
        ],
        "printed": result.stdout_tail,
        "wall_s": result.wall_s,
        "cpu_s": result.cpu_s,
        "peak_bytes": result.peak_bytes,
        "output_bytes": _produced_bytes(run),
    }
