"""The receiver's ledger against a plain set of numbers, and its refusals."""

from __future__ import annotations

import contextlib

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from walle_shared.errors import LimitExceeded, RemoteProtocolError, StorageError
from walle_shared.limits import TUNNEL_GAPS_MAX
from walle_shared.protocol.codec import encode
from walle_shared.protocol.messages import GoodbyeNotice
from walle_shared.protocol.tunnel import (
    Deflater,
    Frame,
    FrameKind,
    Hello,
    Record,
    TunnelClass,
    decode_frame,
    encode_frame,
    tombstone_payload,
)
from walle_shared.protocol.tunnel_receiver import (
    HelloReceived,
    RecordReceived,
    SequenceLedger,
    TombstoneReceived,
    TunnelReceiver,
    ack_frames,
    goodbye_frame,
)
from walle_shared.protocol.version import PROTOCOL_VERSION

RECORD = Record("demo", "page_view", "1.0", "r1", "page_view", 1_700_000_000_000, {"dwell_ms": 5})


def hello_frame(incarnation: str = "abc", version: int = PROTOCOL_VERSION, **first: int) -> bytes:
    payload = encode(Hello(incarnation, first))
    return encode_frame(Frame(FrameKind.HELLO, TunnelClass.REALTIME, version, payload))


def data_frame(seq: int, payload: bytes, klass: TunnelClass = TunnelClass.BATCH) -> bytes:
    return encode_frame(Frame(FrameKind.DATA, klass, seq, payload))


def greeted() -> TunnelReceiver:
    receiver = TunnelReceiver()
    receiver.receive(hello_frame())
    return receiver


@st.composite
def items(draw: st.DrawFn) -> list[RecordReceived | TombstoneReceived]:
    made: list[RecordReceived | TombstoneReceived] = []
    for _ in range(draw(st.integers(0, 60))):
        klass = draw(st.sampled_from(TunnelClass))
        first = draw(st.integers(1, 80))
        if draw(st.booleans()):
            made.append(RecordReceived(klass, first, RECORD))
        else:
            made.append(TombstoneReceived(klass, first, first + draw(st.integers(0, 15))))
    return made


@given(items())
def test_ledger_equals_a_plain_set(given_items: list[RecordReceived | TombstoneReceived]) -> None:
    ledger = SequenceLedger()
    seen: dict[TunnelClass, set[int]] = {klass: set() for klass in TunnelClass}
    for item in given_items:
        numbers = set(range(item.seq, item.last_seq + 1))
        expected = len(numbers - seen[item.klass])
        seen[item.klass] |= numbers
        assert ledger.admit(item) == expected
        ledger = SequenceLedger.from_plain(orjson.loads(orjson.dumps(ledger.to_plain())))
    for klass in TunnelClass:
        contiguous = 0
        while contiguous + 1 in seen[klass]:
            contiguous += 1
        assert ledger.contiguous(klass) == contiguous


@given(items(), st.integers(1, 120))
def test_settling_leaves_nothing_open_below(
    given_items: list[RecordReceived | TombstoneReceived], first: int
) -> None:
    ledger = SequenceLedger()
    seen = set[int]()
    for item in given_items:
        ledger.admit(item)
        if item.klass is TunnelClass.BATCH:
            seen |= set(range(item.seq, item.last_seq + 1))
    lost = ledger.settle(HelloReceived("abc", {TunnelClass.BATCH: first}))
    assert lost == len(set(range(1, first)) - seen)
    assert ledger.contiguous(TunnelClass.BATCH) >= first - 1
    assert ledger.settle(HelloReceived("abc", {TunnelClass.BATCH: first})) == 0


def test_hello_names_the_store_and_the_first_number() -> None:
    got = TunnelReceiver().receive(hello_frame("store-1", BATCH=7))
    assert got == HelloReceived("store-1", {TunnelClass.BATCH: 7})


def test_records_share_one_compression_stream() -> None:
    receiver, deflater = greeted(), Deflater()
    for seq in (1, 2, 3):
        frame = data_frame(seq, deflater.compress(encode(RECORD)))
        assert receiver.receive(frame) == RecordReceived(TunnelClass.BATCH, seq, RECORD)


def test_only_classes_that_spoke_are_acknowledged() -> None:
    ledger = SequenceLedger()
    item = TombstoneReceived(TunnelClass.BATCH, 1, 4)
    ledger.admit(item)
    frames = [decode_frame(data) for data in ack_frames(ledger, [item])]
    assert frames == [Frame(FrameKind.ACK, TunnelClass.BATCH, 4)]
    assert ack_frames(SequenceLedger()) == []


def test_goodbye_carries_the_wait() -> None:
    frame = decode_frame(goodbye_frame(GoodbyeNotice(2.5)))
    assert frame.kind is FrameKind.GOODBYE
    assert orjson.loads(frame.payload)["retry_s"] == 2.5


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        (data_frame(1, b""), "open with HELLO"),
        (hello_frame(version=PROTOCOL_VERSION + 1), "update the older side"),
        (hello_frame("../etc"), "incarnation"),
        (hello_frame(BATCH=0), "sequence number 0"),
        (encode_frame(Frame(FrameKind.HELLO, TunnelClass.REALTIME, PROTOCOL_VERSION, b"[]")), "malformed"),
        (b"\x01", "no room for its head"),
        (b"\x63" + bytes(9), "tunnel frame"),
    ],
)
def test_a_bad_first_frame_is_refused(frame: bytes, complaint: str) -> None:
    with pytest.raises(RemoteProtocolError, match=complaint):
        TunnelReceiver().receive(frame)


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        (hello_frame(), "not for the cloud"),
        (encode_frame(Frame(FrameKind.ACK, TunnelClass.BATCH, 1)), "not for the cloud"),
        (data_frame(1, b"not zlib"), "does not inflate"),
        (data_frame(1, Deflater().compress(b"{}")), "is missing"),
        (data_frame(0, Deflater().compress(encode(RECORD))), "number 0 is out of range"),
        (data_frame(2**64 - 1, Deflater().compress(encode(RECORD))), "out of range"),
        (
            encode_frame(Frame(FrameKind.TOMBSTONE, TunnelClass.BATCH, 5, tombstone_payload(4))),
            "before it starts",
        ),
        (encode_frame(Frame(FrameKind.TOMBSTONE, TunnelClass.BATCH, 5, b"")), "exactly one u64"),
    ],
)
def test_a_bad_later_frame_is_refused(frame: bytes, complaint: str) -> None:
    with pytest.raises(RemoteProtocolError, match=complaint):
        greeted().receive(frame)


def test_a_payload_that_inflates_too_far_is_refused() -> None:
    with pytest.raises(LimitExceeded, match="inflates beyond"):
        greeted().receive(data_frame(1, Deflater().compress(bytes(8_000_000))))


def test_a_sender_that_skips_numbers_is_refused_and_changes_nothing() -> None:
    ledger = SequenceLedger()
    for gap in range(TUNNEL_GAPS_MAX):
        assert ledger.admit(RecordReceived(TunnelClass.BATCH, 2 * gap + 2, RECORD)) == 1
    before = ledger.to_plain()
    with pytest.raises(LimitExceeded, match="gaps"):
        ledger.admit(RecordReceived(TunnelClass.BATCH, 10_000, RECORD))
    assert ledger.to_plain() == before


def test_a_damaged_ledger_is_a_storage_error() -> None:
    with pytest.raises(StorageError, match="damaged"):
        SequenceLedger.from_plain({"BATCH": {"contiguous": "many", "beyond": []}})


@given(st.binary(max_size=200))
def test_no_bytes_break_the_receiver(data: bytes) -> None:
    receiver = greeted()
    with contextlib.suppress(RemoteProtocolError, LimitExceeded):
        receiver.receive(data)
