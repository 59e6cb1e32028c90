"""The attack suite: whoever answers for the control plane, a client believes nothing it should not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater

from walle_control.features.trust.repository import Repository, read_metadata
from walle_shared.clock import SystemClock
from walle_shared.errors import (
    ExpiredError,
    LengthOrHashError,
    NotFound,
    RollbackError,
    SignatureError,
    TrustError,
    UnapprovedError,
)
from walle_shared.limits import TUF_ROOTS_MAX
from walle_shared.protocol.messages import EpochInfo
from walle_shared.signing import SigningKey, file_ref, open_envelope, sign_envelope
from walle_shared.trust.roles import (
    BIN_BUNDLES,
    BUNDLES,
    EXCLUSIVE,
    POLICY,
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    bundle_path,
    file_name,
)
from walle_shared.trust.trusted import (
    Ask,
    TrustedSet,
    check_root,
    drive,
    follow_metadata,
    follow_role,
    follow_roots,
)
from walle_support.control import ISSUED_MS
from walle_support.trust import DAY_MS, LIFETIMES, SimulatedTrust

MANIFEST = file_ref(b"a manifest")
YEAR_MS = 366 * DAY_MS


@pytest.fixture
def trust() -> SimulatedTrust:
    trust = SimulatedTrust(ISSUED_MS)
    trust.approve("demo", "reader", "1.0", MANIFEST)
    return trust


def update(
    trust: SimulatedTrust,
    before: TrustedSet | None = None,
    lies: Mapping[str, bytes] | None = None,
    *,
    now_ms: int | None = None,
) -> TrustedSet:
    """One update of a client that believed ``before``, and is told ``lies``."""
    held = before.files if before is not None else {ROOT: trust.files["1.root.json"]}
    trusted = TrustedSet(held[ROOT])
    answer = trust.answers(lies)
    drive(follow_roots(trusted), answer)
    trusted.judge_at(trust.now_ms if now_ms is None else now_ms)
    drive(follow_metadata(trusted, held), answer)
    drive(follow_role(trusted, trusted.bin_of(bundle_path("demo", "reader", "1.0")), held), answer)
    return trusted


def relist(trust: SimulatedTrust, **changed: bytes) -> dict[str, bytes]:
    """A snapshot and a timestamp that name these, rightly signed: whoever has the server can do that."""

    def name(snapshot: object) -> None:
        for role, data in changed.items():
            meta = snapshot.meta[f"{role}.json"]  # type: ignore[attr-defined]
            meta.version, meta.length, meta.hashes = (
                _version(data),
                len(data),
                {"sha256": file_ref(data).sha256},
            )

    version = trust.version + 1
    snapshot = trust.forge(SNAPSHOT, version=version, edit=name)

    def point(timestamp: object) -> None:
        meta = timestamp.snapshot_meta  # type: ignore[attr-defined]
        meta.version, meta.length, meta.hashes = version, len(snapshot), {"sha256": file_ref(snapshot).sha256}

    stamp = trust.forge(TIMESTAMP, version=_version(trust.current[TIMESTAMP]) + 1, edit=point)
    files = {file_name(SNAPSHOT, version): snapshot, file_name(TIMESTAMP, 0): stamp}
    return files | {file_name(role, _version(data)): data for role, data in changed.items()}


def _version(data: bytes) -> int:
    version: int = read_metadata(data).signed.version
    return version


def test_a_new_device_believes_what_is_published(trust: SimulatedTrust) -> None:
    trusted = update(trust)
    trusted.check_bundle("demo", "reader", "1.0", MANIFEST)
    assert (trusted.root_version, trusted.version) == (1, 2)


# Rollback


def test_an_older_timestamp_is_refused(trust: SimulatedTrust) -> None:
    old = trust.files["timestamp.json"]
    trust.approve("demo", "reader", "2.0", MANIFEST)
    with pytest.raises(RollbackError):
        update(trust, update(trust), {"timestamp.json": old})


def test_an_older_snapshot_under_a_new_timestamp_is_refused(trust: SimulatedTrust) -> None:
    before = update(trust)
    meta = file_ref(trust.files["1.snapshot.json"])

    def point(timestamp: object) -> None:
        named = timestamp.snapshot_meta  # type: ignore[attr-defined]
        named.version, named.length, named.hashes = 1, meta.size_bytes, {"sha256": meta.sha256}

    stamp = trust.forge(TIMESTAMP, version=9, edit=point)
    with pytest.raises(RollbackError):
        update(trust, before, {"timestamp.json": stamp})


@pytest.mark.parametrize("role", [TARGETS, BUNDLES])
def test_older_targets_under_a_new_snapshot_are_refused(trust: SimulatedTrust, role: str) -> None:
    trust.rotate(POLICY)  # the targets have a second version
    before = update(trust)
    with pytest.raises(RollbackError):
        update(trust, before, relist(trust, **{role: trust.files[f"1.{role}.json"]}))


@pytest.mark.parametrize("version", [1, 3])
def test_roots_come_one_by_one(trust: SimulatedTrust, version: int) -> None:
    with pytest.raises(RollbackError):
        update(trust, lies={"2.root.json": trust.forge(ROOT, version=version)})


# Freeze


@pytest.mark.parametrize("days", [8, 400])
def test_what_never_changes_expires(trust: SimulatedTrust, days: int) -> None:
    before = update(trust)
    now_ms = trust.now_ms + days * DAY_MS
    with pytest.raises(ExpiredError):
        before.check_fresh(now_ms)
    with pytest.raises(ExpiredError):
        update(trust, before, now_ms=now_ms)
    with pytest.raises(ExpiredError):
        update(trust, now_ms=now_ms)


@pytest.mark.parametrize("role", [TARGETS, BUNDLES])
def test_expired_targets_under_a_fresh_timestamp_are_refused(trust: SimulatedTrust, role: str) -> None:
    old = trust.forge(role, version=7, expires_ms=trust.now_ms - 1)
    with pytest.raises(ExpiredError):
        update(trust, update(trust), relist(trust, **{role: old}))


def test_a_list_that_expires_while_it_is_believed_is_noticed(trust: SimulatedTrust) -> None:
    soon = trust.forge(BUNDLES, version=7, expires_ms=trust.now_ms + DAY_MS)
    client = update(trust, lies=relist(trust, **{BUNDLES: soon}))
    client.check_fresh(trust.now_ms)
    with pytest.raises(ExpiredError, match=BUNDLES):
        client.check_fresh(trust.now_ms + 2 * DAY_MS)


def test_a_root_that_has_expired_is_passed_but_not_stayed_with(trust: SimulatedTrust) -> None:
    expired = trust.forge(ROOT, version=2, expires_ms=trust.now_ms - 1)
    with pytest.raises(ExpiredError):
        update(trust, lies={"2.root.json": expired})
    newest = trust.forge(ROOT, version=3)
    assert update(trust, lies={"2.root.json": expired, "3.root.json": newest}).root_version == 3


# Mix and match


def test_files_of_different_times_do_not_go_together(trust: SimulatedTrust) -> None:
    old = dict(trust.files)
    trust.approve("demo", "reader", "2.0", MANIFEST)
    for name, other in (("3.snapshot.json", "2.snapshot.json"), ("3.bundles.json", "2.bundles.json")):
        with pytest.raises(LengthOrHashError):
            update(trust, lies={name: old[other]})


def test_one_role_does_not_pass_for_another(trust: SimulatedTrust) -> None:
    with pytest.raises(TrustError):
        update(trust, lies={"timestamp.json": trust.files["2.snapshot.json"]})
    with pytest.raises(TrustError):
        update(trust, lies={"2.root.json": trust.files["1.targets.json"]})


# Wrong keys, too few keys


@pytest.mark.parametrize("role", [ROOT, TIMESTAMP, SNAPSHOT, TARGETS, BUNDLES])
@pytest.mark.parametrize("signer", ["a stranger", "another role", "nobody"])
def test_only_its_own_keys_sign_for_a_role(trust: SimulatedTrust, role: str, signer: str) -> None:
    keys = {
        "a stranger": [SigningKey.generate()],
        "another role": trust.keys_of(EXCLUSIVE),
        "nobody": [],
    }[signer]
    if role in (TARGETS, BUNDLES):
        lies = relist(trust, **{role: trust.forge(role, version=5, keys=keys)})
    elif role == SNAPSHOT:
        forged = trust.forge(role, keys=keys)
        edit = trust.forge(
            TIMESTAMP,
            version=9,
            edit=lambda t: (
                setattr(t.snapshot_meta, "length", None) or setattr(t.snapshot_meta, "hashes", None)
            ),
        )
        lies = {"timestamp.json": edit, file_name(SNAPSHOT, trust.version): forged}
    else:
        lies = {file_name(role, 2): trust.forge(role, version=2 if role == ROOT else 9, keys=keys)}
    with pytest.raises(SignatureError):
        update(trust, lies=lies)


def test_a_threshold_counts_keys_and_not_signatures(trust: SimulatedTrust) -> None:
    anna, ben = trust.new_key(), trust.new_key()
    trust.change(lambda repository: repository.rotate(POLICY, [anna.public, ben.public], 2))
    check = update(trust).signatures_of(POLICY)
    info = EpochInfo(1, MANIFEST, 0, 1)
    assert open_envelope(EpochInfo, "epoch", sign_envelope("epoch", info, [anna, ben]), check) == info
    for keys in ([anna], [anna, anna], [anna, SigningKey.generate()], []):
        with pytest.raises(SignatureError):
            open_envelope(EpochInfo, "epoch", sign_envelope("epoch", info, keys), check)


# Rotation


@pytest.mark.parametrize("role", [ROOT, TIMESTAMP, SNAPSHOT, TARGETS, BUNDLES, POLICY, EXCLUSIVE])
def test_every_role_gets_other_keys_and_devices_follow(trust: SimulatedTrust, role: str) -> None:
    before = update(trust)
    old = trust.keys_of(role)
    trust.rotate(role)
    for client in (update(trust, before), update(trust)):
        client.check_bundle("demo", "reader", "1.0", MANIFEST)
        assert not {key.public.keyid for key in old} & set(client.keyids_of(role))


def test_a_root_needs_the_one_before_it_and_itself(trust: SimulatedTrust) -> None:
    old = trust.keys_of(ROOT)
    trust.rotate(ROOT)
    for keys in (old, trust.keys_of(ROOT)):
        with pytest.raises(SignatureError):
            update(trust, lies={"2.root.json": trust.forge(ROOT, keys=keys)})
    assert update(trust).root_version == 2


def test_a_device_that_was_away_follows_every_root(trust: SimulatedTrust) -> None:
    before = update(trust)
    for _ in range(5):
        trust.now_ms += YEAR_MS
        trust.rotate(ROOT, TIMESTAMP, SNAPSHOT, TARGETS, BUNDLES)
    trust.change(lambda repository: repository.renew_due())
    after = update(trust, before)
    after.check_bundle("demo", "reader", "1.0", MANIFEST)
    assert after.root_version == 21  # four of the five are named by the root


def test_what_is_signed_anew_in_time_never_expires(trust: SimulatedTrust) -> None:
    """Two years of a server that looks every third day, and of a device that comes by now and then."""
    client = update(trust)
    for day in range(0, 730, 3):
        trust.now_ms += 3 * DAY_MS
        trust.change(lambda repository: repository.renew_due())
        if day % 60 == 0:
            client = update(trust, client)
            client.check_fresh(trust.now_ms)
    assert client.root_version > 1


def test_roots_without_end_are_left(trust: SimulatedTrust) -> None:
    def answer(ask: Ask) -> bytes | None:
        return trust.forge(ROOT, version=int(ask.name.partition(".")[0]))

    trusted = TrustedSet(trust.files["1.root.json"])
    with pytest.raises(TrustError, match=f"more than {TUF_ROOTS_MAX} new roots"):
        drive(follow_roots(trusted), answer)


@pytest.mark.parametrize("role", [TIMESTAMP, SNAPSHOT])
def test_versions_far_ahead_are_undone_by_other_keys(trust: SimulatedTrust, role: str) -> None:
    """Fast-forward: who had the server's keys made versions so high that nothing true could follow."""
    honest = dict(trust.current)
    far = 2**40
    if role == TIMESTAMP:
        lies = {"timestamp.json": trust.forge(TIMESTAMP, version=far)}
    else:
        snapshot = trust.forge(SNAPSHOT, version=far)
        ref = file_ref(snapshot)

        def point(timestamp: object) -> None:
            meta = timestamp.snapshot_meta  # type: ignore[attr-defined]
            meta.version, meta.length, meta.hashes = far, ref.size_bytes, {"sha256": ref.sha256}

        lies = {
            "timestamp.json": trust.forge(TIMESTAMP, version=far, edit=point),
            file_name(SNAPSHOT, far): snapshot,
        }
    fooled = update(trust, lies=lies)
    with pytest.raises(RollbackError):
        update(trust, fooled)
    assert trust.current == honest
    trust.rotate(TIMESTAMP, SNAPSHOT)
    update(trust, fooled).check_bundle("demo", "reader", "1.0", MANIFEST)


# Bundles


def test_only_this_manifest_is_this_version(trust: SimulatedTrust) -> None:
    trusted = update(trust)
    for version, manifest in (
        ("1.0", dataclasses.replace(MANIFEST, size_bytes=1)),
        ("1.0", file_ref(b"another")),
        ("2.0", MANIFEST),
    ):
        with pytest.raises(UnapprovedError):
            trusted.check_bundle("demo", "reader", version, manifest)


def test_many_bundles_are_spread_over_bins_that_devices_follow(trust: SimulatedTrust) -> None:
    before = update(trust)
    many = {
        bundle_path("demo", "reader", f"{n}.0"): file_ref(str(n).encode()) for n in range(2, BIN_BUNDLES + 2)
    }
    trust.change(lambda repository: repository.approve(many))
    assert trust.repository().digits == 1
    for client in (update(trust, before), update(trust)):
        client.check_bundle("demo", "reader", "1.0", MANIFEST)
        assert client.bin_of("x").startswith("bundles-")
        for n in (2, 77, BIN_BUNDLES):
            drive(
                follow_role(client, client.bin_of(bundle_path("demo", "reader", f"{n}.0")), {}),
                trust.answers(),
            )
            client.check_bundle("demo", "reader", f"{n}.0", file_ref(str(n).encode()))
    trust.approve("demo", "reader", "9999.0", MANIFEST)  # one bin is signed anew, not sixteen
    assert sum(_version(data) for role, data in trust.current.items() if role.startswith("bundles-")) == 17


# Anything at all


def test_a_root_that_was_not_meant_is_not_begun_with(trust: SimulatedTrust) -> None:
    assert check_root(trust.current[ROOT], trust.pin) == trust.current[ROOT]
    with pytest.raises(LengthOrHashError):
        check_root(SimulatedTrust(ISSUED_MS).current[ROOT], trust.pin)


LIES = SimulatedTrust(ISSUED_MS, "lies")


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(
        ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json", "1.bundles.json"]
    ),
    data=st.binary(max_size=200)
    | st.builds(
        lambda role, at, put: LIES.current[role][:at] + put + LIES.current[role][at + len(put) :],
        st.sampled_from([ROOT, TIMESTAMP, SNAPSHOT, TARGETS, BUNDLES]),
        st.integers(0, 1_500),
        st.binary(min_size=1, max_size=8),
    )
    | st.sampled_from(
        [b"[" * 100_000, b'{"signed":1,"signatures":[]}', b"\xff\xfe", b"null", b'{"a":1e999}']
    ),
)
def test_whatever_comes_nothing_but_a_trust_error_comes_out(name: str, data: bytes) -> None:
    try:
        trusted = update(LIES, lies={name: data})
    except TrustError:
        return
    # What passed says what the true files say: only white space or unsigned members can have changed.
    assert {role: _version(d) for role, d in trusted.files.items()} == dict.fromkeys(trusted.files, 1)


# A client that is not ours


class _Fetcher(FetcherInterface):
    def __init__(self, trust: SimulatedTrust) -> None:
        self._trust = trust

    def _fetch(self, url: str):  # type: ignore[no-untyped-def]
        data = self._trust.files.get(url.rpartition("/")[2])
        if data is None:
            raise DownloadHTTPError("not there", 404)
        yield data


def test_python_tufs_own_updater_finds_our_bundles(tmp_path: Path) -> None:
    trust = SimulatedTrust(SystemClock().wall_ms())
    trust.approve("demo", "reader", "1.0", MANIFEST)
    trust.rotate(ROOT, POLICY)
    updater = Updater(
        str(tmp_path),
        "http://control.test/s/tuf/",
        fetcher=_Fetcher(trust),
        bootstrap=trust.files["1.root.json"],
    )
    updater.refresh()
    found = updater.get_targetinfo(bundle_path("demo", "reader", "1.0"))
    assert found is not None
    assert (found.length, found.hashes["sha256"]) == (MANIFEST.size_bytes, MANIFEST.sha256)
    assert updater.get_targetinfo(bundle_path("demo", "reader", "2.0")) is None


def test_a_repository_keeps_what_waits_apart(trust: SimulatedTrust) -> None:
    """A root that waits for a signature holds up neither approvals nor the timestamp."""
    stranger = SigningKey.generate()
    repository = trust.repository()
    repository.rotate(ROOT, [stranger.public], 1)
    repository.approve({bundle_path("demo", "reader", "2.0"): MANIFEST})
    assert not repository.commit()
    assert [missing.role for missing in repository.missing()] == [ROOT]
    assert set(repository.committed) == {BUNDLES, SNAPSHOT, TIMESTAMP}
    later = Repository(
        repository.current, repository.staged, trust.find, LIFETIMES, trust.now_ms + 6 * DAY_MS
    )
    later.renew_due()
    assert not later.commit()
    assert TIMESTAMP in later.committed
    signed = trust.forge(ROOT)
    with pytest.raises(NotFound, match="not staged"):
        later.add_signatures(signed)
