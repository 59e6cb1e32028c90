"""What only the server can decide: releases that ask for what devices do not know of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from walle_control.db.files import FileStore
from walle_control.db.sql import Connection
from walle_control.features.audiences import read_model as audiences
from walle_control.features.audiences.answers import applies
from walle_control.features.devices import read_model as devices
from walle_control.features.releases import store
from walle_shared.errors import NotFound
from walle_shared.ids import DeviceId, ReleaseId
from walle_shared.targeting import Predicate, Profile


@dataclass(frozen=True, slots=True)
class _OfEpoch:
    """The releases that the server decides about, and what their predicates refer to."""

    epoch: int
    known: audiences.Audiences
    predicates: Mapping[ReleaseId, Predicate]


class ToldReleases:
    """Answers devices. All but what is known of a device changes with the epoch alone, and is read once.

    Read for every device, an answer took 6.5 ms with 200 live releases, and 0.26 ms with one (2026-11-27).
    """

    def __init__(self, files: FileStore) -> None:
        self._files = files
        self._newest: _OfEpoch | None = None

    def of(
        self, db: Connection, device_id: DeviceId, profile: Profile | None = None
    ) -> tuple[int, tuple[ReleaseId, ...]]:
        """The newest epoch, and the releases of it that only the server could see apply to a device. Blocks.

        Raises:
            NotFound: no such device, or no epoch.
        """
        newest = self._of_newest_epoch(db)
        profile = profile if profile is not None else devices.profile_of(db, device_id)
        return newest.epoch, tuple(
            release_id
            for release_id, predicate in newest.predicates.items()
            if applies(db, self._files, newest.known, predicate, device_id, profile)
        )

    def _of_newest_epoch(self, db: Connection) -> _OfEpoch:
        epoch = store.newest_epoch_number(db)
        if not epoch:
            raise NotFound("no epoch was made yet: start the server once")
        newest = self._newest
        if newest is None or newest.epoch != epoch:
            newest = self._newest = _read(db, epoch)
        return newest


def _read(db: Connection, epoch: int) -> _OfEpoch:
    known = audiences.audiences(db)
    parsed = {row.id: known.parse(row.predicate) for row in store.live_releases(db)}
    return _OfEpoch(epoch, known, {each: p for each, p in parsed.items() if known.is_decided_here(p)})
