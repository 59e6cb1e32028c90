from __future__ import annotations

import marshal
import sys

import pytest

from walle_container.bytecode import MAGIC, is_loadable
from walle_control.app import Control
from walle_control.config import ImportConfig
from walle_control.features.tasks import git
from walle_control.features.tasks.bytecode import find_interpreter, own_version
from walle_control.features.tasks.types import ImportRequest
from walle_shared.errors import (
    ConfigError,
    Conflict,
    NotAllowed,
    NotFound,
    TaskError,
    UnsupportedError,
    WalleError,
)
from walle_shared.manifest import Bytecode, Manifest, check_manifest
from walle_shared.protocol.codec import decode


def request(repo, version: str = "1.0.0", **changes: str) -> ImportRequest:
    return ImportRequest(str(repo.path), "greeter", version, **changes)


async def test_import_signs_a_manifest_whose_every_file_is_stored(control: Control, repo, good_files, store):
    commit = repo.tag("greeter/1.0.0", "greeter", good_files)
    result = await control.tasks.import_version(request(repo), "anna")
    assert result.created
    encoded = store.files.read("manifest", result.version.manifest)
    manifest = check_manifest(decode(Manifest, encoded))
    assert manifest.source == commit
    compiled = f"__pycache__/main.{sys.implementation.cache_tag}.pyc"
    assert [file.path for file in manifest.files] == [compiled, "main.py", "model/net.wmodel", "task.toml"]
    magic = int.from_bytes(MAGIC[:2], "little")
    assert manifest.bytecode == (Bytecode(own_version(), sys.implementation.cache_tag, magic),)
    contents = {file.path: store.files.path("blob", file.sha256).read_bytes() for file in manifest.files}
    assert contents["model/net.wmodel"] == b"wmodel of onnx bytes"
    assert contents["main.py"] == good_files["main.py"]
    assert is_loadable(contents[compiled][:16])
    assert marshal.loads(contents[compiled][16:]).co_filename == "main.py"


async def test_tests_stay_with_the_author(control: Control, repo, good_files):
    extra = {"tests/test_main.py": b"import pytest", "tests/events.jsonl": b"", "tests/br\u00e4u": b""}
    repo.tag("greeter/1.0.0", "greeter", {**good_files, **extra})
    await control.tasks.import_version(request(repo), "anna")
    detail = await control.tasks.show("demo", "greeter", "1.0.0")
    assert not [file.path for file in detail.files if "test" in file.path]


async def test_source_stays_with_the_author_if_the_task_says_so(control: Control, repo, good_files):
    toml = good_files["task.toml"] + b"\n[python]\nsource = false\n"
    repo.tag("greeter/1.0.0", "greeter", {**good_files, "task.toml": toml})
    await control.tasks.import_version(request(repo), "anna")
    detail = await control.tasks.show("demo", "greeter", "1.0.0")
    assert [file.path for file in detail.files if "main" in file.path] == [
        f"__pycache__/main.{sys.implementation.cache_tag}.pyc"
    ]


async def test_a_python_that_is_not_here_is_named(control: Control, repo, good_files, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    toml = good_files["task.toml"] + b'\n[python]\nversions = ["3.99"]\n'
    repo.tag("greeter/1.0.0", "greeter", {**good_files, "task.toml": toml})
    with pytest.raises(TaskError, match=r"no python3\.99: install it there, or take it out"):
        await control.tasks.import_version(request(repo), "anna")
    (tmp_path / "python3.99").symlink_to(sys.executable)
    with pytest.raises(TaskError, match=rf"is Python {own_version()}, not 3\.99"):
        await control.tasks.import_version(request(repo), "anna")
    (tmp_path / "python3.99").unlink()
    (tmp_path / "python3.99").write_text("#!/bin/sh\necho not today >&2\nexit 3\n")
    (tmp_path / "python3.99").chmod(0o700)
    with pytest.raises(TaskError, match="cannot compile the scripts: not today"):
        await control.tasks.import_version(request(repo), "anna")


def test_an_interpreter_is_found_where_pyenv_and_uv_keep_them(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    place = tmp_path / "versions/3.98.1/bin/python3.98"
    place.parent.mkdir(parents=True)
    place.touch()
    assert find_interpreter("3.98") == str(place)
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path))
    place = tmp_path / "cpython-3.97.2-linux/bin/python3.97"
    place.parent.mkdir(parents=True)
    place.touch()
    assert find_interpreter("3.97") == str(place)


async def test_import_reads_the_tag_not_a_later_commit(control: Control, repo, good_files):
    repo.tag("greeter/1.0.0", "greeter", good_files)
    repo.tag("later", "greeter", {**good_files, "main.py": b"raise SystemExit\n"})
    result = await control.tasks.import_version(request(repo), "anna")
    detail = await control.tasks.show("demo", "greeter", "1.0.0")
    sizes = {file.path: file.size_bytes for file in detail.files}
    assert sizes["main.py"] == len(good_files["main.py"])
    assert result.version.total_bytes == sum(sizes.values())


async def test_import_again_changes_nothing_and_converts_nothing(
    control: Control, repo, good_files, converter
):
    repo.tag("greeter/1.0.0", "greeter", good_files)
    first = await control.tasks.import_version(request(repo), "anna")
    again = await control.tasks.import_version(request(repo), "anna")
    assert (again.created, again.version, converter.calls) == (False, first.version, 1)


async def test_same_commit_gives_the_same_manifest_digest_elsewhere(
    control: Control, repo, good_files, clock
):
    repo.tag("greeter/1.0.0", "greeter", good_files)
    first = await control.tasks.import_version(request(repo), "anna")
    source = git.read_tag(repo.path, "greeter/1.0.0", "greeter", ImportConfig())
    clock.advance(1000)
    rebuilt = control.tasks._build(source, "greeter", first.version.version)
    assert rebuilt[0].manifest == first.version.manifest


async def test_moved_tag_is_a_conflict(control: Control, repo, good_files):
    repo.tag("greeter/1.0.0", "greeter", good_files)
    await control.tasks.import_version(request(repo), "anna")
    repo.tag("greeter/1.0.0", "greeter", {**good_files, "main.py": b"def run(): pass\n"})
    with pytest.raises(Conflict, match="tags must not move"):
        await control.tasks.import_version(request(repo), "anna")


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"main.py": b"def run(:\n"}, TaskError, r"main\.py:1: does not compile"),
        ({"lib/deep.py": b"x = 1\ny = = 2\n"}, TaskError, r"lib/deep\.py:2: does not compile"),
        ({"main.py": b"\x00"}, TaskError, "main.py"),
        ({"main.py": b"\nimport numpy\ndef run(): pass"}, TaskError, r"main\.py:2: .* 'numpy'"),
        ({"main.py": b"def run(x): pass"}, TaskError, r"main\.py:1: the entry run takes arguments"),
        ({"__pycache__/main.cpython-313.pyc": b""}, TaskError, "compiled Python, which only the control"),
        ({"task.toml": b"[task"}, ConfigError, "not TOML"),
        ({"task.toml": b"\xff\xfe"}, ConfigError, "not UTF-8"),
        ({"task.toml": b"[task]\nname='greeter'\n"}, ConfigError, "task.scenario"),
        ({"model/net.onnx": b"unsupported"}, UnsupportedError, "model/net.onnx: operator Frobnicate"),
        ({"model/net.wmodel": b"mine"}, TaskError, "model/net.wmodel, which exists"),
        ({"br\u00e4u.txt": b""}, TaskError, "file path"),
    ],
)
async def test_wrong_task_files_are_refused_by_name(
    control: Control, repo, good_files, changes, error, words
):
    repo.tag("greeter/1.0.0", "greeter", {**good_files, **changes})
    with pytest.raises(error, match=words):
        await control.tasks.import_version(request(repo), "anna")
    assert (await control.tasks.list()).versions == ()


async def test_missing_files_are_named(control: Control, repo, good_files):
    repo.tag("greeter/1.0.0", "greeter", {"main.py": b""})
    with pytest.raises(ConfigError, match=r"task\.toml at tag greeter/1\.0\.0 is missing"):
        await control.tasks.import_version(request(repo), "anna")
    repo.tag("greeter/2.0.0", "greeter", {"task.toml": good_files["task.toml"]})
    with pytest.raises(TaskError, match=r"there is no main\.py"):
        await control.tasks.import_version(request(repo, "2.0.0"), "anna")


@pytest.mark.parametrize(("mode", "words"), [(0o120000, "symbolic link"), (0o160000, "submodule")])
async def test_links_and_submodules_are_refused(control: Control, repo, good_files, mode, words):
    repo.tag("greeter/1.0.0", "greeter", {**good_files, "evil": b"/etc/passwd"}, {"evil": mode})
    with pytest.raises(TaskError, match=f"evil is a {words}"):
        await control.tasks.import_version(request(repo), "anna")


async def test_unknown_places_say_what_to_do(control: Control, repo, good_files, tmp_path):
    repo.tag("greeter/1.0.0", "elsewhere", good_files)
    with pytest.raises(NotFound, match="no folder 'greeter'"):
        await control.tasks.import_version(request(repo), "anna")
    assert (await control.tasks.import_version(request(repo, folder="elsewhere"), "anna")).created
    with pytest.raises(NotFound, match="no tag 'greeter/9'"):
        await control.tasks.import_version(request(repo, "9"), "anna")
    with pytest.raises(ConfigError, match="not a git repository"):
        await control.tasks.import_version(ImportRequest(str(tmp_path / "none"), "greeter", "1"), "anna")
    with pytest.raises(ConfigError, match="absolute path"):
        await control.tasks.import_version(ImportRequest("relative/path", "greeter", "1"), "anna")
    with pytest.raises(NotFound, match="walle-control repo list"):
        await control.tasks.import_version(ImportRequest("relative", "greeter", "1"), "anna")


@pytest.mark.parametrize("name", ["Greeter", "../up", "a b", ""])
async def test_bad_names_are_refused(control: Control, repo, name):
    with pytest.raises(WalleError):
        await control.tasks.import_version(ImportRequest(str(repo.path), name, "1.0.0"), "anna")


def test_size_limits_name_the_path(repo, good_files):
    repo.tag("greeter/1.0.0", "greeter", good_files)
    with pytest.raises(TaskError, match=r"task\.toml has .* at most 50"):
        git.read_tag(repo.path, "greeter/1.0.0", "greeter", ImportConfig(max_file_bytes=50))
    with pytest.raises(TaskError, match="over 60 bytes in all"):
        git.read_tag(repo.path, "greeter/1.0.0", "greeter", ImportConfig(max_bundle_bytes=60))


def test_repositories_outside_the_roots_are_refused(repo, tmp_path):
    git.check_root(repo.path, ImportConfig(repository_roots=(str(tmp_path),)))
    with pytest.raises(NotAllowed, match="repository_roots"):
        git.check_root(repo.path, ImportConfig(repository_roots=(str(tmp_path / "other"),)))
