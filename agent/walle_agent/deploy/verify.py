"""Everything that comes from the control plane passes here before anything acts on it. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable

from walle_shared.errors import RollbackError, SignatureError
from walle_shared.limits import MANIFEST_MAX_BYTES, SNAPSHOT_MAX_BYTES
from walle_shared.manifest import MANIFEST_KIND, Manifest, check_manifest
from walle_shared.protocol.codec import decode
from walle_shared.protocol.messages import TOLD_KIND, EpochInfo, Told
from walle_shared.signing import VerifyKey, check_file, open_envelope
from walle_shared.targeting.policy import Policy, Snapshot, Wanted

EPOCH_KIND = "epoch"


def open_epoch(data: bytes, keys: Iterable[VerifyKey]) -> EpochInfo:
    """Verify and decode the epoch file.

    Raises:
        SignatureError: no trusted key signed it.
        RemoteProtocolError: signed, but malformed.
    """
    return open_envelope(EpochInfo, EPOCH_KIND, data, keys)


def open_told(data: bytes, keys: Iterable[VerifyKey]) -> Told:
    """Verify and decode what the server tells this device.

    Raises:
        SignatureError: no trusted key signed it.
        RemoteProtocolError: signed, but malformed.
    """
    return open_envelope(Told, TOLD_KIND, data, keys)


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


def open_manifest(data: bytes, wanted: Wanted, keys: Iterable[VerifyKey]) -> Manifest:
    """Verify a manifest against the release that names it.

    Raises:
        LengthOrHashError: not the bytes the release names.
        SignatureError: not signed by a trusted key, or for another task or version.
        RemoteProtocolError: signed, but with values nobody may act on.
    """
    check_file(data, wanted.manifest, f"manifest of {wanted.task} {wanted.version}")
    return check_names(open_signed_manifest(data, keys), wanted)


def open_signed_manifest(data: bytes, keys: Iterable[VerifyKey]) -> Manifest:
    """Verify a manifest's signature and values.

    Raises:
        SignatureError: no trusted key signed it.
        RemoteProtocolError: signed, but with values nobody may act on.
    """
    if len(data) > MANIFEST_MAX_BYTES:
        raise SignatureError(f"manifest of {len(data)} bytes is over the limit of {MANIFEST_MAX_BYTES}")
    return check_manifest(open_envelope(Manifest, MANIFEST_KIND, data, keys))


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
