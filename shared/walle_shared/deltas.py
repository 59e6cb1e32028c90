"""Files that travel as what is new in them: zstd with the file before as its dictionary, or with none.

A list of deltas is one JSON file named by its digest; the policy names it beside the manifest. Whoever
unpacks a delta checks the digest of what comes out, always: a delta only says how to get there with fewer
bytes. The frames are what ``zstd --patch-from`` writes and reads. Pure functions.

Rules for what comes from outside:

1. No more comes out than the target's size, however small the frame.
2. No more memory is taken than ``memory_bytes`` says; what would need more is refused before it is read.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from walle_shared.errors import ConfigError, LengthOrHashError, LimitExceeded, RemoteProtocolError
from walle_shared.ids import Sha256, check_sha256
from walle_shared.limits import BUNDLE_FILE_MAX_BYTES, DELTAS_MAX
from walle_shared.protocol.messages import FileRef
from walle_shared.units import MIB

if TYPE_CHECKING or sys.version_info < (3, 14):
    from backports import zstd
else:
    from compression import zstd

#: Stands for the base of a file that is only compressed.
NO_BASE: Final = Sha256("")

#: Zstandard's own bounds of a window that every decoder should take, and that any may.
_WINDOW_LOG_MIN: Final = 10
_WINDOW_LOG_MAX: Final = 27
#: Windows of files that are only compressed: more finds next to nothing in weights.
_PLAIN_WINDOW_LOG: Final = 21

#: int8 weights fine-tuned everywhere become 0.41 of their size; 0.52 with level 9, 0.41 with 15 (measured
#: 2026-11 by tests/bench, at 9 MiB/s; other updates at 25 to 30).
_LEVEL: Final = 12
#: Zstandard takes no shorter dictionary.
_BASE_MIN_BYTES: Final = 8
_PIECE_BYTES: Final = 1 * MIB


@dataclass(frozen=True, slots=True)
class Delta:
    """``file`` holds what makes ``target`` of ``base``; of nothing, where that is ``NO_BASE``."""

    target: Sha256
    base: Sha256
    base_bytes: int
    file: FileRef


@dataclass(frozen=True, slots=True)
class DeltaList:
    """The deltas to the files of one manifest."""

    manifest: Sha256
    deltas: tuple[Delta, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


def check_deltas(found: DeltaList, manifest: Sha256) -> DeltaList:
    """Return the list if its values can be acted on.

    Raises:
        RemoteProtocolError: it is of another manifest, or a digest or size is not one.
    """
    if found.manifest != manifest or len(found.deltas) > DELTAS_MAX:
        raise RemoteProtocolError(f"a list of {len(found.deltas)} deltas is not for manifest {manifest[:12]}")
    if not all(map(_is_sound, found.deltas)):
        raise RemoteProtocolError(f"deltas of manifest {manifest[:12]}: a digest or a size is none")
    return found


def _is_sound(delta: Delta) -> bool:
    digests = (delta.target, delta.file.sha256, *([delta.base] if delta.base != NO_BASE else []))
    try:
        for digest in digests:
            check_sha256(digest)
    except ConfigError:
        return False
    return all(0 <= size <= BUNDLE_FILE_MAX_BYTES for size in (delta.base_bytes, delta.file.size_bytes))


def memory_bytes(base_bytes: int, target_bytes: int) -> int:
    """What unpacking takes: the base, and as much of the result as the frame may refer back to."""
    if base_bytes == 0:
        return min(target_bytes, 1 << _PLAIN_WINDOW_LOG)
    return base_bytes + target_bytes


def pack(target: bytes, base: bytes = b"") -> bytes | None:
    """The delta from ``base`` to ``target``; None if there can be none: a tiny base, or both huge."""
    if not base:
        return zstd.compress(target, options=_compression(_PLAIN_WINDOW_LOG))
    window_log = max(_WINDOW_LOG_MIN, (len(base) + len(target)).bit_length())
    if window_log > _WINDOW_LOG_MAX or len(base) < _BASE_MIN_BYTES:
        return None
    options = _compression(window_log) | {int(zstd.CompressionParameter.enable_long_distance_matching): 1}
    return zstd.compress(target, options=options, zstd_dict=_prefix(base))


def unpack(
    packed: Iterable[bytes], base: bytes | memoryview, target_bytes: int, *, memory_max_bytes: int
) -> Iterator[bytes]:
    """What a delta makes of its base, piece by piece; at most ``target_bytes`` of it.

    Raises:
        LimitExceeded: it would take more memory than it may.
        LengthOrHashError: it is no such delta, or does not make exactly so many bytes.
    """
    if 0 < len(base) < _BASE_MIN_BYTES:
        raise LengthOrHashError(f"no delta has a base of {len(base)} bytes")
    needed = memory_bytes(len(base), target_bytes)
    if needed > memory_max_bytes:
        raise LimitExceeded(f"a delta would take {needed} bytes of memory, {memory_max_bytes} are allowed")
    window_log = _PLAIN_WINDOW_LOG if not base else min(_WINDOW_LOG_MAX, needed.bit_length())
    options = {int(zstd.DecompressionParameter.window_log_max): max(_WINDOW_LOG_MIN, window_log)}
    decompressor = zstd.ZstdDecompressor(_prefix(base) if base else None, options)
    made = 0
    try:
        for data in packed:
            rest = data
            while not decompressor.eof:
                piece = decompressor.decompress(rest, _PIECE_BYTES)
                made += len(piece)
                if made > target_bytes:
                    raise LengthOrHashError(f"a delta makes more than the promised {target_bytes} bytes")
                yield piece
                rest = b""
                if decompressor.needs_input:
                    break
            if decompressor.eof:
                break
    except zstd.ZstdError as error:
        raise LengthOrHashError(f"a delta cannot be unpacked: {error}") from None
    if made != target_bytes or not decompressor.eof:
        raise LengthOrHashError(f"a delta makes {made} bytes, {target_bytes} were promised")


def _compression(window_log: int) -> dict[int, int]:
    parameter = zstd.CompressionParameter
    return {int(parameter.compression_level): _LEVEL, int(parameter.window_log): window_log}


def _prefix(base: bytes | memoryview) -> tuple[zstd.ZstdDict, int]:
    return zstd.ZstdDict(base, is_raw=True).as_prefix
