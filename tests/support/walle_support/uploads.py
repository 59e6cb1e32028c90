"""A device that only uploads: an outbox in memory, and its enrolment at a real control plane."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Mapping
from typing import Any

import httpx
import trio

from walle_agent.streams.outbox import Numbers, Outgoing, encode_record
from walle_shared.protocol.tunnel import Record, TunnelClass
from walle_shared.signing import SigningKey


class MemoryOutbox:
    """``OutboxAccess`` without a disk: records of one class, numbered from 1."""

    def __init__(self, klass: TunnelClass = TunnelClass.REALTIME) -> None:
        self.incarnation = secrets.token_hex(8)
        self.klass = klass
        self.acked = 0
        self.newest = 0
        self._waiting: deque[Outgoing] = deque()
        self._changed = trio.Event()

    def add(self, record: Record) -> int:
        """Append one record; its number."""
        self.newest += 1
        self._waiting.append(Outgoing(self.klass, self.newest, self.newest, encode_record(record)))
        self._stir()
        return self.newest

    async def wait_acked(self, seq: int) -> None:
        """Wait until the cloud has acknowledged everything up to ``seq``."""
        while self.acked < seq:
            await self._changed.wait()

    async def next_batch(self, after: Mapping[TunnelClass, int], limit: int) -> list[Outgoing]:
        await trio.lowlevel.checkpoint()
        beyond = after.get(self.klass, 0)
        found: list[Outgoing] = []
        for entry in self._waiting:
            if len(found) == limit:
                break
            if entry.seq > beyond:
                found.append(entry)
        return found

    async def ack(self, incarnation: str, klass: TunnelClass, seq: int) -> None:
        await trio.lowlevel.checkpoint()
        assert incarnation == self.incarnation
        while self._waiting and self._waiting[0].seq <= seq:
            self._waiting.popleft()
        self.acked = seq
        self._stir()

    async def numbers(self) -> Numbers:
        await trio.lowlevel.checkpoint()
        lowest = self._waiting[0].seq if self._waiting else self.newest + 1
        return dict.fromkeys(TunnelClass, (1, 0)) | {self.klass: (lowest, self.newest)}

    async def wait_outgoing(self, seen: int) -> int:
        while self.newest <= seen:
            await self._changed.wait()
        return self.newest

    def _stir(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def enrol(url: str, token: str, profile: Mapping[str, Any] | None = None) -> tuple[str, str]:
    """Enrol a new device; its id and credential."""
    key = SigningKey.generate()
    body = {"token": token, "public_key": key.public.raw_hex, "profile": profile or {}}
    answer = httpx.post(f"{url}/d/v1/enrol", json=body, trust_env=False, timeout=30)
    answer.raise_for_status()
    return answer.json()["device_id"], answer.json()["credential"]
