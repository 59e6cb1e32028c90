"""Draws charts as SVG: numbers in, markup out. Pure.

Colours are classes of the style sheet, so that charts follow light and dark; each has a title in words, for
those who do not see it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from markupsafe import Markup

from walle_control.console import words

Point = tuple[float, float]

_WIDTH: Final = 720
_BAR_HEIGHT: Final = 10
#: Where an axis is marked: its end is a round number, and so are these parts of it.
_FIFTHS: Final = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
#: A curve has at most about so many points: more cannot be seen.
_POINTS_MAX: Final = 300


@dataclass(frozen=True, slots=True)
class Interval:
    """A rate with the interval that holds it, of one arm."""

    name: str
    rate: float
    low: float
    high: float


def shares(parts: Sequence[tuple[str, int]], title: str) -> Markup:
    """One bar cut into parts, the first the darkest."""
    total = sum(number for _, number in parts)
    if not total:
        return Markup("")
    pieces, x = [], 0.0
    for at, (name, number) in enumerate(parts):
        width = number / total * _WIDTH
        pieces.append(
            Markup(
                '<rect class="part-{}" x="{:.2f}" y="0" width="{:.2f}" height="{}">'
                "<title>{}: {}</title></rect>"
            ).format(min(at, 6), x, max(width - 1.5, 0.5), _BAR_HEIGHT, name, words.count(number))
        )
        x += width
    return _svg("shares", _WIDTH, _BAR_HEIGHT, title, pieces, stretch=True)


def evidence(has: float, needed: float, title: str) -> Markup:
    """How much evidence there is, beside the line that it must pass. Both are logarithms, from 0."""
    top = max(needed * 1.25, has, 1e-9)
    line, width = needed / top * _WIDTH, max(has, 0.0) / top * _WIDTH
    kind = "over" if has >= needed else "under"
    pieces = [
        Markup('<rect class="track" x="0" y="3" width="{}" height="6"/>').format(_WIDTH),
        Markup('<rect class="{}" x="0" y="3" width="{:.1f}" height="6"/>').format(kind, width),
        Markup('<rect class="limit" x="{:.1f}" y="0" width="2" height="12"/>').format(line - 1),
    ]
    return _svg("evidence", _WIDTH, 12, title, pieces, stretch=True)


def intervals(arms: Sequence[Interval], allowed: float, title: str) -> Markup:
    """The rate of each arm as a dot on the interval that holds it, and the line of what is allowed."""
    top = _nice(max([allowed * 1.2, *(min(arm.high, arm.rate * 4 + allowed) for arm in arms)]))
    left, right, row = 90, 24, 26
    width = _WIDTH - left - right

    def x(rate: float) -> float:
        return left + min(rate / top, 1.0) * width

    height = row * len(arms) + 26
    pieces = [_grid_line(x(top * part), row * len(arms) + 4, words.rate(top * part)) for part in _FIFTHS]
    pieces.append(
        Markup('<line class="allowed" x1="{0:.1f}" x2="{0:.1f}" y1="0" y2="{1}"/>').format(
            x(allowed), row * len(arms) + 4
        )
    )
    for at, arm in enumerate(arms):
        y = row * at + row / 2
        pieces.append(Markup('<text class="arm" x="0" y="{:.1f}">{}</text>').format(y + 4, arm.name))
        pieces.append(
            Markup('<line class="whisker arm-{}" x1="{:.1f}" x2="{:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>').format(
                at, x(arm.low), x(arm.high), y=y
            )
        )
        pieces.append(
            Markup('<circle class="dot arm-{}" cx="{:.1f}" cy="{:.1f}" r="5"/>').format(at, x(arm.rate), y)
        )
    return _svg("intervals", _WIDTH, height, title, pieces)


def coverage(points: Sequence[Point], plan: Sequence[Point], title: str) -> Markup:
    """Devices over time (in ms) as an area, and the plan as a line of steps beside it."""
    left, right, top, bottom, height = 56, 16, 10, 24, 220
    times = [at for at, _ in (*points, *plan)]
    if len(set(times)) < 2:
        return Markup("")
    first, last = min(times), max(times)
    highest = _nice(max([1.0, *(value for _, value in (*points, *plan))]))

    def x(at: float) -> float:
        return left + (at - first) / (last - first) * (_WIDTH - left - right)

    def y(value: float) -> float:
        return height - bottom - value / highest * (height - top - bottom)

    pieces = [
        Markup('<line class="grid" x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}"/>'
               '<text class="tick end" x="{}" y="{:.1f}">{}</text>')
        .format(left, _WIDTH - right, left - 8, y(value) + 4, _short(value), y=y(value))
        for value in (part * highest for part in _FIFTHS)
    ]  # fmt: skip
    for part in (0, 0.25, 0.5, 0.75, 1):
        at = first + part * (last - first)
        anchor = "start" if part == 0 else "end" if part == 1 else "middle"
        pieces.append(
            Markup('<text class="tick {}" x="{:.1f}" y="{}">{}</text>').format(
                anchor, x(at), height - 6, "+" + words.span((at - first) / 1000)
            )
        )
    if points:
        line = [(x(at), y(value)) for at, value in _stepped([*_thinned(points), (last, points[-1][1])])]
        ground = y(0)
        pieces.append(
            Markup('<path class="area" d="M{:.1f} {:.1f} {} L{:.1f} {:.1f} Z"/>').format(
                line[0][0], ground, _path(line, "L"), line[-1][0], ground
            )
        )
        pieces.append(Markup('<path class="line" d="{}"/>').format(_path(line)))
    if plan:
        pieces.append(Markup('<path class="plan" d="{}"/>').format(_path([(x(at), y(v)) for at, v in plan])))
    return _svg("coverage", _WIDTH, height, title, pieces)


def columns(values: Sequence[int], first: str, last: str, title: str) -> Markup:
    """One column for each value, from ``first`` to ``last``."""
    left, right, top, bottom, height = 56, 16, 10, 24, 140
    highest = _nice(max([1, *values]))
    ground, room = height - bottom, height - top - bottom
    width = (_WIDTH - left - right) / max(len(values), 1)
    pieces = [
        Markup('<line class="grid" x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}"/>'
               '<text class="tick end" x="{}" y="{:.1f}">{}</text>')
        .format(left, _WIDTH - right, left - 8, ground - part * room + 4, _short(part * highest),
                y=ground - part * room)
        for part in (0.0, 0.5, 1.0)
    ]  # fmt: skip
    pieces += [
        Markup('<rect class="part-0" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
            left + at * width, ground - value / highest * room, width * 0.8, value / highest * room
        )
        for at, value in enumerate(values)
        if value
    ]
    pieces += [
        Markup('<text class="tick {}" x="{}" y="{}">{}</text>').format(anchor, x, height - 6, text)
        for anchor, x, text in (("start", left, first), ("end", _WIDTH - right, last))
    ]
    return _svg("columns", _WIDTH, height, title, pieces)


def _stepped(points: Sequence[Point]) -> list[Point]:
    """A line that stays until it rises."""
    line = [points[0]]
    for (_, before), (at, value) in pairwise(points):
        line += [(at, before), (at, value)] if value != before else [(at, value)]
    return line


def _thinned(points: Sequence[Point]) -> list[Point]:
    """Every so many points, the first and the last among them."""
    every = max(1, -(-len(points) // _POINTS_MAX))
    return [*points[:-1:every], points[-1]]


def _path(points: Sequence[Point], start: str = "M") -> str:
    return " ".join(f"{start if at == 0 else 'L'}{x:.1f} {y:.1f}" for at, (x, y) in enumerate(points))


def _grid_line(x: float, height: float, text: str) -> Markup:
    return Markup(
        '<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{h}"/>'
        '<text class="tick middle" x="{x:.1f}" y="{t}">{text}</text>'
    ).format(x=x, h=height, t=height + 16, text=text)


def _svg(
    kind: str, width: float, height: float, title: str, pieces: Sequence[Markup], *, stretch: bool = False
) -> Markup:
    ratio = Markup(' preserveAspectRatio="none"') if stretch else Markup("")
    return Markup('<svg class="chart {}" viewBox="0 0 {} {}" role="img" aria-label="{}"{}>{}</svg>').format(
        kind, width, height, title, ratio, Markup("").join(pieces)
    )


def _nice(value: float) -> float:
    """The next round number, whose fifths are round too."""
    if value <= 0:
        return 1.0
    power = 1.0
    while power * 10 <= value:
        power *= 10
    while power > value:
        power /= 10
    return next(
        power * step for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if power * step >= value * 0.999999
    )


def _short(value: float) -> str:
    for size, unit in ((1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


CHARTS: Final[Mapping[str, object]] = {"shares": shares, "evidence": evidence, "intervals": intervals}

__all__ = ["CHARTS", "Interval", "Markup", "columns", "coverage", "evidence", "intervals", "shares"]
