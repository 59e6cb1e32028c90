from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path

import pytest

from walle_agent.config import AgentConfig, load_config
from walle_shared.errors import ConfigError
from walle_shared.records import to_plain

EXAMPLE = Path(__file__).parents[3] / "configs" / "agent.toml"
KEY = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
MINIMAL = f'[control]\nurl = "http://c.test"\ntrusted_root = "1.{KEY}"\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "agent.toml"
    path.write_text(text)
    return path


def test_the_example_shows_every_key_with_its_default() -> None:
    shown = tomllib.loads(EXAMPLE.read_text())
    known = {field.name: field for field in dataclasses.fields(AgentConfig)}
    assert shown.keys() == known.keys()
    defaults = to_plain(AgentConfig())
    for section in shown.keys() - {"control", "profile"}:
        assert shown[section] == defaults[section]
    assert shown["control"].keys() == defaults["control"].keys()


def test_the_example_loads() -> None:
    assert load_config(EXAMPLE).control.url == "http://127.0.0.1:8700"


def test_relative_paths_count_from_the_file(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, MINIMAL + '[agent]\nevents_socket = "run/e.sock"\n'))
    assert config.data_dir == tmp_path / "walle-agent-data"
    assert config.events_socket == tmp_path / "run/e.sock"


def test_events_come_in_over_http_where_a_loopback_address_is_set(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, MINIMAL)).events_http is None
    config = load_config(write(tmp_path, MINIMAL + '[agent]\nevents_http = "[::1]:8710"\n'))
    assert config.events_http == ("::1", 8710)


def test_environment_wins_over_file_and_flags_over_both(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "[link]\npoll_s = 1.0\ntimeout_s = 1.0\n")
    environ = {"WALLE_AGENT_LINK__POLL_S": "2", "WALLE_AGENT_LINK__TIMEOUT_S": "2"}
    config = load_config(path, environ=environ, flags={"link.timeout_s": 3})
    assert (config.link.poll_s, config.link.timeout_s) == (2.0, 3.0)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[control\n", "not TOML"),
        (MINIMAL + "[link]\npol_s = 1\n", "link.pol_s"),
        (MINIMAL + "[link]\npoll_s = 0\n", "link.poll_s"),
        (MINIMAL + "[run]\nslots = 0\n", "run.slots"),
        (MINIMAL + "[link]\nreport_linger_s = -1.0\n", "report_linger_s"),
        (MINIMAL.replace("http://", "ftp://"), "control.url"),
        (MINIMAL.replace(KEY, "12"), "digest"),
        (MINIMAL.replace(f"1.{KEY}", ""), "control.trusted_root"),
        (MINIMAL + '[profile]\n"a b" = 1\n', "profile.'a b'"),
        (MINIMAL + f'[agent]\nevents_socket = "/tmp/{"s" * 103}"\n', "agent.events_socket"),
        (MINIMAL + f'[profile]\nx = "{"y" * 9000}"\n', "profile"),
        (MINIMAL + '[agent]\nevents_http = "8710"\n', "agent.events_http '8710' is not like"),
        (MINIMAL + '[agent]\nevents_http = "localhost:1"\n', "is not like 127.0.0.1:8710"),
        (MINIMAL + '[agent]\nevents_http = "127.0.0.1:99999"\n', "is not like 127.0.0.1:8710"),
        (MINIMAL + '[agent]\nevents_http = "0.0.0.0:8710"\n', "is not a loopback address"),
    ],
)
def test_wrong_settings_name_file_and_key(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text))
    assert named in caught.value.message
    assert "agent.toml" in caught.value.message


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.toml: cannot be read"):
        load_config(tmp_path / "missing.toml")
