"""Everything bad that can come in from outside, against the real programs: each is named, and they go on."""

from __future__ import annotations

import json
import re
import socket
import sqlite3
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute

from walle_control import setup
from walle_control.app import ADMIN_API, create_app
from walle_control.config import ControlConfig
from walle_control.console.frame import COOKIE
from walle_control.console.frame import ROOT as CONSOLE
from walle_control.db.store import Store
from walle_control.features.devices import credentials
from walle_engine.convert import convert
from walle_shared.clock import SystemClock
from walle_shared.ids import DeviceId
from walle_shared.limits import EVENT_MAX_BYTES
from walle_shared.protocol.codec import decode
from walle_shared.protocol.messages import EpochInfo, Problem, renewal_bytes
from walle_shared.protocol.version import DEVICE_API
from walle_shared.signing import SigningKey, open_envelope, sign_envelope
from walle_shared.trust.roles import POLICY
from walle_support.live import SCENARIO, LiveControl, LiveDevice, commit_tasks, task_folder, wait_for
from walle_support.trust import believe, keys_of

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
DIGITS_ONNX = ROOT / "examples" / "digit_reader" / "task" / "model" / "digits.onnx"

#: Fires at the end of every visit to the shop and says which visit it was.
SHOP = """
    from walle_task import events, tunnel

    def run():
        tunnel.send("seen", {"what": events.visit().visit_id})
    """

SAYS_VERSION = """
    from walle_task import tunnel

    def run():
        tunnel.send("seen", {{"what": "{version}"}})
    """


@dataclass(frozen=True)
class Bad:
    """A script that ends badly, and what is reported of it."""

    script: str
    kind: str
    message: str
    toml: str = ""


BAD_TASKS: Mapping[str, Bad] = {
    "raises": Bad(
        """
        def run():
            raise ValueError("no such shelf")
        """,
        "exception",
        "ValueError: no such shelf",
    ),
    "loops": Bad(
        """
        def run():
            while True:
                pass
        """,
        "timeout",
        "passed its limit of 0.2 s",
        "[limits]\nwall_s = 0.2\n",
    ),
    "nonsense": Bad(
        """
        def run():
            return {"scores": [1.0, {2, 3}]}
        """,
        "invalid",
        "the returned value['scores'][1] has type set",
    ),
    "hungry": Bad(
        """
        def run():
            kept = []
            while True:
                kept.append(bytes(1 << 20))
        """,
        "memory",
        "16777216 bytes of memory",
        "[limits]\nmemory_bytes = 16777216\n",
    ),
    "verbose": Bad(
        """
        def run():
            return ["word"] * 1000
        """,
        "output",
        "its limit is 2000",
        "[limits]\noutput_bytes = 2000\n",
    ),
    "leaky": Bad(
        """
        from walle_task import tunnel

        FIELD = "address"  # a name that only a run can know

        def run():
            tunnel.send("seen", {"what": "x", FIELD: "12 Long Lane"})
        """,
        "denied",
        "seen.address is not declared in [uploads.seen]",
    ),
    "stray": Bad(
        """
        def run():
            socket = __import__("socket")  # which no reader of imports sees
            socket.create_connection(("localhost", 80))
        """,
        "denied",
        "a task has no network; use walle_task.tunnel",
    ),
    "headless": Bad(
        """
        def run():
            pass

        globals()["run"] = 3
        """,
        "invalid",
        "main.py has no function 'run'",
    ),
}


@dataclass(frozen=True)
class World:
    """One control plane, one device, and a repository of good and bad tasks."""

    control: LiveControl
    device: LiveDevice
    device_id: DeviceId
    repo: Path

    def visit(self, visit_id: str) -> None:
        """Visit the shop and wait until the control plane has heard of it."""
        self.device.emit(shop_visit(visit_id))
        wait_for(f"visit {visit_id} to arrive", lambda: self.arrived(visit_id)[visit_id] or None)

    def arrived(self, prefix: str) -> Counter[str]:
        """How often each visit whose id begins so has arrived."""
        seen = (row["fields"]["what"] for row in self.control.features("shop"))
        return Counter(visit for visit in seen if visit.startswith(prefix))

    def log_after(self, known: int, event: str) -> dict[str, Any]:
        """The first log line ``event`` beyond the first ``known`` lines, once there is one."""

        def look() -> dict[str, Any] | None:
            fresh = self.device.log_lines()[known:]
            return next((line for line in fresh if line["event"] == event), None)

        return wait_for(f"the agent to log {event}", look)


def shop_visit(visit_id: str) -> list[dict[str, Any]]:
    visit = {"page_id": "shop", "visit_id": visit_id}
    return [
        {"kind": "page_enter", "event_id": "page_enter", **visit},
        {"kind": "click", "event_id": "buy", **visit},
        {"kind": "page_exit", "event_id": "page_exit", **visit},
    ]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    repo = _make_repository(folder)
    control = LiveControl(folder)
    device = LiveDevice("phone", folder, {"group": "proof"})
    try:
        control.let_drafts_through()  # what a simulation finds, a device must bear
        control.start()
        enrolment = control.post("/enrol-tokens", {"uses": 1}).json()
        device.start(control.url, enrolment["trusted_root"], enrolment["token"])
        releases = []
        for name in ("shop", *BAD_TASKS):
            answer = control.import_task(repo, name)
            assert answer.status_code == 201, answer.text
            releases.append(control.release(name))
        device.await_ready()
        for release_id in releases:
            control.await_report(release_id, "install", "success")
        device_id = DeviceId(control.get("/devices")["devices"][0]["id"])
        yield World(control, device, device_id, repo)
    finally:
        device.stop()
        control.stop()
    # Whatever came in, no service fell over it.
    assert [line for line in device.log_lines() if line["event"] == "service_failed"] == []
    assert "Traceback" not in (folder / "control.log").read_text()


def _make_repository(folder: Path) -> Path:
    repo, sources = folder / "tasks", folder / "sources"
    tasks = {"shop": task_folder(sources, "shop", SHOP, trigger="page:shop.exit")}
    for name, bad in BAD_TASKS.items():
        tasks[name] = task_folder(sources, name, bad.script, toml=bad.toml)
    commit_tasks(repo, tasks, "1.0.0")
    return repo


# Events


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"scroll down", "not JSON"),
        (b'{"kind": "click"', "not JSON"),
        (b"\x00\xff\xfe\x80\x1b[2J", "not JSON"),
        (b"[" * 20_000, "not JSON"),
        (b'["click"]', "must be a JSON object"),
        (b'{"kind": "teleport"}', "event.kind must be one of"),
        (b'{"kind": "click", "colour": 1}', "event.colour is not known"),
        (b'{"kind": "click", "wall_ms": -1}', "event.wall_ms must be milliseconds since 1970"),
        (b'{"kind": "' + b"x" * EVENT_MAX_BYTES + b'"}', f"limit of {EVENT_MAX_BYTES} bytes"),
    ],
    ids=["prose", "cut", "binary", "deep", "list", "kind", "member", "time", "long"],
)  # fmt: skip
def test_a_malformed_event_is_answered_and_the_connection_stays(
    world: World, line: bytes, complaint: str
) -> None:
    visit_id = f"after-{zlib.crc32(line)}"
    with socket.socket(socket.AF_UNIX) as app:
        app.settimeout(10)
        app.connect(str(world.device.socket))
        app.sendall(line + b"\n")
        answer = json.loads(app.makefile("rb").readline())["error"]
        assert answer["code"] == "event"
        assert answer["line"] == 1
        assert complaint in answer["message"]
        app.sendall(b"".join(json.dumps(event).encode() + b"\n" for event in shop_visit(visit_id)))
        wait_for("the visit after it", lambda: world.arrived(visit_id)[visit_id] or None)


def test_half_a_line_before_the_app_closes_is_no_event(world: World) -> None:
    with socket.socket(socket.AF_UNIX) as app:
        app.settimeout(10)
        app.connect(str(world.device.socket))
        app.sendall(b'{"kind": "cl')
        app.shutdown(socket.SHUT_WR)
        answer = json.loads(app.makefile("rb").read())["error"]
    assert "cut off" in answer["message"]
    world.visit("after-half-a-line")


# Doors


def _routes(tmp_path: Path) -> list[tuple[str, str]]:
    """Method and path of every route of the server, straight from its route table."""
    setup.init(tmp_path, SystemClock())
    store = Store.open(tmp_path)
    try:
        table = create_app(ControlConfig(), clock=SystemClock(), store=store).routes
    finally:
        store.close()
    found: list[tuple[str, str]] = []
    for place, route in _flat(table):
        assert isinstance(route, Route | WebSocketRoute)
        method = "POST" if isinstance(route, Route) and "POST" in (route.methods or ()) else "GET"
        path = route.path.replace("{", "").replace("}", "")
        found.append((method, place + path))
    return found


def _flat(table: Iterable[BaseRoute]) -> Iterator[tuple[str, BaseRoute]]:
    """Every route with the path it is below of."""
    for route in table:
        if isinstance(route, Mount):
            yield from ((route.path + place, inner) for place, inner in _flat(route.routes))
        else:
            yield "", route


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    return _routes(tmp_path_factory.mktemp("routes") / "control")


def _ask(
    world: World, method: str, path: str, token: str | None, body: Mapping[str, Any] | None = None
) -> Problem:
    """Ask as nobody or as ``token``; the problem that comes back, which must be well formed."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    if path.endswith("/tunnel"):
        headers |= {"Connection": "upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        headers["Sec-WebSocket-Key"] = "AAAAAAAAAAAAAAAAAAAAAA=="
    answer = httpx.request(method, world.control.url + path, headers=headers, json=body, timeout=10)
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    problem = decode(Problem, answer.content)
    assert problem.status == answer.status_code
    return problem


def _credential_key(world: World) -> bytes:
    return bytes.fromhex((world.control.data / "keys" / "credential.key").read_text().strip())


def _good_credential(world: World) -> str:
    return credentials.issue(_credential_key(world), world.device_id, time.time_ns() // 1_000_000 + 60_000)


def test_no_admin_route_opens_to_a_wrong_token(world: World, routes: list[tuple[str, str]]) -> None:
    to_become_one = f"{ADMIN_API}/login"
    admin = [(m, path) for m, path in routes if path.startswith(ADMIN_API) and path != to_become_one]
    assert len(admin) >= 15
    for method, path in admin:
        for token in (None, "wadmin_" + "0" * 64, _good_credential(world)):
            problem = _ask(world, method, path, token, {} if method == "POST" else None)
            assert (problem.status, problem.code) == (401, "unauthenticated"), f"{method} {path} as {token}"
            assert "token" in problem.detail


def test_no_page_of_the_console_opens_without_a_session(world: World, routes: list[tuple[str, str]]) -> None:
    ways_in = {f"{CONSOLE}/signin{step}" for step in ("", "/begin", "/back")}
    open_to_all = {*ways_in, f"{CONSOLE}/static/name"}
    pages = [(m, path) for m, path in routes if path.startswith(CONSOLE) and path not in open_to_all]
    assert len(pages) >= 30
    with httpx.Client(base_url=world.control.url, timeout=10) as client:
        for method, path in pages:
            for cookies in ({}, {"Cookie": f"{COOKIE}={'0' * 64}"}, {"Cookie": f"{COOKIE}=\xe9"}):
                answer = client.request(method, path, headers={k: v.encode() for k, v in cookies.items()})
                away = answer.headers.get("location", "").startswith(f"{CONSOLE}/signin")
                assert answer.status_code == 401 or (answer.status_code == 303 and away), f"{method} {path}"


def test_no_device_route_opens_to_a_wrong_credential(world: World, routes: list[tuple[str, str]]) -> None:
    # Sealed files are behind signed URLs.
    open_to_all = {f"{DEVICE_API}/{name}" for name in ("enrol", "renew", "time", "sealed/sha256")}
    device = [
        (method, path) for method, path in routes if path.startswith(DEVICE_API) and path not in open_to_all
    ]
    assert len(device) >= 5
    key = _credential_key(world)
    expired = credentials.issue(key, world.device_id, 1)
    forged = credentials.issue(b"another key", world.device_id, 2**60)
    admin = (world.control.data / "admin.token").read_text().strip()
    revoked = _revoked_device(world)
    for method, path in device:
        body = {"reports": []} if method == "POST" else None
        for token in (None, "rubbish", "wd1.x.y.z", forged, admin):
            assert _ask(world, method, path, token, body).status == 401, f"{method} {path} as {token}"
        problem = _ask(world, method, path, expired, body)
        assert (problem.status, problem.code) == (401, "credential_expired"), f"{method} {path}"
        problem = _ask(world, method, path, revoked, body)
        assert (problem.status, problem.code) == (403, "revoked"), f"{method} {path}"
    world.visit("after-wrong-credentials")


def _enrol_body(token: str, key: SigningKey) -> dict[str, Any]:
    return {"token": token, "public_key": key.public.raw_hex, "profile": {"group": "guest"}}


def _revoked_device(world: World) -> str:
    """Credential of a device that enrolled and was revoked."""
    token = world.control.post("/enrol-tokens", {"uses": 1}).json()["token"]
    url = f"{world.control.url}{DEVICE_API}/enrol"
    device = httpx.post(url, json=_enrol_body(token, SigningKey.generate()), timeout=10).json()
    assert world.control.post(f"/devices/{device['device_id']}/revoke", {}).status_code == 200
    credential: str = device["credential"]
    return credential


def test_enrolment_needs_a_token_that_is_known_fresh_and_not_used_up(world: World) -> None:
    path, key = f"{DEVICE_API}/enrol", SigningKey.generate()
    assert "unknown" in _ask(world, "POST", path, None, _enrol_body("wenrol_guess", key)).detail
    stale = world.control.post("/enrol-tokens", {"uses": 1, "valid_s": 0.001}).json()["token"]
    time.sleep(0.01)
    problem = _ask(world, "POST", path, None, _enrol_body(stale, key))
    assert (problem.status, problem.code) == (403, "not_allowed")
    assert "expired" in problem.detail
    once = world.control.post("/enrol-tokens", {"uses": 1}).json()["token"]
    first = httpx.post(world.control.url + path, json=_enrol_body(once, key), timeout=10)
    assert first.status_code == 200
    assert "used up" in _ask(world, "POST", path, None, _enrol_body(once, SigningKey.generate())).detail


def test_renewal_needs_the_device_key(world: World) -> None:
    path, at_ms = f"{DEVICE_API}/renew", time.time_ns() // 1_000_000
    stranger = SigningKey.generate()
    signature = stranger.sign(renewal_bytes(world.device_id, at_ms))
    body = {"device_id": world.device_id, "at_ms": at_ms, "signature": signature}
    problem = _ask(world, "POST", path, None, body)
    assert (problem.status, problem.code) == (403, "signature")
    problem = _ask(world, "POST", path, None, {**body, "device_id": "d" + "0" * 20})
    assert (problem.status, problem.code) == (403, "unknown_device")


def test_a_client_that_leaves_in_the_middle_of_a_request_is_no_fault_of_the_server(world: World) -> None:
    url = httpx.URL(world.control.url)
    assert url.port is not None
    head = [
        f"POST {DEVICE_API}/reports HTTP/1.1",
        f"Host: {url.host}",
        f"Authorization: Bearer {_good_credential(world)}",
        "Content-Length: 1000",
    ]
    log = world.control.data.parent / "control.log"
    known = len(log.read_bytes())
    with socket.create_connection((url.host, url.port), timeout=10) as client:
        client.sendall("\r\n".join([*head, "", '{"reports": [']).encode())
        time.sleep(0.2)  # let the server begin to read the body
    world.visit("after-half-a-request")
    assert b"Traceback" not in log.read_bytes()[known:]


# Downloads and policy


def test_a_corrupt_blob_is_refused_and_installed_once_it_is_healed(world: World, tmp_path: Path) -> None:
    for version in ("1.0.0", "2.0.0"):
        script = SAYS_VERSION.format(version=version)
        source = {"swap": task_folder(tmp_path / version, "swap", script)}
        commit_tasks(world.repo, source, version)
        assert world.control.import_task(world.repo, "swap", version).status_code == 201
    world.control.await_report(world.control.release("swap", "1.0.0"), "install", "success")

    files = world.control.get(f"/tasks/{SCENARIO}/swap/2.0.0")["files"]
    digest = next(file["sha256"] for file in files if file["path"] == "main.py")
    blob = world.control.data / "static" / "blob" / digest
    whole = blob.read_bytes()
    blob.write_bytes(whole.replace(b"2.0.0", b"6.6.6"))
    second = world.control.release("swap", "2.0.0")
    refusal = world.control.await_report(second, "install", "failure")
    assert (refusal["error_class"], refusal["code"]) == ("install", "length_or_hash")
    assert digest[:12] in refusal["message"]
    assert _swap_says(world) == "1.0.0"

    blob.write_bytes(whole)
    world.control.await_report(second, "install", "success")
    assert _swap_says(world) == "2.0.0"
    assert {row["fields"]["what"] for row in world.control.features("swap")} == {"1.0.0", "2.0.0"}


def _swap_says(world: World) -> str:
    known = len(world.control.features("swap"))
    world.device.emit([{"kind": "custom", "event_id": "go_swap"}])
    rows = wait_for("swap to answer", lambda: world.control.features("swap")[known:] or None)
    answer: str = rows[0]["fields"]["what"]
    return answer


def _forge(world: World, how: str, present: bytes, older: bytes) -> bytes:
    keys = keys_of(world.control.data, POLICY)
    info = open_envelope(EpochInfo, "epoch", present, believe(world.control.data).signatures_of(POLICY))
    later = replace(info, epoch=info.epoch + 1, issued_ms=info.issued_ms + 1)
    match how:
        case "another key":
            return sign_envelope("epoch", later, [SigningKey.generate()])
        case "edited":
            envelope = json.loads(present)
            envelope["signed"]["epoch"] += 1
            return json.dumps(envelope).encode()
        case "another kind":
            return sign_envelope("time", later, keys)
        case "expired":
            return sign_envelope("epoch", replace(later, expires_ms=1), keys)
        case "older":
            return older
        case _:
            return b"<html>502 Bad Gateway</html>"


@pytest.mark.parametrize(
    ("how", "event", "code"),
    [
        ("another key", "epoch_refused", "signature"),
        ("edited", "epoch_refused", "signature"),
        ("another kind", "epoch_refused", "signature"),
        ("expired", "epoch_refused", "expired"),
        ("older", "epoch_refused", "rollback"),
        ("a proxy page", "poll_failed", "protocol_remote"),
    ],
)
def test_an_epoch_that_is_not_the_newest_signed_one_is_ignored(
    world: World, how: str, event: str, code: str
) -> None:
    path = world.control.data / "static" / "epoch.json"
    older = path.read_bytes()
    release_id = world.control.release("shop")  # the same files under a new epoch
    world.control.await_report(release_id, "install", "success")
    present = path.read_bytes()
    epoch = world.control.get("/status")["epoch"]
    known = len(world.device.log_lines())
    try:
        _replace(path, _forge(world, how, present, older))
        assert world.log_after(known, event)["code"] == code
    finally:
        _replace(path, present)
    world.visit(f"after-the-epoch-of-{code}-{epoch}")
    assert _agent_status(world)["epoch"] == epoch


@pytest.mark.parametrize(
    ("file", "how", "code"),
    [
        ("timestamp", "withheld", "rollback"),
        ("timestamp", "another key", "signature"),
        ("timestamp", "without end", "length_or_hash"),
        ("snapshot", "gone", "trust"),
        ("bundles", "withheld", "length_or_hash"),
    ],
)
def test_trust_metadata_that_is_not_the_newest_signed_is_ignored(
    world: World, tmp_path: Path, file: str, how: str, code: str
) -> None:
    """A new version is approved and released, and whoever serves the files has one of them say otherwise."""
    number = _versions.pop()
    folder = world.control.data / "static" / "tuf"
    older = _newest(folder, file).read_bytes()
    commit_tasks(
        world.repo, {"late": task_folder(tmp_path, "late", SAYS_VERSION.format(version=number))}, number
    )
    assert world.control.import_task(world.repo, "late", number).status_code == 201
    path = _newest(folder, file)
    present = path.read_bytes()
    known = len(world.device.log_lines())
    forged = {
        "withheld": older,
        "another key": re.sub(rb'("sig": *")[0-9a-f]{8}', rb"\g<1>00000000", present),
        "without end": present + b" " * 2**22,
        "gone": b"",
    }[how]
    try:
        _replace(path, forged)
        if not forged:
            path.unlink()
        release_id = world.control.release("late", number)
        event = "install_failed" if file == "bundles" else "epoch_refused"
        assert world.log_after(known, event)["code"] == code
        world.visit(f"while-trust-is-lied-about-{number}")  # what was installed goes on
    finally:
        _replace(path, present)
    world.control.await_report(release_id, "install", "success")


#: One version for each case, whatever order they run in.
_versions = [f"{number}.0.0" for number in range(1, 100)]


def _newest(folder: Path, role: str) -> Path:
    if role == "timestamp":
        return folder / "timestamp.json"
    return max(folder.glob(f"*.{role}.json"), key=lambda path: int(path.name.partition(".")[0]))


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(".forged")
    temporary.write_bytes(data)
    temporary.replace(path)


def _agent_status(world: World) -> dict[str, Any]:
    words = [str(BIN / "walle-agent"), "status", "--json", "--config", str(world.device.config)]
    done = subprocess.run(words, capture_output=True, timeout=30, check=True)
    status: dict[str, Any] = json.loads(done.stdout)
    return status


# Tasks


@pytest.mark.parametrize("name", BAD_TASKS)
def test_a_bad_task_is_reported_and_a_good_one_runs_after_it(world: World, name: str) -> None:
    bad = BAD_TASKS[name]
    release = next(
        item["release"]["id"]
        for item in world.control.get("/releases")["releases"]
        if item["release"]["task"] == name
    )
    world.device.emit([{"kind": "custom", "event_id": f"go_{name}"}])
    report = world.control.await_report(release, "run", "failure")
    assert (report["error_class"], report["code"]) == ("runtime", bad.kind)
    assert bad.message in report["message"]
    assert world.control.features(name) == []  # nothing of a failed run leaves the device
    world.visit(f"after-{name}")


def _import_model(world: World, tmp_path: Path, task: str, model: bytes, name: str = "net.onnx") -> Problem:
    folder = task_folder(tmp_path, task, "def run():\n    pass\n")
    (folder / "model").mkdir()
    (folder / "model" / name).write_bytes(model)
    commit_tasks(world.repo, {task: folder}, "1.0.0")
    answer = world.control.import_task(world.repo, task)
    assert answer.status_code == 422, answer.text
    return decode(Problem, answer.content)


def test_an_operator_the_engine_lacks_is_refused_at_import(world: World, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Multinomial", ["chances"], ["drawn"], name="draw")
    graph = onnx.helper.make_graph(
        [node], "lottery", [value("chances", 1, [1, 4])], [value("drawn", 6, [1, 1])]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)])
    problem = _import_model(world, tmp_path, "lottery", model.SerializeToString())
    assert problem.code == "unsupported"
    for name in ("model/net.onnx", "Multinomial", "draw"):
        assert name in problem.detail
    world.visit("after-an-unsupported-operator")


def test_a_truncated_wmodel_is_refused_at_import(world: World, tmp_path: Path) -> None:
    whole = tmp_path / "whole.wmodel"
    convert(DIGITS_ONNX, whole)
    problem = _import_model(world, tmp_path, "cut", whole.read_bytes()[:-200], "digits.wmodel")
    assert problem.code == "model"
    assert "model/digits.wmodel" in problem.detail
    assert "truncated" in problem.detail
    world.visit("after-a-truncated-wmodel")


def test_a_truncated_onnx_file_is_refused_at_import(world: World, tmp_path: Path) -> None:
    problem = _import_model(world, tmp_path, "stub", DIGITS_ONNX.read_bytes()[:-500])
    assert problem.code == "model"
    assert "model/net.onnx" in problem.detail
    world.visit("after-a-truncated-model")


def test_a_script_that_does_not_compile_is_refused_at_import(world: World, tmp_path: Path) -> None:
    commit_tasks(world.repo, {"typo": task_folder(tmp_path, "typo", "def run()\n    pass\n")}, "1.0.0")
    answer = world.control.import_task(world.repo, "typo")
    assert (answer.status_code, answer.json()["code"]) == (422, "task")
    assert "main.py:1: does not compile" in answer.json()["detail"]


# Settings

_KEY = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
_AGENT_HEAD = f'[control]\nurl = "http://127.0.0.1:1"\ntrusted_root = "1.{_KEY}"\n'


@pytest.mark.parametrize(
    ("program", "settings", "named"),
    [
        ("walle-agent", None, "cannot be read"),
        ("walle-agent", "[link\n", "not TOML"),
        ("walle-agent", _AGENT_HEAD + "[link]\npol_s = 3\n", "link.pol_s"),
        ("walle-agent", _AGENT_HEAD + '[link]\npoll_s = "often"\n', "link.poll_s"),
        ("walle-control", None, "cannot be read"),
        ("walle-control", "port = = 3\n", "not TOML"),
        ("walle-control", "[server]\nprot = 3\n", "server.prot"),
        ("walle-control", '[server]\nport = "any"\n', "server.port"),
    ],
)
def test_settings_that_cannot_be_right_end_the_program_with_one_sentence(
    tmp_path: Path, program: str, settings: str | None, named: str
) -> None:
    path = tmp_path / "settings.toml"
    if settings is not None:
        path.write_text(settings)
    verb = "run" if program == "walle-agent" else "serve"
    words = [str(BIN / program), verb, "--config", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith(f"{program}: error: ")
    assert str(path) in done.stderr
    assert named in done.stderr


# Crashes


def _on_disk(world: World, prefix: str, events: Sequence[Mapping[str, Any]]) -> int:
    """How many of ``events`` had reached the agent's log when it died.

    Told by the last one: the log is cut behind what has been dealt with, so its rows are fewer than it took.
    """
    database = sqlite3.connect(world.device.folder / "data" / "streams.db")
    try:
        taken = database.execute(
            "SELECT visit_id, event_id FROM events WHERE substr(visit_id, 1, ?) = ? ORDER BY seq",
            (len(prefix), prefix),
        )
        last = taken.fetchall()[-1]
    finally:
        database.close()
    return 1 + [(event["visit_id"], event["event_id"]) for event in events].index(last)


def _burst(prefix: str, visits: Iterable[int]) -> list[dict[str, Any]]:
    return [event for number in visits for event in shop_visit(f"{prefix}{number}")]


def _await_exactly_once(world: World, prefix: str, visits: int) -> None:
    def complete() -> Counter[str] | None:
        seen = world.arrived(prefix)
        return seen if len(seen) >= visits else None

    seen = wait_for(f"all {visits} visits to arrive", complete, timeout_s=30)
    world.visit(f"after-{prefix}")  # a record that came twice would have come before this one
    assert world.arrived(prefix) == seen == {f"{prefix}{number}": 1 for number in range(visits)}


def test_an_agent_killed_in_a_burst_neither_loses_nor_repeats_a_feature(world: World) -> None:
    prefix, visits = "agent-crash-", 250
    events = _burst(prefix, range(visits))
    middle = len(events) // 2
    world.device.emit(events[:middle])
    wait_for("the first features", lambda: len(world.arrived(prefix)) > 5 or None, every_s=0.01)
    world.device.emit(events[middle : middle + 60])
    world.device.crash()
    arrived, on_disk = len(world.arrived(prefix)), _on_disk(world, prefix, events)
    assert 3 * arrived < on_disk < len(events), "it died too late to prove anything"
    world.device.run()
    world.device.await_ready()
    world.device.emit(events[on_disk:])  # the app repeats what the agent had not yet taken
    _await_exactly_once(world, prefix, visits)


def test_a_server_killed_in_a_burst_neither_loses_nor_repeats_a_feature(world: World) -> None:
    prefix, visits = "server-crash-", 250
    world.device.emit(_burst(prefix, range(visits)))
    wait_for("the first features", lambda: len(world.arrived(prefix)) > 5 or None, every_s=0.01)
    assert len(world.arrived(prefix)) < visits, "it dies too late to prove anything"
    world.control.crash()
    world.device.check()
    world.control.restart()
    _await_exactly_once(world, prefix, visits)
