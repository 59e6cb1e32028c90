"""The error tree of every Walle program. Standard library only; imports nothing of ours.

::

    WalleError(message, code, retryable)
      ConfigError              the operator fixes it; names the key and the file
      ProtocolError
        LocalProtocolError     our bug: we were about to say something illegal
        RemoteProtocolError    their bug: the peer said something illegal
      TransportError           the only family retried by default
        PeerTimeout
        ConnectionLost
      TrustError               never retried
        SignatureError
        ExpiredError
        RollbackError
        LengthOrHashError
        UnapprovedError
      StateError
        NotFound
        Conflict
        LimitExceeded
        NotAllowed
      StorageError             disk full, torn write, corrupt file
      TaskError                a task's own package or script is wrong; its author fixes it
      EngineError(status, op, node)
        ModelError             the model file or graph is wrong
        UnsupportedError       valid, but this engine cannot run it
        DeviceError            a back end failed
        OutOfMemory
      InternalError            we broke an invariant: crash the task, keep the evidence

The type alone tells who has to act. ``code`` is stable and low-cardinality (metrics, HTTP bodies); messages
may change.
"""

from __future__ import annotations

from typing import ClassVar


class WalleError(Exception):
    """Root of all errors raised on purpose.

    Args:
        message: what happened and what to do about it, for a person.
        code: stable machine-readable name; the class's own ``code`` where omitted.
    """

    code: str = "error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code

    @property
    def message(self) -> str:
        """The human sentence."""
        return str(self.args[0]) if self.args else self.code


class ConfigError(WalleError):
    """A setting is missing, unknown or wrong; the message names key and file."""

    code = "config"


class ProtocolError(WalleError):
    """A conversation rule was broken."""

    code = "protocol"


class LocalProtocolError(ProtocolError):
    """We were about to break the protocol: our bug."""

    code = "protocol_local"


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol: theirs."""

    code = "protocol_remote"


class TransportError(WalleError):
    """The network failed; trying again may help."""

    code = "transport"
    retryable = True


class PeerTimeout(TransportError):
    """The peer did not answer in time."""

    code = "timeout"


class ConnectionLost(TransportError):
    """The connection broke or could not be made."""

    code = "connection_lost"


class TrustError(WalleError):
    """Something signed, hashed or counted does not add up; never retried blindly."""

    code = "trust"


class SignatureError(TrustError):
    """No trusted key signed these bytes."""

    code = "signature"


class ExpiredError(TrustError):
    """Signed, but no longer valid."""

    code = "expired"


class RollbackError(TrustError):
    """An older state was offered than one already seen."""

    code = "rollback"


class LengthOrHashError(TrustError):
    """The bytes are not the bytes that were promised."""

    code = "length_or_hash"


class UnapprovedError(TrustError):
    """The policy names a bundle that the targets do not approve. It says nothing of the bundle."""

    code = "unapproved"


class StateError(WalleError):
    """The request does not fit the present state."""

    code = "state"


class NotFound(StateError):
    """No such thing."""

    code = "not_found"


class Conflict(StateError):
    """It exists already, or changed under the caller."""

    code = "conflict"


class LimitExceeded(StateError):
    """A documented limit was passed."""

    code = "limit"


class NotAllowed(StateError):
    """The caller lacks the right; asking again does not help."""

    code = "not_allowed"


class StorageError(WalleError):
    """Disk full, torn write, or a corrupt file."""

    code = "storage"


class TaskError(WalleError):
    """A task's package, script or result is wrong; its author fixes it."""

    code = "task"


class EngineError(WalleError):
    """The tensor engine refused or failed.

    Args:
        message: what happened.
        status: the engine's status name, e.g. ``"INVALID_MODEL"``.
        op: the operator concerned, where known.
        node: the node's name in the model, where known.
    """

    code = "engine"

    def __init__(self, message: str, *, status: str = "", op: str = "", node: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.op = op
        self.node = node


class ModelError(EngineError):
    """The model file or graph is malformed."""

    code = "model"


class UnsupportedError(EngineError):
    """A valid model, but with something this engine does not run."""

    code = "unsupported"


class DeviceError(EngineError):
    """A back end failed."""

    code = "device"


class OutOfMemory(EngineError):
    """The engine or its quota ran out of memory."""

    code = "out_of_memory"


class InternalError(WalleError):
    """An invariant of ours does not hold."""

    code = "internal"


#: Codes that are not a class's own: what a caller may want to tell apart within a family.
SPECIAL_CODES = {
    "credential_expired": "a device's credential is over; it renews it by its key",
    "cross_site": "a form of the console came from another site's page",
    "csrf": "a form of the console is of an older session: load the page again",
    "not_encrypted": "a webhook on the Internet must be https",
    "not_public": "a webhook's host is in a network that webhooks may not reach",
    "revoked": "an operator has ended this device's rights for good",
    "self_approval": "four eyes: somebody else must approve this",
    "superseded": "the policy wants something else by now; the device stops installing this",
    "token_expired": "an operator's token or login is over: make a new one, or log in again",
    "unknown_device": "the control plane does not know this device: enrol again",
}
