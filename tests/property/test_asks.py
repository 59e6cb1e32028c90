"""Questions over the tunnel: both halves against each other in any order of events, and against nonsense."""

from __future__ import annotations

import contextlib
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from walle_shared.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from walle_shared.limits import CLOUD_ASKS_OPEN_MAX, CLOUD_DATA_MAX_BYTES, CLOUD_PART_BYTES
from walle_shared.protocol.asks import (
    ANSWERING,
    ASKING,
    Answer,
    Answered,
    Ask,
    Asked,
    AskReceiver,
    AskSender,
    Push,
    Pushed,
    Taken,
    Withdrawn,
    answer_frame,
    push_frame,
    taken_frame,
    welcome_frame,
)
from walle_shared.protocol.codec import encode
from walle_shared.protocol.tunnel import Frame, FrameKind, TunnelClass, decode_frame


def question(data_bytes: int = 0, within_ms: int = 1_000) -> Ask:
    return Ask("demo", "looker", "1.0", "r1", {"a": 1}, within_ms, data_bytes)


def asked(seq: int, ask: Ask | None = None) -> Frame:
    return frame(FrameKind.ASK, seq, encode(ask or question()))


def frame(kind: FrameKind, seq: int, payload: bytes = b"") -> Frame:
    return Frame(kind, TunnelClass.REALTIME, seq, payload)


class TwoHalves(RuleBasedStateMachine):
    """A device and a cloud with a line between them that delays and keeps order."""

    def __init__(self) -> None:
        super().__init__()
        self.sender, self.receiver = AskSender(), AskReceiver(4)
        self.up: deque[bytes] = deque()
        self.down: deque[bytes] = deque([welcome_frame(4)])
        self.going: tuple[int, deque[bytes]] | None = None
        self.waiting: dict[int, bytes] = {}
        self.withdrawn: set[int] = set()
        self.with_cloud: dict[int, bytes] = {}

    @precondition(lambda self: self.sender.room > 0 and self.going is None)
    @rule(size=st.sampled_from([0, 1, CLOUD_PART_BYTES, CLOUD_PART_BYTES + 1, 3 * CLOUD_PART_BYTES]))
    def begin(self, size: int) -> None:
        data = bytes(size)
        ask_id, frames = self.sender.ask(question(size), data)
        self.waiting[ask_id] = data
        self.going = (ask_id, deque(frames))

    @precondition(lambda self: self.going is not None)
    @rule()
    def send_part(self) -> None:
        assert self.going is not None
        self.up.append(self.going[1].popleft())
        if not self.going[1]:
            self.going = None

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        ask_id = data.draw(st.sampled_from(sorted(self.waiting)))
        if self.going is not None and self.going[0] == ask_id:
            begun = len(self.going[1]) < len(self.waiting[ask_id]) // CLOUD_PART_BYTES + 1
            if not begun and self.going[1][0][0] == FrameKind.ASK:
                return  # it goes out first
            self.going = None
        withdrawing = self.sender.cancel(ask_id)
        assert withdrawing is not None
        self.up.append(withdrawing)
        del self.waiting[ask_id]
        self.withdrawn.add(ask_id)

    @precondition(lambda self: self.up)
    @rule()
    def cloud_takes(self) -> None:
        match self.receiver.receive(decode_frame(self.up.popleft())):
            case Asked(ask_id, ask, data):
                assert len(data) == ask.data_bytes
                self.with_cloud[ask_id] = data
            case Withdrawn(ask_id):
                assert ask_id in self.withdrawn
                del self.with_cloud[ask_id]
            case other:
                assert other is None

    @precondition(lambda self: self.with_cloud)
    @rule(data=st.data())
    def cloud_answers(self, data: st.DataObject) -> None:
        ask_id = data.draw(st.sampled_from(sorted(self.with_cloud)))
        del self.with_cloud[ask_id]
        self.receiver.answered(ask_id)
        self.down.append(answer_frame(ask_id, Answer({"id": ask_id})))

    @precondition(lambda self: self.down)
    @rule()
    def device_takes(self) -> None:
        received = self.sender.receive(decode_frame(self.down.popleft()))
        if isinstance(received, Answered):
            assert received.answer == Answer({"id": received.id})
            del self.waiting[received.id]

    @invariant()
    def never_too_many(self) -> None:
        assert len(self.waiting) <= 4
        assert len(self.with_cloud) <= 4


TestTwoHalves = TwoHalves.TestCase
TestTwoHalves.settings = settings(max_examples=25, stateful_step_count=40)


FRAMES = st.builds(
    frame,
    st.sampled_from(sorted(ASKING | ANSWERING)),
    st.integers(0, 5) | st.integers(0, 2**64 - 1),
    st.binary(max_size=40)
    | st.builds(
        lambda size, within: encode(question(size, within)), st.integers(-1, 300_000), st.integers(-1, 10**9)
    )
    | st.builds(lambda ok: encode(Answer({} if ok else None, "" if ok else "busy")), st.booleans()),
)


@settings(max_examples=50)
@given(st.lists(FRAMES, max_size=20))
def test_nonsense_ends_in_a_typed_error_and_opens_no_more_than_is_allowed(frames: list[Frame]) -> None:
    receiver, sender = AskReceiver(3), AskSender()
    opened: set[int] = set()
    with contextlib.suppress(RemoteProtocolError, LimitExceeded):
        for each in frames:
            if each.kind in ASKING:
                received = receiver.receive(each)
                if isinstance(received, Asked):
                    opened.add(received.id)
                elif isinstance(received, Withdrawn):
                    opened.remove(received.id)
                assert len(opened) <= 3
    with contextlib.suppress(RemoteProtocolError, LimitExceeded):
        for each in frames:
            if each.kind in ANSWERING:
                sender.receive(each)


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([frame(FrameKind.ASK, 0, encode(question()))], "ids must rise"),
        ([asked(1), asked(1)], "must rise"),
        ([asked(1, question(5)), asked(2)], "within ask 1"),
        ([frame(FrameKind.ASK, 1, encode(question(0, 0)))], "within_ms"),
        ([frame(FrameKind.ASK, 1, encode(question(CLOUD_DATA_MAX_BYTES + 1)))], "bytes of data"),
        ([frame(FrameKind.ASK, 1, b"{}")], "Ask is malformed"),
        ([frame(FrameKind.ASK_DATA, 1, b"x")], "no question announced"),
        ([frame(FrameKind.ASK, 1, encode(question(1))), frame(FrameKind.ASK_DATA, 1, b"xx")], "announced"),
        ([frame(FrameKind.ASK, 1, encode(question(1))), frame(FrameKind.ASK_DATA, 1, b"")], "announced"),
        ([frame(FrameKind.CANCEL, 1)], "never asked"),
        ([frame(FrameKind.TAKEN, 0)], "out of range"),
        ([frame(FrameKind.ASK, n, encode(question())) for n in range(1, 99)], "open already"),
    ],
)  # fmt: skip
def test_what_a_device_may_not_send(frames: list[Frame], words: str) -> None:
    receiver = AskReceiver()
    errors: list[str] = []
    for each in frames:
        try:
            receiver.receive(each)
        except (RemoteProtocolError, LimitExceeded) as error:
            errors.append(error.message)
    assert words in errors[0]


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (frame(FrameKind.WELCOME, 0, b'{"asks": 0}'), "make no sense"),
        (frame(FrameKind.ANSWER, 1, encode(Answer({}))), "newest question"),
        (frame(FrameKind.PUSH, 0, encode(Push("a", "s", "t", {}))), "out of range"),
        (frame(FrameKind.PUSH, 1, b"[]"), "malformed"),
    ],
)
def test_what_a_cloud_may_not_send(sent: Frame, words: str) -> None:
    with pytest.raises(RemoteProtocolError, match=words):
        AskSender().receive(sent)


def test_an_answer_says_one_thing() -> None:
    sender = AskSender()
    sender.receive(decode_frame(welcome_frame()))
    for answer in (Answer(), Answer({}, "busy")):
        ask_id, _ = sender.ask(question(), b"")
        with pytest.raises(RemoteProtocolError, match="or the reason"):
            sender.receive(frame(FrameKind.ANSWER, ask_id, encode(answer)))


def test_nobody_asks_before_being_welcome() -> None:
    sender = AskSender()
    assert not sender.is_welcome
    with pytest.raises(LocalProtocolError):
        sender.ask(question(), b"")
    sender.receive(decode_frame(welcome_frame(10**6)))
    assert sender.room == CLOUD_ASKS_OPEN_MAX


def test_pushes_and_their_receipts() -> None:
    push = Push("store:REALTIME:4", "demo", "looker", {"x": 1})
    assert AskSender().receive(decode_frame(push_frame(7, push))) == Pushed(7, push)
    assert AskReceiver().receive(decode_frame(taken_frame(7))) == Taken(7)


def test_an_answer_that_is_too_large_is_refused_here() -> None:
    with pytest.raises(LimitExceeded):
        answer_frame(1, Answer({"x": "y" * CLOUD_DATA_MAX_BYTES}))
