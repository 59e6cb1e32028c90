"""What a sink is.

The table ``feature`` of the control plane's database is the journal: a record, and the memory of having it,
commit there in one transaction. A pump (``pump``) carries the journal's rows to each sink, in order, and
remembers how far it came only after the sink has them. So a sink may be given a row twice, after a crash
between the two, and must not keep it twice: (``device_id``, ``origin``) names a row for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from walle_shared.units import MIB


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the journal. ``fields`` is JSON text as it came; ``id`` rises with arrival."""

    id: int
    device_id: str
    origin: str
    scenario: str
    task: str
    version: str
    release_id: str
    name: str
    at_ms: int
    received_ms: int
    fields: str
    trace_id: str = ""


@dataclass(frozen=True, slots=True)
class Batching:
    """How a sink likes its rows.

    A batch ends at ``rows_max`` rows, at ``bytes_max`` of fields, or ``linger_s`` after its first row came.

    ``staged``: the sink makes something of a whole batch, so the journal counts as a part of it. Batches then
    keep their borders across crashes, and devices need not wait for the batch they are in, as long as the
    sink works.
    """

    rows_max: int = 1_000
    bytes_max: int = 16 * MIB
    linger_s: float = 0.0
    staged: bool = False


class Sink(Protocol):
    """A place that keeps features."""

    @property
    def name(self) -> str:
        """Its name in settings, statistics and the table of positions."""
        ...

    @property
    def batching(self) -> Batching:
        """How it likes its rows."""
        ...

    async def write(self, rows: Sequence[Row]) -> int:
        """Keep the rows; they are durable on return. Never called twice at once.

        Returns:
            How many rows the sink can never take, whoever asks; the journal alone has them.

        Raises:
            WalleError: it does not work now. The pump tries the same rows again, for ever.
        """
        ...

    async def aclose(self) -> None:
        """Let go of connections."""
        ...


@dataclass(frozen=True, slots=True)
class SinkStatistics:
    """How far a sink is. ``error`` is empty while it works; the counters are since the server's start."""

    name: str
    written_id: int
    lag_rows: int
    rows: int = 0
    batches: int = 0
    refused: int = 0
    failures: int = 0
    failing_since_ms: int = 0
    error: str = ""
