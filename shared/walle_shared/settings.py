"""Settings into one frozen object: file < environment < flags; unknown keys are errors.

Pure: the caller reads the file and passes its text. A setting ``[link] poll_s`` of program prefix
``WALLE_AGENT`` may be overridden by the environment variable ``WALLE_AGENT_LINK__POLL_S`` (TOML syntax; plain
text where a string is expected) or by a flag ``{"link.poll_s": 5}``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from walle_shared.errors import ConfigError
from walle_shared.records import RecordError, from_plain

T = TypeVar("T")


def parse_settings[T](
    cls: type[T],
    text: str,
    *,
    where: str,
    env_prefix: str = "",
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> T:
    """Build a settings dataclass.

    Args:
        cls: nested frozen dataclasses; defaults stand beside their units there.
        text: the TOML file's text.
        where: the file's name, for complaints.
        env_prefix: variables starting with it and ``_`` override the file; double underscore separates
            tables.
        environ: the environment.
        flags: dotted key to value; ``None`` values are skipped.

    Raises:
        ConfigError: naming the source and the key.
    """
    try:
        tree: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: not TOML: {error}") from None
    for name, value in (environ or {}).items():
        if env_prefix and name.startswith(env_prefix + "_"):
            _set(tree, name.removeprefix(env_prefix + "_").lower().split("__"), _env_value(value), name)
    for key, value in (flags or {}).items():
        if value is not None:
            _set(tree, key.split("."), value, key)
    try:
        return from_plain(cls, tree)
    except RecordError as error:
        raise ConfigError(f"{where}: {error}") from None


def parse_checked[T](cls: type[T], text: str, where: str, check: Callable[[T], None]) -> T:
    """Build a dataclass from a TOML text that nothing overrides, and check it.

    Raises:
        ConfigError: of the text or of ``check``, with ``where`` in front.
    """
    value = parse_settings(cls, text, where=where)
    try:
        check(value)
    except (RecordError, ConfigError) as error:
        raise ConfigError(f"{where}: {error}") from None
    return value


def _env_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _set(tree: dict[str, Any], path: list[str], value: Any, source: str) -> None:
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"{source}: {part} must be a table")
    tree[path[-1]] = value
