"""Lets a bare interpreter import Walle's packages, and nothing else that is installed.

The agent finds the packages once (:func:`find_locations`), wherever an editable or a normal install has put
them. This very file then opens each worker process, as its script, and each slot, loaded by path: neither
runs ``site``, so neither sees site-packages, .pth files or an editable install's import hook. Standard
library only, and few modules of it.
"""

from __future__ import annotations

import importlib.util
import json
import sys

TYPE_CHECKING = False  # type checkers take it for true; importing typing costs every slot memory
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

PACKAGES = ("walle_shared", "walle_task", "walle_container", "walle_engine")
WORKER_PACKAGES = ("PIL",)
"""Of others: what a worker's main interpreter needs besides; slots do not see it."""
EXTENSIONS = ("walle_container._vm", "walle_container._fence", "walle_engine._native")


class PackageFinder:
    """A ``sys.meta_path`` finder for the packages and extension modules of a location table."""

    def __init__(self, locations: dict[str, Any]) -> None:
        self._packages: dict[str, tuple[str, list[str]]] = locations["packages"]
        self._extensions: dict[str, str] = locations["extensions"]

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,  # noqa: ARG002  # Python's protocol
        target: ModuleType | None = None,  # noqa: ARG002  # Python's protocol
    ) -> ModuleSpec | None:
        """Find a top-level package, or an extension wherever it was built; leave the rest to the path."""
        if name in self._packages:
            init, folders = self._packages[name]
            return importlib.util.spec_from_file_location(name, init, submodule_search_locations=folders)
        if name in self._extensions:
            return importlib.util.spec_from_file_location(name, self._extensions[name])
        return None


def find_locations() -> str:
    """Where this interpreter would import Walle's packages from, as a JSON text for :func:`install`.

    A package or extension that is not installed is left out; whoever imports it then gets a plain
    ImportError.
    """
    packages: dict[str, tuple[str, list[str]]] = {}
    worker_packages: dict[str, tuple[str, list[str]]] = {}
    for name in (*PACKAGES, *WORKER_PACKAGES):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            found = worker_packages if name in WORKER_PACKAGES else packages
            found[name] = (spec.origin, list(spec.submodule_search_locations or ()))
    extensions = {}
    for name in EXTENSIONS:
        spec = importlib.util.find_spec(name) if name.partition(".")[0] in packages else None
        if spec is not None and spec.origin is not None:
            extensions[name] = spec.origin
    return json.dumps({"packages": packages, "worker_packages": worker_packages, "extensions": extensions})


def install(locations: str, *, worker: bool = False) -> None:
    """Make the packages of a :func:`find_locations` text importable in this interpreter.

    Args:
        locations: the text.
        worker: whether this is a worker's main interpreter, which needs more than a slot.
    """
    table = json.loads(locations)
    if worker:
        table["packages"] |= table["worker_packages"]
    sys.meta_path.insert(0, PackageFinder(table))


if __name__ == "__main__":
    install(sys.argv[1], worker=True)
    from walle_container.worker import main

    main(sys.argv[2], locations=sys.argv[1])
