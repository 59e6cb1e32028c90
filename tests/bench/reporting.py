"""Figures of a benchmark: printed as tables, written as JSON, compared with the run that was kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

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


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure of a grid. ``unit`` is the grid's where omitted; ``text`` follows the figure."""

    value: float
    low: float | None = None
    high: float | None = None
    unit: str | None = None
    text: str = ""


@dataclass
class Grid:
    """Figures by row and column, where a list would be too long to compare; less is better.

    Attributes:
        notes: sentences printed below it, by the row they are about; those about none under ``""``.
    """

    section: str
    title: str
    unit: str
    cells: dict[str, dict[str, Cell]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def put(self, row: str, column: str, cell: Cell) -> None:
        """Fill in a figure."""
        self.cells.setdefault(row, {})[column] = cell

    def note(self, row: str, text: str) -> None:
        """Add a sentence about a row, or about none."""
        known = self.notes.setdefault(row, [])
        if text not in known:
            known.append(text)

    def sentences(self) -> list[str]:
        """All notes, each with the row it is about."""
        return [f"{row}: {text}" if row else text for row, texts in self.notes.items() for text in texts]

    def updated(self, newer: Grid) -> Grid:
        """This grid with the rows that a newer run measured replaced, in this one's order."""
        notes = {row: texts for row, texts in self.notes.items() if row and row not in newer.cells}
        return replace(newer, cells={**self.cells, **newer.cells}, notes={**newer.notes, **notes})

    @property
    def columns(self) -> list[str]:
        """Names of the columns: figures in the grid's unit first, in the order they came."""
        known = {name: cell.unit is not None for row in self.cells.values() for name, cell in row.items()}
        return sorted(known, key=lambda name: known[name])

    def column(self, name: str) -> list[Cell]:
        """The figures of a column."""
        return [columns[name] for columns in self.cells.values() if name in columns]

    def key(self, row: str, column: str) -> str:
        """Name under which a figure is compared between runs."""
        return f"{self.section}: {self.title}: {row}: {column}"


@dataclass
class Report:
    """What a section measured."""

    rows: list[Row] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)

    def updated(self, newer: Report) -> Report:
        """This report with what a newer run of the section measured: whole lists, and rows of grids."""
        known = {grid.title: grid for grid in self.grids}
        grids = {
            grid.title: known[grid.title].updated(grid) if grid.title in known else grid
            for grid in newer.grids
        }
        return Report(newer.rows, list({**known, **grids}.values()))

    def figures(self) -> dict[str, float]:
        """Every figure by the name under which it is compared."""
        cells = {
            grid.key(row, column): cell.value
            for grid in self.grids
            for row, columns in grid.cells.items()
            for column, cell in columns.items()
            if cell.unit is None
        }
        return {**{row.key: row.value for row in self.rows}, **cells}


def load_report(document: Mapping[str, Any]) -> Report:
    """What ``asdict`` of a report was made of."""
    grids = [
        Grid(
            **{
                **grid,
                "cells": {
                    row: {column: Cell(**cell) for column, cell in columns.items()}
                    for row, columns in grid["cells"].items()
                },
            }
        )
        for grid in document["grids"]
    ]
    return Report([Row(**row) for row in document["rows"]], grids)


@dataclass(frozen=True, slots=True)
class Measured:
    """A report, the day, and what it was measured on."""

    report: Report
    machine: Mapping[str, object]


def print_report(console: Console, report: Report, kept: Mapping[str, float]) -> None:
    """Print the figures, each beside the kept run's where there is one."""
    if report.rows:
        _print_rows(console, report.rows, kept)
    for grid in report.grids:
        _print_grid(console, grid, kept)


def _print_rows(console: Console, rows: Sequence[Row], kept: Mapping[str, float]) -> None:
    table = Table(title="Median of interleaved turns, with the fastest and the slowest", title_justify="left")
    for column in ("section", "what", "median", "range", "against kept", "note"):
        table.add_column(column, justify="right" if column in ("median", "range", "against kept") else "left")
    for row in rows:
        table.add_row(
            row.section,
            row.what,
            f"{_number(row.value)} {row.unit}",
            f"{_number(row.low)} .. {_number(row.high)}",
            _against(row.value, row.unit, kept.get(row.key)),
            row.note,
        )
    console.print(table)


def _print_grid(console: Console, grid: Grid, kept: Mapping[str, float]) -> None:
    compared = any(grid.key(row, column) in kept for row in grid.cells for column in grid.columns)
    title = f"{grid.section}: {_title(grid)}{' (in brackets: kept over this)' if compared else ''}"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in grid.columns:
        table.add_column(column, justify="right")
    for row, columns in grid.cells.items():
        against = {
            column: _against(cell.value, grid.unit, kept.get(grid.key(row, column)))
            for column, cell in columns.items()
        }
        table.add_row(
            row,
            *(
                (_cell(columns.get(column)) + (f" ({against[column]})" if against.get(column) else ""))
                for column in grid.columns
            ),
        )
    console.print(table)
    for note in grid.sentences():
        console.print(f"  {note}", highlight=False, markup=False)


def markdown(sections: Mapping[str, Measured]) -> str:
    """The kept runs as a page: for each section what it was measured on, and its tables."""
    return "\n".join(_page(sections)) + "\n"


def _page(sections: Mapping[str, Measured]) -> Iterator[str]:
    yield "# What it costs"
    yield ""
    yield "Written by `nox -s bench -- [section ...] --keep`; `nox -s bench` measures your machine beside it."
    yield "Contestants of one group took turns within one run; trust the ratios, not the absolute figures."
    for name, measured in sections.items():
        yield from ("", f"## {name}", "", _facts(measured.machine))
        if measured.report.rows:
            yield from (
                "",
                *_markdown_table(
                    ["what", "median", "fastest .. slowest turn", "note"],
                    [
                        [row.what, f"{_number(row.value)} {row.unit}", _span(row.low, row.high), row.note]
                        for row in measured.report.rows
                    ],
                ),
            )
        for grid in measured.report.grids:
            yield from ("", f"### {_title(grid)}", "", *_markdown_grid(grid, grid.columns, _cell))
            if grid.notes:
                yield from ("", *(f"- {note}" for note in grid.sentences()))
            spans = [name for name in grid.columns if any(map(_has_span, grid.column(name)))]
            if spans:
                yield from ("", f"#### {grid.title}: fastest call .. slowest turn", "")
                yield from _markdown_grid(grid, spans, _cell_span)


def _facts(machine: Mapping[str, object]) -> str:
    return "Measured on: " + "; ".join(f"{name} {_plain(value)}" for name, value in machine.items()) + "."


def _title(grid: Grid) -> str:
    return f"{grid.title}, {grid.unit}" if grid.unit else grid.title


def _markdown_grid(grid: Grid, columns: Sequence[str], show: Callable[[Cell | None], str]) -> Iterator[str]:
    rows = [[row, *(show(cells.get(column)) for column in columns)] for row, cells in grid.cells.items()]
    return _markdown_table(["", *columns], rows)


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    yield from (f"| {' | '.join(row)} |" for row in rows)


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    return f"{_number(cell.value)}{cell.unit or ''}{' ' if cell.text else ''}{cell.text}"


def _has_span(cell: Cell) -> bool:
    return cell.low is not None


def _cell_span(cell: Cell | None) -> str:
    return "-" if cell is None or cell.low is None or cell.high is None else _span(cell.low, cell.high)


def _span(low: float, high: float) -> str:
    return f"{_number(low)} .. {_number(high)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _against(value: float, unit: str, before: float | None) -> str:
    if not before or not value:
        return ""
    better = value / before if unit.endswith("/s") else before / value
    return f"{better:.2f}x"
