"""The stages that a ``[[prepare]]`` of task.toml declares, made of ``walle_task.streams``.

For hosts and tools; a task reads the rows with ``streams.prepared``. A script that makes the same stream
itself gets the same rows, with two differences, for a script can raise where the agent must go on: ``sum``,
``mean``, ``min``, ``max`` and ``histogram`` leave out what is no finite number, and a key is a text, a
number, or true or false; events with another are left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from walle_shared.limits import PREPARE_MAX_PANES
from walle_shared.manifest import Prepare, WindowSpec, parse_value
from walle_shared.schema import ARGS, EventSchema
from walle_task import streams
from walle_task.streams import Aggregation, Bundle, Row, Window, Windows

__all__ = ["RunningStage", "Stage", "plain_rows"]

_NUMERIC = frozenset({"sum", "mean", "min", "max", "histogram"})
_MAKERS: dict[str, Callable[..., Aggregation]] = {
    "sum": streams.sum_,
    "mean": streams.mean,
    "min": streams.min_,
    "max": streams.max_,
    "first": streams.first,
    "last": streams.last,
    "histogram": streams.histogram,
}


class Stage:
    """One stage, compiled.

    Args:
        spec: what task.toml says.
        schema: values that are not what it declares of them are left out; None leaves none out.
    """

    def __init__(self, spec: Prepare, schema: EventSchema | None = None) -> None:
        self.spec = spec
        self._schema = schema
        self._events = frozenset(spec.events)
        self._where = [(self._reader(path), value) for path, value in spec.where.items()]
        self._key = self._key_reader(spec.key_by) if spec.key_by else None
        self.bundle = Bundle({name: self._aggregation(text) for name, text in spec.values.items()})

    def takes(self, event: Any) -> bool:
        """Whether an event takes part."""
        return (event.event_id in self._events or event.kind in self._events) and all(
            type(found := read(event)) is type(value) and found == value for read, value in self._where
        )

    def key(self, event: Any) -> Any:
        """What the event is counted under; None leaves it out."""
        return "" if self._key is None else self._key(event)

    def rows(self, events: Iterable[Any]) -> list[Row]:
        """What the events of one run come to."""
        stream = streams.of(events).filter(self.takes)
        cut = stream if self._key is None else stream.key_by(self._key)
        values = {name: self._aggregation(text) for name, text in self.spec.values.items()}
        if self.spec.window is not None:
            found = cut.time_window(make_window(self.spec.window)).aggregate(**values)
        else:
            total = cut.aggregate(**values)
            found = total if isinstance(total, list) else [Row("", None, None, total)]
        return [row._replace(values=_finite(row.values)) for row in found]

    def _aggregation(self, text: str) -> Aggregation:
        value = parse_value(text)
        if value.function == "count":
            return streams.count()
        read = self._reader(value.path)
        field = _numeric(read) if value.function in _NUMERIC else read
        return _MAKERS[value.function](field, *value.edges)

    def _key_reader(self, path: str) -> Callable[[Any], Any]:
        read = self._reader(path)

        def read_key(event: Any) -> Any:
            value = read(event)
            return value if isinstance(value, str | int | float) else None

        return read_key

    def _reader(self, path: str) -> Callable[[Any], Any]:
        read = streams.reader(path)
        schema = self._schema
        if schema is None or not path.startswith(ARGS):
            return read

        def read_declared(event: Any) -> Any:
            value = read(event)
            return value if schema.shows(event.event_id, event.kind, path, value) else None

        return read_declared


class RunningStage:
    """A stage over the whole log: one event after the other, its state for a restart to take over.

    Attributes:
        left_out: events left out because too much was open.
    """

    def __init__(self, stage: Stage, since_seq: int = 0) -> None:
        self.stage = stage
        self.since_seq = since_seq
        self.left_out = 0
        assert stage.spec.window is not None  # a task file without is refused
        bundle = stage.bundle
        self._windows = Windows(
            make_window(stage.spec.window),
            bundle.start,
            bundle.add,
            bundle.merge,
            stage.spec.window.delay_ms,
        )

    @property
    def late(self) -> int:
        """Events left out because their windows were final."""
        return self._windows.late

    def feed(self, event: Any) -> list[Row]:
        """Take the next event of the log; the rows of windows that close. All events let time pass."""
        if event.seq < self.since_seq:
            return []
        if not self.stage.takes(event) or (key := self.stage.key(event)) is None:
            return self._results(self._windows.pass_time(event.wall_ms))
        if self._windows.panes >= PREPARE_MAX_PANES:
            self.left_out += 1
            return self._results(self._windows.pass_time(event.wall_ms))
        return self._results(self._windows.add(key, event.wall_ms, event))

    def finish(self) -> list[Row]:
        """Close what is open, as nothing but a test would."""
        return self._results(self._windows.finish())

    def save(self) -> str:
        """What is known, for ``load``."""
        return self._windows.save()

    def load(self, text: str) -> None:
        """Go on where another one was saved."""
        self._windows.load(text)

    def _results(self, rows: list[Row]) -> list[Row]:
        return [row._replace(values=_finite(self.stage.bundle.result(row.values))) for row in rows]


def make_window(spec: WindowSpec) -> Window:
    """A window as task.toml writes it."""
    if spec.session_ms:
        return streams.session(spec.session_ms)
    if spec.sliding_ms:
        return streams.sliding(spec.sliding_ms, spec.step_ms)
    return streams.tumbling(spec.tumbling_ms)


def plain_rows(spec: Prepare, rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Rows by column, as tables and uploads take them."""
    return [{name: value for name, value in _columns(row).items() if name in spec.columns} for row in rows]


def _columns(row: Row) -> dict[str, Any]:
    return {"key": row.key, "start_ms": row.start_ms, "end_ms": row.end_ms, **row.values}


def _numeric(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def read_number(event: Any) -> Any:
        value = read(event)
        return value if type(value) in (int, float) and math.isfinite(value) else None

    return read_number


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """Sums may leave what JSON can hold; then they are unknown."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
