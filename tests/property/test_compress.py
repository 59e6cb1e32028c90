"""Codes stand for numbers within half a step, exactly as NumPy and the engine round."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from walle_engine import api
from walle_engine.compress import numbers
from walle_engine.compress.numbers import Scale
from walle_engine.compress.packing import halves
from walle_engine.compress.ranges import Range

_numbers = st.floats(-1e6, 1e6, width=32)
_matrices = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=_numbers)


@given(st.floats(-1e6, 0), st.floats(0, 1e6), hnp.arrays(np.float32, 20, elements=_numbers))
def test_codes_are_within_half_a_step_of_what_they_cover(low: float, high: float, x: Any) -> None:
    scale = Scale.of(Range(low, high))
    covered = np.clip(x, scale.covers.low, scale.covers.high)
    back = scale.dequantize(scale.quantize(x))
    assert np.all(np.abs(back - covered) <= scale.scale * 0.5001 + np.abs(covered) * 1e-6)
    assert scale.dequantize(scale.quantize(np.zeros(1, np.float32)))[0] == 0


@settings(max_examples=40)  # each makes a session
@given(st.floats(-100, 0), st.floats(0, 100), hnp.arrays(np.float32, 20, elements=_numbers))
def test_the_engine_makes_the_same_codes(low: float, high: float, x: Any) -> None:
    scale = Scale.of(Range(low, high))
    builder = api.GraphBuilder()
    builder.input("x", "F32", [20])
    builder.weight("s", scale.scale.reshape(()))
    builder.weight("z", np.array(scale.zero_point, np.uint8))
    builder.node("QuantizeLinear", ["x", "s", "z"], ["q"])
    builder.node("DequantizeLinear", ["q", "s", "z"], ["y"])
    builder.output("q")
    builder.output("y")
    found = builder.finish().session().run({"x": x})
    codes = scale.quantize(x)
    assert np.array_equal(np.asarray(found["q"]), codes)
    assert np.array_equal(np.asarray(found["y"]), scale.dequantize(codes))


@given(_matrices, st.integers(2, 8), st.integers(0, 1))
def test_channels_have_steps_of_their_own(weight: Any, bits: int, axis: int) -> None:
    scales = numbers.channel_scales(weight, axis, bits)
    codes = numbers.quantize_channels(weight, scales, axis, bits)
    assert np.abs(codes.astype(int)).max(initial=0) <= numbers.top_of(bits)
    apart = np.abs(numbers.dequantize_channels(codes, scales, axis) - weight)
    assert np.all(apart <= numbers.along(scales, axis, 2) * 0.5001)


@given(_matrices, st.sampled_from([4, 8]), st.sampled_from([16, 32]), st.booleans())
def test_blocks_have_steps_of_their_own(weight: Any, bits: int, block: int, symmetric: bool) -> None:
    made = numbers.quantize_blocks(weight, bits, block, symmetric=symmetric)
    apart = np.abs(made.dequantize() - weight)
    steps = np.repeat(made.scales, block, axis=1)[:, : weight.shape[1]]
    # Without symmetry the code of 0 is rounded as well, and so ends may be cut by half a step.
    assert np.all(apart <= steps * (0.5001 if symmetric else 1.0001))
    assert made.codes.max(initial=0) < 1 << bits


@given(hnp.arrays(np.uint8, hnp.array_shapes(max_dims=3, max_side=9), elements=st.integers(0, 15)))
def test_two_codes_to_a_byte_come_back(codes: Any) -> None:
    packed = numbers.pack_nibbles(codes)
    assert packed.shape[-1] == (codes.shape[-1] + 1) // 2
    assert np.array_equal(numbers.unpack_nibbles(packed, codes.shape[-1]), codes)
    joined = halves(codes.astype(np.int8), 0)
    flat = np.concatenate([joined & 15, joined >> 4])[: codes.size]
    assert np.array_equal(flat.reshape(codes.shape), codes)
