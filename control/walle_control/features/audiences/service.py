"""Manages audiences; every change is one transaction and one new epoch."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import trio

from walle_control.db.connection import Database
from walle_control.db.files import FileStore
from walle_control.db.sql import Connection
from walle_control.features.audiences import read_model, store
from walle_control.features.audiences.answers import applies
from walle_control.features.audiences.types import (
    AttributeList,
    Estimate,
    EstimateRequest,
    HoldoutList,
    HoldoutWish,
    SaidAttributes,
    SegmentList,
    SegmentWish,
    SetList,
    Whom,
)
from walle_control.features.audit import log as audit
from walle_control.features.devices import read_model as devices
from walle_control.percent import share_of
from walle_shared.clock import Clock
from walle_shared.errors import ConfigError, NotFound
from walle_shared.ids import DeviceId, check_name
from walle_shared.protocol.messages import FileRef
from walle_shared.signing import file_ref
from walle_shared.targeting import SHARE_ONE, Holdout, IdSet, Segment, idset
from walle_shared.targeting.attributes import Attribute

#: An estimate asks so many devices: its error is at most 3 percentage points.
_SAMPLE: Final = 1_000


class PolicyControl(Protocol):
    """What makes epochs."""

    async def change(self, actor: str, reason: str, change: Callable[[Connection], None]) -> int:
        """Run ``change`` and make the epoch that follows from it, in one transaction."""
        ...


class AudiencesService:
    """Knows whom releases can be for."""

    def __init__(self, database: Database, files: FileStore, clock: Clock, policy: PolicyControl) -> None:
        self._database = database
        self._files = files
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

        def change(db: Connection) -> None:
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

        def change(db: Connection) -> None:
            if not store.delete_holdout(db, name):
                raise NotFound(f"no holdout {name!r}; see 'walle-control holdout list'")
            audit.record(db, self._clock.wall_ms(), actor, "holdout.end", name)

        await self._policy.change(actor, f"end of holdout {name}", change)
        return await self.holdouts()

    async def estimate(self, wish: EstimateRequest) -> Estimate:
        """On how many devices a predicate would be true, by a sample of them.

        Raises:
            PredicateError: it cannot be read, or asks for what is not there.
        """

        def read(db: Connection) -> Estimate:
            known = read_model.audiences(db)
            predicate = known.check(wish.predicate, optional=wish.optional)
            sample = devices.sample(db, _SAMPLE)
            matching = sum(
                applies(db, self._files, known, predicate, device_id, profile)
                for device_id, profile in sample
            )
            total = devices.count(db) if len(sample) == _SAMPLE else len(sample)
            return Estimate(total, len(sample), matching)

        return await self._database.read(read)

    async def applies(self, text: str, device_id: DeviceId) -> bool:
        """Whether a predicate matches a device, with all that the server knows of it.

        Raises:
            PredicateError: it cannot be read, or refers to what is not there.
            NotFound: no such device.
        """

        def read(db: Connection) -> bool:
            known = read_model.audiences(db)
            profile = devices.profile_of(db, device_id)
            return applies(db, self._files, known, known.parse(text), device_id, profile)

        return await self._database.read(read)

    async def segments(self) -> SegmentList:
        """All versions of all segments."""
        return SegmentList(tuple(await self._database.read(store.segments)))

    async def set_segment(self, wish: SegmentWish, actor: str) -> SegmentList:
        """Add a segment, or its next version, which every release that does not pin another now follows.

        Raises:
            ConfigError: the name is none, or the predicate; or a live release could not follow it.
        """
        check_name(wish.name, "segment")

        def change(db: Connection) -> None:
            now_ms, known = self._clock.wall_ms(), read_model.audiences(db)
            before = known.segments.get(wish.name)
            segment = Segment(wish.name, before.version + 1 if before else 1, wish.predicate)
            store.insert_segment(db, segment, now_ms)
            after = read_model.audiences(db)
            after.parse(f'segment("{wish.name}")')  # finds those that contain themselves
            after.check(wish.predicate, optional=wish.optional)
            detail = {"version": segment.version, "predicate": wish.predicate}
            audit.record(db, now_ms, actor, "segment.set", wish.name, detail)

        await self._policy.change(actor, f"segment {wish.name}", change)
        return await self.segments()

    async def sets(self) -> SetList:
        """All versions of all sets of ids."""
        return SetList(tuple(await self._database.read(store.sets)))

    async def put_set(self, name: str, members: Iterable[str], actor: str) -> SetList:
        """Add a set of ids, or its next version, which every release that does not pin another now follows.

        Raises:
            ConfigError: the name is none.
            LimitExceeded: there are too many ids.
            StorageError: the disk is full.
        """
        check_name(name, "set")
        salt = secrets.token_hex(16)
        count, index = await trio.to_thread.run_sync(self._store_set, members, salt)

        def change(db: Connection) -> None:
            now_ms, before = self._clock.wall_ms(), read_model.audiences(db).sets.get(name)
            made = IdSet(name, before.version + 1 if before else 1, count, salt, index)
            store.insert_set(db, made, now_ms)
            audit.record(db, now_ms, actor, "set.put", name, {"version": made.version, "count": count})

        await self._policy.change(actor, f"set {name}", change)
        return await self.sets()

    async def attributes(self) -> AttributeList:
        """All declared attributes."""
        return AttributeList(tuple(await self._database.read(store.attributes)))

    async def declare(self, attribute: Attribute, actor: str) -> AttributeList:
        """Declare an attribute. Where its values come from decides where predicates that ask for it are.

        Raises:
            ConfigError: its name, kind and side do not go together.
        """
        attribute.checked()

        def change(db: Connection) -> None:
            store.put_attribute(db, attribute)
            detail = {"kind": attribute.kind, "side": attribute.side}
            audit.record(db, self._clock.wall_ms(), actor, "attribute.declare", attribute.name, detail)

        await self._policy.change(actor, f"attribute {attribute.name}", change)
        return await self.attributes()

    async def said_of(self, whom: Whom, subject: str) -> SaidAttributes:
        """What operators say of a device or a user."""
        return SaidAttributes(await self._database.read(lambda db: store.said_of(db, whom, subject)))

    async def describe(self, whom: Whom, subject: str, wish: SaidAttributes, actor: str) -> SaidAttributes:
        """Say something of a device or a user that only the server shall know.

        Devices hear of it when they next ask.

        Raises:
            NotFound: no such device.
            ConfigError: an attribute is not declared for the server, or a value is of another kind.
        """

        def work(db: Connection) -> None:
            if whom == "device":
                devices.profile_of(db, DeviceId(subject))
            declared = read_model.audiences(db).attributes
            for name, value in wish.values.items():
                attribute = declared.get(name)
                if attribute is None or attribute.side != "server":
                    raise ConfigError(f"attribute {name!r} must be declared first, with the side 'server'")
                store.say_of(db, whom, subject, name, attribute.check_value(value))
            names = {"names": sorted(wish.values)}  # the values are the device's or the user's own business
            audit.record(db, self._clock.wall_ms(), actor, f"{whom}.describe", subject, names)

        await self._database.write(work)
        return await self.said_of(whom, subject)

    def _store_set(self, members: Iterable[str], salt: str) -> tuple[int, FileRef]:
        count, shards = idset.build(members, salt)
        refs = [self._files.put("ids", shard) if shard else file_ref(shard) for shard in shards]
        return count, self._files.put("ids", idset.index_of(refs))
