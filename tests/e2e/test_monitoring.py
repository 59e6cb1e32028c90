"""The address of its own that monitoring may have."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from walle_support.live import LiveControl
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
