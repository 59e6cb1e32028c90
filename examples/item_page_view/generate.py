"""Write a SYNTHETIC stream of item-page visits, as an app's tracking kit would log it.

    python examples/item_page_view/generate.py > examples/item_page_view/events.jsonl

Nothing here was recorded from people: names, prices, ids and times come from a seeded random generator, so
the same seed gives the same bytes. What is modelled on practice is the shape: about 19 events and 20 KB per
visit, a block of context on every event (session, experiment buckets, device), tracking codes on every widget
and on every exposed item, a few visits at the same time. The share of bytes that a feature saves on it says
nothing about other apps' data.

Each visit has a label too, which is no event: whether the item was bought later. The user's interest, which
the events only hint at, decides the chance of that.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Event = dict[str, Any]

NOTE = (
    "SYNTHETIC item-page visits made by generate.py; no person's behaviour was recorded. "
    "One JSON event a line after this one."
)
START_MS = 1_760_000_000_000
CATEGORIES = {
    "shoes": ["running shoes", "trail shoes", "sandals", "boots"],
    "kitchen": ["kettle", "chef's knife", "frying pan", "coffee grinder"],
    "audio": ["headphones", "earbuds", "speaker", "turntable"],
    "outdoor": ["tent", "sleeping bag", "backpack", "head torch"],
}
BRANDS = ["Alder", "Brightwell", "Corvane", "Dunmore", "Elstow", "Farrow"]
SECTIONS = ["gallery", "price", "sku", "reviews", "questions", "shop", "details", "recommendations"]
REFERRERS = ["search", "home_feed", "cart", "shop", "recommendation"]


@dataclass
class Session:
    """What stays the same over one session, and goes along with every event."""

    rng: random.Random

    def __post_init__(self) -> None:
        rng = self.rng
        self.session_id = code(rng, 32)
        self.device = {
            "model": rng.choice(["P7-Pro", "M4", "S23", "A54"]),
            "os": f"{rng.randint(11, 15)}.{rng.randint(0, 3)}",
            "screen": rng.choice(["1080x2400", "1440x3120"]),
            "density": rng.choice([2.6, 3.0, 3.5]),
            "locale": rng.choice(["en_GB", "de_DE", "fr_FR"]),
        }
        self.buckets = {
            f"exp_{rng.randint(100, 999)}": f"{rng.randint(1, 64)}_{code(rng, 6)}" for _ in range(6)
        }

    def context(self, page_seq: int) -> dict[str, Any]:
        """The block that tracking kits put on every event."""
        return {
            "session_id": self.session_id,
            "page_seq": page_seq,
            "trace_id": code(self.rng, 32),
            "app": {"version": "7.2.1", "build": 70201, "channel": "store"},
            "device": self.device,
            "network": {"type": self.rng.choice(["wifi", "5g", "4g"]), "rtt_ms": self.rng.randint(15, 140)},
            "experiments": self.buckets,
        }


def code(rng: random.Random, length: int) -> str:
    """A tracking code."""
    return "".join(rng.choices("0123456789abcdef", k=length))


def make_item(rng: random.Random) -> dict[str, Any]:
    """An item as it appears on cards and pages."""
    category = rng.choice(list(CATEGORIES))
    kind, brand = rng.choice(CATEGORIES[category]), rng.choice(BRANDS)
    return {
        "item_id": str(rng.randint(10**11, 10**12)),
        "title": f"{brand} {kind} {rng.choice(['classic', 'light', 'pro'])} {rng.randint(2, 9)}00",
        "category": category,
        "brand": brand,
        "price": round(rng.lognormvariate(3.6, 0.7), 2),
        "score": round(rng.uniform(0.01, 0.99), 4),
    }


def card(rng: random.Random, position: int) -> dict[str, Any]:
    """An exposed recommendation with its tracking codes."""
    return {
        **make_item(rng),
        "position": position,
        "track": f"1007.{rng.randint(10**4, 10**5)}.{rng.randint(10**5, 10**6)}.{code(rng, 16)}",
        "visible_ms": rng.randint(200, 4_000),
        "visible_share": round(rng.uniform(0.3, 1.0), 2),
    }


class VisitScript:
    """One visit: an enter, what the user does, an exit.

    Args:
        rng: chance.
        session: the context of its events.
        number: of the visit.
        start_ms: when it begins.
        item: what it is a visit to; by default some item.
        interest: the user's, 0 to 1; by default any.
    """

    def __init__(
        self,
        rng: random.Random,
        session: Session,
        number: int,
        start_ms: int,
        *,
        item: dict[str, Any] | None = None,
        interest: float | None = None,
    ) -> None:
        self.rng, self.session, self.number = rng, session, number
        self.now_ms = start_ms
        self.visit_id = f"synthetic-{number:04d}"
        self.item = make_item(rng) if item is None else item
        self.offset = 0
        self._given = interest
        self.interest = 0.0

    def events(self) -> Iterator[Event]:
        """All events of the visit, in time order."""
        yield self._event("page_enter", "page_enter", self._enter_args())
        self.interest = self.rng.random() if self._given is None else self._given
        for _ in range(max(6, round(self.rng.gauss(17, 4)))):
            self.now_ms += round(self.rng.expovariate(1 / 2_500)) + 120
            yield self._action()
        self.now_ms += self.rng.randint(200, 3_000)
        yield self._event("page_exit", "page_exit", {"to": self.rng.choice(REFERRERS), "offset": self.offset})

    def bought(self) -> bool:
        """Whether the item was bought later; ask when the events have been made."""
        chance = 0.03 + 0.9 * max(0.0, (self.interest - 0.4) / 0.6)
        return random.Random(f"{self.visit_id} {self.interest}").random() < chance

    def _action(self) -> Event:
        draw = self.rng.random()
        if draw < 0.45:
            return self._scroll()
        if draw < 0.75:
            cards = [card(self.rng, position) for position in range(self.rng.randint(2, 5))]
            args = {"section": "recommendations", "items": cards}
            return self._event("exposure", "recommendation_exposed", args)
        if draw < 0.88 or self.interest < 0.4:
            section = self.rng.choice(SECTIONS)
            name = {"reviews": "review_opened", "questions": "question_opened", "shop": "shop_opened"}
            return self._event("click", name.get(section, "section_opened"), self._widget(section))
        return self._intent()

    def _intent(self) -> Event:
        name = self.rng.choices(
            ["sku_selected", "favourite_added", "cart_added", "service_opened", "recommendation_clicked"],
            [5, 2, 3, 1, 2],
        )[0]
        args = self._widget(name)
        if name == "cart_added":
            args |= {"quantity": self.rng.randint(1, 3)}
        if name == "recommendation_clicked":
            args |= {"item": card(self.rng, self.rng.randint(0, 9))}
        return self._event("click", name, args)

    def _scroll(self) -> Event:
        distance = round(self.rng.gauss(500, 420))
        start, self.offset = self.offset, min(9_000, max(0, self.offset + distance))
        first = self.offset // 1_200
        samples = [
            {"t_ms": step * 50, "y": round(start + (self.offset - start) * step / 8)} for step in range(9)
        ]
        args = {
            "from": start,
            "offset": self.offset,
            "page_height": 9_800,
            "viewport": 2_200,
            "duration_ms": self.rng.randint(120, 900),
            "samples": samples,
            "visible": [
                {"section": name, "track": f"a2141.{code(self.rng, 8)}.{name}.d{i}"}
                for i, name in enumerate(SECTIONS[first : first + 3])
            ],
        }
        return self._event("scroll", "page_scrolled", args)

    def _widget(self, section: str) -> dict[str, Any]:
        return {
            "section": section,
            "widget": f"{section}_{self.rng.randint(1, 9)}",
            "track": f"a2141.{code(self.rng, 8)}.{section}.d{self.rng.randint(1, 40)}",
            "touch": {"x": self.rng.randint(0, 1079), "y": self.rng.randint(0, 2399)},
            "offset": self.offset,
            "item_id": self.item["item_id"],
        }

    def _enter_args(self) -> dict[str, Any]:
        rng = self.rng
        return {
            "item": {
                **self.item,
                "price_level": rng.randint(1, 7),
                "age_level": rng.randint(1, 6),
                "seller": {
                    "id": str(rng.randint(10**8, 10**9)),
                    "type": rng.choice(["shop", "brand", "market"]),
                },
                "skus": [
                    {
                        "sku_id": str(rng.randint(10**12, 10**13)),
                        "colour": colour,
                        "stock": rng.randint(0, 99),
                    }
                    for colour in rng.sample(["black", "white", "red", "green", "blue"], 3)
                ],
                "images": [f"https://img.example/{code(rng, 24)}.webp" for _ in range(5)],
            },
            "referrer": {"page": rng.choice(REFERRERS), "track": f"a2141.{code(rng, 8)}.{code(rng, 12)}"},
        }

    def _event(self, kind: str, event_id: str, args: dict[str, Any]) -> Event:
        return {
            "kind": kind,
            "event_id": event_id,
            "page_id": "item_detail",
            "visit_id": self.visit_id,
            "wall_ms": self.now_ms,
            "args": {**args, "context": self.session.context(self.number)},
        }


@dataclass(frozen=True)
class Stream:
    """Events in time order, and by visit whether the item was bought later."""

    events: list[Event]
    bought: dict[str, bool]


def generate(visits: int, seed: int) -> Stream:
    """``visits`` visits; one in five starts before the last one has ended."""
    rng = random.Random(seed)
    session = Session(rng)
    events: list[Event] = []
    bought: dict[str, bool] = {}
    start_ms = START_MS
    for number in range(visits):
        script = VisitScript(rng, session, number, start_ms)
        made = list(script.events())
        events += made
        bought[script.visit_id] = script.bought()
        lasts_ms = made[-1]["wall_ms"] - start_ms
        start_ms += lasts_ms // 2 if rng.random() < 0.2 else lasts_ms + rng.randint(1_000, 20_000)
    return Stream(sorted(events, key=lambda event: event["wall_ms"]), bought)


def main() -> None:
    """Print the note, as a comment, and the events."""
    parser = argparse.ArgumentParser(
        description="Write a synthetic stream of item-page visits to standard output."
    )
    parser.add_argument("--visits", type=int, default=30)
    parser.add_argument("--seed", type=int, default=20)
    options = parser.parse_args()
    sys.stdout.write("# " + json.dumps({"note": NOTE, "visits": options.visits, "seed": options.seed}) + "\n")
    for event in generate(options.visits, options.seed).events:
        sys.stdout.write(json.dumps(event, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
