"""Compiles a bundle's scripts for the Pythons of devices, each by an interpreter of that version. Blocks.

Every version, the server's own too, is compiled in a fresh process with a fixed hash seed: what else is alive
in a process shows in what ``marshal`` writes, and the same source must give the same bundle.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from walle_container.bytecode import BYTECODE_SUFFIX, CACHE_FOLDER, bytecode_path
from walle_shared.errors import TaskError
from walle_shared.manifest import Bytecode, PythonSection

COMPILE_TIMEOUT_S = 60.0
_SCRIPT_SUFFIX = ".py"

#: Run by the other interpreter, which may be older or newer than ours: plain Python, standard library.
_PROGRAM = """
import importlib.util, json, os, py_compile, sys
source, target, paths = sys.argv[1], sys.argv[2], json.load(sys.stdin)
for number, path in enumerate(paths):
    py_compile.compile(os.path.join(source, path), os.path.join(target, str(number)), path, doraise=True,
                       invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
print(json.dumps(["%d.%d" % sys.version_info[:2], sys.implementation.cache_tag,
                  int.from_bytes(importlib.util.MAGIC_NUMBER[:2], "little")]))
"""


def own_version() -> str:
    """The server's Python, such as ``3.13``."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def check_none_compiled(files: Mapping[str, bytes], where: str) -> None:
    """Refuse bytecode that comes with the source: only what is compiled here is signed.

    Raises:
        TaskError: naming the file.
    """
    for path in sorted(files):
        if path.endswith(BYTECODE_SUFFIX) or CACHE_FOLDER in PurePosixPath(path).parts:
            raise TaskError(
                f"{where}: {path} is compiled Python, which only the control plane may add: "
                f"'git rm --cached' it and put {CACHE_FOLDER}/ into .gitignore"
            )


def add_bytecode(
    files: Mapping[str, bytes], wanted: PythonSection
) -> tuple[dict[str, bytes], tuple[Bytecode, ...]]:
    """Add the bytecode of every script, for the server's Python and those that are wanted.

    Returns:
        The bundle's files, without the source if it is not wanted, and what Pythons they have bytecode for.

    Raises:
        TaskError: no interpreter of a version is here, or a script does not compile with it.
    """
    scripts = {path: data for path, data in files.items() if path.endswith(_SCRIPT_SUFFIX)}
    built = {path: data for path, data in files.items() if wanted.source or path not in scripts}
    marks = []
    for version in dict.fromkeys((own_version(), *wanted.versions)):
        mark, compiled = compile_scripts(scripts, version)
        built.update(compiled)
        marks.append(mark)
    return built, tuple(marks)


def compile_scripts(scripts: Mapping[str, bytes], version: str) -> tuple[Bytecode, dict[str, bytes]]:
    """The bytecode of scripts for one Python version, by path in the bundle.

    Raises:
        TaskError: no interpreter of the version is here, or it refuses a script.
    """
    interpreter = find_interpreter(version)
    paths = sorted(scripts)
    with tempfile.TemporaryDirectory(prefix="walle-compile-") as folder:
        source, target = Path(folder) / "source", Path(folder) / "target"
        target.mkdir()
        for path in paths:
            place = source / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(scripts[path])
        found, tag, magic = _compile(interpreter, source, target, paths)
        if found != version:
            raise TaskError(f"{interpreter} is Python {found}, not {version}: repair the server's PATH")
        compiled = {
            str(bytecode_path(PurePosixPath(path), tag)): (target / str(number)).read_bytes()
            for number, path in enumerate(paths)
        }
    return Bytecode(version, tag, magic), compiled


def _compile(interpreter: str, source: Path, target: Path, paths: list[str]) -> tuple[str, str, int]:
    command = [interpreter, "-SPsB", "-W", "ignore", "-c", _PROGRAM, str(source), str(target)]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(paths),
            text=True,
            capture_output=True,
            env={"PYTHONHASHSEED": "0"},
            cwd=source if paths else None,
            timeout=COMPILE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TaskError(f"{interpreter} cannot compile the scripts: {error}") from None
    if done.returncode != 0:
        raise TaskError(f"{interpreter} cannot compile the scripts: {done.stderr.strip()[-500:]}")
    version, tag, magic = json.loads(done.stdout)
    return version, tag, magic


def find_interpreter(version: str) -> str:
    """An interpreter of that version: our own, one on PATH, pyenv's or uv's.

    Raises:
        TaskError: there is none.
    """
    found = next(_candidates(version), None)
    if found is None:
        raise TaskError(
            f"python.versions has {version!r}, but the control plane's machine has no python{version}: "
            f"install it there, or take it out of [python] versions"
        )
    return found


def _candidates(version: str) -> Iterator[str]:
    if version == own_version():
        yield sys.executable
    on_path = shutil.which(f"python{version}")
    if on_path is not None:
        yield on_path
    roots = (
        Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions",
        Path(os.environ.get("UV_PYTHON_INSTALL_DIR", Path.home() / ".local/share/uv/python")),
    )
    for root in roots:
        yield from map(str, sorted(root.glob(f"*{version}.*/bin/python{version}"), reverse=True))
