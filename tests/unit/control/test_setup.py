from __future__ import annotations

import stat

import pytest

from walle_control import setup
from walle_control.db.store import Store
from walle_shared.clock import FixedClock
from walle_shared.errors import ConfigError
from walle_shared.trust.roles import ROLES


def test_init_twice_keeps_everything(tmp_path):
    first = setup.init(tmp_path, FixedClock())
    (tmp_path / "control.toml").write_text("[server]\nport = 1\n")
    second = setup.init(tmp_path, FixedClock())
    assert first.admin_token
    assert not second.admin_token  # shown once
    assert (first.trusted_root, first.epoch) == (second.trusted_root, second.epoch)
    assert (tmp_path / "admin.token").read_text().strip() == first.admin_token
    assert (tmp_path / "control.toml").read_text() == "[server]\nport = 1\n"


def test_secrets_are_for_their_owner_only(tmp_path):
    setup.init(tmp_path / "data", FixedClock())
    keys = list((tmp_path / "data" / "keys").glob("*.pem"))
    assert {path.name.rpartition("-")[0] for path in keys} == set(ROLES)
    for path in (*keys, tmp_path / "data" / "admin.token", tmp_path / "data" / "keys" / "credential.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_admin_token_is_stored_as_a_hash_only(tmp_path):
    token = setup.init(tmp_path, FixedClock()).admin_token
    assert token.encode() not in (tmp_path / "control.db").read_bytes()


@pytest.mark.parametrize("content", [None, "not hex"])
def test_missing_or_damaged_key_is_named(tmp_path, content):
    setup.init(tmp_path, FixedClock())
    key = tmp_path / "keys" / "credential.key"
    key.unlink()
    if content is not None:
        key.write_text(content)
    with pytest.raises(ConfigError, match=r"credential\.key"):
        Store.open(tmp_path)


def test_a_folder_from_before_the_roles_is_refused_with_the_cure(tmp_path):
    setup.init(tmp_path, FixedClock())
    (tmp_path / "keys" / "signing.key").write_text("ab" * 32)
    with pytest.raises(ConfigError, match="make a new data folder"):
        Store.open(tmp_path)
