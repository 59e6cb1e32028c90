import zlib

import pytest

from walle_shared.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from walle_shared.limits import FRAME_MAX_BYTES, FRAME_MAX_INFLATED_BYTES
from walle_shared.protocol.tunnel import (
    Deflater,
    Frame,
    FrameKind,
    Inflater,
    TunnelClass,
    decode_frame,
    encode_frame,
    tombstone_last,
    tombstone_payload,
)


def test_frames_survive_the_wire() -> None:
    frame = Frame(FrameKind.DATA, TunnelClass.BATCH, 2**63, b"payload")
    assert decode_frame(encode_frame(frame)) == frame


@pytest.mark.parametrize("data", [b"", b"\x02\x00", b"\x63" + bytes(9), b"\x02\x09" + bytes(8)])
def test_malformed_frames_are_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="tunnel frame"):
        decode_frame(data)


def test_long_frames_are_refused_on_both_sides() -> None:
    with pytest.raises(LocalProtocolError):
        encode_frame(Frame(FrameKind.DATA, TunnelClass.BATCH, 1, bytes(FRAME_MAX_BYTES)))
    with pytest.raises(LimitExceeded):
        decode_frame(bytes(FRAME_MAX_BYTES + 1))


def test_tombstones_name_a_range() -> None:
    frame = Frame(FrameKind.TOMBSTONE, TunnelClass.BATCH, 5, tombstone_payload(9))
    assert tombstone_last(frame) == 9
    with pytest.raises(RemoteProtocolError, match="before it starts"):
        tombstone_last(Frame(FrameKind.TOMBSTONE, TunnelClass.BATCH, 10, tombstone_payload(9)))
    with pytest.raises(RemoteProtocolError, match="exactly one u64"):
        tombstone_last(Frame(FrameKind.TOMBSTONE, TunnelClass.BATCH, 1, b"123"))


def test_repeated_records_cost_little_in_one_stream() -> None:
    deflater, inflater = Deflater(), Inflater()
    record = b'{"scenario":"demo","task":"digit_reader","name":"digit_read","fields":{"digit":7}}'
    sizes = []
    for _ in range(3):
        payload = deflater.compress(record)
        sizes.append(len(payload))
        assert inflater.decompress(payload) == record
    assert sizes[2] < sizes[0] / 4


def test_a_stream_that_is_not_ours_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="does not inflate"):
        Inflater().decompress(b"not zlib")


def test_a_compression_bomb_is_refused() -> None:
    bomb = zlib.compress(bytes(FRAME_MAX_INFLATED_BYTES + 1))
    assert len(bomb) < FRAME_MAX_BYTES
    with pytest.raises(LimitExceeded, match="inflates beyond"):
        Inflater().decompress(bomb)
