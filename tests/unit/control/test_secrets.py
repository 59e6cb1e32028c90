"""Canaries: no secret that the control plane hands out or is handed shows in logs, audit or errors."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
import structlog

from walle_control.app import ADMIN_API
from walle_shared.observe import configure_logging, get_logger


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    before = structlog.get_config()
    stream = io.StringIO()
    configure_logging(level="debug", format="json", stream=stream)
    yield stream
    structlog.configure(**before)


async def test_no_secret_is_told(log, control, admin, anyone, admin_token, enrol):
    device = await enrol()
    token = (await admin.post(f"{ADMIN_API}/tokens", json={"note": "x"})).json()["secret"]
    enrolment = (await admin.post(f"{ADMIN_API}/enrol-tokens", json={})).json()["token"]
    secrets = [admin_token, token, enrolment, device.response.credential]
    errors = []
    for secret in secrets:
        bearer = {"Authorization": f"Bearer {secret}"}
        for method, path in (
            ("POST", f"{ADMIN_API}/tasks"), ("GET", f"{ADMIN_API}/releases/no"), ("POST", "/d/v1/reports"),
            ("POST", "/d/v1/enrol"), ("GET", f"{ADMIN_API}/no"), ("GET", f"{ADMIN_API}/features?limit=x"),
        ):  # fmt: skip
            errors.append((await anyone.request(method, path, headers=bearer, json={"token": secret})).text)
            get_logger("test").warning("request_failed", path=path, headers=bearer, text=f"got {secret}")
        try:
            raise ValueError(f"bad token {secret}")  # noqa: TRY301  # what a traceback might quote
        except ValueError:
            get_logger("test").exception("request_crashed")
    assert "request_crashed" in log.getvalue()
    assert "Traceback" in log.getvalue()
    audit = str(await control.audit.page(0, 10_000))
    for secret in secrets:
        for told in (log.getvalue(), audit, *errors):
            assert secret not in told
            assert secret[-16:] not in told
