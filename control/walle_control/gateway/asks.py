"""The questions of one device's tunnel: each is worked on in a task of its own, and ends with the connection.

A device that does not read its answers holds up this desk alone: what it may ask at once is limited, and an
answer that waits to be sent holds no slot.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from walle_control.features.cloud.service import CloudService
from walle_control.features.devices.service import DevicesService
from walle_shared.ids import DeviceId
from walle_shared.protocol.asks import Answer, Asked, AskEvent, AskReceiver, Withdrawn, answer_frame


class AskDesk:
    """Takes what a device asks.

    Args:
        cloud: answers.
        devices: knows whose rights have ended.
        device_id: who asks.
        receiver: counts what is open.
        send: sends a frame.
        nursery: ends with the connection.
    """

    def __init__(
        self,
        cloud: CloudService,
        devices: DevicesService,
        device_id: DeviceId,
        receiver: AskReceiver,
        send: Callable[[bytes], Awaitable[None]],
        nursery: trio.Nursery,
    ) -> None:
        self._cloud = cloud
        self._devices = devices
        self._device_id = device_id
        self._receiver = receiver
        self._send = send
        self._nursery = nursery
        self._going: dict[int, trio.CancelScope] = {}
        self._sending = trio.Lock()

    def take(self, event: AskEvent) -> None:
        """Begin a question, or end one that was withdrawn."""
        if isinstance(event, Asked):
            self._going[event.id] = trio.CancelScope()
            self._nursery.start_soon(self._answer, event)
        elif isinstance(event, Withdrawn) and event.id in self._going:
            self._going.pop(event.id).cancel()

    async def _answer(self, asked: Asked) -> None:
        with self._going[asked.id]:
            answer = await self._work_out(asked)
            self._going.pop(asked.id)
            self._receiver.answered(asked.id)
            async with self._sending:
                await self._send(answer_frame(asked.id, answer))

    async def _work_out(self, asked: Asked) -> Answer:
        if self._devices.is_revoked(self._device_id):
            return Answer(reason="refused", message="an operator has ended this device's rights")
        return await self._cloud.ask(self._device_id, asked.ask, asked.data)
