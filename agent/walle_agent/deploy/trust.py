"""Keeps what this device believes about who may say what: ``walle_shared.trust.trusted`` over the network.

1. It is brought up to date before anything is judged by it: when it has expired, when an epoch names newer
   approvals than are known, or when a signature does not fit (keys may have been rotated since).
2. An update is believed as a whole or not at all; what fails leaves what was believed. Only a new root stands
   by itself: it was signed by the one before it.
3. It is kept in one file that is replaced atomically. Without it, the device starts again from the root its
   settings name.
4. An update ends, however slowly the peer sends: each file has its deadline (``link.transport``), and a peer
   without the keys cannot make it ask for more than one file that is not so.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import trio

from walle_agent.link.signed_clock import SignedClock
from walle_agent.link.transport import Transport
from walle_agent.state.keeper import StateKeeper
from walle_agent.state.store import CheckedFile
from walle_shared.errors import (
    RollbackError,
    SignatureError,
    StorageError,
    TrustError,
    UnapprovedError,
)
from walle_shared.limits import TIME_NONCE_CHARS, TUF_ROOT_MAX_BYTES
from walle_shared.observe import get_logger
from walle_shared.protocol.messages import EPOCH_KIND, EpochInfo
from walle_shared.signing import open_envelope
from walle_shared.targeting.policy import Wanted
from walle_shared.trust.roles import (
    POLICY,
    ROOT,
    TIME_KIND,
    TIMESTAMP,
    Pin,
    SignedTime,
    bundle_path,
    file_name,
    is_bundles,
)
from walle_shared.trust.trusted import (
    Ask,
    TrustedSet,
    check_root,
    follow_metadata,
    follow_role,
    follow_roots,
)

_log = get_logger("agent.trust")

TRUST_FILE = "trust.json"


@dataclass(frozen=True, slots=True)
class TrustRecord:
    """The metadata believed, as text by role, and the pin it all began with."""

    pin: str = ""
    files: Mapping[str, str] = field(default_factory=dict)


class TrustKeeper:
    """What this device believes.

    Args:
        transport: the way to the control plane.
        folder: the data folder.
        pin: the root that the settings name.
        keeper: keeps the floors of time and epoch.
        clock: told the server's time.
        on_corrupt: told of a file that had to be set aside.
        require_simulation: believe approvals only if they say that simulations were passed.
    """

    def __init__(
        self,
        transport: Transport,
        folder: Path,
        pin: Pin,
        keeper: StateKeeper,
        clock: SignedClock,
        *,
        on_corrupt: Callable[[StorageError], None],
        require_simulation: bool = False,
    ) -> None:
        self._transport = transport
        self._require_simulation = require_simulation
        self._pin = pin
        self._keeper = keeper
        self._clock = clock
        self._file = CheckedFile(folder / TRUST_FILE, TrustRecord, on_corrupt=on_corrupt)
        self._held: dict[str, bytes] = {}  # what was believed last, as it was read or came
        self._trusted: TrustedSet | None = None
        self._lock = trio.Lock()

    async def now_ms(self) -> int:
        """The server's time, asked for anew if it is not sure.

        Raises:
            TrustError: the answer cannot be trusted.
            TransportError: there is none.
        """
        if not self._clock.sure:
            await self._up_to_date()
        return self._clock.wall_ms()

    async def open_epoch(self, data: bytes) -> EpochInfo:
        """Verify and decode an epoch file.

        Raises:
            TrustError: it, or what it rests on, cannot be trusted.
            WalleError: transport or protocol, by type.
        """
        info = await self.open(EpochInfo, EPOCH_KIND, POLICY, data)
        trusted = await self._up_to_date()
        if trusted.version < info.approvals:
            trusted = await self.update()
        if trusted.version < info.approvals:
            raise RollbackError(
                f"epoch {info.epoch} rests on trust metadata {info.approvals}, {trusted.version} is offered"
            )
        return info

    async def open[T](self, cls: type[T], kind: str, role: str, data: bytes) -> T:
        """Verify and decode an envelope signed by a delegated role.

        Raises:
            TrustError: it, or what it rests on, cannot be trusted.
            WalleError: transport or protocol, by type.
        """
        trusted = await self._up_to_date()
        try:
            return open_envelope(cls, kind, data, trusted.signatures_of(role))
        except SignatureError:
            # Perhaps the role's keys are others by now.
            known = trusted.keyids_of(role)
            trusted = await self.update()
            if trusted.keyids_of(role) == known:
                raise
            return open_envelope(cls, kind, data, trusted.signatures_of(role))

    async def approve(self, wanted: Wanted) -> None:
        """Check that the control plane's targets approve what a policy wants.

        Raises:
            UnapprovedError: they do not, or not as one that passed its simulations, where that is required.
            WalleError: by type, why it cannot be known.
        """
        path = bundle_path(wanted.scenario, wanted.task, wanted.version)
        trusted = await self._up_to_date()
        async with self._lock:
            trusted = self._trusted or trusted  # another update may have come between: never keep the older
            if not trusted.has(trusted.bin_of(path)):
                trusted.judge_at(self._clock.wall_ms())
                await self._drive(follow_role(trusted, trusted.bin_of(path), self._held))
                await self._keep(trusted)
        mark = trusted.check_bundle(wanted.scenario, wanted.task, wanted.version, wanted.manifest)
        if self._require_simulation and (mark is None or mark.outcome == "failed"):
            raise UnapprovedError(
                f"{path.removeprefix('bundle/')} is not approved as one that passed its simulations, which"
                " deploy.require_simulation asks for: 'walle-control simulation run' says so"
            )

    async def policy_keys(self) -> tuple[str, ...]:
        """Who may sign epochs; a floor of epochs holds for as long as these are the same.

        Raises:
            WalleError: by type, why it cannot be known.
        """
        return (await self._up_to_date()).keyids_of(POLICY)

    async def update(self) -> TrustedSet:
        """Ask for everything anew.

        Raises:
            TrustError: by type, what was refused; what was believed before still is.
            TransportError: the control plane is away, or too slow.
        """
        async with self._lock:
            trusted = await self._start()
            await self._drive(follow_roots(trusted))
            if trusted.files[ROOT] != self._held[ROOT]:
                _log.info("root_followed", version=trusted.root_version)
                await self._keep(trusted)
            await self._ask_time(trusted)
            trusted.judge_at(self._clock.wall_ms())
            await self._drive(follow_metadata(trusted, self._held))
            await self._keep(trusted)
            self._trusted = trusted
            return trusted

    async def _up_to_date(self) -> TrustedSet:
        trusted = self._trusted
        if trusted is None or not self._clock.sure:
            return await self.update()
        try:
            trusted.check_fresh(self._clock.wall_ms())
        except TrustError:
            return await self.update()
        return trusted

    async def _start(self) -> TrustedSet:
        """The newest root that is known: kept from before, or the one the settings name."""
        if not self._held:
            self._held = await trio.to_thread.run_sync(self._load)
        if ROOT in self._held:
            return TrustedSet(self._held[ROOT])
        name = file_name(ROOT, self._pin.version)
        data = await self._transport.get_metadata(name, limit_bytes=TUF_ROOT_MAX_BYTES)
        if data is None:
            raise TrustError(
                f"the control plane has no root {self._pin.version}: is control.trusted_root its own?"
            )
        trusted = TrustedSet(check_root(data, self._pin))
        self._held = {ROOT: data}
        return trusted

    def _load(self) -> dict[str, bytes]:
        record = self._file.load()
        if record is None or record.pin != str(self._pin):
            return {}
        files = {role: text.encode() for role, text in record.files.items()}
        try:
            TrustedSet(files[ROOT])
        except (KeyError, TrustError):
            return {}
        return files

    async def _drive(self, asks: Generator[Ask, bytes | None]) -> None:
        try:
            ask = next(asks)
            while True:
                ask = asks.send(await self._transport.get_metadata(ask.name, limit_bytes=ask.limit_bytes))
        except StopIteration:
            return
        finally:
            asks.close()

    async def _ask_time(self, trusted: TrustedSet) -> None:
        """Let the server sign what time it is, unless that is sure."""
        keys = trusted.keyids_of(TIMESTAMP)
        state = self._keeper.state
        if state.time_keys and state.time_keys != keys:
            self._clock.forget_floor()
        if self._clock.sure:
            return
        nonce = secrets.token_hex(TIME_NONCE_CHARS // 2)
        data = await self._transport.ask_time(nonce)
        told = open_envelope(SignedTime, TIME_KIND, data, trusted.signatures_of(TIMESTAMP))
        if told.nonce != nonce:
            raise SignatureError("the control plane's signed time answers another question")
        self._clock.hear(told.now_ms)
        floor_ms = max(told.now_ms, state.time_ms if state.time_keys == keys else 0)
        await self._keeper.update(lambda s: replace(s, time_ms=floor_ms, time_keys=keys))

    async def _keep(self, trusted: TrustedSet) -> None:
        """Remember what is believed, and the lists of bundles that may be asked for again."""
        named = len(trusted.bin_of("")) if trusted.complete else 0
        kept = {r: d for r, d in self._held.items() if not named or not is_bundles(r) or len(r) == named}
        held = kept | trusted.files
        if held != self._held or not self._file.exists():
            self._held = held
            record = TrustRecord(str(self._pin), {role: data.decode() for role, data in held.items()})
            await trio.to_thread.run_sync(self._file.save, record)
