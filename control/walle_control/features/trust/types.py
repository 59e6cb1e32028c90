"""Types of the trust feature."""

from __future__ import annotations

from dataclasses import dataclass

from walle_shared.ids import KeyId
from walle_shared.protocol.messages import FileRef
from walle_shared.trust.simulated import SimulationMark


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long metadata is valid from the moment it is signed, in milliseconds."""

    root_ms: int
    targets_ms: int
    snapshot_ms: int
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class RoleKey:
    """One key of a role, and whether its private half lies in this data folder."""

    keyid: KeyId
    here: bool


@dataclass(frozen=True, slots=True)
class RoleStatus:
    """A role as an operator sees it.

    ``version`` and ``expires_ms`` are 0 for roles that sign envelopes only. ``held``: ``here`` if this data
    folder alone can sign for it, ``away`` otherwise.
    """

    role: str
    version: int
    expires_ms: int
    threshold: int
    keys: tuple[RoleKey, ...]
    held: str


@dataclass(frozen=True, slots=True)
class Missing:
    """Signatures that staged metadata still needs: ``more`` of those by ``keyids``."""

    role: str
    version: int
    more: int
    keyids: tuple[KeyId, ...]


@dataclass(frozen=True, slots=True)
class ApprovedBundle:
    """An approved task version, and what its approval says of its simulations."""

    path: str
    manifest: FileRef
    simulation: SimulationMark | None


@dataclass(frozen=True, slots=True)
class BundleApproval:
    """How a task version is approved: by which list in force, until when, and whose signatures it carries.

    ``signed_by`` are the keys of the role that signed it, ``threshold`` how many must.
    """

    role: str
    version: int
    expires_ms: int
    signed_by: tuple[KeyId, ...]
    threshold: int
    simulation: SimulationMark | None


@dataclass(frozen=True, slots=True)
class VersionApproval:
    """Whether and how a task version is approved; without an approval, devices take nothing of it."""

    approval: BundleApproval | None


@dataclass(frozen=True, slots=True)
class TrustStatus:
    """Everything about trust: the pin that devices enrol with, the roles, what is approved, what waits."""

    trusted_root: str
    roles: tuple[RoleStatus, ...]
    staged: tuple[str, ...]
    missing: tuple[Missing, ...]
    approved: tuple[ApprovedBundle, ...] = ()
