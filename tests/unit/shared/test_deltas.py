from __future__ import annotations

import random
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from walle_shared.deltas import NO_BASE, Delta, DeltaList, check_deltas, memory_bytes, pack, unpack
from walle_shared.errors import LengthOrHashError, LimitExceeded, RemoteProtocolError
from walle_shared.ids import Sha256
from walle_shared.protocol.messages import FileRef
from walle_shared.signing import sha256_hex
from walle_shared.units import MIB

MANIFEST = Sha256("a" * 64)


def weights(size_bytes: int, seed: int) -> bytes:
    """Bytes that do not compress, the same for the same seed."""
    return random.Random(seed).randbytes(size_bytes)


def unpacked(
    packed: bytes, base: bytes, size_bytes: int, *, memory: int = 64 * MIB, piece: int = 1_000
) -> bytes:
    pieces = [packed[at : at + piece] for at in range(0, len(packed), piece)]
    return b"".join(unpack(pieces, base, size_bytes, memory_max_bytes=memory))


@settings(max_examples=40, deadline=None)
@given(
    base=st.binary(max_size=3_000),
    insert=st.binary(max_size=300),
    at=st.integers(0, 3_000),
    piece=st.integers(1, 500),
)
def test_what_is_packed_comes_out(base: bytes, insert: bytes, at: int, piece: int) -> None:
    target = base[:at] + insert + base[at:]
    packed = pack(target, base)
    assert (packed is None) == (0 < len(base) < 8)
    if packed is not None:
        assert unpacked(packed, base, len(target), piece=piece) == target


@settings(max_examples=80, deadline=None)
@given(junk=st.binary(max_size=200), flip=st.integers(0, 10_000), size_bytes=st.integers(0, 5_000))
def test_nothing_hostile_gets_further_than_a_typed_error(junk: bytes, flip: int, size_bytes: int) -> None:
    base, target = weights(2_000, 1), weights(2_000, 1) + b"more"
    packed = bytearray(pack(target, base) or b"")
    packed[flip % len(packed)] ^= 1 + flip % 255
    for data in (junk, bytes(packed)):
        for before in (base, base[: flip % 12]):
            with suppress(LengthOrHashError):
                assert len(unpacked(data, before, size_bytes)) == size_bytes


def test_a_small_change_to_a_large_file_travels_as_next_to_nothing() -> None:
    base = weights(1 * MIB, 2)
    target = base[:1_000] + weights(1_024, 3) + base[1_000:]
    packed = pack(target, base)
    assert packed is not None
    assert len(packed) < 3_000
    assert unpacked(packed, base, len(target), piece=1 << 16) == target


def test_a_bomb_is_cut_off_at_the_promised_size() -> None:
    bomb = pack(bytes(64 * MIB))
    assert bomb is not None
    assert len(bomb) < 10_000
    pieces = unpack([bomb], b"", 1_000, memory_max_bytes=64 * MIB)
    with pytest.raises(LengthOrHashError, match="more than the promised 1000 bytes"):
        list(pieces)


def test_memory_is_asked_for_before_it_is_taken() -> None:
    base = weights(5_000, 4)
    packed = pack(base, base) or b""
    assert memory_bytes(5_000, 5_000) == 10_000
    with pytest.raises(LimitExceeded, match="10000 bytes of memory, 9999"):
        unpacked(packed, base, 5_000, memory=9_999)


def test_a_frame_that_wants_a_larger_window_than_it_may_is_refused() -> None:
    base = weights(4 * MIB, 5)
    packed = pack(base + base, base) or b""  # needs a window of 16 MiB
    with pytest.raises(LengthOrHashError, match="cannot be unpacked"):
        unpacked(packed, base[:1_000], 1_000, piece=1 << 16)


def test_the_wrong_base_does_not_pass_for_the_right_one() -> None:
    base, target = weights(3_000, 6), weights(3_000, 6) + b"x"
    packed = pack(target, base) or b""
    with suppress(LengthOrHashError):
        assert sha256_hex(unpacked(packed, weights(3_000, 7), len(target))) != sha256_hex(target)


@pytest.mark.skipif(shutil.which("zstd") is None, reason="needs the zstd program")
def test_the_zstd_program_reads_and_writes_the_same(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(weights(50_000, 8))
    new.write_bytes(old.read_bytes()[:20_000] + b"changed" + old.read_bytes()[20_000:])
    (tmp_path / "ours.zst").write_bytes(pack(new.read_bytes(), old.read_bytes()) or b"")
    zstd = ["zstd", "-q", "--patch-from", str(old)]
    subprocess.run([*zstd, "-d", str(tmp_path / "ours.zst"), "-o", str(tmp_path / "made")], check=True)
    assert (tmp_path / "made").read_bytes() == new.read_bytes()
    subprocess.run([*zstd, str(new), "-o", str(tmp_path / "theirs.zst")], check=True)
    theirs = (tmp_path / "theirs.zst").read_bytes()
    assert unpacked(theirs, old.read_bytes(), new.stat().st_size) == new.read_bytes()


@pytest.mark.parametrize(
    "delta",
    [
        Delta(Sha256("no"), NO_BASE, 0, FileRef(MANIFEST, 1)),
        Delta(MANIFEST, Sha256("../x"), 0, FileRef(MANIFEST, 1)),
        Delta(MANIFEST, NO_BASE, 0, FileRef(Sha256("A" * 64), 1)),
        Delta(MANIFEST, MANIFEST, -1, FileRef(MANIFEST, 1)),
        Delta(MANIFEST, MANIFEST, 1, FileRef(MANIFEST, 1 << 40)),
    ],
)
def test_a_list_with_nonsense_in_it_is_refused(delta: Delta) -> None:
    with pytest.raises(RemoteProtocolError):
        check_deltas(DeltaList(MANIFEST, (delta,)), MANIFEST)


def test_a_list_for_another_manifest_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        check_deltas(DeltaList(Sha256("b" * 64)), MANIFEST)
