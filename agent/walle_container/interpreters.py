"""The one place that knows how this CPython spells isolated interpreters.

3.13 has only the private ``_interpreters``; the public ``concurrent.interpreters`` of 3.14 cannot forbid
threads, so the private module stays the way there too. Every need is tested for, none is inferred from a
version; if one is missing, nothing runs.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from walle_shared.errors import InternalError


def _module() -> Any:
    try:
        module = importlib.import_module("_interpreters")
    except ImportError as error:
        raise InternalError(
            "this Python has no isolated interpreters (_interpreters): use CPython 3.13 or 3.14"
        ) from error
    for need in ("create", "exec", "new_config"):
        if not hasattr(module, need):
            raise InternalError(f"this Python's _interpreters has no {need}(): use CPython 3.13 or 3.14")
    return module


def create() -> int:
    """Create an isolated interpreter with its own GIL, no threads, no fork and no exec; return its id.

    Raises:
        InternalError: this Python cannot.
    """
    module = _module()
    config = module.new_config("isolated")
    config.allow_threads = False
    if config.gil != "own" or config.allow_fork or config.allow_exec:
        raise InternalError("this Python's 'isolated' interpreters share the GIL or may fork: refused")
    return int(module.create(config))


def execute(interpreter_id: int, script: str, shared: Mapping[str, Any]) -> str | None:
    """Run ``script`` there with ``shared`` in its ``__main__``; return None, or what it failed with.

    Blocks:
        Until the script ends.
    """
    failure = _module().exec(interpreter_id, script, dict(shared))
    if failure is None:
        return None
    # After an out-of-memory error every part of the report is None.
    return str(getattr(failure, "errdisplay", None) or getattr(failure, "formatted", None) or "MemoryError")
