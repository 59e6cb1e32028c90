from __future__ import annotations

from pathlib import Path

import pytest

from walle_control.config import ControlConfig, default_toml, load_config
from walle_shared.errors import ConfigError

SHOWN = Path(__file__).parents[3] / "configs" / "control.toml"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "control.toml"
    path.write_text(text)
    return path


def test_the_shown_settings_are_the_defaults_with_every_key():
    assert SHOWN.read_text() == default_toml()


def test_the_default_file_gives_the_default_settings(tmp_path):
    config = load_config(write(tmp_path, default_toml()))
    assert config.server.data_dir == str(tmp_path)
    assert (config.stream, config.guard, config.tasks) == (
        ControlConfig().stream,
        ControlConfig().guard,
        ControlConfig().tasks,
    )


def test_environment_and_flags_win_and_client_variables_are_not_settings(tmp_path):
    path = write(tmp_path, "[server]\nport = 1\n")
    environ = {"WALLE_CONTROL_SERVER__PORT": "2", "WALLE_CONTROL_URL": "http://x", "WALLE_CONTROL_DATA": "y"}
    assert load_config(path, environ=environ).server.port == 2
    assert load_config(path, environ=environ, flags={"server.port": 3}).server.port == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[server", "not TOML"),
        ("[server]\nprot = 1\n", "server.prot: is not known"),
        ("[server]\nport = 70000\n", "server.port must be within"),
        ("[server]\nport = 'x'\n", "server.port: expected an integer"),
        ("[guard]\nmin_reports = -1\n", "guard.min_reports must not be negative"),
        ("[epoch]\nlifetime_s = 5\n", "epoch.lifetime_s"),
    ],
)
def test_wrong_settings_name_file_and_key(tmp_path, text, words):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert str(path) in error.value.message
    assert words in error.value.message


def test_unreadable_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read"):
        load_config(tmp_path / "none.toml")
