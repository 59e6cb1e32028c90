"""Prints answers: tables for people, JSON for scripts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from walle_shared.units import format_bytes

Answer = Mapping[str, Any]
Column = tuple[str, Callable[[Any], object]]

#: What is not read on a terminal is not wrapped before this.
_FILE_COLUMNS = 240


def print_answer(arguments: argparse.Namespace, answer: object, for_people: Callable[[], object]) -> None:
    """Print an answer as JSON with ``--json``, else as ``for_people`` does."""
    if arguments.json:
        print_json(answer)
    else:
        for_people()


def print_json(answer: object) -> None:
    """Print an answer as indented JSON."""
    sys.stdout.write(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode() + "\n")


def console() -> Console:
    """Where tables go: as wide as the terminal, or as wide as they need to be in a file."""
    return Console() if sys.stdout.isatty() else Console(width=_FILE_COLUMNS)


def table_of(rows: Iterable[Any], columns: Iterable[Column]) -> Table:
    """A table of one row per item."""
    columns = list(columns)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, _ in columns:
        table.add_column(title, overflow="fold", min_width=max(map(len, title.split())))
    for row in rows:
        table.add_row(*(escape(str(read(row))) for _, read in columns))
    return table


def print_table(rows: Iterable[Any], columns: Iterable[Column], empty: str) -> None:
    """Print one row per item; ``empty`` if there is none."""
    table = table_of(rows, columns)
    if table.row_count:
        console().print(table)
    else:
        console().print(empty, markup=False)


def print_facts(facts: Mapping[str, object]) -> None:
    """Print names and values."""
    width = max(len(name) for name in facts)
    screen = console()
    for name, value in facts.items():  # never wrapped: tokens and keys are copied from here
        screen.print(f"[bold]{name:<{width}}[/]  {escape(str(value))}", soft_wrap=True, highlight=False)


def feature_line(row: Mapping[str, Any], *, json: bool) -> str:
    """A feature on one line."""
    if json:
        return orjson.dumps(row).decode()
    fields = " ".join(f"{name}={orjson.dumps(value).decode()}" for name, value in row["fields"].items())
    return f"{row['id']} {moment(row['received_ms'])} {row['device_id']} {row['name']} {fields}"


def trial_tables(answer: Answer) -> list[Table]:
    """A release's stages, the two arms it is judged by, and how much evidence each rule has."""
    release, evidence = answer["release"], answer["verdict"]["evidence"]
    stages = release["plan"]["stages"]
    tables = []
    if len(stages) > 1:
        rows = [{**stage, "n": n, "now": n == release["stage"]} for n, stage in enumerate(stages)]
        tables.append(table_of(rows, STAGES))
    arms = evidence.get("arms", {})
    if any(arm["started"] or arm["bad_installations"] for arm in arms.values()):
        shown = {name: arm for name, arm in arms.items() if name != "holdout" or arm["started"]}
        tables.append(table_of([{"arm": name, **arm} for name, arm in shown.items()], ARMS))
        needed = evidence["log10_needed"]
        rules = [{"rule": r, "has": e, "needed": needed[r]} for r, e in evidence["log10_e"].items()]
        tables.append(table_of(rules, RULES))
    return tables


def print_simulation(answer: Answer) -> None:
    """Print how each cell of a version's simulations did, and what is wrong with it."""
    result = answer["result"]
    print_table(result["cells"], CELLS, "")
    failures = [(cell, failure) for cell in result["cells"] for failure in cell["failures"]]
    if failures:
        print()
        columns: list[Column] = [
            ("failed", lambda each: _cell_name(each[0])),
            ("kind", lambda each: each[1]["kind"]),
            ("what", lambda each: each[1]["message"]),
        ]
        print_table(failures, columns, "")
    print()
    state = "ready to be released" if result["passed"] else "a draft"
    smoked = "; it declares no simulations, and was only loaded" if result["smoked"] else ""
    print(f"{answer['scenario']}/{answer['task']} {answer['version']} is {state}{smoked}")


def _cell_name(cell: Answer) -> str:
    return " ".join(filter(None, (cell["recording"], cell["app_version"]))) or "loads"


#: Clocks may say anything; people read years of four digits.
_TIME_MAX_MS = 253_370_764_800_000
_MARKS = {"added": ("+", "green"), "removed": ("-", "red"), "same": (" ", ""), "place": ("@", "cyan")}


def print_changes(answer: Answer) -> None:
    """Print what differs between two versions, as ``diff -u`` does."""
    screen = console()
    for change in answer["changes"]:
        sizes = f"{format_bytes(change['before_bytes'])} to {format_bytes(change['after_bytes'])}"
        screen.print(f"[bold]{escape(change['path'])}[/]: {change['kind']}, {sizes}", highlight=False)
        for line in change["lines"]:
            mark, style = _MARKS[line["kind"]]
            screen.print(f"{mark}{line['text']}", style=style, markup=False, highlight=False, soft_wrap=True)
        if change["cut"]:
            screen.print("(more)")
        if not change["lines"]:
            digests = (change["before_sha256"][:12], change["after_sha256"][:12])
            screen.print(" to ".join(digest or "nothing" for digest in digests), highlight=False)
    base = answer["base"] or "nothing"
    screen.print(
        f"{len(answer['changes'])} files differ from {base}, {answer['same']} do not", highlight=False
    )


def moment(wall_ms: int) -> str:
    """A time for people, in UTC."""
    return datetime.fromtimestamp(wall_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


VERSIONS: tuple[Column, ...] = (
    ("scenario", lambda v: v["scenario"]),
    ("task", lambda v: v["task"]),
    ("version", lambda v: v["version"]),
    ("state", lambda v: v["state"]),
    ("files", lambda v: v["files"]),
    ("size", lambda v: format_bytes(v["total_bytes"])),
    ("commit", lambda v: v["source"][:12]),
    ("manifest", lambda v: v["manifest"]["sha256"][:12]),
    ("imported (UTC)", lambda v: moment(v["imported_ms"])),
)

OWN_FILES: tuple[Column, ...] = (
    ("device", lambda f: f["device_id"]),
    ("file", lambda f: f["path"]),
    ("size", lambda f: format_bytes(f["size_bytes"])),
    ("digest", lambda f: f["sha256"][:12]),
    ("given (UTC)", lambda f: moment(f["added_ms"])),
)

REPOSITORIES: tuple[Column, ...] = (
    ("repository", lambda r: r["repository"]["name"]),
    ("scenario", lambda r: r["repository"]["scenario"]),
    ("remote", lambda r: r["repository"]["url"]),
    ("tags", lambda r: r["tags"]),
    ("imports", lambda r: "by itself" if r["repository"]["auto_import"] else "when asked"),
    ("fetched (UTC)", lambda r: moment(r["synced_ms"]) if r["synced_ms"] else "never"),
    ("trouble", lambda r: r["error"]),
)

CELLS: tuple[Column, ...] = (
    ("recording", _cell_name),
    ("profile", lambda c: c["profile"] or "-"),
    ("runs", lambda c: c["runs"]),
    ("cpu, ms", lambda c: f"{c['cpu_s'] * 1e3:.1f}"),
    ("memory", lambda c: format_bytes(c["peak_bytes"])),
    ("passed", lambda c: "no" if c["failures"] else "yes"),
)

RELEASES: tuple[Column, ...] = (
    ("release", lambda r: r["release"]["id"]),
    ("task", lambda r: f"{r['release']['scenario']}/{r['release']['task']}"),
    ("version", lambda r: r["release"]["version"]),
    ("state", lambda r: r["release"]["state"]),
    ("percent", lambda r: r["percent"]),
    ("predicate", lambda r: r["release"]["predicate"] or "all"),
    ("guard", lambda r: r["verdict"]["reason"]),
)

SINKS: tuple[Column, ...] = (
    ("sink", lambda s: s["name"]),
    ("written up to", lambda s: s["written_id"]),
    ("behind", lambda s: s["lag_rows"]),
    ("rows", lambda s: s["rows"]),
    ("refused", lambda s: s["refused"]),
    ("failing since (UTC)", lambda s: moment(s["failing_since_ms"]) if s["error"] else "-"),
    ("error", lambda s: s["error"] or "-"),
)

COMMITS: tuple[Column, ...] = (
    ("commit", lambda c: c["id"][:12]),
    ("tags", lambda c: ", ".join(c["tags"]) or "-"),
    ("author", lambda c: c["author"]),
    ("when (UTC)", lambda c: moment(min(max(c["at_ms"], 0), _TIME_MAX_MS))),
    ("message", lambda c: c["message"].partition("\n")[0]),
)

LATE: tuple[Column, ...] = (
    ("device", lambda d: d["device_id"]),
    ("rows", lambda d: d["rows"]),
    ("longest on the way (s)", lambda d: f"{d['longest_ms'] / 1000:.0f}"),
    ("last (UTC)", lambda d: moment(d["last_ms"])),
)

LOSSY: tuple[Column, ...] = (
    ("device", lambda d: d["device_id"]),
    ("lost", lambda d: d["lost"]),
    ("last (UTC)", lambda d: moment(d["last_ms"])),
)

REFUSALS: tuple[Column, ...] = (
    ("when (UTC)", lambda r: moment(r["at_ms"])),
    ("device", lambda r: r["device_id"] or "unknown"),
    ("code", lambda r: r["code"]),
    ("why", lambda r: r["error"]),
)

HOLDOUTS: tuple[Column, ...] = (
    ("holdout", lambda h: h["name"]),
    ("percent", lambda h: f"{h['share'] / 1e7:g}"),
    ("scenario", lambda h: h["scenario"] or "all"),
)

SEGMENTS: tuple[Column, ...] = (
    ("segment", lambda s: f"{s['name']}@{s['version']}"),
    ("predicate", lambda s: s["predicate"]),
)

SETS: tuple[Column, ...] = (
    ("set", lambda s: f"{s['name']}@{s['version']}"),
    ("ids", lambda s: s["count"]),
)

ATTRIBUTES: tuple[Column, ...] = (
    ("attribute", lambda a: a["name"]),
    ("kind", lambda a: a["kind"]),
    ("side", lambda a: a["side"]),
    ("note", lambda a: a["note"] or "-"),
)

STAGES: tuple[Column, ...] = (
    ("stage", lambda s: f"{s['n'] + 1}{' <' if s['now'] else ''}"),
    ("percent", lambda s: f"{s['share'] / 1e7:g}"),
    ("grows, s", lambda s: f"{s['ramp_s']:g}"),
    ("holds, s", lambda s: f"{s['hold_s']:g}"),
    ("devices", lambda s: s["min_devices"]),
)

ARMS: tuple[Column, ...] = (
    ("arm", lambda a: a["arm"]),
    ("started", lambda a: a["started"]),
    ("heard of", lambda a: a["heard"]),
    ("failed", lambda a: f"{a['failed']} ({a['failure_rate']:.2%})"),
    ("bad installations", lambda a: a["bad_installations"]),
    ("silent", lambda a: a["silent"]),
    ("unknown", lambda a: a["unknown"]),
    ("median, ms", lambda a: "-" if a["median_ms"] is None else f"{a['median_ms']:.1f}"),
    ("p95, ms", lambda a: "-" if a["p95_ms"] is None else f"{a['p95_ms']:.1f}"),
    ("median memory", lambda a: "-" if a["median_bytes"] is None else format_bytes(a["median_bytes"])),
)

RULES: tuple[Column, ...] = (
    ("rule", lambda r: r["rule"].replace("_", " ")),
    ("evidence", lambda r: _bar(r["has"] / r["needed"])),
    ("log10", lambda r: f"{r['has']:.1f} of {r['needed']:.1f}"),
)

COUNTS: tuple[Column, ...] = (
    ("stage", lambda c: c["stage"]),
    ("outcome", lambda c: c["outcome"]),
    ("error class", lambda c: c["error_class"]),
    ("reports", lambda c: c["n"]),
)

HISTORY: tuple[Column, ...] = (
    ("time (UTC)", lambda e: moment(e["at_ms"])),
    ("event", lambda e: e["event"]),
    ("state", lambda e: e["state"]),
    ("by", lambda e: e["actor"]),
    ("epoch", lambda e: e["epoch"]),
    ("reason", lambda e: e["reason"]),
)

AUDIT: tuple[Column, ...] = (
    ("entry", lambda e: e["seq"]),
    ("time (UTC)", lambda e: moment(e["at_ms"])),
    ("by", lambda e: e["actor"]),
    ("action", lambda e: e["action"]),
    ("subject", lambda e: e["subject"]),
    ("detail", lambda e: orjson.dumps(e["detail"]).decode()),
    ("hash", lambda e: e["hash"][:16]),
)

EXPLANATIONS: tuple[Column, ...] = (
    ("release", lambda e: e["release_id"]),
    ("decided by", lambda e: e["decided_by"]),
    ("matches", lambda e: "yes" if e["matches"] else "no"),
    ("in share", lambda e: "yes" if e["in_share"] else "no"),
    ("chosen", lambda e: "yes" if e["chosen"] else "no"),
    ("reason", lambda e: e["reason"]),
)

DEVICES: tuple[Column, ...] = (
    ("device", lambda d: d["id"]),
    ("state", lambda d: d["state"]),
    ("last seen (UTC)", lambda d: moment(d["last_seen_ms"])),
    ("profile", lambda d: " ".join(f"{name}={value}" for name, value in d["profile"].items())),
    ("tasks", lambda d: ", ".join(_installed(task) for task in d["tasks"]) or "-"),
)

FEATURES: tuple[Column, ...] = (
    ("id", lambda f: f["id"]),
    ("device", lambda f: f["device_id"]),
    ("task", lambda f: f"{f['scenario']}/{f['task']} {f['version']}"),
    ("name", lambda f: f["name"]),
    ("at (UTC)", lambda f: moment(f["at_ms"])),
    ("fields", lambda f: orjson.dumps(f["fields"]).decode()),
)

APPROVALS: tuple[Column, ...] = (
    ("release", lambda a: a["release_id"]),
    ("scenario", lambda a: a["scenario"]),
    ("step", lambda a: a["step"]),
    ("asked by", lambda a: a["asked_by"]),
    ("asked (UTC)", lambda a: moment(a["asked_ms"])),
    ("until (UTC)", lambda a: moment(a["expires_ms"])),
)

WEBHOOKS: tuple[Column, ...] = (
    ("id", lambda w: w["id"]),
    ("url", lambda w: w["url"]),
    ("events", lambda w: " ".join(w["events"]) or "all"),
    ("scenario", lambda w: w["scenario"] or "all"),
    ("active", lambda w: "yes" if w["active"] else "no"),
    ("waiting", lambda w: w["waiting"]),
    ("given up", lambda w: w["dead"]),
)

DELIVERIES: tuple[Column, ...] = (
    ("id", lambda d: d["id"]),
    ("kind", lambda d: d["kind"]),
    ("time (UTC)", lambda d: moment(d["at_ms"])),
    ("state", lambda d: d["state"]),
    ("attempts", lambda d: d["attempts"]),
    ("next (UTC)", lambda d: moment(d["next_ms"]) if d["state"] == "waiting" else "-"),
    ("error", lambda d: d["error"] or "-"),
)

ALLOWED: tuple[Column, ...] = (
    ("scenario", lambda a: a["scenario"] or "all"),
    ("may", lambda a: " ".join(a["permissions"])),
)

PEOPLE: tuple[Column, ...] = (
    ("person", lambda p: p["name"]),
    ("roles", lambda p: ", ".join(f"{r['role']} of {r['scenario'] or 'all'}" for r in p["roles"]) or "-"),
    ("since (UTC)", lambda p: moment(p["created_ms"])),
)

TOKENS: tuple[Column, ...] = (
    ("id", lambda t: t["id"]),
    ("person", lambda t: t["person"]),
    ("note", lambda t: t["note"]),
    ("scopes", lambda t: " ".join(t["scopes"]) or "all"),
    ("scenario", lambda t: t["scenario"] or "all"),
    ("valid until (UTC)", lambda t: moment(t["expires_ms"]) if t["expires_ms"] else "it is revoked"),
    ("last used (UTC)", lambda t: moment(t["used_ms"]) if t["used_ms"] else "never"),
)

REPORTS: tuple[Column, ...] = (
    ("id", lambda r: r["id"]),
    ("device", lambda r: r["device_id"]),
    ("release", lambda r: r["release_id"]),
    ("stage", lambda r: r["stage"]),
    ("outcome", lambda r: r["outcome"]),
    ("code", lambda r: r["code"] or r["error_class"]),
    ("ms", lambda r: f"{r['duration_ms']:.1f}"),
    ("message", lambda r: r["message"][:80]),
)


def _bar(part: float, width: int = 20) -> str:
    full = round(max(0.0, min(part, 1.0)) * width)
    return "█" * full + "·" * (width - full)


def _installed(task: Answer) -> str:
    text = f"{task['scenario']}/{task['task']} {task['version']}"
    if task["state"] == "installed":
        return text
    tries = f", attempt {task['attempt']}" if task["attempt"] > 1 else ""
    return f"{text} ({task['state']}{tries})"
