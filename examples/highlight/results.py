"""The example's figures as tables, and as a page, beside the paper's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from judge import Quality
from rich.console import Group
from rich.table import Table

from page import Page

NOTE = (
    "SYNTHETIC: streams are painted and voiced by a random generator, models are small, and all processes "
    "share this machine. The paper's figures are of its production, its streams and its phones, as they are "
    "recalled; they stand beside ours for what is measured, not for how well."
)
PARTS = ("detector", "recogniser", "face", "voice", "fusion")
#: What the paper tells of its application.
PAPER = {
    "cloud load for each highlight, against all in the cloud": "-87 %",
    "highlights for each unit of cloud cost": "+74 %",
    "share of results that the device is unsure of": "12 %",
    "share of those that the cloud accepts": "15 %",
    "on a device": "130.97 ms (P50 Pro), 90.42 ms (iPhone 11)",
}
TICK_S = 0.5


def way(
    sums: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]], quality: Quality
) -> dict[str, Any]:
    """The figures of one way of watching."""
    total = {name: sum(row[name] for row in sums) for name in (
        "ticks", "asked", "accepted_by_cloud", "offline", "up_bytes", "cloud_ms",
    )}  # fmt: skip
    return total | {
        "found": len(found),
        "right": quality.right,
        "precision": quality.precision,
        "recall": quality.recall,
        "f1": quality.f1,
        "ms": {name: median(row[f"{name}_ms"] for row in sums) for name in (*PARTS, "tick")},
    }


def costs(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What the paper measures, of ours."""
    gate = summary["ways"]["gate"]
    each = {name: one["cloud_ms"] / max(one["right"], 1) for name, one in summary["ways"].items()}
    return {
        "cloud_ms_each": each,
        "load_each": each["gate"] / max(each["cloud"], 1e-9) - 1,
        "gain": each["cloud"] / max(each["gate"], 1e-9) - 1,
        "asked": gate["asked"] / max(gate["ticks"], 1),
        "accepted": gate["accepted_by_cloud"] / max(gate["asked"], 1),
        "bytes": gate["up_bytes"] / summary["raw_bytes"] - 1,
    }


def paper_rows(summary: Mapping[str, Any]) -> Iterable[tuple[str, str, str]]:
    """What is measured, ours, and the paper's."""
    found, ways = costs(summary), summary["ways"]
    ours = (
        f"{found['load_each']:+.0%}", f"{found['gain']:+.0%}", f"{found['asked']:.1%}",
        f"{found['accepted']:.1%}", f"{ways['gate']['ms']['tick']:.1f} ms (small models, this machine)",
    )  # fmt: skip
    for (what, theirs), mine in zip(PAPER.items(), ours, strict=True):
        yield what, mine, theirs
    yield "bytes up, against frames and sounds", f"{found['bytes']:+.1%}", ""


def quality_rows(summary: Mapping[str, Any]) -> Iterable[Sequence[str]]:
    """How good each way is, and what it takes."""
    for name, one in summary["ways"].items():
        each = costs(summary)["cloud_ms_each"][name]
        yield (
            summary["words"][name], f"{one['recall']:.1%}", f"{one['precision']:.1%}", f"{one['f1']:.3f}",
            f"{one['right']} of {summary['highlights']}", f"{one['asked'] / max(one['ticks'], 1):.1%}",
            f"{one['cloud_ms'] / 1e3:.2f}", f"{each:.0f}", f"{one['up_bytes'] / 1e3:,.0f}",
        )  # fmt: skip


QUALITY_HEAD = (
    "way", "recall", "precision", "F1", "highlights", "asked", "cloud CPU s", "CPU ms each", "KB up",
)  # fmt: skip


def model_rows(summary: Mapping[str, Any]) -> Iterable[Sequence[str]]:
    """What each model takes alone, and on the device within a tick."""
    by_name = {one["name"]: one for one in summary["models"]}
    for part in PARTS[:4]:
        on_device = summary["ways"]["device"]["ms"][part]
        cells = [part, f"{on_device:.2f} ms"]
        for prefix in ("", "cloud_", "paper_"):
            one = by_name[prefix + part]
            size = f"{one['side']} px" if one["side"] else "0.5 s"
            cells += [f"{one['parameters']:,}", size, f"{one['ms']:.2f} ms"]
        yield cells


MODEL_HEAD = (
    "model", "in a run on the device", "small", "of", "alone", "cloud", "of", "alone", "paper's size", "of",
    "alone",
)  # fmt: skip
PAPER_HEAD = ("what", "here, synthetic", "the paper, production")


def tables(summary: Mapping[str, Any]) -> Group:
    """All of it for a terminal."""
    away = summary["away"]
    return Group(
        _table("Highlights at the control plane · SYNTHETIC", QUALITY_HEAD, quality_rows(summary)),
        _table("Beside the paper's figures", PAPER_HEAD, paper_rows(summary)),
        _table("Models on this machine, one thread", MODEL_HEAD, model_rows(summary)),
        f"Without the control plane: {away['decided_alone']} unsure ticks of {away['ticks']} decided by the "
        f"device, precision {away['precision']:.1%}, recall {away['recall']:.1%}.",
        NOTE,
    )


def page(summary: Mapping[str, Any]) -> Page:
    """All of it as a page, with plots."""
    made = Page("Walle: livestream highlight recognition", NOTE)
    made.say(
        f"{summary['streams']} streams, {summary['ticks']} ticks of {TICK_S} s with {summary['highlights']} "
        "highlights, of seeds that no model has learnt from; each device watched all of them."
    )
    made.heading("Highlights at the control plane")
    made.table(QUALITY_HEAD, quality_rows(summary))
    words = summary["words"]
    made.bars("F1", {words[name]: one["f1"] for name, one in summary["ways"].items()})
    made.bars(
        "Cloud processor time", {words[name]: one["cloud_ms"] for name, one in summary["ways"].items()}, "ms"
    )
    made.bars(
        "Bytes up in questions", {words[name]: one["up_bytes"] for name, one in summary["ways"].items()}, "B"
    )
    made.heading("Beside the paper's figures")
    made.table(PAPER_HEAD, paper_rows(summary))
    made.heading("Models on this machine, one thread")
    made.table(MODEL_HEAD, model_rows(summary))
    made.heading("The first stream")
    for name, truth in list(summary["truth"].items())[:1]:
        rows = {"truth": _seconds(truth)}
        rows |= {words[way]: _seconds(one["spans"][name]) for way, one in summary["ways"].items()}
        made.spans("Highlights, in seconds", rows, summary["ticks"] / summary["streams"] * TICK_S)
    away = summary["away"]
    made.heading("Without the control plane")
    made.table(["what", "number"], [(name.replace("_", " "), f"{value:.4g}") for name, value in away.items()])
    return made


def _seconds(spans: Iterable[Sequence[int]]) -> list[tuple[float, float]]:
    return [(first * TICK_S, (last + 1) * TICK_S) for _, first, last in spans]


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(head):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    return table
