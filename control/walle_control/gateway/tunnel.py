"""The upload tunnel: one WebSocket per device, frames of ``walle_shared.protocol.tunnel``.

Frames are decoded as they arrive and committed in groups: what came while the last group was on its way to
the disk goes together. An acknowledgement is sent only once every sink has the group. While a sink is late,
the device is told so, and to send less. What is logged of a connection has the trace that its device gave it;
a line tells of each record whose run is followed, and has the trace of that run.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import trio
from starlette.websockets import WebSocket, WebSocketDisconnect

from walle_control.config import StreamConfig, TracesConfig
from walle_control.features.cloud.later import LaterDesk
from walle_control.features.cloud.service import CloudService
from walle_control.features.devices.service import DevicesService
from walle_control.features.telemetry.ingest import Refusals
from walle_control.features.telemetry.service import TelemetryService
from walle_control.gateway.asks import AskDesk
from walle_control.gateway.hub import EpochHub, Seats
from walle_control.traces import Budget, Traces
from walle_control.web.auth import bearer
from walle_control.web.problems import problem_response, status_of
from walle_shared.errors import LimitExceeded, ProtocolError, RemoteProtocolError, WalleError
from walle_shared.ids import DeviceId
from walle_shared.limits import TUNNEL_WINDOW_FRAMES
from walle_shared.observe import get_logger
from walle_shared.protocol.asks import ASKS, welcome_frame
from walle_shared.protocol.messages import GoodbyeNotice, Problem
from walle_shared.protocol.tunnel import PACE, PaceNotice
from walle_shared.protocol.tunnel_receiver import (
    HelloReceived,
    RecordReceived,
    SequenceLedger,
    TombstoneReceived,
    TunnelReceiver,
    ack_frames,
    goodbye_frame,
    pace_frame,
)

_log = get_logger("control.tunnel")

# RFC 6455 close codes.
_GOING_AWAY = 1001
_POLICY = 1008
_TOO_BIG = 1009
_TRY_AGAIN = 1013

#: A connection that has not said HELLO by then is closed.
_HELLO_TIMEOUT_S = 20.0
_REASON_MAX_BYTES = 120

#: A sink may be so late before devices are told, and then they are told again so often.
_LATE_S = 1.0
_STILL_LATE_S = 10.0
#: Frames a device may have unacknowledged while a sink is late.
_LATE_WINDOW = 1

Item = RecordReceived | TombstoneReceived


class TunnelRoutes:
    """The endpoint of the tunnel."""

    def __init__(
        self,
        hub: EpochHub,
        seats: Seats,
        devices: DevicesService,
        telemetry: TelemetryService,
        config: StreamConfig,
        cloud: CloudService,
        later: LaterDesk,
        traces: Traces | None = None,
        told: Budget | None = None,
        refusals: Refusals | None = None,
    ) -> None:
        self._hub = hub
        self._seats = seats
        self._devices = devices
        self._telemetry = telemetry
        self._config = config
        self._cloud = cloud
        self._later = later
        self._traces = traces
        self._told = told or Budget(TracesConfig().max_per_s)
        self._refusals = refusals

    async def tunnel(self, websocket: WebSocket) -> None:
        """``WS tunnel``: refuse with an HTTP problem, or accept and converse."""
        device_id = DeviceId("")
        try:
            device_id = self._devices.check_credential(bearer(websocket.headers))
            with self._seats.take():
                await self._devices.seen(device_id)
                await websocket.accept()
                await self._converse(websocket, device_id)
        except WalleError as error:
            self._refused(device_id, error)
            problem = Problem(error.code, error.message, status_of(error), error.retryable)
            await websocket.send_denial_response(problem_response(problem))

    def _refused(self, device_id: DeviceId, error: WalleError) -> None:
        if self._refusals is not None:
            self._refusals.add(device_id, error)

    async def _converse(self, websocket: WebSocket, device_id: DeviceId) -> None:
        closing: tuple[int, str] | None = (_GOING_AWAY, "goodbye")
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._say_goodbye, websocket, nursery.cancel_scope)
                await self._receive_all(websocket, device_id)
        except* WebSocketDisconnect:
            closing = None
        except* WalleError as group:
            error = _first(group)
            if closing is not None:
                closing = _close_code(error), error.message
            self._refused(device_id, error)
            _log.warning("tunnel_closed_on_error", device=device_id, code=error.code, error=error.message)
        if closing is not None:
            await websocket.close(closing[0], closing[1].encode()[:_REASON_MAX_BYTES].decode(errors="ignore"))

    async def _say_goodbye(self, websocket: WebSocket, scope: trio.CancelScope) -> None:
        await self._hub.wait_stopping()
        await websocket.send_bytes(goodbye_frame(GoodbyeNotice(self._config.retry_s)))
        scope.cancel()

    async def _receive_all(self, websocket: WebSocket, device_id: DeviceId) -> None:
        receiver = TunnelReceiver()
        hello = await _receive_hello(websocket, receiver)
        if ASKS in hello.understands:
            await websocket.send_bytes(welcome_frame())
        ledger = await self._telemetry.open_tunnel(device_id, hello)
        send, receive = trio.open_memory_channel[Item](TUNNEL_WINDOW_FRAMES)
        async with trio.open_nursery() as nursery:
            desk = AskDesk(
                self._cloud,
                self._later,
                self._devices,
                device_id,
                receiver.asks,
                websocket.send_bytes,
                nursery,
            )
            if ASKS in hello.understands:
                nursery.start_soon(desk.push_all)
            nursery.start_soon(self._commit_all, websocket, device_id, hello, ledger, receive)
            try:
                while True:
                    item = receiver.receive(await _receive_binary(websocket))
                    assert not isinstance(item, HelloReceived)  # the receiver greets once
                    if isinstance(item, RecordReceived | TombstoneReceived):
                        await send.send(item)
                    elif item is not None:
                        desk.take(item)
            finally:
                await desk.leave()

    async def _commit_all(
        self,
        websocket: WebSocket,
        device_id: DeviceId,
        hello: HelloReceived,
        ledger: SequenceLedger,
        items: trio.MemoryReceiveChannel[Item],
    ) -> None:
        await self._wait_sinks(websocket, hello)  # an earlier connection may have left rows on their way
        for frame in ack_frames(ledger):
            await websocket.send_bytes(frame)
        while True:
            group = [await items.receive()]
            received_ns = time.time_ns()
            while items.statistics().current_buffer_used:
                group.append(items.receive_nowait())
            if self._devices.is_revoked(device_id):
                raise RemoteProtocolError(f"device {device_id} was revoked by an operator")
            ledger = await self._telemetry.record_tunnel(device_id, hello.incarnation, group)
            committed_ns = time.time_ns()
            self._tell_of_followed(device_id, group)
            await self._wait_sinks(websocket, hello)
            if self._traces is not None:
                self._traces.rows_kept(device_id, group, received_ns, committed_ns, time.time_ns())
            for frame in ack_frames(ledger, group):
                await websocket.send_bytes(frame)

    def _tell_of_followed(self, device_id: DeviceId, items: Sequence[Item]) -> None:
        for item in items:
            if not isinstance(item, RecordReceived):
                continue
            record, trace = item.record, item.record.trace
            if trace is not None and self._told.take():
                _log.info(
                    "record_kept", device=device_id, scenario=record.scenario, task=record.task,
                    feature=record.name, trace_id=trace.trace_id, span_id=trace.span_id,
                )  # fmt: skip

    async def _wait_sinks(self, websocket: WebSocket, hello: HelloReceived) -> None:
        """Wait until every sink has what the journal has; tell the device if that takes long."""
        head, sinks = self._telemetry.journal_head, self._telemetry.sinks
        understands = PACE in hello.understands
        if await sinks.wait_durable(head, within_s=_LATE_S):
            return
        while True:
            if understands:
                await websocket.send_bytes(pace_frame(_LATE_WINDOW, PaceNotice(sinks.behind(head))))
            if await sinks.wait_durable(head, within_s=_STILL_LATE_S):
                break
        if understands:
            await websocket.send_bytes(pace_frame(TUNNEL_WINDOW_FRAMES, PaceNotice()))


async def _receive_hello(websocket: WebSocket, receiver: TunnelReceiver) -> HelloReceived:
    try:
        with trio.fail_after(_HELLO_TIMEOUT_S):
            hello = receiver.receive(await _receive_binary(websocket))
    except trio.TooSlowError:
        raise RemoteProtocolError(f"tunnel: no HELLO within {_HELLO_TIMEOUT_S:g} s") from None
    assert isinstance(hello, HelloReceived)  # the receiver takes nothing else first
    return hello


async def _receive_binary(websocket: WebSocket) -> bytes:
    message = await websocket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1006))
    data: bytes | None = message.get("bytes")
    if data is None:
        raise RemoteProtocolError("tunnel: a text message; frames are binary")
    return data


def _first(group: BaseExceptionGroup[WalleError]) -> WalleError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, WalleError)
    return error


def _close_code(error: WalleError) -> int:
    if isinstance(error, LimitExceeded):
        return _TOO_BIG
    return _POLICY if isinstance(error, ProtocolError) else _TRY_AGAIN
