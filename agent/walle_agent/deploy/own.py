"""Files that this device alone has: asked for by itself, opened with the device's key, put beside the bundle.

::

    <data>/own/<scenario>/<task>/<counter>/...     what the newest manifest gave, decrypted
    <slot>/bundle/own -> .own-<counter>            a copy of it, for the version that runs

Rules:

1. A manifest is believed only after its signature and ``check_exclusive``; its counter is kept for good.
2. A file is used only if its key unwraps for this device, task, path and counter, and if it has the digest
   that the manifest promises; all files of a manifest change together, by the rename of one link.
3. The counter becomes fact (state file) after the files are durable: a crash in between fetches them again.
4. A task sees only the files that its ``task.toml`` names under ``[own]``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import trio

from walle_agent.deploy.download import ContentStore, Downloader
from walle_agent.link.exchange import retry_after_s
from walle_agent.link.session import Session
from walle_agent.state.files import sync_folder
from walle_agent.state.keeper import StateKeeper
from walle_agent.state.store import DeviceState, OwnRecord, StateStore
from walle_agent.tasks.registry import InstalledTask, TaskRegistry
from walle_shared.backoff import Backoff
from walle_shared.errors import LengthOrHashError, NotFound, SignatureError, StorageError, WalleError
from walle_shared.exclusive import ExclusiveFile, ExclusiveFloor, ExclusiveManifest, check_exclusive
from walle_shared.ids import DeviceId, Sha256
from walle_shared.limits import EXCLUSIVE_MAX_BYTES
from walle_shared.manifest import OWN_FOLDER
from walle_shared.observe import get_logger
from walle_shared.protocol.messages import ExclusiveOffer
from walle_shared.sealing import Purpose, unseal, unwrap
from walle_shared.signing import check_file, sha256_hex
from walle_shared.targeting.policy import TaskKey
from walle_shared.tracing import enter_trace, new_trace

_log = get_logger("agent.deploy")

#: Checks the signature of an envelope; what it holds.
OpenManifest = Callable[[bytes], Awaitable[ExclusiveManifest]]


@dataclass(frozen=True, slots=True)
class OwnLinks:
    """Where this device's own files come from and go to, besides the services that carry them."""

    folder: Path
    open_manifest: OpenManifest
    now_ms: Callable[[], Awaitable[int]]


class OwnFiles:
    """Keeps the device's own files of active tasks up to date.

    Args:
        session: asks as this device.
        store: has the device's key.
        keeper: remembers counters.
        registry: the active tasks.
        content: sealed files on their way, and nothing else.
        downloader: fetches them into it.
        links: folder, signature check and time.
        poll_s: mean time between two asks.
        backoff: makes the waits after failures.
    """

    def __init__(
        self,
        session: Session,
        store: StateStore,
        keeper: StateKeeper,
        registry: TaskRegistry,
        content: ContentStore,
        downloader: Downloader,
        links: OwnLinks,
        *,
        poll_s: float,
        backoff: Callable[[], Backoff] = Backoff,
    ) -> None:
        self._session = session
        self._store = store
        self._keeper = keeper
        self._registry = registry
        self._content = content
        self._downloader = downloader
        self._links = links
        self._poll_s = poll_s
        self._backoff = backoff
        self._poked = trio.Event()

    async def run(self) -> NoReturn:
        """Ask for ever: for every active task that has such files, after every change of what is active."""
        backoff = self._backoff()
        while True:
            enter_trace(new_trace())
            self._poked = trio.Event()
            wait_s = self._poll_s
            for task in self._registry.tasks():
                if not task.definition.own.files:
                    continue
                try:
                    await self.refresh(task)
                    backoff.reset()
                except WalleError as error:
                    wait_s = backoff.next_delay_s(retry_after_s(error))
                    _log.warning("own_files_delayed", task=task.key[1], code=error.code, error=str(error))
            await self._forget_removed()
            with trio.move_on_after(wait_s):
                await self._poked.wait()

    def poke(self) -> None:
        """Another version is active: ask soon."""
        self._poked.set()

    async def refresh(self, task: InstalledTask) -> None:
        """Ask for what the device has for a task, and take over what is new.

        Raises:
            TrustError: what came is not for this device, or goes back, or does not open.
            WalleError: transport, protocol or storage, by type.
        """
        scenario, name = task.key
        try:
            offer = await self._session.get(
                f"exclusive/{scenario}/{name}", ExclusiveOffer, limit_bytes=2 * EXCLUSIVE_MAX_BYTES
            )
        except NotFound:
            return  # nobody has given it anything yet
        device_id = self._session.device_id
        if device_id is None:
            return
        manifest, envelope = await self._check(device_id, task.key, offer.envelope.encode())
        known = self._keeper.state.own_record(task.key)
        if known.envelope != envelope or not self.place_of(task.key, manifest.counter).is_dir():
            await self._take_over(task, manifest, offer)
            await self._keeper.update(
                lambda state: _remember(state, OwnRecord(scenario, name, manifest.counter, envelope))
            )
            _log.info("own_files_taken", task=name, counter=manifest.counter, files=len(manifest.files))
        await trio.to_thread.run_sync(self.place, task)
        await self._drop_older(task.key, manifest.counter)

    def place_of(self, key: TaskKey, counter: int) -> Path:
        """Where the files of a manifest lie."""
        return self._links.folder / key[0] / key[1] / str(counter)

    def place(self, task: InstalledTask) -> None:
        """Put the newest files beside a bundle, if that is not done yet. Blocks.

        Raises:
            StorageError: the disk refused.
        """
        counter = self._keeper.state.own_record(task.key).counter
        source = self.place_of(task.key, counter)
        wanted = [name for name in task.definition.own.files if (source / name).is_file()]
        link, target = task.bundle_dir / OWN_FOLDER, task.bundle_dir / f".own-{counter}"
        if not counter or (link.is_symlink() and link.readlink().name == target.name and target.is_dir()):
            return
        try:
            shutil.rmtree(target, ignore_errors=True)
            _copy(source, target, wanted)
            fresh = link.with_name(".own.new")
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(target.name)
            fresh.replace(link)
            sync_folder(task.bundle_dir)
            if not self._registry.is_in_use(task.bundle_dir):
                for old in task.bundle_dir.glob(".own-*"):
                    if old != target:
                        shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            raise StorageError(f"{target}: cannot be written: {error.strerror or error}") from error

    async def _check(
        self, device_id: DeviceId, key: TaskKey, data: bytes
    ) -> tuple[ExclusiveManifest, Sha256]:
        envelope = sha256_hex(data)
        known = self._keeper.state.own_record(key)
        manifest = check_exclusive(
            await self._links.open_manifest(data),
            envelope,
            device_id=device_id,
            scenario=key[0],
            task=key[1],
            floor=ExclusiveFloor(known.counter, known.envelope),
            now_ms=await self._links.now_ms(),
        )
        return manifest, envelope

    async def _take_over(
        self, task: InstalledTask, manifest: ExclusiveManifest, offer: ExclusiveOffer
    ) -> None:
        """Fetch, open and check every file; all or none of them."""
        place = self.place_of(task.key, manifest.counter)
        building = place.with_name(place.name + ".new")
        await trio.to_thread.run_sync(lambda: shutil.rmtree(building, ignore_errors=True))
        for file in manifest.files:
            await self._downloader.fetch(file.sealed, "sealed", url=_path_of(offer, file))
            try:
                await trio.to_thread.run_sync(self._open, task.key, manifest, file, building)
            finally:
                await trio.to_thread.run_sync(self._content.drop, file.sealed.sha256)
        await trio.to_thread.run_sync(self._content.keep_only, ())
        await trio.to_thread.run_sync(_settle, building, place)

    def _open(self, key: TaskKey, manifest: ExclusiveManifest, file: ExclusiveFile, building: Path) -> None:
        identity = self._store.identity
        counter, wrapped = file.extra.get("counter"), file.extra.get("key")
        if identity is None or not isinstance(wrapped, str) or not isinstance(counter, int):
            raise SignatureError(f"exclusive file {file.path[:80]} comes without a key")
        if counter > manifest.counter:
            raise SignatureError(f"exclusive file {file.path[:80]} is of counter {counter}, which is to come")
        purpose = Purpose(manifest.device_id, key[0], key[1], file.path, counter, file.plain.sha256)
        content_key = unwrap(wrapped, identity.key_hex, purpose)
        plain = unseal(self._content.path(file.sealed.sha256).read_bytes(), content_key)
        _write(building / file.path, check_file(plain, file.plain, f"exclusive file {file.path}"))

    async def _drop_older(self, key: TaskKey, counter: int) -> None:
        folder = self._links.folder / key[0] / key[1]

        def drop() -> None:
            for old in folder.iterdir() if folder.is_dir() else ():
                if old.name != str(counter):
                    shutil.rmtree(old, ignore_errors=True)

        await trio.to_thread.run_sync(drop)

    async def _forget_removed(self) -> None:
        """Delete the files of tasks that are not active any more; their counters stay."""
        active = {task.key for task in self._registry.tasks()}

        def forget() -> None:
            for folder in self._links.folder.glob("*/*"):
                if (folder.parent.name, folder.name) not in active:
                    shutil.rmtree(folder, ignore_errors=True)

        await trio.to_thread.run_sync(forget)


def _remember(state: DeviceState, record: OwnRecord) -> DeviceState:
    others = tuple(other for other in state.own if other.key != record.key)
    return replace(state, own=(*others, record))


def _path_of(offer: ExclusiveOffer, file: ExclusiveFile) -> str:
    path = offer.urls.get(file.sealed.sha256, "")
    if not path.startswith("/") or path.startswith("//"):
        raise LengthOrHashError(f"exclusive file {file.path[:80]} is offered without a path on this server")
    return path


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from error


def _settle(building: Path, place: Path) -> None:
    """Make what was built durable, under its name."""
    try:
        building.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder, _, _ in os.walk(building, topdown=False):
            sync_folder(Path(folder))
        shutil.rmtree(place, ignore_errors=True)
        building.rename(place)
        for parent in (place.parent, place.parent.parent, place.parent.parent.parent):
            sync_folder(parent)
    except OSError as error:
        raise StorageError(f"{place}: cannot be written: {error.strerror or error}") from error


def _copy(source: Path, target: Path, names: Iterable[str]) -> None:
    target.mkdir(mode=0o700)
    for name in names:
        _write(target / name, (source / name).read_bytes())
    for folder, _, _ in os.walk(target, topdown=False):
        sync_folder(Path(folder))
