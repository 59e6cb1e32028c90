"""Sets of ids that a device can ask for itself without holding, or even fetching, the whole set.

An id is its digest: 16 bytes of BLAKE2b, keyed with the set's salt. The first bits choose a shard; a shard is
its digests in order, nothing else, and is a file of its own, named by its content like every other. The index
says in one row each which file a shard is, so whoever asks reads two files of some tens of kilobytes::

    index   b"walle ids 1\\n", then per shard 4 bytes of size and 32 of SHA-256
    shard   16 bytes per id, ascending

The answer is exact: two of a million ids share a digest with a probability below 1e-26. Digests do not tell
ids; but who has the salt, which the policy names, can try out ids that can be guessed. Device ids cannot.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from walle_shared.errors import LimitExceeded, RemoteProtocolError
from walle_shared.ids import Sha256
from walle_shared.limits import SET_MAX_IDS
from walle_shared.protocol.messages import FileRef
from walle_shared.targeting.predicate import DEVICE, Profile, Scalar, SetQuestion, set_answer

_MAGIC: Final = b"walle ids 1\n"
_DIGEST_BYTES: Final = 16
_ENTRY_BYTES: Final = 4 + 32
_SHARD_BITS_MAX: Final = 12

#: No index and no shard is longer: digests spread so evenly that the fullest shard has little over the mean.
INDEX_MAX_BYTES: Final = len(_MAGIC) + (_ENTRY_BYTES << _SHARD_BITS_MAX)
SHARD_MAX_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class IdSet:
    """A set as a policy names it; a higher ``version`` is newer."""

    name: str
    version: int
    count: int
    salt: str
    index: FileRef
    extra: dict[str, Any] = field(default_factory=dict)


def member_digest(salt: str, member: str) -> bytes:
    """What stands for an id in a set."""
    return hashlib.blake2b(member.encode(), digest_size=_DIGEST_BYTES, key=salt.encode()).digest()


def build(members: Iterable[str], salt: str) -> tuple[int, list[bytes]]:
    """How many different ids there are, and their shards; empty ones are empty.

    Raises:
        LimitExceeded: there are too many.
    """
    digests = sorted(set(_digests(salt, members)))
    if len(digests) > SET_MAX_IDS:
        raise LimitExceeded(f"a set may have at most {SET_MAX_IDS} ids, this one has {len(digests)}")
    bits = _shard_bits(len(digests))
    shards: list[list[bytes]] = [[] for _ in range(1 << bits)]
    for digest in digests:
        shards[_shard_number(digest, bits)].append(digest)
    return len(digests), [b"".join(shard) for shard in shards]


def index_of(shards: Sequence[FileRef]) -> bytes:
    """The index of shards that are stored."""
    entries = [ref.size_bytes.to_bytes(4) + bytes.fromhex(ref.sha256) for ref in shards]
    return _MAGIC + b"".join(entries)


def shard_of(index: bytes, digest: bytes) -> FileRef | None:
    """The file that an id would be in; ``None`` if its shard is empty.

    Raises:
        RemoteProtocolError: it is no index.
    """
    count, rest = divmod(len(index) - len(_MAGIC), _ENTRY_BYTES)
    if not index.startswith(_MAGIC) or rest or count.bit_count() != 1 or count > 1 << _SHARD_BITS_MAX:
        raise RemoteProtocolError("this is no index of a set of ids")
    start = len(_MAGIC) + _ENTRY_BYTES * _shard_number(digest, count.bit_length() - 1)
    entry = index[start : start + _ENTRY_BYTES]
    size_bytes = int.from_bytes(entry[:4])
    return FileRef(Sha256(entry[4:].hex()), size_bytes) if size_bytes else None


def contains(shard: bytes, digest: bytes) -> bool:
    """Whether an id is in its shard.

    Raises:
        RemoteProtocolError: it is no shard.
    """
    if len(shard) % _DIGEST_BYTES:
        raise RemoteProtocolError("this is no shard of a set of ids")
    rows = range(len(shard) // _DIGEST_BYTES)

    def row(number: int) -> bytes:
        return shard[number * _DIGEST_BYTES : (number + 1) * _DIGEST_BYTES]

    at = bisect_left(rows, digest, key=row)
    return at < len(rows) and row(at) == digest


def _digests(salt: str, members: Iterable[str]) -> Iterator[bytes]:
    """``member_digest`` of each; the keyed state is made once and copied."""
    keyed = hashlib.blake2b(digest_size=_DIGEST_BYTES, key=salt.encode())
    for member in members:
        state = keyed.copy()
        state.update(member.encode())
        yield state.digest()


def _shard_bits(count: int) -> int:
    """So many shards that index and shard are about as long: what an asker reads is then the least."""
    best = (count * _DIGEST_BYTES / _ENTRY_BYTES) ** 0.5
    return min(round(math.log2(best)), _SHARD_BITS_MAX) if best > 1 else 0


def _shard_number(digest: bytes, bits: int) -> int:
    return int.from_bytes(digest[:2]) >> (16 - bits)


def answer_sets(
    questions: Mapping[SetQuestion, IdSet],
    device_id: str,
    profile: Profile,
    is_in: Callable[[IdSet, str], bool],
) -> dict[str, Scalar]:
    """What a profile must say besides (``predicate.set_answer``); about what it lacks it says nothing."""
    answers: dict[str, Scalar] = {}
    for question, asked in questions.items():
        member = member_of(question, device_id, profile)
        if member is not None:
            answers[set_answer(question)] = is_in(asked, member)
    return answers


def member_of(question: SetQuestion, device_id: str, profile: Profile) -> str | None:
    """The id that a question is about; ``None`` if the profile has none."""
    member = device_id if question.attribute == DEVICE else profile.get(question.attribute)
    return member if isinstance(member, str) else None
