"""What a device believes, and how it comes to believe more: The Update Framework's client without its I/O.

python-tuf's own trusted set holds the rules (order, thresholds, versions, digests, expiry); this module says
which file is next and turns refusals into ``TrustError``. :func:`follow_roots` and :func:`follow_metadata`
are generators: they yield what they :class:`Ask` for and are sent the bytes, so an agent, a test or a
simulator can drive them. Invariants:

1. Nothing becomes part of the set unless its signatures, version and digest are right. What is refused
   raises, and the set that refused it is thrown away; the one before it stays good until it expires.
2. Time is given, never read: whoever drives decides what a trustworthy time is.
3. Roots are followed one version at a time, expired ones too, so a device may come back after years. Only the
   last must be valid.
4. Whatever comes from outside, only ``TrustError`` comes out.
"""

# python-tuf offers its public classes by re-export only.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import datetime
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from tuf.api import exceptions as tuf_errors
from tuf.api.metadata import Root, Signature, Targets

# python-tuf offers these rules only below its own updater, which blocks, and judges by the wall clock
# (decision 0013).
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

from walle_shared import signing
from walle_shared.errors import (
    ExpiredError,
    LengthOrHashError,
    RollbackError,
    SignatureError,
    TrustError,
    UnapprovedError,
)
from walle_shared.limits import (
    TUF_ROOT_MAX_BYTES,
    TUF_ROOTS_MAX,
    TUF_SNAPSHOT_MAX_BYTES,
    TUF_TARGETS_MAX_BYTES,
    TUF_TIMESTAMP_MAX_BYTES,
)
from walle_shared.protocol.messages import FileRef
from walle_shared.trust.roles import (
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    TOP_LEVEL,
    Pin,
    bin_of,
    bundle_path,
    file_name,
    is_bundles,
)
from walle_shared.trust.simulated import SimulationMark, mark_in

#: Refusals of python-tuf as ours; the first row that fits counts.
_REFUSALS: Final[tuple[tuple[type[Exception], type[TrustError]], ...]] = (
    (tuf_errors.ExpiredMetadataError, ExpiredError),
    (tuf_errors.BadVersionNumberError, RollbackError),
    (tuf_errors.UnsignedMetadataError, SignatureError),
    (tuf_errors.LengthOrHashMismatchError, LengthOrHashError),
    (Exception, TrustError),
)


@dataclass(frozen=True, slots=True)
class Ask:
    """A file below ``tuf/`` that is wanted next, of at most so many bytes; None means there is none."""

    name: str
    limit_bytes: int


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    try:
        yield
    except TrustError:
        raise
    except Exception as error:  # noqa: BLE001  # hostile bytes may break any part of a parser; all mean: refused
        kind = next(ours for theirs, ours in _REFUSALS if isinstance(error, theirs))
        raise kind(f"{what}: {str(error) or type(error).__name__}") from None


def check_root(data: bytes, pin: Pin) -> bytes:
    """Return a root's bytes if they are what the pin names.

    Raises:
        LengthOrHashError: they are not.
    """
    if signing.sha256_hex(data) != pin.sha256:
        raise LengthOrHashError(f"root {pin.version} is not the one this device was told to trust")
    return data


class TrustedSet:
    """The metadata one device believes. ``files`` are its bytes by role, to be kept over restarts.

    Args:
        root: a root that is trusted already.

    Raises:
        TrustError: it does not even fit itself.
    """

    def __init__(self, root: bytes) -> None:
        with _refusing("the trusted root"):
            self._set = TrustedMetadataSet(root, EnvelopeType.METADATA)
        self.files: dict[str, bytes] = {ROOT: root}
        self._digits = 0

    @property
    def root_version(self) -> int:
        """The version of the newest root."""
        return self._set.root.version

    @property
    def complete(self) -> bool:
        """Whether targets are known, so that envelopes and bundles can be judged."""
        return TARGETS in self._set

    @property
    def version(self) -> int:
        """The version of the snapshot: rises with every approval. 0 before there is one."""
        return self._set.snapshot.version if SNAPSHOT in self._set else 0

    def judge_at(self, now_ms: int) -> None:
        """From now on, expiry is judged as of this time."""
        self._set.reference_time = moment(now_ms)

    def check_fresh(self, now_ms: int) -> None:
        """Check that what was believed may still be.

        Raises:
            ExpiredError: naming the role that has expired; or nothing is known yet.
        """
        if not self.complete:
            raise ExpiredError("no metadata of the control plane is known yet")
        for role in self.files:
            if self._set[role].is_expired(moment(now_ms)):
                raise ExpiredError(f"the control plane's {role} metadata has expired")

    def update(self, role: str, data: bytes, *, held: bool = False) -> None:
        """Believe one more file.

        Args:
            role: whose file it is; each after the one that vouches for it.
            data: the file.
            held: it was believed before, so that it may be old; what is newer is then measured by it.

        Raises:
            TrustError: by type, why not.
        """
        with _refusing(f"the control plane's {role} metadata"):
            if role == ROOT:
                self._set.update_root(data)
            elif role == TIMESTAMP:
                try:
                    self._set.update_timestamp(data)
                except tuf_errors.EqualVersionNumberError:
                    return  # the same version again changes nothing, whatever it holds
            elif role == SNAPSHOT:
                self._set.update_snapshot(data, trusted=held)
            elif role == TARGETS:
                targets = self._set.update_targets(data)
                self._digits = _bin_digits(targets)
            else:
                self._set.update_delegated_targets(data, role, TARGETS)
        self.files[role] = data

    def has(self, role: str) -> bool:
        """Whether a role's metadata is believed."""
        return role in self._set

    def snapshot_wanted(self) -> tuple[int, int | None]:
        """Version and length of the snapshot that the timestamp names."""
        meta = self._set.timestamp.snapshot_meta
        return meta.version, meta.length

    def wanted(self, role: str) -> tuple[int, int | None]:
        """Version and length of a role's metadata that the snapshot names.

        Raises:
            TrustError: it names none.
        """
        meta = self._set.snapshot.meta.get(f"{role}.json")
        if meta is None:
            raise TrustError(f"the control plane's snapshot metadata does not name {role}")
        return meta.version, meta.length

    def bin_of(self, path: str) -> str:
        """The role that lists a bundle."""
        return bin_of(path, self._digits)

    def check_bundle(
        self, scenario: str, task: str, version: str, manifest: FileRef
    ) -> SimulationMark | None:
        """Check that the targets approve a task version with this manifest; what they say of simulations.

        Raises:
            UnapprovedError: they do not.
            TrustError: what they say of simulations cannot be understood.
        """
        path = bundle_path(scenario, task, version)
        role = self.bin_of(path)
        bundles = self._set.get(role)
        found = bundles.targets.get(path) if isinstance(bundles, Targets) else None
        if found is None or (found.length, found.hashes.get("sha256")) != (
            manifest.size_bytes,
            manifest.sha256,
        ):
            raise UnapprovedError(
                f"the policy names {scenario}/{task} {version} with manifest {manifest.sha256[:12]},"
                " which the control plane's targets do not approve"
            )
        return mark_in(found.custom)

    def keyids_of(self, role: str) -> tuple[str, ...]:
        """The ids of the keys that may sign for a role."""
        return tuple(sorted(self._delegator(role).get_delegated_role(role).keyids))

    def signatures_of(self, role: str) -> signing.SignatureCheck:
        """What checks the signatures of an envelope against the keys and threshold of a role."""

        def check(data: bytes, signatures: Sequence[signing.Signature], what: str) -> None:
            given = {signature.keyid: Signature(signature.keyid, signature.sig) for signature in signatures}
            with _refusing(f"{what} by {role}"):
                self._delegator(role).verify_delegate(role, data, given)  # type: ignore[arg-type]

        return check

    def _delegator(self, role: str) -> Root | Targets:
        if role in TOP_LEVEL:
            return self._set.root
        if not self.complete:
            raise SignatureError(f"who may sign for {role} is not known yet")
        return self._set.targets


def follow_roots(trusted: TrustedSet) -> Generator[Ask, bytes | None]:
    """Go on to the newest root.

    Raises:
        TrustError: a root is not rightly signed by the one before it and by itself, or there are too many.
    """
    for _ in range(TUF_ROOTS_MAX):
        name = file_name(ROOT, trusted.root_version + 1)
        data = yield Ask(name, TUF_ROOT_MAX_BYTES)
        if data is None:
            return
        trusted.update(ROOT, data)
    raise TrustError(f"the control plane offers more than {TUF_ROOTS_MAX} new roots in one go")


def follow_metadata(trusted: TrustedSet, held: Mapping[str, bytes]) -> Generator[Ask, bytes | None]:
    """Go on to the newest timestamp, snapshot and targets.

    Args:
        trusted: after :func:`follow_roots`, and told the time.
        held: what was believed before, by role: what comes must not be older.

    Raises:
        TrustError: by type, what was refused.
    """
    _recall(trusted, TIMESTAMP, held)
    data = yield Ask(file_name(TIMESTAMP, 0), TUF_TIMESTAMP_MAX_BYTES)
    trusted.update(TIMESTAMP, _given(data))
    _recall(trusted, SNAPSHOT, held)
    version, length = trusted.snapshot_wanted()
    if trusted.version != version:
        data = yield Ask(file_name(SNAPSHOT, version), _least(length, TUF_SNAPSHOT_MAX_BYTES))
        trusted.update(SNAPSHOT, _given(data))
    yield from follow_role(trusted, TARGETS, held)


def follow_role(trusted: TrustedSet, role: str, held: Mapping[str, bytes]) -> Generator[Ask, bytes | None]:
    """Go on to what the snapshot names as a role's metadata: the targets, or a bin of bundles.

    Raises:
        TrustError: by type, what was refused.
    """
    if trusted.has(role):
        return
    _recall(trusted, role, held)
    if trusted.has(role):
        return
    version, length = trusted.wanted(role)
    data = yield Ask(file_name(role, version), _least(length, TUF_TARGETS_MAX_BYTES))
    trusted.update(role, _given(data))


def drive(asks: Generator[Ask, bytes | None], answer: Callable[[Ask], bytes | None]) -> None:
    """Run one of the generators above with a function that answers at once."""
    try:
        ask = next(asks)
        while True:
            ask = asks.send(answer(ask))
    except StopIteration:
        return


def moment(now_ms: int) -> datetime.datetime:
    """Milliseconds since 1970 as what python-tuf compares with."""
    return datetime.datetime.fromtimestamp(now_ms / 1000, datetime.UTC)


def _recall(trusted: TrustedSet, role: str, held: Mapping[str, bytes]) -> None:
    """Believe again what was believed before, if it still holds."""
    if role in held:
        # Expired or outdated files count: python-tuf takes them as the floor before it complains.
        with suppress(TrustError):
            trusted.update(role, held[role], held=True)
        if trusted.has(role):
            trusted.files[role] = held[role]


def _given(data: bytes | None) -> bytes:
    if data is None:
        raise TrustError("the control plane's metadata names a file that is not there")
    return data


def _least(length: int | None, limit: int) -> int:
    return limit if length is None else min(length, limit)


def _bin_digits(targets: Targets) -> int:
    """How many hex digits tell the bin of a bundle."""
    roles = targets.delegations.roles if targets.delegations is not None else None
    names = [name for name in roles or () if is_bundles(name)]
    if not names:
        raise TrustError("the targets delegate no bundles")
    return len(max(names, key=len).partition("-")[2])
