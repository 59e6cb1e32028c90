"""The stages of the demo, in order. Each uses the programs a user has and believes only what they answer."""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from world import DemoError, Device, World, commit_tasks, wait_for, wall_ms

EXAMPLES = Path(__file__).resolve().parents[1]
DIGITS = EXAMPLES / "digit_reader"
PAGES = EXAMPLES / "item_page_view"

#: A handful of devices: the guard judges by the rate alone from this many reports.
DEMO_MIN_REPORTS = 3

#: The users' pace: seconds between two page visits of one device.
VISIT_PAUSE_S = 0.015

#: How many events ``scan_visit`` makes.
SCAN_VISIT_EVENTS = 3

PROFILES: Mapping[str, Mapping[str, str]] = {
    "phone-a": {"group": "stable", "app_version": "7.4.0"},
    "phone-b": {"group": "stable", "app_version": "6.9.2"},
    "tablet-c": {"group": "beta", "app_version": "7.5.0"},
}
PAGE_VIEW_PREDICATE = 'app_version >= "7.0"'
BETA_PREDICATE = 'group == "beta"'


@dataclass
class DeviceLine:
    """One line of the lower table; every value is what control plane or device said."""

    name: str
    profile: str
    versions: dict[str, str] = field(default_factory=dict)
    push_ms: float | None = None
    pull_ms: float | None = None
    wait_ms: float | None = None
    run_ms: float | None = None
    cloud_ms: float | None = None
    runs: int = 0
    failures: int = 0


_CAPTION = """\
Medians. push: release created to the device acting on it; pull: download, verify, activate;
trigger: event to the start of its run, queueing included; to cloud: run's end to the control plane's row"""


@dataclass
class Demo:
    """What the stages share: the world, and what is shown of it."""

    world: World
    digits: int
    lines: dict[str, DeviceLine] = field(default_factory=dict)
    emitted_ms: dict[str, int] = field(
        default_factory=dict
    )  # scan id -> wall time its events had been written

    def body(self) -> Table:
        """The devices as they stand."""
        tasks = sorted({task for device in self.lines.values() for task in device.versions})
        table = Table(title="Devices", title_justify="left", caption=_CAPTION, caption_justify="left")
        for column in ("device", "profile", *tasks):
            table.add_column(column)
        for column in ("push", "pull", "trigger", "run", "to cloud", "runs", "failed"):
            table.add_column(column, justify="right")
        for device in self.lines.values():
            table.add_row(
                device.name,
                device.profile,
                *(device.versions.get(task, "-") for task in tasks),
                *map(_ms, (device.push_ms, device.pull_ms, device.wait_ms, device.run_ms, device.cloud_ms)),
                str(device.runs),
                str(device.failures),
            )
        return table

    def conclusion(self) -> Table:
        """What was seen."""
        summary = self.world.summary
        read = f"{summary['digits_right']} of {summary['digits_read']} ({summary['accuracy']:.2%})"
        table = Table(title="What was seen", title_justify="left", show_header=False)
        for what, value in (
            ("release to push, median", f"{summary['push_ms']:,} ms"),
            ("pull, verify, activate, median", f"{summary['pull_ms']:,} ms"),
            ("events emitted", f"{summary['events']:,}"),
            ("digits read right on the devices", read),
            ("one run, median", f"{summary['run_ms']:,.2f} ms"),
            ("run to row in the cloud, median", f"{summary['run_to_cloud_ms']:,.0f} ms"),
            ("page view: feature against raw events", f"{summary['size_reduction']:.1%} smaller"),
            ("first bad run to rollback", f"{summary['rollback_ms']:,} ms; {summary['rollback_reason']}"),
            ("whole demo", f"{summary['seconds']} s"),
        ):
            table.add_row(what, value)
        return table

    def page(self) -> None:
        """The demo is to be watched; it leaves no page."""

    def kept(self) -> Iterable[str]:
        """What to look at."""
        yield "walle-control release list"
        yield "walle-control features list --task digit_reader"


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.1f} ms" if value < 10 else f"{value:,.0f} ms"


def make_repository(demo: Demo) -> str:
    """Put both example tasks into a new git repository and tag them 1.0.0."""
    tasks = {"digit_reader": DIGITS / "task", "item_page_view": PAGES / "task"}
    commit_tasks(demo.world.folder / "tasks", tasks, "1.0.0")
    return "digit_reader/1.0.0, item_page_view/1.0.0"


def start_control(demo: Demo) -> str:
    """Start the control plane."""
    demo.world.control.start()
    return demo.world.control.url


def start_devices(demo: Demo) -> str:
    """Start three agents that enrol with a token and a key they make themselves."""
    for name, profile in PROFILES.items():
        demo.lines[name] = DeviceLine(name, " ".join(profile.values()))
    demo.world.enrol()
    return ", ".join(demo.world.devices)


def import_tasks(demo: Demo) -> str:
    """Import both versions: the model is converted and its answers compared with ONNX Runtime's."""
    for task in ("digit_reader", "item_page_view"):
        demo.world.bring(task, "1.0.0")
    return "model converted and checked against ONNX Runtime; bundles approved"


def release_tasks(demo: Demo) -> str:
    """Release one task to everybody and one by predicate; wait until exactly those devices run them."""
    demo.world.release("digit_reader", "1.0.0")
    demo.world.release("item_page_view", "1.0.0", predicate=PAGE_VIEW_PREDICATE)
    wanted = {("digit_reader", name) for name in PROFILES}
    wanted |= {
        ("item_page_view", name) for name, profile in PROFILES.items() if profile["app_version"] >= "7.0"
    }
    wait_for("the devices to install what the policy gives them", lambda: _installed(demo, wanted))
    lines = demo.lines.values()
    push_ms, pull_ms = (median(known(line) for line in lines) for known in (_push_ms, _pull_ms))
    demo.world.summary |= {"push_ms": round(push_ms), "pull_ms": round(pull_ms)}
    skipped = [name for name, profile in PROFILES.items() if profile["app_version"] < "7.0"]
    return f"push {push_ms:.0f} ms, pull {pull_ms:.0f} ms; {', '.join(skipped)} left out of item_page_view"


def _push_ms(line: DeviceLine) -> float:
    return line.push_ms or 0.0


def _pull_ms(line: DeviceLine) -> float:
    return line.pull_ms or 0.0


def _installed(demo: Demo, wanted: set[tuple[str, str]]) -> bool | None:
    demo.world.check()
    installed = demo.world.installed()
    for (task, name), (report, release) in installed.items():
        line = demo.lines[name]
        line.versions[task] = report["version"]
        line.pull_ms = report["duration_ms"]
        line.push_ms = report["at_ms"] - report["duration_ms"] - release["created_ms"]
    if installed.keys() - wanted:
        raise DemoError(f"installed against the policy: {sorted(installed.keys() - wanted)}")
    return True if installed.keys() == wanted else None


def replay_events(demo: Demo) -> str:
    """Let each app emit its events: page visits from the recorded stream, and scans of held-out digits."""
    scans = _held_out(demo.digits)
    pages = [
        json.loads(line) for line in (PAGES / "events.jsonl").read_text().splitlines() if '"kind"' in line
    ]
    total, users = 0, []
    for number, (name, device) in enumerate(demo.world.devices.items()):
        own = scans[number :: len(demo.world.devices)]
        events = itertools.chain(pages, _scanning(demo, own, name))
        users.append(threading.Thread(target=device.emit, args=(events,), kwargs={"pause_s": VISIT_PAUSE_S}))
        total += len(pages) + len(own) * SCAN_VISIT_EVENTS
    for user in users:
        user.start()
    for user in users:
        user.join()
    demo.world.summary["events"] = total
    raw = (json.dumps(event, separators=(",", ":")) for event in pages)
    demo.world.summary["page_raw_bytes"] = sum(map(len, raw))
    demo.world.summary["page_visits"] = sum(event["kind"] == "page_exit" for event in pages)
    return f"{total:,} events to three sockets"


def _scanning(demo: Demo, scans: Iterable[Mapping[str, Any]], app: str) -> Iterable[dict[str, Any]]:
    """One visit after another, noting when each was over."""
    for scan in scans:
        yield from scan_visit(scan, app)
        demo.emitted_ms[str(scan["id"])] = wall_ms()


def scan_visit(scan: Mapping[str, Any], app: str) -> Iterable[dict[str, Any]]:
    """The events of one visit to the scan page."""
    visit = {"page_id": "scan", "visit_id": f"{app}-scan-{scan['id']}"}
    yield {"kind": "page_enter", "event_id": "page_enter", **visit, "wall_ms": wall_ms()}
    args = {"scan_id": str(scan["id"]), "pixels": scan["pixels"]}
    yield {"kind": "custom", "event_id": "digit_scanned", **visit, "wall_ms": wall_ms(), "args": args}
    yield {"kind": "page_exit", "event_id": "page_exit", **visit, "wall_ms": wall_ms()}


def collect_features(demo: Demo) -> str:
    """Wait for every run's feature to come through the tunnel; judge the control plane's rows."""
    labels = {str(item["id"]): item["label"] for item in _held_out(demo.digits)}
    rows = wait_for("every scan's answer", lambda: _answers(demo, set(labels)), timeout_s=60)
    right = sum(labels[row["fields"]["scan_id"]] == row["fields"]["digit"] for row in rows)
    lines = demo.lines.values()
    pages = wait_for("every page visit's feature", lambda: _page_features(demo), timeout_s=60)
    sent = sum(len(json.dumps(row["fields"], separators=(",", ":"))) for row in pages) / _page_devices()
    raw = demo.world.summary["page_raw_bytes"]
    demo.world.summary |= {
        "digits_read": len(rows),
        "digits_right": right,
        "accuracy": right / len(rows),
        "run_ms": median(line.run_ms or 0.0 for line in lines),
        "run_to_cloud_ms": median(line.cloud_ms or 0.0 for line in lines),
        "page_features": len(pages),
        "page_feature_bytes": round(sent),
        "size_reduction": 1 - sent / raw,
    }
    return (
        f"{len(rows)} digits, {right / len(rows):.2%} right; page views {1 - sent / raw:.1%} smaller than raw"
    )


def _answers(demo: Demo, expected: set[str]) -> list[dict[str, Any]] | None:
    demo.world.check()
    rows = demo.world.features("digit_reader", "digit_read")
    _count(demo, rows)
    seen = Counter(row["fields"]["scan_id"] for row in rows)
    if doubled := [scan for scan, times in seen.items() if times > 1]:
        raise DemoError(f"answers counted twice: {doubled[:5]}")
    return rows if seen.keys() >= expected else None


def _page_features(demo: Demo) -> list[dict[str, Any]] | None:
    demo.world.check()
    rows = demo.world.features("item_page_view", "item_page_view")
    return rows if len(rows) >= demo.world.summary["page_visits"] * _page_devices() else None


def _page_devices() -> int:
    return sum(profile["app_version"] >= "7.0" for profile in PROFILES.values())


def _count(demo: Demo, rows: list[dict[str, Any]]) -> None:
    """Bring the device table up to date from the control plane's rows and reports."""
    runs = _runs(demo)
    for name, line in demo.lines.items():
        own = [row for row in rows if demo.world.names[row["device_id"]] == name]
        if own:
            line.cloud_ms = median(row["received_ms"] - row["at_ms"] for row in own)
        if reports := runs.get(name):
            line.runs = len(reports)
            line.failures = sum(report["outcome"] == "failure" for report in reports)
            line.run_ms = median(report["duration_ms"] for report in reports)
        waits = [_waited_ms(demo, row, line) for row in own if row["fields"]["scan_id"] in demo.emitted_ms]
        line.wait_ms = median(waits) if waits else None


def _waited_ms(demo: Demo, row: Mapping[str, Any], line: DeviceLine) -> float:
    since_event: float = row["at_ms"] - demo.emitted_ms[row["fields"]["scan_id"]]
    return max(0.0, since_event - (line.run_ms or 0.0))


def _runs(demo: Demo) -> dict[str, list[dict[str, Any]]]:
    runs: dict[str, list[dict[str, Any]]] = {}
    for release in demo.world.releases.values():
        for report in demo.world.reports(release["id"]):
            if report["stage"] == "run":
                runs.setdefault(demo.world.names[report["device_id"]], []).append(report)
    return runs


def release_broken(demo: Demo) -> str:
    """Release a broken version to the whole beta group."""
    changed = ("main.py", "simulations/scan-7.jsonl")
    changes = {f"digit_reader/{name}": DIGITS / "broken" / name for name in changed}
    commit_tasks(demo.world.folder / "tasks", {"digit_reader": DIGITS / "task"}, "1.1.0", changes=changes)
    demo.world.bring("digit_reader", "1.1.0")
    guard = {"min_reports": str(DEMO_MIN_REPORTS), "max_failure_rate": "0.2"}
    release = demo.world.release("digit_reader", "1.1.0", predicate=BETA_PREDICATE, **guard)
    wait_for("the beta device to run 1.1.0", lambda: _runs_version(demo, release["id"], "1.1.0"))
    return f"100 % of {BETA_PREDICATE}; the guard judges by the rate of {DEMO_MIN_REPORTS} reports"


def _runs_version(demo: Demo, release_id: str, version: str) -> bool | None:
    demo.world.check()
    for report in demo.world.reports(release_id):
        if (
            report["stage"] in ("install", "revert")
            and report["outcome"] == "success"
            and report["version"] == version
        ):
            demo.lines[demo.world.names[report["device_id"]]].versions[report["task"]] = version
            return True
    return None


def watch_rollback(demo: Demo) -> str:
    """Let the beta user scan; the runs fail, the guard takes the release back, nobody helps."""
    release = demo.world.releases["digit_reader 1.1.0"]
    tablet = demo.world.devices["tablet-c"]
    scans = iter(_held_out(10_000)[demo.digits :] or _held_out(demo.digits))
    first_ms = wall_ms()
    after = wait_for(
        "the guard to roll 1.1.0 back",
        lambda: _rolled_back(demo, release["id"], tablet, scans),
        every_s=0.1,
    )
    decision = after["history"][-1]
    demo.world.summary |= {"rollback_ms": decision["at_ms"] - first_ms, "rollback_reason": decision["reason"]}
    return str(decision["reason"])


def _rolled_back(demo: Demo, release_id: str, tablet: Device, scans: Any) -> dict[str, Any] | None:
    demo.world.check()
    detail: dict[str, Any] = demo.world.control.get(f"/releases/{release_id}")
    _count(demo, demo.world.features("digit_reader", "digit_read"))
    if detail["release"]["state"] == "rolled_back":
        return detail
    tablet.emit(scan_visit(next(scans), "beta"))
    return None


def prove_recovery(demo: Demo) -> str:
    """The beta device has gone back to 1.0.0 by itself and reads digits again."""
    tablet = demo.world.devices["tablet-c"]
    good = demo.world.releases["digit_reader 1.0.0"]["id"]
    before = len(demo.world.features("digit_reader", "digit_read"))
    scan = _held_out(10_000)[-1]

    def recovered() -> dict[str, Any] | None:
        demo.world.check()
        rows = demo.world.features("digit_reader", "digit_read")
        fresh = [row for row in rows[before:] if _is_good_answer(demo, row)]
        if not fresh:
            tablet.emit(scan_visit({**scan, "id": f"again-{wall_ms()}"}, "beta"))
        return fresh[0] if fresh else None

    row = wait_for("the beta device to answer with 1.0.0 again", recovered, every_s=0.25)
    demo.lines["tablet-c"].versions["digit_reader"] = "1.0.0"
    demo.world.summary["recovered_version"] = row["version"]
    assert row["release_id"] == good
    return f"tablet-c reads with {row['version']} again"


def _is_good_answer(demo: Demo, row: Mapping[str, Any]) -> bool:
    return row["version"] == "1.0.0" and demo.world.names[row["device_id"]] == "tablet-c"


def _held_out(count: int) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads((DIGITS / "digits_heldout.json").read_text())["items"]
    return items[:count]
