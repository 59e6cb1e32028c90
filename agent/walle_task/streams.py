"""Stream functions over events: filter, map, key_by, time_window, reduce, aggregate, join.

::

    from walle_task import events, streams
    from walle_task.streams import count, of, sum_, tumbling

    per_page = (
        of(events.all())
        .filter(kind="exposure")
        .key_by("page_id")
        .time_window(tumbling(30_000))
        .aggregate(seen=count(), visible_ms=sum_("args.visible_ms"))
    )
    # [Row(key="item", start_ms=1700000010000, end_ms=1700000040000, values={"seen": 3, ...}), ...]

A stream is lazy: nothing happens until it is read, each event passes once, and what is kept is one state per
key and open window, not the events. A field is named by a path (``page_id``, ``args.item.price``) or given as
a function; an event that lacks the field has None there, and aggregations leave None out.

Time is ``wall_ms``, the app's clock. Windows close when time has passed their end by ``delay_ms`` (events may
come that much out of order) and are then final; what comes even later is left out and counted in ``late``.
Without a delay, all events are put in order first: a matched slice is complete.

Importable in an isolated interpreter: standard library only.
"""

from __future__ import annotations

import heapq
import json
import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from walle_shared.errors import TaskError
from walle_task.context import current

__all__ = [
    "Aggregation",
    "Keyed",
    "Row",
    "Stream",
    "Window",
    "Windowed",
    "collect",
    "count",
    "distinct",
    "first",
    "histogram",
    "last",
    "max_",
    "mean",
    "min_",
    "of",
    "prepared",
    "session",
    "sliding",
    "sum_",
    "tumbling",
]

type Field = str | Callable[[Any], Any]

#: Items one ``collect`` or ``distinct`` may hold: a task has 64 MiB for everything.
HELD_MAX = 10_000
#: No event is this late; a clock that was wrong is.
CLOCK_SET_MS = 3_600_000


class Row(NamedTuple):
    """What a window or a key came to: from ``start_ms`` to before ``end_ms``, None without windows."""

    key: Any
    start_ms: int | None
    end_ms: int | None
    values: Any


# ---- Aggregations


def _same(state: Any) -> Any:
    return state


@dataclass(frozen=True, slots=True)
class Aggregation:
    """A value that grows event by event, and of two parts into one.

    Args:
        field: what is added; None adds the event itself.
        start: a fresh state.
        add: state and value to state.
        merge: two states, the earlier first, to one.
        result: state to value.
    """

    field: Field | None
    start: Callable[[], Any]
    add: Callable[[Any, Any], Any]
    merge: Callable[[Any, Any], Any]
    result: Callable[[Any], Any] = _same


def count() -> Aggregation:
    """How many events."""
    return Aggregation(None, int, lambda n, _: n + 1, lambda a, b: a + b)


def sum_(field: Field) -> Aggregation:
    """The sum of a field; 0 of none."""
    return Aggregation(field, int, lambda total, value: total + value, lambda a, b: a + b)


def mean(field: Field) -> Aggregation:
    """The mean of a field; None of none."""
    return Aggregation(
        field,
        lambda: (0, 0),
        lambda state, value: (state[0] + value, state[1] + 1),
        lambda a, b: (a[0] + b[0], a[1] + b[1]),
        lambda state: state[0] / state[1] if state[1] else None,
    )


def min_(field: Field) -> Aggregation:
    """The least of a field; None of none."""
    return _choice(field, lambda a, b: b if b < a else a)


def max_(field: Field) -> Aggregation:
    """The greatest of a field; None of none."""
    return _choice(field, lambda a, b: b if b > a else a)


def histogram(field: Field, *edges: float) -> Aggregation:
    """How many values of a field lie below each edge: under the first, from there to the second, and so on.

    Raises:
        TaskError: the edges do not rise, or there are none.
    """
    if not edges or list(edges) != sorted(set(edges)):
        raise TaskError(f"the edges of a histogram must rise: {edges}")

    def add(bins: list[int], value: Any) -> list[int]:
        bins[bisect_right(edges, value)] += 1
        return bins

    return Aggregation(
        field,
        lambda: [0] * (len(edges) + 1),
        add,
        lambda a, b: [x + y for x, y in zip(a, b, strict=True)],
        list,
    )


def first(field: Field) -> Aggregation:
    """The first value of a field, in order of arrival; None of none."""
    return _choice(field, lambda a, _: a)


def last(field: Field) -> Aggregation:
    """The last value of a field, in order of arrival; None of none."""
    return _choice(field, lambda _, b: b)


def distinct(field: Field) -> Aggregation:
    """How many different values a field has; exact, at most ``HELD_MAX``.

    Raises:
        TaskError: when it is read, if there are more.
    """

    def add(seen: dict[Any, None], value: Any) -> dict[Any, None]:
        seen[value] = None
        return _held(seen)

    return Aggregation(field, dict, add, lambda a, b: _held(a | b), len)


def collect(field: Field | None = None) -> Aggregation:
    """A list of the values of a field, or of the events; at most ``HELD_MAX``.

    Raises:
        TaskError: when it is read, if there are more.
    """

    def add(values: list[Any], value: Any) -> list[Any]:
        values.append(value)
        return _held(values)

    return Aggregation(field, list, add, lambda a, b: _held(a + b), list)


def _choice(field: Field, choose: Callable[[Any, Any], Any]) -> Aggregation:
    def either(a: Any, b: Any) -> Any:
        return b if a is None else a if b is None else choose(a, b)

    return Aggregation(field, lambda: None, either, either)


def _held[H: (dict[Any, None], list[Any])](values: H) -> H:
    if len(values) > HELD_MAX:
        raise TaskError(f"an aggregation holds over {HELD_MAX} values: filter more, or use smaller windows")
    return values


# ---- Windows


@dataclass(frozen=True, slots=True)
class Window:
    """How time is cut: see ``tumbling``, ``sliding`` and ``session``. Milliseconds."""

    size_ms: int
    step_ms: int
    gap_ms: int = 0


def tumbling(size_ms: int) -> Window:
    """Windows of ``size_ms`` one after the other, aligned to multiples of it."""
    return sliding(size_ms, size_ms)


def sliding(size_ms: int, step_ms: int) -> Window:
    """Windows of ``size_ms`` that begin every ``step_ms``, aligned to multiples of it.

    Raises:
        TaskError: the step is not positive, longer than the window, or under a thousandth of it.
    """
    if not 0 < step_ms <= size_ms or size_ms > 1_000 * step_ms:
        raise TaskError(f"a window of {size_ms} ms every {step_ms} ms: want 0 < step <= size <= 1000 * step")
    return Window(size_ms, step_ms)


def session(gap_ms: int) -> Window:
    """Windows that end when nothing has come for ``gap_ms``; ``end_ms`` is behind that silence.

    Raises:
        TaskError: the gap is not positive.
    """
    if gap_ms <= 0:
        raise TaskError(f"a session ends after a silence of over 0 ms, not {gap_ms}")
    return Window(0, 0, gap_ms)


# ---- Streams


def prepared(name: str) -> list[Row]:
    """The rows that the ``[[prepare]]`` stage ``name`` of task.toml made; none if no window of it closed.

    Raises:
        TaskError: there is no such stage.
    """
    context = current()
    context.check_granted("events")
    stages = context.inputs.get("prepared") or {}
    if name not in stages:
        raise TaskError(f"there is no stage {name!r}: add a [[prepare]] of that name to task.toml")
    return [Row(*row) for row in stages[name]]


def of(events: Iterable[Any]) -> Stream:
    """A stream of events, such as ``events.all()`` or ``visit.events``."""
    return Stream(events)


class Stream:
    """Events, or what has been made of them; iterate to read it (once, if it was made of an iterator)."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def filter(self, test: Callable[[Any], object] | None = None, /, **fields: Any) -> Stream:
        """Keep what passes ``test`` and has these ``fields``: ``filter(kind="click", page_id="item")``."""
        readers = [(reader(name), value) for name, value in fields.items()]

        def passes(item: Any) -> bool:
            return (test is None or bool(test(item))) and all(read(item) == want for read, want in readers)

        return Stream(_Again(self, lambda items: filter(passes, items)))

    def map(self, function: Field) -> Stream:
        """Put what ``function`` makes of each item, or a field of it, in its place."""
        return Stream(_Again(self, lambda items: map(reader(function), items)))

    def reduce[A](self, function: Callable[[A, Any], A], initial: A) -> A:
        """Fold all items, first to last."""
        for item in self:
            initial = function(initial, item)
        return initial

    def aggregate(self, **aggregations: Aggregation) -> dict[str, Any]:
        """All aggregations over all items, in one pass."""
        bundle = Bundle(aggregations)
        return bundle.result(self.reduce(bundle.add, bundle.start()))

    def key_by(self, field: Field) -> Keyed:
        """Go on for each value of a field apart; items without it are left out."""
        return Keyed(self, reader(field))

    def time_window(
        self, window: Window, *, delay_ms: int | None = None, time: Field = "wall_ms"
    ) -> Windowed:
        """Go on for each window of time apart."""
        return Windowed(self, None, window, delay_ms, reader(time))

    def join(
        self,
        other: Stream,
        *,
        on: Field,
        within_ms: int,
        time: Field = "wall_ms",
        keep_unmatched: bool = False,
    ) -> Stream:
        """Pair items with those of ``other`` that have the same field and come up to ``within_ms`` later.

        Exposures with their clicks: ``exposures.join(clicks, on="args.item_id", within_ms=60_000)``. An item
        of ``other`` is used once, for the newest item that waits for it. What has no partner is left out, or
        paired with None if ``keep_unmatched``. Pairs come in the order of the left items' times.
        """
        return Stream(_Join(self, other, reader(on), within_ms, reader(time), keep_unmatched))


class Keyed:
    """A stream cut by key; made by ``Stream.key_by``. Keys come in the order of their first items."""

    def __init__(self, stream: Stream, read_key: Callable[[Any], Any]) -> None:
        self._stream = stream
        self._read_key = read_key

    def reduce[A](self, function: Callable[[A, Any], A], initial: Callable[[], A]) -> dict[Any, A]:
        """Fold the items of each key; ``initial`` makes each key's start, such as ``list``."""
        states: dict[Any, A] = {}
        for key, item in self._pairs():
            states[key] = function(states[key] if key in states else initial(), item)
        return states

    def aggregate(self, **aggregations: Aggregation) -> list[Row]:
        """All aggregations for each key."""
        bundle = Bundle(aggregations)
        states = self.reduce(bundle.add, bundle.start)
        return [Row(key, None, None, bundle.result(state)) for key, state in states.items()]

    def time_window(
        self, window: Window, *, delay_ms: int | None = None, time: Field = "wall_ms"
    ) -> Windowed:
        """Go on for each window of time of each key apart."""
        return Windowed(self._stream, self._read_key, window, delay_ms, reader(time))

    def _pairs(self) -> Iterator[tuple[Hashable, Any]]:
        for item in self._stream:
            key = self._read_key(item)
            if key is not None:
                yield key, item


@dataclass(slots=True, eq=False)
class _Pane:
    """What came in one stretch of time: windows are made of panes, so that an item is added once."""

    start_ms: int
    end_ms: int
    state: Any


class Windowed:
    """A stream cut by time, and by key if it was; made by ``time_window``.

    Attributes:
        late: items left out because their windows were final, after the stream was read.
    """

    def __init__(
        self,
        stream: Stream,
        read_key: Callable[[Any], Any] | None,
        window: Window,
        delay_ms: int | None,
        read_time: Callable[[Any], Any],
    ) -> None:
        if delay_ms is not None and delay_ms < 0:
            raise TaskError(f"delay_ms must not be negative: {delay_ms}")
        self._stream = stream
        self._read_key = read_key
        self._window = window
        self._delay_ms = delay_ms
        self._read_time = read_time
        self.late = 0

    def aggregate(self, **aggregations: Aggregation) -> list[Row]:
        """All aggregations for each window, in the order in which the windows close."""
        bundle = Bundle(aggregations)
        rows = self._rows(bundle.start, bundle.add, bundle.merge)
        return [row._replace(values=bundle.result(row.values)) for row in rows]

    def reduce[A](self, function: Callable[[A, Any], A], initial: Callable[[], A]) -> list[Row]:
        """Fold the items of each window, where windows do not overlap.

        Raises:
            TaskError: the windows overlap: use ``aggregate``.
        """
        if self._window.size_ms != self._window.step_ms:
            raise TaskError("windows that overlap cannot be reduced: use aggregate")
        rows = self._rows(initial, function, None)
        return list(rows)

    def _rows(
        self,
        start: Callable[[], Any],
        add: Callable[[Any, Any], Any],
        merge: Callable[[Any, Any], Any] | None,
    ) -> Iterator[Row]:
        windows = Windows(self._window, start, add, merge, self._delay_ms or 0)
        for at_ms, key, item in self._timed():
            yield from windows.add(key, at_ms, item)
            self.late = windows.late
        yield from windows.finish()
        self.late = windows.late

    def _timed(self) -> Iterable[tuple[int, Any, Any]]:
        timed = (
            (at_ms, key, item)
            for item in self._stream
            if (at_ms := self._read_time(item)) is not None
            and (key := self._read_key(item) if self._read_key else "") is not None
        )
        return timed if self._delay_ms is not None else sorted(timed, key=lambda entry: entry[0])


class Windows:
    """Windows of time that are fed item by item: ``Windowed`` reads a stream through them, the agent its log.

    When time goes back by more than ``CLOCK_SET_MS`` behind what is final, the clock was set: all windows
    close, and time begins anew.

    Args:
        window: how time is cut.
        start, add, merge: as of an ``Aggregation``; states are JSON values if ``save`` is used.
        delay_ms: how much out of order items may come.

    Attributes:
        late: items left out because their windows were final.
    """

    def __init__(
        self,
        window: Window,
        start: Callable[[], Any],
        add: Callable[[Any, Any], Any],
        merge: Callable[[Any, Any], Any] | None,
        delay_ms: int = 0,
    ) -> None:
        self._cutter = (_Sessions if window.gap_ms else _Panes)(window, start, add, merge)
        self._delay_ms = delay_ms
        self._closed_ms = -math.inf
        self.late = 0

    @property
    def panes(self) -> int:
        """How much is open: stretches of time, of all keys."""
        return self._cutter.panes

    def pass_time(self, at_ms: int) -> list[Row]:
        """Take note that it is this late; the rows of windows that close."""
        if at_ms + CLOCK_SET_MS + self._delay_ms < self._closed_ms:
            rows = self.finish()
            self._closed_ms = at_ms - self._delay_ms
            return rows
        self._closed_ms = max(self._closed_ms, at_ms - self._delay_ms)
        return list(self._cutter.close(self._closed_ms))

    def add(self, key: Any, at_ms: int, item: Any) -> list[Row]:
        """Take an item; the rows of windows that close before it."""
        rows = self.pass_time(at_ms)
        if not self._cutter.add(key, at_ms, item, self._closed_ms):
            self.late += 1
        return rows

    def finish(self) -> list[Row]:
        """Close what is open."""
        return list(self._cutter.close(math.inf))

    def save(self) -> str:
        """All that is known, as a text for ``load``."""
        return json.dumps([self._closed_ms, self.late, self._cutter.save()])

    def load(self, text: str) -> None:
        """Go on where a ``save`` was; of windows made alike, and new."""
        self._closed_ms, self.late, saved = json.loads(text)
        self._cutter.load(saved)


class _Panes:
    """Tumbling and sliding windows."""

    def __init__(
        self,
        window: Window,
        start: Callable[[], Any],
        add: Callable[[Any, Any], Any],
        merge: Callable[[Any, Any], Any] | None,
    ) -> None:
        self._window = window
        self._start, self._add, self._merge = start, add, merge
        self._pane_ms = math.gcd(window.size_ms, window.step_ms)
        self._keys: dict[Any, dict[int, Any]] = {}  # panes by number
        self._next: dict[Any, int] = {}  # start of the oldest window that is still open
        self._due: list[tuple[int, int, Any]] = []  # (end of that window, arrival of the key, key)
        self._arrivals = 0

    @property
    def panes(self) -> int:
        return sum(map(len, self._keys.values()))

    def save(self) -> list[Any]:
        opened: dict[Any, None] = {}  # in the order in which equal ends come out
        for end_ms, _, key in sorted(self._due, key=lambda due: due[:2]):
            if self._next.get(key) == end_ms - self._window.size_ms:
                opened[key] = None
        return [[key, self._next[key], list(self._keys[key].items())] for key in opened]

    def load(self, saved: list[Any]) -> None:
        for key, start_ms, panes in saved:
            self._keys[key] = dict(panes)
            self._open(key, start_ms)

    def add(self, key: Any, at_ms: int, item: Any, closed_ms: float) -> bool:
        oldest_ms = at_ms - self._window.size_ms + self._window.step_ms
        start_ms = oldest_ms - oldest_ms % self._window.step_ms  # of the first window that holds it
        last_ms = at_ms - at_ms % self._window.step_ms
        if last_ms + self._window.size_ms <= closed_ms:
            return False
        while start_ms + self._window.size_ms <= closed_ms:
            start_ms += self._window.step_ms
        if key not in self._keys:
            self._keys[key] = {}
            self._open(key, start_ms)
        elif start_ms < self._next[key]:
            self._open(key, start_ms)
        panes = self._keys[key]
        number = at_ms // self._pane_ms
        panes[number] = self._add(panes[number] if number in panes else self._start(), item)
        return True

    def close(self, closed_ms: float) -> Iterator[Row]:
        while self._due and self._due[0][0] <= closed_ms:
            end_ms, _, key = heapq.heappop(self._due)
            start_ms = end_ms - self._window.size_ms
            if self._next.get(key) != start_ms:
                continue  # an earlier window was opened meanwhile
            panes = self._keys[key]
            held = sorted(n for n in panes if start_ms <= n * self._pane_ms < end_ms)
            if held:
                yield Row(key, start_ms, end_ms, self._merged([panes[n] for n in held]))
            for number in held:
                if number * self._pane_ms < start_ms + self._window.step_ms:
                    del panes[number]
            if panes:
                self._open(key, max(start_ms + self._window.step_ms, self._first_start(min(panes))))
            else:
                del self._keys[key], self._next[key]

    def _first_start(self, pane: int) -> int:
        """Where the first window that holds a pane begins."""
        oldest_ms = (pane + 1) * self._pane_ms - self._window.size_ms
        return oldest_ms + -oldest_ms % self._window.step_ms

    def _open(self, key: Any, start_ms: int) -> None:
        self._next[key] = start_ms
        self._arrivals += 1
        heapq.heappush(self._due, (start_ms + self._window.size_ms, self._arrivals, key))

    def _merged(self, states: list[Any]) -> Any:
        merged = states[0]
        for state in states[1:]:
            assert self._merge is not None  # windows that do not overlap have one pane
            merged = self._merge(merged, state)
        return merged


class _Sessions:
    """Windows that silence ends. Late items may join two."""

    def __init__(
        self,
        window: Window,
        start: Callable[[], Any],
        add: Callable[[Any, Any], Any],
        merge: Callable[[Any, Any], Any] | None,
    ) -> None:
        self._gap_ms = window.gap_ms
        self._start, self._add, self._merge = start, add, merge
        self._open: dict[Any, list[_Pane]] = {}
        self._due: list[tuple[int, int, Any, _Pane]] = []  # (end, arrival, key, pane)
        self._arrivals = 0

    @property
    def panes(self) -> int:
        return sum(map(len, self._open.values()))

    def save(self) -> list[Any]:
        opened: dict[int, list[Any]] = {}
        for end_ms, _, key, pane in sorted(self._due, key=lambda due: due[:2]):
            if pane.end_ms == end_ms and any(pane is present for present in self._open.get(key, ())):
                opened[id(pane)] = [key, pane.start_ms, end_ms, pane.state]
        return list(opened.values())

    def load(self, saved: list[Any]) -> None:
        for key, start_ms, end_ms, state in saved:
            pane = _Pane(start_ms, end_ms, state)
            panes = self._open.setdefault(key, [])
            panes.append(pane)
            panes.sort(key=lambda pane: pane.start_ms)
            self._arrivals += 1
            heapq.heappush(self._due, (end_ms, self._arrivals, key, pane))

    def add(self, key: Any, at_ms: int, item: Any, closed_ms: float) -> bool:
        if at_ms + self._gap_ms <= closed_ms:
            return False
        panes = self._open.setdefault(key, [])
        near = [pane for pane in panes if at_ms < pane.end_ms and pane.start_ms < at_ms + self._gap_ms]
        kept = near[0] if near else _Pane(at_ms, at_ms + self._gap_ms, self._start())
        for other in near[1:]:
            if self._merge is None:
                raise TaskError(
                    "an event out of order joins two sessions, which reduce cannot: use aggregate"
                )
            kept.state = self._merge(kept.state, other.state)
            kept.end_ms = other.end_ms
            panes.remove(other)
        kept.state = self._add(kept.state, item)
        kept.start_ms, kept.end_ms = min(kept.start_ms, at_ms), max(kept.end_ms, at_ms + self._gap_ms)
        if not near:
            panes.append(kept)
            panes.sort(key=lambda pane: pane.start_ms)
        self._arrivals += 1
        heapq.heappush(self._due, (kept.end_ms, self._arrivals, key, kept))
        return True

    def close(self, closed_ms: float) -> Iterator[Row]:
        while self._due and self._due[0][0] <= closed_ms:
            end_ms, _, key, pane = heapq.heappop(self._due)
            panes = self._open.get(key, [])
            if pane.end_ms != end_ms or not any(pane is present for present in panes):
                continue  # it went on, or was joined to another, or is closed
            panes.remove(pane)
            if not panes:
                del self._open[key]
            yield Row(key, pane.start_ms, pane.end_ms, pane.state)


@dataclass(frozen=True, slots=True)
class _Join:
    left: Iterable[Any]
    right: Iterable[Any]
    read_key: Callable[[Any], Any]
    within_ms: int
    read_time: Callable[[Any], Any]
    keep_unmatched: bool

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        waiting: dict[
            Any, deque[int]
        ] = {}  # by key, places of the left items that have no partner, oldest first
        lefts: list[Any] = []
        partners: dict[int, Any] = {}
        for at_ms, side, item in self._merged():
            key = self.read_key(item)
            if side == 0:
                lefts.append(item)
                if key is not None:
                    waiting.setdefault(key, deque()).append(len(lefts) - 1)
            elif key in waiting:
                places = waiting[key]
                if places and at_ms - self.read_time(lefts[places[-1]]) <= self.within_ms:
                    partners[places.pop()] = item
        for place, left in enumerate(lefts):
            if place in partners or self.keep_unmatched:
                yield left, partners.get(place)

    def _merged(self) -> list[tuple[int, int, Any]]:
        """Both sides in order of time; at the same time the left one first."""
        sides = [(0, item) for item in self.left] + [(1, item) for item in self.right]
        timed = [(self.read_time(item), side, item) for side, item in sides]
        return sorted((entry for entry in timed if entry[0] is not None), key=lambda entry: entry[:2])


class Bundle:
    """Several aggregations as one."""

    def __init__(self, aggregations: Mapping[str, Aggregation]) -> None:
        self._parts = [
            (name, part, None if part.field is None else reader(part.field))
            for name, part in aggregations.items()
        ]

    def start(self) -> list[Any]:
        return [part.start() for _, part, _ in self._parts]

    def add(self, states: list[Any], item: Any) -> list[Any]:
        for place, (_, part, read) in enumerate(self._parts):
            value = item if read is None else read(item)
            if value is not None:
                states[place] = part.add(states[place], value)
        return states

    def merge(self, a: list[Any], b: list[Any]) -> list[Any]:
        return [part.merge(x, y) for (_, part, _), x, y in zip(self._parts, a, b, strict=True)]

    def result(self, states: list[Any]) -> dict[str, Any]:
        return {name: part.result(state) for (name, part, _), state in zip(self._parts, states, strict=True)}


@dataclass(frozen=True, slots=True)
class _Again:
    """A step of a stream that can be read as often as what it reads."""

    source: Iterable[Any]
    step: Callable[[Iterator[Any]], Iterator[Any]]

    def __iter__(self) -> Iterator[Any]:
        return self.step(iter(self.source))


def reader(field: Field) -> Callable[[Any], Any]:
    """A function that reads a field; ``args.item.price`` reads members of mappings and attributes alike."""
    if callable(field):
        return field
    names = field.split(".")

    def read(item: Any) -> Any:
        for name in names:
            item = item.get(name) if isinstance(item, Mapping) else getattr(item, name, None)
            if item is None:
                return None
        return item

    return read
