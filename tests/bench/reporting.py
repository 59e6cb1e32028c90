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


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _against(row: Row, kept: Mapping[str, float]) -> str:
    before = kept.get(row.key)
    if not before:
        return ""
    better = row.value / before if row.unit.endswith("/s") else before / row.value
    return f"{better:.2f}x"
