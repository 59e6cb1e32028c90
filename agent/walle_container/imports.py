"""What a task's own code may import and open, and how its modules are loaded.

The rules bind the code of the bundle, not the standard library below it: each module of the bundle gets its
own ``__builtins__``, whose ``__import__`` asks :class:`BundleImporter`. That stops mistakes and names the
cure; it is no wall against malice, since interpreters of one process are not a security boundary.
"""

from __future__ import annotations

import builtins
import importlib.util
import io
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from walle_container.bytecode import CACHE_FOLDER, find_module, load_code

# fmt: off
ALLOWED_STDLIB = frozenset({
    "__future__", "abc", "array", "base64", "binascii", "bisect", "calendar", "cmath", "collections",
    "colorsys", "contextlib", "copy", "dataclasses", "datetime", "decimal", "difflib", "enum",
    "fractions", "functools", "hashlib", "heapq", "hmac", "html", "itertools", "json", "keyword", "math",
    "numbers", "operator", "pprint", "queue", "random", "re", "reprlib", "secrets", "statistics",
    "string", "struct", "textwrap", "time", "types", "typing", "unicodedata", "urllib.parse", "uuid",
    "zlib", "zoneinfo",
})
# fmt: on
"""Modules of the standard library a task may import; a package stands for its submodules too."""

ALLOWED_OURS = frozenset({"walle_task", "walle_shared.errors", "walle_shared.units"})
ONLY_FOR_TESTS = frozenset({"walle_task.authoring", "walle_task.pytest_plugin", "walle_task.testing"})

_CURES = {
    "asyncio": "a run has one thread; write plain functions",
    "logging": "use walle_task.log",
    "numpy": "NumPy cannot be loaded in a task's interpreter; use walle_task.matrix, which has its names",
    "os": "a task has no operating system; read files of its bundle with open()",
    "pathlib": "read files of the bundle with open(), by their path in the bundle",
    "requests": "a task has no network; use walle_task.tunnel",
    "socket": "a task has no network; use walle_task.tunnel",
    "sqlite3": "use walle_task.store",
    "threading": "a run has one thread; split the work into tasks",
}
_REMOVED_BUILTINS = frozenset(
    {"breakpoint", "copyright", "credits", "exit", "help", "input", "license", "quit"}
)
_BUILTINS = {name: value for name, value in vars(builtins).items() if name not in _REMOVED_BUILTINS}


class ForbiddenImport(ImportError):
    """The task's code imports what it may not."""


class BundleImporter:
    """Loads the modules of one bundle for one run. Also a ``sys.meta_path`` finder and the modules' loader.

    Args:
        bundle_dir: the unpacked bundle.
    """

    def __init__(self, bundle_dir: Path) -> None:
        self.bundle_dir = bundle_dir
        self._root = str(bundle_dir.absolute())
        self.loaded: list[str] = []
        self.sources: set[str] = set()  # paths in the bundle of all that was loaded, as tracebacks have them
        self._own: set[str] = set()  # top-level names that the bundle's code asked for and the bundle has
        self._tops = _list_tops(self._root)
        self._find = cache(find_module)
        self._builtins = self._make_builtins()

    # The finder, asked first, but answering only for what belongs to the bundle.

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,  # noqa: ARG002  # Python's protocol
        target: ModuleType | None = None,  # noqa: ARG002  # Python's protocol
    ) -> ModuleSpec | None:
        """Find a module or package of the bundle."""
        parts = name.split(".")
        if parts[0] not in self._own:
            return None
        folder = "/".join([self._root, *parts])
        package = f"{folder}/__init__.py"
        if self._find(package) is not None:
            return importlib.util.spec_from_file_location(
                name,
                package,
                loader=self,  # type: ignore[arg-type]  # a structural loader
                submodule_search_locations=[folder],
            )
        module = f"{folder}.py"
        if self._find(module) is not None:
            return importlib.util.spec_from_file_location(name, module, loader=self)  # type: ignore[arg-type]
        return None

    def has(self, top: str) -> bool:
        """Whether the bundle has a top-level module or package ``top``."""
        if top not in self._tops:
            return False
        candidates = (f"{self._root}/{top}.py", f"{self._root}/{top}/__init__.py")
        return any(self._find(path) is not None for path in candidates)

    # The loader.

    def create_module(self, spec: ModuleSpec) -> None:
        """Let Python make an ordinary module."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's code with the task's own builtins."""
        assert module.__spec__ is not None
        assert module.__spec__.origin is not None
        source = module.__spec__.origin
        shown = source[len(self._root) + 1 :]
        self.loaded.append(module.__name__)
        self.sources.add(shown)
        module.__dict__["__builtins__"] = self._builtins
        code = load_code(self._find(source), shown)
        exec(code, module.__dict__)  # the task's script: what we are here for

    def unload(self) -> None:
        """Forget every module of the bundle."""
        for name in self.loaded:
            module = sys.modules.pop(name, None)
            if module is not None:
                module.__dict__.clear()
        self.loaded.clear()

    # What the bundle's code sees.

    def _make_builtins(self) -> dict[str, Any]:
        own = _BUILTINS.copy()
        own["__import__"] = self.import_for_task
        own["open"] = self.open_for_task
        return own

    def import_for_task(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """The ``__import__`` of the bundle's modules.

        Raises:
            ForbiddenImport: naming the module and what to do instead.
        """
        # C code that imports for its caller (strptime loads _strptime) passes a list; statements never do.
        if level == 0 and not isinstance(fromlist, list):
            self._check(name)
        return builtins.__import__(name, globals, locals, fromlist or (), level)

    def open_for_task(
        self, file: str | Path, mode: str = "r", encoding: str | None = None, **options: Any
    ) -> Any:
        """The ``open`` of the bundle's modules: files of the bundle, for reading.

        Raises:
            PermissionError: another mode, or a path that leaves the bundle.
        """
        path = (self.bundle_dir / file).resolve()
        if not path.is_relative_to(self.bundle_dir.resolve()):
            raise PermissionError(f"a task may open files of its own bundle only, not {str(file)!r}")
        if not set(mode) <= set("rbt"):
            raise PermissionError(
                f"a task may only read files; mode {mode!r} would write: use walle_task.store"
            )
        text_encoding = encoding or ("utf-8" if "b" not in mode else None)
        return io.open(path, mode, encoding=text_encoding, **options)  # noqa: UP020  # the name open is the task's

    def _check(self, name: str) -> None:
        top = name.partition(".")[0]
        if self.has(top):
            if top in sys.stdlib_module_names or top.startswith("walle_"):
                raise ForbiddenImport(
                    f"the bundle's {top!r} has the name of another library: rename it", name=name
                )
            self._own.add(top)
        elif not is_allowed(name):
            raise ForbiddenImport(f"a task may not import {name!r}: {cure_for(name)}", name=name)


def _list_tops(root: str) -> frozenset[str]:
    """What the top-level modules and packages of a bundle may be called.

    Each import asks whether the bundle has a module of that name: two listings are cheaper than looking for
    four files each time.
    """
    names: set[str] = set()
    for folder in (root, f"{root}/{CACHE_FOLDER}"):
        with suppress(OSError):  # the run will say that there is no bundle; most have no bytecode
            names.update(name.partition(".")[0] for name in os.listdir(folder))  # noqa: PTH208  # see bytecode
    return frozenset(names)


def cure_for(name: str) -> str:
    """What to do instead of importing ``name``."""
    if name in ONLY_FOR_TESTS:
        return "it is for tests; keep them in the task's tests folder"
    top = name.partition(".")[0]
    if top == "walle_task":
        return "there is no such part of walle_task"
    return _CURES.get(top, f"put a plain-Python {top!r} into the bundle, or do without")


def is_allowed(name: str) -> bool:
    """Whether the bundle's code may import ``name`` from outside: it or a package above it is listed."""
    if name in ONLY_FOR_TESTS:
        return False
    while name:
        if name in ALLOWED_STDLIB or name in ALLOWED_OURS:
            return True
        name = name.rpartition(".")[0]
    return False
