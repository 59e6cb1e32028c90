"""How features come in and go on: tunnels, the last hour, who is late, what was refused, sinks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from walle_control.console import charts, words
from walle_control.console.frame import Page, Visit
from walle_control.console.live import FEATURES
from walle_control.db.sql import Connection
from walle_control.features.telemetry.ingest import IngestMinute, IngestView
from walle_control.features.webhooks import read_model as webhooks
from walle_shared.units import format_bytes

if TYPE_CHECKING:
    from walle_control.app import Control

#: The rate that is told is that of so many whole minutes.
_RATE_MINUTES: Final = 5


class IngestViews:
    """The page of tunnels and sinks."""

    def __init__(self, control: Control) -> None:
        self._control = control

    async def show(self, _visit: Visit) -> Page:
        """What comes in now, and where it goes."""
        control = self._control
        found = await control.console.soon.of({("ingest",): control.ingest.view})
        view: IngestView | None = found.get(("ingest",))
        waiting, dead = await control.store.database.read(_deliveries)
        facts = {
            "live": True,
            "live_of": FEATURES,
            "view": view,
            "tunnels": control.tunnels.taken,
            "streams": control.streams.taken,
            "head": control.telemetry.journal_head,
            "rate": rate_of(view.minutes) if view else None,
            "chart": minutes_chart(view.minutes) if view else "",
            "sinks": control.telemetry.sink_list().sinks,
            "deliveries": (waiting, dead),
            "several": control.leadership is not None,
        }
        return Page("ingest.html", facts)


def rate_of(minutes: tuple[IngestMinute, ...]) -> IngestMinute:
    """What comes in a minute, over the last whole minutes: the present one has only begun."""
    whole = minutes[-1 - _RATE_MINUTES : -1]
    rows, size_bytes = sum(each.rows for each in whole), sum(each.size_bytes for each in whole)
    return IngestMinute(whole[0].at_ms, round(rows / len(whole)), round(size_bytes / len(whole)))


def minutes_chart(minutes: tuple[IngestMinute, ...]) -> charts.Markup:
    """Rows of each minute of the last hour."""
    rows, size_bytes = sum(each.rows for each in minutes), sum(each.size_bytes for each in minutes)
    title = f"Features of the last hour, minute by minute: {words.count(rows)}, {format_bytes(size_bytes)}"
    return charts.columns([each.rows for each in minutes], "-60 min", "now", title)


def _deliveries(db: Connection) -> tuple[int, int]:
    return webhooks.totals(db)
