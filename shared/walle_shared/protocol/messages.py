"""The frozen types that cross the wire between device and control plane.

Static files (``STATIC_ROOT``; any web server or CDN can serve them)::

    epoch.json              Envelope of EpochInfo, signed by the role ``policy``; ETag, conditional GET
    learning.json           Envelope of learning.OpenRounds, by the same role; ETag, conditional GET
    tuf/<version>.<role>.json, tuf/timestamp.json   trust metadata (``trust.roles``)
    snapshot/<sha256>       targeting.Snapshot, named by the signed epoch
    manifest/<sha256>       manifest.Manifest, named by the snapshot and approved by the trust metadata
    blob/<sha256>           a file of a bundle, named by the manifest; Range
    delta/<sha256>          deltas.DeltaList, named by the snapshot, and the deltas that it names; Range
    ids/<sha256>            index or shard of a set of ids (``targeting.idset``), named by the snapshot

Device requests (``DEVICE_API``; all but the first three with ``Authorization: Bearer <credential>``)::

    POST enrol              EnrolRequest     -> EnrolResponse
    POST renew              RenewRequest     -> EnrolResponse
    POST time               TimeRequest      -> envelope of trust.roles.SignedTime, signed by ``timestamp``
    GET  stream             SSE: ``epoch`` (data = EpochNotice), ``goodbye`` (data = GoodbyeNotice)
    POST reports            ReportBatch      -> ReportReceipt
    POST permits            PermitRequest    -> PermitAnswer
    POST decide             DecideRequest    -> signed envelope of Told
    GET  exclusive/<scenario>/<task>            -> ExclusiveOffer
    GET  sealed/<sha256>    a file of an exclusive manifest; the URL in the offer is the permission; Range
    WS   tunnel             binary frames of ``protocol.tunnel``
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from walle_shared.ids import DeviceId, ReleaseId, Sha256, TaskName, TaskVersion


@dataclass(frozen=True, slots=True)
class FileRef:
    """An immutable file: its digest and its exact size in bytes."""

    sha256: Sha256
    size_bytes: int


@dataclass(frozen=True, slots=True)
class EnrolRequest:
    """A device presents a one-time token and the public half of the key it made (raw Ed25519, hex)."""

    token: str
    public_key: str
    profile: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RenewRequest:
    """Proof of possession: ``signature`` (hex) is the device key over :func:`renewal_bytes` of these values.

    ``at_ms`` is only a nonce that must rise; it is not trusted as a time.
    """

    device_id: DeviceId
    at_ms: int
    signature: str
    extra: Mapping[str, Any] = field(default_factory=dict)


def renewal_bytes(device_id: DeviceId, at_ms: int) -> bytes:
    """The bytes a device signs to renew its credential."""
    return b"walle-renew\n" + device_id.encode() + b"\n" + str(at_ms).encode()


@dataclass(frozen=True, slots=True)
class EnrolResponse:
    """The device's name and a bearer credential, valid until ``expires_ms`` of the server's wall clock."""

    device_id: DeviceId
    credential: str
    expires_ms: int
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TimeRequest:
    """A device asks what time it is; the answer repeats ``nonce``, so it cannot be an old one."""

    nonce: str
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EpochInfo:
    """Signed: the newest epoch and the policy snapshot it stands for.

    ``approvals`` is the version of the trust metadata's snapshot that approves every bundle it names.
    ``plans`` says how its releases are to go on: for a control plane that lost its database, not for devices.
    """

    epoch: int
    snapshot: FileRef
    issued_ms: int
    expires_ms: int
    approvals: int = 0
    plans: FileRef | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EpochNotice:
    """A push: epoch ``epoch`` exists. Never more than that.

    Who hears it asks for the epoch within ``spread_s`` seconds, at a time of its own.
    """

    epoch: int
    spread_s: float = 0.0
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GoodbyeNotice:
    """The server closes the stream; come back after ``retry_s`` seconds plus jitter."""

    retry_s: float
    extra: Mapping[str, Any] = field(default_factory=dict)


#: Stands where no release is meant.
NO_RELEASE: Final = ReleaseId("")

Outcome = Literal["success", "failure"]
Stage = Literal["start", "install", "run", "revert"]
ErrorClass = Literal["none", "install", "runtime", "network", "shed", "user"]

#: Only these classes of failure speak about the release; a network that failed says nothing of it.
VOTING_ERRORS: frozenset[ErrorClass] = frozenset({"none", "install", "runtime"})


@dataclass(frozen=True, slots=True)
class Report:
    """What became of one attempt: an installation, a run, or a local revert.

    ``report_id`` is unique on the device for ever, so a repeated batch counts once.
    ``attempt`` counts the starts of this release on this device. ``votes``: the device tells every outcome of
    this release, so it may be counted. ``control_of``: it is held back from that release, which is compared
    with this one. The stage ``start`` says that such a comparison begins or, without ``control_of``, that the
    first installation of this release does. ``peak_bytes``: the memory of a run (0: not known).
    ``barred_s``: after this failure the device does not try the release again for so long.
    """

    report_id: str
    release_id: ReleaseId
    task: TaskName
    version: TaskVersion
    stage: Stage
    outcome: Outcome
    attempt: int
    at_ms: int
    duration_ms: float
    error_class: ErrorClass = "none"
    code: str = ""
    message: str = ""
    votes: bool = True
    control_of: ReleaseId = NO_RELEASE
    peak_bytes: int = 0
    barred_s: float = 0.0
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReportBatch:
    """At most ``limits.REPORT_BATCH_MAX`` reports, oldest first."""

    reports: tuple[Report, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReportReceipt:
    """How many were new; the rest had been counted before."""

    accepted: int
    duplicates: int
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PermitRequest:
    """A device asks for its place in a capped release; ``claim``: it is about to activate it, for good."""

    release_id: ReleaseId
    claim: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PermitAnswer:
    """Whether the device has a place. One that is not claimed by ``expires_ms`` is given to others.

    If it has none, it may ask again after ``retry_s`` seconds: an unclaimed place may have come back.
    """

    granted: bool
    expires_ms: int = 0
    retry_s: float = 0.0
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DecideRequest:
    """A device asks which releases apply to it of those that only the server can decide about."""

    epoch: int
    extra: Mapping[str, Any] = field(default_factory=dict)


#: The kinds under which an ``EpochInfo`` and a ``Told`` are signed.
EPOCH_KIND: Final = "epoch"
TOLD_KIND: Final = "told"


@dataclass(frozen=True, slots=True)
class Told:
    """Signed: which of an epoch's releases apply to this device, as far as only the server can know."""

    device_id: DeviceId
    epoch: int
    releases: tuple[ReleaseId, ...]
    issued_ms: int
    expires_ms: int
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExclusiveOffer:
    """What a device alone is given for a task: the signed ``exclusive.ExclusiveManifest`` as text, and where
    its sealed files lie, by digest: paths on this server that hold for a while."""

    envelope: str
    urls: Mapping[str, str]
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Problem:
    """Body of every HTTP error (RFC 9457 member names where they exist)."""

    code: str
    detail: str
    status: int
    retryable: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
