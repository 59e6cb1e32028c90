from __future__ import annotations

import stat

import pytest

from walle_control import setup
from walle_control.db.store import Store
from walle_shared.clock import FixedClock
from walle_shared.errors import ConfigError


def test_init_twice_keeps_everything(tmp_path):
    first = setup.init(tmp_path, FixedClock())
    (tmp_path / "control.toml").write_text("[server]\nport = 1\n")
    second = setup.init(tmp_path, FixedClock())
    assert first.admin_token
    assert not second.admin_token  # shown once
    assert (first.public_key, first.epoch) == (second.public_key, second.epoch)
    assert (tmp_path / "admin.token").read_text().strip() == first.admin_token
    assert (tmp_path / "control.toml").read_text() == "[server]\nport = 1\n"


def test_secrets_are_for_their_owner_only(tmp_path):
    setup.init(tmp_path / "data", FixedClock())
    for name in ("admin.token", "keys/signing.key", "keys/credential.key"):
        assert stat.S_IMODE((tmp_path / "data" / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_admin_token_is_stored_as_a_hash_only(tmp_path):
    token = setup.init(tmp_path, FixedClock()).admin_token
    assert token.encode() not in (tmp_path / "control.db").read_bytes()


@pytest.mark.parametrize("content", [None, "not hex", "abcd"])
def test_missing_or_damaged_key_is_named(tmp_path, content):
    setup.init(tmp_path, FixedClock())
    key = tmp_path / "keys" / "signing.key"
    key.unlink()
    if content is not None:
        key.write_text(content)
    with pytest.raises(ConfigError, match=r"signing\.key|private key"):
        Store.open(tmp_path)
