"""The questions of one device's tunnel: each is worked on in a task of its own, and ends with the connection.

A device that does not read its answers holds up this desk alone: what it may ask at once is limited, and an
answer that waits to be sent holds no slot.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import trio

from walle_control.features.cloud.later import LaterDesk
from walle_control.features.cloud.service import CloudService
from walle_control.features.devices.service import DevicesService
from walle_shared.errors import RemoteProtocolError, StorageError, TransportError
from walle_shared.ids import DeviceId
from walle_shared.observe import get_logger
from walle_shared.protocol.asks import (
    Answer,
    Asked,
    AskEvent,
    AskReceiver,
    Taken,
    Withdrawn,
    answer_frame,
    push_frame,
)

_log = get_logger("control.tunnel")

#: How long giving back may take.
_LEAVE_S: Final = 5.0


class AskDesk:
    """Takes what a device asks.

    Args:
        cloud: answers.
        later: has the answers to questions that could wait.
        devices: knows whose rights have ended.
        device_id: who asks.
        receiver: counts what is open.
        send: sends a frame.
        nursery: ends with the connection.
    """

    def __init__(
        self,
        cloud: CloudService,
        later: LaterDesk,
        devices: DevicesService,
        device_id: DeviceId,
        receiver: AskReceiver,
        send: Callable[[bytes], Awaitable[None]],
        nursery: trio.Nursery,
    ) -> None:
        self._cloud = cloud
        self._later = later
        self._devices = devices
        self._device_id = device_id
        self._receiver = receiver
        self._send = send
        self._nursery = nursery
        self._going: dict[int, trio.CancelScope] = {}
        self._sending = trio.Lock()
        self._pushing = 0
        self._taken = trio.Event()

    def take(self, event: AskEvent) -> None:
        """Begin a question, or end one that was withdrawn."""
        if isinstance(event, Asked):
            self._going[event.id] = trio.CancelScope()
            self._nursery.start_soon(self._answer, event)
        elif isinstance(event, Withdrawn) and event.id in self._going:
            self._going.pop(event.id).cancel()
        elif isinstance(event, Taken):
            if event.number != self._pushing:
                raise RemoteProtocolError(f"tunnel push {event.number} is taken, but was not sent")
            self._taken.set()

    async def push_all(self) -> NoReturn:
        """Send the answers to questions that could wait, one at a time, as long as the connection lasts."""
        self._later.arrived(self._device_id)
        try:
            while True:
                number, push = await self._later.wait_push(self._device_id)
                self._pushing, self._taken = number, trio.Event()
                async with self._sending:
                    await self._send(push_frame(number, push))
                await self._taken.wait()
                self._pushing = 0
                await self._later.taken(self._device_id, number)
        finally:
            self._later.left(self._device_id)

    async def leave(self) -> None:
        """The device has gone: what it was granted and has not used may be used elsewhere."""
        with trio.move_on_after(_LEAVE_S, shield=True):
            try:
                await self._cloud.budgets.give_back(self._device_id)
            except (StorageError, TransportError) as error:
                _log.warning("budget_not_given_back", device=self._device_id, error=error.message)

    async def _answer(self, asked: Asked) -> None:
        with self._going[asked.id]:
            answer = await self._work_out(asked)
            self._going.pop(asked.id)
            async with self._sending:
                await self._send(answer_frame(asked.id, answer))
            self._receiver.answered(asked.id)  # not before: who reads no answers may ask no more

    async def _work_out(self, asked: Asked) -> Answer:
        if self._devices.is_revoked(self._device_id):
            return Answer(reason="refused", message="an operator has ended this device's rights")
        return await self._cloud.ask(self._device_id, asked.ask, asked.data)
