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

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Literal


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


@dataclass(frozen=True, slots=True)
class Cure:
    """Who acts on an error, and how. ``says`` explains a code that is not a class's own.

    Messages of what an ``operator`` or an ``author`` acts on end in their next step themselves.
    """

    who: Literal["operator", "author", "us", "nobody"]
    step: str
    says: str = ""


#: What to do about every code; ``docs/reference/errors.md`` is made of it.
CURES: Final[Mapping[str, Cure]] = {
    "error": Cure("us", "report it with the message"),
    "config": Cure("operator", "correct the setting, argument or field that the message names"),
    "predicate": Cure("operator", "correct the predicate where the message points"),
    "protocol": Cure("us", "report it with the log lines of the same trace_id"),
    "protocol_local": Cure("us", "report it with the log lines of the same trace_id"),
    "protocol_remote": Cure(
        "operator", "bring both programs to versions that know each other; correct the request"
    ),
    "event": Cure(
        "author", "let the app send what configs/events.toml declares; 'walle-agent emit' checks a file"
    ),
    "transport": Cure("nobody", "it is tried again; look at the network if it goes on"),
    "timeout": Cure("nobody", "it is tried again; look at the peer's load and the network if it goes on"),
    "connection_lost": Cure(
        "nobody", "it is tried again; look whether the peer runs, and at the network between"
    ),
    "busy": Cure(
        "nobody", "it is tried again when the server says; raise [stream] limits or add workers if it goes on"
    ),
    "trust": Cure("operator", "'walle-agent doctor' and 'walle-control trust show' say what does not verify"),
    "signature": Cure(
        "operator", "sign with keys that the root names: 'walle-control trust show' lists them"
    ),
    "expired": Cure(
        "operator", "'walle-control trust renew ROLE' where its keys are; set the device's clock"
    ),
    "rollback": Cure(
        "operator", "serve no older backup: 'walle-control rebuild' goes on from what was published"
    ),
    "length_or_hash": Cure("operator", "'walle-control fsck' finds damaged files; look at caches between"),
    "unapproved": Cure(
        "operator", "'walle-control task approval' says what is missing, 'trust submit' brings it"
    ),
    "state": Cure("operator", "look at the present state, and ask for what fits it"),
    "not_found": Cure(
        "operator", "name one that there is: the lists of the command line and console show them"
    ),
    "conflict": Cure("operator", "look at what is there now, then decide again"),
    "integrity": Cure("us", "report it with the message"),
    "leadership_lost": Cure("nobody", "another worker leads by now and goes on"),
    "limit": Cure("operator", "stay within the limit that the message names, or raise it in the settings"),
    "not_allowed": Cure("operator", "ask an admin for the role: 'walle-control whoami' says what one may"),
    "credential_refused": Cure("nobody", "the device renews its credential by its key, or enrols again"),
    "not_enrolled": Cure(
        "operator", "give the device an enrolment token: 'walle-control enrol-token create'"
    ),
    "unauthenticated": Cure(
        "operator", "log in again, or give a token that counts: 'walle-control token create'"
    ),
    "not_now": Cure("nobody", "the device waits until its own rules allow it"),
    "storage": Cure("operator", "make room on the disk, or restore what is damaged from a backup"),
    "task": Cure(
        "author", "correct the task: 'walle-agent task check' and 'task simulate' show it before a release"
    ),
    "cloud_unavailable": Cure(
        "author", "decide without the cloud where 'cloud.Unavailable' is caught; its reason says why"
    ),
    "engine": Cure("us", "report it with the model, or the smallest one that shows it"),
    "model": Cure("author", "export the model again, and convert it anew by 'walle-engine convert'"),
    "unsupported": Cure(
        "author", "'walle-engine convert' lists what is not known: leave it out, or add the operator"
    ),
    "device": Cure("nobody", "another back end takes over; report it if it goes on"),
    "out_of_memory": Cure("author", "use a smaller model or batch, or ask for more in [limits] of task.toml"),
    "internal": Cure("us", "report it with the log lines of the same trace_id"),
    # Codes that are not a class's own: what a caller may want to tell apart within a family.
    "credential_expired": Cure("nobody", "the device renews it by its key", "a device's credential is over"),
    "cross_site": Cure(
        "operator", "use the console's own pages", "a form of the console came from another site's page"
    ),
    "csrf": Cure("operator", "load the page again", "a form of the console is of an older session"),
    "not_encrypted": Cure("operator", "give an https URL", "a webhook on the Internet must be https"),
    "not_public": Cure(
        "operator",
        "allow it by webhooks.allow_networks, if it is meant",
        "a webhook's host is in a network that webhooks may not reach",
    ),
    "revoked": Cure(
        "operator",
        "enrol the device anew, if it may come back",
        "an operator has ended this device's rights for good",
    ),
    "self_approval": Cure(
        "operator", "let somebody else with the role approver decide", "four eyes see to this step"
    ),
    "superseded": Cure(
        "nobody",
        "the device goes on with what is wanted now",
        "the policy wants something else by now; the device stops installing this",
    ),
    "token_expired": Cure(
        "operator", "make a new one, or log in again", "an operator's token or login is over"
    ),
    "unknown_device": Cure(
        "nobody", "the device enrols again", "the control plane does not know this device"
    ),
}

#: The codes that are not a class's own.
SPECIAL_CODES: Final = frozenset(code for code, cure in CURES.items() if cure.says)
