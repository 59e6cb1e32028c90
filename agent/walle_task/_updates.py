"""What a device makes of its weights before they leave it: a difference, clipped, noised, rounded, cut.

The server's reading of it is ``walle_control.features.learning.updates``; a test holds both together.

Invariants:

1. Without noise, what is sent is never longer than the round's ``clip_norm``, rounding included.
2. Rounding is by chance and right on average: a number between two steps goes up as often as it is near.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

from walle_shared.limits import LEARNING_BLOCK, LEARNING_PART_BYTES
from walle_task import matrix

#: Rounding by chance moves a number of bf16, which has 8 bits, by less than this part of it.
_BF16_STEP = 2.0**-7


def flat(values: Sequence[Any]) -> Any:
    """Buffers of float32 one after another, as one vector of float64."""
    parts = [matrix.reshape(matrix.asarray(value), (-1,)) for value in values]
    return matrix.astype(matrix.concat(parts), matrix.float64)


def norm_of(vector: Any) -> float:
    """The Euclidean length."""
    return float(matrix.sqrt(matrix.sum(vector * vector)))


def clipped(vector: Any, limit: float) -> Any:
    """The vector, shortened to ``limit`` if it is longer."""
    norm = norm_of(vector)
    return vector if norm <= limit else vector * (limit / norm)


def encode(vector: Any, terms: Mapping[str, Any], seed: int) -> bytes:
    """Clip a vector, add the noise that the round asks for, and write it as the round's encoding.

    Args:
        vector: float64.
        terms: ``clip_norm``, ``local_noise`` and ``encoding`` of the round.
        seed: of noise and rounding; must not be guessed.
    """
    chance = matrix.random.default_rng(seed)
    limit, noise, encoding = terms["clip_norm"], terms["local_noise"], terms["encoding"]
    short = clipped(vector, limit / (1 + _BF16_STEP) if encoding == "bf16" else limit)
    if noise:
        short = short + chance.normal(0.0, noise * limit, short.shape)
    if encoding == "int8":
        return _int8(short, chance, None if noise else limit)
    single = matrix.astype(short, matrix.float32)
    return _bf16(single, chance) if encoding == "bf16" else _bytes(single)


def _bf16(vector: Any, chance: Any) -> bytes:
    """The upper halves, after a random number was added to the lower ones."""
    bits = matrix.asarray(memoryview(vector).cast("B").cast("I"))
    dither = matrix.astype(chance.integers(0, 1 << 16, vector.shape), matrix.uint32)
    upper = matrix.bitwise_right_shift(bits + dither, matrix.asarray(16, dtype=matrix.uint32))
    return _bytes(matrix.astype(upper, matrix.uint16))


def _int8(vector: Any, chance: Any, limit: float | None) -> bytes:
    """A scale per block, then whole numbers from -127 to 127; scales shrink where rounding made it longer."""
    size = vector.shape[0]
    blocks = math.ceil(size / LEARNING_BLOCK)
    room = matrix.zeros((blocks * LEARNING_BLOCK - size,), dtype=matrix.float64)
    rows = matrix.reshape(matrix.concat([vector, room]), (blocks, LEARNING_BLOCK))
    largest = matrix.max(matrix.abs(rows), axis=1, keepdims=True)
    # As the reader will have them; a hair up, so that no quotient passes 127.
    scales = matrix.astype(largest * ((1 + 1e-6) / 127), matrix.float32)
    divisors = matrix.where(largest > 0, matrix.astype(scales, matrix.float64), 1.0)
    whole = matrix.floor(rows / divisors + chance.random(rows.shape))
    whole = matrix.clip(whole, -127.0, 127.0)
    if limit is not None:
        norm = norm_of(matrix.reshape(whole * matrix.astype(scales, matrix.float64), (-1,)))
        if norm > limit:
            scales = matrix.astype(scales * (limit / norm), matrix.float32)
    numbers = matrix.reshape(matrix.astype(whole, matrix.int8), (-1,))
    return _bytes(matrix.reshape(scales, (-1,))) + _bytes(numbers)[:size]


def _bytes(array: Any) -> bytes:
    return memoryview(array).tobytes()


def cut(body: bytes) -> list[str]:
    """The body in base64, in parts that fit a record."""
    step = LEARNING_PART_BYTES
    return [base64.b64encode(body[at : at + step]).decode() for at in range(0, max(len(body), 1), step)]
