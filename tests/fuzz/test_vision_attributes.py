"""Image and signal operators with attributes nobody would write: an answer or a typed error, no crash."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from walle_engine import api
from walle_shared.errors import EngineError
from walle_support import vision_cases

_DTYPES = {
    "float32": "F32", "int64": "I64", "int32": "I32", "uint8": "U8", "int8": "I8", "int16": "I16",
}  # fmt: skip
_NUMBERS = st.sampled_from([-(2**63), -1000, -2, -1, 0, 1, 2, 3, 5, 100, 2**20, 2**40, 2**63 - 1])
_REALS = st.sampled_from([float("nan"), float("inf"), -1.0, 0.0, 1e-30, 0.5, 3.0, 1e30])


@st.composite
def _spoilt(draw: st.DrawFn) -> tuple[str, list[np.ndarray[Any, Any]], dict[str, Any], int]:
    """A case of the conformance suite with one attribute or one constant changed."""
    case = draw(st.sampled_from(vision_cases.CASES))
    attrs, inputs, constants = dict(case.get("attrs", {})), list(case["inputs"]), case.get("constants", 99)
    constant = [i for i in range(constants, len(inputs)) if inputs[i].size and inputs[i].ndim < 2]
    names = [name for name, value in attrs.items() if not isinstance(value, str)]
    if constant and (not names or draw(st.booleans())):
        index = draw(st.sampled_from(constant))
        value = np.array(inputs[index])
        number = draw(_REALS if value.dtype.kind == "f" else _NUMBERS)
        if value.dtype.kind != "f":
            number = max(min(number, np.iinfo(value.dtype).max), np.iinfo(value.dtype).min)
        value.reshape(-1)[draw(st.integers(0, value.size - 1))] = number
        inputs[index] = value
    elif names:
        name = draw(st.sampled_from(names))
        if isinstance(attrs[name], list):
            attrs[name] = [draw(_NUMBERS) if draw(st.booleans()) else n for n in attrs[name]]
        else:
            attrs[name] = draw(_REALS if isinstance(attrs[name], float) else _NUMBERS)
    return case["op"], inputs, attrs, constants


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(_spoilt())
def test_nothing_crashes(
    spoilt: tuple[str, list[np.ndarray[Any, Any]], dict[str, Any], int],
) -> None:
    op, inputs, attrs, constants = spoilt
    builder = api.GraphBuilder(op)
    try:
        for i, value in enumerate(inputs):
            if i >= constants:
                builder.weight(f"x{i}", np.ascontiguousarray(value))
            else:
                builder.input(f"x{i}", _DTYPES[str(value.dtype)], value.shape)
        builder.node(op, [f"x{i}" for i in range(len(inputs))], ["y"], name="node", **attrs)
        builder.output("y")
        session = builder.finish().session()
        result = session.run({f"x{i}": value for i, value in enumerate(inputs) if i < constants})
    except EngineError:
        return
    assert np.asarray(result["y"]).ndim >= 0
