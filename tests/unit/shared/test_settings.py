from dataclasses import dataclass, field

import pytest

from walle_shared.errors import ConfigError
from walle_shared.settings import parse_settings


@dataclass(frozen=True)
class Link:
    url: str = "http://localhost"
    poll_s: float = 30.0


@dataclass(frozen=True)
class Config:
    name: str = "walle"
    link: Link = field(default_factory=Link)


def test_defaults_hold_where_nothing_is_said() -> None:
    assert parse_settings(Config, "", where="empty") == Config()


def test_file_then_environment_then_flags() -> None:
    config = parse_settings(
        Config,
        'name = "file"\n[link]\npoll_s = 1\nurl = "http://file"',
        where="x.toml",
        env_prefix="WALLE_TEST",
        environ={"WALLE_TEST_LINK__POLL_S": "2.5", "WALLE_TEST_NAME": "env", "WALLE_OTHER_NAME": "no"},
        flags={"name": "flag", "link.url": None},
    )
    assert config == Config("flag", Link("http://file", 2.5))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[link]\nurl = 3", "x.toml: link.url: expected a string"),
        ("[link]\nurll = 'a'", "x.toml: link.urll: is not known; known here: poll_s, url"),
        ("[link", "x.toml: not TOML"),
    ],
)
def test_a_bad_file_names_file_and_key(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse_settings(Config, text, where="x.toml")


def test_a_variable_that_treats_a_value_as_a_table_is_named() -> None:
    with pytest.raises(ConfigError, match="WALLE_TEST_NAME__X: name must be a table"):
        parse_settings(
            Config,
            'name = "a"',
            where="x",
            env_prefix="WALLE_TEST",
            environ={"WALLE_TEST_NAME__X": "1"},
        )
