"""The control plane's side of trust: ceremonies, approvals, re-signing, alarms, the signed time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from walle_control import setup
from walle_control.cli.main import main
from walle_control.config import TrustConfig, load_config
from walle_control.db.keyring import Keyring, public_path, write_key
from walle_control.db.store import Store
from walle_control.features.releases.types import CreateRelease
from walle_control.features.tasks.types import ImportRequest
from walle_control.features.trust.book import TrustBook
from walle_control.features.trust.repository import read_metadata, signer_of
from walle_shared.clock import FixedClock, SystemClock
from walle_shared.errors import ConfigError, Conflict, NotFound, SignatureError, UnapprovedError
from walle_shared.protocol.messages import EpochInfo, TimeRequest
from walle_shared.signing import SigningKey, file_ref, open_envelope
from walle_shared.trust.roles import (
    BUNDLES,
    OFFLINE,
    ONLINE,
    POLICY,
    ROLES,
    ROOT,
    TIME_KIND,
    TIMESTAMP,
    Pin,
    SignedTime,
    bundle_path,
)
from walle_shared.trust.simulated import SimulationMark
from walle_shared.trust.trusted import follow_role
from walle_shared.units import DAY_S
from walle_support.heard import listen
from walle_support.trust import believe, drive_folder

PATH = bundle_path("demo", "greeter", "1.0.0")
OTHER = bundle_path("demo", "greeter", "0.9.0")
MANIFEST = file_ref(b"a manifest")


@pytest.fixture
def book(store: Store, clock: FixedClock) -> TrustBook:
    return TrustBook(store.files, store.keyring, clock, TrustConfig())


def change(store: Store, book: TrustBook, job: Callable[..., object]) -> object:
    """Change something in the database and publish what is in force then."""
    result = store.database.write_sync(job)
    book.publish(store.database.read_sync(book.all_files))
    return result


def go_off_line(store: Store, book: TrustBook, tmp_path: Path) -> list[SigningKey]:
    """Root, targets and bundles to two of three people's keys."""
    people = [SigningKey.generate() for _ in range(3)]
    for role in OFFLINE:
        change(store, book, lambda db, role=role: book.rotate(db, role, [key.public for key in people], 2))
    sign_staged(store, book, people[:2])
    return people


def sign_staged(store: Store, book: TrustBook, keys: list[SigningKey]) -> bool:
    """What export, sign and submit do."""
    signed = []
    for data in store.database.read_sync(book.staged).values():
        metadata = read_metadata(data)
        for key in keys:
            metadata.sign(signer_of(key), append=True)
        signed.append(metadata.to_bytes())
    return bool(change(store, book, lambda db: book.submit(db, signed)))


def test_the_default_holds_every_key(store: Store, book: TrustBook, clock: FixedClock) -> None:
    status = store.database.read_sync(book.status)
    assert [role.role for role in status.roles] == list(ROLES)
    assert {role.held for role in status.roles} == {"here"}
    assert believe(store.home.root, clock).root_version == Pin.parse(status.trusted_root).version == 1


def test_an_approval_counts_at_once_where_the_key_is_here(
    store: Store, book: TrustBook, clock: FixedClock
) -> None:
    assert change(store, book, lambda db: book.approve(db, {PATH: MANIFEST})) is True
    trusted = believe(store.home.root, clock)
    drive_folder(store.home.root, follow_role(trusted, BUNDLES, {}))
    trusted.check_bundle("demo", "greeter", "1.0.0", MANIFEST)
    with pytest.raises(UnapprovedError):
        trusted.check_bundle("demo", "greeter", "1.0.1", MANIFEST)
    version = store.database.read_sync(book.version)
    assert change(store, book, lambda db: book.approve(db, {PATH: MANIFEST})) is True
    assert store.database.read_sync(book.version) == version  # the same again changes nothing
    change(store, book, lambda db: book.withdraw(db, "demo", "greeter", "1.0.0"))
    assert not store.database.read_sync(lambda db: book.is_approved(db, PATH, MANIFEST))
    with pytest.raises(NotFound):
        change(store, book, lambda db: book.withdraw(db, "demo", "greeter", "1.0.0"))


def test_off_line_keys_are_waited_for(
    store: Store, book: TrustBook, clock: FixedClock, tmp_path: Path
) -> None:
    anna, ben, cleo = go_off_line(store, book, tmp_path)
    status = store.database.read_sync(book.status)
    assert {role.role for role in status.roles if role.held == "away"} == set(OFFLINE)
    assert not status.staged
    before = believe(store.home.root, clock)
    assert change(store, book, lambda db: book.approve(db, {PATH: MANIFEST})) is False
    assert sign_staged(store, book, [anna]) is False
    (missing,) = store.database.read_sync(book.status).missing
    assert (missing.role, missing.more) == (BUNDLES, 1)
    assert set(missing.keyids) == {ben.public.keyid, cleo.public.keyid}
    assert believe(store.home.root, clock).version == before.version  # devices see none of it
    assert sign_staged(store, book, [cleo]) is True
    assert store.database.read_sync(lambda db: book.is_approved(db, PATH, MANIFEST))
    assert believe(store.home.root, clock).root_version > 1


def test_what_is_submitted_must_be_what_is_staged(
    store: Store, book: TrustBook, clock: FixedClock, tmp_path: Path
) -> None:
    go_off_line(store, book, tmp_path)
    change(store, book, lambda db: book.approve(db, {PATH: MANIFEST}))
    staged = json.loads(store.database.read_sync(book.staged)[BUNDLES])
    staged["signed"]["targets"][PATH]["length"] += 1
    for data, error in ((json.dumps(staged).encode(), NotFound), (b"not metadata", ConfigError)):
        with pytest.raises(error):
            change(store, book, lambda db, data=data: book.submit(db, [data]))  # type: ignore[misc]
    change(store, book, book.discard)
    assert not store.database.read_sync(book.staged)


@pytest.mark.parametrize(("role", "threshold"), [("nobody", 1), (ROOT, 0), (ROOT, 2)])
def test_a_rotation_that_cannot_be_is_refused(
    store: Store, book: TrustBook, role: str, threshold: int
) -> None:
    key = SigningKey.generate().public
    with pytest.raises(ConfigError):
        store.database.write_sync(lambda db: book.rotate(db, role, [key, key], threshold))


async def test_people_are_called_before_what_they_hold_expires(
    control, store: Store, clock: FixedClock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    book = TrustBook(store.files, store.keyring, clock, TrustConfig())
    go_off_line(store, book, tmp_path)
    heard = listen(store.database, "trust.expire")
    await control.trust.keep_signed()
    assert await control.trust.expiring() == ()
    clock.advance(340 * DAY_S)
    for _ in range(3):
        await control.trust.keep_signed()
    assert {role.role for role in await control.trust.expiring()} == set(OFFLINE)
    clock.advance(20 * DAY_S)
    await control.trust.keep_signed()
    log = [line for line in capsys.readouterr().out.splitlines() if "trust_role_expiring" in line]
    assert [level for line in log for level in ("warning", "error") if f"[{level}" in line] == (
        ["warning"] * 3 + ["error"] * 3
    )
    assert sorted(event.subject for event in heard()) == sorted(OFFLINE * 2)


def test_webhooks_hear_of_what_waits_for_signatures_whenever_it_changes(
    store: Store, book: TrustBook, tmp_path: Path
) -> None:
    anna, ben, _ = go_off_line(store, book, tmp_path)
    heard = listen(store.database)
    for version in ("1.0.0", "1.1.0"):
        path = bundle_path("demo", "greeter", version)
        for _ in range(2):  # asking again changes nothing
            change(store, book, lambda db, path=path: book.approve(db, {path: MANIFEST}))
    sign_staged(store, book, [anna])
    sign_staged(store, book, [ben])
    assert [(event.kind, event.subject, event.data["more"]) for event in heard()] == [
        ("trust.ask", BUNDLES, 2)
    ] * 2


async def test_a_rotated_policy_key_signs_the_epoch_anew(control, store: Store, clock: FixedClock) -> None:
    before = store.files.epoch_path.read_bytes()
    book = TrustBook(store.files, store.keyring, clock, TrustConfig())
    store.database.write_sync(lambda db: book.rotate(db, POLICY))  # as the command does, beside the server
    await control.trust.keep_signed()
    await control.releases.keep_signed()
    check = believe(store.home.root, clock).signatures_of(POLICY)
    info = open_envelope(EpochInfo, "epoch", store.files.epoch_path.read_bytes(), check)
    assert (info.epoch, info.approvals) == (1, store.database.read_sync(book.version))
    with pytest.raises(SignatureError):
        open_envelope(EpochInfo, "epoch", before, check)


async def test_a_version_that_waits_for_signatures_cannot_be_released(
    control, store: Store, clock: FixedClock, tmp_path: Path, repo, good_files
) -> None:
    book = TrustBook(store.files, store.keyring, clock, TrustConfig())
    people = go_off_line(store, book, tmp_path)
    repo.tag("greeter/1.0.0", "greeter", good_files)
    request = ImportRequest(str(repo.path), "greeter", "1.0.0")
    assert not (await control.tasks.import_version(request, "anna")).approved
    with pytest.raises(Conflict, match="waits for signatures"):
        await control.releases.create(CreateRelease("demo", "greeter", "1.0.0"), "anna")
    assert sign_staged(store, book, people[1:])
    assert (await control.tasks.import_version(request, "anna")).approved
    await control.releases.create(CreateRelease("demo", "greeter", "1.0.0"), "anna")


async def test_the_time_is_signed_for_the_one_who_asks(
    control, store: Store, anyone, clock: FixedClock
) -> None:
    check = believe(store.home.root, clock).signatures_of(TIMESTAMP)
    nonce = "0123456789abcdef" * 2
    told = open_envelope(SignedTime, TIME_KIND, control.trust.tell_time(TimeRequest(nonce)), check)
    assert told == SignedTime(nonce, clock.wall_ms())
    for bad in ("", "x" * 32, nonce.upper() + "0", "é" * 32):
        answer = await anyone.post("/d/v1/time", json={"nonce": bad})
        assert answer.status_code == 400


async def test_metadata_is_served_and_nothing_beside_it(control, store: Store, anyone) -> None:
    for path in (store.files.root / "tuf").iterdir():
        answer = await anyone.get(f"/s/tuf/{path.name}")
        assert answer.content == path.read_bytes()
        assert ("immutable" in answer.headers["Cache-Control"]) == (path.name != "timestamp.json")
        again = await anyone.get(f"/s/tuf/{path.name}", headers={"If-None-Match": answer.headers["ETag"]})
        assert again.status_code == 304
    for name in ("9.root.json", "..%2Fepoch.json", "%2e%2e", "root.json%00", "x" * 300):
        assert (await anyone.get(f"/s/tuf/{name}")).status_code in (400, 404)


async def test_what_a_crash_kept_back_is_published_at_the_next_start(
    store: Store, app, clock: FixedClock, nursery
) -> None:
    folder = store.files.root / "tuf"
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    for path in folder.iterdir():
        path.unlink()
    await nursery.start(app.state.control.run)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole


def test_keys_in_the_ring_are_those_without_a_passphrase(tmp_path: Path) -> None:
    ring = Keyring(tmp_path)
    open_key, locked = SigningKey.generate(), SigningKey.generate()
    write_key(tmp_path / "a.pem", open_key)
    write_key(tmp_path / "b.pem", locked, "secret")
    (tmp_path / "c.pem").write_text("nonsense")
    keyids = [open_key.public.keyid, locked.public.keyid, "unknown"]
    assert [key.public.keyid for key in ring.find(keyids)] == [open_key.public.keyid]
    assert "PUBLIC KEY" in public_path(tmp_path / "b.pem").read_text()
    with pytest.raises(ConfigError, match="never written over"):
        write_key(tmp_path / "a.pem", locked)


def test_the_ceremony_by_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, to_sign = str(tmp_path / "data"), tmp_path / "to-sign"
    secret = tmp_path / "passphrase"
    secret.write_text("open sesame\n")

    def run(*words: str) -> str:
        assert main(["trust", *words]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    assert main(["init", "--data", data]) == 0
    capsys.readouterr()
    names = [str(tmp_path / f"{name}.pem") for name in ("anna", "ben", "cleo")]
    for name in names:
        run("key", name, "--passphrase-file", str(secret))
    keys = [word for name in names for word in ("--key", str(public_path(Path(name))))]
    for role in OFFLINE:
        run("rotate", role, "--data", data, *keys, "--threshold", "2")
    files = json.loads(run("export", str(to_sign), "--data", data, "--json"))
    assert {Path(name).stem for name in files} == set(OFFLINE)
    for name in names[:2]:
        said = run("sign", *files, "--key", name, "--passphrase-file", str(secret))
        assert "root 2 of 3" in said
        run("submit", *files, "--data", data)
    status = json.loads(run("show", "--data", data, "--json"))
    assert (status["staged"], status["missing"], status["approved"]) == ([], [], [])
    assert {role["role"] for role in status["roles"] if role["held"] == "away"} == set(OFFLINE)
    for role in ONLINE:
        run("rotate", role, "--data", data)
        run("discard", "--data", data)
    believe(tmp_path / "data")
    marks = {PATH: SimulationMark("passed", 3, file_ref(b"a record")), OTHER: None}
    store = Store.open(tmp_path / "data")
    book = TrustBook(store.files, store.keyring, SystemClock(), TrustConfig())
    store.database.write_sync(
        lambda db: book.approve(
            db, dict.fromkeys(marks, MANIFEST), {path: mark for path, mark in marks.items() if mark}
        )
    )
    store.close()
    run("export", str(to_sign), "--data", data)
    said = run("sign", str(to_sign / "bundles.json"), "--key", names[0], "--passphrase-file", str(secret))
    assert "demo/greeter 1.0.0 (passed 3 simulations)" in said.replace("greeter/", "greeter ")
    assert "(says nothing of simulations)" in said
    run("sign", str(to_sign / "bundles.json"), "--key", names[2], "--passphrase-file", str(secret))
    run("submit", str(to_sign / "bundles.json"), "--data", data)
    said = run("show", "--data", data)
    assert "passed 3 simulations" in said
    assert "not said: simulation run" in said
    audit = Store.open(tmp_path / "data")
    rows = audit.database.read_sync(lambda db: db.execute("SELECT action FROM audit").fetchall())
    audit.close()
    assert {row["action"] for row in rows} == {"trust.rotate", "trust.submit", "trust.discard"}


@pytest.mark.parametrize(
    "words",
    [
        ["sign", "no-such-file", "--key", "no-such-key"],
        ["renew", "policy", "--data", "DATA"],
        ["rotate", "root", "--data", "DATA", "--key", "no-such-key"],
        ["rotate", "root", "--data", "DATA", "--threshold", "7"],
        ["submit", "no-such-file", "--data", "DATA"],
        ["withdraw", "demo/x", "1.0", "--data", "DATA"],
        ["show", "--data", "nowhere"],
    ],
)
def test_what_a_command_cannot_do_it_says(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    setup.init(tmp_path / "data", FixedClock())
    assert main(["trust", *(str(tmp_path / "data") if word == "DATA" else word for word in words)]) in (1, 2)
    assert "walle-control: error: " in capsys.readouterr().err


def test_lifetimes_are_checked(tmp_path: Path) -> None:
    (tmp_path / "control.toml").write_text("[trust]\ntimestamp_lifetime_s = 60\n")
    with pytest.raises(ConfigError, match=r"trust\.timestamp_lifetime_s"):
        load_config(tmp_path / "control.toml")
