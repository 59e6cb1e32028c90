"""Everything that comes from the control plane passes here before anything acts on it. Pure functions."""

from __future__ import annotations

from walle_shared.errors import RollbackError, SignatureError
from walle_shared.limits import MANIFEST_MAX_BYTES, SNAPSHOT_MAX_BYTES
from walle_shared.manifest import Manifest, check_manifest
from walle_shared.protocol.codec import decode
from walle_shared.protocol.messages import EpochInfo
from walle_shared.signing import check_file
from walle_shared.targeting.policy import Policy, Snapshot, Wanted


def open_snapshot(data: bytes, info: EpochInfo) -> Policy:
    """Check a snapshot against the epoch that names it, and compile it.

    Raises:
        LengthOrHashError: not the bytes the epoch names.
        RollbackError: it is the snapshot of another epoch.
        RemoteProtocolError: malformed, or a release in it is.
    """
    check_file(data, info.snapshot, "snapshot")
    snapshot = decode(Snapshot, data, limit_bytes=SNAPSHOT_MAX_BYTES)
    if snapshot.epoch > info.epoch:
        raise RollbackError(f"epoch {info.epoch} names a snapshot of the later epoch {snapshot.epoch}")
    return Policy(snapshot)


def open_manifest(data: bytes, wanted: Wanted) -> Manifest:
    """Check a manifest against the release that names it, which the targets approve.

    Raises:
        LengthOrHashError: not the bytes the release names.
        SignatureError: of another task or version.
        ProtocolError: malformed, or with values nobody may act on.
    """
    check_file(data, wanted.manifest, f"manifest of {wanted.task} {wanted.version}")
    return check_names(read_manifest(data), wanted)


def read_manifest(data: bytes) -> Manifest:
    """Decode a manifest whose digest was checked, and check its values.

    Raises:
        LimitExceeded: it is too long.
        RemoteProtocolError: malformed, or with values nobody may act on.
    """
    return check_manifest(decode(Manifest, data, limit_bytes=MANIFEST_MAX_BYTES))


def check_names(manifest: Manifest, wanted: Wanted) -> Manifest:
    """Return the manifest if it is of the task and version the release says.

    Raises:
        SignatureError: a valid manifest in the wrong place.
    """
    head = manifest.definition.task
    if (head.scenario, head.name, manifest.version) != (wanted.scenario, wanted.task, wanted.version):
        raise SignatureError(
            f"release {wanted.release_id} is of {wanted.scenario}/{wanted.task} {wanted.version}, "
            f"its manifest of {head.scenario}/{head.name} {manifest.version}"
        )
    return manifest
