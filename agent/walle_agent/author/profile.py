"""Where the time of many runs goes: their trees of calls in one, as a table and as a flame graph. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html import escape
from typing import Any

from walle_container.spec import ProfileKind, ProfileNode

_WIDTH, _ROW, _FONT = 1200, 17, 11
_NARROWEST = 0.3
_LETTER = 6.2

_COLOURS: dict[ProfileKind, str] = {
    "run": "#c9c9c9",
    "task": "#f0a35e",
    "library": "#f2d28b",
    "host": "#7fb3d5",
    "model": "#8fc79a",
    "engine": "#b5dcae",
}


@dataclass(slots=True)
class Frame:
    """Calls of one function from one place above it, over all runs. Nanoseconds."""

    kind: ProfileKind
    name: str
    place: str
    calls: int = 0
    total_ns: int = 0
    below: dict[tuple[str, str, str], Frame] = field(default_factory=dict)

    @property
    def self_ns(self) -> int:
        """Time that is nobody's below."""
        return max(0, self.total_ns - sum(frame.total_ns for frame in self.below.values()))


@dataclass(slots=True)
class Line:
    """All calls of one function, wherever from. Nanoseconds; recursion counts once in ``total_ns``."""

    kind: ProfileKind
    name: str
    place: str
    calls: int = 0
    self_ns: int = 0
    total_ns: int = 0


def merge(profiles: Iterable[tuple[ProfileNode, ...]]) -> Frame:
    """One tree of many; what the container does before the task's own code is the run's own time."""
    root = Frame("run", "run", "")
    for nodes in profiles:
        frames: list[Frame] = []
        for node in nodes:
            above = root if node.parent < 0 else frames[node.parent]
            is_container = above is root and node.kind in ("run", "library")
            frame = root if is_container else _child(above, node)
            if node.parent < 0 or not is_container:
                frame.calls += node.calls
                frame.total_ns += node.total_ns
            frames.append(frame)
    return root


def _child(parent: Frame, node: ProfileNode) -> Frame:
    key = (node.kind, node.name, node.place)
    if key not in parent.below:
        parent.below[key] = Frame(node.kind, node.name, node.place)
    return parent.below[key]


def table(root: Frame) -> list[Line]:
    """The functions, host calls, models and steps of the engine, the dearest first."""
    lines: dict[tuple[str, str, str], Line] = {}
    _sum(root, frozenset(), lines)
    return sorted(lines.values(), key=lambda line: -line.self_ns)


def _sum(frame: Frame, above: frozenset[object], lines: dict[tuple[str, str, str], Line]) -> None:
    key = (frame.kind, frame.name, frame.place)
    line = lines.setdefault(key, Line(frame.kind, frame.name, frame.place))
    line.calls += frame.calls
    line.self_ns += frame.self_ns
    line.total_ns += 0 if key in above else frame.total_ns
    for child in frame.below.values():
        _sum(child, above | {key}, lines)


def table_lines(root: Frame, runs: int, *, most: int = 25) -> Iterator[str]:
    """The table for a person: milliseconds a run."""
    yield f"{'SELF ms':>9} {'%':>5} {'TOTAL ms':>9} {'CALLS':>9}  WHAT"
    lines = table(root)
    whole_ns = max(1, root.total_ns)
    for line in lines[:most]:
        yield (
            f"{line.self_ns / runs / 1e6:9.3f} {100 * line.self_ns / whole_ns:5.1f} "
            f"{line.total_ns / runs / 1e6:9.3f} {line.calls / runs:9.4g}  {describe(line)}"
        )
    if len(lines) > most:
        rest_ns = sum(line.self_ns for line in lines[most:])
        yield f"{rest_ns / runs / 1e6:9.3f} {100 * rest_ns / whole_ns:5.1f} {'':19}  {len(lines) - most} more"


def describe(what: Line | Frame) -> str:
    """A function by name and place, anything else by kind and name."""
    if what.kind == "run":
        return "the container: loading the task, encoding what it returns"
    return f"{what.name}  ({what.place})" if what.place else f"{what.kind} {what.name}"


def to_plain(root: Frame) -> list[dict[str, Any]]:
    """The table for a script."""
    return [
        {
            "kind": line.kind,
            "name": line.name,
            "place": line.place,
            "calls": line.calls,
            "self_ms": line.self_ns / 1e6,
            "total_ms": line.total_ns / 1e6,
        }
        for line in table(root)
    ]


def flame_graph(root: Frame, title: str) -> str:
    """A flame graph as one SVG file: width is time, a caller lies above what it calls."""
    depth = _depth(root)
    height = (depth + 3) * _ROW
    boxes = "\n".join(_boxes(root, 0.0, 0, _WIDTH / max(1, root.total_ns), max(1, root.total_ns)))
    legend = "".join(
        f'<rect x="{8 + 90 * n}" y="{height - _ROW}" width="11" height="11" fill="{colour}"/>'
        f'<text x="{23 + 90 * n}" y="{height - _ROW + 10}">{kind}</text>'
        for n, (kind, colour) in enumerate(_COLOURS.items())
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
        f'height="{height}" font-family="sans-serif" font-size="{_FONT}">\n'
        f"<title>{escape(title)}</title>\n"
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n{boxes}\n{legend}\n</svg>\n'
    )


def _depth(frame: Frame) -> int:
    return 1 + max(map(_depth, frame.below.values()), default=0)


def _boxes(frame: Frame, x: float, row: int, scale: float, whole_ns: int) -> Iterator[str]:
    width = frame.total_ns * scale
    if width < _NARROWEST:
        return
    y = row * _ROW + 2
    share = f"{100 * frame.total_ns / whole_ns:.1f} %, {frame.total_ns / 1e6:.3f} ms, {frame.calls} calls"
    what = escape(describe(frame))
    letters = int((width - 6) / _LETTER)
    text = escape(frame.name if len(frame.name) <= letters else frame.name[: max(0, letters - 1)] + "…")
    label = f'<text x="{x + 3:.1f}" y="{y + 11}">{text}</text>' if letters >= 3 else ""
    yield (
        f'<g><title>{what}: {share}</title><rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_ROW - 1}" '
        f'rx="2" fill="{_COLOURS[frame.kind]}"/>{label}</g>'
    )
    for child in sorted(frame.below.values(), key=lambda child: -child.total_ns):
        yield from _boxes(child, x, row + 1, scale, whole_ns)
        x += child.total_ns * scale
