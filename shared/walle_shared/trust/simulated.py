"""What an approval says of a version's simulations: a mark in the target's custom metadata, and its record.

The mark names a *record* by digest: which files were played, and how each cell ended. It holds nothing that
differs from one time to the next (no times, no measurements), so the same tag gives the same record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from walle_shared.errors import TrustError
from walle_shared.ids import Sha256
from walle_shared.manifest import BundleFile
from walle_shared.protocol.messages import FileRef
from walle_shared.records import RecordError, from_plain, to_plain

#: Where the mark is in a target's custom metadata.
_KEY: Final = "simulation"

#: ``smoked``: the version declares no simulations, and was only loaded.
Outcome = Literal["passed", "smoked", "failed"]


@dataclass(frozen=True, slots=True)
class SimulatedCell:
    """How one recording, of one version of the app, ended on one profile; ``failures`` by kind."""

    recording: str
    app_version: str
    profile: str
    runs: int
    failures: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SimulationRecord:
    """What was played of which version, and what came of it; published as a blob, in canonical bytes."""

    manifest: Sha256
    outcome: Outcome
    files: tuple[BundleFile, ...]
    cells: tuple[SimulatedCell, ...]


@dataclass(frozen=True, slots=True)
class SimulationMark:
    """What a target says: how it ended, how many cells there were, and the record with the rest."""

    outcome: Outcome
    cells: int
    record: FileRef
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.outcome == "smoked":
            return "loads, has no simulations"
        return f"{self.outcome} {self.cells} simulations"


def custom_of(mark: SimulationMark | None) -> dict[str, Any]:
    """The custom metadata of a target with this mark."""
    return {_KEY: to_plain(mark)} if mark is not None else {}


def mark_in(custom: Mapping[str, Any] | None) -> SimulationMark | None:
    """The mark in a target's custom metadata; None: it says nothing of simulations.

    Raises:
        TrustError: what it says cannot be understood.
    """
    if not isinstance(custom, Mapping) or _KEY not in custom:
        return None
    try:
        return from_plain(SimulationMark, custom[_KEY])
    except RecordError as error:
        raise TrustError(f"what an approval says of simulations: {error}") from None
