"""What was measured is kept in a file and spares the next process the measuring; bad files are left aside."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from walle_engine import _native, kept, measured
from walle_engine.cli import main
from walle_shared.errors import EngineError

_MEASURE = """
import json
import numpy as np
from walle_engine import api
builder = api.GraphBuilder("one")
builder.input("x", "F32", [2, 40])
builder.weight("w", np.ones((40, 50), np.float32))
builder.node("MatMul", ["x", "w"], ["y"])
builder.output("y")
session = builder.finish().session(search="measure")
session.prepare({"x": np.ones((2, 40), np.float32)})
(trial,) = session.explain()["trials"]
print(json.dumps([trial["remembered"], trial["alternatives"][trial["chosen"]]]))
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("WALLE_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(kept.SWITCH, "")
    _native.forget_measured()
    yield tmp_path / "cache"
    _native.forget_measured()


def _path() -> Path:
    path = measured.file_path()
    assert path is not None
    return path


def _write(document: object) -> Path:
    path = _path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return path


def _nodes(count: int, text: str = "1000 - reference\n") -> dict[str, Any]:
    keys = [base64.b64encode(f"key {index}".encode()).decode() for index in range(count)]
    return {"format": 1, "nodes": dict.fromkeys(keys, text)}


def _measure() -> tuple[bool, dict[str, Any]]:
    done = subprocess.run([sys.executable, "-c", _MEASURE], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    remembered, chosen = json.loads(done.stdout)
    return remembered, chosen


def _change_text(change: str) -> None:
    document = json.loads(_path().read_text())
    document["nodes"] = dict.fromkeys(document["nodes"], change)
    _write(document)


@pytest.mark.slow
@pytest.mark.optimised("isa")
def test_the_next_process_goes_by_what_one_measured() -> None:
    remembered, first = _measure()
    assert not remembered
    assert _measure() == (True, {**first, "measured_ms": pytest.approx(first["measured_ms"], abs=1e-6)})
    _change_text("1 - we_f32_matmul_4x4__ref\n999999 - reference\n")  # the file's word counts
    remembered, chosen = _measure()
    assert remembered
    assert chosen["candidate"] == "we_f32_matmul_4x4__ref"
    _change_text("1 conv no_such_kernel\nnonsense\n\n77777777777777777777777777 - reference\n")
    assert not _measure()[0]  # ways that this engine does not know are passed over


def test_what_is_added_is_saved_and_loaded() -> None:
    _native.add_measured(b"\0\1key", "12 - reference\n")
    assert measured.save() == _path()
    _native.forget_measured()
    assert measured.load() == 1
    assert _native.measured() == [(b"\0\1key", "12 - reference\n")]


def test_saving_keeps_what_others_kept_and_drops_the_oldest() -> None:
    _write(_nodes(measured.MOST_NODES))
    _native.add_measured(b"key 3", "7 - reference\n")
    _native.add_measured(b"new", "8 - reference\n")
    measured.save()
    _native.forget_measured()
    assert measured.load() == measured.MOST_NODES
    known = dict(_native.measured())
    assert known[b"key 3"] == "7 - reference\n"
    assert known[b"new"] == "8 - reference\n"
    assert b"key 0" not in known
    assert b"key 1" in known


def test_the_file_is_bounded() -> None:
    for index in range(600):
        _native.add_measured(b"k%d" % index, "1234567 - reference\n" * 500)
    measured.save()
    assert _path().stat().st_size < measured.MOST_BYTES
    _native.forget_measured()
    assert 100 < measured.load() < 600
    assert b"k599" in dict(_native.measured())


@pytest.mark.parametrize(
    "document",
    [
        "", "{", "[]", "[" * 100_000, {"format": 2, "nodes": {}}, {"format": 1}, {"format": 1, "nodes": []},
        {"format": 1, "nodes": {"AAAA": 1}}, {"format": 1, "nodes": {"AAAA": ""}},
        {"format": 1, "nodes": {"AAAA": "1 - a\0\n"}}, {"format": 1, "nodes": {"AAA": "1 - a\n"}},
        {"format": 1, "nodes": {"ä": "1 - a\n"}}, {"format": 1, "nodes": {"": "1 - a\n"}},
        {"format": 1, "nodes": {"AAAA": "1 - a\n" * 10_000}}, _nodes(measured.MOST_NODES + 1),
        "x" * (measured.MOST_BYTES + 1),
    ],
)  # fmt: skip
def test_a_malformed_file_is_left_aside_as_a_whole(document: object) -> None:
    path = _write(document)
    with pytest.warns(kept.IgnoredFileWarning, match="calibrate --forget") as warnings:
        assert measured.load() == 0
    assert str(path) in str(warnings[0].message)
    assert _native.measured() == []


def test_a_file_that_cannot_be_written_is_only_worth_a_warning(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_cache.write_text("a file, not a folder")
    monkeypatch.setattr(_native, "measured_count", lambda: 1 << 40)
    with pytest.warns(kept.IgnoredFileWarning, match=str(own_cache)):
        measured.save_new()


def test_switched_off_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kept.SWITCH, "off")
    monkeypatch.setattr(_native, "measured_count", lambda: 1 << 41)
    measured.save_new()
    assert not _path().exists()


@pytest.mark.parametrize(("key", "text"), [(b"", "1 - a\n"), (b"k", ""), (b"k" * 70_000, "1 - a\n")])
def test_impossible_measurements_are_refused(key: bytes, text: str) -> None:
    with pytest.raises(EngineError, match="none of this engine's"):
        _native.add_measured(key, text)


def test_forget_removes_all_that_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    path = _write(_nodes(3))
    assert measured.load() == 3
    assert main(["calibrate", "--forget"]) == 0
    assert str(path) in capsys.readouterr().out
    assert not path.exists()
    assert _native.measured() == []
    assert main(["calibrate", "--forget", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"removed": []}
