"""Real numbers as small integers: ``x = (q - zero_point) * scale``, rounded half to even, as ONNX has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from walle_engine.compress.ranges import Range
from walle_shared.errors import ModelError

type Array = np.ndarray[Any, Any]

SMALLEST_SCALE = np.float32(np.finfo(np.float32).tiny)  # of normal numbers, which divide without surprises


@dataclass(frozen=True)
class Scale:
    """How the numbers of an activation are coded: all by one scale."""

    scale: np.float32
    zero_point: int
    bits: int = 8

    @classmethod
    def of(cls, range_: Range, bits: int = 8) -> Scale:
        """Return unsigned codes that cover a range, with one for 0 exactly."""
        top = (1 << bits) - 1
        scale = np.float32(max((range_.high - range_.low) / top, float(SMALLEST_SCALE)))
        if range_.high == range_.low:
            return cls(np.float32(1), 0, bits)
        return cls(scale, int(np.clip(np.rint(-range_.low / scale), 0, top)), bits)

    @property
    def covers(self) -> Range:
        """Exactly what the codes reach."""
        top = (1 << self.bits) - 1
        return Range(-self.zero_point * float(self.scale), (top - self.zero_point) * float(self.scale))

    def quantize(self, x: Array) -> Array:
        """Return codes."""
        with np.errstate(over="ignore"):  # what is past all codes is the last of them
            codes: Array = np.rint(x.astype(np.float32) / self.scale) + self.zero_point
        return codes.clip(0, (1 << self.bits) - 1).astype(np.uint8)

    def dequantize(self, codes: Array) -> Array:
        """Return what the codes stand for."""
        centred: Array = codes.astype(np.int32) - self.zero_point
        return centred.astype(np.float32) * self.scale


def top_of(bits: int) -> int:
    """Return the largest signed code; its negative is the smallest, so that 0 is in the middle."""
    if not 2 <= bits <= 8:
        raise ModelError(f"weights of {bits} bits: use 2 to 8")
    return (1 << (bits - 1)) - 1


def channel_scales(weight: Array, axis: int, bits: int = 8) -> Array:
    """Return a symmetric scale per index of an axis, float32; 1 where all is zero.

    Raises:
        ModelError: if a number is not finite.
    """
    others = tuple(i for i in range(weight.ndim) if i != axis)
    largest = np.abs(weight).max(axis=others, initial=0.0)
    if not np.isfinite(largest).all():
        raise ModelError("a weight is not finite: train the model again")
    return np.where(largest > 0, np.maximum(largest / top_of(bits), SMALLEST_SCALE), 1).astype(np.float32)


def quantize_channels(weight: Array, scales: Array, axis: int, bits: int = 8) -> Array:
    """Return signed codes, int8."""
    top = top_of(bits)
    codes = np.rint(weight / along(scales, axis, weight.ndim))
    return np.clip(codes, -top, top).astype(np.int8)


def dequantize_channels(codes: Array, scales: Array, axis: int) -> Array:
    """Return what codes stand for, float32."""
    return codes.astype(np.float32) * along(scales, axis, codes.ndim)


def along(scales: Array, axis: int, rank: int) -> Array:
    """Return scales in a shape that broadcasts along an axis."""
    return scales.reshape([-1 if i == axis else 1 for i in range(rank)])


@dataclass(frozen=True)
class Blocks:
    """A matrix in codes, every row in blocks with a scale each.

    Args:
        codes: ``[rows, blocks, block]`` from 0 to ``2**bits - 1``, what is past the row's end at its zero
            point.
        scales: ``[rows, blocks]``.
        zero_points: ``[rows, blocks]``; None: all in the middle, ``2**(bits - 1)``.
        bits: of a code: 4 or 8.
        k: length of a row.
    """

    codes: Array
    scales: Array
    zero_points: Array | None
    bits: int
    k: int

    def dequantize(self) -> Array:
        """Return the matrix, ``[rows, k]``."""
        middle = 1 << (self.bits - 1)
        zero = middle if self.zero_points is None else self.zero_points[..., None].astype(np.int32)
        centred = (self.codes.astype(np.int32) - zero).astype(np.float32)
        rows = centred * self.scales[..., None]
        return rows.reshape(len(rows), -1)[:, : self.k]


def quantize_blocks(matrix: Array, bits: int, block: int, *, symmetric: bool = True) -> Blocks:
    """Quantise each row of a matrix ``[rows, k]`` in blocks of ``block``.

    Raises:
        ModelError: if a number is not finite.
    """
    if not np.isfinite(matrix).all():
        raise ModelError("a weight is not finite: train the model again")
    rows, k = matrix.shape
    count = -(-k // block)
    padded = np.zeros((rows, count * block), np.float32)
    padded[:, :k] = matrix
    parts = padded.reshape(rows, count, block)
    top, middle = (1 << bits) - 1, 1 << (bits - 1)
    if symmetric:
        largest = np.abs(parts).max(axis=2)
        scales, zero = largest / top_of(bits), np.full((rows, count), middle)
    else:
        low, high = np.minimum(parts.min(axis=2), 0), np.maximum(parts.max(axis=2), 0)
        scales = (high - low) / top
        zero = np.rint(-low / np.where(scales > 0, scales, 1)).clip(0, top)
    scales = np.where(scales > 0, np.maximum(scales, SMALLEST_SCALE), 1).astype(np.float32)
    codes = np.clip(np.rint(parts / scales[..., None]) + zero[..., None], 0, top).astype(np.uint8)
    codes = np.where(np.arange(count * block).reshape(count, block) < k, codes, zero[..., None]).astype(
        np.uint8
    )
    return Blocks(codes, scales, None if symmetric else zero.astype(np.uint8), bits, k)


def pack_nibbles(codes: Array) -> Array:
    """Return codes below 16 two to a byte along the last axis, the first in the low bits, 0 past the end."""
    even = codes if codes.shape[-1] % 2 == 0 else np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, 1)])
    packed: Array = even[..., ::2] | even[..., 1::2] << 4
    return packed.astype(np.uint8)


def unpack_nibbles(packed: Array, count: int) -> Array:
    """Undo :func:`pack_nibbles` for a last axis of ``count``."""
    pairs = np.stack([packed & 15, packed >> 4], axis=-1)
    return pairs.reshape(*packed.shape[:-1], -1)[..., :count]
