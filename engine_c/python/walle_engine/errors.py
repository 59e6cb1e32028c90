"""From the engine's status to the project's exceptions."""

from __future__ import annotations

from walle_shared.errors import (
    ConfigError,
    DeviceError,
    EngineError,
    ModelError,
    OutOfMemory,
    StorageError,
    UnsupportedError,
    WalleError,
)

_ENGINE_ERRORS: dict[str, type[EngineError]] = {
    "INVALID_ARGUMENT": EngineError,
    "INVALID_MODEL": ModelError,
    "UNSUPPORTED": UnsupportedError,
    "OUT_OF_MEMORY": OutOfMemory,
    "DEVICE": DeviceError,
    "INTERNAL": EngineError,
}


def error_for(status: str, message: str, op: str = "", node: str = "") -> WalleError:
    """Make the exception for a status.

    Args:
        status: name of the status, e.g. ``"INVALID_MODEL"``.
        message: what happened.
        op: the operator concerned, or ``""``.
        node: the node concerned, or ``""``.

    Returns:
        The exception, not raised. ``CONFIG`` and ``IO`` are no engine faults and leave its branch.
    """
    if status == "CONFIG":
        return ConfigError(message)
    if status == "IO":
        return StorageError(message)
    where = " ".join(part for part in (op, f"'{node}'" if node else "") if part)
    text = f"{where}: {message}" if where else message
    return _ENGINE_ERRORS.get(status, EngineError)(text, status=status, op=op, node=node)
