"""The code of a bundle's modules: bytecode where the bundle carries it for this Python, else its source.

A bundle names a module's bytecode as Python does, ``__pycache__/<module>.<cache tag>.pyc``. Only
unchecked-hash files count: what stands in them is what the control plane signed, and no source beside it is
asked. Whatever else lies there (an editor's or a test's leavings, another Python's) is passed over. Code
knows its file by the path inside the bundle, so nothing of it names a device's folders.
"""

from __future__ import annotations

import importlib.util
import marshal
import os
import sys
from collections import OrderedDict
from pathlib import Path, PurePath
from types import CodeType

from walle_shared.errors import TaskError

MAGIC = importlib.util.MAGIC_NUMBER
CACHE_FOLDER = "__pycache__"
BYTECODE_SUFFIX = ".pyc"
SOURCE_SUFFIX = ".py"
HEADER_BYTES = 16

# Flags of the header, PEP 552: bit 0 = by hash, bit 1 = compare with the source.
_UNCHECKED_HASH = 0b01
_KEPT_CODE = 64


def cache_tag() -> str:
    """The word in the names of this Python's bytecode files, such as ``cpython-313``."""
    return sys.implementation.cache_tag or "unknown"


def bytecode_path[P: PurePath](source: P, tag: str) -> P:
    """Where a bundle carries the bytecode of the module at ``source``."""
    return source.parent / CACHE_FOLDER / f"{source.stem}.{tag}{BYTECODE_SUFFIX}"


def is_loadable(header: bytes) -> bool:
    """Whether a file that begins with ``header`` is bytecode that this Python loads as it stands."""
    flags = int.from_bytes(header[4:8], "little")
    return len(header) >= HEADER_BYTES and header[:4] == MAGIC and flags == _UNCHECKED_HASH


def find_module(source: str) -> str | None:
    """The file to load the module at ``source`` from: its bytecode, else the source, else None."""
    folder, _, name = source.rpartition("/")  # each run asks a few times: pathlib would take a tenth of it
    compiled = f"{folder}/{CACHE_FOLDER}/{name.removesuffix(SOURCE_SUFFIX)}.{cache_tag()}{BYTECODE_SUFFIX}"
    try:
        with open(compiled, "rb", buffering=0) as file:  # noqa: PTH123  # see above
            if is_loadable(file.read(HEADER_BYTES)):
                return compiled
    except OSError:
        pass  # no bytecode for this Python
    return source if os.path.isfile(source) else None  # noqa: PTH113  # see above


_code: OrderedDict[tuple[str, int, int], CodeType] = OrderedDict()


def load_code(path: str | None, shown: str) -> CodeType:
    """The code of a module; kept between runs, and loaded anew where the file has changed.

    Args:
        path: what :func:`find_module` has found.
        shown: its path in the bundle, which tracebacks show.

    Raises:
        TaskError: there is neither bytecode for this Python nor source, or the bytecode is damaged.
        SyntaxError: the source is not Python.
    """
    if path is None:
        raise TaskError(f"{shown}: the bundle has neither its source nor its bytecode for {cache_tag()}")
    status = os.stat(path)  # noqa: PTH116  # see find_module
    key = (path, status.st_mtime_ns, status.st_size)
    code = _code.get(key)
    if code is None:
        code = _code[key] = _read(path, shown)
    _code.move_to_end(key)
    while len(_code) > _KEPT_CODE:
        _code.popitem(last=False)
    return code


def _read(path: str, shown: str) -> CodeType:
    data = Path(path).read_bytes()
    if not path.endswith(BYTECODE_SUFFIX):
        return compile(data, shown, "exec", dont_inherit=True)
    try:
        code = marshal.loads(memoryview(data)[HEADER_BYTES:])
    except (EOFError, ValueError, TypeError) as error:
        raise TaskError(f"{shown}: its bytecode is damaged: {error}") from None
    if not isinstance(code, CodeType):
        raise TaskError(f"{shown}: its bytecode is damaged: it holds no code")
    return code
