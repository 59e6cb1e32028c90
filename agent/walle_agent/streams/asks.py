"""Questions of runs to the cloud halves of their tasks, over whatever tunnel there is.

A run waits in ``AskLine.ask``; the tunnel moves the frames. A question waits here only while the tunnel is
full, within its time; it is never kept for another connection. Whoever stops waiting withdraws the question,
so that the cloud does not work for nobody.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, NoReturn

import trio

from walle_shared.observe import get_logger
from walle_shared.protocol.asks import Answer, Answered, Ask, AskSender, Pushed
from walle_shared.protocol.tunnel import Frame

#: Questions that may wait for room, of all tasks.
WAITING_MAX: Final = 64
#: A cloud that has said nothing for so long after the connection began is an older one, which never will.
GREETING_S: Final = 1.0

_log = get_logger("agent.streams")

Send = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class AskStatistics:
    """Questions since the start: asked, answered, and those without an answer by reason."""

    asked: int = 0
    answered: int = 0
    offline: int = 0
    unsupported: int = 0
    deadline: int = 0
    busy: int = 0
    other: int = 0


class _Pending:
    """A question that a run waits for."""

    __slots__ = ("answer", "ask", "data", "done", "expires_s", "id")

    def __init__(self, ask: Ask, data: bytes, expires_s: float) -> None:
        self.ask = ask
        self.data = data
        self.expires_s = expires_s
        self.done = trio.Event()
        self.answer = Answer()
        self.id: int | None = None

    def end(self, answer: Answer) -> None:
        """Let the run go on."""
        self.answer = answer
        self.done.set()


class AskLine:
    """The one line on which all runs ask. Between connections every answer is "offline", at once."""

    def __init__(self) -> None:
        self._sender: AskSender | None = None
        self._greeted = trio.Event()
        self._greeting_s = math.inf
        self._waiting: deque[_Pending] = deque()
        self._asked: dict[int, _Pending] = {}
        self._to_cancel: deque[int] = deque()
        self._news = trio.Event()
        self._stats = AskStatistics()

    def statistics(self) -> AskStatistics:
        """Questions since the start."""
        return self._stats

    async def ask(self, ask: Ask, data: bytes, within_s: float) -> Answer:
        """Ask and wait; an answer without one says why.

        Cancelling withdraws the question.
        """
        self._stats = replace(self._stats, asked=self._stats.asked + 1)
        answer = await self._ask(ask, data, trio.current_time() + within_s)
        self._count(answer)
        return answer

    async def _ask(self, ask: Ask, data: bytes, expires_s: float) -> Answer:
        await trio.lowlevel.checkpoint()
        if (refusal := await self._wait_greeted(expires_s)) is not None:
            return refusal
        if len(self._waiting) >= WAITING_MAX:
            return Answer(reason="busy", message=f"{WAITING_MAX} questions wait on this device already")
        pending = _Pending(ask, data, expires_s)
        self._waiting.append(pending)
        self._wake()
        try:
            with trio.move_on_at(expires_s):
                await pending.done.wait()
                return pending.answer
        finally:
            if not pending.done.is_set():
                self._withdraw(pending)
        if pending.id is None:
            return Answer(reason="busy", message="earlier questions of this device took all the time")
        return Answer(reason="deadline", message="the answer did not come in time")

    async def _wait_greeted(self, expires_s: float) -> Answer | None:
        """Why nothing can be asked; None if it can. A connection that has just begun is waited for."""
        if self._sender is None:
            return Answer(reason="offline", message="there is no connection to the control plane")
        if not self._sender.is_welcome:
            with trio.move_on_at(min(expires_s, self._greeting_s)):
                await self._greeted.wait()
        if self._sender is None:
            return Answer(reason="offline", message="the connection to the control plane broke")
        if not self._sender.is_welcome:
            return Answer(reason="unsupported", message="this control plane answers no questions")
        return None

    def _withdraw(self, pending: _Pending) -> None:
        if pending.id is None:
            if pending in self._waiting:  # else it was passed over, as too late
                self._waiting.remove(pending)
            return
        self._asked.pop(pending.id, None)
        self._to_cancel.append(pending.id)
        self._wake()

    # The tunnel's side

    def connected(self) -> None:
        """A connection has begun; the cloud may greet now."""
        self._sender = AskSender()
        self._greeted = trio.Event()
        self._greeting_s = trio.current_time() + GREETING_S

    def disconnected(self) -> None:
        """It is over, and so is every question."""
        self._sender = None
        self._greeted.set()
        self._to_cancel.clear()
        lost = [*self._asked.values(), *self._waiting]
        self._asked.clear()
        self._waiting.clear()
        for pending in lost:
            pending.end(Answer(reason="offline", message="the connection broke before the answer came"))

    def older_cloud(self) -> None:
        """The cloud said something before a greeting: it will not greet."""
        if self._sender is not None and not self._sender.is_welcome:
            self._greeted.set()
            self._greeting_s = -math.inf

    def receive(self, frame: Frame) -> Pushed | None:
        """Take a frame of ``asks.ANSWERING``; an answer that could wait is the caller's.

        Raises:
            RemoteProtocolError: the cloud broke the rules.
        """
        assert self._sender is not None
        received = self._sender.receive(frame)
        if isinstance(received, Pushed):
            return received
        if isinstance(received, Answered):
            pending = self._asked.pop(received.id, None)
            if pending is not None:
                pending.end(received.answer)
        self._greeted.set()
        self._wake()
        return None

    async def run(self, send: Send) -> NoReturn:
        """Send questions and withdrawals while a connection lasts.

        Raises:
            TransportError: it broke.
        """
        sender = self._sender
        assert sender is not None
        while True:
            while self._to_cancel:
                withdrawal = sender.cancel(self._to_cancel.popleft())
                if withdrawal is not None:
                    await send(withdrawal)
            if self._waiting and sender.room:
                await self._send(sender, self._waiting.popleft(), send)
                continue
            await self._news.wait()
            self._news = trio.Event()

    async def _send(self, sender: AskSender, pending: _Pending, send: Send) -> None:
        within_ms = round((pending.expires_s - trio.current_time()) * 1_000)
        if within_ms < 1:
            return  # the run is about to give up
        ask = replace(pending.ask, within_ms=within_ms, data_bytes=len(pending.data))
        pending.id, frames = sender.ask(ask, pending.data)
        self._asked[pending.id] = pending
        for frame in frames:
            await send(frame)
            if pending.id in self._to_cancel:
                return  # the rest of it is of no use to anybody

    def _wake(self) -> None:
        self._news.set()

    def _count(self, answer: Answer) -> None:
        if answer.answer is not None:
            self._stats = replace(self._stats, answered=self._stats.answered + 1)
            return
        known = answer.reason if answer.reason in ("offline", "unsupported", "deadline", "busy") else "other"
        self._stats = replace(self._stats, **{known: getattr(self._stats, known) + 1})
