"""Constants of 4 bits come out of a file as they went in, whether two of them share a byte there or not."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from walle_engine import wmodel
from walle_engine.compress import packing
from walle_engine.compress.source import to_bytes, to_model
from walle_engine.convert.draft import Draft

SMALLEST = packing._SMALLEST


def draft_of(codes: Any) -> Draft:
    nodes = [wmodel.Node("Cast", "cast", ("codes",), ("y",), {"to": "I32"})]
    outputs = [wmodel.Value("y", "I32", codes.shape)]
    return Draft("codes", "test", [], outputs, nodes, {"codes": codes})


@pytest.mark.parametrize("kind", [ml_dtypes.int4, ml_dtypes.uint4])
@pytest.mark.parametrize("shape", [(7,), (SMALLEST - 1,), (SMALLEST // 4, 4), (SMALLEST + 1,)])
def test_codes_come_back(kind: Any, shape: tuple[int, ...]) -> None:
    info = ml_dtypes.iinfo(kind)
    codes = np.random.default_rng(0).integers(int(info.min), int(info.max) + 1, shape).astype(kind)
    found = to_model(draft_of(codes)).session().run({})["y"]
    assert np.array_equal(np.asarray(found), codes.astype(np.int32))


def test_what_is_packed_is_not_larger_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    draft = draft_of(np.ones(SMALLEST, ml_dtypes.int4))
    together = len(to_bytes(draft))
    monkeypatch.setattr(packing, "_SMALLEST", SMALLEST + 1)
    assert together <= len(to_bytes(draft))
