"""The real server process on loopback: push, static files, tunnel, bad input, stopping and dying."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pygit2
import pytest
import trio
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection, wrap_client_stream

from walle_shared.protocol.codec import encode
from walle_shared.protocol.messages import EpochInfo
from walle_shared.protocol.tunnel import (
    Deflater,
    Frame,
    FrameKind,
    Hello,
    Record,
    TunnelClass,
    decode_frame,
    encode_frame,
)
from walle_shared.signing import SigningKey, open_envelope, sha256_hex
from walle_shared.trust.roles import POLICY
from walle_support.servers import free_port
from walle_support.trust import believe

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PROGRAM = [sys.executable, "-m", "walle_control"]
BIG = bytes(range(256)) * 4096  # 1 MiB

TASK_TOML = b"""
[task]
scenario = "demo"
name = "greeter"

[[triggers]]
ids = ["page:home.exit"]

[uploads.digit_read]
digit = "integer"
"""


class Server:
    """A server process on a data folder; may be started again."""

    def __init__(self, data: Path, *settings: str) -> None:
        self.data = data
        subprocess.run(
            [*PROGRAM, "init", "--data", str(data), "--json"], check=True, capture_output=True, timeout=30
        )
        self.token = (data / "admin.token").read_text().strip()
        self.settings = dict(setting.split("=", 1) for setting in settings)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.log = (self.data / "log.txt").open("ab")
        self.process = subprocess.Popen(
            [*PROGRAM, "serve", "--data", str(self.data), "--port", "0"],
            env={**os.environ, **self.settings},
            stderr=self.log,
        )
        address = self.data / "address.json"
        deadline = time.monotonic() + 20
        while not (address.exists() and json.loads(address.read_text())["pid"] == self.process.pid):
            assert self.process.poll() is None, (self.data / "log.txt").read_text()
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.02)
        self.url = json.loads(address.read_text())["url"]

    def end(self, sign: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(sign)
        code = self.process.wait(timeout=25)
        self.log.close()
        self.process = None
        return code

    def client(self) -> httpx.Client:
        return httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {self.token}"}, timeout=10, trust_env=False
        )

    def post(self, path: str, **body: Any) -> Any:
        with self.client() as client:
            response = client.post(f"/api/v1/{path}", json=body)
        assert response.is_success, response.text
        return response.json()

    def get(self, path: str) -> Any:
        with self.client() as client:
            response = client.get(f"/api/v1/{path}")
        assert response.is_success, response.text
        return response.json()

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PROGRAM, *words, "--data", str(self.data)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def enrol(self, **profile: str) -> Device:
        token = self.post("enrol-tokens")["token"]
        key = SigningKey.generate()
        body = {"token": token, "public_key": key.public.raw_hex, "profile": profile}
        response = httpx.post(f"{self.url}/d/v1/enrol", json=body, trust_env=False)
        assert response.status_code == 200, response.text
        return Device(self, response.json()["device_id"], response.json()["credential"])


@dataclass
class Device:
    server: Server
    id: str
    credential: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.credential}"}

    def report(self, *reports: dict[str, Any]) -> Any:
        response = httpx.post(
            f"{self.server.url}/d/v1/reports",
            json={"reports": reports},
            headers=self.headers,
            trust_env=False,
        )
        assert response.status_code == 200, response.text
        return response.json()

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[EventReader]:
        host, port = self.server.url.removeprefix("http://").split(":")
        async with await trio.open_tcp_stream(host, int(port)) as connection:
            head = f"GET /d/v1/stream HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
            await connection.send_all(f"{head}Authorization: Bearer {self.credential}\r\n\r\n".encode())
            yield EventReader(connection)

    @asynccontextmanager
    async def tunnel(self, incarnation: str) -> AsyncIterator[WebSocketConnection]:
        host, port = self.server.url.removeprefix("http://").split(":")
        headers = [(b"authorization", self.headers["Authorization"].encode())]
        # The stream is ours to close: the client library leaves it open when the peer hangs up.
        async with await trio.open_tcp_stream(host, int(port)) as stream, trio.open_nursery() as nursery:
            websocket = await wrap_client_stream(nursery, stream, host, "/d/v1/tunnel", extra_headers=headers)
            hello = Frame(FrameKind.HELLO, TunnelClass.REALTIME, 1, encode(Hello(incarnation)))
            await websocket.send_message(encode_frame(hello))
            yield websocket
            await websocket.aclose()


class EventReader:
    """Server-sent events off a bare connection; the lines of HTTP itself are not events and are skipped."""

    def __init__(self, connection: trio.SocketStream) -> None:
        self._connection = connection
        self._rest = b""

    def __aiter__(self) -> EventReader:
        return self

    async def __anext__(self) -> tuple[str, Any]:
        name = ""
        while True:
            line = await self._line()
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                return name, json.loads(line.removeprefix("data: "))
            elif line.startswith(":"):
                return "heartbeat", None

    async def _line(self) -> str:
        while b"\n" not in self._rest:
            data = await self._connection.receive_some()
            if not data:
                raise StopAsyncIteration
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode().rstrip("\r")


def report(release: str, number: int, outcome: str = "success", error_class: str = "none") -> dict[str, Any]:
    return {
        "report_id": f"rep-{number}",
        "release_id": release,
        "task": "greeter",
        "version": "1.0.0",
        "stage": "run",
        "outcome": outcome,
        "attempt": number,
        "at_ms": 1,
        "duration_ms": 1.0,
        "error_class": error_class,
    }


def data_frame(deflater: Deflater, seq: int, digit: int) -> bytes:
    record = Record("demo", "greeter", "1.0.0", "r1", "digit_read", 1_000 + seq, {"digit": digit})
    return encode_frame(Frame(FrameKind.DATA, TunnelClass.BATCH, seq, deflater.compress(encode(record))))


async def binary(websocket: WebSocketConnection) -> bytes:
    message: bytes | str = await websocket.get_message()
    assert isinstance(message, bytes)
    return message


async def acknowledged(websocket: WebSocketConnection, seq: int) -> None:
    with trio.fail_after(5):
        while True:
            frame = decode_frame(await binary(websocket))
            assert frame.kind is FrameKind.ACK
            if frame.seq == seq:
                return


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("control")


@pytest.fixture(scope="module")
def repository(folder: Path) -> Path:
    """A repository whose tags greeter/1.0.0 and greeter/1.1.0 hold a small task with one large file."""
    path = folder / "tasks.git"
    repo = pygit2.init_repository(str(path), bare=True)
    author = pygit2.Signature("Test", "test@example.org", 1_700_000_000, 0)
    for version in ("1.0.0", "1.1.0"):
        index = pygit2.Index()
        files = {
            "task.toml": TASK_TOML,
            "main.py": f"def run(): return {version!r}\n".encode(),
            "data.bin": BIG,
        }
        for name, data in files.items():
            index.add(
                pygit2.IndexEntry(f"greeter/{name}", repo.create_blob(data), pygit2.enums.FileMode.BLOB)
            )
        commit = repo.create_commit(None, author, author, version, index.write_tree(repo), [])
        repo.references.create(f"refs/tags/greeter/{version}", commit)
    return path


@pytest.fixture(scope="module")
def server(folder: Path, repository: Path) -> Iterator[Server]:
    """One running server that every test of this file that does not end it may share."""
    server = Server(folder / "shared", "WALLE_CONTROL_STREAM__HEARTBEAT_S=0.3")
    server.start()
    server.post("tasks", repository=str(repository), task="greeter", version="1.0.0")
    yield server
    if server.process is not None:
        server.end(signal.SIGKILL)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "own")
    server.start()
    yield server
    if server.process is not None:
        server.end(signal.SIGKILL)


def wish(**changes: Any) -> bytes:
    return json.dumps({"scenario": "demo", "task": "greeter", "version": "1.0.0", **changes}).encode()


def release(server: Server, **changes: Any) -> str:
    return str(server.post("releases", **json.loads(wish(**changes)))["release"]["id"])


# -- push ---------------------------------------------------------------------------------------------


async def test_push_tells_the_current_epoch_and_then_each_new_one_at_once(server: Server) -> None:
    device = server.enrol()
    async with device.stream() as events:
        name, now = await anext(events)
        assert name == "epoch"
        started = time.perf_counter()
        await trio.to_thread.run_sync(release, server)
        name, data = await anext(events)
        while name == "heartbeat":
            name, data = await anext(events)
        assert data["epoch"] > now["epoch"]
        assert time.perf_counter() - started < 2.0  # request, commit, publish and push together


async def test_quiet_streams_beat(server: Server) -> None:
    async with server.enrol().stream() as events:
        await anext(events)
        with trio.fail_after(5):
            assert (await anext(events))[0] == "heartbeat"


async def test_twenty_releases_in_a_row_reach_a_slow_reader_as_the_newest_epoch(server: Server) -> None:
    async with server.enrol().stream() as events:
        await anext(events)
        ids = [await trio.to_thread.run_sync(release, server) for _ in range(20)]
        newest = (await trio.to_thread.run_sync(server.get, "epoch"))["epoch"]
        with trio.fail_after(5):
            data = None
            while data is None or data["epoch"] != newest:
                _, data = await anext(events)
    assert len(set(ids)) == 20


# -- static files -------------------------------------------------------------------------------------


def test_epoch_is_signed_conditional_and_names_a_snapshot_that_names_manifests(server: Server) -> None:
    released = release(server)
    with server.client() as client:
        answer = client.get("/s/epoch.json")
        info = open_envelope(EpochInfo, "epoch", answer.content, believe(server.data).signatures_of(POLICY))
        again = client.get("/s/epoch.json", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        snapshot = client.get(f"/s/snapshot/{info.snapshot.sha256}")
        assert sha256_hex(snapshot.content) == info.snapshot.sha256
        assert "immutable" in snapshot.headers["cache-control"]
        newest = max(snapshot.json()["releases"], key=lambda r: r["rank"])
        assert newest["id"] == released
        manifest = client.get(f"/s/manifest/{newest['manifest']['sha256']}")
        assert sha256_hex(manifest.content) == newest["manifest"]["sha256"]
        release(server)
        changed = client.get("/s/epoch.json", headers={"If-None-Match": answer.headers["etag"]})
        assert changed.status_code == 200


def test_a_broken_download_resumes_where_it_stopped(server: Server) -> None:
    path = f"/s/blob/{sha256_hex(BIG)}"
    with server.client() as client:
        head = client.get(path, headers={"Range": "bytes=0-99999"})
        assert head.status_code == 206
        etag = head.headers["etag"]
        assert not etag.startswith("W/")
        rest = client.get(path, headers={"Range": "bytes=100000-", "If-Range": etag})
        assert rest.status_code == 206
        assert rest.headers["content-range"] == f"bytes 100000-{len(BIG) - 1}/{len(BIG)}"
        assert head.content + rest.content == BIG
        other = client.get(path, headers={"Range": "bytes=100000-", "If-Range": '"other"'})
        assert (other.status_code, len(other.content)) == (200, len(BIG))
        assert client.get(path, headers={"Range": f"bytes={len(BIG)}-"}).status_code == 416
        assert client.get(path, headers={"If-None-Match": etag}).status_code == 304


@pytest.mark.parametrize(
    "path", ["blob/" + "0" * 64, "blob/../../control.db", "keys/" + "0" * 64, "blob/short"]
)
def test_files_that_are_not_published_are_not_served(server: Server, path: str) -> None:
    with server.client() as client:
        response = client.get(f"/s/{path}")
    assert response.status_code in (400, 404)
    assert response.headers["content-type"] == "application/problem+json"


# -- reports and the guard ----------------------------------------------------------------------------


async def test_failing_release_is_rolled_back_by_itself_and_pushed(server: Server) -> None:
    device = server.enrol()
    released = release(server, guard={"min_reports": 3, "max_failure_rate": 0.2})
    async with device.stream() as events:
        await anext(events)
        device.report(report(released, 1, "failure", "runtime"), report(released, 2, "failure", "network"))
        held = server.get(f"releases/{released}")
        assert (held["release"]["state"], held["verdict"]["decision"]) == ("live", "hold")
        device.report(report(released, 3), report(released, 4, "failure", "runtime"))
        with trio.fail_after(5):
            while (await anext(events))[0] != "epoch":
                pass
    shown = server.get(f"releases/{released}")
    assert shown["release"]["state"] == "rolled_back"
    decision = shown["history"][-1]
    assert (decision["actor"], decision["event"]) == ("guard", "rollback")
    assert decision["evidence"]["attempts"] == 3
    assert decision["evidence"]["failures"] == 2
    assert "2 of 3 runs failed" in server.command("release", "show", released).stdout


def test_reports_sent_twice_count_once(server: Server) -> None:
    device = server.enrol()
    released = release(server)
    batch = [report(released, 1), report(released, 2)]
    assert device.report(*batch) == {"accepted": 2, "duplicates": 0}
    assert device.report(*batch) == {"accepted": 0, "duplicates": 2}
    assert [count["n"] for count in server.get(f"releases/{released}")["counts"]] == [2]


# -- the tunnel ---------------------------------------------------------------------------------------


async def test_tunnel_acknowledges_what_it_stored_and_drops_duplicates(server: Server) -> None:
    device = server.enrol()
    async with device.tunnel("inc-a") as websocket:
        deflater = Deflater()
        for seq in (1, 2, 3):
            await websocket.send_message(data_frame(deflater, seq, digit=seq))
        await acknowledged(websocket, 3)
    async with device.tunnel("inc-a") as websocket:  # the device did not see the ack: it sends 2 and 3 again
        await acknowledged(websocket, 3)
        deflater = Deflater()
        for seq in (2, 3, 4):
            await websocket.send_message(data_frame(deflater, seq, digit=seq))
        await acknowledged(websocket, 4)
    page = server.get(f"features?task=greeter&name=digit_read&device={device.id}")
    assert [feature["fields"]["digit"] for feature in page["features"]] == [1, 2, 3, 4]
    assert {feature["device_id"] for feature in page["features"]} == {device.id}
    assert server.get(f"features?device={device.id}&after={page['next']}")["features"] == []


async def test_features_are_followed_from_the_command_line(server: Server) -> None:
    device = server.enrol()
    words = ("features", "tail", "demo/greeter", "--device", device.id, "--after", "0", "--count", "2")
    with trio.fail_after(60):
        async with device.tunnel("inc-t") as websocket:
            deflater = Deflater()
            for seq in (1, 2, 3):
                await websocket.send_message(data_frame(deflater, seq, digit=seq))
            await acknowledged(websocket, 3)
            said = await trio.to_thread.run_sync(server.command, *words, "--json")
    assert [json.loads(line)["fields"] for line in said.stdout.splitlines()] == [{"digit": 1}, {"digit": 2}]
    assert server.command(*words).stdout.splitlines()[1].endswith("digit_read digit=2")


async def test_a_poll_does_not_hold_a_server_that_stops(own_server: Server) -> None:
    async with trio.open_nursery() as nursery:
        url = f"{own_server.url}/api/v1/features"
        headers = {"Authorization": f"Bearer {own_server.token}"}
        answers: list[httpx.Response] = []

        async def poll() -> None:
            async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
                answers.append(await client.get(url, params={"wait_s": 50}, headers=headers))

        nursery.start_soon(poll)
        await trio.sleep(0.3)  # the poll is there, or comes to a server that stops: both must end
        started = time.monotonic()
        assert await trio.to_thread.run_sync(own_server.end, signal.SIGTERM) == 0
        assert time.monotonic() - started < 9
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "garbage", [b"", b"\x00" * 10, b"\xff" * 300, encode_frame(Frame(FrameKind.ACK, TunnelClass.BATCH, 1))]
)
async def test_garbage_closes_the_tunnel_and_nothing_else(server: Server, garbage: bytes) -> None:
    device = server.enrol()
    async with device.tunnel("inc-b") as websocket:
        await websocket.send_message(garbage)
        with trio.fail_after(5), pytest.raises(ConnectionClosed) as closed:
            await websocket.get_message()
        assert closed.value.reason is not None
        assert closed.value.reason.code == 1008
    async with device.tunnel("inc-b") as websocket:
        await websocket.send_message(data_frame(Deflater(), 1, digit=1))
        await acknowledged(websocket, 1)


async def test_tunnel_refuses_strangers_before_it_opens(server: Server) -> None:
    stranger = Device(server, "d0", "wd1.d0.99999999999999.00")
    with pytest.RaisesGroup(ConnectionRejected) as refused:
        async with stranger.tunnel("inc"):
            pass
    rejection = refused.value.exceptions[0]
    assert isinstance(rejection, ConnectionRejected)
    assert rejection.status_code == 401
    assert json.loads(rejection.body or b"")["code"] == "unauthenticated"


# -- bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", "/d/v1/enrol", b"\xff\xfe", 400, "not JSON"),
        ("POST", "/d/v1/enrol", b"{}", 400, "token: is missing"),
        ("POST", "/d/v1/enrol", b'{"token":"x","public_key":"zz"}', 400, "public key must be 64 hex digits"),
        ("POST", "/d/v1/enrol", b"x" * (2 << 20), 413, "over the limit"),
        ("POST", "/api/v1/releases", b"[]", 400, "expected a table"),
        ("POST", "/api/v1/releases", wish(percent="1e-9"), 400, "percent"),
        ("POST", "/api/v1/releases", wish(predicate="a = 1"), 400, "cannot read '='"),
        ("POST", "/api/v1/releases", wish(version="7"), 404, "not imported"),
        ("POST", "/api/v1/releases", wish(guard={"min_reports": -1}), 400, "min_reports must not"),
        ("POST", "/api/v1/releases/r0/rollback", b"", 404, "no release"),
        ("GET", "/api/v1/features?after=x", b"", 400, "after='x'"),
        ("GET", "/api/v1/features?colour=red", b"", 400, "colour is not known"),
        ("GET", "/nowhere", b"", 404, "/nowhere"),
        ("DELETE", "/api/v1/status", b"", 405, "DELETE"),
    ],
)  # fmt: skip
def test_bad_requests_get_a_problem_that_names_the_thing(
    server: Server, method: str, path: str, body: bytes, status: int, words: str
) -> None:
    with server.client() as client:
        response = client.request(method, path, content=body)
    problem = response.json()
    assert (response.status_code, problem["status"]) == (status, status)
    assert response.headers["content-type"] == "application/problem+json"
    assert words in problem["detail"]


@pytest.mark.parametrize("path", ["/api/v1/status", "/api/v1/releases", "/d/v1/stream"])
@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic abc", "Bearer"])
def test_wrong_tokens_are_refused(server: Server, path: str, header: str | None) -> None:
    headers = {"Authorization": header} if header else {}
    response = httpx.get(f"{server.url}{path}", headers=headers, trust_env=False)
    assert response.status_code == 401
    assert response.json()["code"] == "unauthenticated"


def test_revoked_device_is_refused_at_once(server: Server) -> None:
    device = server.enrol()
    server.post(f"devices/{device.id}/revoke")
    response = httpx.get(f"{server.url}/d/v1/stream", headers=device.headers, trust_env=False)
    assert (response.status_code, response.json()["code"]) == (403, "revoked")


# -- stopping and dying -------------------------------------------------------------------------------


async def test_stopping_says_goodbye_to_streams_and_tunnels(own_server: Server) -> None:
    device = own_server.enrol()
    async with device.stream() as events, device.tunnel("inc") as websocket:
        await anext(events)
        await websocket.send_message(data_frame(Deflater(), 1, digit=1))
        await acknowledged(websocket, 1)
        started = time.monotonic()
        code = await trio.to_thread.run_sync(own_server.end, signal.SIGTERM)
        assert code == 0
        assert time.monotonic() - started < 3  # nobody had to be waited for
        ((name, goodbye),) = [event async for event in events]
        assert name == "goodbye"
        assert 2.0 <= goodbye["retry_s"] < 2.1  # alone: nobody to be kept apart from
        assert decode_frame(await binary(websocket)).kind is FrameKind.GOODBYE
        with pytest.raises(ConnectionClosed) as closed:
            await websocket.get_message()
        assert closed.value.reason is not None
        assert closed.value.reason.code == 1001
    assert not (own_server.data / "address.json").exists()


async def test_nothing_acknowledged_is_lost_when_the_server_is_killed(
    own_server: Server, repository: Path
) -> None:
    server = own_server
    device = server.enrol(group="beta")
    server.post("tasks", repository=str(repository), task="greeter", version="1.0.0")
    released = release(server, predicate='group == "beta"')
    device.report(report(released, 1))
    async with device.tunnel("inc") as websocket:
        deflater = Deflater()
        for seq in range(1, 9):
            await websocket.send_message(data_frame(deflater, seq, digit=seq))
        await acknowledged(websocket, 8)
        server.end(signal.SIGKILL)
    before = (server.data / "static" / "epoch.json").read_bytes()
    (server.data / "static" / "epoch.json").unlink()  # as if the crash had come before it was published
    server.start()
    assert (server.data / "static" / "epoch.json").read_bytes() == before
    assert len(server.get("features")["features"]) == 8
    assert server.get(f"releases/{released}")["verdict"]["evidence"]["arms"]["treatment"]["heard"] == 1
    assert device.report(report(released, 1)) == {"accepted": 0, "duplicates": 1}
    async with device.tunnel("inc") as websocket:
        await acknowledged(websocket, 8)  # told at once what need not be sent again


def test_a_stalled_download_does_not_hold_the_server(tmp_path: Path) -> None:
    server = Server(tmp_path / "own", "WALLE_CONTROL_SERVER__GRACEFUL_S=0.5")
    server.start()
    blob = server.data / "static" / "blob"
    data = os.urandom(32 << 20)
    (blob / sha256_hex(data)).write_bytes(data)
    with server.client() as client, client.stream("GET", f"/s/blob/{sha256_hex(data)}") as response:
        next(response.iter_raw(1024))
        started = time.monotonic()
        server.end(signal.SIGTERM)
        assert time.monotonic() - started < 15


def test_second_server_on_the_same_port_says_so(server: Server, tmp_path: Path) -> None:
    other = Server(tmp_path / "other")
    port = server.url.rpartition(":")[2]
    result = other.command("serve", "--port", port)
    assert result.returncode == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in result.stderr


# -- the operator's commands --------------------------------------------------------------------------


def test_commands_do_the_whole_job(own_server: Server, repository: Path) -> None:
    server = own_server

    def run(*arguments: str) -> Any:
        result = server.command(*arguments, "--json")
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    assert run("import", "--repo", str(repository), "greeter", "1.1.0")["created"]
    assert run("task", "list")["versions"][0]["version"] == "1.1.0"
    created = run(
        "release", "create", "demo/greeter", "1.1.0", "--where", 'group == "beta"', "--percent", "12.5"
    )
    released = created["release"]["id"]
    assert created["percent"] == "12.5"
    device = server.enrol(group="alpha")
    explained = run("release", "explain", device.id)["releases"][0]
    assert (explained["chosen"], explained["matches"]) == (False, False)
    assert run("release", "explain", device.id, "--profile", "group=beta")["releases"][0]["matches"]
    assert run("release", "stop", released, "--reason", "lunch")["release"]["state"] == "stopped"
    assert run("epoch")["snapshot"]["releases"] == []
    assert run("release", "resume", released)["release"]["state"] == "live"
    assert run("release", "rollback", released)["history"][-1]["actor"] == "admin"
    refused = server.command("release", "stop", released)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith(f"walle-control: error: release {released} is rolled_back")
    assert run("device", "list")["devices"][0]["profile"] == {"group": "alpha"}
    assert run("status")["task_versions"] == 1
    for table in (
        ("release", "list"),
        ("task", "list"),
        ("device", "list"),
        ("features", "list"),
        ("sinks",),
        ("ingest",),
        ("status",),
        *(("task", name, "demo/greeter", "1.1.0") for name in ("history", "diff", "approval")),
    ):
        assert server.command(*table).returncode == 0


def test_fsck_finds_a_damaged_file(own_server: Server, repository: Path) -> None:
    own_server.post("tasks", repository=str(repository), task="greeter", version="1.0.0")
    assert own_server.command("fsck").returncode == 0
    path = own_server.data / "static" / "blob" / sha256_hex(BIG)
    path.write_bytes(b"rotten")
    result = own_server.command("fsck", "--json")
    assert result.returncode == 1
    assert json.loads(result.stdout)["damaged"] == [f"blob/{path.name}"]


def test_commands_without_a_server_say_what_to_do(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WALLE_CONTROL")}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PROGRAM, *arguments], capture_output=True, text=True, timeout=30, check=False, env=environment
        )

    assert "give --url and --token" in run("status").stderr
    assert "start it with 'walle-control serve" in run("status", "--data", str(tmp_path)).stderr
    gone = run("status", "--url", "http://127.0.0.1:9", "--token", "x")
    assert (gone.returncode, "does not answer" in gone.stderr) == (1, True)
    assert "run 'walle-control init --data" in run("serve", "--data", str(tmp_path)).stderr
    assert run("nonsense").returncode == 2


@pytest.mark.slow_session
def test_repositories_and_own_files_by_command_and_a_lost_database(
    own_server: Server, repository: Path, tmp_path: Path
) -> None:
    server = own_server
    added = server.command(
        "repo", "add", "shop", str(repository), "--scenario", "demo", "--auto-import", "--json"
    )
    assert added.returncode == 0, added.stderr
    imported = json.loads(added.stdout)["imported"]
    assert imported
    assert "shop" in server.command("repo", "list").stdout
    assert json.loads(server.command("repo", "sync", "shop", "--json").stdout)["imported"] == []
    task, _, version = imported[0].partition("/")
    again = server.command("import", "--repo", "shop", task, version)
    assert "nothing changed" in again.stderr, again.stderr
    release(server, version=version)

    device = server.enrol()
    letter, ids = tmp_path / "letter.txt", tmp_path / "ids.txt"
    letter.write_text("for you")
    ids.write_text(f"{device.id}\nnobody\n")
    given = server.command("exclusive", "give", "demo/greeter", str(letter), "--devices", str(ids))
    assert (given.returncode, given.stdout.strip()) == (1, "1 devices have it now")
    assert "nobody" in given.stderr
    assert "letter.txt" in server.command("exclusive", "list", "demo/greeter").stdout
    with server.client() as client:
        offer = client.get("/d/v1/exclusive/demo/greeter", headers=device.headers).json()
        (url,) = offer["urls"].values()
        assert client.get(url, headers={"Range": "bytes=1-"}).status_code == 206
    taken = server.command("exclusive", "take", "demo/greeter", "letter.txt", "--device", device.id)
    assert taken.returncode == 0, taken.stderr

    before = server.get("tasks")["versions"]
    epoch = server.get("epoch")["epoch"]
    assert server.command("rebuild").returncode == 1  # it is in use
    server.end(signal.SIGTERM)
    for path in server.data.glob("control.db*"):
        path.unlink()
    rebuilt = server.command("rebuild", "--json")
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert json.loads(rebuilt.stdout)["releases"] == 1
    server.start()
    after = server.get("tasks")["versions"]
    assert {row["manifest"]["sha256"] for row in after} == {row["manifest"]["sha256"] for row in before}
    assert server.get("epoch")["epoch"] >= epoch
    assert "shop" in server.command("repo", "list").stdout
    assert server.command("repo", "sync", "shop").returncode == 0


@pytest.mark.slow_session
@pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx")
def test_nginx_sends_sealed_files_to_whom_the_url_was_made_for(repository: Path, tmp_path: Path) -> None:
    server = Server(tmp_path / "own", "WALLE_CONTROL_EXCLUSIVE__ACCEL_PREFIX=/_sealed/")
    server.start()
    port = free_port()
    settings = tmp_path / "nginx.conf"
    settings.write_text(
        f"daemon off; pid {tmp_path}/nginx.pid; error_log {tmp_path}/error.log; worker_processes 1;"
        f"{'user root;' if os.geteuid() == 0 else ''} events {{}} http {{ access_log off;"
        f" client_body_temp_path {tmp_path}/body; proxy_temp_path {tmp_path}/proxy;"
        f" fastcgi_temp_path {tmp_path}/f; uwsgi_temp_path {tmp_path}/u; scgi_temp_path {tmp_path}/s;"
        f" server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {server.url}; }}"
        f" location /_sealed/ {{ internal; alias {server.data}/exclusive/blob/; }} }} }}\n"
    )
    nginx = subprocess.Popen(["nginx", "-p", str(tmp_path), "-c", str(settings)], stderr=subprocess.DEVNULL)
    try:
        device = server.enrol()
        content = base64.b64encode(BIG).decode()
        body = {"path": "big.bin", "content": content, "devices": [device.id]}
        with server.client() as client:
            given = client.post("/api/v1/exclusive/demo/greeter/give", json=body).json()
        assert given["devices"] == 1
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10) as client:
            deadline = time.monotonic() + 20
            while True:
                try:
                    offer = client.get("/d/v1/exclusive/demo/greeter", headers=device.headers).json()
                    break
                except httpx.TransportError:
                    assert time.monotonic() < deadline, (tmp_path / "error.log").read_text()
                    time.sleep(0.05)
            ((sha256, url),) = offer["urls"].items()
            whole = client.get(url)
            assert sha256_hex(whole.content) == sha256
            assert whole.headers["Server"].startswith("nginx")
            part = client.get(url, headers={"Range": "bytes=1000-1009"})
            assert (part.status_code, part.content) == (206, whole.content[1000:1010])
            assert client.get(f"/_sealed/{sha256}").status_code == 404
            assert client.get(url + "0").status_code == 403
    finally:
        nginx.terminate()
        nginx.wait(timeout=20)
        server.end(signal.SIGKILL)
