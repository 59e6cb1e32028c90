"""Questions that can wait: asked when there is time, and their answers kept until the devices have them.

They come with the durable stream and are stored in the transaction that stores the rest of it, so each is
answered once. What fails for want of time, room or budget is asked again, ever more seldom; what the cloud
half makes of it, or that it failed, goes to the device, which drops what it has seen.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final, NoReturn

import trio

from walle_control.db.connection import Database
from walle_control.features.cloud import store
from walle_control.features.cloud.service import CloudService, Refused
from walle_control.features.cloud.store import Later
from walle_shared.errors import StorageError, TransportError
from walle_shared.ids import DeviceId
from walle_shared.limits import CLOUD_ASK_MAX_S, CLOUD_LATER_DATA_MAX_BYTES, CLOUD_PUSH_MAX_BYTES
from walle_shared.observe import get_logger
from walle_shared.protocol.asks import Answer, Ask, Push
from walle_shared.protocol.codec import encode
from walle_shared.tracing import TRACEPARENT

_log = get_logger("control.cloud")

#: Another worker of the server may have taken a question in: looked for so often.
_POLL_S: Final = 2.0
_TRIES_MAX: Final = 12
_AGAIN_FIRST_S: Final = 2.0
_AGAIN_MAX_S: Final = 3_600.0


class LaterDesk:
    """Works on what can wait, and knows which devices are here to be told.

    Args:
        database: holds questions and answers.
        cloud: answers.
    """

    def __init__(self, database: Database, cloud: CloudService) -> None:
        self._database = database
        self._cloud = cloud
        self._news = trio.Event()
        self._not_before_s: dict[int, float] = {}
        self._here: dict[DeviceId, trio.Event] = {}
        self.answered = 0

    def poke(self) -> None:
        """Questions have come."""
        self._news.set()

    async def run(self) -> NoReturn:
        """Answer what waits, for ever; one worker of the server does."""
        while True:
            if not self._cloud.slots or not await self._try_pass():
                with trio.move_on_after(_POLL_S):
                    await self._news.wait()
                self._news = trio.Event()

    async def _try_pass(self) -> bool:
        try:
            return await self._pass()
        except* (StorageError, TransportError) as group:  # the database: tried again
            _log.warning("later_delayed", error=str(group.exceptions[0]))
        return False

    async def _pass(self) -> bool:
        """Work on the oldest that may be asked now; whether there was one."""
        waiting = await self._database.read(lambda db: store.next_later(db, 0, store.LATER_MAX))
        now_s = trio.current_time()
        ready = [each for each in waiting if self._not_before_s.get(each.id, 0.0) <= now_s]
        async with trio.open_nursery() as nursery:
            for each in ready[: self._cloud.slots]:
                nursery.start_soon(self._answer, each)
        return bool(ready)

    async def _answer(self, later: Later) -> None:
        try:
            answer = await self._ask(later)
        except Refused as refused:
            answer = Answer(reason=refused.reason, message=refused.message)
            if refused.passes and later.tries < _TRIES_MAX:
                await self._put_off(later)
                return
        self._not_before_s.pop(later.id, None)
        push = Push(later.origin, later.scenario, later.task, answer.answer, answer.reason)
        if len(encode(push)) > CLOUD_PUSH_MAX_BYTES:
            push = Push(later.origin, later.scenario, later.task, reason="failed")
        await self._database.write(lambda db: store.settle_later(db, later, push))
        self.answered += 1
        self.tell(later.device_id)

    async def _put_off(self, later: Later) -> None:
        pause_s = min(_AGAIN_FIRST_S * 2.0**later.tries, _AGAIN_MAX_S)
        self._not_before_s[later.id] = trio.current_time() + pause_s
        await self._database.write(lambda db: store.try_again(db, later.id))

    async def _ask(self, later: Later) -> Answer:
        match later.fields:
            case {"payload": dict(payload), "data": str(text)}:
                pass
            case _:
                return Answer(reason="refused", message="the record holds no question")
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            return Answer(reason="refused", message="the record's data is not base64")
        if len(data) > CLOUD_LATER_DATA_MAX_BYTES:
            return Answer(reason="refused", message="the record's data is too large")
        ask = Ask(
            later.scenario, later.task, later.version, later.release_id, payload,
            round(CLOUD_ASK_MAX_S * 1_000), len(data), {TRACEPARENT: later.trace} if later.trace else {},
        )  # fmt: skip
        return await self._cloud.try_ask(later.device_id, ask, data)

    # Answers on their way

    def arrived(self, device_id: DeviceId) -> None:
        """A device is connected here."""
        self._here.setdefault(device_id, trio.Event())

    def left(self, device_id: DeviceId) -> None:
        """It is not any more."""
        self._here.pop(device_id, None)

    async def wait_push(self, device_id: DeviceId) -> tuple[int, Push]:
        """The oldest answer that a device has not taken; waits for one."""
        while True:
            news = self._here.setdefault(device_id, trio.Event())
            found = await self._database.read(lambda db: store.next_push(db, device_id))
            if found is not None:
                return found
            await news.wait()

    async def taken(self, device_id: DeviceId, number: int) -> None:
        """A device has an answer."""
        await self._database.write(lambda db: store.taken(db, device_id, number))

    def tell(self, device_id: DeviceId) -> None:
        """There is an answer for a device."""
        if device_id in self._here:
            self._here[device_id].set()
            self._here[device_id] = trio.Event()

    async def follow(self) -> None:
        """Other workers of the server may have answered for devices that are here."""
        if not self._here:
            return
        for device_id in await self._database.read(store.awaited):
            self.tell(device_id)
