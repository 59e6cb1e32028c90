"""What a worker's main interpreter must import before it creates the first sub-interpreter.

Some C modules of CPython 3.13 set up static types on first import. Where a sub-interpreter is the first, or
several race for it, the process aborts later ("munmap_chunk(): invalid pointer"; python/cpython#136421,
#136423). So every such module that a task can reach is imported here first.
"""

from __future__ import annotations

import importlib
import sys

PRELOADED = (
    "datetime",  # the known offender
    "_strptime",  # datetime imports it lazily
    "sqlite3",  # imports datetime; not for tasks, but one bypass away
    "decimal",
    "array",
    "zlib",
    "struct",
    "random",
    "hashlib",
    "zoneinfo",
)


def preload() -> None:
    """Import them all."""
    for name in PRELOADED:
        importlib.import_module(name)


def is_preloaded() -> bool:
    """Whether all are imported in this interpreter; checked before each sub-interpreter is created."""
    return all(name in sys.modules for name in PRELOADED)
