"""Sum up the item-page visit that just closed, in words for people and in 128 bytes for models."""

import base64
import struct
from collections import Counter

import steps

from walle_task import events, log, model, params, store, tunnel
from walle_task.events import Event, Visit

#: Click that counts -> field of the feature.
COUNTED = {
    "cart_added": "cart_adds",
    "favourite_added": "favourites",
    "sku_selected": "sku_selections",
    "review_opened": "review_views",
    "question_opened": "question_views",
    "service_opened": "service_contacts",
    "shop_opened": "shop_visits",
    "recommendation_clicked": "recommendation_clicks",
}


def run() -> dict[str, object] | None:
    """Keep the visit's feature and encoding on the device and send them."""
    visit = events.visit()
    if visit is None:
        return None
    feature = summarise(visit)
    if not feature["item_id"]:
        log.warning("item_missing", visit_id=visit.visit_id)
        return None
    state, interest = encode(visit)
    encoding = base64.b64encode(state).decode()
    row = {"item_id": feature["item_id"], "closed_ms": visit.closed_ms, "interest": interest}
    store.table("features").put({**row, "feature": feature, "encoding": encoding})
    tunnel.send("item_page_view", feature)
    tunnel.send("item_page_encoding", {"item_id": feature["item_id"], "encoding": encoding})
    return row


def encode(visit: Visit) -> tuple[bytes, float]:
    """The encoder's last state, 32 little-endian float32, and its guess whether the item will be bought."""
    found = model.load("encoder").run({"steps": [[row] for row in steps.rows(visit)]})
    (state,), ((interest,),) = found["state"].tolist(), found["interest"].tolist()
    return struct.pack(f"<{len(state)}f", *state), round(interest, 4)


def summarise(visit: Visit) -> dict[str, object]:
    """The feature of one visit. Times in milliseconds by the app's clock, distances in its pixels."""
    first, last = visit.events[0], visit.events[-1]
    dwell_ms = max(0, last.wall_ms - first.wall_ms)
    return {
        **about_item(first),
        "opened_ms": first.wall_ms,
        "dwell_ms": dwell_ms,
        "glance": dwell_ms < params.get("glance_below_ms", 1500),
        "close_reason": close_reason(last),
        **count_clicks(visit.of("click")),
        **sum_scrolls(visit.of("scroll")),
        **sum_exposures(visit.of("exposure")),
    }


def about_item(enter: Event) -> dict[str, object]:
    """What the page said about its item."""
    item = enter.args.get("item", {})
    return {
        "item_id": item.get("item_id", ""),
        "category": item.get("category"),
        "brand": item.get("brand"),
        "seller_type": item.get("seller", {}).get("type"),
        "price_level": item.get("price_level"),
        "age_level": item.get("age_level"),
        "item_score": item.get("score"),
        "referrer": enter.args.get("referrer", {}).get("page"),
    }


def close_reason(last: Event) -> str:
    """``page_exit``, or why the agent closed the visit itself."""
    return last.event_id.removeprefix("walle.closed.")


def count_clicks(clicks: list[Event]) -> dict[str, int]:
    """Clicks in all, and those that say what the user wants."""
    counts = Counter(click.event_id for click in clicks)
    return {"clicks": len(clicks), **{field: counts[event_id] for event_id, field in COUNTED.items()}}


def sum_scrolls(scrolls: list[Event]) -> dict[str, int | float]:
    """How far and how fast: depth is the share of the page that came into view, speed in pixels a second."""
    distance = sum(abs(scroll.args["offset"] - scroll.args["from"]) for scroll in scrolls)
    lasted_ms = sum(scroll.args["duration_ms"] for scroll in scrolls)
    depths = [
        (scroll.args["offset"] + scroll.args["viewport"]) / scroll.args["page_height"] for scroll in scrolls
    ]
    return {
        "scrolls": len(scrolls),
        "scroll_depth": round(min(1.0, max(depths, default=0.0)), 3),
        "scroll_distance": distance,
        "scroll_ms": lasted_ms,
        "scroll_speed": round(1000 * distance / lasted_ms, 1) if lasted_ms else 0.0,
    }


def sum_exposures(exposures: list[Event]) -> dict[str, int]:
    """What the page recommended, and how long it was in view."""
    items = [item for exposure in exposures for item in exposure.args.get("items", [])]
    return {
        "exposures": len(exposures),
        "exposed_items": len({item["item_id"] for item in items}),
        "exposure_ms": sum(item["visible_ms"] for item in items),
    }
