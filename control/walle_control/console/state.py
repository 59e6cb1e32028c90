"""What the console remembers between requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from walle_control.config import ConsoleConfig
from walle_control.console.fleet import Coverage, Estimates, Fleet
from walle_control.console.news import News
from walle_control.db.connection import Database
from walle_control.features.people.code_flow import CodeFlow
from walle_control.features.people.sessions import SessionsService
from walle_control.gateway.hub import Seats
from walle_control.web.soon import Soon
from walle_shared.clock import Clock

#: So many pages may be watched at once; others are read without being told of news.
_WATCHED_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class ConsoleState:
    """Sessions, the logins at a provider if there is one, what wakes pages, how many watch, what counts."""

    sessions: SessionsService
    flow: CodeFlow | None
    clock: Clock
    news: News
    watched: Seats
    fleet: Fleet
    coverage: Coverage
    estimates: Estimates
    soon: Soon

    @classmethod
    def make(
        cls, database: Database, clock: Clock, config: ConsoleConfig, news: News, flow: CodeFlow | None
    ) -> ConsoleState:
        """The state of a server that starts."""
        return cls(
            SessionsService(database, clock, config.session_s, config.idle_s, flow),
            flow,
            clock,
            news,
            Seats("console pages", _WATCHED_MAX),
            Fleet(database, clock),
            Coverage(database),
            Estimates(clock),
            Soon(news.ring),
        )
