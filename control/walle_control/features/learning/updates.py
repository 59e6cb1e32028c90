"""What devices send, as vectors: decoded, and refused unless an honest device could have sent it. Pure.

Encodings (``walle_shared.learning``): ``f32`` and ``bf16`` are little-endian numbers; ``int8`` is a float32
scale per block of ``LEARNING_BLOCK`` numbers, then the numbers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from walle_shared.errors import RemoteProtocolError
from walle_shared.learning import Encoding, RoundTerms, encoded_bytes, norm_bound
from walle_shared.limits import LEARNING_BLOCK

type Vector = np.ndarray[Any, np.dtype[np.float32]]


def decode(body: bytes, encoding: Encoding, size: int) -> Vector:
    """The ``size`` numbers of an update.

    Raises:
        RemoteProtocolError: it has another length.
    """
    expected = encoded_bytes(size, encoding)
    if len(body) != expected:
        raise RemoteProtocolError(
            f"the update has {len(body)} bytes, {size} numbers as {encoding} {expected}"
        )
    if encoding == "f32":
        return np.frombuffer(body, "<f4").astype(np.float32)
    if encoding == "bf16":
        wide = np.frombuffer(body, "<u2").astype(np.uint32) << np.uint32(16)
        return wide.view(np.float32)
    blocks = math.ceil(size / LEARNING_BLOCK)
    scales = np.frombuffer(body, "<f4", blocks)
    whole = np.frombuffer(body, np.int8, offset=4 * blocks).astype(np.float32)
    with np.errstate(invalid="ignore", over="ignore"):  # hostile scales: ``check`` looks at the result
        return np.asarray(whole * np.repeat(scales, LEARNING_BLOCK)[:size], np.float32)


def check(update: Vector, terms: RoundTerms) -> Vector:
    """Return an update that may be summed: finite, and no longer than the round allows.

    Its length is brought to the bound exactly where rounding left it just above, so that what one device can
    do to the sum is bounded whatever it sends.

    Raises:
        RemoteProtocolError: a number is not finite, or it is too long.
    """
    wide = update.astype(np.float64)
    if not np.isfinite(wide).all():
        raise RemoteProtocolError("the update has numbers that are not finite")
    norm, bound = float(np.linalg.norm(wide)), norm_bound(terms, update.size)
    if norm > bound:
        raise RemoteProtocolError(f"the update has the norm {norm:.4g}, over the bound of {bound:.4g}")
    if terms.local_noise or norm <= terms.clip_norm:
        return update
    return (wide * (terms.clip_norm / norm)).astype(np.float32)


def to_bytes(vector: Any) -> bytes:
    """A vector as it is kept and published: float32, little-endian."""
    return np.ascontiguousarray(vector, "<f4").tobytes()


def from_bytes(data: bytes) -> Vector:
    """What ``to_bytes`` wrote."""
    return np.frombuffer(data, "<f4").astype(np.float32)
