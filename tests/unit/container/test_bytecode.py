"""Bundles that carry bytecode: loaded as it stands where it is this Python's, passed over otherwise."""

from __future__ import annotations

import py_compile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from walle_container import TaskHost, TaskSpec
from walle_container.bytecode import (
    MAGIC,
    bytecode_path,
    cache_tag,
    find_module,
    is_loadable,
    load_code,
)
from walle_shared.errors import TaskError

UNCHECKED = py_compile.PycInvalidationMode.UNCHECKED_HASH


def compile_to(source: Path, text: str, mode: py_compile.PycInvalidationMode = UNCHECKED) -> Path:
    """Write the bytecode of ``text`` where that of ``source`` belongs."""
    other = source.with_suffix(".txt")
    other.write_text(text)
    target = bytecode_path(source, cache_tag())
    py_compile.compile(str(other), str(target), "main.py", doraise=True, invalidation_mode=mode)
    other.unlink()
    return target


def run(source: Path) -> Any:
    names: dict[str, Any] = {}
    exec(load_code(find_module(str(source)), "main.py"), names)
    return names["x"]


def test_bytecode_wins_over_source_which_nobody_reads(tmp_path: Path):
    source = tmp_path / "main.py"
    source.write_text("x = = 1")
    compiled = compile_to(source, "x = 2")
    assert find_module(str(source)) == str(compiled)
    assert run(source) == 2
    source.unlink()
    assert run(source) == 2


@pytest.mark.parametrize(
    "mode", [py_compile.PycInvalidationMode.TIMESTAMP, py_compile.PycInvalidationMode.CHECKED_HASH]
)
def test_bytecode_that_asks_for_a_check_is_passed_over(tmp_path: Path, mode: py_compile.PycInvalidationMode):
    source = tmp_path / "main.py"
    source.write_text("x = 1")
    compile_to(source, "x = 2", mode)
    assert run(source) == 1


def test_another_pythons_bytecode_is_passed_over(tmp_path: Path):
    source = tmp_path / "main.py"
    compiled = compile_to(source, "x = 2")
    compiled.write_bytes(b"\x00\x00\r\n" + compiled.read_bytes()[4:])
    assert find_module(str(source)) is None
    with pytest.raises(TaskError, match=f"neither its source nor its bytecode for {cache_tag()}"):
        load_code(find_module(str(source)), "main.py")
    source.write_text("x = 1")
    assert run(source) == 1


@pytest.mark.parametrize("rest", [b"", b"\xff\xff", b"i\x01\x00\x00\x00", b"s\xff\xff\xff\x7f"])
def test_damaged_bytecode_is_named(tmp_path: Path, rest: bytes):
    source = tmp_path / "main.py"
    compiled = compile_to(source, "x = 2")
    compiled.write_bytes(compiled.read_bytes()[:16] + rest)
    with pytest.raises(TaskError, match=r"main\.py: its bytecode is damaged"):
        load_code(find_module(str(source)), "main.py")


@pytest.mark.parametrize(
    ("header", "loadable"),
    [
        (MAGIC + b"\x01\0\0\0" + bytes(8), True),
        (MAGIC + b"\x00\0\0\0" + bytes(8), False),
        (MAGIC + b"\x03\0\0\0" + bytes(8), False),
        (MAGIC + b"\x01\0\0\0", False),
        (b"", False),
    ],
)
def test_what_counts_as_bytecode(header: bytes, loadable: bool):
    assert is_loadable(header) == loadable


async def test_a_task_runs_from_bytecode_alone(
    host: TaskHost, make_spec: Callable[..., TaskSpec], inputs: dict[str, Any]
):
    spec = make_spec("", files={"lib/__init__.py": "", "lib/inner.py": ""})
    for name, text in {
        "main.py": "from lib.inner import double\ndef run():\n    return double(21)",
        "lib/inner.py": "def double(x):\n    return 2 * x",
        "lib/__init__.py": "",
    }.items():
        compile_to(spec.bundle_dir / name, text)
        (spec.bundle_dir / name).unlink()
    result = await host.run(spec, inputs)
    assert (result.error, result.value) == (None, 42)


async def test_a_traceback_names_lines_without_source(
    host: TaskHost, make_spec: Callable[..., TaskSpec], inputs: dict[str, Any]
):
    spec = make_spec("")
    compile_to(spec.bundle_dir / "main.py", "def run():\n    return {}['a']")
    (spec.bundle_dir / "main.py").unlink()
    result = await host.run(spec, inputs)
    assert result.traceback == '  File "main.py", line 2, in run\n'
