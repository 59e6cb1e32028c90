import pytest

from walle_shared.errors import LimitExceeded, RemoteProtocolError
from walle_shared.ids import ReleaseId, TaskName, TaskVersion
from walle_shared.protocol.codec import canonical, decode, encode
from walle_shared.protocol.messages import EpochNotice, Report, ReportBatch

REPORT = Report("r-1", ReleaseId("rel"), TaskName("t"), TaskVersion("1.0"), "run", "success", 1, 5, 2.5)


def test_messages_survive_the_wire() -> None:
    batch = ReportBatch((REPORT,))
    assert decode(ReportBatch, encode(batch)) == batch


def test_a_newer_peers_members_are_kept() -> None:
    notice = decode(EpochNotice, b'{"epoch": 3, "hint": "demo"}')
    assert notice.extra == {"hint": "demo"}
    assert encode(notice) == b'{"epoch":3,"spread_s":%s,"hint":"demo"}' % str(notice.spread_s).encode()


@pytest.mark.parametrize("data", [b"", b"nope", b"[1]", b'{"epoch": "3"}', b"{}", b'{"epoch": 3.5}'])
def test_malformed_messages_name_their_type(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="EpochNotice"):
        decode(EpochNotice, data)


def test_length_is_checked_before_parsing() -> None:
    with pytest.raises(LimitExceeded, match="over the limit of 4"):
        decode(EpochNotice, b"x" * 5, limit_bytes=4)


def test_canonical_bytes_do_not_depend_on_order() -> None:
    assert canonical({"b": 1, "a": [1, {"d": 1, "c": 2}]}) == b'{"a":[1,{"c":2,"d":1}],"b":1}'
