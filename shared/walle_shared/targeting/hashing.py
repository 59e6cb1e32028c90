"""The sticky position of a device in a release: a keyed hash, salted per release, in integer arithmetic.

``position(salt, unit)`` is the first 8 bytes, big-endian, of BLAKE2b keyed with the salt over the unit's
UTF-8. A device is in a share when its position is below ``share / SHARE_ONE`` of the line, so raising a share
only adds devices and lowering it removes those added last. Salting per release keeps the same people from
always being first. Test vectors: ``tests/conformance/test_targeting_vectors.py``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

#: Positions run from 0 to POSITIONS - 1.
POSITIONS = 1 << 64

#: What BLAKE2b takes as a key.
SALT_MAX_BYTES = 64

#: A share is an integer number of parts per billion; this many is everybody.
SHARE_ONE = 1_000_000_000


def position(salt: str, unit: str) -> int:
    """Place ``unit`` (a device id) for a release with this ``salt`` (at most ``SALT_MAX_BYTES`` in UTF-8)."""
    digest = hashlib.blake2b(unit.encode(), digest_size=8, key=salt.encode()).digest()
    return int.from_bytes(digest)


def compile_position(salt: str) -> Callable[[bytes], int]:
    """``position`` for many units, as ``compile_share`` is ``in_share``."""
    keyed = hashlib.blake2b(digest_size=8, key=salt.encode())

    def place(unit: bytes) -> int:
        state = keyed.copy()
        state.update(unit)
        return int.from_bytes(state.digest())

    return place


def in_share(salt: str, unit: str, share: int) -> bool:
    """Whether ``unit`` is in the first ``share`` parts per billion; 0 is nobody, ``SHARE_ONE`` everybody."""
    if share >= SHARE_ONE:
        return True
    return position(salt, unit) * SHARE_ONE < share * POSITIONS


def compile_share(salt: str, share: int) -> Callable[[bytes], bool]:
    """``in_share`` for many units: takes the unit's UTF-8 and answers the same, in half the time.

    The keyed state is made once and copied; positions are compared as bytes, which order as the integers do.
    """
    if share >= SHARE_ONE:
        return lambda unit: True
    if share <= 0:
        return lambda unit: False
    first_outside = (-(-share * POSITIONS // SHARE_ONE)).to_bytes(8)
    keyed = hashlib.blake2b(digest_size=8, key=salt.encode())

    def contains(unit: bytes) -> bool:
        state = keyed.copy()
        state.update(unit)
        return state.digest() < first_outside

    return contains
