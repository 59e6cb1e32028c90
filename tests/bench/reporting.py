"""Rows of a benchmark: printed as a table, written as JSON, compared with the run that was kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. ``unit`` says whether more or less is better: a rate ends in ``/s``."""

    section: str
    what: str
    value: float
    unit: str
    low: float
    high: float
    note: str = ""

    @property
    def key(self) -> str:
        """Name under which the row is compared between runs."""
        return f"{self.section}: {self.what}"


def print_rows(console: Console, rows: list[Row], kept: Mapping[str, float]) -> None:
    """Print the rows, each beside the kept run's value where there is one."""
    table = Table(title="Median of interleaved turns, with the fastest and the slowest", title_justify="left")
    for column in ("section", "what", "median", "range", "against kept", "note"):
        table.add_column(column, justify="right" if column in ("median", "range", "against kept") else "left")
    for row in rows:
        table.add_row(
            row.section,
            row.what,
            f"{_number(row.value)} {row.unit}",
            f"{_number(row.low)} .. {_number(row.high)}",
            _against(row, kept),
            row.note,
        )
    console.print(table)


def markdown(rows: list[Row], facts: Mapping[str, object]) -> str:
    """The kept run as a page: what it was measured on, then a table per section."""
    lines = [
        "# What it costs",
        "",
        "Written by `nox -s bench -- --keep`; `nox -s bench` measures your machine beside it.",
        "Contestants of one row group took turns within one run; trust the ratios, not the absolute figures.",
        "",
        "| measured on | |",
        "|---|---|",
        *(f"| {name} | {_plain(value)} |" for name, value in facts.items()),
    ]
    for section in dict.fromkeys(row.section for row in rows):
        lines += [
            "",
            f"## {section}",
            "",
            "| what | median | fastest .. slowest turn | note |",
            "|---|---|---|---|",
        ]
        lines += [_markdown_row(row) for row in rows if row.section == section]
    return "\n".join(lines) + "\n"


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _markdown_row(row: Row) -> str:
    span = f"{_number(row.low)} .. {_number(row.high)}"
    return f"| {row.what} | {_number(row.value)} {row.unit} | {span} | {row.note} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _against(row: Row, kept: Mapping[str, float]) -> str:
    before = kept.get(row.key)
    if not before:
        return ""
    better = row.value / before if row.unit.endswith("/s") else before / row.value
    return f"{better:.2f}x"
