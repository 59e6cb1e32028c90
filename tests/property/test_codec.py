"""Bytes from outside never do more than raise a protocol error."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from walle_shared.errors import LimitExceeded, ProtocolError
from walle_shared.ids import ReleaseId, TaskName, TaskVersion
from walle_shared.manifest import Manifest
from walle_shared.protocol.codec import decode, encode
from walle_shared.protocol.messages import EpochInfo, Report, ReportBatch
from walle_shared.protocol.tunnel import (
    Deflater,
    Frame,
    FrameKind,
    Inflater,
    TunnelClass,
    decode_frame,
    encode_frame,
)
from walle_shared.targeting import Snapshot

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
reports = st.builds(
    Report,
    report_id=st.text(max_size=20),
    release_id=st.text(max_size=8).map(ReleaseId),
    task=st.just(TaskName("t")),
    version=st.just(TaskVersion("1")),
    stage=st.sampled_from(["install", "run", "revert"]),
    outcome=st.sampled_from(["success", "failure"]),
    attempt=st.integers(0, 2**31),
    at_ms=st.integers(0, 2**45),
    duration_ms=st.floats(0, 1e9),
    error_class=st.sampled_from(["none", "install", "runtime", "network", "shed", "user"]),
)


@given(st.lists(reports, max_size=5).map(tuple))
def test_reports_survive_the_wire(batch: tuple[Report, ...]) -> None:
    assert decode(ReportBatch, encode(ReportBatch(batch))) == ReportBatch(batch)


@given(st.sampled_from([ReportBatch, EpochInfo, Manifest, Snapshot]), json_values)
def test_any_json_is_a_message_or_a_protocol_error(cls: type[object], value: object) -> None:
    problem = ""
    try:
        decode(cls, encode(value))
    except ProtocolError as error:
        problem = error.message
    assert not problem or cls.__name__ in problem


@given(st.binary(max_size=64))
def test_any_bytes_are_a_frame_or_a_protocol_error(data: bytes) -> None:
    try:
        frame = decode_frame(data)
    except ProtocolError:
        return
    assert encode_frame(frame) == data


@given(
    st.sampled_from(FrameKind),
    st.sampled_from(TunnelClass),
    st.integers(0, 2**64 - 1),
    st.binary(max_size=99),
)
def test_frames_survive_the_wire(kind: FrameKind, klass: TunnelClass, seq: int, payload: bytes) -> None:
    frame = Frame(kind, klass, seq, payload)
    assert decode_frame(encode_frame(frame)) == frame


@given(st.lists(st.binary(max_size=2_000), max_size=8))
def test_a_compressed_stream_gives_back_each_payload(payloads: list[bytes]) -> None:
    deflater, inflater = Deflater(), Inflater()
    for payload in payloads:
        assert inflater.decompress(deflater.compress(payload)) == payload


@given(st.binary(max_size=200))
def test_any_payload_inflates_or_is_refused(data: bytes) -> None:
    with contextlib.suppress(ProtocolError, LimitExceeded):
        Inflater().decompress(data)
