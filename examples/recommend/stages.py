"""The stages, in order, on real processes; and the figures, in the terminal and on a page."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median, quantiles
from typing import Any

from rich.console import Group
from rich.table import Table

from app import TASK, App
from build import build
from dataset import SESSIONS, Log, Reader, live
from evaluate import (
    BASE,
    HELD_FROM,
    OFFLINE_HEAD,
    ONLINE_HEAD,
    Clicks,
    Known,
    Quality,
    Rankers,
    draw_offline,
    draw_online,
    gains,
    held_out,
    offline,
    online,
    rows_offline,
    rows_online,
)
from generate import DAY_MS, START_MS, Catalogue, Shopper
from page import Page
from world import DemoError, World, commit_tasks, wait_for

VERSION = "1.0.0"
NAME = TASK.partition("/")[2]
#: What the paper says of item-page views (Walle, OSDI 2022): production, real users, phones.
PAPER = {"events": "19.3", "raw": "21.2 KB", "feature": "1.3 KB", "encoding": "128 bytes"}
PAPER_DEVICE, PAPER_CLOUD = "44.16 ms", "33.73 s"
NOTE = (
    "Shoppers, items and clicks are SYNTHETIC, made by generate.py; times are this machine's, not a phone's."
)

_COMMITTED = re.compile(r"trigger_to_commit_ms=([0-9.]+)")


@dataclass
class Shop:
    """What the stages share: the world, the shoppers, and what was seen."""

    world: World
    sessions: int
    shoppers: int
    reader: Reader
    catalogue: Catalogue = field(default_factory=Catalogue)
    rankers: Rankers = field(default_factory=Rankers)
    apps: dict[str, App] = field(default_factory=dict)
    quality: dict[str, dict[str, Quality]] = field(default_factory=dict)
    clicks: dict[str, list[Clicks]] = field(default_factory=dict)

    def body(self) -> Table:
        """The devices as they stand."""
        table = Table(title="Devices", title_justify="left")
        for name in ("device", "visits", "pages", "clicks", "orders as expected", "late"):
            table.add_column(name, justify="left" if name == "device" else "right")
        for name, app in self.apps.items():
            seen = app.seen
            orders = f"{seen.agreed} of {seen.agreed + seen.differed}"
            table.add_row(name, *map(str, (len(seen.left_ms), seen.pages, seen.clicks, orders, seen.late)))
        return table

    def conclusion(self) -> Group:
        """What was seen."""
        tables = [_terminal(*table) for table in self._tables()]
        return Group(*tables, draw_offline(self.quality), draw_online(self.clicks), NOTE)

    def page(self) -> Page:
        """The same as a page."""
        page = Page("Recommendation, ranked again on the device", NOTE)
        for title, head, rows in self._tables():
            page.heading(title)
            page.table(head, rows)
        page.heading("Fresh against late")
        page.say(
            "Cards shown at random to shoppers that the networks were never trained on, ranked by visits "
            "that are known a while after they were made. The truth is the shoppers' own chance of a "
            "click, which no ranker can beat."
        )
        page.table(OFFLINE_HEAD, rows_offline(self.quality))
        best_auc = {"the truth": self.quality["truth"][""].auc}
        page.bars(
            "AUC of DIN by delay", {delay: q.auc for delay, q in self.quality["DIN"].items()} | best_auc
        )
        page.heading("Clicks a page of ten")
        page.say("The same shoppers with the same luck, shown pages by each way of ranking; 95 % intervals.")
        page.table(ONLINE_HEAD, rows_online(self.clicks))
        found = gains(self.clicks, BASE)
        page.bars("Clicks a page", {name: values[0] for name, values in found.items()})
        return page

    def kept(self) -> Iterable[str]:
        """Commands to try while it runs."""
        yield f"walle-control features list --task {NAME} --limit 10"
        yield f"walle-control features tail {TASK}"

    def _tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        s: Mapping[str, Any] = self.world.summary
        raw = s["raw_bytes"]
        sizes = [["events of a visit", f"{s['visit_events']:.1f}", "", PAPER["events"]]]
        for label, key, paper in (
            ("raw events", "raw_bytes", PAPER["raw"]),
            ("feature", "feature_bytes", PAPER["feature"]),
            ("encoding of the visit", "encoding_bytes", PAPER["encoding"]),
            ("encoding of the session", "session_bytes", ""),
            ("all three as JSON", "sent_bytes", ""),
        ):
            saved = "" if key == "raw_bytes" else f"{1 - s[key] / raw:.1%}"
            sizes.append([label, f"{s[key]:,.0f} bytes", saved, paper])
        times = [
            [label, *(f"{s[key][rank]:,.1f} ms" for rank in ("p50", "p99")), paper]
            for label, key, paper in (
                ("page exit to feature committed", "exit_to_commit_ms", f"{PAPER_DEVICE} (mean)"),
                ("page exit to the new order in the app", "exit_to_order_ms", ""),
                ("candidates to their order in the app", "candidates_to_order_ms", ""),
                (
                    "page exit to the encoding in the cloud",
                    "exit_to_cloud_ms",
                    f"{PAPER_CLOUD} (mean, cloud feature)",
                ),
            )
        ]
        shown = [
            ["pages shown", f"{s['pages']}"],
            ["clicks to be expected a page, as shown", f"{s['expected']:.3f}"],
            ["of the same pages in the cloud's order", f"{s['by_cloud']:.3f}"],
            [
                "orders that are the network's, run elsewhere",
                f"{s['agreed']} of {s['agreed'] + s['differed']}",
            ],
            ["answers that came late", f"{s['late']}"],
        ]
        example = max((app.seen.example for app in self.apps.values()), key=lambda noted: noted.fresh)
        cards = [list(pair) for pair in zip(example.before, example.after, strict=True)]
        cards.append(
            [
                f"{value:.2f} clicks to be expected"
                for value in (example.expected_before, example.expected_after)
            ]
        )
        return [
            (f"The next page after a visit to “{example.visited}”", ["before", "after"], cards),
            ("Bytes of a visit", ["mean", "here", "less than raw", "in the paper"], sizes),
            ("Latency", ["", "p50", "p99", "in the paper"], times),
            ("On the devices", ["", ""], shown),
        ]


def make_repository(shop: Shop) -> str:
    """Build the task's folder, commit it, tag it."""
    built = build(shop.world.folder / "built")
    commit_tasks(shop.world.folder / "tasks", {NAME: built}, VERSION)
    return f"{NAME}/{VERSION}: a GRU for visits, a GRU for sessions, a DIN"


def start_control(shop: Shop) -> str:
    """Start the control plane."""
    shop.world.control.start()
    return shop.world.control.url


def start_devices(shop: Shop) -> str:
    """Start the agents."""
    shop.world.enrol()
    return ", ".join(shop.world.devices)


def import_task(shop: Shop) -> str:
    """Import the task: its models are converted and compared with ONNX Runtime's answers."""
    shop.world.bring(NAME, VERSION)
    return "three models converted and checked"


def release_task(shop: Shop) -> str:
    """Release it to all; wait until they have it."""
    shop.world.release(NAME, VERSION)
    wanted = {(NAME, name) for name in shop.world.devices}
    wait_for(
        "the devices to install it", lambda: shop.world.installed().keys() >= wanted or None, timeout_s=60
    )
    return f"{len(wanted)} devices have it"


def live_before(shop: Shop) -> str:
    """Each device sees the days before: visits of earlier sessions, which it keeps and sends."""
    for number, (name, device) in enumerate(shop.world.devices.items()):
        visits: list[Any] = []
        log = live(shop.catalogue, HELD_FROM + number, shop.reader, until=SESSIONS - 1, visits=visits)
        known = Known(log, shop.reader)
        app = App(device.socket, Shopper(shop.catalogue, HELD_FROM + number), known, shop.rankers)
        with app:
            app.replay(visits)
        shop.apps[name] = app
    rows = wait_for("every visit's encoding in the cloud", partial(_encodings, shop), timeout_s=120)
    return f"{len(rows)} visits; the cloud has an encoding of each"


def _encodings(shop: Shop) -> list[dict[str, Any]] | None:
    shop.world.check()
    rows = shop.world.features(NAME, "session")
    return rows if len(rows) >= sum(len(app.seen.left_ms) for app in shop.apps.values()) else None


def shop_today(shop: Shop) -> str:
    """The shoppers use their apps, one after another; what they are shown is the device's order."""
    for app in shop.apps.values():
        with app:
            for number in range(SESSIONS - 1, SESSIONS - 1 + shop.sessions):
                app.shop(app.shopper.session(number, START_MS + number * DAY_MS))
        shop.world.check()
    seen = [app.seen for app in shop.apps.values()]
    heard = sum(one.agreed + one.differed for one in seen)
    agreed = sum(one.agreed for one in seen)
    if agreed < 0.99 * heard or not heard:
        raise DemoError(f"only {agreed} of {heard} orders are the network's own")
    pages = sum(one.pages for one in seen)
    shop.world.summary |= {
        "pages": pages,
        "agreed": agreed,
        "differed": heard - agreed,
        "late": sum(one.late for one in seen),
        "expected": sum(one.expected for one in seen) / pages,
        "by_cloud": sum(one.by_cloud for one in seen) / pages,
        "exit_to_order_ms": _ranks([1e3 * s for one in seen for s in one.exit_s]),
        "candidates_to_order_ms": _ranks([1e3 * s for one in seen for s in one.candidates_s]),
    }
    return f"{pages} pages, {agreed} of {heard} orders as the network says"


def collect(shop: Shop) -> str:
    """Everything has come to the cloud; how large, and how long after."""
    sessions = wait_for("every visit's encoding in the cloud", partial(_encodings, shop), timeout_s=120)
    world, seen = shop.world, [app.seen for app in shop.apps.values()]
    features = world.features(NAME, "item_page_view")
    encodings = world.features(NAME, "item_page_encoding")
    visits = sum(len(one.left_ms) for one in seen)
    waits = [
        row["received_ms"] - shop.apps[world.names[row["device_id"]]].seen.left_ms[row["fields"]["closed_ms"]]
        for row in sessions[-sum(len(one.exit_s) for one in seen) :]
    ]
    world.summary |= {
        "visits": visits,
        "visit_events": sum(one.events for one in seen) / visits,
        "raw_bytes": sum(one.raw_bytes for one in seen) / visits,
        "feature_bytes": _json_bytes(features),
        "sent_bytes": sum(map(_json_bytes, (features, encodings, sessions))),
        "encoding_bytes": _mean([len(base64.b64decode(row["fields"]["encoding"])) for row in encodings]),
        "session_bytes": _mean([len(base64.b64decode(row["fields"]["state"])) for row in sessions]),
        "exit_to_cloud_ms": _ranks(waits),
        "exit_to_commit_ms": _ranks(_committed_ms(shop)),
    }
    return f"{visits} visits; page exit to encoding in the cloud {median(waits):,.0f} ms"


def _committed_ms(shop: Shop) -> list[float]:
    """From a visit's last event to its rows and records committed, as the agents log it; today's."""
    found: list[float] = []
    for name, app in shop.apps.items():
        log = (shop.world.devices[name].folder / "agent.log").read_text()
        lines = [line for line in log.splitlines() if "run_finished" in line and " rows=0 " not in line]
        times = [float(time) for line in lines for time in _COMMITTED.findall(line)]
        found += times[-len(app.seen.exit_s) :]
    return found


def evaluate_offline(shop: Shop) -> str:
    """Rank cards by fresh and by late visits."""
    logs: Sequence[Log] = held_out(shop.catalogue, shop.reader, shop.shoppers)
    shop.quality = offline(shop.rankers, shop.catalogue, logs)
    shop.world.summary["offline"] = {
        name: {delay: {"auc": quality.auc, "gauc": quality.gauc} for delay, quality in by_delay.items()}
        for name, by_delay in shop.quality.items()
    }
    din = shop.quality["DIN"]
    best = shop.quality["truth"][""].auc
    return f"AUC {din['fresh'].auc:.3f} fresh, {din['1 day'].auc:.3f} a day late; at best {best:.3f}"


def simulate_online(shop: Shop) -> str:
    """Show the same shoppers pages by each way of ranking."""
    seeds = range(HELD_FROM, HELD_FROM + shop.shoppers)
    shop.clicks = online(shop.rankers, shop.catalogue, shop.reader, seeds)
    found = gains(shop.clicks, BASE)
    shop.world.summary["online"] = {
        name: dict(zip(("mean", "half", "more", "more_half"), values, strict=True))
        for name, values in found.items()
    }
    device, cloud = found["device"][0], found[BASE][0]
    return f"clicks a page {device:.3f} on the device, {cloud:.3f} in the cloud's order"


def _ranks(values: Sequence[float]) -> dict[str, float]:
    cuts = quantiles(values, n=100)
    return {"p50": round(cuts[49], 3), "p99": round(cuts[98], 3), "count": len(values)}


def _json_bytes(rows: Sequence[Mapping[str, Any]]) -> float:
    """The mean size of what rows say, before the tunnel compresses it."""
    return _mean([len(json.dumps(row["fields"], separators=(",", ":"))) for row in rows])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _terminal(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(title=f"{title} · SYNTHETIC", title_justify="left", show_header=any(head))
    for place, name in enumerate(head):
        table.add_column(name, justify="right" if place else "left")
    for row in rows:
        table.add_row(*row)
    return table
