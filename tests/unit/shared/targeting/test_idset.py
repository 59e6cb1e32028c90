from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walle_shared.errors import LimitExceeded, RemoteProtocolError
from walle_shared.signing import file_ref
from walle_shared.targeting import idset


def made(members: list[str], salt: str = "s") -> tuple[int, bytes, dict[str, bytes]]:
    """A set as it is stored: how many ids, the index, and the shards by digest."""
    count, shards = idset.build(members, salt)
    return (
        count,
        idset.index_of([file_ref(shard) for shard in shards]),
        {file_ref(s).sha256: s for s in shards},
    )


def is_in(index: bytes, files: dict[str, bytes], member: str, salt: str = "s") -> bool:
    digest = idset.member_digest(salt, member)
    shard = idset.shard_of(index, digest)
    return shard is not None and idset.contains(files[shard.sha256], digest)


@given(st.sets(st.text(max_size=5), max_size=60), st.sets(st.text(max_size=5), max_size=60))
def test_it_answers_as_a_plain_set(inside: set[str], others: set[str]) -> None:
    count, index, files = made([*inside, *inside])
    assert count == len(inside)
    for member in inside | others:
        assert is_in(index, files, member) == (member in inside)


def test_what_an_asker_reads_of_a_large_set_is_small() -> None:
    members = [f"device-{n}" for n in range(100_000)]
    count, index, files = made(members)
    assert count == 100_000
    assert all(is_in(index, files, member) for member in members[::97])
    assert not any(is_in(index, files, f"other-{n}") for n in range(1_000))
    assert max(map(len, files.values())) + len(index) < 30_000


def test_ids_cannot_be_read_from_the_files_nor_tried_without_the_salt() -> None:
    _, index, files = made(["a-secret-name"])
    assert all(b"secret" not in data for data in (index, *files.values()))
    assert not is_in(index, files, "a-secret-name", salt="another")


def test_too_many_ids_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idset, "SET_MAX_IDS", 2)
    with pytest.raises(LimitExceeded, match="at most 2 ids, this one has 3"):
        idset.build("abc", "s")


@pytest.mark.parametrize(
    "index", [b"", b"walle ids 2\n" + bytes(36), b"walle ids 1\n" + bytes(35), b"walle ids 1\n"]
)
def test_what_is_no_index_is_refused(index: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="no index"):
        idset.shard_of(index, bytes(16))


@given(st.binary(max_size=200), st.binary(min_size=16, max_size=16))
def test_no_bytes_break_a_reader(data: bytes, digest: bytes) -> None:
    for ask in (idset.shard_of, idset.contains):
        try:
            ask(data, digest)
        except RemoteProtocolError as error:
            assert "this is no" in error.message  # noqa: PT017  # most are; none may fail otherwise
