"""The scale-out profile for real: PostgreSQL, two workers, nginx with nchan, agents over HTTPS."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from walle_agent.link.transport import Transport
from walle_agent.streams.tunnel import Tunnel
from walle_shared.backoff import Backoff
from walle_shared.ids import ReleaseId, TaskName, TaskVersion
from walle_shared.protocol.codec import encode
from walle_shared.protocol.messages import Report, ReportBatch
from walle_shared.protocol.tunnel import Record
from walle_support.live import LiveDevice, commit_tasks, task_folder, wait_for  # pyright: ignore[reportAttributeAccessIssue]
from walle_support.scale_out import (
    CONFIGS,
    Nginx,
    ScaleOutControl,
    make_certificate,
    nginx_program,
    run_profile,
)
from walle_support.servers import ServerProcess, new_schema
from walle_support.uploads import MemoryOutbox, enrol

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(
        nginx_program() is None, reason="needs nginx with nchan: apt-get install nginx libnginx-mod-nchan"
    ),
]

SCRIPT = "def run():\n    pass\n"

#: Static files through walle-control, as protected ones go: it checks, nginx sends.
CHECKED = "location ~ ^/checked(/.*)$ { proxy_pass http://walle_control$1; }"


@pytest.fixture(scope="module")
def profile(
    tmp_path_factory: pytest.TempPathFactory, postgres_for_all: ServerProcess
) -> Iterator[tuple[ScaleOutControl, Nginx, Path]]:
    folder = tmp_path_factory.mktemp("scale-out")
    folder.chmod(0o755)
    tls = make_certificate(folder / "tls")
    schema = new_schema(postgres_for_all)
    with run_profile(folder, schema, tls=tls, more=CHECKED) as (control, nginx):
        repo = folder / "tasks"
        task = task_folder(folder, "greeter", SCRIPT)
        commit_tasks(repo, {"greeter": task}, "1.0.0")
        control.import_task(repo, "greeter").raise_for_status()
        yield control, nginx, folder


@pytest.fixture
def client(profile: tuple[ScaleOutControl, Nginx, Path]) -> Iterator[httpx.Client]:
    _, nginx, folder = profile
    context = ssl.create_default_context(cafile=str(folder / "tls" / "server.pem"))
    with httpx.Client(base_url=nginx.url, verify=context, timeout=20) as client:
        yield client


@pytest.fixture
def device(
    profile: tuple[ScaleOutControl, Nginx, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[LiveDevice]:
    control, nginx, folder = profile
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "tls" / "server.pem"))
    device = LiveDevice("phone", tmp_path, {"group": "beta"})
    token = control.command("enrol-token", "create")["token"]
    device.start(nginx.url, control.get("/status")["trusted_root"], token)
    device.await_ready()
    yield device
    device.stop()


def test_enrol_release_push_pull_report_roll_back(
    profile: tuple[ScaleOutControl, Nginx, Path], device: LiveDevice
) -> None:
    control, nginx, _ = profile
    wait_for("the device to hold a stream at nginx", lambda: subscribers(nginx) or None)
    release = control.release("greeter")
    started_s = time.monotonic()
    control.await_report(release, "install", "success")
    assert time.monotonic() - started_s < 10
    answer = control.post(f"/releases/{release}/rollback", {"reason": "test"})
    assert answer.status_code == 200, answer.text
    wait_for("the device to take it off", lambda: logged(device, "task_removed") or None)
    assert len(logged(device, "epoch_hinted")) >= 2


def logged(device: LiveDevice, event: str) -> list[dict[str, Any]]:
    return [line for line in device.log_lines() if line["event"] == event]


def subscribers(nginx: Nginx) -> int:
    answer = httpx.get(nginx.push_url, headers={"Accept": "application/json"})
    return int(answer.json()["subscribers"]) if answer.status_code == 200 else 0


def new_credential(control: ScaleOutControl) -> tuple[str, str]:
    return enrol(control.url, control.command("enrol-token", "create")["token"])


def test_a_stream_says_the_newest_epoch_at_once_and_refuses_strangers(
    profile: tuple[ScaleOutControl, Nginx, Path], client: httpx.Client
) -> None:
    control, _, _ = profile
    device_id, credential = new_credential(control)
    headers = {"Authorization": f"Bearer {credential}", "Accept": "text/event-stream"}
    with client.stream("GET", "/d/v1/stream", headers=headers) as answer:
        assert answer.status_code == 200
        seen: dict[str, str] = {}
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            seen[name] = value
            if name == "data":
                break
    assert seen["event"] == "epoch"
    assert json.loads(seen["data"])["epoch"] == control.get("/status")["epoch"]
    headers["Authorization"] = "Bearer wd1.nobody.9999999999999.00"
    assert client.get("/d/v1/stream", headers=headers).status_code == 401
    control.command("device", "revoke", device_id)
    headers["Authorization"] = f"Bearer {credential}"

    def refused() -> bool | None:  # by either worker
        codes = {client.get("/d/v1/allowed", headers=headers).status_code for _ in range(8)}
        return True if codes == {403} else None

    wait_for("both workers to know", refused)
    assert client.get("/d/v1/stream", headers=headers).status_code == 403


def test_the_console_is_one_whichever_worker_answers(
    profile: tuple[ScaleOutControl, Nginx, Path], client: httpx.Client
) -> None:
    control, nginx, _ = profile
    token = (control.data / "admin.token").read_text().strip()
    answer = client.post("/console/signin", data={"token": token}, headers={"Origin": nginx.url})
    assert answer.status_code == 303, answer.text
    assert "; Secure" in answer.headers["set-cookie"]
    assert {client.get("/console/audit").status_code for _ in range(12)} == {200}
    with client.stream("GET", "/console/live") as news:
        lines = news.iter_lines()
        next(line for line in lines if line.startswith("retry:"))
        release = control.release("greeter")
        assert next(line for line in lines if line.startswith("event:")) == "event: news"
    assert release in client.get("/console/releases").text
    control.post(f"/releases/{release}/rollback", {}).raise_for_status()


async def test_features_come_up_the_tunnel_through_nginx(
    profile: tuple[ScaleOutControl, Nginx, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    control, nginx, folder = profile
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "tls" / "server.pem"))
    _, credential = await trio.to_thread.run_sync(new_credential, control)
    outbox = MemoryOutbox()
    for number in range(300):
        outbox.add(Record("proof", "greeter", "1.0.0", "r1", "seen", 5, {"what": f"{number} " + "x" * 500}))
    async with Transport(nginx.url, timeout_s=20) as transport, trio.open_nursery() as nursery:
        tunnel = Tunnel(outbox, lambda: transport.connect_tunnel(credential), backoff=Backoff(0.02, 0.1))
        nursery.start_soon(tunnel.run)
        with trio.fail_after(60):
            await outbox.wait_acked(300)
        nursery.cancel_scope.cancel()
    found = await trio.to_thread.run_sync(control.features, "greeter")
    assert [feature["fields"]["what"].split()[0] for feature in found] == [str(n) for n in range(300)]


def test_files_come_from_nginx_with_ranges(
    profile: tuple[ScaleOutControl, Nginx, Path], client: httpx.Client
) -> None:
    control, _, _ = profile
    blob = next((control.data / "static" / "blob").iterdir())
    data = blob.read_bytes()
    for path in (f"/s/blob/{blob.name}", f"/checked/s/blob/{blob.name}"):
        whole = client.get(path)
        assert (whole.status_code, whole.content) == (200, data)
        assert "immutable" in whole.headers["Cache-Control"]
        part = client.get(path, headers={"Range": "bytes=3-7"})
        assert (part.status_code, part.content) == (206, data[3:8])
        assert "X-Accel-Redirect" not in whole.headers
    assert client.get(f"/_files/blob/{blob.name}").status_code == 404
    assert client.get("/s/.epoch.lock").status_code == 404
    assert client.post(f"/s/blob/{blob.name}").status_code == 403


def test_an_epoch_is_never_hidden_by_a_cache(
    profile: tuple[ScaleOutControl, Nginx, Path], client: httpx.Client
) -> None:
    control, _, _ = profile
    for _ in range(3):  # several in one second, all of the same length
        release = control.release("greeter")
        answer = client.get("/s/epoch.json")
        assert answer.headers["Cache-Control"] == "no-cache"
        assert "ETag" not in answer.headers
        assert answer.json()["signed"]["epoch"] == control.get("/status")["epoch"]
        control.post(f"/releases/{release}/rollback", {"reason": "test"})


@pytest.mark.slow_session
def test_no_request_fails_while_the_workers_are_replaced(
    profile: tuple[ScaleOutControl, Nginx, Path], client: httpx.Client
) -> None:
    control, nginx, folder = profile
    _, credential = new_credential(control)
    headers = {"Authorization": f"Bearer {credential}"}
    stop = threading.Event()
    failed: list[str] = []
    counts: list[int] = []

    def load(number: int) -> None:
        context = ssl.create_default_context(cafile=str(folder / "tls" / "server.pem"))
        done = 0
        with httpx.Client(base_url=nginx.url, verify=context, timeout=30, headers=headers) as client:
            while not stop.is_set():
                report = Report(
                    f"{number}-{done}",
                    ReleaseId("r0"),
                    TaskName("t"),
                    TaskVersion("1"),
                    "run",
                    "success",
                    1,
                    5,
                    1.0,
                )
                asked = client.get("/d/v1/allowed")
                told = client.post("/d/v1/reports", content=encode(ReportBatch((report,))))
                for answer in (asked, told):
                    if answer.status_code >= 400:
                        failed.append(f"{answer.request.url.path}: {answer.status_code} {answer.text[:200]}")
                done += 1
        counts.append(done)

    threads = [threading.Thread(target=load, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            control.replace_workers()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failed == []
    assert sum(counts) > 20
    assert client.get("/healthz").status_code == 200


def test_push_goes_on_after_a_restart_of_nginx(profile: tuple[ScaleOutControl, Nginx, Path]) -> None:
    _, nginx, _ = profile
    nginx.kill()
    nginx.start()

    def kept() -> bool | None:
        answer = httpx.get(nginx.push_url, headers={"Accept": "application/json"})
        return True if answer.status_code == 200 and answer.json()["messages"] == 1 else None

    wait_for("the epoch to be published anew", kept)


def test_devices_without_a_certificate_stay_out_where_one_is_asked_for(
    profile: tuple[ScaleOutControl, Nginx, Path], tmp_path: Path
) -> None:
    control, _, folder = profile
    tmp_path.chmod(0o755)
    port = httpx.URL(control.url).port
    assert port is not None
    nginx = Nginx(tmp_path / "nginx", control.data / "static", port, tls=folder / "tls", mutual=True)
    nginx.start()
    try:
        context = ssl.create_default_context(cafile=str(folder / "tls" / "server.pem"))
        assert httpx.get(f"{nginx.url}/s/epoch.json", verify=context).status_code == 400
        context.load_cert_chain(folder / "tls" / "server.pem", folder / "tls" / "server.key")
        assert httpx.get(f"{nginx.url}/s/epoch.json", verify=context).status_code == 200
    finally:
        nginx.stop()


def test_units_are_what_systemd_understands() -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("needs systemd-analyze")
    units = [*CONFIGS.glob("*.service")]
    assert len(units) == 2
    for unit in units:
        name = unit if "@" not in unit.name else unit.with_name(unit.name.replace("@", "@8700"))
        done = subprocess.run(
            [program, "verify", "--man=no", str(name)], capture_output=True, text=True, timeout=60
        )
        complaints = [
            line for line in done.stderr.splitlines() if unit.name.partition(".")[0].partition("@")[0] in line
        ]
        complaints = [
            line for line in complaints if "not executable" not in line and "No such file" not in line
        ]
        assert complaints == []


def test_the_shown_settings_are_good(tmp_path: Path) -> None:
    from walle_control.config import load_config

    config = load_config(CONFIGS / "control.toml")
    assert config.server.workers > 1
    assert config.database.url
    (url,) = config.stream.nchan_urls
    shown = (CONFIGS / "nginx.conf").read_text()
    assert f"listen {httpx.URL(url).host}:{httpx.URL(url).port};" in shown
    assert f"location {httpx.URL(url).path}" in shown or f"location = {httpx.URL(url).path}" in shown
    assert f"location {config.server.accel_prefix}/ {{" in shown
    assert f"server {config.server.host}:{config.server.port} " in shown
    assert f"alias {config.server.data_dir}/static/;" in shown
