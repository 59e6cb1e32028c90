"""The metadata of The Update Framework as this control plane writes it. Pure: bytes in, bytes out.

Every change goes the same way: it is *staged* (signed with the keys that are at hand), and *committed* once
everything that is staged carries the signatures it needs. Invariants:

1. What is in force verifies as a whole, from the root down: a new root or new targets come into force
   together with everything that must be signed anew because of them, or not at all. Lists of bundles do not
   wait for a root.
2. Versions rise by one; a root is signed by the one before it and by itself.
3. Every commit makes a new snapshot and a new timestamp, so their keys must be at hand.
4. The snapshot never forgets a file (clients refuse one that does), so bins that were split stay named.
"""

# python-tuf offers its public classes by re-export only.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from walle_control.features.trust.types import (
    ApprovedBundle,
    BundleApproval,
    Lifetimes,
    Missing,
    RoleKey,
    RoleStatus,
)
from walle_shared.errors import ConfigError, NotFound
from walle_shared.ids import KeyId, Sha256
from walle_shared.protocol.messages import FileRef
from walle_shared.signing import SigningKey, VerifyKey, sha256_hex
from walle_shared.trust.roles import (
    BUNDLES,
    DELEGATED_PATHS,
    OFFLINE,
    ROLES,
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    TOP_LEVEL,
    bin_digits,
    bin_of,
    bins,
    held_as,
    is_bundles,
)
from walle_shared.trust.simulated import SimulationMark, custom_of, mark_in
from walle_shared.trust.trusted import moment

#: Metadata is signed anew once so little of its lifetime is left, as a part of the whole: one third of what
#: people hold, so that they have months; half of what the server holds.
_RENEW_AT = {TIMESTAMP: 2, SNAPSHOT: 2}
_RENEW_AT_OFFLINE = 3

FindKeys = Callable[[Iterable[str]], list[SigningKey]]


class Repository:
    """What is in force and what is staged. ``committed`` collects what a commit has put in force.

    Args:
        current: the newest metadata in force, by role; empty for a new repository.
        staged: what waits for signatures, by role.
        find_keys: the private keys at hand among some ids.
        lifetimes: for what is signed from now on.
        now_ms: what time it is.
    """

    def __init__(
        self,
        current: Mapping[str, bytes],
        staged: Mapping[str, bytes],
        find_keys: FindKeys,
        lifetimes: Lifetimes,
        now_ms: int,
    ) -> None:
        self.current = dict(current)
        self.staged = dict(staged)
        self.committed: dict[str, bytes] = {}
        self._find_keys = find_keys
        self._lifetimes = lifetimes
        self._now_ms = now_ms
        self._parsed: dict[bytes, Metadata[Any]] = {}

    # Changes

    def create(self, keys: Mapping[str, VerifyKey]) -> None:
        """Stage the first metadata: one key for each role."""
        self._stage(ROOT, lambda root: _give_keys(root, {role: ([keys[role]], 1) for role in TOP_LEVEL}))
        delegated = {role: ([keys[role]], 1) for role in (BUNDLES, *DELEGATED_PATHS)}
        self._stage(TARGETS, lambda targets: _give_keys(targets, delegated))
        self._stage(BUNDLES, _no_change)

    def approve(
        self, bundles: Mapping[str, FileRef], simulated: Mapping[str, SimulationMark] | None = None
    ) -> None:
        """Stage bundles among the targets, by their paths; more bins if there are many.

        ``simulated`` is what the approvals say of simulations.
        """
        known, marks = self._bundles(), simulated or {}
        added = {path: _target(path, ref, marks.get(path)) for path, ref in bundles.items()}
        if all(known.get(path) == target for path, target in added.items()):
            return
        known |= added
        digits = bin_digits(len(known))
        if digits > self.digits:
            self._split(known, digits)
            return
        for role in sorted({bin_of(path, self.digits) for path in added}):
            mine = {path: target for path, target in added.items() if bin_of(path, self.digits) == role}
            self._stage(role, lambda listed, mine=mine: listed.targets.update(mine))  # type: ignore[misc]

    def withdraw(self, path: str) -> None:
        """Stage that a bundle is approved no more.

        Raises:
            NotFound: it is not approved.
        """
        if path not in self._bundles():
            raise NotFound(f"{path} is not among the targets; see 'walle-control trust show'")
        self._stage(bin_of(path, self.digits), lambda listed: listed.targets.pop(path))

    def rotate(self, role: str, keys: Sequence[VerifyKey], threshold: int) -> None:
        """Stage other keys for a role; those it had count no more.

        Raises:
            ConfigError: no such role, or a threshold that cannot be met.
        """
        if role not in ROLES:
            raise ConfigError(f"no role {role!r}: choose from {', '.join(ROLES)}")
        if not 1 <= threshold <= len({key.keyid for key in keys}):
            raise ConfigError(
                f"a threshold of {threshold} cannot be met by {len(keys)} keys: name more, or lower it"
            )
        delegator = ROOT if role in TOP_LEVEL else TARGETS
        self._stage(delegator, lambda signed: _give_keys(signed, {role: (keys, threshold)}))

    def renew(self, role: str) -> None:
        """Stage a role's metadata unchanged, to be valid longer.

        Raises:
            ConfigError: it has no metadata.
        """
        names = [name for name in self.current if held_as(name) == role]
        if not names:
            raise ConfigError(f"{role} has no metadata to renew: choose from {', '.join(OFFLINE)}")
        for name in names:
            self._stage(name, _no_change)

    def renew_due(self) -> None:
        """Stage whatever has passed enough of its lifetime and whose keys are at hand."""
        for role in self.current:
            if role in (SNAPSHOT, TIMESTAMP) or role in self.staged:
                continue
            if self._is_due(role) and self._can_sign(role):
                self._stage(role, _no_change)

    def add_signatures(self, data: bytes) -> None:
        """Take over the signatures of a copy of staged metadata, and nothing else of it.

        Raises:
            ConfigError: it is no metadata.
            NotFound: it is not a copy of anything staged.
        """
        theirs = read_metadata(data)
        for role, staged in self.staged.items():
            ours = read_metadata(staged)
            if ours.signed_bytes == theirs.signed_bytes:
                ours.signatures.update(theirs.signatures)
                self.staged[role] = ours.to_bytes()
                return
        raise NotFound(
            "this metadata is not staged here: it was changed since, or is in force already; see"
            " 'walle-control trust show'"
        )

    def commit(self) -> bool:
        """Put in force what is staged and complete, with a new snapshot and timestamp; is that all of it?"""
        self._stage_what_must_be_signed_anew()
        waiting: dict[str, bytes] = {}
        if self.missing():
            alone = TARGETS not in self.staged
            ready = {r for r in self.staged if alone and is_bundles(r) and not self._lacking(r)}
            waiting = {role: data for role, data in self.staged.items() if role not in ready}
            self.staged = {role: data for role, data in self.staged.items() if role in ready}
        promoted = bool(self.staged)
        for role, data in self.staged.items():
            self._put(role, data)
        self.staged = {}
        if promoted or self._is_due(SNAPSHOT) or not self._verifies(SNAPSHOT):
            self._make_snapshot()
        elif self._is_due(TIMESTAMP) or not self._verifies(TIMESTAMP):
            self._make_timestamp()
        self.staged = waiting
        return not waiting

    # Questions

    @property
    def digits(self) -> int:
        """How many hex digits tell the bin of a bundle."""
        names = [name for name in self._delegations() if is_bundles(name)]
        return max((len(name.partition("-")[2]) for name in names), default=0)

    @property
    def version(self) -> int:
        """The version of the snapshot in force."""
        return cast(int, self._current(SNAPSHOT).signed.version)

    def is_approved(self, path: str, ref: FileRef) -> bool:
        """Whether a bundle with this manifest is approved by what is in force."""
        target = self._bundles(in_force=True).get(path)
        return target is not None and _ref(target) == ref

    def approved(self) -> tuple[ApprovedBundle, ...]:
        """The bundles that what is in force approves, by path."""
        return tuple(
            ApprovedBundle(path, _ref(target), mark_in(target.custom))
            for path, target in sorted(self._bundles(in_force=True).items())
        )

    def approval_of(self, path: str, ref: FileRef) -> BundleApproval | None:
        """How what is in force approves a bundle with this manifest, if it does."""
        if not self.is_approved(path, ref):
            return None
        role = next(
            name
            for name in self._delegations(in_force=True)
            if is_bundles(name) and path in self._current(name).signed.targets
        )
        metadata = self._current(role)
        verified = self._delegator(role, in_force=True).get_verification_result(
            role, metadata.signed_bytes, metadata.signatures
        )
        return BundleApproval(
            role,
            metadata.signed.version,
            round(metadata.signed.expires.timestamp() * 1000),
            tuple(map(KeyId, sorted(verified.signed))),
            verified.threshold,
            mark_in(metadata.signed.targets[path].custom),
        )

    def missing(self) -> tuple[Missing, ...]:
        """What signatures the staged metadata still needs."""
        needed = []
        for role in self.staged:
            signed = self._view(role).signed
            for more, keyids in self._lacking(role):
                needed.append(Missing(role, signed.version, more, tuple(map(KeyId, sorted(keyids)))))
        return tuple(needed)

    def keys_of(self, role: str) -> tuple[list[str], int]:
        """The key ids and the threshold of a role, by what is in force."""
        delegation = self._delegator(role, in_force=True).get_delegated_role(role)
        return list(delegation.keyids), delegation.threshold

    def status(self) -> tuple[RoleStatus, ...]:
        """Every role."""
        return tuple(self._status(role) for role in ROLES)

    # Below

    def _status(self, role: str) -> RoleStatus:
        named = self._first_of(role)
        keyids, threshold = self.keys_of(named)
        here = {key.public.keyid for key in self._find_keys(keyids)}
        files = [self._current(name).signed for name in self.current if held_as(name) == role]
        return RoleStatus(
            role,
            max((signed.version for signed in files), default=0),
            min((round(signed.expires.timestamp() * 1000) for signed in files), default=0),
            threshold,
            tuple(RoleKey(KeyId(keyid), keyid in here) for keyid in keyids),
            "here" if len(here) >= threshold else "away",
        )

    def _first_of(self, role: str) -> str:
        """A role as its delegator calls it: any of the bins stands for the bundles."""
        if role != BUNDLES:
            return role
        return next(name for name in self._delegations(in_force=True) if is_bundles(name))

    def _stage(self, role: str, edit: Callable[[Any], object]) -> None:
        before = self.current.get(role)
        latest = self.staged.get(role) or before
        metadata: Metadata[Any] = read_metadata(latest) if latest else Metadata(_empty(role))
        metadata.signatures.clear()
        signed = metadata.signed
        signed.version = (read_metadata(before).signed.version if before else 0) + 1
        signed.expires = moment(self._now_ms + self._lifetime_ms(role)).replace(microsecond=0)
        edit(signed)
        self.staged[role] = metadata.to_bytes()  # now its own keys are those of the new root
        for key in self._find_keys(self._keyids(role)):
            metadata.sign(signer_of(key), append=True)
        self.staged[role] = metadata.to_bytes()

    def _stage_what_must_be_signed_anew(self) -> None:
        for role in (TARGETS, *sorted(self._delegations())):
            if role in self.current and role not in self.staged and not self._verifies(role):
                self._stage(role, _no_change)

    def _split(self, bundles: Mapping[str, TargetFile], digits: int) -> None:
        old = self._first_of(BUNDLES)
        keyids, threshold = self._delegations()[old].keyids, self._delegations()[old].threshold

        def edit(targets: Targets) -> None:
            roles = _roles(targets)
            kept = {name: role for name, role in roles.items() if not is_bundles(name)}
            fresh = {
                name: DelegatedRole(name, list(keyids), threshold, True, path_hash_prefixes=prefixes)
                for name, prefixes in bins(digits).items()
            }
            roles.clear()
            roles.update(fresh | kept)

        self._stage(TARGETS, edit)
        for name in list(self.staged):
            if is_bundles(name):
                del self.staged[name]
        listed: dict[str, dict[str, TargetFile]] = {name: {} for name in bins(digits)}
        for path, target in bundles.items():
            listed[bin_of(path, digits)][path] = target
        for name, targets in listed.items():
            self._stage(name, lambda signed, targets=targets: signed.targets.update(targets))  # type: ignore[misc]

    def _make_snapshot(self) -> None:
        meta = dict(self._current(SNAPSHOT).signed.meta) if SNAPSHOT in self.current else {}
        for role, data in self.current.items():
            if role == TARGETS or is_bundles(role):
                meta[f"{role}.json"] = _meta(read_metadata(data).signed.version, data)
        self._sign_now(SNAPSHOT, lambda snapshot: setattr(snapshot, "meta", meta))
        self._make_timestamp()

    def _make_timestamp(self) -> None:
        data = self.current[SNAPSHOT]
        meta = _meta(read_metadata(data).signed.version, data)
        self._sign_now(TIMESTAMP, lambda timestamp: setattr(timestamp, "snapshot_meta", meta))

    def _sign_now(self, role: str, edit: Callable[[Any], object]) -> None:
        self._stage(role, edit)
        if not self._verifies(role):
            raise ConfigError(
                f"the keys of {role} are not in this data folder: 'trust rotate {role}' makes one"
            )
        self._put(role, self.staged.pop(role))

    def _put(self, role: str, data: bytes) -> None:
        self.current[role] = self.committed[role] = data

    def _is_due(self, role: str) -> bool:
        if role not in self.current:
            return True
        left_ms = self._current(role).signed.expires.timestamp() * 1000 - self._now_ms
        return bool(left_ms < self._lifetime_ms(role) / _RENEW_AT.get(role, _RENEW_AT_OFFLINE))

    def _lifetime_ms(self, role: str) -> int:
        lifetimes = self._lifetimes
        own = {ROOT: lifetimes.root_ms, SNAPSHOT: lifetimes.snapshot_ms, TIMESTAMP: lifetimes.timestamp_ms}
        return own.get(role, lifetimes.targets_ms)

    def _can_sign(self, role: str) -> bool:
        keyids, threshold = self.keys_of(role)
        return len(self._find_keys(keyids)) >= threshold

    def _verifies(self, role: str) -> bool:
        return role in self.current | self.staged and not self._lacking(role)

    def _lacking(self, role: str) -> list[tuple[int, set[str]]]:
        """For each authority over a role that is not satisfied: how many more signatures, and by whom."""
        metadata = self._view(role)
        authorities = [self._delegator(role)]
        if role == ROOT and ROOT in self.current:
            authorities.append(self._delegator(role, in_force=True))
        results = [
            authority.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
            for authority in authorities
        ]
        return [(result.missing, set(result.unsigned)) for result in results if not result]

    def _keyids(self, role: str) -> set[str]:
        keyids = set(self._delegator(role).get_delegated_role(role).keyids)
        if role == ROOT and ROOT in self.current:
            keyids |= set(self.keys_of(ROOT)[0])
        return keyids

    def _delegator(self, role: str, *, in_force: bool = False) -> Root | Targets:
        name = ROOT if role in TOP_LEVEL else TARGETS
        return cast("Root | Targets", (self._current(name) if in_force else self._view(name)).signed)

    def _delegations(self, *, in_force: bool = False) -> dict[str, DelegatedRole]:
        return _roles((self._current(TARGETS) if in_force else self._view(TARGETS)).signed)

    def _bundles(self, *, in_force: bool = False) -> dict[str, TargetFile]:
        read = self._current if in_force else self._view
        names = [name for name in self._delegations(in_force=in_force) if is_bundles(name)]
        return {path: target for name in names for path, target in read(name).signed.targets.items()}

    def _current(self, role: str) -> Metadata[Any]:
        return self._parse(self.current[role])

    def _view(self, role: str) -> Metadata[Any]:
        return self._parse(self.staged.get(role) or self.current[role])

    def _parse(self, data: bytes) -> Metadata[Any]:
        """Read once what is only looked at."""
        if data not in self._parsed:
            self._parsed[data] = read_metadata(data)
        return self._parsed[data]


def read_metadata(data: bytes) -> Metadata[Any]:
    """Read a metadata file.

    Raises:
        ConfigError: it is none.
    """
    try:
        return Metadata.from_bytes(data)
    except Exception as error:  # noqa: BLE001  # a file given on a command line: whatever is wrong with it
        raise ConfigError(
            f"not a metadata file of the trust roles ({error}): give one that 'walle-control trust export'"
            " wrote"
        ) from None


def describe(signed: Any) -> str:
    """What somebody is about to sign, on one line."""
    what = f"{signed.type} version {signed.version}, valid until {signed.expires:%Y-%m-%d}"
    if isinstance(signed, Root):
        roles = (f"{name} {role.threshold} of {len(role.keyids)}" for name, role in signed.roles.items())
        return f"{what}; signatures needed: {', '.join(roles)}"
    if isinstance(signed, Targets):
        approved = ", ".join(
            f"{path.removeprefix('bundle/')} ({mark_in(target.custom) or 'says nothing of simulations'})"
            for path, target in sorted(signed.targets.items())
        )
        return f"{what}; approves {approved or 'nothing itself'}"
    return what


def signer_of(key: SigningKey) -> CryptoSigner:
    """A key as python-tuf signs with it."""
    return CryptoSigner(key.private, tuf_key(key.public))


def tuf_key(key: VerifyKey) -> SSlibKey:
    """A public key as metadata names it."""
    return SSlibKey(key.keyid, "ed25519", "ed25519", {"public": key.raw_hex})


def _give_keys(delegator: Root | Targets, given: Mapping[str, tuple[Sequence[VerifyKey], int]]) -> None:
    for role, (keys, threshold) in given.items():
        names = [role] if role != BUNDLES else [name for name in _names(delegator) if is_bundles(name)]
        for name in names:
            delegation = delegator.get_delegated_role(name)
            for keyid in set(delegation.keyids) - {key.keyid for key in keys}:
                delegator.revoke_key(keyid, name)
            for key in keys:
                delegator.add_key(tuf_key(key), name)
            delegation.threshold = threshold


def _names(delegator: Root | Targets) -> list[str]:
    return list(_roles(delegator)) if isinstance(delegator, Targets) else list(delegator.roles)


def _roles(targets: Targets) -> dict[str, DelegatedRole]:
    if targets.delegations is None or targets.delegations.roles is None:
        raise ConfigError(
            "the targets metadata delegates nothing: it was not made by this program: restore it from a"
            " backup"
        )
    return targets.delegations.roles


def _empty(role: str) -> Any:
    if role == ROOT:
        return Root(consistent_snapshot=True)
    if role == SNAPSHOT:
        return Snapshot()
    if role == TIMESTAMP:
        return Timestamp()
    if role == TARGETS:
        lists = [
            DelegatedRole(name, [], 1, True, path_hash_prefixes=prefixes)
            for name, prefixes in bins(0).items()
        ]
        online = [DelegatedRole(name, [], 1, True, paths=paths) for name, paths in DELEGATED_PATHS.items()]
        return Targets(delegations=Delegations({}, {role.name: role for role in (*lists, *online)}))
    return Targets()


def _meta(version: int, data: bytes) -> MetaFile:
    return MetaFile(version, len(data), {"sha256": sha256_hex(data)})


def _target(path: str, ref: FileRef, mark: SimulationMark | None) -> TargetFile:
    more = {"custom": custom_of(mark)} if mark is not None else {}
    return TargetFile(ref.size_bytes, {"sha256": ref.sha256}, path, more)


def _ref(target: TargetFile) -> FileRef:
    return FileRef(Sha256(target.hashes.get("sha256", "")), target.length)


def _no_change(_: object) -> None:
    pass
