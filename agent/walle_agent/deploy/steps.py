"""The steps of a deployment, carried out. Each is safe to be cut off at any point and begun again.

Order within an installation, and why::

    begin      the slot counts as rubbish from here on            (state)
    approval   the trust metadata lists this manifest as this task version
    manifest   of the wanted task and version
    budget     is this a network, and a day, to fetch so much?
    files      each the cheapest way, by digest, into the content store
    unused     the last run that reads the old files of this slot has ended
    unpack     copied beside the slot, synced, renamed in, every file hashed again
    health     the scripts compile, the entry is there
    complete   now, and not before, the slot counts as good       (state)
    confirm    the epoch is still the newest, and still wants this; the version is still approved
    switch     one write makes it active and keeps the other      (state)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from time import perf_counter

import trio

from walle_agent.deploy import changes
from walle_agent.deploy.budget import Budget
from walle_agent.deploy.deltas import Way, Ways
from walle_agent.deploy.download import ContentStore
from walle_agent.deploy.planner import Install, Rebind, Remove, Switch
from walle_agent.deploy.slots import SlotFolders, check_entry
from walle_agent.deploy.verify import open_manifest, read_manifest
from walle_agent.link.transport import Transport
from walle_agent.state.keeper import StateKeeper
from walle_agent.state.machine import COMPLETE
from walle_agent.state.store import SLOT_NAMES, SlotName
from walle_agent.tasks.registry import InstalledTask, TaskRegistry
from walle_shared.errors import Conflict, LengthOrHashError, WalleError
from walle_shared.ids import Sha256
from walle_shared.limits import MANIFEST_MAX_BYTES
from walle_shared.manifest import Manifest
from walle_shared.observe import get_logger
from walle_shared.protocol.messages import FileRef
from walle_shared.signing import sha256_hex
from walle_shared.targeting.policy import TaskKey, Wanted

_log = get_logger("agent.deploy")

#: Called after each boundary with its name; tests die there.
StepHook = Callable[[str], None]


async def _nothing(_task: InstalledTask) -> None:
    pass


class Steps:
    """Carries out single steps against disk, network and registry.

    Args:
        budget: what downloads may take now.
        confirm: re-reads the epoch and decides again; whether this is still wanted, now.
        approve: raises unless the trust metadata approves what a release names.
        still: whether the newest decision, made by whomever meanwhile, wants this; asks nobody.
        place_own: puts the device's own files beside a bundle that has such.
        on_boundary: told of every boundary passed.
    """

    def __init__(
        self,
        *,
        keeper: StateKeeper,
        folders: SlotFolders,
        content: ContentStore,
        ways: Ways,
        transport: Transport,
        registry: TaskRegistry,
        budget: Budget,
        confirm: Callable[[Wanted], Awaitable[bool]],
        approve: Callable[[Wanted], Awaitable[None]],
        still: Callable[[Wanted], bool],
        place_own: Callable[[InstalledTask], Awaitable[None]] = _nothing,
        on_boundary: StepHook = lambda _: None,
    ) -> None:
        self._keeper = keeper
        self._folders = folders
        self._content = content
        self._ways = ways
        self._transport = transport
        self._registry = registry
        self._budget = budget
        self._confirm = confirm
        self._approve = approve
        self._still = still
        self._place_own = place_own
        self._passed = on_boundary

    async def remove(self, step: Remove) -> None:
        """Stop a task and empty its slots."""
        await self._registry.deactivate(step.key)
        await self._keeper.update(lambda state: changes.remove(state, step.key))
        self._passed("removed")
        for name in SLOT_NAMES:
            await self._registry.wait_unused(self._folders.bundle_dir(step.key, name))
        await trio.to_thread.run_sync(self._folders.clear, step.key)
        self._passed("cleared")

    async def rebind(self, step: Rebind) -> None:
        """Run the same files under another release.

        Raises:
            Conflict: its places are all taken.
            TransportError: the control plane, which counts them, is away.
        """
        if step.wanted.capped and not await self._confirm(step.wanted):
            raise Conflict("something else is wanted by now: plan again")
        await self._keeper.update(lambda state: changes.rebind(state, step.key, step.slot, step.wanted))
        await self.publish(step.key)

    async def install(self, step: Install) -> int:
        """Fetch, check and unpack; the bytes that travelled.

        Raises:
            WalleError: by type, what went wrong; the slot is empty again.
        """
        await self._keeper.update(lambda state: changes.begin(state, step))
        self._passed("begun")
        try:
            received = await self._fill(step)
        except Exception:  # whatever it was, the slot must not stay half filled; the error goes on up
            await self._keeper.update(lambda state: changes.abandon(state, step.key, step.slot))
            raise
        await self._keeper.update(lambda state: changes.complete(state, step.key, step.slot))
        self._passed("completed")
        return received

    async def switch(self, step: Switch) -> None:
        """Make a complete slot the active one.

        Raises:
            Conflict: the epoch or the slot has changed since the plan was made.
            UnapprovedError: the version is approved no more.
            TransportError: the epoch could not be confirmed; nothing was switched.
        """
        if not await self._confirm(step.wanted):
            raise Conflict("something else is wanted by now: plan again")
        await self._approve(step.wanted)
        if not self._still(step.wanted):  # approvals may have come over a slow network
            raise Conflict("something else is wanted by now: plan again")
        self._passed("confirmed")
        await self._keeper.update(lambda state: changes.switch(state, step))
        self._passed("switched")
        await self.publish(step.key)
        self._passed("published")

    async def publish(self, key: TaskKey) -> None:
        """Bring the registry in step with the state file: what is active there may run, nothing else.

        Raises:
            StorageError: the slot's manifest cannot be read.
            TrustError: it is not the one that was installed.
        """
        record = self._keeper.state.record(key)
        name = record.active
        if name is None:
            await self._registry.deactivate(key)
            return
        slot = record.slot(name)
        manifest = await trio.to_thread.run_sync(self._slot_manifest, key, name)
        task = InstalledTask(
            key,
            slot.version,
            slot.release_id,
            slot.manifest,
            self._folders.bundle_dir(key, name),
            manifest.definition,
        )
        if manifest.definition.own.files:
            await self._place_own(task)
        await self._registry.activate(task)

    async def check_slot(self, key: TaskKey, slot: SlotName) -> None:
        """Check a slot's manifest and every file in it.

        Raises:
            WalleError: it is not what was installed.
        """
        manifest = await trio.to_thread.run_sync(self._slot_manifest, key, slot)
        await trio.to_thread.run_sync(self._folders.check, key, slot, manifest)

    async def collect_garbage(self, also: Iterable[Sha256] = ()) -> None:
        """Delete files of the content store that no slot needs, and that are not in ``also``.

        Nothing is deleted while a slot's manifest cannot be read: what it names is not known.

        Raises:
            StorageError: the disk refused.
        """
        needed = set(also)
        for key, name in self._complete_slots():
            try:
                manifest = await trio.to_thread.run_sync(self._slot_manifest, key, name)
            except WalleError as error:
                _log.warning("blobs_kept", task=key[1], slot=name, error=str(error))
                return
            needed.update(file.sha256 for file in manifest.files)
        deleted = await trio.to_thread.run_sync(self._content.keep_only, needed)
        if deleted:
            _log.debug("blobs_deleted", count=deleted)

    async def sweep(self) -> None:
        """Delete the folders of slots that count as empty, which a crash has left; before anything runs.

        Raises:
            StorageError: the disk refused.
        """
        keep = {self._folders.path(key, name) for key, name in self._complete_slots()}
        deleted = await trio.to_thread.run_sync(self._folders.sweep, keep)
        if deleted:
            _log.info("slots_swept", count=deleted)

    def _complete_slots(self) -> list[tuple[TaskKey, SlotName]]:
        return [
            (record.key, name)
            for record in self._keeper.state.tasks
            for name in SLOT_NAMES
            if record.slot(name).state in COMPLETE
        ]

    async def _fill(self, step: Install) -> int:
        started = perf_counter()
        wanted = step.wanted
        await self._approve(wanted)
        encoded = await self._transport.get_file("manifest", wanted.manifest, limit_bytes=MANIFEST_MAX_BYTES)
        manifest = open_manifest(encoded, wanted)
        self._passed("manifest_verified")
        received = len(encoded) + await self._fetch(wanted, manifest)
        _log.info(
            "files_pulled",
            release_id=wanted.release_id,
            task=wanted.task,
            version=wanted.version,
            files=len(manifest.files),
            received_bytes=received,
            duration_ms=round((perf_counter() - started) * 1e3, 1),
        )
        await self._registry.wait_unused(self._folders.bundle_dir(step.key, step.slot))
        await trio.to_thread.run_sync(self._unpack, step, encoded, manifest)
        self._passed("unpacked")
        await self._registry.prepare(step.key, manifest.definition)
        return received

    async def _fetch(self, wanted: Wanted, manifest: Manifest) -> int:
        """Bring every file into the content store; the bytes that travelled."""
        what = f"{wanted.task} {wanted.version}"
        refs = [FileRef(file.sha256, file.size_bytes) for file in manifest.files]
        ways = await self._ways.find(wanted, refs)
        cost_bytes = sum(way.cost_bytes for way in ways)
        self._budget.check_install(cost_bytes, manifest.definition.download.metered, what)
        await self._make_room(ways, refs)
        received = 0
        for way in ways:
            if way.cost_bytes:
                self._budget.check_day(what)
            received += await self._ways.go(way)
            self._passed("file_fetched")
        return received

    async def _make_room(self, ways: list[Way], refs: list[FileRef]) -> None:
        """Where the disk is short, free what nothing needs; whether that suffices, writing will tell."""
        unpacked_bytes = sum(ref.size_bytes for ref in refs)
        stored_bytes = sum(way.cost_bytes + (way.ref.size_bytes if way.delta else 0) for way in ways)
        if await trio.to_thread.run_sync(self._content.free_bytes) < stored_bytes + unpacked_bytes:
            deltas = (way.delta.file for way in ways if way.delta is not None)
            await self.collect_garbage(also=(ref.sha256 for ref in (*refs, *deltas)))

    def _unpack(self, step: Install, encoded: bytes, manifest: Manifest) -> None:
        bundle = self._folders.fill(step.key, step.slot, encoded, manifest)
        try:
            self._folders.check(step.key, step.slot, manifest)
        except LengthOrHashError:
            self._content.keep_only(())  # a stored file has gone bad: fetch anew
            raise
        check_entry(bundle, manifest)

    def _slot_manifest(self, key: TaskKey, slot: SlotName) -> Manifest:
        encoded = self._folders.read_manifest(key, slot)
        expected = self._keeper.state.record(key).slot(slot).manifest
        if sha256_hex(encoded) != expected:
            raise LengthOrHashError(f"the manifest in slot {slot} of {key[1]} is not the one installed")
        return read_manifest(encoded)
