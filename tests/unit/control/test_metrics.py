"""What Prometheus is told is what happened, and the table lists all of it."""

from __future__ import annotations

import socket
from dataclasses import replace

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from walle_control import serve, setup
from walle_control.app import ADMIN_API, create_app, create_monitoring_app
from walle_control.config import ControlConfig, MetricsConfig, ServerConfig, load_config
from walle_control.features.releases.types import CreateRelease
from walle_control.metrics import METRICS
from walle_control.serve import _first_free
from walle_shared.clock import SystemClock
from walle_shared.errors import ConfigError


async def told(client: httpx.AsyncClient) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_the_table_lists_everything_that_is_told(control, admin):
    await admin.get(f"{ADMIN_API}/status")
    families = list(text_string_to_metric_families((await admin.get("/metrics")).text))
    known = {metric.name.removesuffix("_total"): metric for metric in METRICS}
    ours = {family.name: family for family in families if family.name.startswith("walle_")}
    assert ours.keys() == known.keys()
    for name, family in ours.items():
        assert family.type == known[name].kind
        assert family.documentation == known[name].doc
    assert "process_cpu_seconds" in {family.name for family in families}
    for metric in METRICS:
        assert (metric.kind == "counter") == metric.name.endswith("_total")


async def test_what_happens_is_counted(control, admin, imported, enrol, anyone):
    await imported("1.0.0")
    release = (await control.releases.create(CreateRelease("demo", "greeter", "1.0.0"), "ben")).release.id
    device = await enrol()
    report = {
        "report_id": "r1", "release_id": release, "task": "greeter", "version": "1.0.0", "stage": "install",
        "outcome": "success", "attempt": 1, "at_ms": 1,
        "duration_ms": 1.0,
    }  # fmt: skip
    for _ in range(2):
        answer = await anyone.post("/d/v1/reports", json={"reports": [report]}, headers=device.headers)
        assert answer.is_success, answer.text
    for _ in range(3):
        await admin.get(f"{ADMIN_API}/releases/{release}")
    await admin.get(f"{ADMIN_API}/releases/none")
    await anyone.get(f"{ADMIN_API}/releases/none")
    await anyone.get("/console/signin")
    seen = await told(admin)
    route = ("route", f"{ADMIN_API}/releases/{{release_id}}")
    for status, n in (("200", 3), ("404", 1), ("401", 1)):
        assert seen["walle_requests_total", (("method", "GET"), route, ("status", status))] == n
    assert seen["walle_request_seconds_count", (("method", "GET"), route)] == 5
    page = ("route", "/console/signin")
    assert seen["walle_requests_total", (("method", "GET"), page, ("status", "200"))] == 1
    assert seen["walle_reports_total", (("kind", "new"),)] == 1
    assert seen["walle_reports_total", (("kind", "repeated"),)] == 1
    assert seen["walle_devices", ()] == 1
    assert seen["walle_releases", (("state", "live"),)] == 1
    assert seen["walle_epoch", ()] == control.hub.epoch


async def test_a_crash_counts_as_500(app, control, admin, monkeypatch):
    async def crash(*_):
        raise ValueError("boom")

    monkeypatch.setattr(control.store.database, "read", crash)
    await admin.get("/readyz")
    monkeypatch.undo()
    seen = await told(admin)
    assert seen["walle_requests_total", (("method", "GET"), ("route", "/readyz"), ("status", "500"))] == 1


async def test_metrics_take_a_token_unless_they_have_an_address_of_their_own(anyone, control):
    assert (await anyone.get("/metrics")).status_code == 401
    wire = httpx.ASGITransport(create_monitoring_app(control))
    async with httpx.AsyncClient(transport=wire, base_url="http://monitoring") as monitoring:
        assert (await told(monitoring))["walle_epoch", ()] == control.hub.epoch
        assert (await monitoring.get("/livez")).json() == {"healthy": True}
        assert (await monitoring.get("/readyz")).json() == {"healthy": True}
        assert (await monitoring.get(f"{ADMIN_API}/status")).status_code == 404


async def test_who_is_stopping_is_not_ready_but_alive(anyone, control):
    assert (await anyone.get("/readyz")).status_code == 200
    control.hub.stop()
    assert (await anyone.get("/readyz")).status_code == 503
    assert (await anyone.get("/healthz")).status_code == 503
    assert (await anyone.get("/livez")).status_code == 200


async def test_off_is_off(clock, store, converter, admin_token):
    config = replace(ControlConfig(), metrics=MetricsConfig(enabled=False))
    app = create_app(config, clock=clock, store=store, convert=converter)
    headers = {"Authorization": f"Bearer {admin_token}"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://x", headers=headers
    ) as client:
        answer = await client.get("/metrics")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert app.state.control.metrics is None


def test_workers_share_a_range_of_ports():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"{port} is free"):
            _first_free(f"127.0.0.1:{port}")
        first, _ = _first_free(f"127.0.0.1:{port}-{port + 50}")
        second, url = _first_free(f"127.0.0.1:{port}-{port + 50}")
        with first, second:
            assert port < first.getsockname()[1] < second.getsockname()[1]
            assert url == f"http://127.0.0.1:{second.getsockname()[1]}"


def test_a_port_that_is_taken_is_one_error_of_ours(tmp_path):
    """And not a group of what the server's loops raised."""
    setup.init(tmp_path / "data", SystemClock())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = replace(
            ControlConfig(),
            server=ServerConfig(data_dir=str(tmp_path / "data"), port=0),
            metrics=MetricsConfig(listen=f"127.0.0.1:{taken.getsockname()[1]}"),
        )
        with pytest.raises(ConfigError, match=r"metrics\.listen: no port .* is free"):
            serve.run(config)


@pytest.mark.parametrize(
    "listen", ["9464", "host:", "a b:1", ":1", "[::1]", "h:1-", "h:1-2-3", "h:0", "h:65536"]
)
def test_a_senseless_address_is_refused(listen, tmp_path):
    path = tmp_path / "control.toml"
    path.write_text(f'[metrics]\nlisten = "{listen}"\n')
    with pytest.raises(ConfigError, match=r"metrics\.listen"):
        load_config(path)
