"""A comparison as a bar chart in the terminal. Needs rich."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from walle_engine.bench.compare import OURS, Comparison, Result
from walle_shared.units import format_bytes, format_seconds

__all__ = ["bar", "print_chart"]

BAR_COLUMNS = 16
_EIGHTHS = " ▏▎▍▌▋▊▉"


def print_chart(console: Console, comparison: Comparison) -> None:
    """Print a table with bars for each number of threads, then why engines are missing.

    The columns are the median of the turns, the fastest call and the slowest turn, how many times as long as
    ours that is, load with the first run, and the growth of peak memory by these.
    """
    shapes = ", ".join(f"{name} {list(shape)}" for name, shape in comparison.inputs.items())
    versions = dict.fromkeys(f"{result.engine} {result.version}" for result in comparison.results)
    console.print(f"{escape(shapes)}\n{escape(', '.join(versions))}", highlight=False)
    for threads in dict.fromkeys(result.threads for result in comparison.results):
        console.print(_table([r for r in comparison.results if r.threads == threads], threads))
    for name, why in comparison.missing.items():
        console.print(f"{escape(name)}: {escape(why)}", highlight=False)
    if any(result.disturbed for result in comparison.results):
        console.print("* other processes disturbed most of its turns: run again on a quiet machine")


def _table(results: Sequence[Result], threads: int) -> Table:
    title = f"{threads} thread{'s' * (threads > 1)}"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    for name in ("", "", "median", "fastest .. slowest", "", "load", "memory"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    longest = max(result.median_ms for result in results)
    for result in results:
        ours = result.engine == OURS
        table.add_row(
            f"{result.engine}{'*' * result.disturbed}",
            bar(result.median_ms / longest),
            f"{result.median_ms:.3g} ms",
            f"{result.min_ms:.3g} .. {result.max_ms:.3g}",
            "" if result.times is None else f"{result.times:.2f}x",
            format_seconds(result.load_ms / 1e3),
            format_bytes(result.growth_bytes),
            style="green" if ours else None,
        )
    return table


def bar(share: float, columns: int = BAR_COLUMNS) -> str:
    """A bar of a share of the full width, to an eighth of a column."""
    eighths = max(1, round(share * columns * 8))
    full, rest = divmod(eighths, 8)
    return "█" * full + _EIGHTHS[rest].strip()
