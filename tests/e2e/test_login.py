"""Somebody logs in from a terminal at a real provider of identities, and works with a real server."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from pathlib import Path

import pytest

from walle_control.cli.main import main
from walle_support.issuer import AUDIENCE, Issuer
from walle_support.live import LiveControl

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_a_login_opens_what_its_claims_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith("WALLE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    control = LiveControl(tmp_path)
    control.command("init")
    settings = control.data / "control.toml"

    def command(*words: str, typed: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        code = main([*words, "--url", control.url])
        said = capsys.readouterr()
        return code, said.out, said.err

    with Issuer() as issuer:
        issuer.approved = issuer.claims(int(time.time()), groups=["shop"])
        text = settings.read_text().replace('issuer = ""', f'issuer = "{issuer.url}"')
        text = text.replace('audience = ""', f'audience = "{AUDIENCE}"')
        settings.write_text(text.replace("\nroles = []", '\nroles = ["shop: operator of shop"]'))
        try:
            control.start()
            assert "walle-control login" in command("whoami")[2]
            code, out, err = command("login")
            assert (code, out) == (0, f"logged in to {control.url} as anna@example.org\n"), err
            assert "ABCD" in err
            me = json.loads(command("whoami", "--json")[1])
            assert [allowed["scenario"] for allowed in me["allowed"]] == ["shop"]
            code, _, err = command("person", "list")
            assert (code, "people:read" in err) == (1, True)
            admin = (control.data / "admin.token").read_text()
            assert command("login", "--paste", typed=admin)[1].endswith("as admin\n")
            assert command("person", "list")[0] == 0
            assert command("login", "--paste", typed="wtok_made_up\n")[0] == 1
            assert command("logout")[1].startswith("logged out")
            assert "walle-control login" in command("whoami")[2]
        finally:
            control.stop()
    log = (tmp_path / "control.log").read_text()
    assert "access_refused" in log
    assert "eyJ" not in log
