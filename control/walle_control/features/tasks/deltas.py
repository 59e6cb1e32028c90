"""Deltas from the versions that devices have to a new one, and files that are only compressed.

They are made when a version is imported, and again for released versions as devices report what they have. A
list names them; the next epoch names the list beside the manifest. Nothing depends on them: a device without
the base, or without the memory, fetches whole files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn

import trio

from walle_control.db.sql import Connection
from walle_control.db.store import Store
from walle_control.features.releases import read_model as releases
from walle_control.features.tasks import store
from walle_control.features.tasks.types import VersionRow
from walle_control.features.telemetry import read_model as telemetry
from walle_shared.deltas import NO_BASE, Delta, DeltaList, pack
from walle_shared.errors import WalleError
from walle_shared.limits import DELTAS_MAX, DELTAS_MAX_BYTES
from walle_shared.manifest import BundleFile
from walle_shared.observe import get_logger
from walle_shared.protocol.codec import canonical, decode
from walle_shared.protocol.messages import FileRef
from walle_shared.units import DAY_S, KIB, MIB, MINUTE_S

_log = get_logger("control.tasks")

#: Smaller files travel whole, and larger ones would take too much of a device's memory.
_FILE_MIN_BYTES = 4 * KIB
_FILE_MAX_BYTES = 96 * MIB

#: What a delta must be smaller than, as a part of what it stands for, to be kept.
_WORTH = 0.8

#: How often it is looked which versions devices have by now.
_LOOK_S = 10 * MINUTE_S

#: A version's files, by a row of the database.
FilesOf = Callable[[VersionRow], tuple[BundleFile, ...]]


class DeltaMaker:
    """Makes deltas and remembers their lists.

    Args:
        data: database and files.
        files_of: reads a version's manifest. Blocks.
        versions: from how many earlier versions; 0 makes none.
    """

    def __init__(self, data: Store, files_of: FilesOf, versions: int) -> None:
        self._data = data
        self._files_of = files_of
        self._versions = versions
        self._lock = trio.Lock()

    async def run(self) -> NoReturn:
        """Keep the deltas of released versions in step with what devices have, for ever."""
        while True:
            await trio.sleep(_LOOK_S)
            for row in await self._data.database.read(_released):
                await self.make(row)
            await self.prune()

    async def make(self, row: VersionRow) -> None:
        """Make what is missing of a version's deltas. What goes wrong is logged: devices do without."""
        if self._versions == 0:
            return
        async with self._lock:
            try:
                bases = await self._data.database.read(lambda db: self._bases(db, row))
                known = await self._data.database.read(lambda db: store.find_deltas(db, row.manifest.sha256))
                made = await trio.to_thread.run_sync(self._make, row, bases, known)
                if made != known:
                    await self._data.database.write(
                        lambda db: store.set_deltas(db, row.manifest.sha256, made)
                    )
            except WalleError as error:
                _log.warning("deltas_not_made", task=row.task, version=row.version, error=error.message)

    async def prune(self, older_than_s: float = DAY_S) -> int:
        """Delete deltas that no list names any more, once they are so old; how many."""
        async with self._lock:
            lists = await self._data.database.read(
                lambda db: store.all_deltas(db) | releases.published_deltas(db)
            )
            try:
                deleted = await trio.to_thread.run_sync(self._prune, lists, older_than_s)
            except (OSError, WalleError) as error:
                _log.warning("deltas_not_pruned", error=str(error))
                return 0
        if deleted:
            _log.info("deltas_pruned", count=deleted)
        return deleted

    def _prune(self, lists: set[FileRef], older_than_s: float) -> int:
        named = {str(ref.sha256) for ref in lists}
        for ref in lists:
            listed = decode(DeltaList, self._data.files.read("delta", ref), limit_bytes=DELTAS_MAX_BYTES)
            named.update(delta.file.sha256 for delta in listed.deltas)
        before_s = time.time() - older_than_s  # of the disk's clock, which stamps files
        folder = self._data.files.root / "delta"
        doomed = [
            path for path in folder.iterdir() if path.name not in named and path.stat().st_mtime <= before_s
        ]
        for path in doomed:
            path.unlink(missing_ok=True)
        return len(doomed)

    def _bases(self, db: Connection, row: VersionRow) -> tuple[VersionRow, ...]:
        """The versions that most devices have, then the newest ones."""
        reported = telemetry.versions_on_devices(db, row.scenario, row.task)
        imported = [each.version for each in store.versions_of(db, row.scenario, row.task)]
        names = [name for name in dict.fromkeys([*reported, *imported]) if name != row.version]
        found = (store.find_version(db, row.scenario, row.task, name) for name in names)
        return tuple(base for base in found if base is not None)[: self._versions]

    def _make(self, row: VersionRow, bases: tuple[VersionRow, ...], known: FileRef | None) -> FileRef:
        considered = sorted(base.manifest.sha256 for base in bases)
        before: dict[tuple[str, str], Delta] = {}
        if known is not None:
            listed = decode(DeltaList, self._data.files.read("delta", known), limit_bytes=DELTAS_MAX_BYTES)
            if listed.extra.get("bases") == considered:
                return known
            before = {(delta.target, delta.base): delta for delta in listed.deltas}
        base_files = [{file.path: file for file in self._files_of(base)} for base in bases]
        deltas: dict[tuple[str, str], Delta] = {}
        for target in self._files_of(row):
            if not _FILE_MIN_BYTES <= target.size_bytes <= _FILE_MAX_BYTES:
                continue
            earlier = {
                files[target.path].sha256: files[target.path] for files in base_files if target.path in files
            }
            earlier.pop(target.sha256, None)  # who has that needs no delta
            for delta in self._to(target, list(earlier.values()), before):
                deltas[delta.target, delta.base] = delta
        made = DeltaList(row.manifest.sha256, tuple(deltas.values())[:DELTAS_MAX], {"bases": considered})
        return self._data.files.put("delta", canonical(made))

    def _to(
        self, target: BundleFile, bases: list[BundleFile], before: Mapping[tuple[str, str], Delta]
    ) -> Iterator[Delta]:
        """The deltas to one file that are worth it: compressed, then from each base."""
        limit_bytes = target.size_bytes
        data = b""
        for base in (None, *bases):
            digest = base.sha256 if base is not None else NO_BASE
            delta = before.get((target.sha256, digest))
            if delta is None:
                data = data or self._blob(target)
                delta = self._pack(target, data, base, round(limit_bytes * _WORTH))
            if delta is not None:
                yield delta
                if base is None:
                    limit_bytes = delta.file.size_bytes

    def _pack(
        self, target: BundleFile, data: bytes, base: BundleFile | None, limit_bytes: int
    ) -> Delta | None:
        if base is not None and base.size_bytes > _FILE_MAX_BYTES:
            return None
        packed = pack(data, self._blob(base) if base is not None else b"")
        if packed is None or len(packed) > limit_bytes:
            return None
        file = self._data.files.put("delta", packed)
        if base is None:
            return Delta(target.sha256, NO_BASE, 0, file)
        return Delta(target.sha256, base.sha256, base.size_bytes, file)

    def _blob(self, file: BundleFile) -> bytes:
        return self._data.files.read("blob", FileRef(file.sha256, file.size_bytes))


def _released(db: Connection) -> list[VersionRow]:
    found = (store.find_version(db, row.scenario, row.task, row.version) for row in releases.on_devices(db))
    return list({row.manifest.sha256: row for row in found if row is not None}.values())
