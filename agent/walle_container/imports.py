"""What a task's own code may import and open, and how its modules are loaded.

The rules bind the code of the bundle, not the standard library below it: each module of the bundle gets its
own ``__builtins__``, whose ``__import__`` asks :class:`BundleImporter`. That stops mistakes and names the
cure; it is no wall against malice, since interpreters of one process are not a security boundary.
"""

from __future__ import annotations

import builtins
import importlib.util
import io
import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

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
_KEPT_CODE = 64


class ForbiddenImport(ImportError):
    """The task's code imports what it may not."""


class BundleImporter:
    """Loads the modules of one bundle for one run. Also a ``sys.meta_path`` finder and the modules' loader.

    Args:
        bundle_dir: the unpacked bundle.
    """

    def __init__(self, bundle_dir: Path) -> None:
        self.bundle_dir = bundle_dir
        self.loaded: list[str] = []
        self._own: set[str] = set()  # top-level names that the bundle's code asked for and the bundle has
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
        folder = self.bundle_dir.joinpath(*parts)
        package = folder / "__init__.py"
        if package.is_file():
            return importlib.util.spec_from_file_location(
                name,
                package,
                loader=self,  # type: ignore[arg-type]  # a structural loader
                submodule_search_locations=[str(folder)],
            )
        module = folder.with_name(parts[-1] + ".py")
        if module.is_file():
            return importlib.util.spec_from_file_location(name, module, loader=self)  # type: ignore[arg-type]
        return None

    def has(self, top: str) -> bool:
        """Whether the bundle has a top-level module or package ``top``."""
        return (self.bundle_dir / f"{top}.py").is_file() or (self.bundle_dir / top / "__init__.py").is_file()

    # The loader.

    def create_module(self, spec: ModuleSpec) -> None:
        """Let Python make an ordinary module."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's code with the task's own builtins."""
        assert module.__spec__ is not None
        assert module.__spec__.origin is not None
        self.loaded.append(module.__name__)
        module.__dict__["__builtins__"] = self._builtins
        exec(
            load_code(Path(module.__spec__.origin)), module.__dict__
        )  # the task's script: what we are here for

    def unload(self) -> None:
        """Forget every module of the bundle."""
        for name in self.loaded:
            module = sys.modules.pop(name, None)
            if module is not None:
                module.__dict__.clear()
        self.loaded.clear()

    # What the bundle's code sees.

    def _make_builtins(self) -> dict[str, Any]:
        own = {name: value for name, value in vars(builtins).items() if name not in _REMOVED_BUILTINS}
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
            cure = _CURES.get(top, f"put a plain-Python {top!r} into the bundle, or do without")
            raise ForbiddenImport(f"a task may not import {name!r}: {cure}", name=name)


def is_allowed(name: str) -> bool:
    """Whether the bundle's code may import ``name`` from outside: it or a package above it is listed."""
    while name:
        if name in ALLOWED_STDLIB or name in ALLOWED_OURS:
            return True
        name = name.rpartition(".")[0]
    return False


_code: OrderedDict[tuple[str, int, int], CodeType] = OrderedDict()


def load_code(path: Path) -> CodeType:
    """The compiled module at ``path``; kept between runs, and compiled again where the file has changed.

    Raises:
        SyntaxError: the script is not Python.
    """
    status = path.stat()
    key = (str(path), status.st_mtime_ns, status.st_size)
    code = _code.get(key)
    if code is None:
        code = _code[key] = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    _code.move_to_end(key)
    while len(_code) > _KEPT_CODE:
        _code.popitem(last=False)
    return code
