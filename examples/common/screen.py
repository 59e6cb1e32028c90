"""One screen: stages with their times on top, the last commands, and what the example shows below."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text


@dataclass
class StageLine:
    """One line of the upper table."""

    name: str
    started_s: float
    seconds: float | None = None
    detail: str = ""
    failed: bool = False


class Screen:
    """Draws live on a terminal; prints one line an event elsewhere.

    Args:
        console: where.
        title: what is played.

    Attributes:
        body: draws what is below the stages, whenever the screen is drawn.
    """

    def __init__(self, console: Console, title: str) -> None:
        self.body: Callable[[], RenderableType] = Group
        self._console = console
        self._title = title
        self._started_s = time.monotonic()
        self.stages: list[StageLine] = []
        self._commands: list[str] = []
        self._live: Live | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Keep the screen up to date while the body runs."""
        if not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, get_renderable=self._draw, refresh_per_second=8) as self._live:
            yield
        self._live = None

    @contextmanager
    def stage(self, name: str) -> Iterator[StageLine]:
        """Show a stage while it runs; the body may set ``detail``."""
        line = StageLine(name, time.monotonic())
        self.stages.append(line)
        try:
            yield line
        except BaseException:
            line.failed = True
            raise
        finally:
            line.seconds = time.monotonic() - line.started_s
            mark = "failed" if line.failed else f"{line.seconds:5.1f} s"
            self._print(f"[bold]{mark:>8}[/]  {name}  [dim]{line.detail}[/]")

    def command(self, words: list[str]) -> None:
        """Show a command as a user would type it."""
        text = " ".join(f"'{word}'" if " " in word else word for word in words)
        self._commands = [*self._commands[-2:], text]
        self._print(f"          [cyan]$ {text}[/]")

    def note(self, text: str) -> None:
        """Show a line that stays."""
        self._print(f"          {text}")

    def _print(self, markup: str) -> None:
        if self._live is None:
            self._console.print(markup, highlight=False, soft_wrap=True)

    def _draw(self) -> Group:
        elapsed = time.monotonic() - self._started_s
        lines = "\n".join(f"$ {line}" for line in self._commands)
        commands = Text(lines, style="cyan", overflow="ellipsis", no_wrap=True)
        return Group(
            Panel(self._stage_table(), title=f"{self._title}  {elapsed:4.0f} s", title_align="left"),
            commands,
            self.body(),
        )

    def _stage_table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for line in self.stages:
            if line.failed:
                mark: Text | Spinner = Text("failed", style="bold red")
            elif line.seconds is None:
                mark = Spinner("dots", style="yellow")
            else:
                mark = Text(f"{line.seconds:5.1f} s", style="green")
            table.add_row(mark, line.name, Text(line.detail, style="dim"))
        return table
