"""What the cost model believes of this machine: measured once, kept in a file, read before the first session.

The file is one of those of :mod:`walle_engine.kept`. In the environment, ``WALLE_ENGINE_CALIBRATION=off``
leaves it unread. Works in isolated interpreters, and where there is neither a home nor a file.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from walle_engine import _native, kept
from walle_shared.errors import EngineError

__all__ = ["Parameter", "calibrate", "file_path", "forget", "load", "load_once", "parameters"]

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
    return kept.file_path("calibration")


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
    kept.write(path, {"format": _FORMAT, "parameters": values})


def forget() -> bool:
    """Remove the file and go by the standard values again; ``False`` where there was none."""
    _native.reset_parameters()
    path = file_path()
    if path is None or not path.exists():
        return False
    path.unlink(missing_ok=True)
    return True


def load() -> bool:
    """Let the process believe what the file says; ``False`` where there is none, or it is of no use.

    Names that this engine does not know are passed over. A file with anything else wrong is left aside as a
    whole, with a warning.
    """
    path = file_path()
    if path is None:
        return False
    try:
        document = kept.read(path, _FORMAT, _LARGEST_FILE_BYTES)
        if document is None:
            return False
        values = _read(document)
    except ValueError as error:
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


def _read(document: Mapping[str, object]) -> dict[str, float]:
    return {str(name): _number(name, value) for name, value in _dict(document.get("parameters")).items()}


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
    kept.ignore(path, reason, "run 'walle-engine calibrate --force' to write it anew")
    return False


def load_once() -> None:
    """Load before the process's first session, unless switched off; never fails."""
    if not _native.is_first_session() or kept.is_off():
        return
    try:
        load()
    # A worker may be allowed nothing, and its sessions must not fail for want of speed.
    except Exception as error:  # noqa: BLE001
        warnings.warn(f"no calibration: {error}", RuntimeWarning, stacklevel=2)
