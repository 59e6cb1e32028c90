"""``walle-agent events tail`` and ``record``: what the agent's log takes in, as it happens.

Both read the log beside the running agent, which neither notices nor waits. Events of the agent's own making
(closings it adds, silences) are shown by ``tail`` and left out by ``record``: replayed, they are made anew.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TextIO

import orjson

from walle_agent.streams.event import RESERVED_PREFIX, Event
from walle_agent.streams.sequences import NAMELESS
from walle_agent.streams.storage import event_from_sql
from walle_shared.errors import NotFound, StorageError

_POLL_S = 0.1


def follow(
    path: Path, *, last: int = 0, pause: Callable[[float], None] = time.sleep, ongoing: bool = True
) -> Generator[Event]:
    """Yield the ``last`` events of the log, and, if ``ongoing``, those that come, for ever.

    Raises:
        NotFound: no agent has run there yet.
        StorageError: the file cannot be read.
    """
    if not path.exists():
        raise NotFound(f"{path}: there is no event log: start the agent, or name its settings with --config")
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)) as connection:
            (newest,) = connection.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()
            seen = newest - last
            while True:
                rows = connection.execute("SELECT * FROM events WHERE seq > ? ORDER BY seq", (seen,))
                for row in rows.fetchall():
                    event = event_from_sql(row)
                    seen = event.seq
                    yield event
                if not ongoing:
                    return
                pause(_POLL_S)
    except sqlite3.Error as error:
        raise StorageError(f"{path}: cannot be read: {error}") from error


def show(event: Event, width: int) -> str:
    """One event on one line of a terminal."""
    clock = time.strftime("%H:%M:%S", time.localtime(event.wall_ms / 1_000))
    name = event.kind if event.event_id == event.kind else f"{event.kind} {event.event_id}"
    place = event.page_id + (f" [{event.visit_id}]" if event.visit_id else "")
    line = f"{event.seq:>8}  {clock}.{event.wall_ms % 1_000:03}  {name:<32} {place:<28} {_args(event.args)}"
    return line[:width].rstrip() if width else line.rstrip()


def recordable(event: Event) -> bytes | None:
    """One event as an app would write it again; None for the agent's own."""
    if event.event_id.startswith(RESERVED_PREFIX):
        return None
    plain: dict[str, Any] = {"kind": event.kind, "event_id": event.event_id, "page_id": event.page_id}
    if not event.visit_id.startswith(NAMELESS):
        plain["visit_id"] = event.visit_id
    plain |= {"wall_ms": event.wall_ms, "args": event.args}
    return orjson.dumps({name: value for name, value in plain.items() if value})


def record(events: Iterator[Event], file: TextIO, *, count: int | None, progress: TextIO | None) -> int:
    """Write events, one JSON object a line, until there are ``count`` or the caller is interrupted."""
    written = 0
    try:
        for event in events:
            line = recordable(event)
            if line is None:
                continue
            file.write(line.decode() + "\n")
            file.flush()
            written += 1
            if progress is not None and progress.isatty():
                progress.write(f"\r{written} events recorded; Ctrl-C ends")
                progress.flush()
            if written == count:
                break
    except KeyboardInterrupt:
        pass  # the way to end it
    return written


def _args(args: Any) -> str:
    return orjson.dumps(args).decode() if args else ""
