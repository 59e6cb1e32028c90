"""What a row of the table of rewrites is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from walle_engine import wmodel
from walle_engine.convert.rewrites.index import Index
from walle_engine.convert.rewrites.patterns import Match, Pattern


@dataclass(frozen=True)
class Alias:
    """Says that a match makes nothing but a value that is there already."""

    value: str


type Built = Sequence[wmodel.Node] | Alias | None
type Builder = Callable[[Index, Match], Built]


@dataclass(frozen=True)
class Rewrite:
    """One row: what it is called, what it looks for, how it replaces it."""

    name: str
    pattern: Pattern
    build: Builder
