"""The line on which runs ask, under a virtual clock: every end that a question can come to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.abc import Clock

from walle_agent.streams.asks import GREETING_S, WAITING_MAX, AskLine
from walle_shared.errors import RemoteProtocolError
from walle_shared.limits import CLOUD_DATA_MAX_BYTES
from walle_shared.protocol.asks import (
    Answer,
    Ask,
    Asked,
    AskReceiver,
    Withdrawn,
    answer_frame,
    welcome_frame,
)
from walle_shared.protocol.tunnel import decode_frame

QUESTION = Ask("demo", "looker", "1.0", "r1", {"a": 1}, 1)


class Cloud:
    """The other end: what it was asked, and what it says."""

    def __init__(self, line: AskLine) -> None:
        self.line = line
        self.receiver = AskReceiver()
        self.frames = 0
        self.slow_s = 0.0
        self.asked: list[Asked] = []
        self.withdrawn: list[int] = []

    async def take(self, data: bytes) -> None:
        self.frames += 1
        await trio.sleep(self.slow_s)
        event = self.receiver.receive(decode_frame(data))
        if isinstance(event, Asked):
            self.asked.append(event)
        elif isinstance(event, Withdrawn):
            self.withdrawn.append(event.id)

    def welcome(self, asks: int = 4) -> None:
        self.line.receive(decode_frame(welcome_frame(asks)))

    def answer(self, ask_id: int, answer: Answer | None = None) -> None:
        self.receiver.answered(ask_id)
        self.line.receive(decode_frame(answer_frame(ask_id, answer or Answer({"n": ask_id}))))


@asynccontextmanager
async def connected(line: AskLine) -> AsyncIterator[Cloud]:
    line.connected()
    cloud = Cloud(line)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(line.run, cloud.take)
        yield cloud
        nursery.cancel_scope.cancel()
    line.disconnected()


async def gather(*asks: Callable[[], Awaitable[Answer]]) -> list[Answer]:
    answers: list[Answer] = [Answer()] * len(asks)

    async def one(number: int) -> None:
        answers[number] = await asks[number]()

    async with trio.open_nursery() as nursery:
        for number in range(len(asks)):
            nursery.start_soon(one, number)
    return answers


async def test_offline_is_told_at_once(autojump_clock: Clock):
    line, began_s = AskLine(), trio.current_time()
    assert (await line.ask(QUESTION, b"", 60.0)).reason == "offline"
    assert trio.current_time() == began_s
    assert line.statistics().offline == 1


async def test_a_cloud_that_never_greets_is_an_older_one(autojump_clock: Clock):
    line = AskLine()
    async with connected(line):
        began_s = trio.current_time()
        assert (await line.ask(QUESTION, b"", 60.0)).reason == "unsupported"
        assert trio.current_time() - began_s == pytest.approx(GREETING_S)
        assert (await line.ask(QUESTION, b"", 60.0)).reason == "unsupported"
        assert trio.current_time() - began_s == pytest.approx(GREETING_S)  # and from then on at once


async def test_a_cloud_that_says_something_else_first_is_an_older_one(autojump_clock: Clock):
    line = AskLine()
    async with connected(line):
        began_s = trio.current_time()
        line.older_cloud()
        assert (await line.ask(QUESTION, b"", 60.0)).reason == "unsupported"
        assert trio.current_time() == began_s


async def test_a_question_that_comes_before_the_greeting_waits_for_it(autojump_clock: Clock):
    line = AskLine()
    async with connected(line) as cloud, trio.open_nursery() as nursery:

        async def greet() -> None:
            await trio.sleep(0.5)
            cloud.welcome()
            await trio.sleep(0.1)
            cloud.answer(1)

        nursery.start_soon(greet)
        assert (await line.ask(QUESTION, b"", 60.0)).answer == {"n": 1}


async def test_an_answer_goes_to_the_one_who_asked(autojump_clock: Clock):
    line = AskLine()
    async with connected(line) as cloud, trio.open_nursery() as nursery:
        cloud.welcome(2)

        async def serve() -> None:
            for expected in ([1, 2], [3]):  # two at once, as was granted
                await trio.sleep(1)
                assert [each.id for each in cloud.asked][-len(expected) :] == expected
                for ask_id in reversed(expected):
                    cloud.answer(ask_id)

        nursery.start_soon(serve)
        answers = await gather(*[lambda: line.ask(QUESTION, bytes(100_000), 60.0)] * 3)
    assert sorted(answer.answer["n"] for answer in answers if answer.answer) == [1, 2, 3]
    assert all(each.data == bytes(100_000) for each in cloud.asked)
    assert line.statistics().answered == 3


async def test_a_question_says_how_long_there_is_and_is_withdrawn_when_that_is_over(autojump_clock: Clock):
    line = AskLine()
    async with connected(line) as cloud:
        cloud.welcome()
        assert (await line.ask(QUESTION, b"", 2.5)).reason == "deadline"
        await trio.sleep(0.01)
        assert cloud.asked[0].ask.within_ms == 2_500
        assert cloud.withdrawn == [1]
        cloud.receiver.answered(1)
        cloud.line.receive(decode_frame(answer_frame(1, Answer({}))))  # it was on the way: nobody minds


async def test_a_run_that_is_stopped_withdraws_its_question(autojump_clock: Clock):
    line = AskLine()
    async with connected(line) as cloud:
        cloud.welcome()
        with trio.move_on_after(1):
            await line.ask(QUESTION, b"", 60.0)
        await trio.sleep(0.01)
        assert cloud.withdrawn == [1]


async def test_a_question_that_is_withdrawn_half_way_sends_no_more_of_its_data(autojump_clock: Clock):
    line = AskLine()
    async with connected(line) as cloud:
        cloud.welcome()
        cloud.slow_s = 1.0
        assert (await line.ask(QUESTION, bytes(CLOUD_DATA_MAX_BYTES), 2.5)).reason == "deadline"
        await trio.sleep(60)
        assert cloud.frames < 6
        cloud.slow_s = 0.0
        assert not cloud.asked
        assert (await line.ask(QUESTION, b"", 1.0)).reason == "deadline"
        assert [each.id for each in cloud.asked] == [2]


async def test_who_waits_for_room_all_the_time_is_told_so_and_a_crowd_is_refused(autojump_clock: Clock):
    line = AskLine()
    async with connected(line) as cloud, trio.open_nursery() as nursery:
        cloud.welcome(1)
        nursery.start_soon(line.ask, QUESTION, b"", 60.0)
        await trio.sleep(0.1)
        assert (await line.ask(QUESTION, b"", 1.0)).reason == "busy"
        for _ in range(WAITING_MAX):
            nursery.start_soon(line.ask, QUESTION, b"", 60.0)
        await trio.sleep(0.1)
        began_s = trio.current_time()
        assert (await line.ask(QUESTION, b"", 60.0)).reason == "busy"
        assert trio.current_time() == began_s
        nursery.cancel_scope.cancel()


async def test_a_connection_that_breaks_ends_every_question(autojump_clock: Clock):
    line = AskLine()
    async with trio.open_nursery() as nursery:
        answers: list[Answer] = []

        async def ask() -> None:
            answers.extend(await gather(*[lambda: line.ask(QUESTION, b"", 60.0)] * 6))

        async with connected(line) as cloud:
            cloud.welcome(2)
            nursery.start_soon(ask)
            await trio.sleep(1)
    assert [answer.reason for answer in answers] == ["offline"] * 6
    async with connected(line) as cloud:  # the next connection begins anew
        cloud.welcome()
        assert (await line.ask(QUESTION, b"", 1.0)).reason == "deadline"
        assert [each.id for each in cloud.asked] == [1]


async def test_an_answer_to_what_was_never_asked_ends_the_connection(autojump_clock: Clock):
    line = AskLine()
    async with connected(line) as cloud:
        cloud.welcome()
        with pytest.raises(RemoteProtocolError):
            cloud.answer(9)
