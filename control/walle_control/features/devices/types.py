"""Types of the devices feature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from walle_control.features.telemetry.types import InstalledTask
from walle_control.web.requests import page_limit
from walle_shared.ids import DeviceId
from walle_shared.targeting import Profile

DeviceState = Literal["active", "revoked"]


@dataclass(frozen=True, slots=True)
class Device:
    """A device as an operator sees it."""

    id: DeviceId
    state: DeviceState
    profile: Profile
    created_ms: int
    last_seen_ms: int
    tasks: tuple[InstalledTask, ...] = ()


@dataclass(frozen=True, slots=True)
class DeviceKey:
    """What is needed to let a device renew."""

    id: DeviceId
    public_key: str
    state: DeviceState
    renewed_at_ms: int
    enrol_token: int


@dataclass(frozen=True, slots=True)
class EnrolToken:
    """An enrolment token's row; the token itself is not stored."""

    id: int
    uses_left: int
    expires_ms: int


@dataclass(frozen=True, slots=True)
class EnrolTokenRequest:
    """An operator asks for a token that lets up to ``uses`` devices enrol for ``valid_s`` seconds."""

    uses: int = 1
    valid_s: float = 3600.0
    note: str = ""


@dataclass(frozen=True, slots=True)
class EnrolTokenResponse:
    """The token, shown this once, and what else an agent's settings need."""

    token: str
    uses: int
    expires_ms: int
    trusted_root: str


@dataclass(frozen=True, slots=True)
class DevicesAsked:
    """A page of devices behind an id."""

    after: str = ""
    limit: int = page_limit()


@dataclass(frozen=True, slots=True)
class DeviceList:
    """A page of devices, by id; ``next`` is where the next page starts, if there is one."""

    devices: tuple[Device, ...]
    next: str | None
