"""The upload tunnel, device side: a core without sockets, and the loop that moves its bytes.

``TunnelSender`` lives as long as one connection. What was sent and not acknowledged when a connection ends is
sent again on the next, from the lowest number the outbox still holds; the cloud drops what it has seen.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NoReturn, Protocol

import trio

from walle_agent.streams.allowance import Allowance, AllowanceStatistics
from walle_agent.streams.asks import AskLine, AskStatistics
from walle_agent.streams.outbox import Numbers, Outgoing
from walle_shared.errors import (
    ConnectionLost,
    LimitExceeded,
    LocalProtocolError,
    PeerTimeout,
    RemoteProtocolError,
    StorageError,
    TransportError,
    WalleError,
)
from walle_shared.limits import TUNNEL_WINDOW_BYTES, TUNNEL_WINDOW_FRAMES
from walle_shared.observe import get_logger
from walle_shared.protocol.asks import ANSWERING, ASKS, Push, Pushed, taken_frame
from walle_shared.protocol.codec import decode, encode
from walle_shared.protocol.messages import GoodbyeNotice
from walle_shared.protocol.tunnel import (
    PACE,
    Deflater,
    Frame,
    FrameKind,
    Hello,
    PaceNotice,
    TunnelClass,
    decode_frame,
    encode_frame,
    tombstone_payload,
)
from walle_shared.protocol.version import PROTOCOL_VERSION
from walle_shared.tracing import enter_trace, new_trace

#: A cloud that does not acknowledge for this long is taken for dead.
ACK_TIMEOUT_S = 30.0
#: Silence after which the cloud is asked whether it is there: below the minute at which proxies cut idle
#: connections by default.
HEARTBEAT_S = 45.0
#: Entries read from the outbox at once: of the largest, 4 MiB.
_BATCH_ROWS = 16
#: While records wait for better conditions, these are looked at so often.
_CONDITIONS_S = 5.0
#: Beyond every number: the outbox has nothing of a class that must wait.
_NONE_OF_IT = 2**63 - 1

_log = get_logger("agent.streams")


class FrameChannel(Protocol):
    """A connection that carries whole frames; raises ``TransportError`` when it breaks."""

    async def send(self, data: bytes) -> None:
        """Send one frame."""
        ...

    async def receive(self) -> bytes:
        """Wait for one frame."""
        ...

    async def ping(self) -> None:
        """Ask whether the peer is there; returns with its answer."""
        ...


class OutboxAccess(Protocol):
    """What the tunnel needs of the store; ``StreamService`` has it."""

    @property
    def incarnation(self) -> str:
        """Name of the store; changes when a damaged file is replaced."""
        ...

    async def next_batch(self, after: Mapping[TunnelClass, int], limit: int) -> list[Outgoing]:
        """Up to ``limit`` entries beyond ``after``."""
        ...

    async def ack(self, incarnation: str, klass: TunnelClass, seq: int) -> None:
        """Forget the class up to ``seq``, if the store still is that ``incarnation``."""
        ...

    async def numbers(self) -> Numbers:
        """By class, the lowest number that may still be sent and the highest ever given."""
        ...

    async def wait_outgoing(self, seen: int) -> int:
        """Wait until more than ``seen`` commits have put records into the outbox; returns their number."""
        ...


class Waits(Protocol):
    """How long to wait before trying again (``walle_shared.backoff.Backoff``)."""

    def next_delay_s(self, retry_after_s: float | None = None) -> float:
        """Count a failure and return the seconds to wait."""
        ...

    def reset(self) -> None:
        """Forget past failures."""
        ...


@dataclass(frozen=True, slots=True)
class Acked:
    """The cloud has everything of the class up to ``seq``."""

    klass: TunnelClass
    seq: int


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The cloud asks us to leave and to come back after ``retry_s`` seconds."""

    retry_s: float


@dataclass(frozen=True, slots=True)
class Paced:
    """The cloud is there, and grants so many unacknowledged frames from now on."""

    window: int
    reason: str


@dataclass(frozen=True, slots=True)
class TunnelStatistics:
    """Counters since the start. Bytes are of frames, compressed; ``slowed_by`` is what the cloud says."""

    connections: int = 0
    failures: int = 0
    records_sent: int = 0
    tombstones_sent: int = 0
    bytes_sent: int = 0
    acks: int = 0
    heartbeats: int = 0
    connected: bool = False
    slowed_by: str = ""
    allowance: AllowanceStatistics = field(default_factory=AllowanceStatistics)
    asks: AskStatistics = field(default_factory=AskStatistics)


class TunnelSender:
    """One connection's sending rules: hello first, a window, and acknowledgements that make sense.

    Args:
        incarnation: the store's.
        numbers: by class, the lowest number that may still be sent and the highest ever given.
        window: frames that may be unacknowledged.
        window_bytes: once so many bytes are unacknowledged, nothing more is sent.
    """

    def __init__(
        self,
        incarnation: str,
        numbers: Numbers,
        *,
        window: int = TUNNEL_WINDOW_FRAMES,
        window_bytes: int = TUNNEL_WINDOW_BYTES,
    ) -> None:
        self.incarnation = incarnation
        self._numbers = dict(numbers)
        self._window = self._granted = window
        self._window_bytes = window_bytes
        self._deflater = Deflater()
        self._in_flight: dict[TunnelClass, deque[tuple[int, int]]] = {klass: deque() for klass in TunnelClass}
        self._bytes_in_flight = 0
        self._sent = {klass: self._numbers[klass][0] - 1 for klass in TunnelClass}
        self._acked = dict(self._sent)

    def hello(self) -> bytes:
        """The connection's first frame."""
        first = {klass.name: first for klass, (first, _) in self._numbers.items()}
        hello = Hello(self.incarnation, first, (PACE, ASKS))
        return encode_frame(Frame(FrameKind.HELLO, TunnelClass.REALTIME, PROTOCOL_VERSION, encode(hello)))

    @property
    def in_flight(self) -> int:
        """Frames sent and not acknowledged."""
        return sum(len(frames) for frames in self._in_flight.values())

    @property
    def room(self) -> int:
        """Frames that may be sent before the next acknowledgement."""
        if self._bytes_in_flight >= self._window_bytes:
            return 0
        return max(0, self._granted - self.in_flight)

    @property
    def sent(self) -> Mapping[TunnelClass, int]:
        """By class, the highest number sent: ask the outbox for what lies beyond."""
        return self._sent

    def send(self, entries: Sequence[Outgoing]) -> list[bytes]:
        """Frames for these entries, now in flight; what was acknowledged meanwhile is left out.

        Raises:
            LocalProtocolError: more than there is room for, or a number out of turn.
        """
        if len(entries) > self.room:
            raise LocalProtocolError(f"{len(entries)} frames do not fit a window with room for {self.room}")
        return [self._frame(entry) for entry in entries if entry.last_seq > self._acked[entry.klass]]

    def receive(self, data: bytes) -> Acked | Goodbye | Paced | Frame | None:
        """Take a frame from the cloud; None for an acknowledgement that says nothing new.

        A frame about questions comes out as it is.

        Raises:
            RemoteProtocolError: malformed, of a kind only we send, or acknowledging what was never sent.
            LimitExceeded: too long.
        """
        frame = decode_frame(data)
        if frame.kind is FrameKind.GOODBYE:
            notice = decode(GoodbyeNotice, frame.payload)
            if not (math.isfinite(notice.retry_s) and notice.retry_s >= 0):
                raise RemoteProtocolError("tunnel goodbye: retry_s must be a number of seconds")
            return Goodbye(notice.retry_s)
        if frame.kind is FrameKind.PACE:
            self._granted = min(self._window, frame.seq)
            return Paced(self._granted, decode(PaceNotice, frame.payload).reason)
        if frame.kind in ANSWERING:
            return frame
        if frame.kind is not FrameKind.ACK:
            raise RemoteProtocolError(f"tunnel frame {frame.kind.name} is not for a device")
        return self._acknowledge(frame.klass, frame.seq)

    def _acknowledge(self, klass: TunnelClass, seq: int) -> Acked | None:
        last = max(self._sent[klass], self._numbers[klass][1])
        if seq > last:
            raise RemoteProtocolError(
                f"tunnel ack of {klass.name} {seq} is beyond {last}, the last that was sent"
            )
        if seq <= self._acked[klass]:
            return None
        self._acked[klass] = seq
        self._sent[klass] = max(self._sent[klass], seq)  # an earlier connection had brought it there
        frames = self._in_flight[klass]
        while frames and frames[0][0] <= seq:
            self._bytes_in_flight -= frames.popleft()[1]
        return Acked(klass, seq)

    def _frame(self, entry: Outgoing) -> bytes:
        sent = self._sent[entry.klass]
        # A tombstone may reach back over records that were in flight when they were evicted.
        in_turn = entry.seq == sent + 1 or (entry.payload is None and entry.seq <= sent < entry.last_seq)
        if not in_turn:
            raise LocalProtocolError(f"tunnel number {entry.seq} of {entry.klass.name} after {sent}")
        if entry.payload is None:
            kind, payload = FrameKind.TOMBSTONE, tombstone_payload(entry.last_seq)
        else:
            kind, payload = FrameKind.DATA, self._deflater.compress(entry.payload)
        data = encode_frame(Frame(kind, entry.klass, entry.seq, payload))
        self._sent[entry.klass] = entry.last_seq
        self._in_flight[entry.klass].append((entry.last_seq, len(data)))
        self._bytes_in_flight += len(data)
        return data


class Tunnel:
    """The loop around ``TunnelSender``: connect, send, acknowledge, wait, again.

    Args:
        outbox: the store's outbox.
        connect: opens a connection.
        backoff: waits between attempts.
        allowance: what may be sent now; without it, everything.
        asks: the line on which runs ask the cloud halves of their tasks.
        take_push: keeps an answer that could wait for good; without it none is taken.
        heartbeat_s: after so long without a frame from the cloud it is asked whether it is there; that also
            keeps the connection open in routers and proxies between.
    """

    def __init__(
        self,
        outbox: OutboxAccess,
        connect: Callable[[], AbstractAsyncContextManager[FrameChannel]],
        *,
        backoff: Waits,
        allowance: Allowance | None = None,
        asks: AskLine | None = None,
        take_push: Callable[[Push], Awaitable[None]] | None = None,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._outbox = outbox
        self._heartbeat_s = heartbeat_s
        self._allowance = allowance or Allowance()
        self.asks = asks or AskLine()
        self._take_push = take_push
        self._connect = connect
        self._backoff = backoff
        self._stats = TunnelStatistics()

    def statistics(self) -> TunnelStatistics:
        """Counters since the start."""
        return replace(self._stats, allowance=self._allowance.statistics(), asks=self.asks.statistics())

    async def run(self) -> NoReturn:
        """Keep the outbox empty for ever; every failure becomes a wait."""
        while True:
            enter_trace(new_trace())
            delay_s = await self._connection()
            await trio.sleep(delay_s)

    async def _connection(self) -> float:
        """One connection from beginning to end; returns the seconds to wait before the next."""
        try:
            async with self._connect() as channel:
                goodbye = await self._converse(channel)
        except (TransportError, RemoteProtocolError, LimitExceeded, StorageError) as error:
            return self._failed(error)
        except ExceptionGroup as group:  # from a nursery, ours or the transport's
            expected, rest = group.split((TransportError, RemoteProtocolError, LimitExceeded, StorageError))
            if rest is not None or expected is None:
                raise
            return self._failed(_first_error(expected))
        finally:
            self._stats = replace(self._stats, connected=False, slowed_by="")
        _log.info("tunnel_closed", retry_s=goodbye.retry_s)
        return self._backoff.next_delay_s(goodbye.retry_s)

    def _failed(self, error: WalleError) -> float:
        delay_s = self._backoff.next_delay_s(getattr(error, "retry_after_s", None))
        self._stats = replace(self._stats, failures=self._stats.failures + 1)
        _log.warning("tunnel_failed", code=error.code, message=error.message, retry_s=round(delay_s, 3))
        return delay_s

    async def _converse(self, channel: FrameChannel) -> Goodbye:
        sender = TunnelSender(self._outbox.incarnation, await self._outbox.numbers())
        await channel.send(sender.hello())
        self._stats = replace(self._stats, connections=self._stats.connections + 1, connected=True)
        conversation = _Conversation(sender, channel)
        self.asks.connected()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send, conversation)
                nursery.start_soon(self.asks.run, partial(self._send_ask, channel))
                nursery.start_soon(self._beat, conversation)
                goodbye = await self._receive(conversation, nursery)
                nursery.cancel_scope.cancel()
        finally:
            self.asks.disconnected()
        return goodbye

    async def _send_ask(self, channel: FrameChannel, data: bytes) -> None:
        await channel.send(data)
        self._stats = replace(self._stats, bytes_sent=self._stats.bytes_sent + len(data))
        self._allowance.spend(len(data))

    async def _send(self, conversation: _Conversation) -> NoReturn:
        sender = conversation.sender
        seen = await self._outbox.wait_outgoing(-1)
        while True:
            while sender.room == 0:
                await conversation.wait_room()
            allowed = self._allowance.allowed()
            after = {klass: seq if klass in allowed else _NONE_OF_IT for klass, seq in sender.sent.items()}
            batch = await self._outbox.next_batch(after, min(sender.room, _BATCH_ROWS))
            self._check_store(sender)
            if not batch:
                patience_s = _CONDITIONS_S if len(allowed) < len(TunnelClass) else math.inf
                with trio.move_on_after(patience_s):
                    seen = await self._outbox.wait_outgoing(seen)
                continue
            for entry in batch:
                if sender.room == 0:
                    break  # its bytes filled the window: the rest is read again
                for data in sender.send([entry]):
                    await conversation.channel.send(data)
                    self._count_sent(data)
                    self._allowance.spend(len(data))
            conversation.expect_ack()

    async def _beat(self, conversation: _Conversation) -> NoReturn:
        while True:
            await trio.sleep_until(conversation.heard_at + self._heartbeat_s)
            if trio.current_time() < conversation.heard_at + self._heartbeat_s:
                continue
            with trio.move_on_after(ACK_TIMEOUT_S):
                await conversation.channel.ping()
                conversation.heard_at = trio.current_time()
                self._stats = replace(self._stats, heartbeats=self._stats.heartbeats + 1)
                continue
            raise PeerTimeout(f"the cloud answered no heartbeat for {ACK_TIMEOUT_S:.0f} s")

    async def _receive(self, conversation: _Conversation, nursery: trio.Nursery) -> Goodbye:
        sender = conversation.sender
        while True:
            received = sender.receive(await conversation.receive())
            if isinstance(received, Frame):
                pushed = self.asks.receive(received)
                if pushed is not None:
                    conversation.begin_push()
                    nursery.start_soon(self._keep_push, conversation, pushed)
                continue
            self.asks.older_cloud()
            if isinstance(received, Goodbye):
                return received
            if isinstance(received, Paced):
                self._stats = replace(self._stats, slowed_by=received.reason)
                conversation.made_room()
            elif received is not None:
                await self._outbox.ack(sender.incarnation, received.klass, received.seq)
                self._check_store(sender)
                self._stats = replace(self._stats, acks=self._stats.acks + 1)
                self._backoff.reset()
                conversation.made_room()

    async def _keep_push(self, conversation: _Conversation, pushed: Pushed) -> None:
        if self._take_push is not None:
            await self._take_push(pushed.push)
            conversation.pushing = False
            await conversation.channel.send(taken_frame(pushed.number))

    def _check_store(self, sender: TunnelSender) -> None:
        if self._outbox.incarnation != sender.incarnation:
            raise ConnectionLost("the store was replaced: greeting the cloud anew")

    def _count_sent(self, data: bytes) -> None:
        s = self._stats
        tombstone = data[0] == FrameKind.TOMBSTONE
        self._stats = replace(
            s,
            records_sent=s.records_sent + (not tombstone),
            tombstones_sent=s.tombstones_sent + tombstone,
            bytes_sent=s.bytes_sent + len(data),
        )


class _Conversation:
    """What the sending and the receiving half of a connection share."""

    def __init__(self, sender: TunnelSender, channel: FrameChannel) -> None:
        self.sender = sender
        self.channel = channel
        self.heard_at = trio.current_time()
        self.pushing = False
        self._room = trio.Event()
        self._patience = trio.CancelScope()

    def begin_push(self) -> None:
        """An answer has come that is to be kept; the next may come when this one is."""
        if self.pushing:
            raise RemoteProtocolError("tunnel push within a push: one at a time")
        self.pushing = True

    async def receive(self) -> bytes:
        """Wait for a frame; not for ever while something is in flight."""
        with trio.CancelScope() as self._patience:
            self.expect_ack()
            data = await self.channel.receive()
            self.heard_at = trio.current_time()
            return data
        raise PeerTimeout(f"the cloud acknowledged nothing for {ACK_TIMEOUT_S:.0f} s")

    def expect_ack(self) -> None:
        """Start the clock, unless it runs already or nothing is in flight."""
        if self.sender.in_flight and self._patience.deadline == math.inf:
            self._patience.deadline = trio.current_time() + ACK_TIMEOUT_S

    async def wait_room(self) -> None:
        await self._room.wait()
        self._room = trio.Event()

    def made_room(self) -> None:
        self._room.set()


async def run_tunnel(
    outbox: OutboxAccess,
    connect: Callable[[], AbstractAsyncContextManager[FrameChannel]],
    *,
    backoff: Waits,
) -> NoReturn:
    """Upload what the outbox holds, for ever; ``Tunnel`` in one call."""
    await Tunnel(outbox, connect, backoff=backoff).run()


def _first_error(group: BaseExceptionGroup[BaseException]) -> WalleError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, WalleError)
    return error
