"""Finding and keeping models; the engine itself is tested elsewhere, so a fake stands for it here."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from walle_shared.errors import ConfigError, NotAllowed, NotFound, TaskError, UnsupportedError
from walle_task import model
from walle_task.testing import fake_host


class _FakeModel:
    inputs = (("x", "F32", ("N", 2)),)
    outputs = (("y", "F32", ("N",)),)
    opened: list[str] = []  # noqa: RUF012  # reset for each test
    sessions = 0

    def __init__(self, path: str) -> None:
        self.opened.append(path)

    def session(self, *, threads: int) -> _FakeModel:
        assert threads == 1
        type(self).sessions += 1
        return self

    def run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"y": sum(inputs["x"])}


@pytest.fixture(autouse=True)
def _fake_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    engine = ModuleType("walle_engine._native")
    engine.Model = _FakeModel  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "walle_engine._native", engine)
    monkeypatch.setattr(_FakeModel, "opened", [])
    monkeypatch.setattr(_FakeModel, "sessions", 0)
    model._loaded.clear()
    yield
    model._loaded.clear()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "digits.wmodel").write_bytes(b"weights")
    return tmp_path


def test_load_and_run(bundle: Path):
    with fake_host(bundle_dir=bundle):
        digits = model.load("digits")
        assert digits.inputs == (("x", "F32", ("N", 2)),)
        assert digits.outputs == (("y", "F32", ("N",)),)
        assert digits.run({"x": [1, 2]}) == {"y": 3}
        assert digits.run({"x": [3, 4]}) == {"y": 7}
    assert _FakeModel.sessions == 1


def test_a_model_is_opened_once_until_its_file_changes(bundle: Path):
    for _ in range(2):
        with fake_host(bundle_dir=bundle):
            model.load("digits")
    assert len(_FakeModel.opened) == 1
    os.utime(bundle / "model" / "digits.wmodel", ns=(1, 1))
    with fake_host(bundle_dir=bundle):
        model.load("digits")
    assert len(_FakeModel.opened) == 2


def test_only_the_last_used_models_are_kept(bundle: Path):
    names = [f"m{number}" for number in range(model.KEPT_MODELS + 1)]
    for name in names:
        (bundle / "model" / f"{name}.wmodel").write_bytes(b"")
    with fake_host(bundle_dir=bundle):
        for name in [*names, names[-1], names[0]]:
            model.load(name)
    assert len(model._loaded) == model.KEPT_MODELS
    assert len(_FakeModel.opened) == len(names) + 1  # only the first had to be opened again


@pytest.mark.parametrize("name", ["../digits", "a/b", "/etc/passwd", "digits.wmodel", "", ".."])
def test_names_that_are_paths_are_refused(bundle: Path, name: str):
    with fake_host(bundle_dir=bundle), pytest.raises(ConfigError, match="model name"):
        model.load(name)


def test_a_missing_model_names_those_there_are(bundle: Path):
    with fake_host(bundle_dir=bundle), pytest.raises(NotFound, match="it has: digits"):
        model.load("letters")
    with fake_host(bundle_dir=bundle / "nowhere"), pytest.raises(NotFound, match="it has: none"):
        model.load("digits")


def test_what_the_engine_refuses_is_said_of_the_file(bundle: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(path: str) -> _FakeModel:
        raise UnsupportedError("no such operator", status="UNSUPPORTED", op="Loop", node="l1")

    monkeypatch.setattr(sys.modules["walle_engine._native"], "Model", refuse)
    with (
        fake_host(bundle_dir=bundle),
        pytest.raises(UnsupportedError) as e,
    ):
        model.load("digits")
    assert e.value.message == "model/digits.wmodel: no such operator"
    assert (e.value.status, e.value.op, e.value.node) == ("UNSUPPORTED", "Loop", "l1")


def test_without_the_capability_no_model(bundle: Path):
    with fake_host(bundle_dir=bundle, capabilities=frozenset()), pytest.raises(NotAllowed, match="'model'"):
        model.load("digits")


def test_without_an_engine_the_message_says_so(bundle: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "walle_engine._native", None)
    with fake_host(bundle_dir=bundle), pytest.raises(TaskError, match="engine cannot be loaded"):
        model.load("digits")
