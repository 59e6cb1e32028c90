"""Which modules of the standard library a device needs: what is imported, followed from file to file.

The start is one table with the rules that tasks live under, ``walle_container.imports.ALLOWED_STDLIB``: so
every module a task may import is there. The rest is what our packages and theirs import, read from their
text, wherever in a function it stands; and what loading all that brings in besides, for extension modules
import where no text says so.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import sysconfig
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from walle_container.imports import ALLOWED_STDLIB
from walle_container.preload import PRELOADED

STDLIB = Path(sysconfig.get_path("stdlib"))
DYNLOAD = STDLIB / "lib-dynload"
EXTENSION_SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")

#: What the interpreter itself imports, or codecs look up by name.
STARTUP = frozenset({
    "encodings.aliases", "encodings.ascii", "encodings.cp437", "encodings.hex_codec", "encodings.idna",
    "encodings.latin_1", "encodings.punycode", "encodings.utf_16", "encodings.utf_16_be",
    "encodings.utf_16_le", "encodings.utf_8", "encodings.utf_8_sig", "os", "runpy", "site", "zipfile",
})  # fmt: skip

#: Imported somewhere, for what no device does: tools for developers, windows, other systems, tests.
LEFT_OUT = frozenset({
    "_curses", "_pyrepl", "antigravity", "cProfile", "code", "curses", "dbm", "doctest", "ensurepip",
    "idlelib", "lib2to3",
    "msvcrt", "multiprocessing", "pdb", "pickletools", "profile", "pstats", "pydoc", "pydoc_data",
    "readline", "rlcompleter", "test", "this", "tkinter", "trace", "turtle", "turtledemo", "unittest",
    "venv", "webbrowser", "winreg", "wsgiref", "xmlrpc",
})  # fmt: skip


#: What an extension module imports from C when it is asked to, which neither text nor loading shows.
_LAZY_NEEDS = {"_datetime": ("_strptime",), "_sqlite3": ("sqlite3.dump",)}

_LOAD = """
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError:  # for another system
        pass
print(*sys.modules)
"""


@dataclass(frozen=True, slots=True)
class Subset:
    """Sources by module name, and extension modules."""

    sources: dict[str, Path] = field(default_factory=dict)
    extensions: dict[str, Path] = field(default_factory=dict)


def find_subset(scripts: Iterable[Path]) -> Subset:
    """The modules that tasks may import and these scripts do, with all that those import in turn."""
    subset = Subset()
    wanted = {*ALLOWED_STDLIB, *PRELOADED, *STARTUP, _sysconfig_data()}
    for script in scripts:
        wanted |= imported_names(script, "")
    follow(wanted, subset)
    follow(loaded_names({*subset.sources, *subset.extensions}), subset)
    return subset


def follow(wanted: set[str], subset: Subset) -> None:
    """Add these modules to a subset, and all that their text imports in turn."""
    waiting = deque(sorted(wanted))
    seen = {*subset.sources, *subset.extensions}
    while waiting:
        name = waiting.popleft()
        if name in seen or name.partition(".")[0] in LEFT_OUT:
            continue
        seen.add(name)
        if parent := name.rpartition(".")[0]:
            waiting.append(parent)
        source = find_source(name)
        if source is not None:
            subset.sources[name] = source
            waiting.extend(sorted(imported_names(source, name)))
        elif (extension := DYNLOAD / f"{name}{EXTENSION_SUFFIX}").is_file():
            subset.extensions[name] = extension
            waiting.extend(_LAZY_NEEDS.get(name, ()))


def loaded_names(names: set[str]) -> set[str]:
    """Every module that importing these brings into a fresh interpreter, as it says itself."""
    importable = sorted(name for name in names if not name.endswith("__main__"))
    command = [sys.executable, "-I", "-S", "-c", _LOAD, *importable]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def _sysconfig_data() -> str:
    """The module ``sysconfig`` looks up by a name it puts together: how this interpreter was built."""
    multiarch = getattr(sys.implementation, "_multiarch", "")
    return f"_sysconfigdata_{sys.abiflags}_{sys.platform}_{multiarch}"


def find_source(name: str) -> Path | None:
    """The file of a module of the standard library that is written in Python."""
    base = STDLIB.joinpath(*name.split("."))
    return next(
        (path for path in (base / "__init__.py", base.with_name(f"{base.name}.py")) if path.is_file()), None
    )


def imported_names(path: Path, module: str) -> set[str]:
    """Every name that a script imports: modules, and what may be a module of a package."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            if base:
                names.add(base)
                names.update(f"{base}.{alias.name}" for alias in node.names)
    return {name for name in names if name}


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if node.level == 0:
        return node.module or ""
    parts = package.split(".")
    base = [part for part in parts[: len(parts) - node.level + 1] if part]
    return ".".join([*base, node.module] if node.module else base)


def archive_names(subset: Subset) -> Iterator[tuple[str, Path]]:
    """Path in the archive of every source, as a ``.pyc`` without source."""
    for source in subset.sources.values():
        yield source.relative_to(STDLIB).with_suffix(".pyc").as_posix(), source
