"""SYNTHETIC shoppers with known wants, and the events that an app would log of them.

    python examples/recommend/generate.py > session.jsonl

Nothing here was recorded from people. A shopper has a taste that lasts (categories, brands, a price level)
and an intent of the moment, which changes within a session without a word: what is wanted now shows only in
what is clicked and how long it is looked at. The chance of each click is a known number, so that the best
possible ranking is known too. Chance is a function of seed, session, page and item alone: two rankings
shown to the same shopper differ by what they show, not by luck.

The visits to item pages are those of the example ``item_page_view``, made by its generator.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from borrowed import pages

Array = np.ndarray[Any, np.dtype[Any]]
Event = dict[str, Any]

NOTE = (
    "SYNTHETIC session made by generate.py; no person's behaviour was recorded. "
    "One JSON event a line after this one."
)
START_MS = 1_760_000_000_000
DAY_MS = 24 * 3_600_000

KINDS = [(category, kind) for category, kinds in pages.CATEGORIES.items() for kind in kinds]
ITEMS = 1_200
PRICE_LEVELS = 7
#: Numbers that say what an item is: a code of its kind, one of its brand, its price level, its quality.
ITEM_WIDTH = len(KINDS) + len(pages.BRANDS) + 2
#: Of vectors: ranker and candidates must have the same.
VECTORS_VERSION = 1

PAGE_CARDS = 10
#: Candidates that the cloud sends at once, and pages for which they do.
REQUEST_CARDS, REQUEST_PAGES = 100, 5
SESSION_PAGES = 15
PAGE_MS = 8_000

#: Weights of what makes a shopper click, on the scale of log odds.
BASE = -3.6
TASTE, TASTE_BRAND, TASTE_PRICE = 0.9, 0.4, -0.12
INTENT_CATEGORY, INTENT_KIND, INTENT_PRICE = 2.0, 1.3, -0.35
QUALITY = 0.4
#: Chance that the intent is another one on the next page, and that a new one is of the lasting taste.
DRIFT, LASTING = 0.13, 0.4


class Catalogue:
    """All items, the same for everybody."""

    def __init__(self, seed: int = 7) -> None:
        rng = np.random.default_rng(seed)
        self.kind = rng.integers(0, len(KINDS), ITEMS)
        self.category = self.kind // (len(KINDS) // len(pages.CATEGORIES))
        self.brand = rng.integers(0, len(pages.BRANDS), ITEMS)
        self.price_level = rng.integers(1, PRICE_LEVELS + 1, ITEMS)
        self.quality = rng.normal(size=ITEMS).clip(-2, 2)
        self.vectors = self._vectors(rng)
        self.cards = [self._card(number) for number in range(ITEMS)]
        self.number_of = {card["item_id"]: number for number, card in enumerate(self.cards)}

    def _vectors(self, rng: np.random.Generator) -> Array:
        """``[I, ITEM_WIDTH]``: random codes, at right angles, and two plain numbers."""
        kinds = np.linalg.qr(rng.normal(size=(len(KINDS), len(KINDS))))[0]
        brands = np.linalg.qr(rng.normal(size=(len(pages.BRANDS), len(pages.BRANDS))))[0]
        numbers = np.stack([self.price_level / PRICE_LEVELS, self.quality / 2], axis=1)
        return np.concatenate([kinds[self.kind], brands[self.brand], numbers], axis=1).astype(np.float32)

    def _card(self, number: int) -> dict[str, Any]:
        """An item as cards and pages of the app show it, with the vector that the cloud sends along."""
        kind, brand = KINDS[self.kind[number]], pages.BRANDS[self.brand[number]]
        return {
            "item_id": f"i{number:04d}",
            "title": f"{brand} {kind[1]} {number}",
            "category": kind[0],
            "brand": brand,
            "price_level": int(self.price_level[number]),
            "score": round(float(self.quality[number]), 3),
            "vector": base64.b64encode(self.vectors[number].astype("<f4").tobytes()).decode(),
        }


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    return (np.tanh(x / 2) + 1) / 2


class Shopper:
    """One user: a taste that lasts, and sessions with intents that do not."""

    def __init__(self, catalogue: Catalogue, seed: int) -> None:
        self.catalogue, self.seed = catalogue, seed
        rng = np.random.default_rng([seed, 1])
        self._liked = rng.choice(len(KINDS), 3, replace=False)
        brand = rng.integers(0, len(pages.BRANDS))
        price = rng.integers(1, PRICE_LEVELS + 1)
        taste = TASTE * np.isin(catalogue.kind, self._liked) + TASTE_BRAND * (catalogue.brand == brand)
        taste += TASTE_PRICE * np.abs(catalogue.price_level - price)
        self._lasting = BASE + taste + QUALITY * catalogue.quality

    def session(self, number: int, start_ms: int) -> Session:
        """The shopper's session of this number; the same each time it is asked for."""
        return Session(self, number, start_ms)

    def recall(self, rng: np.random.Generator, count: int, seen: set[int]) -> list[int]:
        """Candidates as a cloud finds them: half by the lasting taste, half anything, none of them seen."""
        liked = np.flatnonzero(np.isin(self.catalogue.kind, self._liked))
        found: list[int] = []
        for pool, size in ((liked, count // 2), (np.arange(ITEMS), count)):
            for item in rng.permutation(pool):
                if len(found) >= size:
                    break
                if int(item) not in seen and int(item) not in found:
                    found.append(int(item))
        return found


class Session:
    """What a shopper does from opening the app to closing it."""

    def __init__(self, shopper: Shopper, number: int, start_ms: int) -> None:
        self.shopper, self.number = shopper, number
        self.now_ms = start_ms
        self.page = 0
        rng = np.random.default_rng([shopper.seed, 2, number])
        self._intents = self._drift(rng)
        self._luck = rng.random((SESSION_PAGES, ITEMS))
        self._noise = rng.normal(size=ITEMS)
        self._events = random.Random(f"{shopper.seed} {number}")
        self._context = pages.Session(self._events)
        self._visits = 0

    def chances(self) -> Array:
        """Of a click, for each item of the catalogue, on the page now shown: the truth."""
        return sigmoid(self.shopper._lasting + self._intents[self.page])

    def look(self, shown: Sequence[int]) -> list[int]:
        """The items of a page that are clicked."""
        self.now_ms += PAGE_MS
        chances = self.chances()
        return [item for item in shown if self._luck[self.page, item] < chances[item]]

    def visit(self, item: int) -> tuple[list[Event], bool]:
        """The events of a visit to an item's page, and whether it will be bought."""
        wanted = sigmoid(np.array(1.5 * (self._intents[self.page][item] - 1.5)))
        interest = float(np.clip(0.1 + 0.75 * wanted + 0.12 * self._noise[item], 0.0, 1.0))
        number = self.shopper.seed * 10_000 + self.number * 100 + self._visits
        card = self.shopper.catalogue.cards[item]
        script = pages.VisitScript(
            self._events, self._context, number, self.now_ms, item=card, interest=interest
        )
        events = list(script.events())
        self._visits += 1
        self.now_ms = events[-1]["wall_ms"]
        return events, script.bought()

    def turn_page(self) -> bool:
        """Go on to the next page; False where the session is over."""
        self.page += 1
        return self.page < SESSION_PAGES

    def _drift(self, rng: np.random.Generator) -> list[Array]:
        """What the intent adds to each item, page by page."""
        catalogue, intents = self.shopper.catalogue, list[Array]()
        for page in range(SESSION_PAGES):
            if page and rng.random() >= DRIFT:
                intents.append(intents[-1])
                continue
            lasting = rng.random() < LASTING
            kind = int(rng.choice(self.shopper._liked) if lasting else rng.integers(0, len(KINDS)))
            price = int(rng.integers(1, PRICE_LEVELS + 1))
            category = kind // (len(KINDS) // len(pages.CATEGORIES))
            near = INTENT_PRICE * np.abs(catalogue.price_level - price)
            intents.append(
                np.where(catalogue.category == category, INTENT_CATEGORY + near, 0.0)
                + INTENT_KIND * (catalogue.kind == kind)
            )
        return intents


def feed_event(session: Session, kind: str, event_id: str, args: dict[str, Any]) -> Event:
    """One event of the feed; its visit lasts as long as the session."""
    return _of_feed(session, kind, event_id, {**args, "context": session._context.context(session.page)})


def exposure_event(session: Session, shown: Sequence[int]) -> Event:
    """A page of the feed as the app logs it: what came into view."""
    cards = [session.shopper.catalogue.cards[item] for item in shown]
    exposed = [{"item_id": card["item_id"], "position": place} for place, card in enumerate(cards)]
    return feed_event(session, "exposure", "cards_exposed", {"page": session.page, "items": exposed})


def candidates_event(session: Session, request_id: str, order: Sequence[int]) -> Event:
    """The answer of the cloud, as the app hands it to the device: candidates in the cloud's order."""
    cards = [session.shopper.catalogue.cards[item] for item in order]
    items = [{"item_id": card["item_id"], "vector": card["vector"]} for card in cards]
    args = {"request_id": request_id, "vectors_version": VECTORS_VERSION, "items": items}
    return _of_feed(session, "custom", "candidates_received", args)


def _of_feed(session: Session, kind: str, event_id: str, args: dict[str, Any]) -> Event:
    return {
        "kind": kind,
        "event_id": event_id,
        "page_id": "home_feed",
        "visit_id": f"feed-{session.shopper.seed}-{session.number}",
        "wall_ms": session.now_ms,
        "args": args,
    }


@dataclass(frozen=True)
class Page:
    """A page of the feed that was looked at, and what came of it."""

    number: int
    at_ms: int
    shown: list[int]
    chances: Array  # of the items shown
    clicked: list[int]
    visits: list[tuple[list[Event], bool]]


def browse(session: Session, choose: Any) -> Iterator[Page]:
    """Look at page after page; ``choose(session)`` says what the next one shows."""
    while True:
        shown = choose(session)
        at_ms, chances = session.now_ms, session.chances()[shown]
        clicked = session.look(shown)
        visits = [session.visit(item) for item in clicked]
        yield Page(session.page, at_ms, list(shown), chances, clicked, visits)
        if not session.turn_page():
            return


def stream(
    seed: int, *, pages_shown: int = SESSION_PAGES, candidates: int = REQUEST_CARDS
) -> Iterator[Event]:
    """The events of one session whose pages are shown in the order of recall, or of its first pages."""
    catalogue = Catalogue()
    shopper = Shopper(catalogue, seed)
    session = shopper.session(0, START_MS)
    rng, seen = np.random.default_rng(seed), set[int]()
    yield feed_event(session, "page_enter", "page_enter", {})
    waiting: list[int] = []
    for page in range(pages_shown):
        if page % REQUEST_PAGES == 0:
            waiting = shopper.recall(rng, candidates, seen)
            seen.update(waiting)
            yield candidates_event(session, f"r{page}", waiting)
        shown, waiting = waiting[:PAGE_CARDS], waiting[PAGE_CARDS:]
        yield exposure_event(session, shown)
        for item in session.look(shown):
            args = {"item_id": catalogue.cards[item]["item_id"]}
            yield feed_event(session, "click", "card_clicked", args)
            yield from session.visit(item)[0]
        session.turn_page()
    yield feed_event(session, "page_exit", "page_exit", {})


def main() -> None:
    """Print the note, as a comment, and the events."""
    parser = argparse.ArgumentParser(description="Write a synthetic session to standard output.")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--pages", type=int, default=SESSION_PAGES, help="how many are looked at")
    parser.add_argument(
        "--candidates", type=int, default=REQUEST_CARDS, help="how many the cloud sends at once, ten a page"
    )
    options = parser.parse_args()
    if not 1 <= options.pages <= SESSION_PAGES:
        parser.error(f"--pages must be 1 to {SESSION_PAGES}")
    if not PAGE_CARDS <= options.candidates <= REQUEST_CARDS:
        parser.error(f"--candidates must be {PAGE_CARDS} to {REQUEST_CARDS}")
    said = {"note": NOTE, "seed": options.seed, "pages": options.pages, "candidates": options.candidates}
    sys.stdout.write("# " + json.dumps(said) + "\n")
    for event in stream(options.seed, pages_shown=options.pages, candidates=options.candidates):
        sys.stdout.write(json.dumps(event, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
