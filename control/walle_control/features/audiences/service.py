"""Manages audiences; every change is one transaction and one new epoch."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable
from typing import Protocol

from walle_control.db.connection import Database
from walle_control.features.audiences import store
from walle_control.features.audiences.types import HoldoutList, HoldoutWish
from walle_control.features.audit import log as audit
from walle_control.percent import share_of
from walle_shared.clock import Clock
from walle_shared.errors import ConfigError, NotFound
from walle_shared.ids import check_name
from walle_shared.targeting import SHARE_ONE, Holdout


class PolicyControl(Protocol):
    """What makes epochs."""

    async def change(self, actor: str, reason: str, change: Callable[[sqlite3.Connection], None]) -> int:
        """Run ``change`` and make the epoch that follows from it, in one transaction."""
        ...


class AudiencesService:
    """Knows whom releases can be for."""

    def __init__(self, database: Database, clock: Clock, policy: PolicyControl) -> None:
        self._database = database
        self._clock = clock
        self._policy = policy

    async def holdouts(self) -> HoldoutList:
        """All holdouts, by name."""
        return HoldoutList(tuple(await self._database.read(store.holdouts)))

    async def set_holdout(self, wish: HoldoutWish, actor: str) -> HoldoutList:
        """Add a holdout or change its size. Growing only adds devices to it.

        Raises:
            ConfigError: a name is none, or the percentage.
        """
        check_name(wish.name, "holdout")
        if wish.scenario:
            check_name(wish.scenario, "scenario")
        share = share_of(wish.percent)
        if not 0 < share < SHARE_ONE:
            raise ConfigError("a holdout must be more than 0 and less than 100 percent")
        holdout = Holdout(wish.name, share, f"holdout-{secrets.token_hex(8)}", wish.scenario)

        def change(db: sqlite3.Connection) -> None:
            now_ms = self._clock.wall_ms()
            store.put_holdout(db, holdout, now_ms)
            detail = {"percent": str(wish.percent), "scenario": wish.scenario}
            audit.record(db, now_ms, actor, "holdout.set", wish.name, detail)

        await self._policy.change(actor, f"holdout {wish.name}", change)
        return await self.holdouts()

    async def end_holdout(self, name: str, actor: str) -> HoldoutList:
        """Let a holdout's devices have what all others have.

        Raises:
            NotFound: no such holdout.
        """

        def change(db: sqlite3.Connection) -> None:
            if not store.delete_holdout(db, name):
                raise NotFound(f"no holdout {name!r}; see 'walle-control holdout list'")
            audit.record(db, self._clock.wall_ms(), actor, "holdout.end", name)

        await self._policy.change(actor, f"end of holdout {name}", change)
        return await self.holdouts()
