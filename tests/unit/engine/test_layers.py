"""C folders include only themselves and those below; only the kernels know instruction sets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

_SRC = Path(__file__).parents[3] / "engine_c" / "src"
_ORDER = [
    "run", "load", "search", "plan", "array", "imaging", "backend", "grad", "geometry", "raster", "ops",
    "graph", "kernels", "base",
]  # fmt: skip
_SOURCES = sorted(path for path in _SRC.rglob("*") if path.suffix in {".c", ".h", ".inc"})


def test_every_folder_has_its_place() -> None:
    assert {path.name for path in _SRC.iterdir()} == set(_ORDER)


@pytest.mark.parametrize("folder", _ORDER)
def test_includes_point_downwards(folder: str) -> None:
    allowed = set(_ORDER[_ORDER.index(folder) :])
    for path in _SOURCES:
        if path.relative_to(_SRC).parts[0] != folder:
            continue
        for target in re.findall(r'#include "([^"]+)"', path.read_text()):
            assert target.split("/")[0] in allowed, f"{path.relative_to(_SRC)} includes {target}"
            assert (_SRC / target).exists()


def test_intrinsics_stay_in_the_kernels() -> None:
    for path in _SOURCES:
        if "immintrin.h" in path.read_text() or "arm_neon.h" in path.read_text():
            assert path.relative_to(_SRC).parts[:2] == ("kernels", "simd"), path
