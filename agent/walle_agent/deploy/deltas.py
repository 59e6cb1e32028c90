"""The cheapest way to each file: whole, compressed, or as what is new since a file that lies here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import trio

from walle_agent.deploy.download import ContentStore, Downloader
from walle_agent.link.transport import Transport
from walle_shared.deltas import NO_BASE, Delta, DeltaList, check_deltas, memory_bytes
from walle_shared.errors import LengthOrHashError, LimitExceeded, NotFound, WalleError
from walle_shared.limits import DELTAS_MAX_BYTES
from walle_shared.observe import get_logger
from walle_shared.protocol.codec import decode
from walle_shared.protocol.messages import FileRef
from walle_shared.targeting.policy import Wanted
from walle_shared.units import KIB

_log = get_logger("agent.deploy")

#: Less than this is fetched whole: the list of deltas would take as long.
WORTH_BYTES = 32 * KIB


@dataclass(frozen=True, slots=True)
class Way:
    """How a file comes: by ``delta``, or whole; ``cost_bytes`` must travel for it."""

    ref: FileRef
    cost_bytes: int
    delta: Delta | None = None


class Ways:
    """Finds and goes them.

    Args:
        transport: the way to the control plane.
        content: what lies here.
        downloader: fetches.
        memory_max_bytes: what unpacking a delta may take.
    """

    def __init__(
        self, transport: Transport, content: ContentStore, downloader: Downloader, *, memory_max_bytes: int
    ) -> None:
        self._transport = transport
        self._content = content
        self._downloader = downloader
        self._memory_max_bytes = memory_max_bytes

    async def find(self, wanted: Wanted, refs: Iterable[FileRef]) -> list[Way]:
        """The cheapest way to each file that is not here; a file named twice comes once."""
        missing = {ref.sha256: ref for ref in refs}
        ways = await trio.to_thread.run_sync(self._whole, list(missing.values()))
        if wanted.deltas is None or sum(way.cost_bytes for way in ways) < WORTH_BYTES:
            return ways
        try:
            data = await self._transport.get_file("delta", wanted.deltas, limit_bytes=DELTAS_MAX_BYTES)
            found = check_deltas(
                decode(DeltaList, data, limit_bytes=DELTAS_MAX_BYTES), wanted.manifest.sha256
            )
        except WalleError as error:  # the files themselves can still be had
            _log.warning("deltas_unreadable", task=wanted.task, version=wanted.version, error=str(error))
            return ways
        return await trio.to_thread.run_sync(self._cheapest, ways, found.deltas)

    async def go(self, way: Way) -> int:
        """Bring a file into the content store; the bytes that travelled. A delta that fails is no failure.

        Raises:
            WalleError: as :meth:`Downloader.fetch`.
        """
        received = 0
        if way.delta is not None:
            try:
                received += await self._downloader.fetch(way.delta.file, "delta")
                await trio.to_thread.run_sync(self._unpack, way.delta, way.ref)
            except (LengthOrHashError, LimitExceeded, NotFound) as error:
                _log.warning("delta_refused", blob=way.ref.sha256[:12], error=str(error))
            finally:
                await trio.to_thread.run_sync(self._content.drop, way.delta.file.sha256)
        return received + await self._downloader.fetch(way.ref)

    def _unpack(self, delta: Delta, ref: FileRef) -> None:
        self._content.unpack(delta.file, delta.base, ref, memory_max_bytes=self._memory_max_bytes)

    def _whole(self, refs: list[FileRef]) -> list[Way]:
        return [Way(ref, self._content.missing_bytes(ref)) for ref in refs if not self._content.has(ref)]

    def _cheapest(self, ways: list[Way], deltas: tuple[Delta, ...]) -> list[Way]:
        by_target: dict[str, list[Delta]] = {}
        for delta in deltas:
            by_target.setdefault(delta.target, []).append(delta)
        return [
            min((way, *self._by_delta(way.ref, by_target.get(way.ref.sha256, []))), key=_cost) for way in ways
        ]

    def _by_delta(self, ref: FileRef, deltas: list[Delta]) -> list[Way]:
        return [
            Way(ref, self._content.missing_bytes(delta.file), delta)
            for delta in deltas
            if self._can(delta, ref)
        ]

    def _can(self, delta: Delta, ref: FileRef) -> bool:
        here = delta.base == NO_BASE or self._content.has(FileRef(delta.base, delta.base_bytes))
        return here and memory_bytes(delta.base_bytes, ref.size_bytes) <= self._memory_max_bytes


def _cost(way: Way) -> int:
    return way.cost_bytes
