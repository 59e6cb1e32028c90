"""Names for the strings and numbers that identify things. Standard library only."""

from __future__ import annotations

import re
from typing import NewType

from walle_shared.errors import ConfigError

DeviceId = NewType("DeviceId", str)
ScenarioName = NewType("ScenarioName", str)
TaskName = NewType("TaskName", str)
TaskVersion = NewType("TaskVersion", str)
ReleaseId = NewType("ReleaseId", str)
Sha256 = NewType("Sha256", str)
KeyId = NewType("KeyId", str)
EventSeq = NewType("EventSeq", int)

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_VERSION = re.compile(r"[0-9]+(\.[0-9]+){0,3}([-+][0-9A-Za-z.]{1,32})?")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_name(value: str, what: str) -> str:
    """Return ``value`` if it is a legal name (lower-case letters, digits, underscore; at most 64).

    Raises:
        ConfigError: naming ``what`` and the rule.
    """
    if not _NAME.fullmatch(value):
        raise ConfigError(
            f"{what} {value[:80]!r} is not a name: use a-z, 0-9 and _, a letter first, at most 64 long"
        )
    return value


def check_version(value: str) -> str:
    """Return ``value`` if it is a version such as ``1.4.2`` or ``2.0-rc.1``.

    Raises:
        ConfigError: naming the rule.
    """
    if not _VERSION.fullmatch(value):
        raise ConfigError(f"version {value[:80]!r} is not like 1.4.2 or 2.0-rc.1")
    return value


def check_sha256(value: str) -> Sha256:
    """Return ``value`` if it is 64 lower-case hex digits.

    Raises:
        ConfigError: otherwise.
    """
    if not _SHA256.fullmatch(value):
        raise ConfigError(f"digest {value[:80]!r} must be 64 lower-case hex digits")
    return Sha256(value)
