"""Which interpreter has which engine, and what a capped instruction set means for each."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from walle_engine.bench.peers import INTERPRETERS, Peer, find_modules, interpreters, resolve

_ENGINE = Path("engine.py")


def test_interpreters_are_this_one_those_named_and_those_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(INTERPRETERS, os.pathsep.join(["/a/python", "", "/b/python", "/a/python"]))
    assert interpreters(["/c/python"]) == [sys.executable, "/a/python", "/b/python", "/c/python"]


@pytest.mark.slow
def test_modules_are_found_in_the_first_interpreter_that_has_them() -> None:
    pythons = ["/nowhere/python", sys.executable]
    assert find_modules(["numpy", "no_such_module"], pythons) == {"numpy": sys.executable}


@pytest.mark.slow
def test_peers_become_contestants_or_a_reason_why_not() -> None:
    peers = [
        Peer("capped", "numpy", _ENGINE, isa_variable="ISA", isa_values={"avx2": "AVX2"}),
        Peer("free", "numpy", _ENGINE, {"precision": "f32"}),
        Peer("absent", "no_such_module", _ENGINE),
    ]
    contestants, missing = resolve(peers, [sys.executable])
    assert [(c.name, c.python, c.settings, c.environment) for c in contestants] == [
        ("capped", sys.executable, {}, {}), ("free", sys.executable, {"precision": "f32"}, {}),
    ]  # fmt: skip
    assert "no_such_module" in missing["absent"]
    contestants, missing = resolve(peers, [sys.executable], isa="avx2")
    assert [(c.name, c.environment) for c in contestants] == [("capped", {"ISA": "AVX2"})]
    assert missing["free"] == "has no way to be capped to avx2"
