"""What the cost model believes of this machine: measured once, kept in a file, read before the first session.

Others on the machine can only slow a measurement down. Where two passes of a figure do not come near each
other, what was found is in doubt: the file says so, and a later process measures again before its first
session, a few times at most, and keeps the better of both for every figure.

The file is one of those of :mod:`walle_engine.kept`. In the environment, ``WALLE_ENGINE_CALIBRATION=off``
leaves it unread. Works in isolated interpreters, and where there is neither a home nor a file.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from walle_engine import _native, kept
from walle_shared.errors import EngineError, StorageError

__all__ = [
    "Parameter", "calibrate", "file_path", "forget", "improve", "is_in_doubt", "load", "load_once",
    "measured_devices", "parameters",
]  # fmt: skip

_FORMAT = 1
#: Passes of a figure that are further apart were disturbed; on a quiet machine they are within 2 %.
_DOUBTFUL = 0.05
_LEAST_SPREAD = 1e-6
#: Measurements of about a second that are made until one is not in doubt.
_MOST_ATTEMPTS = 6
#: Parameters that are times: the less, the better. Of all others it is the more.
_TIMES = frozenset({"start", "fork"})
#: What the parameters of devices begin with: what device by its driver's name, then which.
_DEVICE = "device."
_TIMES_OF_DEVICES = (".launch", ".copy")
#: What is no measure of undisturbed time (see calibrate.c).
_APART_BY_NATURE = ("fork", "cache", "far_all", "spread", _DEVICE)
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


def is_in_doubt() -> bool:
    """Tell whether what is believed was measured while other work slowed this machine down."""
    return _values()["spread"] > _DOUBTFUL


def calibrate() -> Path | None:
    """Measure this machine, about a second, and keep what was found.

    Returns:
        The file it was written to, ``None`` where there is no place for one. Sessions made from now on in
        this process go by it either way.

    Raises:
        StorageError: the file cannot be written.
    """
    _native.is_first_session()  # what the file says must not replace what is measured now
    path = file_path()
    if path is not None:
        _remember_devices(path)
    _native.calibrate()
    if path is not None:
        _write(path, _values(), attempts=1)
    return path


def measured_devices() -> frozenset[str]:
    """Return the identities of the devices of which something is known, here or not."""
    return frozenset(
        row.name.split(".")[1] for row in parameters() if row.name.startswith(_DEVICE) and row.value
    )


def _remember_devices(path: Path) -> None:
    """Believe what the file says of devices, as some may not be here today; those that are get measured."""
    try:
        document = kept.read(path, _FORMAT, _LARGEST_FILE_BYTES)
        values = _read(document) if document else {}
        for name in filter(_is_of_device, values):
            _native.set_parameter(name, values[name])
    except (ValueError, EngineError):
        return  # it is written anew


def _is_of_device(name: str) -> bool:
    return name.startswith(_DEVICE) and _native.parameter_exists(name)


def improve() -> bool:
    """Measure once more where what the file says is in doubt, and keep the better of both for every figure.

    That is done a few times at most; ``False`` where nothing was measured. The attempt is counted in the file
    beforehand, so that none is made where that is not possible.

    Raises:
        StorageError: the file cannot be written.
    """
    path = file_path()
    if path is None or not is_in_doubt():
        return False
    document = kept.read(path, _FORMAT, _LARGEST_FILE_BYTES)
    attempts = document.get("attempts", 1) if document else None
    if not isinstance(attempts, int) or not 0 < attempts < _MOST_ATTEMPTS:
        return False
    earlier = _values()
    _write(path, earlier, attempts + 1)
    _native.calibrate()
    better = _better(earlier, _values())
    for name, value in better.items():
        _native.set_parameter(name, value)
    _write(path, better, attempts + 1)
    return True


def _better(first: dict[str, float], second: dict[str, float]) -> dict[str, float]:
    """What two measurements say together; that they agree settles the doubts of either."""
    both = {name: (first.get(name, 0.0), second.get(name, 0.0)) for name in first | second}
    better = {name: _better_of(name, pair) for name, pair in both.items()}
    steady = [pair for name, pair in both.items() if not name.startswith(_APART_BY_NATURE)]
    apart = max(1 - min(pair) / max(pair) for pair in steady)
    return {**better, "spread": min(*both["spread"], max(apart, _LEAST_SPREAD))}


def _better_of(name: str, pair: tuple[float, float]) -> float:
    known = [value for value in pair if value] or [0.0]  # a device may come and go
    is_time = name in _TIMES or (name.startswith(_DEVICE) and name.endswith(_TIMES_OF_DEVICES))
    return min(known) if is_time else max(known)


def _values() -> dict[str, float]:
    return {parameter.name: parameter.value for parameter in parameters()}


def _write(path: Path, values: Mapping[str, float], attempts: int = 1) -> None:
    kept.write(path, {"format": _FORMAT, "parameters": values, "attempts": attempts})


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
    known = _values()
    try:
        for name in filter(_native.parameter_exists, values):
            _native.set_parameter(name, values[name])
    except EngineError as error:
        _native.reset_parameters()
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
    """Load, and improve if need be, before the process's first session, unless switched off; never fails."""
    if not _native.is_first_session() or kept.is_off():
        return
    try:
        if load():
            with contextlib.suppress(StorageError):  # where nothing can be written, what was found must do
                improve()
    # A worker may be allowed nothing, and its sessions must not fail for want of speed.
    except Exception as error:  # noqa: BLE001
        warnings.warn(f"no calibration: {error}", RuntimeWarning, stacklevel=2)
