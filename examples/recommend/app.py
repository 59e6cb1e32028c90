"""The app on one device: logs what the shopper does, hears how the device ranks, and shows that."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from dataset import candidate_rows
from evaluate import Known, Rankers
from generate import (
    PAGE_CARDS,
    REQUEST_CARDS,
    REQUEST_PAGES,
    Array,
    Event,
    Session,
    Shopper,
    candidates_event,
    exposure_event,
    feed_event,
)
from walle_agent.client.results import TaskResults

TASK = "demo/recommend"
#: How long the app waits for the device before it shows the order it has.
PATIENCE_S = 0.3
#: How late the cloud knows of visits: about what the paper says of its pipelines (33.73 s).
CLOUD_DELAY_S = 30.0
CONNECT_S = 10.0
#: A user's pace, as far as one likes to wait: when a page closes, everything before has settled.
SETTLE_S = 0.02
#: Log odds that may differ between two ways of computing the same: products are summed in another order.
SAME = 2e-3


@dataclass(frozen=True)
class Reranked:
    """The next page before and after a visit: titles, and clicks to be expected."""

    visited: str = ""
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    expected_before: float = 0.0
    expected_after: float = 0.0

    @property
    def fresh(self) -> int:
        """How many of its cards were not there before."""
        return len(set(self.after) - set(self.before))


@dataclass
class Seen:
    """What one app saw.

    Attributes:
        candidates_s: from candidates handed to the device to their order, each time.
        exit_s: from leaving an item's page to the order that knows of the visit, each time.
        late: how often the device was not back in time, and the order before stayed.
        agreed: orders that were those of the same network, run here on the same visits.
        differed: other orders.
        pages: looked at.
        clicks: made.
        expected: clicks to be expected of the pages shown, by the truth.
        by_cloud: those to be expected of the same pages, had the cloud's order stayed.
        left_ms: by when a visit closed for the shopper: the wall clock when its last event was written.
        raw_bytes: of the events of the visits.
        events: of the visits.
        example: the page that a visit changed most.
    """

    candidates_s: list[float] = field(default_factory=list)
    exit_s: list[float] = field(default_factory=list)
    late: int = 0
    agreed: int = 0
    differed: int = 0
    pages: int = 0
    clicks: int = 0
    expected: float = 0.0
    by_cloud: float = 0.0
    left_ms: dict[int, int] = field(default_factory=dict)
    raw_bytes: int = 0
    events: int = 0
    example: Reranked = field(default_factory=Reranked)


def is_falling(scores: Array) -> bool:
    """Whether no score is above one before it, as far as float32 goes."""
    return bool(np.all(np.maximum.accumulate(scores[::-1])[::-1] - scores < SAME))


class App:
    """One app and its shopper; connected while it is a context.

    Args:
        path: the agent's events socket.
        shopper: who uses it.
        known: what the device should know of the shopper, to compare.
        rankers: the networks, for the cloud's order and to compare.
    """

    def __init__(self, path: Path, shopper: Shopper, known: Known, rankers: Rankers) -> None:
        self.shopper = shopper
        self.seen = Seen()
        self._path = path
        self._known, self._rankers = known, rankers
        self._rng = np.random.default_rng([shopper.seed, 4])
        self._unmoved = False
        self._request = ""

    def __enter__(self) -> Self:
        self._agent = socket.socket(socket.AF_UNIX)
        self._agent.connect(str(self._path))
        self._results = TaskResults(self._path, TASK)
        if not self._results.wait_listening(CONNECT_S):
            raise TimeoutError("the agent does not tell results")
        return self

    def __exit__(self, *_: object) -> None:
        self._results.close()
        self._agent.close()

    def replay(self, visits: Iterable[Sequence[Event]]) -> None:
        """Log visits of the days before; the device remembers them."""
        for events in visits:
            self._emit_visit(events)

    def shop(self, session: Session) -> None:
        """Live through a session."""
        shown_before: set[int] = set()
        order: list[int] = []
        cloud: list[int] = []
        while True:
            if session.page % REQUEST_PAGES == 0:
                cloud = self._ask_cloud(session, shown_before)
                shown_before.update(cloud)
                order = self._receive(session, cloud)
            place = session.page % REQUEST_PAGES * PAGE_CARDS
            shown = order[:PAGE_CARDS]
            self._count(session, shown, cloud[place : place + PAGE_CARDS])
            order = self._look(session, shown, order[PAGE_CARDS:])
            if not session.turn_page():
                return

    def _ask_cloud(self, session: Session, seen: set[int]) -> list[int]:
        """Candidates in the order of the network that ranks in the cloud, by what has reached it."""
        items = self.shopper.recall(self._rng, REQUEST_CARDS, seen)
        scores = self._scores(session, items, CLOUD_DELAY_S)
        return [items[place] for place in np.argsort(-scores, kind="stable")]

    def _scores(self, session: Session, items: Sequence[int], delay_s: float) -> Array:
        past = self._known.at(session.now_ms, 1000 * delay_s)
        return self._rankers.din(past, candidate_rows(session.shopper.catalogue, np.array(items)))

    def _receive(self, session: Session, cloud: list[int]) -> list[int]:
        """Hand the cloud's answer to the device; the device's order of it."""
        self._request = f"{session.number}-{session.page}"
        sent_s = self._emit(candidates_event(session, self._request, cloud))
        order = self._hear(session)
        self.seen.candidates_s.append(time.perf_counter() - sent_s)
        return self._checked(session, cloud, order)

    def _look(self, session: Session, shown: list[int], rest: list[int]) -> list[int]:
        """Look at a page and at what is clicked; the order of the rest, each visit taken into account."""
        self._emit(exposure_event(session, shown))
        if self._unmoved:  # two pages without a click: the task's third trigger
            rest = self._checked(session, rest, self._hear(session))
        self._unmoved = not self._unmoved
        for item in session.look(shown):
            self.seen.clicks += 1
            self._unmoved = False
            card = session.shopper.catalogue.cards[item]
            self._emit(feed_event(session, "click", "card_clicked", {"item_id": card["item_id"]}))
            events, _ = session.visit(item)
            left_s = self._emit_visit(events, SETTLE_S)
            order = self._hear(session)
            self.seen.exit_s.append(time.perf_counter() - left_s)
            self._known.add([events])
            before, rest = rest, self._checked(session, rest, order)
            self._note(session, item, before[:PAGE_CARDS], rest[:PAGE_CARDS])
        return rest

    def _hear(self, session: Session) -> list[int] | None:
        """The device's order by all that has happened until now; None if it is not told in time."""
        deadline_s = time.monotonic() + PATIENCE_S
        while (result := self._results.next(max(0.0, deadline_s - time.monotonic()))) is not None:
            told = result.value
            if told["request_id"] == self._request and told["as_of_ms"] >= session.now_ms:
                order = [session.shopper.catalogue.number_of[name] for name in told["order"]]
                return order if told["by"] == "device" else None
        return None  # what came was too late for its page

    def _checked(self, session: Session, items: list[int], order: list[int] | None) -> list[int]:
        """These items in the order that was heard, or as they are; whether it is right is counted."""
        if order is None:
            self.seen.late += 1
            return items
        wanted = set(items)
        ranked = [item for item in order if item in wanted]
        right = is_falling(self._scores(session, ranked, 0.0))
        self.seen.agreed += right
        self.seen.differed += not right
        return ranked

    def _note(self, session: Session, visited: int, before: list[int], after: list[int]) -> None:
        """Keep what a visit did to the next page, if no other did more."""
        cards, chances = session.shopper.catalogue.cards, session.chances()
        titles = [tuple(cards[item]["title"] for item in items) for items in (before, after)]
        expected = [float(chances[items].sum()) for items in (before, after)]
        noted = Reranked(cards[visited]["title"], *titles, *expected)
        if noted.fresh > self.seen.example.fresh:
            self.seen.example = noted

    def _count(self, session: Session, shown: list[int], by_cloud: list[int]) -> None:
        chances = session.chances()
        self.seen.pages += 1
        self.seen.expected += float(chances[shown].sum())
        self.seen.by_cloud += float(chances[by_cloud].sum())

    def _emit_visit(self, events: Sequence[Event], pause_s: float = 0.0) -> float:
        """Write the events of a visit, the last one after a pause; when that was written."""
        for event in events[:-1]:
            self._emit(event)
        time.sleep(pause_s)
        self.seen.left_ms[events[-1]["wall_ms"]] = time.time_ns() // 1_000_000
        left_s = self._emit(events[-1])
        self.seen.raw_bytes += sum(map(len, map(_line, events)))
        self.seen.events += len(events)
        return left_s

    def _emit(self, event: Event) -> float:
        line = _line(event) + b"\n"
        sent_s = time.perf_counter()
        self._agent.sendall(line)
        return sent_s


def _line(event: Event) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode()
