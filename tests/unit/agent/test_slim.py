"""The stripped runtime: which modules are in it, and the form of its image; nox -s slim builds it."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tarfile
from pathlib import Path

import pytest

import slim_image
import slim_stdlib
import slim_tree
from walle_container.imports import ALLOWED_STDLIB
from walle_container.preload import PRELOADED
from walle_engine import _native


@pytest.mark.slow
def test_what_tasks_may_import_is_in_the_subset(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(
        "def f():\n    from email import message\n    import tkinter, pdb\n    import not_there\n"
    )
    subset = slim_stdlib.find_subset([script])
    present = {*subset.sources, *subset.extensions, *sys.builtin_module_names}
    assert present >= ALLOWED_STDLIB
    assert set(PRELOADED) <= present
    assert {"email.message", "email", "encodings.utf_8", "sqlite3.dump"} <= present
    assert not {"tkinter", "pdb", "not_there", "unittest", "_curses"} & present
    assert all(path.is_file() for path in (*subset.sources.values(), *subset.extensions.values()))


def test_what_loading_brings_in_is_seen_too():
    """The C module _pickle imports these: no text says so."""
    assert {"_compat_pickle", "copyreg"} <= slim_stdlib.loaded_names({"_pickle"})


def test_libraries_of_a_wheel_that_nothing_links_to_are_dropped(tmp_path: Path):
    for name in ("some.libs/libunused.so", "some.libs/readme"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(_native.__file__, tmp_path / name)
    (tmp_path / "some.libs/readme").write_text("words")
    slim_tree.drop_unlinked(tmp_path)
    assert [path.name for path in (tmp_path / "some.libs").iterdir()] == ["readme"]


def test_imports_are_read_wherever_they_stand(tmp_path: Path):
    folder = tmp_path / "pkg"
    folder.mkdir()
    init, inner = folder / "__init__.py", folder / "inner.py"
    init.write_text("from . import a\nfrom .b import c\nimport x.y\n")
    inner.write_text("def f():\n    from .. import up\n    from .a import b\n    from z import w\n")
    assert slim_stdlib.imported_names(init, "pkg") == {"pkg", "pkg.a", "pkg.b", "pkg.b.c", "x.y"}
    assert slim_stdlib.imported_names(inner, "top.pkg.inner") == {
        "top", "top.up", "top.pkg.a", "top.pkg.a.b", "z", "z.w",
    }  # fmt: skip


def test_a_device_needs_no_tools_of_authors():
    names = {
        found.metadata["Name"].lower() for found in slim_tree.dependencies("walle", frozenset({"agent"}))
    }
    assert {"trio", "httpx", "orjson", "structlog", "cryptography", "cffi"} <= names
    assert not {"numpy", "onnx", "pytest", "starlette", "pygit2"} & names


def test_the_image_is_a_layout_whose_digests_hold(tmp_path: Path):
    root = tmp_path / "root"
    (root / "opt").mkdir(parents=True)
    (root / "opt/file").write_text("hello")
    (root / "tmp").mkdir()
    layout = tmp_path / "image"
    slim_image.write_layout(root, layout)
    first = (layout / "index.json").read_bytes()
    (root / "opt/file").touch()
    slim_image.write_layout(root, layout)
    assert (layout / "index.json").read_bytes() == first  # times do not matter
    for blob in (layout / "blobs/sha256").iterdir():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name

    def read(reference: dict[str, str]) -> bytes:
        return (layout / "blobs/sha256" / reference["digest"].removeprefix("sha256:")).read_bytes()

    manifest = json.loads(read(json.loads(first)["manifests"][0]))
    config = json.loads(read(manifest["config"]))
    assert config["config"]["Entrypoint"][0].startswith("/opt/walle/bin/python")
    layer = tmp_path / "layer.tar.gz"
    layer.write_bytes(read(manifest["layers"][0]))
    with tarfile.open(layer) as archive:
        assert archive.getnames() == ["opt", "opt/file", "tmp"]
        assert archive.getmember("tmp").mode == 0o1777
        assert archive.getmember("opt/file").mtime == 0


def test_the_unit_starts_what_the_tree_has():
    text = (slim_tree.ROOT / "agent/slim/walle-agent.service").read_text()
    assert f"ExecStart=/{slim_image.HOME}/bin/walle-agent run --config /etc/walle/agent.toml" in text
    assert f"LD_LIBRARY_PATH=/{slim_image.HOME}/lib" in text
