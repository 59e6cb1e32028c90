"""The C test of merging regions, without the rest of the engine: thousands of random rasters and readers."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import settings

_ROOT = Path(__file__).parents[2]
_SOURCES = [
    _ROOT / "tests" / "checkasm" / "raster_test.c",
    *(_ROOT / "engine_c" / "src" / "raster" / name for name in ("merge.c", "region.c")),
]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_merged_regions_move_what_unmerged_ones_do(seed: int, tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    assert compiler, "the engine needs a C compiler, and so does this test"
    program = tmp_path / "raster_test"
    include = [f"-I{_ROOT / 'engine_c' / folder}" for folder in ("src", "include")]
    subprocess.run(
        [compiler, "-std=c11", "-O1", "-fwrapv", *include, *map(str, _SOURCES), "-o", str(program)],
        check=True,
    )
    # 4 000 cases by default, 200 000 under the thorough profile
    cases = max(4_000, min(200_000, settings().max_examples * 40))
    run = subprocess.run(
        [program, "--seed", str(seed), "--cases", str(cases)], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stdout
    found = re.search(r"(\d+) merged whole, (\d+) in part", run.stdout)
    assert found
    assert int(found[1]) + int(found[2]) > cases / 2
