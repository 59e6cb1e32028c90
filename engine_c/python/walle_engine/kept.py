"""Files that keep what was found out about this machine, for other processes to read.

They lie in ``$WALLE_CACHE_HOME``, ``$XDG_CACHE_HOME/walle`` or ``~/.cache/walle``, the first that is set.
Their names say what they hold for: processor, instruction set and engine version. Nothing depends on them but
speed: what cannot be read is left aside with a warning. Works in isolated interpreters.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from pathlib import Path

from walle_engine import _native
from walle_shared.errors import StorageError

__all__ = ["IgnoredFileWarning", "file_path", "folder", "ignore", "is_off", "read", "write"]

SWITCH = "WALLE_ENGINE_CALIBRATION"


class IgnoredFileWarning(RuntimeWarning):
    """A kept file is of no use; the engine goes on without it."""


def is_off() -> bool:
    """Tell whether the environment wants sessions to leave all such files alone."""
    return os.environ.get(SWITCH, "").lower() in ("off", "0", "no")


def file_path(kind: str) -> Path | None:
    """Return where this machine's file of that kind is, ``None`` where there is no place for it."""
    folder = _cache_folder()
    if folder is None:
        return None
    from walle_engine import __version__

    parts = (_processor(), _native.isa(), __version__)
    name = "-".join(re.sub(r"[^A-Za-z0-9.]+", "_", part).strip("_") for part in parts)
    return folder / f"{kind}-{name}.json"


def folder(kind: str) -> Path | None:
    """Return a folder for files of that kind, made if need be; ``None`` where there can be none."""
    home = _cache_folder()
    if home is None:
        return None
    try:
        (home / kind).mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return home / kind


def _cache_folder() -> Path | None:
    own, shared = os.environ.get("WALLE_CACHE_HOME"), os.environ.get("XDG_CACHE_HOME")
    if own:
        return Path(own)
    if shared:
        return Path(shared) / "walle"
    try:
        return Path.home() / ".cache" / "walle"
    except RuntimeError:  # no home
        return None


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if key.strip() in ("model name", "Model"):
                    return value.strip()
    except OSError:
        pass
    return os.uname().machine or "unknown"


def read(path: Path, form: int, largest_bytes: int) -> dict[str, object] | None:
    """Return the object in the file; ``None`` where there is no file.

    Raises:
        ValueError: it holds no JSON object of format ``form``, or cannot be read; says why.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(largest_bytes + 1)
        document = json.loads(text) if len(text) <= largest_bytes else None
    except FileNotFoundError:
        return None
    except (OSError, RecursionError) as error:
        raise ValueError(str(error)) from error
    if not isinstance(document, dict) or document.get("format") != form:
        raise ValueError(f"it is not of format {form}, or too large")
    return document


def write(path: Path, document: object) -> None:
    """Replace the file as a whole, so that no reader sees a part of it.

    Raises:
        StorageError: it cannot be written; names it.
    """
    import tempfile  # here, as sessions of small workers load this module

    text = json.dumps(document, indent=1)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=path.name, delete=False) as file:
            try:
                file.write(text)
                file.close()
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink()
                raise
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


def ignore(path: Path, reason: str, cure: str) -> None:
    """Warn that the file is left aside."""
    warnings.warn(f"{path} is ignored ({reason}): {cure}", IgnoredFileWarning, stacklevel=3)
