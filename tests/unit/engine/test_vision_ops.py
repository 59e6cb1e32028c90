"""Image and signal operators given what they must refuse: the message names the operator and the cause."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from walle_engine import api
from walle_shared.errors import EngineError

Array = np.ndarray[Any, Any]
_DTYPES = {"float32": "F32", "int64": "I64", "uint8": "U8"}


def _f(*shape: int) -> Array:
    return np.ones(shape, np.float32)


def _i(*values: int) -> Array:
    return np.array(values, np.int64)


def _run(op: str, inputs: list[Array], attrs: dict[str, Any], constants: int) -> dict[str, Any]:
    """Inputs from ``constants`` on are weights."""
    builder = api.GraphBuilder(op)
    for i, value in enumerate(inputs):
        if i >= constants:
            builder.weight(f"x{i}", value)
        else:
            builder.input(f"x{i}", _DTYPES[str(value.dtype)], value.shape)
    builder.node(op, [f"x{i}" for i in range(len(inputs))], ["y"], name="node", **attrs)
    builder.output("y")
    return builder.finish().session().run({f"x{i}": v for i, v in enumerate(inputs[:constants])})


def _u8(*shape: int) -> Array:
    return np.ones(shape, np.uint8)


_CODED = {"K": 16, "N": 3, "bits": 4, "block_size": 16}


_ROI = {"output_height": 2, "output_width": 2}
_WRONG: list[tuple[str, list[Array], dict[str, Any], str]] = [
    ("ConvTranspose", [_f(1, 4, 3, 3), _f(4, 2, 2, 2)], {"group": 3}, "groups do not fit"),
    ("ConvTranspose", [_f(1, 4, 3, 3), _f(4, 2, 2, 2)], {"strides": [2**40, 1]}, "absurdly large"),
    ("ConvTranspose", [_f(1, 4, 3, 3), _f(4, 2, 2, 2)], {"auto_pad": "SOME"}, "auto_pad 'SOME' is unknown"),
    ("ConvTranspose", [_f(1, 4, 3, 3), _f(4, 2, 2, 2)], {"pads": [9, 9, 9, 9]}, "cropped below nothing"),
    ("Col2Im", [_f(1, 5, 4), _i(3, 3), _i(2, 2)], {}, "do not make blocks"),
    ("Col2Im", [_f(1, 4, 4), _i(2**50, 3), _i(2, 2)], {}, "absurdly large"),
    ("CausalConvWithState", [_f(1, 2, 3), _f(2, 1, 4)], {"activation": "gelu"}, "'activation' must be"),
    ("MaxPool", [_f(1, 1, 3, 3)], {"kernel_shape": [2, 2], "storage_order": 7}, "'storage_order' must be"),
    ("LpPool", [_f(1, 1, 3, 3)], {"kernel_shape": [2, 2], "p": 0}, "'p' must be positive"),
    ("LRN", [_f(1, 1, 3, 3)], {"size": 0}, "'size'"),
    ("QuantizeLinear", [_f(2, 3), _f(4)], {"axis": 1}, "the scale must have"),
    ("QuantizeLinear", [_f(2, 3), _f(2, 2)], {"axis": 1, "block_size": -2}, "'block_size' is negative"),
    ("QuantizeLinear", [_f(2, 3), _f(1)], {"output_dtype": "U9"}, "the type 'U9' is unknown"),
    ("DequantizeLinear", [np.ones((2, 3), np.uint8), _i(1)], {}, "floating-point"),
    ("MatMulInteger", [_f(2, 3), _f(3, 2)], {}, "must be I8 or U8"),
    ("MatMulNBits", [_f(2, 16), _u8(3, 8), _f(3)], {"K": 16, "block_size": 16}, "'K' and 'N'"),
    ("MatMulNBits", [_f(2, 16), _u8(3, 8), _f(3)], {**_CODED, "K": 2**40}, "'K' and 'N'"),
    ("MatMulNBits", [_f(2, 16), _u8(3, 8), _f(3)], {**_CODED, "block_size": 24}, "multiple of 16"),
    ("MatMulNBits", [_f(2, 16), _u8(3, 8), _f(3)], {**_CODED, "bits": 3}, "4 and 8 bits"),
    ("MatMulNBits", [_f(2, 16), _u8(3, 7), _f(3)], _CODED, "N rows of blocks"),
    ("MatMulNBits", [_f(2, 16), _u8(3, 8), _f(4)], _CODED, "one scale per block"),
    ("MatMulNBits", [_f(2, 16), _u8(3, 8), _f(3), _u8(4)], _CODED, "a code per block"),
    ("MatMulNBits", [_f(2, 17), _u8(3, 8), _f(3)], _CODED, "the last dim of the first input must be K"),
    ("Resize", [_f(1, 1, 3, 3), _f(0), _f(0)], {}, "either scales or sizes"),
    ("Resize", [_f(1, 1, 3, 3), _f(0), _f(4) * -1], {}, "scale 0 is illegal"),
    ("Resize", [_f(1, 1, 3, 3), _f(0), _f(4) * np.float32("nan")], {}, "scale 0 is illegal"),
    ("Resize", [_f(1, 1, 3, 3), _f(0), _f(0), _i(1, 1, 2**45, 1)], {}, "cannot be resized"),
    ("Resize", [_f(1, 1, 3, 3), _f(0), _f(2)], {"axes": [2, 2]}, "given twice"),
    ("Resize", [_f(1, 1, 3, 3), _f(0), _f(4) * 2], {"mode": "quintic"}, "'mode'"),
    ("AffineGrid", [_f(1, 2, 2), _i(1, 1, 4, 5)], {}, "theta must be"),
    ("AffineGrid", [_f(1, 2, 3), _i(1, 1, 2**40, 5)], {}, "size 2 is illegal"),
    ("HannWindow", [_i(-1)], {}, "whole number"),
    ("MelWeightMatrix", [_i(2**20), _i(2**20), _i(9), _f(1), _f(1)], {}, "absurdly large"),
    ("GridSample", [_f(1, 1, 3, 3), _f(1, 2, 2, 3)], {}, "the grid"),
    ("GridSample", [_f(1, 1, 3, 3), _f(1, 2, 2, 2)], {"mode": "odd"}, "'mode' cannot be 'odd'"),
    ("RoiAlign", [_f(1, 1, 3, 3), _f(2, 4), _i(0)], _ROI, "batch indices"),
    ("DeformConv", [_f(1, 2, 3, 3), _f(1, 2, 2, 2), _f(1, 7, 2, 2)], {}, "offsets"),
    ("MaxUnpool", [_f(1, 1, 2, 2), _i(0, 1)], {"kernel_shape": [2, 2]}, "one I64 index per element"),
    ("Det", [_f(2, 3)], {}, "square matrices"),
    ("DFT", [_f(2, 8, 3)], {}, "last dim is 1"),
    ("DFT", [_f(2, 8, 2)], {"onesided": 1}, "needs real input"),
    ("DFT", [_f(2, 8, 1), _i(2**40)], {}, "a transform of length"),
    ("DFT", [_f(1, 4099, 1)], {}, "prime factor"),
    ("STFT", [_f(1, 8, 1), _i(0), _f(4)], {}, "frames of 4, 0 apart"),
]


@pytest.mark.parametrize(("op", "inputs", "attrs", "message"), _WRONG, ids=lambda v: str(v)[:40])
def test_what_cannot_be_is_refused(op: str, inputs: list[Array], attrs: dict[str, Any], message: str) -> None:
    with pytest.raises(EngineError, match=message) as caught:
        _run(op, inputs, attrs, constants=1 if len(inputs) > 1 else int(op != "HannWindow"))
    assert op in str(caught.value)


@pytest.mark.parametrize(
    ("op", "inputs", "attrs", "message"),
    [
        ("RoiAlign", [_f(1, 1, 3, 3), _f(1, 4), _i(5)], _ROI, "outside the batch"),
        ("RoiAlign", [_f(1, 1, 3, 3), _f(1, 4) * np.float32("inf"), _i(0)], _ROI, "not finite"),
        ("RoiAlign", [_f(1, 1, 3, 3), np.array([[0, 0, 1e30, 1]], "f4"), _i(0)], _ROI, "absurdly large"),
        ("MaxUnpool", [_f(1, 1, 1, 1), _i(99).reshape(1, 1, 1, 1)], {"kernel_shape": [2, 2]}, "99"),
    ],
)
def test_data_that_points_nowhere_is_refused(
    op: str, inputs: list[Array], attrs: dict[str, Any], message: str
) -> None:
    with pytest.raises(EngineError, match=message):
        _run(op, inputs, attrs, constants=3)


def test_coordinates_that_are_no_numbers_read_nothing() -> None:
    grid = np.array([[[[np.nan, 0], [np.inf, 0], [-1e38, 0]]]], np.float32)
    result = _run("GridSample", [_f(1, 1, 3, 3), grid], {}, constants=2)["y"]
    np.testing.assert_array_equal(np.asarray(result), np.zeros((1, 1, 1, 3)))


def test_what_lies_outside_does_not_spread_infinities() -> None:
    x = np.full((1, 1, 2, 2), np.inf, np.float32)
    grid = np.full((1, 1, 1, 2), -3, np.float32)
    assert np.asarray(_run("GridSample", [x, grid], {}, constants=2)["y"]).item() == 0


def test_an_upscaling_is_a_few_regions() -> None:
    """Twice the size in both directions, interpolated: regions do not grow with the image."""
    builder = api.GraphBuilder("resize")
    builder.input("x", "F32", (1, 3, 64, 64))
    builder.weight("roi", np.zeros(0, np.float32))
    builder.weight("scales", np.array([1, 1, 2, 2], np.float32))
    builder.node("Resize", ["x", "roi", "scales"], ["y"], mode="linear")
    builder.output("y")
    session = builder.finish().session()
    session.run({"x": _f(1, 3, 64, 64)})
    steps = session.explain()["steps"]
    assert sum(step.get("regions", 0) for step in steps) <= 20
