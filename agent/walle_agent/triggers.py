"""``walle-agent trigger explain``: a trigger as a picture, and its story over a recorded stream."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from walle_agent.emit import open_lines
from walle_agent.streams.event import EventError, RawEvent, parse_event
from walle_agent.streams.explain import Attempt, Sight, compiled, draw, explain, sights_of
from walle_shared.errors import ConfigError
from walle_shared.manifest import Trigger, parse_task_file
from walle_shared.records import to_plain
from walle_shared.triggers import Compiled

#: Attempts shown of each trigger, unless all are asked for; firing ones and the last ones come first.
SHOWN = 20
_MARKS = {"fired": "✔", "waiting": "…", "broken": "✘"}


def read_triggers(text: str) -> list[Trigger]:
    """A trigger's text, or all triggers of the ``task.toml`` (or of the task folder) that it names.

    Raises:
        ConfigError: the text or the file is wrong; the message points at the place.
    """
    path = Path(text)
    if path.name == "task.toml" or path.is_dir():
        path = path / "task.toml" if path.is_dir() else path
        try:
            return list(parse_task_file(path.read_text(encoding="utf-8"), str(path)).triggers)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    return [Trigger(on=text)]


def read_stream(name: str) -> list[Sight]:
    """A recorded stream, one JSON event a line; ``-`` is standard input.

    Raises:
        ConfigError: naming the file and the line.
    """
    with open_lines(name) as lines:
        return list(sights_of(_events(name, lines)))


def tell(trigger: Trigger, stream: list[Sight] | None, *, everything: bool) -> str:
    """The picture, and what became of each beginning in the stream."""
    checked = compiled(trigger)
    parts = [str(checked.sequence), "", draw(checked)]
    if stream is not None:
        parts += ["", *_story(checked, stream, everything=everything)]
    return "\n".join(parts)


def tell_plain(trigger: Trigger, stream: list[Sight] | None) -> dict[str, Any]:
    """The same for a script."""
    checked = compiled(trigger)
    plain: dict[str, Any] = {
        "trigger": str(checked.sequence),
        "picture": draw(checked),
        "paths": len(checked.paths),
    }
    if stream is not None:
        plain["events"] = len(stream)
        plain["attempts"] = to_plain(explain(checked, stream))
    return plain


def dump(plain: list[dict[str, Any]]) -> str:
    """JSON for a script."""
    return json.dumps(plain, indent=2)


def _events(name: str, lines: Iterable[str]) -> Iterator[RawEvent]:
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            try:
                yield parse_event(line.encode())
            except EventError as error:
                raise ConfigError(f"{name}:{number}: {error.message}") from None


def _story(trigger: Compiled, stream: list[Sight], *, everything: bool) -> list[str]:
    attempts = explain(trigger, stream)
    fired = [attempt for attempt in attempts if attempt.outcome == "fired"]
    head = f"{len(stream)} events, {len(attempts)} beginnings, {len(fired)} fires"
    if not attempts:
        return [head, f"no event is {trigger.sequence.steps[0]}"]
    shown = attempts
    if not everything and len(attempts) > SHOWN:
        others = [attempt for attempt in attempts if attempt.outcome != "fired"]
        shown = sorted(
            [*fired[:SHOWN], *others[len(others) - max(SHOWN - len(fired), 5) :]], key=lambda a: a.reached
        )
    labels = {sight.seq: sight.label for sight in stream}
    lines = [head, *(_line(attempt, labels) for attempt in shown)]
    if len(shown) < len(attempts):
        lines.append(f"  and {len(attempts) - len(shown)} more: --all shows them")
    return lines


def _line(attempt: Attempt, labels: dict[int, str]) -> str:
    way = " → ".join(f"#{seq}" for seq in attempt.reached[1:])
    place = labels[attempt.reached[0]] + (f" → {way}" if way else "")
    key = f" [{attempt.key}]" if attempt.key else ""
    progress = "" if attempt.outcome == "fired" else f" ({len(attempt.reached)} of {attempt.steps} steps)"
    return f"  {_MARKS[attempt.outcome]} {place}{key}{progress}: {attempt.why}"
