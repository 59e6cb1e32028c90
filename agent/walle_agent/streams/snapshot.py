"""What the extended matcher knows, as a value that outlives the process.

Triggers and nodes are named by their text, not by their place in a trie: a restart may find other tasks
installed, and takes from a snapshot what still has a home.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from walle_shared.errors import StorageError
from walle_shared.records import RecordError, from_plain, to_plain
from walle_shared.triggers import Edge

FORMAT = 1


@dataclass(frozen=True, slots=True)
class SavedRun:
    """A match in the making: number of its first event, times of its first and last in milliseconds."""

    first_seq: int
    first_ms: int
    last_ms: int


@dataclass(frozen=True, slots=True)
class SavedEnd:
    """A number about one trigger of one task: since when it watches, where it last fired, or what waits."""

    scenario: str
    task: str
    trigger: str
    seq: int
    run: SavedRun | None = None


@dataclass(frozen=True, slots=True)
class SavedWait:
    """A run, and the path of edges to the node that it waits for."""

    path: tuple[str, ...]
    run: SavedRun


@dataclass(frozen=True, slots=True)
class SavedState:
    """One key of one ``per`` clause."""

    per: str
    key: str
    waits: tuple[SavedWait, ...] = ()
    fired: tuple[SavedEnd, ...] = ()
    silences: tuple[SavedEnd, ...] = ()


@dataclass(frozen=True, slots=True)
class SavedFiring:
    """A firing that is owed: of which trigger, by which event, and the first and last event of its match.

    ``trigger`` is empty if the log alone says what matched; ``prepared`` are the rows of windows that closed.
    """

    scenario: str
    task: str
    trigger: str
    at_seq: int
    first_seq: int
    last_seq: int
    key: str
    prepared: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class SavedStage:
    """What a stage of declared pre-processing knows, and since which event; named by all it declares."""

    scenario: str
    task: str
    spec: str
    since_seq: int
    state: str


@dataclass(frozen=True, slots=True)
class MatcherSnapshot:
    """All states as they were behind event ``last_seq``, oldest key first."""

    last_seq: int
    now_ms: int
    since: tuple[SavedEnd, ...] = ()
    states: tuple[SavedState, ...] = ()


@dataclass(frozen=True, slots=True)
class PipelineSnapshot:
    """The matcher, the pipeline's clock, the firings that are owed and not in the log, and the stages."""

    matcher: MatcherSnapshot
    mono_ns: int
    wall_ms: int
    now_ns: int
    owed: tuple[SavedFiring, ...] = ()
    stages: tuple[SavedStage, ...] = ()
    format: int = FORMAT


def encode_snapshot(snapshot: PipelineSnapshot) -> bytes:
    """Write a snapshot as JSON."""
    return orjson.dumps(to_plain(snapshot))


def decode_snapshot(data: bytes) -> PipelineSnapshot:
    """Read a snapshot back.

    Raises:
        StorageError: it is not one, or of another format; the log alone must do.
    """
    try:
        snapshot = from_plain(PipelineSnapshot, orjson.loads(data))
    except (orjson.JSONDecodeError, RecordError) as error:
        raise StorageError(
            f"the matcher's snapshot cannot be read: {error}: the log is read instead"
        ) from None
    if snapshot.format != FORMAT:
        raise StorageError(
            f"the matcher's snapshot has format {snapshot.format}, not {FORMAT}: the log is read instead"
        )
    return snapshot


def edge_text(edge: Edge) -> str:
    """A text that only equal edges share."""
    absent = "".join(f"!{atom} " for atom in edge.absent)
    return f"{absent}{'~>' if edge.relaxed else '->'} {edge.atom} gap {edge.gap_ms}"
