"""The sticky position of a device in a release: a keyed hash, salted per release, in integer arithmetic.

``position(salt, unit)`` is the first 8 bytes, big-endian, of BLAKE2b keyed with the salt over the unit's
UTF-8. A device is in a share when its position is below ``share / SHARE_ONE`` of the line, so raising a share
only adds devices and lowering it removes those added last. Salting per release keeps the same people from
always being first. Test vectors: ``tests/conformance/test_targeting_vectors.py``.
"""

from __future__ import annotations

import hashlib

#: Positions run from 0 to POSITIONS - 1.
POSITIONS = 1 << 64

#: A share is an integer number of parts per billion; this many is everybody.
SHARE_ONE = 1_000_000_000


def position(salt: str, unit: str) -> int:
    """Place ``unit`` (a device id) for a release with this ``salt`` (at most 64 bytes in UTF-8)."""
    digest = hashlib.blake2b(unit.encode(), digest_size=8, key=salt.encode()).digest()
    return int.from_bytes(digest)


def in_share(salt: str, unit: str, share: int) -> bool:
    """Whether ``unit`` is in the first ``share`` parts per billion; 0 is nobody, ``SHARE_ONE`` everybody."""
    if share >= SHARE_ONE:
        return True
    return position(salt, unit) * SHARE_ONE < share * POSITIONS
