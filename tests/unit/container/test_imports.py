"""What a bundle's code may import and open, and the cure each refusal names."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from walle_container.bytecode import find_module, load_code
from walle_container.imports import ALLOWED_STDLIB, BundleImporter, ForbiddenImport, is_allowed


@contextmanager
def importing(bundle_dir: Path) -> Iterator[BundleImporter]:
    """An importer of the bundle as it stands now."""
    importer = BundleImporter(bundle_dir)
    sys.meta_path.insert(0, importer)
    yield importer
    sys.meta_path.remove(importer)
    importer.unload()


@pytest.fixture
def importer(tmp_path: Path) -> Iterator[BundleImporter]:
    with importing(tmp_path) as importer:
        yield importer


def test_every_allowed_module_exists():
    for name in ALLOWED_STDLIB:
        importlib.import_module(name)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("json", True),
        ("json.decoder", True),
        ("urllib.parse", True),
        ("urllib.request", False),
        ("urllib", False),
        ("walle_task.events", True),
        ("walle_shared.errors", True),
        ("walle_shared.signing", False),
        ("walle_container", False),
        ("jsonx", False),
        ("os", False),
        ("sys", False),
        ("gc", False),
        ("ctypes", False),
        ("_interpreters", False),
        ("threading", False),
        ("importlib", False),
        ("builtins", False),
    ],
)
def test_the_allow_list(name: str, allowed: bool):
    assert is_allowed(name) == allowed


def test_refusals_name_module_and_cure(importer: BundleImporter):
    with pytest.raises(ForbiddenImport, match=r"'sqlite3': use walle_task\.store") as caught:
        importer.import_for_task("sqlite3")
    assert caught.value.name == "sqlite3"
    with pytest.raises(ForbiddenImport, match="put a plain-Python 'pandas' into the bundle"):
        importer.import_for_task("pandas.core")


@pytest.mark.parametrize("name", ["socket", "json", "walle_task", "walle_agent"])
def test_a_module_with_anothers_name_is_refused(tmp_path: Path, name: str):
    (tmp_path / f"{name}.py").write_text("")
    with importing(tmp_path) as importer, pytest.raises(ForbiddenImport, match="rename it"):
        importer.import_for_task(name)


def test_modules_and_submodules_get_the_tasks_builtins_and_go_again(tmp_path: Path):
    (tmp_path / "bndl").mkdir()
    (tmp_path / "bndl" / "__init__.py").write_text("from . import inner\nimport bndl.other\n")
    (tmp_path / "bndl" / "inner.py").write_text("import json\n")
    (tmp_path / "bndl" / "other.py").write_text("")
    with importing(tmp_path) as importer:
        module = importer.import_for_task("bndl")
        for name in ("bndl", "bndl.inner", "bndl.other"):
            own = sys.modules[name].__dict__["__builtins__"]
            assert own["open"] == importer.open_for_task
            assert "breakpoint" not in own
    assert not {"bndl", "bndl.inner", "bndl.other"} & sys.modules.keys()
    assert vars(module) == {}
    assert "json" in sys.modules


def test_the_finder_leaves_names_alone_that_the_bundle_did_not_ask_for(tmp_path: Path):
    (tmp_path / "bndl_unasked.py").write_text("")
    with importing(tmp_path), pytest.raises(ModuleNotFoundError):
        importlib.import_module("bndl_unasked")


def test_open_reads_the_bundle_and_nothing_else(importer: BundleImporter, tmp_path: Path):
    (tmp_path / "labels.txt").write_text("zéro\n", encoding="utf-8")
    (tmp_path / "way_out").symlink_to("/etc")
    with importer.open_for_task("labels.txt") as text:
        assert text.read() == "zéro\n"
    with importer.open_for_task("labels.txt", "rb") as binary:
        assert binary.read() == "zéro\n".encode()
    for path in ("../x", "/etc/passwd", "way_out/passwd"):
        with pytest.raises(PermissionError, match="own bundle"):
            importer.open_for_task(path)
    for mode in ("w", "a", "r+", "x", "wb"):
        with pytest.raises(PermissionError, match="only read"):
            importer.open_for_task("labels.txt", mode)
    with pytest.raises(FileNotFoundError):
        importer.open_for_task("absent.txt")


def test_code_is_kept_until_the_file_changes(tmp_path: Path):
    path = tmp_path / "main.py"
    path.write_text("x = 1\n")
    first = load_code(find_module(str(path)), "main.py")
    assert load_code(find_module(str(path)), "main.py") is first
    path.write_text("x = 100\n")
    assert load_code(find_module(str(path)), "main.py") is not first
