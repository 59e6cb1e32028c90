"""Event time: events that bring a time of their own are put into its order, within a bound.

An app that stamps its events (``mono_ns``, of ``CLOCK_MONOTONIC``, as ``walle_agent.client`` does) may hand
them in late and out of order: it sends in batches, and there may be several apps. Such an event waits until
it is ``bound`` old, so that whatever happened before it can still come. A ``page_exit`` does not wait, nor
does anything before it: whoever counts on a visit's closing wants it at once. An event without a time of
its own happened when it came in; it waits only where apps with times are about.

An event that comes when later ones have been let through is *late*. Pure state, no I/O.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from walle_agent.streams.event import RawEvent


@dataclass(frozen=True, slots=True)
class ReorderStatistics:
    """Events that wait now; counters of those that came out of order, and of those that came too late."""

    waiting: int = 0
    reordered: int = 0
    late: int = 0


class ReorderBuffer:
    """Events in, in any order; events out, by time.

    Invariant: what comes out never goes back in time.

    Args:
        bound_ns: how long an event waits for earlier ones; 0 lets everything through as it comes.
    """

    def __init__(self, bound_ns: int) -> None:
        self._bound_ns = bound_ns
        self._waiting: list[tuple[int, int, RawEvent]] = []
        self._arrivals = count()
        self._due_ns = 0  # whatever happened up to here is let through now
        self._newest_ns = 0
        self._timed_ns = -bound_ns  # of the newest event with a time of its own
        self._out_ns = 0
        self._reordered = self._late = 0

    def push(self, event: RawEvent) -> bool:
        """Take an event whose ``mono_ns`` is set; False if it is late, and is not taken."""
        if event.mono_ns < self._out_ns:
            self._late += 1
            return False
        if event.mono_ns < self._newest_ns:
            self._reordered += 1
        self._newest_ns = max(self._newest_ns, event.mono_ns)
        heapq.heappush(self._waiting, (event.mono_ns, next(self._arrivals), event))
        if event.timed:
            self._timed_ns = max(self._timed_ns, event.mono_ns)
        if event.kind == "page_exit" or event.mono_ns >= self._timed_ns + self._bound_ns:
            self._due_ns = max(self._due_ns, event.mono_ns)
        return True

    def pop(self, now_ns: int) -> Iterator[RawEvent]:
        """Events whose turn it is, in order of their times."""
        self._due_ns = max(self._due_ns, now_ns - self._bound_ns)
        while self._waiting and self._waiting[0][0] <= self._due_ns:
            self._out_ns, _, event = heapq.heappop(self._waiting)
            yield event

    def flush(self) -> None:
        """Let through at the next ``pop`` whatever waits."""
        self._due_ns = max(self._due_ns, self._newest_ns)

    def restart(self, mono_ns: int) -> None:
        """Start to count from ``mono_ns``: the log goes so far."""
        self._out_ns = self._newest_ns = self._due_ns = mono_ns

    def next_due_ns(self) -> int | None:
        """When the first event that waits will be let through; None if none waits."""
        return self._waiting[0][0] + self._bound_ns if self._waiting else None

    def statistics(self) -> ReorderStatistics:
        """What waits, and counters."""
        return ReorderStatistics(len(self._waiting), self._reordered, self._late)
