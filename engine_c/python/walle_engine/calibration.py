"""What the cost model believes of this machine: measured once, kept in a file, read before the first session.

The file lies in ``$WALLE_CACHE_HOME``, ``$XDG_CACHE_HOME/walle`` or ``~/.cache/walle``, the first that is
set. Its name says what it holds for: processor, instruction set and engine version. In the environment,
``WALLE_ENGINE_CALIBRATION=off`` leaves it unread. Works in isolated interpreters, and where there is neither
a home nor a file.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from walle_engine import _native
from walle_shared.errors import EngineError, StorageError

__all__ = ["Parameter", "calibrate", "file_path", "load", "load_once", "parameters"]

SWITCH = "WALLE_ENGINE_CALIBRATION"
_FORMAT = 1
_LARGEST_FILE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Parameter:
    """One belief of the cost model; ``meaning`` names its unit."""

    name: str
    value: float
    standard: float
    meaning: str


def parameters() -> tuple[Parameter, ...]:
    """Return what sessions made from now on will believe."""
    return tuple(Parameter(*row) for row in _native.parameters())


def file_path() -> Path | None:
    """Return where this machine's calibration is kept, ``None`` where there is no place for it."""
    folder = _cache_folder()
    if folder is None:
        return None
    from walle_engine import __version__

    parts = (_processor(), _native.isa(), __version__)
    name = "-".join(re.sub(r"[^A-Za-z0-9.]+", "_", part).strip("_") for part in parts)
    return folder / f"calibration-{name}.json"


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


def calibrate() -> Path | None:
    """Measure this machine, about a second, and keep what was found.

    Returns:
        The file it was written to, ``None`` where there is no place for one. Sessions made from now on in
        this process go by it either way.

    Raises:
        StorageError: the file cannot be written.
    """
    _native.is_first_session()  # what the file says must not replace what is measured now
    _native.calibrate()
    path = file_path()
    if path is not None:
        _write(path, {parameter.name: parameter.value for parameter in parameters()})
    return path


def _write(path: Path, values: Mapping[str, float]) -> None:
    """Replace the file as a whole, so that no reader sees a part of it."""
    import tempfile  # here, as sessions of small workers load this module

    document = json.dumps({"format": _FORMAT, "parameters": values}, indent=1)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=path.name, delete=False) as file:
            try:
                file.write(document)
                file.close()
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink()
                raise
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


def load() -> bool:
    """Let the process believe what the file says; ``False`` where there is none, or it is of no use.

    Names that this engine does not know are passed over. A file with anything else wrong is left aside as a
    whole, with a warning.
    """
    path = file_path()
    if path is None:
        return False
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_LARGEST_FILE_BYTES)
    except FileNotFoundError:
        return False
    except (OSError, UnicodeDecodeError) as error:
        return _ignored(path, str(error))
    try:
        values = _read(json.loads(text))
    except (ValueError, RecursionError) as error:
        return _ignored(path, str(error))
    known = {parameter.name: parameter.value for parameter in parameters()}
    try:
        for name in known.keys() & values.keys():
            _native.set_parameter(name, values[name])
    except EngineError as error:
        for name, value in known.items():
            _native.set_parameter(name, value)
        return _ignored(path, str(error))
    return True


def _read(document: object) -> dict[str, float]:
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise ValueError(f"it is not of format {_FORMAT}")
    values = document.get("parameters")
    return {str(name): _number(name, value) for name, value in _dict(values).items()}


def _dict(value: object) -> dict[Any, Any]:
    if isinstance(value, dict):
        return value
    raise ValueError("it holds no parameters")


def _number(name: object, value: object) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise ValueError(f"{name} is too large") from None
    raise ValueError(f"{name} is no number")


def _ignored(path: Path, reason: str) -> bool:
    warnings.warn(
        f"{path} is ignored ({reason}): run 'walle-engine calibrate --force' to write it anew",
        RuntimeWarning,
        stacklevel=3,
    )
    return False


def load_once() -> None:
    """Load before the process's first session, unless switched off; never fails."""
    if not _native.is_first_session() or os.environ.get(SWITCH, "").lower() in ("off", "0", "no"):
        return
    try:
        load()
    # A worker may be allowed nothing, and its sessions must not fail for want of speed.
    except Exception as error:  # noqa: BLE001
        warnings.warn(f"no calibration: {error}", RuntimeWarning, stacklevel=2)
