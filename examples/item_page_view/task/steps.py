"""A visit as numbers: one row per event, for the encoder. Training and device share this file."""

from __future__ import annotations

import math

from walle_task.events import Event, Visit

#: Rows the encoder reads: the visit's last events, behind rows of zeros where it has fewer.
STEPS = 32

KINDS = ("page_enter", "scroll", "exposure", "click", "page_exit")
INTENTS = (
    "cart_added",
    "favourite_added",
    "sku_selected",
    "review_opened",
    "question_opened",
    "service_opened",
    "shop_opened",
    "recommendation_clicked",
)
WIDTH = len(KINDS) + len(INTENTS) + 6


def rows(visit: Visit) -> list[list[float]]:
    """``STEPS`` rows of ``WIDTH`` numbers, oldest event first."""
    events = visit.events[-STEPS:]
    before = [events[0], *events]
    written = [_row(event, earlier) for earlier, event in zip(before, events, strict=False)]
    return [[0.0] * WIDTH] * (STEPS - len(written)) + written


def _row(event: Event, earlier: Event) -> list[float]:
    waited_s = max(0, event.wall_ms - earlier.wall_ms) / 1000
    return [
        *(float(event.kind == kind) for kind in KINDS),
        *(float(event.event_id == intent) for intent in INTENTS),
        math.log1p(waited_s),
        *(_scroll(event) if event.kind == "scroll" else (0.0, 0.0, 0.0)),
        *(_exposure(event) if event.kind == "exposure" else (0.0, 0.0)),
    ]


def _scroll(event: Event) -> tuple[float, float, float]:
    """How far down, how far from where it was, both in pages, and how long in seconds."""
    args = event.args
    height = args["page_height"]
    return args["offset"] / height, (args["offset"] - args["from"]) / height, args["duration_ms"] / 1000


def _exposure(event: Event) -> tuple[float, float]:
    """How many items came into view, in fives, and for how long in all, in tens of seconds."""
    items = event.args.get("items", [])
    return len(items) / 5, sum(item["visible_ms"] for item in items) / 10_000
