"""What a simulated fleet believes: the rules of a real device, whose answers all devices of a process share.

Every device checks every envelope and manifest itself. The metadata behind them is fetched once for all, and
anew when an epoch rests on newer approvals: a real device asks for it each time it is not fresh.
"""

from __future__ import annotations

from collections.abc import Generator

import trio

from walle_control.fleet.http import Pool
from walle_shared.clock import Clock
from walle_shared.errors import RollbackError, TrustError
from walle_shared.limits import TUF_ROOT_MAX_BYTES
from walle_shared.protocol.messages import EPOCH_KIND, EpochInfo
from walle_shared.protocol.version import STATIC_ROOT
from walle_shared.signing import open_envelope
from walle_shared.targeting.policy import Wanted
from walle_shared.trust.roles import POLICY, ROOT, Pin, bundle_path, file_name
from walle_shared.trust.trusted import (
    Ask,
    TrustedSet,
    check_root,
    follow_metadata,
    follow_role,
    follow_roots,
)


class FleetTrust:
    """The trusted metadata of one fleet. ``load`` before use.

    Args:
        pool: the way to the server.
        pin: the root that new devices are told of.
        clock: by which metadata expires.
    """

    def __init__(self, pool: Pool, pin: Pin, clock: Clock) -> None:
        self._pool = pool
        self._pin = pin
        self._clock = clock
        self._lock = trio.Lock()
        self._trusted: TrustedSet | None = None

    async def load(self) -> TrustedSet:
        """Fetch everything anew, from the pinned root on.

        Raises:
            TrustError: by type, what was refused.
            TransportError: the server is away.
        """
        root = await self._get(Ask(file_name(ROOT, self._pin.version), TUF_ROOT_MAX_BYTES))
        if root is None:
            raise TrustError(f"the control plane has no root {self._pin.version}")
        trusted = TrustedSet(check_root(root, self._pin))
        await self._drive(follow_roots(trusted))
        trusted.judge_at(self._clock.wall_ms())
        await self._drive(follow_metadata(trusted, {}))
        self._trusted = trusted
        return trusted

    async def open_epoch(self, data: bytes) -> EpochInfo:
        """Verify and decode an epoch file, as a device does.

        Raises:
            TrustError: it, or what it rests on, cannot be trusted.
            TransportError: the server is away.
        """
        trusted = await self._believed()
        info = open_envelope(EpochInfo, EPOCH_KIND, data, trusted.signatures_of(POLICY))
        if trusted.version < info.approvals:
            async with self._lock:
                trusted = await self._believed()
                if trusted.version < info.approvals:
                    trusted = await self.load()
        if trusted.version < info.approvals:
            raise RollbackError(f"epoch {info.epoch} rests on trust metadata that is not offered")
        return info

    async def approve(self, wanted: Wanted) -> None:
        """Check that the targets approve what a policy wants.

        Raises:
            TrustError: they do not.
            TransportError: the server is away.
        """
        trusted = await self._believed()
        role = trusted.bin_of(bundle_path(wanted.scenario, wanted.task, wanted.version))
        if not trusted.has(role):
            async with self._lock:
                if not trusted.has(role):
                    await self._drive(follow_role(trusted, role, {}))
        trusted.check_bundle(wanted.scenario, wanted.task, wanted.version, wanted.manifest)

    async def _believed(self) -> TrustedSet:
        return self._trusted if self._trusted is not None else await self.load()

    async def _drive(self, asks: Generator[Ask, bytes | None]) -> None:
        try:
            ask = next(asks)
            while True:
                ask = asks.send(await self._get(ask))
        except StopIteration:
            return
        finally:
            asks.close()

    async def _get(self, ask: Ask) -> bytes | None:
        answer = await self._pool.request("GET", f"{STATIC_ROOT}/tuf/{ask.name}", kind="trust")
        if answer.status == 404:
            return None
        if answer.status != 200 or len(answer.body) > ask.limit_bytes:
            raise TrustError(f"{ask.name}: status {answer.status}, {len(answer.body)} bytes")
        return answer.body
