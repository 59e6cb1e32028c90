"""Remember each visit to an item page, and rank the candidates for the feed by it.

``item_page`` is the example item_page_view, whose feature and encoding go out as they do there;
``build.py`` puts it beside this file.
"""

import base64

import behaviour
import item_page

from walle_task import events, log, model, params, store, tunnel
from walle_task.events import Event, Visit

#: Visits that may be on their way into the store at the same time.
AT_ONCE = 64


def run() -> dict[str, object] | None:
    """Take in what happened, and tell the app in which order to go on; None: there is nothing to rank."""
    visit, happened = events.visit(), events.all()
    remembered = visit is not None and remember(visit)
    now_ms = happened[-1].wall_ms
    history = past(now_ms)
    if remembered:
        tunnel.send("session", {"closed_ms": now_ms, "state": session_state(history)})
    for event in happened:
        if event.event_id == "candidates_received":
            receive(event)
    ranked = rank(history)
    return None if ranked is None else {"as_of_ms": now_ms, **ranked}


def remember(visit: Visit) -> bool:
    """Keep the visit as a row of the history, and send its feature and encoding; whether it could be read."""
    sent = item_page.run()
    if sent is None:
        return False
    vector = behaviour.vector_bytes(visit.events[0].args.get("item", {}).get("vector"))
    if vector is None:
        log.warning("vector_missing", item_id=str(sent["item_id"]))
        return False
    numbers = behaviour.pack(vector, item_page.summarise(visit), float(str(sent["interest"])))
    row = {"item_id": sent["item_id"], "closed_ms": visit.events[-1].wall_ms}
    store.table("history").put({**row, "numbers": base64.b64encode(numbers).decode()})
    return True


def receive(event: Event) -> None:
    """Keep the candidates that the cloud sent, until it sends others."""
    items = event.args.get("items", [])
    vectors = [behaviour.vector_bytes(item.get("vector")) for item in items]
    fit = event.args.get("vectors_version") == params.get("vectors_version") and None not in vectors
    store.put(
        "candidates",
        {
            "request_id": event.args.get("request_id", ""),
            "order": [item["item_id"] for item in items],
            "vectors": base64.b64encode(b"".join(vector for vector in vectors if fit and vector)).decode(),
        },
    )


def rank(history: bytes) -> dict[str, object] | None:
    """The candidates by what the ranker makes of them now; in the cloud's order where it cannot read them."""
    kept = store.get("candidates")
    if not kept or not kept["order"]:
        return None
    order, by = kept["order"], "cloud"
    rows = behaviour.candidates(base64.b64decode(kept["vectors"]))
    if rows:
        fed = {"history": _shaped(history, 1, behaviour.HISTORY), "candidates": _shaped(rows, len(order), 1)}
        scores = model.load("din").run(fed)["logits"].tolist()
        order = [item for _, item in sorted(zip(scores, order, strict=True), key=lambda pair: -pair[0])]
        by = "device"
    return {"request_id": kept["request_id"], "by": by, "order": order}


def session_state(history: bytes) -> str:
    """What the session's encoder makes of the last visits, in Base64: 32 float32."""
    recent = history[-behaviour.RECENT * 4 * behaviour.WIDTH :]
    state = model.load("session").run({"recent": _shaped(recent, behaviour.RECENT, 1)})["state"]
    return base64.b64encode(bytes(memoryview(state))).decode()


def past(now_ms: int) -> bytes:
    """The history as it is now. Visits that close at about the same time may be kept in another order."""
    newest = store.table("history").rows(limit=behaviour.HISTORY + AT_ONCE)
    rows = sorted(newest, key=lambda row: row["closed_ms"])
    return behaviour.history([(row["closed_ms"], base64.b64decode(row["numbers"])) for row in rows], now_ms)


def _shaped(rows: bytes, *sizes: int) -> memoryview:
    return memoryview(rows).cast("f", (*sizes, behaviour.WIDTH))
