"""Monitoring of real programs: an address of its own, and traces that a collector takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from walle_support.live import LiveControl, LiveDevice, commit_tasks, task_folder, wait_for
from walle_support.receiver import Receiver
from walle_support.servers import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_a_server_answers_its_monitoring_on_an_address_of_its_own(tmp_path: Path) -> None:
    control = LiveControl(tmp_path)
    control.command("init")
    settings, port = control.data / "control.toml", free_port()
    settings.write_text(settings.read_text().replace('listen = ""', f'listen = "127.0.0.1:{port}"'))
    try:
        control.start()
        own = f"http://127.0.0.1:{port}"
        assert httpx.get(f"{own}/readyz", timeout=10).json() == {"healthy": True}
        assert "walle_epoch 1.0" in httpx.get(f"{own}/metrics", timeout=10).text
        assert httpx.get(f"{own}/api/v1/status", timeout=10).status_code == 404
        assert httpx.get(f"{control.url}/metrics", timeout=10).status_code == 401
    finally:
        control.stop()


TASK = """
from walle_task import tunnel

def run(*_):
    tunnel.send("seen", {"what": "it"})
"""


def test_a_trace_follows_a_record_from_a_devices_run_to_its_row(tmp_path: Path) -> None:
    """Real agent, real server, and a collector that takes what any would."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    task = task_folder(tmp_path / "sources", "hello", TASK)
    commit_tasks(tmp_path / "tasks", {"hello": task}, "1.0.0")
    control, device = LiveControl(tmp_path), LiveDevice("phone", tmp_path, {"group": "x"})

    with Receiver(lambda _: 200) as collector:

        def spans() -> dict[str, Any]:
            found = {}
            for arrived in list(collector.arrived):
                for resource in ExportTraceServiceRequest.FromString(arrived.body).resource_spans:
                    found |= {span.name: span for scope in resource.scope_spans for span in scope.spans}
            return found

        control.command("init")
        settings = control.data / "control.toml"
        text = settings.read_text().replace('endpoint = ""', f'endpoint = "{collector.url}"')
        settings.write_text(
            text.replace("interval_s = 5.0", "interval_s = 0.1").replace(
                'format = "console"', 'format = "json"'
            )
        )
        try:
            control.start()
            enrolment = control.post("/enrol-tokens", {"uses": 1}).json()
            device.traced = True
            device.start(control.url, enrolment["trusted_root"], enrolment["token"])
            assert control.import_task(tmp_path / "tasks", "hello").status_code == 201
            release = control.release("hello")
            device.await_ready()
            control.await_report(release, "install", "success")
            device.emit([{"kind": "custom", "event_id": "go_hello"}])
            wait_for("the row", lambda: control.features("hello") or None, timeout_s=60)
            found = wait_for("its spans", lambda: all_of(spans(), "feature proof/hello seen", "commit"))
            row, commit = found["feature proof/hello seen"], found["commit"]
            assert row.parent_span_id  # the device began the trace
            assert commit.trace_id == row.trace_id
            assert commit.parent_span_id == row.span_id
            assert row.start_time_unix_nano <= commit.start_time_unix_nano <= row.end_time_unix_nano
            wait_for("its requests", lambda: all_of(spans(), "POST /d/v1/reports", "GET /s/epoch.json"))

            trace_id = row.trace_id.hex()
            assert [each["trace_id"] for each in control.features("hello")] == [trace_id]
            (run,) = lines_of(device.log_lines(), "run_finished")
            (kept,) = lines_of(control.log_lines(), "record_kept")
            assert run["trace_id"] == kept["trace_id"] == trace_id
            (enrolled,) = lines_of(device.log_lines(), "device_enrolled")
            assert len(enrolled["trace_id"]) == 32  # a request without a run
            assert enrolled["trace_id"] != trace_id
        finally:
            device.stop()
            control.stop()


def lines_of(lines: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["event"] == event]


def all_of(found: dict[str, Any], *names: str) -> dict[str, Any] | None:
    return found if all(name in found for name in names) else None
