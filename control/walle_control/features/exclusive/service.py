"""Gives devices files of their own, and tells each what it has.

Every change of what a device has raises the counter of its manifest for that task; the manifest is signed
when the device asks for it, and again, under a higher counter, when half of its lifetime has passed. The
plain file and its key are forgotten once it is sealed.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from pathlib import Path

import trio

from walle_control.config import ExclusiveConfig
from walle_control.db.files import FileStore
from walle_control.db.sql import Connection
from walle_control.db.store import Store
from walle_control.features.audit import log as audit
from walle_control.features.devices import read_model as devices
from walle_control.features.exclusive import store
from walle_control.features.exclusive.types import (
    GiveRequest,
    GiveResult,
    OwnFile,
    OwnFileList,
    StoredManifest,
    TakeRequest,
)
from walle_control.features.exclusive.urls import check_url, sign_url
from walle_control.features.trust.book import TrustBook
from walle_shared.clock import Clock
from walle_shared.errors import ConfigError, Conflict, LimitExceeded, NotAllowed, NotFound
from walle_shared.exclusive import EXCLUSIVE_KIND, ExclusiveFile, ExclusiveManifest
from walle_shared.ids import DeviceId, ScenarioName, TaskName, check_name
from walle_shared.limits import EXCLUSIVE_FILE_MAX_BYTES, EXCLUSIVE_MAX_FILES
from walle_shared.manifest import check_bundle_path
from walle_shared.protocol.messages import ExclusiveOffer
from walle_shared.sealing import OVERHEAD_BYTES, Purpose, seal, wrap
from walle_shared.signing import VerifyKey, file_ref
from walle_shared.targeting.policy import TaskKey
from walle_shared.trust.roles import EXCLUSIVE

#: What one JSON request may have, a file in base64 and ids of devices besides.
GIVE_MAX_BYTES = EXCLUSIVE_FILE_MAX_BYTES // 3 * 4 + (4 << 20)


class ExclusiveService:
    """Knows which device has which files of its own.

    Args:
        data: database, folders and keys.
        clock: stamps and expiries.
        config: lifetimes.
        trust: signs manifests.
    """

    def __init__(self, data: Store, clock: Clock, config: ExclusiveConfig, trust: TrustBook) -> None:
        self._data = data
        self._clock = clock
        self._config = config
        self._trust = trust
        self._files = FileStore(data.home.exclusive)
        self._lock = trio.Lock()  # between a sealed file and the rows that name it

    async def give(self, scenario: str, task: str, request: GiveRequest, actor: str) -> GiveResult:
        """Seal a file to devices.

        Raises:
            ConfigError: a name, the path or the content is wrong.
            LimitExceeded: the file is too large, or a device has too many.
        """
        key = _key(scenario, task)
        check_bundle_path(request.path)
        plain = _decode(request.content)
        async with self._lock:
            before = await self._data.database.read(lambda db: store.sealed_by_path(db, key, request.path))
            content_key, sealed = await trio.to_thread.run_sync(seal, plain)
            ref = await trio.to_thread.run_sync(self._files.put, "blob", sealed)
            plain_ref = file_ref(plain)

            def job(db: Connection) -> GiveResult:
                given, unknown = 0, list[DeviceId]()
                for device_id in dict.fromkeys(request.devices):
                    public = devices.public_key_of(db, device_id)
                    if public is None:
                        unknown.append(device_id)
                        continue
                    counter = self._next_counter(db, device_id, key)
                    self._check_room(db, device_id, key, request.path)
                    purpose = Purpose(device_id, key[0], key[1], request.path, counter, plain_ref.sha256)
                    file = OwnFile(
                        device_id,
                        request.path,
                        counter,
                        ref,
                        plain_ref,
                        wrap(content_key, public, purpose),
                        VerifyKey.from_hex(public).keyid,
                        self._clock.wall_ms(),
                    )
                    store.put_file(db, key, file)
                    given += 1
                self._audit(db, actor, "exclusive.give", key, request.path, given)
                return GiveResult(given, tuple(unknown))

            try:
                return await self._data.database.write(job)
            finally:
                await self._forget_unused({*before, ref.sha256})

    async def take(self, scenario: str, task: str, request: TakeRequest, actor: str) -> GiveResult:
        """Take a file away from devices; each deletes it when it next asks."""
        key = _key(scenario, task)
        async with self._lock:
            before = await self._data.database.read(lambda db: store.sealed_by_path(db, key, request.path))

            def job(db: Connection) -> GiveResult:
                unknown = [
                    device_id
                    for device_id in dict.fromkeys(request.devices)
                    if not store.delete_file(db, device_id, key, request.path)
                ]
                taken = [
                    device_id for device_id in dict.fromkeys(request.devices) if device_id not in set(unknown)
                ]
                for device_id in taken:
                    self._next_counter(db, device_id, key)
                self._audit(db, actor, "exclusive.take", key, request.path, len(taken))
                return GiveResult(len(taken), tuple(unknown))

            result = await self._data.database.write(job)
            await self._forget_unused(before)
        return result

    async def keep_sealed(
        self, device_id: DeviceId, key: TaskKey, sealed: bytes, file: ExclusiveFile, counter: int
    ) -> None:
        """Keep a file that a device sealed to itself, in place of one of that name.

        Args:
            device_id: the device.
            key: the task.
            sealed: the file.
            file: its path, what it opens to and to whose key it is sealed, and in ``extra`` its wrapped key.
            counter: what the key is wrapped for; no higher than that of the device's manifest.

        Raises:
            NotFound: there is no such device, or it has another key.
            LimitExceeded: the device has too many files.
            Conflict: the counter is ahead of the device's.
        """
        async with self._lock:
            before = await self._data.database.read(lambda db: store.sealed_by_path(db, key, file.path))
            ref = await trio.to_thread.run_sync(self._files.put, "blob", sealed)

            def job(db: Connection) -> None:
                public = devices.public_key_of(db, device_id)
                if public is None or VerifyKey.from_hex(public).keyid != file.sealed_to:
                    raise NotFound(
                        f"no device {device_id} has the key that its file is sealed to: seal it anew for"
                        " the key it has"
                    )
                if (file.path, ref) in {
                    (each.path, each.sealed) for each in store.files_of(db, device_id, key)
                }:
                    return
                self._check_room(db, device_id, key, file.path)
                if counter > self._next_counter(db, device_id, key):
                    raise Conflict(
                        f"the file of device {device_id} is sealed for a counter that is to come: seal it"
                        " anew"
                    )
                now_ms, wrapped = self._clock.wall_ms(), str(file.extra["key"])
                store.put_file(
                    db,
                    key,
                    OwnFile(device_id, file.path, counter, ref, file.plain, wrapped, file.sealed_to, now_ms),
                )

            try:
                await self._data.database.write(job)
            finally:
                await self._forget_unused({*before, ref.sha256})

    async def page(self, scenario: str, task: str, after: str, limit: int) -> OwnFileList:
        """Which devices have which files for a task."""
        key = _key(scenario, task)
        files = await self._data.database.read(lambda db: store.list_files(db, key, after, limit))
        full = len({file.device_id for file in files}) == limit
        return OwnFileList(tuple(files), files[-1].device_id if files and full else "")

    async def offer(self, device_id: DeviceId, scenario: str, task: str) -> ExclusiveOffer:
        """What a device has for a task, signed, and where to fetch it.

        Raises:
            NotFound: it never had anything.
        """
        key = _key(scenario, task)
        now_ms = self._clock.wall_ms()

        def look(db: Connection) -> tuple[StoredManifest | None, list[OwnFile], bool]:
            stored, files = self._state(db, device_id, key)
            return stored, files, stored is not None and self._holds(db, stored, now_ms)

        stored, files, holds = await self._data.database.read(look)
        if stored is None:
            raise NotFound(
                f"device {device_id} has no files of its own for {scenario}/{task}; see 'walle-control"
                " exclusive list'"
            )
        if not holds:
            signed, files = await self._data.database.write(lambda db: self._sign_anew(db, device_id, key))
            stored = signed
        expires_ms = now_ms + round(self._config.url_s * 1_000)
        secret = self._data.credential_key
        sealed = {str(file.sealed.sha256) for file in files}
        urls = {sha256: sign_url(secret, sha256, device_id, expires_ms) for sha256 in sealed}
        return ExclusiveOffer(stored.envelope, urls)

    async def open(self, sha256: str, device_id: str, expires: str, mac: str) -> Path:
        """The sealed file behind a URL.

        Raises:
            NotAllowed: the URL does not hold, or the file was taken away since.
        """
        device = check_url(self._data.credential_key, sha256, device_id, expires, mac, self._clock.wall_ms())
        if not await self._data.database.read(lambda db: store.has_file(db, device, sha256)):
            raise NotAllowed("this sealed file is no longer for this device: ask for the manifest again")
        return self._files.path("blob", sha256)

    def _state(
        self, db: Connection, device_id: DeviceId, key: TaskKey
    ) -> tuple[StoredManifest | None, list[OwnFile]]:
        return store.find_manifest(db, device_id, key), store.files_of(db, device_id, key)

    def _holds(self, db: Connection, stored: StoredManifest, now_ms: int) -> bool:
        """Whether a manifest may be told as it is: signed, by today's keys, with half of its life left."""
        if not stored.envelope or now_ms - stored.signed_ms >= self._config.lifetime_s * 500:
            return False
        return self._trust.is_signed_now(db, EXCLUSIVE, stored.envelope.encode())

    def _sign_anew(
        self, db: Connection, device_id: DeviceId, key: TaskKey
    ) -> tuple[StoredManifest, list[OwnFile]]:
        """Sign what a device has; under a higher counter, if the present one was signed before."""
        stored, files = self._state(db, device_id, key)
        counter = 1 if stored is None else stored.counter + bool(stored.envelope)
        now_ms = self._clock.wall_ms()
        manifest = ExclusiveManifest(
            device_id,
            key[0],
            key[1],
            counter,
            now_ms,
            now_ms + round(self._config.lifetime_s * 1_000),
            tuple(_public(file) for file in files),
        )
        fresh = StoredManifest(
            counter, self._trust.sign(db, EXCLUSIVE, EXCLUSIVE_KIND, manifest).decode(), now_ms
        )
        store.set_manifest(db, device_id, key, fresh)
        return fresh, files

    def _next_counter(self, db: Connection, device_id: DeviceId, key: TaskKey) -> int:
        stored = store.find_manifest(db, device_id, key)
        counter = stored.counter + 1 if stored is not None else 1
        store.set_manifest(db, device_id, key, StoredManifest(counter, "", 0))
        return counter

    def _check_room(self, db: Connection, device_id: DeviceId, key: TaskKey, path: str) -> None:
        others = [file for file in store.files_of(db, device_id, key) if file.path != path]
        if len(others) >= EXCLUSIVE_MAX_FILES:
            raise LimitExceeded(
                f"device {device_id} has {len(others)} files for {key[1]} already: take one away"
            )

    def _audit(self, db: Connection, actor: str, action: str, key: TaskKey, path: str, count: int) -> None:
        audit.record(
            db, self._clock.wall_ms(), actor, action, "/".join(key), {"path": path, "devices": count}
        )

    async def _forget_unused(self, sealed: Iterable[str]) -> None:
        for sha256 in sealed:
            if not await self._data.database.read(lambda db, s=sha256: store.is_used(db, s)):  # type: ignore[misc]
                path = self._files.root / "blob" / sha256
                await trio.to_thread.run_sync(lambda p=path: p.unlink(missing_ok=True))  # type: ignore[misc]


def _public(file: OwnFile) -> ExclusiveFile:
    return ExclusiveFile(
        file.path, file.sealed, file.plain, file.sealed_to, {"key": file.wrapped, "counter": file.counter}
    )


def _key(scenario: str, task: str) -> TaskKey:
    return ScenarioName(check_name(scenario, "scenario")), TaskName(check_name(task, "task"))


def _decode(content: str) -> bytes:
    try:
        plain = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        raise ConfigError("content must be base64") from None
    if len(plain) + OVERHEAD_BYTES > EXCLUSIVE_FILE_MAX_BYTES:
        raise LimitExceeded(f"the file has {len(plain)} bytes, over the limit of {EXCLUSIVE_FILE_MAX_BYTES}")
    return plain
