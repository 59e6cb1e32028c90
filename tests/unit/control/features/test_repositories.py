"""Repositories by path and by smart HTTP: mirrors, what they import by themselves, what they are refused."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pygit2
import pytest
import trio

from walle_control import setup
from walle_control.app import Control, create_control
from walle_control.config import ControlConfig, GitConfig, ImportConfig, TrustConfig
from walle_control.db.store import Store
from walle_control.features.audiences.types import HoldoutWish, SegmentWish
from walle_control.features.releases import store as releases
from walle_control.features.releases.epochs import EpochBook
from walle_control.features.releases.restore import open_published
from walle_control.features.releases.types import CreateRelease, GuardWish, StageWish, Terms
from walle_control.features.repositories import history
from walle_control.features.repositories.credentials import Credential, read_credential
from walle_control.features.repositories.mirrors import check_url, mirror_path
from walle_control.features.repositories.types import Repository
from walle_control.features.tasks import store as versions
from walle_control.features.tasks.types import ImportRequest
from walle_control.features.trust.book import TrustBook
from walle_shared.clock import FixedClock
from walle_shared.errors import (
    ConfigError,
    Conflict,
    ConnectionLost,
    LimitExceeded,
    NotAllowed,
    NotFound,
    PeerTimeout,
)
from walle_shared.ids import ScenarioName
from walle_shared.protocol.codec import decode
from walle_shared.targeting import SHARE_ONE, Snapshot
from walle_support.heard import listen

MODEL = b"weights " * 4_000


def pointer(data: bytes) -> bytes:
    oid = hashlib.sha256(data).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(data)}\n".encode()


def shop(url: object, **changes: object) -> Repository:
    return replace(Repository("shop", str(url), ScenarioName("demo")), **changes)  # type: ignore[arg-type]


@pytest.fixture
def source(repo, good_files):  # type: ignore[no-untyped-def]
    """A repository with two versions of one task."""
    for version in ("1.0.0", "1.1.0"):
        repo.tag(
            f"greeter/{version}",
            "greeter",
            {**good_files, "main.py": f"V = {version!r}\n\ndef run():\n    return V\n".encode()},
        )
    repo.tag("not-a-version", "greeter", good_files)
    return repo


async def test_a_repository_on_this_disk_imports_by_itself(control: Control, source) -> None:  # type: ignore[no-untyped-def]
    await control.repositories.add(shop(source.path, auto_import=True), "anna")
    result = await control.repositories.sync("shop")
    assert result.imported == ("greeter/1.0.0", "greeter/1.1.0")
    assert (result.repository.tags, result.repository.error) == (3, "")
    assert (await control.repositories.sync("shop")).imported == ()
    (await control.repositories.list()).repositories[0]
    detail = await control.tasks.show("demo", "greeter", "1.1.0")
    assert detail.version.scenario == "demo"


async def test_an_import_names_a_repository(control: Control, source) -> None:  # type: ignore[no-untyped-def]
    await control.repositories.add(shop(f"file://{source.path}"), "anna")
    with pytest.raises(NotFound, match="walle-control repo sync shop"):
        await control.tasks.import_version(ImportRequest("shop", "greeter", "1.0.0"), "anna")
    await control.repositories.sync("shop")
    assert (await control.tasks.import_version(ImportRequest("shop", "greeter", "1.0.0"), "anna")).created
    with pytest.raises(NotFound, match="no repository is called 'other'"):
        await control.tasks.import_version(ImportRequest("other", "greeter", "1.0.0"), "anna")


async def test_a_repository_holds_the_tasks_of_its_scenario_only(control: Control, source) -> None:  # type: ignore[no-untyped-def]
    await control.repositories.add(shop(source.path, scenario="others", auto_import=True), "anna")
    result = await control.repositories.sync("shop")
    assert [failure.tag for failure in result.failed] == ["greeter/1.0.0", "greeter/1.1.0"]
    assert "holds tasks of scenario others, and this task says demo" in result.failed[0].error
    with pytest.raises(NotAllowed):
        await control.tasks.import_version(ImportRequest("shop", "greeter", "1.0.0"), "anna")


async def test_what_cannot_be_imported_is_not_tried_again_until_it_moves_or_somebody_asks(  # type: ignore[no-untyped-def]
    control: Control, store: Store, source, good_files
) -> None:
    heard = listen(store.database, "repository.*")
    source.tag("greeter/2.0.0", "greeter", {**good_files, "main.py": b"def run(:"})
    await control.repositories.add(shop(source.path, auto_import=True), "anna")
    assert len((await control.repositories.sync("shop", patient=True)).failed) == 1
    assert (await control.repositories.sync("shop", patient=True)).failed == ()
    assert len((await control.repositories.sync("shop")).failed) == 1
    (event,) = heard()
    assert (event.kind, event.subject, event.data["tag"]) == ("repository.fail", "shop", "greeter/2.0.0")
    assert event.data["scenario"] == "demo"
    source.tag("greeter/2.0.0", "greeter", good_files)
    assert (await control.repositories.sync("shop", patient=True)).imported == ("greeter/2.0.0",)


async def test_a_mirror_tells_how_a_version_came_about(control: Control, repo, good_files) -> None:  # type: ignore[no-untyped-def]
    def version(number: int, parents: Sequence[str], tag: str = "") -> str:
        files = {**good_files, "main.py": f"V = {number}\n\ndef run():\n    return V\n".encode()}
        return repo.tag(tag, "greeter", files, message=f"number {number}\n\nbecause", parents=parents)

    first = version(1, [], "greeter/1.0.0")
    second = version(2, [first])
    same = version(2, [second])
    other = version(9, [first])
    merged = version(4, [same, other], "greeter/1.1.0")
    repo.repo.references.create("refs/heads/main", merged)
    await control.repositories.add(shop(repo.path, scenario=ScenarioName("demo"), auto_import=True), "anna")
    await control.repositories.sync("shop")
    found = await control.task_history("demo", "greeter", "1.1.0", "1.0.0")
    assert (found.repository, found.base, found.more) == ("shop", "1.0.0", False)
    assert {each.id for each in found.commits} == {merged, other, second}  # one changed nothing
    newest = found.commits[0]
    assert (newest.id, newest.tags, newest.author) == (merged, ("greeter/1.1.0",), "Test")
    assert (newest.message, newest.at_ms) == ("number 4\n\nbecause", 1_700_000_000_000)
    backwards = await control.task_history("demo", "greeter", "1.0.0", "1.1.0")
    assert backwards.commits == ()
    with pytest.raises(NotFound, match=r"9\.9\.9"):
        await control.task_history("demo", "greeter", "1.1.0", "9.9.9")
    await control.repositories.remove("shop", "anna")
    assert (await control.task_history("demo", "greeter", "1.1.0")).repository == ""


def test_a_history_is_cut_and_takes_any_words(repo, good_files, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(history, "COMMITS_MAX", 2)
    last = ""
    repo.author = pygit2.Signature("x" * 500, "test@example.org", -(2**40), 0)
    for number in range(3):
        files = {**good_files, "n": bytes([number])}
        last = repo.tag("", "greeter", files, message="y" * 5_000, parents=[last] if last else [])
    commits, more = history.commits_to(repo.path, last, "", "greeter")
    assert (len(commits), more) == (2, True)
    assert {(len(each.author), len(each.message)) for each in commits} == {(200, 2_000)}
    for nonsense in ("", "zz", "12" * 20, str(repo.repo.create_blob(b"x"))):
        assert not history.holds(repo.path, nonsense)
        assert history.commits_to(repo.path, nonsense, last, "greeter") == ((), False)
    assert not history.holds(repo.path / "nowhere", last)
    assert len(history.commits_to(repo.path, last, "", "")[0]) == 2
    assert history.commits_to(repo.path, last, "", "another")[0] == ()


async def test_a_tag_that_moved_is_refused(control: Control, source, good_files) -> None:  # type: ignore[no-untyped-def]
    await control.repositories.add(shop(source.path, auto_import=True), "anna")
    await control.repositories.sync("shop")
    source.tag("greeter/1.0.0", "greeter", {**good_files, "extra.txt": b"x"})
    (failure,) = (await control.repositories.sync("shop")).failed
    assert "tags must not move" in failure.error


async def test_the_same_tag_makes_the_same_bytes_on_another_server(  # type: ignore[no-untyped-def]
    tmp_path: Path, source, converter, simulator
) -> None:
    from walle_control.features.tasks.service import TasksService

    clock, found = FixedClock(), []
    for number in range(2):
        root = tmp_path / f"server-{number}"
        setup.init(root, clock)
        store = Store.open(root)
        trust = TrustBook(store.files, store.keyring, clock, TrustConfig())
        service = TasksService(
            store, clock, ControlConfig(), trust, trio.lowlevel.checkpoint, converter, simulator
        )
        for version in ("1.0.0", "1.1.0"):
            await service.import_version(ImportRequest(str(source.path), "greeter", version), "anna")
        store.close()
        found.append(
            {
                path.relative_to(root)
                for kind in ("blob", "manifest", "delta")
                for path in (root / "static" / kind).iterdir()
            }
        )
        clock.advance(1_000)
    assert found[0] == found[1]
    assert len(found[0]) > 6


class TestRoots:
    @pytest.fixture
    def config(self, tmp_path: Path) -> ControlConfig:
        return ControlConfig(tasks=ImportConfig(repository_roots=(str(tmp_path / "allowed"),)))

    async def test_a_path_outside_the_roots_is_refused(self, control: Control, source) -> None:  # type: ignore[no-untyped-def]
        for url in (str(source.path), f"file://{source.path}"):
            with pytest.raises(NotAllowed, match="repository_roots"):
                await control.repositories.add(shop(url), "anna")

    async def test_a_folder_that_becomes_a_link_to_elsewhere_is_refused(  # type: ignore[no-untyped-def]
        self, control: Control, source, tmp_path: Path
    ) -> None:
        place = tmp_path / "allowed" / "tasks.git"
        place.mkdir(parents=True)
        await control.repositories.add(shop(place), "anna")
        place.rmdir()
        place.symlink_to(source.path)
        with pytest.raises(NotAllowed, match="repository_roots"):
            await control.repositories.sync("shop")


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c id",
        "ssh://git@example.org/x",
        "git@example.org:x.git",
        "https://user:secret@example.org/x.git",
        "--upload-pack=id",
        "relative/path",
        "file://elsewhere/path",
        "https:///nowhere",
        "https://example.org/x.git?token=1",
        "/a path/with spaces",
        "/a\nb",
    ],
)
def test_other_remotes_are_refused(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_url(url)
    assert "secret" not in str(caught.value)


async def test_a_name_is_taken_once_and_free_after_removal(control: Control, source, store) -> None:  # type: ignore[no-untyped-def]
    await control.repositories.add(shop(source.path), "anna")
    with pytest.raises(Conflict):
        await control.repositories.add(shop(source.path), "anna")
    await control.repositories.remove("shop", "anna")
    assert not mirror_path(store.home.repositories, "shop").exists()
    await control.repositories.add(shop(source.path), "anna")


async def test_a_remote_that_is_not_there_is_named_and_remembered(control: Control, tmp_path: Path) -> None:
    await control.repositories.add(shop(tmp_path / "nothing"), "anna")
    with pytest.raises(ConnectionLost, match=r"repository shop: .*nothing"):
        await control.repositories.sync("shop")
    (row,) = (await control.repositories.list()).repositories
    assert "nothing" in row.error


async def test_the_source_cannot_run_anything_here(control: Control, source, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    marks = [tmp_path / "hook-ran", tmp_path / "config-ran"]
    for name in ("post-update", "reference-transaction", "post-checkout", "pre-auto-gc"):
        hook = source.path / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {marks[0]}\n")
        hook.chmod(0o755)
    with (source.path / "config").open("a") as config:
        config.write(
            f'[uploadpack]\n\tpackObjectsHook = "touch {marks[1]};"\n'
            f'[core]\n\tfsmonitor = "touch {marks[1]}"\n'
        )
    await control.repositories.add(shop(source.path, auto_import=True), "anna")
    assert (await control.repositories.sync("shop")).imported
    assert not any(mark.exists() for mark in marks)


class TestLimits:
    @pytest.fixture
    def config(self, request: pytest.FixtureRequest, tmp_path: Path) -> ControlConfig:
        slow = tmp_path / "slow-git"
        slow.write_text(f"#!/bin/sh\nsleep 1000 &\necho $! > {tmp_path}/child\nwait\n")
        slow.chmod(0o755)
        return ControlConfig(git=request.param(slow))

    @pytest.mark.parametrize("config", [lambda _: GitConfig(max_bytes=20_000)], indirect=True)
    async def test_a_mirror_that_grows_too_large_is_stopped(
        self, control: Control, source, good_files
    ) -> None:  # type: ignore[no-untyped-def]
        source.tag("greeter/9.0.0", "greeter", {**good_files, "big.bin": os.urandom(200_000)})
        await control.repositories.add(shop(source.path), "anna")
        with pytest.raises(LimitExceeded, match=r"git\.max_bytes"):
            await control.repositories.sync("shop")

    @pytest.mark.parametrize("config", [lambda slow: GitConfig(str(slow), timeout_s=1.0)], indirect=True)
    async def test_a_git_that_hangs_is_killed_with_its_children(  # type: ignore[no-untyped-def]
        self, control: Control, source, tmp_path: Path
    ) -> None:
        await control.repositories.add(shop(source.path), "anna")
        with pytest.raises(PeerTimeout, match=r"git\.timeout_s"):
            await control.repositories.sync("shop")
        with trio.fail_after(10):
            while _lives(tmp_path / "child"):  # noqa: ASYNC110  # it tells nobody
                await trio.sleep(0.01)

    @pytest.mark.parametrize("config", [lambda _: GitConfig("/no/git")], indirect=True)
    async def test_no_git_is_said(self, control: Control, source) -> None:  # type: ignore[no-untyped-def]
        await control.repositories.add(shop(source.path), "anna")
        with pytest.raises(ConfigError, match=r"git\.program '/no/git' is not here"):
            await control.repositories.sync("shop")


def _lives(pid_file: Path) -> bool:
    """Whether a process lives, if it came as far as being written down."""
    try:
        stat = Path(f"/proc/{int(pid_file.read_text() or 0)}/stat")
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@dataclass
class Forge:
    """git over smart HTTP, by git's own CGI program, with an LFS server; may ask for a password."""

    root: Path
    url: str = ""
    authorization: str = ""
    seen: list[str] = field(default_factory=list)
    large: dict[str, bytes] = field(default_factory=dict)


class _Cgi(BaseHTTPRequestHandler):
    forge: Forge

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        if self.path.startswith("/large/"):
            self._answer(200, self.forge.large[name])
        elif self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", self.path.replace("/moved", "", 1))
            self.end_headers()
        else:
            self._serve(b"")

    def do_POST(self) -> None:
        self._serve(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _serve(self, body: bytes) -> None:
        given = self.headers.get("Authorization", "")
        self.forge.seen.append(given)
        if self.forge.authorization and given != self.forge.authorization:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="forge"')
            self.end_headers()
        elif self.path.endswith("/info/lfs/objects/batch"):
            import json

            (wish,) = json.loads(body)["objects"]
            href = f"{self.forge.url}/large/{wish['oid']}"
            action = {"actions": {"download": {"href": href}}} if wish["oid"] in self.forge.large else {}
            self._answer(200, json.dumps({"objects": [{**wish, **action}]}).encode())
        else:
            self._git(body)

    def _git(self, body: bytes) -> None:
        path, _, query = self.path.partition("?")
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.forge.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
        }
        done = subprocess.run(
            ["git", "http-backend"], input=body, capture_output=True, env=environment, check=False
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _answer(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[Forge]:
    forge = Forge(tmp_path)
    handler = type("Cgi", (_Cgi,), {"forge": forge})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        forge.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield forge
        server.shutdown()
        thread.join()


async def test_smart_http_brings_the_same_as_the_disk(control: Control, source, forge: Forge, store) -> None:  # type: ignore[no-untyped-def]
    await control.repositories.add(shop(f"{forge.url}/tasks.git", auto_import=True), "anna")
    assert (await control.repositories.sync("shop")).imported == ("greeter/1.0.0", "greeter/1.1.0")
    result = await control.tasks.import_version(ImportRequest(str(source.path), "greeter", "1.0.0"), "anna")
    assert not result.created
    packs = list(mirror_path(store.home.repositories, "shop").glob("objects/pack/*.pack"))
    assert packs


class TestCredentials:
    @pytest.fixture
    def config(self, tmp_path: Path) -> ControlConfig:
        path = tmp_path / "credentials.toml"
        path.write_text('[forge]\nusername = "walle"\npassword = "hunter2"\n')
        path.chmod(0o600)
        return ControlConfig(git=GitConfig(credentials_file=str(path)))

    async def test_a_password_reaches_its_remote_and_nothing_else(  # type: ignore[no-untyped-def]
        self, control: Control, source, forge: Forge, store, capsys: pytest.CaptureFixture[str]
    ) -> None:
        forge.authorization = Credential("walle", "hunter2").authorization
        await control.repositories.add(
            shop(f"{forge.url}/tasks.git", credential="forge", auto_import=True), "anna"
        )
        assert len((await control.repositories.sync("shop")).imported) == 2
        secret = forge.authorization.removeprefix("Basic ")
        everything = capsys.readouterr()
        texts = [everything.out, everything.err]
        texts += [p.read_bytes().decode("latin-1") for p in store.home.root.rglob("*") if p.is_file()]
        assert not any("hunter2" in text or secret in text for text in texts)

    async def test_without_it_the_remote_refuses(self, control: Control, source, forge: Forge) -> None:  # type: ignore[no-untyped-def]
        forge.authorization = "Basic something-else"
        await control.repositories.add(shop(f"{forge.url}/tasks.git"), "anna")
        with pytest.raises(ConnectionLost, match="repository shop"):
            await control.repositories.sync("shop")

    async def test_a_redirect_is_not_followed(self, control: Control, source, forge: Forge) -> None:  # type: ignore[no-untyped-def]
        await control.repositories.add(shop(f"{forge.url}/moved/tasks.git", credential="forge"), "anna")
        with pytest.raises(ConnectionLost):
            await control.repositories.sync("shop")

    def test_a_credential_does_not_show(self, config: ControlConfig) -> None:
        credential = read_credential(config.git.credentials_file, "forge")
        assert "hunter2" not in repr(credential)
        with pytest.raises(ConfigError, match="needs a table"):
            read_credential(config.git.credentials_file, "other")
        Path(config.git.credentials_file).chmod(0o644)
        with pytest.raises(ConfigError, match="chmod 600"):
            read_credential(config.git.credentials_file, "forge")


async def import_pointer(control: Control, repo, good_files, repository: str):  # type: ignore[no-untyped-def]
    repo.tag("greeter/3.0.0", "greeter", {**good_files, "model/weights.bin": pointer(MODEL)})
    if repository == "shop":
        await control.repositories.sync("shop")
    await control.tasks.import_version(ImportRequest(repository, "greeter", "3.0.0"), "anna")
    (file,) = [f for f in (await control.tasks.show("demo", "greeter", "3.0.0")).files if "weights" in f.path]
    return file


async def test_a_large_file_comes_from_the_lfs_storage_beside(control: Control, repo, good_files) -> None:  # type: ignore[no-untyped-def]
    oid = hashlib.sha256(MODEL).hexdigest()
    place = repo.path / "lfs" / "objects" / oid[:2] / oid[2:4] / oid
    place.parent.mkdir(parents=True)
    place.write_bytes(MODEL)
    file = await import_pointer(control, repo, good_files, str(repo.path))
    assert (file.sha256, file.size_bytes) == (oid, len(MODEL))


async def test_a_large_file_comes_from_the_remotes_lfs_server(
    control: Control, repo, good_files, forge: Forge
) -> None:  # type: ignore[no-untyped-def]
    forge.large[hashlib.sha256(MODEL).hexdigest()] = MODEL
    await control.repositories.add(shop(f"{forge.url}/tasks.git"), "anna")
    file = await import_pointer(control, repo, good_files, "shop")
    assert file.size_bytes == len(MODEL)


async def test_a_large_file_that_is_nowhere_or_wrong_is_named(
    control: Control, repo, good_files, forge: Forge
) -> None:  # type: ignore[no-untyped-def]
    await control.repositories.add(shop(f"{forge.url}/tasks.git"), "anna")
    with pytest.raises(NotFound, match=r"model/weights\.bin points to 32000 bytes .* nowhere"):
        await import_pointer(control, repo, good_files, "shop")
    forge.large[hashlib.sha256(MODEL).hexdigest()] = MODEL[:-1] + b"?"
    with pytest.raises(NotFound, match="has digest"):
        await import_pointer(control, repo, good_files, "shop")
    forge.large[hashlib.sha256(MODEL).hexdigest()] = MODEL * 2
    with pytest.raises(NotFound, match="more than the promised"):
        await import_pointer(control, repo, good_files, "shop")


class TestPlaces:
    @pytest.fixture
    def config(self, tmp_path: Path, forge: Forge) -> ControlConfig:
        (tmp_path / "large").mkdir()
        return ControlConfig(git=GitConfig(large_files=(str(tmp_path / "large"), f"{forge.url}/large")))

    @pytest.mark.parametrize("where", ["folder", "url"])
    async def test_a_large_file_comes_from_a_place_in_the_settings(  # type: ignore[no-untyped-def]
        self, control: Control, repo, good_files, tmp_path: Path, forge: Forge, where: str
    ) -> None:
        oid = hashlib.sha256(MODEL).hexdigest()
        if where == "folder":
            (tmp_path / "large" / oid).write_bytes(MODEL)
        else:
            forge.large[oid] = MODEL
        assert (await import_pointer(control, repo, good_files, str(repo.path))).sha256 == oid


def lose_database(store: Store) -> Path:
    """Nothing but the files beside it is left."""
    store.database.close()
    root = store.home.root
    for path in root.glob("control.db*"):
        path.unlink()
    return root


def book_of(store: Store, clock: FixedClock) -> EpochBook:
    return EpochBook(store.files, TrustBook(store.files, store.keyring, clock, TrustConfig()), clock, 1e6)


async def test_a_lost_database_is_made_anew_with_the_same_digests(  # type: ignore[no-untyped-def]
    control: Control, source, store, admin, clock
) -> None:
    await control.repositories.add(shop(source.path, auto_import=True), "anna")
    await control.repositories.sync("shop")
    await control.audiences.set_holdout(HoldoutWish("quiet", 1), "anna")
    await control.audiences.set_segment(SegmentWish("testers", 'group == "beta"'), "anna")
    await control.audiences.put_set("friends", ["d1", "d2"], "anna")
    stages = (StageWish(10, hold_s=600, ramp_s=1_000), StageWish(100))
    wishes = (
        CreateRelease("demo", "greeter", "1.0.0", 'device in set("friends")', terms=Terms(cap=5)),
        CreateRelease(
            "demo", "greeter", "1.1.0", 'segment("testers")', stages=stages, control_percent=50,
            guard=GuardWish(max_failure_rate=0.25),
            terms=Terms("01:00-05:00", 60.0, everyone=True, attempts=2, quarantine_s=60.0),
        ),
    )  # fmt: skip
    for wish in wishes:
        await control.releases.create(wish, "anna")
    clock.advance(400)  # the second is on its way to a tenth of the devices
    rows = await control.tasks.list()
    before = store.database.read_sync(releases.list_releases)
    epoch_before = store.files.epoch_path.read_bytes()
    root = lose_database(store)
    result = setup.rebuild(root, clock)
    assert (result.repositories, result.versions, result.releases, result.left_out) == (1, 2, 2, ())
    with pytest.raises(Conflict, match="is in use"):
        setup.rebuild(root, clock)
    with closing(Store.open(root)) as again:
        found = again.database.read_sync(versions.list_versions)
        assert {(row.version, row.manifest, row.state) for row in found} == {
            (row.version, row.manifest, "ready") for row in rows.versions
        }
        paused = {"state": "paused", "paused_ms": clock.wall_ms()}
        assert again.database.read_sync(releases.list_releases) == [replace(row, **paused) for row in before]
        published = open_published(again, TrustBook(again.files, again.keyring, clock, TrustConfig()))
        assert published is not None
        clock.advance(3_600)
        number = again.database.write_sync(lambda db: book_of(again, clock).compile_next(db, "go on"))
        assert number == published.info.epoch + 1
        newest = again.database.read_sync(releases.newest_epoch)
        assert newest is not None
        old, new = (decode(Snapshot, data) for data in (published.snapshot, newest.snapshot))
        assert (new.holdouts, new.segments, new.sets) == (old.holdouts, old.segments, old.sets)
        for was, now in zip(old.releases, new.releases, strict=True):
            assert was.ramp is None or now.share == was.ramp.share_at(paused["paused_ms"], was.share)
            assert replace(now, deltas=None, ramp=was.ramp, share=was.share) == replace(was, deltas=None)
        assert again.files.epoch_path.read_bytes() == epoch_before


async def test_a_policy_of_an_earlier_program_tells_the_stage_that_releases_are_in(  # type: ignore[no-untyped-def]
    control: Control, source, store, clock
) -> None:
    await control.repositories.add(shop(source.path, auto_import=True), "anna")
    await control.repositories.sync("shop")
    stages = (StageWish(10), StageWish(50, ramp_s=1_000), StageWish(100))
    created = await control.releases.create(CreateRelease("demo", "greeter", "1.0.0", stages=stages), "anna")
    await control.releases.act(created.release.id, "promote", "anna")
    was = store.database.read_sync(releases.list_releases)[0]
    store.database.write_sync(lambda db: db.execute("DELETE FROM epoch_plan"))
    clock.advance(1e6)  # the epoch is signed anew, without the plans
    assert store.database.write_sync(book_of(store, clock).sign_anew_if_due)
    book_of(store, clock).publish(store.database.read_sync(releases.newest_epoch))
    clock.advance(-1e6 + 500)
    root = lose_database(store)
    setup.rebuild(root, clock)
    with closing(Store.open(root)) as again:
        (row,) = again.database.read_sync(releases.list_releases)
        assert row.share_at(clock.wall_ms()) == was.share_at(clock.wall_ms()) == SHARE_ONE * 3 // 10
        assert [stage.share for stage in row.plan.stages] == [stage.share for stage in was.plan.stages]


async def test_what_simulations_came_to_is_not_lost_and_recordings_come_back_with_the_tag(  # type: ignore[no-untyped-def]
    control: Control, source, store, clock, config, converter, simulator, good_files
) -> None:
    recordings = {"simulations/simulations.toml": b"", "simulations/visit.jsonl": b"{}\n"}
    source.tag("greeter/2.0.0", "greeter", {**good_files, **recordings})
    await control.repositories.add(shop(source.path), "anna")
    await control.repositories.sync("shop")
    request = ImportRequest("shop", "greeter", "2.0.0")
    await control.tasks.import_version(request, "anna")
    root = lose_database(store)
    setup.rebuild(root, clock)
    with closing(Store.open(root)) as again:
        anew = create_control(config, clock=clock, store=again, convert=converter, simulate=simulator)
        await anew.repositories.sync("shop")
        found = await anew.tasks.simulation("demo", "greeter", "2.0.0")
        assert (found.result.passed, found.result.smoked, len(found.result.cells)) == (True, False, 1)
        with pytest.raises(Conflict, match=r"recordings of demo/greeter 2\.0\.0 were lost"):
            await anew.tasks.simulate("demo", "greeter", "2.0.0", "anna")
        assert not (await anew.tasks.import_version(request, "anna")).created
        await anew.tasks.simulate("demo", "greeter", "2.0.0", "anna")
        assert recordings.items() <= simulator.seen[-1].items()


async def test_what_is_not_whole_is_left_out_and_said(control: Control, source, store) -> None:  # type: ignore[no-untyped-def]
    await control.repositories.add(shop(source.path, auto_import=True), "anna")
    await control.repositories.sync("shop")
    detail = await control.tasks.show("demo", "greeter", "1.1.0")
    only = next(file for file in detail.files if file.path == "main.py")
    store.files.path("blob", only.sha256).unlink()
    result = setup.rebuild(lose_database(store), FixedClock())
    assert result.versions == 1
    assert only.sha256[:12] in result.left_out[0]


async def test_over_http(admin, source) -> None:  # type: ignore[no-untyped-def]
    body = {"name": "shop", "url": str(source.path), "scenario": "demo", "auto_import": True}
    assert (await admin.post("/api/v1/repositories", json=body)).status_code == 201
    answer = await admin.post("/api/v1/repositories/shop/sync")
    assert answer.json()["imported"] == ["greeter/1.0.0", "greeter/1.1.0"]
    (row,) = (await admin.get("/api/v1/repositories")).json()["repositories"]
    assert row["tags"] == 3
    assert (await admin.post("/api/v1/repositories/shop/remove")).status_code == 200
    assert (await admin.post("/api/v1/repositories/shop/sync")).status_code == 404
