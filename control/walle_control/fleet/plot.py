"""A chart of curves as an SVG file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

Curve = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 24, 40, 48
#: Colours that stay apart for colour-blind eyes, in black on white print too (Okabe and Ito, 2008).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")


def line_chart(
    title: str, x_name: str, curves: Mapping[str, Curve], *, y_name: str = "", y_percent: bool = False
) -> str:
    """Curves over one pair of axes that begin at 0.

    Args:
        title: above the chart.
        x_name: below the horizontal axis, with its unit.
        curves: points by name.
        y_name: beside the vertical axis.
        y_percent: the vertical axis is in percent of 1.
    """
    points = [point for curve in curves.values() for point in curve]
    x_ticks = ticks(max((x for x, _ in points), default=1.0))
    y_ticks = ticks(1.0 if y_percent else max((y for _, y in points), default=1.0))
    x_max, y_max = x_ticks[-1], y_ticks[-1]

    def at(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (_WIDTH - _LEFT - _RIGHT) * x / x_max
        down = _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - y / y_max)
        return across, down

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        _text(_WIDTH / 2, 22, title, "middle", 15),
        _text(_WIDTH / 2, _HEIGHT - 10, x_name, "middle"),
        _text(12, _TOP - 12, y_name, "start"),
    ]
    for x in x_ticks:
        across, down = at(x, 0)
        parts += [_line(across, _TOP, across, down), _text(across, down + 18, f"{x:g}", "middle")]
    for y in y_ticks:
        across, down = at(0, y)
        word = f"{y:.0%}" if y_percent else f"{y:g}"
        parts += [_line(across, down, _WIDTH - _RIGHT, down), _text(across - 6, down + 4, word, "end")]
    for number, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(f"{across:.1f},{down:.1f}" for across, down in (at(*point) for point in curve))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        below = _HEIGHT - _BOTTOM - 12 - 16 * (len(curves) - 1 - number)
        parts.append(_text(_WIDTH - _RIGHT - 8, below, name, "end", colour=colour))
    return "\n".join([*parts, "</svg>"]) + "\n"


def thin(curve: Curve, points: int = 300) -> Curve:
    """At most so many points of a curve, evenly spaced, its last one among them."""
    every = max(1, -(-len(curve) // points))
    return [*curve[::every], curve[-1]] if len(curve) > points else curve


def ticks(highest: float, about: int = 6) -> list[float]:
    """Round numbers from 0 to at least ``highest``."""
    if highest <= 0:
        return [0.0, 1.0]
    rough = highest / about
    power = 1.0
    while power * 10 <= rough:
        power *= 10
    while power > rough:
        power /= 10
    step = next(power * each for each in (1, 2, 5, 10) if power * each >= rough)
    count = 1
    while step * count < highest * (1 - 1e-9):
        count += 1
    return [step * n for n in range(count + 1)]


def _text(x: float, y: float, words: str, anchor: str, size: int = 12, colour: str = "#333") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">'
        f"{escape(words)}</text>"
    )


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'
