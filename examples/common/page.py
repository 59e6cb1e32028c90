"""A page to keep: headings, sentences, tables and plots as one HTML file that needs nothing else.

Plots are SVG drawn here: numbers in, markup out. Each says what it shows in words, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from math import floor, log10
from pathlib import Path

type Point = tuple[float, float]
type Span = tuple[float, float]

_WIDTH = 720
_LEFT = 190
_RIGHT = 70
_ROW = 24
_COLOURS = ("#2563eb", "#d97706", "#059669", "#db2777", "#7c3aed", "#475569")

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.2rem; }
table { border-collapse: collapse; margin: 0.6rem 0 1rem; }
th, td { padding: 0.25rem 0.8rem; border-bottom: 1px solid #8884; text-align: right; vertical-align: top; }
th:first-child, td:first-child { text-align: left; }
svg { width: 100%; max-width: 45rem; height: auto; display: block; }
svg text { font: 12px system-ui, sans-serif; fill: currentColor; }
svg .grid { stroke: #8885; } svg polyline { fill: none; stroke-width: 2; }
figcaption { font-weight: 600; } figure { margin: 1rem 0 1.5rem; }
p.note { border-left: 4px solid #d97706; padding-left: 0.8rem; }
"""


class Page:
    """Parts are added from top to bottom; ``write`` makes the file.

    Args:
        title: of the page.
        note: what the reader must know before all else, such as that data is synthetic.
    """

    def __init__(self, title: str, note: str) -> None:
        self._title = title
        self._parts = [f"<h1>{escape(title)}</h1>", f'<p class="note">{escape(note)}</p>']

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._parts.append(f"<h2>{escape(text)}</h2>")

    def say(self, text: str) -> None:
        """Add a paragraph."""
        self._parts.append(f"<p>{escape(text)}</p>")

    def link(self, text: str, href: str) -> None:
        """Add a paragraph that leads to another page."""
        self._parts.append(f'<p><a href="{escape(href)}">{escape(text)}</a></p>')

    def table(self, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Add a table; its first column is of words."""
        top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
        )
        self._parts.append(f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>")

    def bars(self, title: str, values: Mapping[str, float], unit: str = "") -> None:
        """Add a bar for each value."""
        self._figure(title, bars(title, values, unit))

    def lines(self, title: str, curves: Mapping[str, Sequence[Point]], x: str = "", y: str = "") -> None:
        """Add curves over one pair of axes, which are called ``x`` and ``y``."""
        self._figure(title, lines(title, curves, x, y))

    def spans(self, title: str, rows: Mapping[str, Sequence[Span]], end: float, unit: str = "s") -> None:
        """Add a row of intervals on one axis of time for each name."""
        self._figure(title, spans(title, rows, end, unit))

    def picture(self, title: str, jpeg_base64: str) -> None:
        """Add a picture."""
        image = f'<img alt="{escape(title)}" src="data:image/jpeg;base64,{escape(jpeg_base64)}">'
        self._figure(title, image)

    def html(self) -> str:
        """The page as it stands."""
        head = f'<meta charset="utf-8"><title>{escape(self._title)}</title><style>{_STYLE}</style>'
        return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(self._parts)}</body></html>'

    def write(self, path: Path) -> None:
        """Write the page."""
        path.write_text(self.html(), encoding="utf-8")

    def _figure(self, title: str, drawn: str) -> None:
        self._parts.append(f"<figure><figcaption>{escape(title)}</figcaption>{drawn}</figure>")


def bars(title: str, values: Mapping[str, float], unit: str = "") -> str:
    """A bar for each value, from 0."""
    top = max([*values.values(), 0.0]) or 1.0
    wide = _WIDTH - _LEFT - _RIGHT
    pieces = []
    for row, (name, value) in enumerate(values.items()):
        y, width = row * _ROW, max(value, 0.0) / top * wide
        pieces += [
            _text(_LEFT - 8, y + 16, name, "end"),
            f'<rect x="{_LEFT}" y="{y + 4}" width="{width:.1f}" height="{_ROW - 8}" fill="{_COLOURS[0]}"/>',
            _text(_LEFT + width + 6, y + 16, f"{_short(value)} {unit}".strip()),
        ]
    return _svg(title, len(values) * _ROW + 4, pieces)


def lines(title: str, curves: Mapping[str, Sequence[Point]], x: str = "", y: str = "") -> str:
    """Curves of points ``(x, y)``; both axes go by round numbers."""
    points = [point for curve in curves.values() for point in curve]
    if not points:
        return _svg(title, _ROW, [_text(0, 16, "no data")])
    left, bottom, height = 60, 44, 280
    xs, ys = _ticks([at for at, _ in points]), _ticks([value for _, value in points])

    def place(at: float, value: float) -> Point:
        across = (at - xs[0]) / (xs[-1] - xs[0]) * (_WIDTH - left - 20)
        up = (value - ys[0]) / (ys[-1] - ys[0]) * (height - bottom - 30)
        return left + across, height - bottom - up

    pieces = []
    for value in ys:
        _, at = place(xs[0], value)
        pieces.append(f'<line class="grid" x1="{left}" x2="{_WIDTH - 20}" y1="{at:.1f}" y2="{at:.1f}"/>')
        pieces.append(_text(left - 6, at + 4, _short(value), "end"))
    pieces += [_text(place(at, ys[0])[0], height - bottom + 16, _short(at), "middle") for at in xs]
    pieces += [_text(_WIDTH - 20, height - 8, x, "end"), _text(0, 12, y)]
    for number, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in curve)
        pieces.append(f'<polyline points="{path}" stroke="{colour}"/>')
        pieces.append(_text(left + 150 * number, height - 8, name, fill=colour))
    return _svg(title, height, pieces)


def spans(title: str, rows: Mapping[str, Sequence[Span]], end: float, unit: str = "s") -> str:
    """A row of intervals for each name, on one axis from 0 to ``end``."""
    wide = _WIDTH - _LEFT - 20
    pieces = []
    for row, (name, found) in enumerate(rows.items()):
        y, colour = row * _ROW, _COLOURS[row % len(_COLOURS)]
        pieces.append(_text(_LEFT - 8, y + 16, name, "end"))
        pieces.append(f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + wide}" y1="{y + 22}" y2="{y + 22}"/>')
        for first, last in found:
            at, width = _LEFT + first / end * wide, max((last - first) / end * wide, 1.0)
            about = f"<title>{first:g} to {last:g} {escape(unit)}</title>"
            shape = f'x="{at:.1f}" y="{y + 4}" width="{width:.1f}" height="{_ROW - 8}" fill="{colour}"'
            pieces.append(f"<rect {shape}>{about}</rect>")
    bottom = len(rows) * _ROW + 16
    pieces += [_text(_LEFT, bottom, "0"), _text(_LEFT + wide, bottom, f"{end:g} {unit}", "end")]
    return _svg(title, bottom + 6, pieces)


def _ticks(values: Sequence[float]) -> list[float]:
    """Round numbers, four to eight of them, from below the least value to above the greatest."""
    low, high = min(values), max(values)
    if low == high:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / 5
    power = 10.0 ** floor(log10(rough))
    step = next(power * part for part in (1, 2, 5, 10) if power * part >= rough)
    first = floor(low / step)
    ticks = [first * step]
    while ticks[-1] < high - step * 1e-9:
        ticks.append((first + len(ticks)) * step)
    return ticks


def _text(x: float, y: float, text: str, anchor: str = "start", fill: str = "") -> str:
    style = f' style="fill:{fill}"' if fill else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{escape(text)}</text>'


def _svg(title: str, height: float, pieces: Iterable[str]) -> str:
    label = escape(title, quote=True)
    box = f'viewBox="0 0 {_WIDTH} {height:g}"'
    return f'<svg {box} role="img" aria-label="{label}">{"".join(pieces)}</svg>'


def _short(value: float) -> str:
    for least, size, unit in ((1e9, 1e9, " G"), (1e6, 1e6, " M"), (1e4, 1e3, " k")):
        if abs(value) >= least:
            return f"{value / size:.3g}{unit}"
    return f"{value:.4g}"
