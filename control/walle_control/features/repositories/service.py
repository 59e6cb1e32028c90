"""Keeps mirrors of repositories, and imports what is new in those that ask for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NoReturn

import trio

from walle_control.config import ControlConfig
from walle_control.db.sql import Connection
from walle_control.db.store import Store
from walle_control.features.audit import log as audit
from walle_control.features.repositories import history, store
from walle_control.features.repositories.credentials import Credential, read_credential
from walle_control.features.repositories.mirrors import Mirrors, check_url, local_path, mirror_path
from walle_control.features.repositories.types import (
    ImportFailure,
    ImportTag,
    Repository,
    RepositoryList,
    RepositoryRow,
    SyncResult,
    TaskHistory,
)
from walle_control.features.tasks.git import check_root
from walle_control.features.webhooks import outbox
from walle_shared.clock import Clock
from walle_shared.errors import ConfigError, Conflict, NotFound, WalleError
from walle_shared.ids import check_name, check_version
from walle_shared.manifest import check_bundle_path
from walle_shared.observe import get_logger
from walle_shared.units import DAY_S

_log = get_logger("control.repositories")

#: Who imports what a sync finds.
ACTOR = "repository sync"

#: How often webhooks hear of one failure that goes on, and how much of its words.
_TOLD_EVERY_S = DAY_S
_ERROR_MAX_CHARS = 500

#: Refuses a scenario by raising; the one who asks may have no right there.
CheckScenario = Callable[[str], None]


class RepositoriesService:
    """Knows the repositories.

    Args:
        data: database and folders.
        clock: stamps.
        config: limits, and where repositories may lie.
        import_tag: imports one tag.
    """

    def __init__(self, data: Store, clock: Clock, config: ControlConfig, import_tag: ImportTag) -> None:
        self._data = data
        self._clock = clock
        self._config = config
        self._import_tag = import_tag
        self._mirrors = Mirrors(data.home.repositories, config.git)
        self._lock = trio.Lock()
        self._hopeless: dict[tuple[str, str], tuple[str, str]] = {}  # (repository, tag): commit, error

    async def add(
        self, wish: Repository, actor: str, check_scenario: CheckScenario | None = None
    ) -> RepositoryRow:
        """Define a repository; nothing is fetched yet.

        Raises:
            ConfigError: a name, the URL or the credential's name is wrong.
            NotAllowed: the path lies outside where repositories may.
            Conflict: the name is taken.
        """
        check_name(wish.name, "repository")
        check_name(wish.scenario, "scenario")
        check_url(wish.url)
        if wish.folder:
            check_bundle_path(wish.folder)
        if check_scenario is not None:
            check_scenario(wish.scenario)
        self._check_place(wish)
        self._credential(wish)
        row = RepositoryRow(wish, self._clock.wall_ms())
        async with self._lock:
            if await self._data.database.read(lambda db: store.find(db, wish.name)) is not None:
                raise Conflict(f"a repository is called {wish.name} already: remove it first")
            await trio.to_thread.run_sync(self._mirrors.define, wish)

            def job(db: Connection) -> None:
                store.insert(db, row)
                detail = {"url": wish.url, "scenario": wish.scenario}
                audit.record(db, row.added_ms, actor, "repository.add", wish.name, detail)

            await self._data.database.write(job)
        return row

    async def remove(
        self, name: str, actor: str, check_scenario: CheckScenario | None = None
    ) -> RepositoryRow:
        """Forget a repository and delete its mirror; versions imported from it stay.

        Raises:
            NotFound: no such repository.
        """
        async with self._lock:
            row = await self._find(name, check_scenario)

            def job(db: Connection) -> None:
                store.delete(db, name)
                audit.record(db, self._clock.wall_ms(), actor, "repository.remove", name, {})

            await self._data.database.write(job)
            await trio.to_thread.run_sync(self._mirrors.remove, name)
        return row

    async def list(self) -> RepositoryList:
        """All repositories."""
        return RepositoryList(tuple(await self._data.database.read(store.list_all)))

    async def history(
        self, scenario: str, task: str, version: tuple[str, str], base: tuple[str, str] = ("", "")
    ) -> TaskHistory:
        """How a version of a task came about, as far as a repository of its scenario tells.

        Args:
            scenario: the task's.
            task: its name.
            version: the version, and its commit.
            base: the same of the version before it; empty: back to the beginning.
        """
        rows = [row for row in (await self.list()).repositories if row.repository.scenario == scenario]

        def look() -> TaskHistory:
            for row in rows:
                what, mirror = row.repository, mirror_path(self._data.home.repositories, row.repository.name)
                if history.holds(mirror, version[1]):
                    folder = f"{what.folder}/{task}" if what.folder else task
                    found, more = history.commits_to(mirror, version[1], base[1], folder)
                    return TaskHistory(what.name, version[0], base[0], found, more)
            return TaskHistory("", version[0], base[0], ())

        return await trio.to_thread.run_sync(look)

    async def sync(
        self, name: str, check_scenario: CheckScenario | None = None, *, patient: bool = False
    ) -> SyncResult:
        """Fetch a repository, and import what is new if it asks for that.

        Args:
            name: which.
            check_scenario: refuses by raising.
            patient: do not try tags again that could not be imported and have not moved.

        Raises:
            NotFound: no such repository.
            NotAllowed: its path lies outside where repositories may, by now.
            TransportError: the remote failed.
            LimitExceeded: it is too large.
        """
        async with self._lock:
            row = await self._find(name, check_scenario)
            what = row.repository
            try:
                self._check_place(what)  # a folder may have become a link to somewhere else
                await self._mirrors.fetch(what, self._credential(what))
                tags = await trio.to_thread.run_sync(self._mirrors.tags, name)
            except WalleError as error:
                message, at_ms = error.message, self._clock.wall_ms()

                def note(db: Connection) -> None:
                    store.note_sync(db, name, 0, 0, message)
                    _tell_of_failure(db, what, at_ms, "", message)

                await self._data.database.write(note)
                raise
            now_ms = self._clock.wall_ms()
            await self._data.database.write(lambda db: store.note_sync(db, name, now_ms, len(tags), ""))
            row = await self._find(name, None)
            if not what.auto_import:
                return SyncResult(row)
            return await self._import_new(row, tags, patient=patient)

    async def run(self) -> NoReturn:
        """Sync every repository every ``git.sync_s`` seconds, for ever."""
        if not self._config.git.sync_s:
            await trio.sleep_forever()
        while True:
            for row in (await self.list()).repositories:
                try:
                    await self.sync(row.repository.name, patient=True)
                except WalleError as error:
                    _log.warning("repository_not_synced", name=row.repository.name, error=error.message)
            await trio.sleep(self._config.git.sync_s)

    async def _import_new(self, row: RepositoryRow, tags: dict[str, str], *, patient: bool) -> SyncResult:
        what = row.repository
        imported: list[str] = []
        failed: list[ImportFailure] = []
        for tag, commit in sorted(tags.items()):
            task, _, version = tag.partition("/")
            if not _is_version(task, version):
                continue
            before = self._hopeless.get((what.name, tag))
            if patient and before is not None and before[0] == commit:
                continue
            folder = f"{what.folder}/{task}" if what.folder else task
            try:
                if await self._import_tag(what.name, tag, task, version, folder, ACTOR):
                    imported.append(tag)
            except WalleError as error:
                self._hopeless[what.name, tag] = (commit, error.message)
                failed.append(ImportFailure(tag, error.message))
                at_ms, message = self._clock.wall_ms(), error.message
                await self._data.database.write(
                    partial(_tell_of_failure, what=what, at_ms=at_ms, tag=tag, message=message)
                )
                _log.warning("tag_not_imported", repository=what.name, tag=tag, error=error.message)
        return SyncResult(row, tuple(imported), tuple(failed))

    async def _find(self, name: str, check_scenario: CheckScenario | None) -> RepositoryRow:
        row = await self._data.database.read(lambda db: store.find(db, name))
        if row is None:
            raise NotFound(f"no repository is called {name[:80]!r}: 'walle-control repo list' shows them")
        if check_scenario is not None:
            check_scenario(row.repository.scenario)
        return row

    def _check_place(self, what: Repository) -> None:
        path = local_path(what.url)
        if path is not None:
            check_root(path, self._config.tasks)

    def _credential(self, what: Repository) -> Credential | None:
        if not what.credential:
            return None
        return read_credential(self._config.git.credentials_file, what.credential)


def _tell_of_failure(db: Connection, what: Repository, at_ms: int, tag: str, message: str) -> None:
    outbox.emit_seldom(
        db,
        at_ms,
        "repository.fail",
        what.scenario,
        what.name,
        {"tag": tag, "error": message[:_ERROR_MAX_CHARS]},
        every_s=_TOLD_EVERY_S,
        about=tag,
    )


def _is_version(task: str, version: str) -> bool:
    try:
        check_name(task, "task")
        check_version(version)
    except ConfigError:
        return False
    return True
