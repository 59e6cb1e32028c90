"""The worked example of docs/guide/add-an-operator.md is the code itself, and is all the operator takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_SRC = _ROOT / "engine_c" / "src"
_PAGE = (_ROOT / "docs/guide/add-an-operator.md").read_text()


def _fences(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", _PAGE, re.MULTILINE | re.DOTALL)


def test_the_file_and_the_row_are_those_of_the_engine() -> None:
    file, row = _fences("c")
    assert file == (_SRC / "geometry/softsign.c").read_text()
    assert row in (_SRC / "ops/ops.inc").read_text().splitlines(keepends=True)


def test_one_file_and_one_row_are_all_there_is() -> None:
    mention = re.compile(r"\bwe_rule_softsign\b|^WE_(OP|ATTR)_ROW\(Softsign\b", re.MULTILINE)
    found = {
        path.relative_to(_SRC).as_posix(): len(mention.findall(path.read_text()))
        for path in sorted(_SRC.rglob("*.[chi]*"))
    }
    mentions = {path: count for path, count in found.items() if count}
    assert mentions == {"geometry/softsign.c": 1, "ops/ops.inc": 1}


@pytest.mark.optimised("fuse")
def test_the_example_runs() -> None:
    (example,) = _fences("python")
    exec(compile(example, "add-an-operator.md", "exec"), {})
