"""The roles, what each may sign, and what the files and bundles are called. One table for both sides.

::

    root ──┬── timestamp    the newest snapshot; also signs the time
           ├── snapshot     the version of every file below
           └── targets ──┬── bundles…    which manifest is which task version (hash bins)
                         ├── policy      epochs          signed on line, as envelopes
                         └── exclusive   devices' own    signed on line, as envelopes

Metadata lies under ``STATIC_ROOT/tuf`` as python-tuf writes it: ``timestamp.json``, and
``<version>.<role>.json`` for the rest, which never change. What ``policy`` and ``exclusive`` sign changes at
any moment or is different for every device; it is not listed in the snapshot, but carries counters, an expiry
and the version of the metadata it rests on.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from walle_shared.errors import ConfigError
from walle_shared.ids import Sha256, check_sha256

ROOT: Final = "root"
TIMESTAMP: Final = "timestamp"
SNAPSHOT: Final = "snapshot"
TARGETS: Final = "targets"
BUNDLES: Final = "bundles"
POLICY: Final = "policy"
EXCLUSIVE: Final = "exclusive"

#: The kind of the server's signed time, an envelope by ``timestamp``.
TIME_KIND: Final = "time"

#: The roles that people hold the keys of. The others' keys are on the server, which signs at any moment.
OFFLINE: Final = (ROOT, TARGETS, BUNDLES)
ONLINE: Final = (TIMESTAMP, SNAPSHOT, POLICY, EXCLUSIVE)
ROLES: Final = (*OFFLINE, *ONLINE)

#: Those whose keys the root names; the targets name the others'.
TOP_LEVEL: Final = (ROOT, TIMESTAMP, SNAPSHOT, TARGETS)

#: The two that sign envelopes, and what the targets let them say; no bundle is called so.
DELEGATED_PATHS: Final = {POLICY: ["epoch/*"], EXCLUSIVE: ["exclusive/*/*"]}

TIMESTAMP_FILE: Final = "timestamp.json"

#: Most bundles that one bin should hold: some 50 KB of metadata for a device to fetch.
BIN_BUNDLES: Final = 256

_BIN = re.compile(rf"{BUNDLES}(-[0-9a-f]{{1,3}})?")


def is_bundles(role: str) -> bool:
    """Whether a role is the list of bundles or one of its bins."""
    return _BIN.fullmatch(role) is not None


def held_as(role: str) -> str:
    """The role whose keys sign for ``role``: all bins are signed by the same people."""
    return BUNDLES if is_bundles(role) else role


def file_name(role: str, version: int) -> str:
    """What a metadata file is called below ``tuf/``."""
    return TIMESTAMP_FILE if role == TIMESTAMP else f"{version}.{role}.json"


def bundle_path(scenario: str, task: str, version: str) -> str:
    """What a task version is called among the targets."""
    return f"bundle/{scenario}/{task}/{version}"


def bin_digits(bundles: int) -> int:
    """Into how many bins so many bundles belong, as the number of hex digits that tell a bin.

    Bins become more by sixteens, so that a bin is one prefix of a path's digest and metadata moves seldom.
    """
    digits = 0
    while digits < 3 and bundles > BIN_BUNDLES << (4 * digits):
        digits += 1
    return digits


def bins(digits: int) -> dict[str, list[str]]:
    """Every bin by name, with the prefixes of digests that belong to it."""
    if digits == 0:
        return {BUNDLES: [f"{digit:x}" for digit in range(16)]}
    prefixes = (f"{number:0{digits}x}" for number in range(16**digits))
    return {f"{BUNDLES}-{prefix}": [prefix] for prefix in prefixes}


def bin_of(path: str, digits: int) -> str:
    """The bin of a bundle."""
    return f"{BUNDLES}-{hashlib.sha256(path.encode()).hexdigest()[:digits]}" if digits else BUNDLES


class Pin(NamedTuple):
    """The root that a device starts from: its version and the digest of its file."""

    version: int
    sha256: Sha256

    def __str__(self) -> str:
        return f"{self.version}.{self.sha256}"

    @classmethod
    def parse(cls, text: str) -> Pin:
        """Read what ``str`` wrote.

        Raises:
            ConfigError: it is no pin.
        """
        version, _, digest = text.partition(".")
        if not re.fullmatch("[1-9][0-9]{0,8}", version):
            raise ConfigError(
                f"trusted root {text[:80]!r} is not like 1.<64 hex digits>:"
                " 'walle-control enrol-token create' prints it"
            )
        return cls(int(version), check_sha256(digest))


@dataclass(frozen=True, slots=True)
class SignedTime:
    """Signed by ``timestamp``: what time it was when the server was given ``nonce``."""

    nonce: str
    now_ms: int
