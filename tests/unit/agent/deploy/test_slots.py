from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from walle_agent.deploy.download import ContentStore
from walle_agent.deploy.slots import OWN_MAGIC, SlotFolders, check_entry
from walle_container.bytecode import MAGIC, cache_tag
from walle_shared.errors import LengthOrHashError, StorageError, TaskError
from walle_shared.ids import ScenarioName, Sha256, TaskName, TaskVersion
from walle_shared.manifest import BundleFile, Bytecode, Manifest, parse_task_file
from walle_shared.protocol.messages import FileRef
from walle_shared.signing import sha256_hex

KEY = (ScenarioName("demo"), TaskName("reader"))
DEFINITION = parse_task_file('[task]\nscenario = "demo"\nname = "reader"\n[[triggers]]\nids = ["event:go"]\n')


def bundle(files: dict[str, bytes]) -> Manifest:
    listed = tuple(BundleFile(path, sha256_hex(data), len(data)) for path, data in files.items())
    return Manifest(TaskVersion("1.0"), "0" * 40, DEFINITION, listed)


def stocked(folder: Path, files: dict[str, bytes]) -> ContentStore:
    content = ContentStore(folder / "blobs")
    for data in files.values():
        content.part(sha256_hex(data)).write_bytes(data)
        content.admit(FileRef(sha256_hex(data), len(data)))
    return content


FILES = {"main.py": b"def run(): ...\n", "lib/empty.txt": b"", "model/m.bin": b"x" * 100_000}


def test_a_filled_slot_is_whole_and_read_only(tmp_path: Path) -> None:
    folders = SlotFolders(tmp_path / "slots", stocked(tmp_path, FILES))
    manifest = bundle(FILES)
    path = folders.fill(KEY, "a", b"envelope", manifest)
    assert {name: (path / name).read_bytes() for name in FILES} == FILES
    assert (path / "main.py").stat().st_mode & 0o222 == 0
    assert folders.read_manifest(KEY, "a") == b"envelope"
    assert folders.check(KEY, "a", manifest) == path
    folders.fill(KEY, "a", b"again", manifest)  # over what was there, and over what a crash left
    assert folders.read_manifest(KEY, "a") == b"again"
    folders.clear(KEY)
    assert not path.exists()


def test_a_task_cannot_reach_the_content_store_through_its_slot(tmp_path: Path) -> None:
    content = stocked(tmp_path, FILES)
    path = SlotFolders(tmp_path / "slots", content).fill(KEY, "a", b"", bundle(FILES))
    (path / "main.py").chmod(0o600)
    (path / "main.py").write_bytes(b"changed")
    assert content.path(sha256_hex(FILES["main.py"])).read_bytes() == FILES["main.py"]


def test_a_changed_or_missing_file_is_noticed(tmp_path: Path) -> None:
    folders = SlotFolders(tmp_path / "slots", stocked(tmp_path, FILES))
    path = folders.fill(KEY, "a", b"", bundle(FILES))
    (path / "lib/empty.txt").chmod(0o600)
    (path / "lib/empty.txt").write_bytes(b"!")
    with pytest.raises(LengthOrHashError, match=r"empty\.txt"):
        folders.check(KEY, "a", bundle(FILES))
    (path / "lib/empty.txt").unlink()
    with pytest.raises(StorageError, match=r"empty\.txt"):
        folders.check(KEY, "a", bundle(FILES))


def test_a_missing_blob_leaves_no_slot(tmp_path: Path) -> None:
    folders = SlotFolders(tmp_path / "slots", ContentStore(tmp_path / "blobs"))
    with pytest.raises(StorageError, match="cannot be unpacked"):
        folders.fill(KEY, "a", b"", bundle(FILES))
    assert not folders.path(KEY, "a").exists()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (b"x = 1\n", "does not define run"),
        (b"\n\ndef run(:\n", "main.py:3"),
        (b"def run():\n    return '\x00'\n", "main.py"),
        (b"class run: ...\n", "does not define run"),
    ],
)
def test_the_health_check_names_what_is_wrong(tmp_path: Path, script: bytes, words: str) -> None:
    (tmp_path / "main.py").write_bytes(script)
    with pytest.raises(TaskError, match=words):
        check_entry(tmp_path, bundle({"main.py": script}))


@pytest.mark.parametrize(
    "script", [b"def run(): ...\n", b"run = lambda: None\n", b"from lib import work as run\n"]
)
def test_the_entry_may_be_bound_in_several_ways(tmp_path: Path, script: bytes) -> None:
    (tmp_path / "main.py").write_bytes(script)
    check_entry(tmp_path, bundle({"main.py": script}))


def test_a_missing_entry_module_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"no main\.py"):
        check_entry(tmp_path, bundle({}))


TAG = cache_tag()
HEADER = MAGIC + b"\x01\0\0\0" + bytes(8)
OWN = Bytecode("3.13", TAG, OWN_MAGIC)
OTHER = Bytecode("3.99", "cpython-399", 9)


def put(folder: Path, files: dict[str, bytes], *marks: Bytecode) -> Manifest:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    return replace(bundle(files), bytecode=marks)


def test_bytecode_for_this_python_is_not_compiled_again(tmp_path: Path) -> None:
    compiled = f"__pycache__/main.{TAG}.pyc"
    check_entry(tmp_path, put(tmp_path, {compiled: HEADER, "main.py": b"= not = Python"}, OTHER, OWN))
    (tmp_path / "main.py").unlink()
    check_entry(tmp_path, put(tmp_path, {compiled: HEADER}, OWN))


@pytest.mark.parametrize(
    ("files", "marks", "words"),
    [
        ({f"__pycache__/main.{TAG}.pyc": HEADER[:15]}, (OWN,), "is not the bytecode of Python"),
        ({f"__pycache__/main.{TAG}.pyc": bytes(16)}, (OWN,), "is not the bytecode of Python"),
        ({f"__pycache__/other.{TAG}.pyc": HEADER}, (OWN,), r"main\.py: .* not of this script"),
        (
            {f"__pycache__/main.{TAG}.pyc": HEADER, "lib.py": b""},
            (OWN,),
            r"lib\.py: .* not of this script",
        ),
        (
            {"__pycache__/main.cpython-399.pyc": HEADER},
            (OTHER,),
            r"bytecode for Python 3\.99 and no source; this device runs 3\.",
        ),
    ],
)
def test_bytecode_that_cannot_be_loaded_is_named(
    tmp_path: Path, files: dict[str, bytes], marks: tuple[Bytecode, ...], words: str
) -> None:
    with pytest.raises(TaskError, match=words):
        check_entry(tmp_path, put(tmp_path, files, *marks))


def test_source_is_what_is_left_for_other_pythons(tmp_path: Path) -> None:
    files = {"__pycache__/main.cpython-399.pyc": HEADER, "main.py": b"def run(): ..."}
    check_entry(tmp_path, put(tmp_path, files, OTHER))
    with pytest.raises(TaskError, match="does not define run"):
        check_entry(tmp_path, put(tmp_path, files | {"main.py": b""}, OTHER))


def test_the_content_store_admits_only_what_was_promised(tmp_path: Path) -> None:
    content = ContentStore(tmp_path)
    ref = FileRef(sha256_hex(b"right"), 5)
    content.part(ref.sha256).write_bytes(b"wrong")
    with pytest.raises(LengthOrHashError):
        content.admit(ref)
    assert not content.part(ref.sha256).exists()
    content.part(ref.sha256).write_bytes(b"right")
    content.admit(ref)
    assert content.has(ref)
    assert content.keep_only([ref.sha256]) == 0
    assert content.keep_only([Sha256("0" * 64)]) == 1
    assert not content.has(ref)
