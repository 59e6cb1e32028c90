"""The agent's settings: one frozen object, read once, passed down.

``configs/agent.toml`` shows every key; a test keeps the two in step. The environment
(``WALLE_AGENT_LINK__POLL_S``) wins over the file, flags win over both.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from walle_shared.errors import ConfigError
from walle_shared.limits import PROFILE_MAX_BYTES, REORDER_MAX_S
from walle_shared.protocol.codec import encode
from walle_shared.schema import EventSchema, parse_schema
from walle_shared.settings import parse_settings
from walle_shared.trust.roles import Pin
from walle_shared.units import DAY_S, HOUR_S, MIB, MINUTE_S

ENV_PREFIX = "WALLE_AGENT"

#: What Linux has room for in a socket's address, the closing NUL left out.
SOCKET_PATH_MAX_BYTES = 107

#: Where apps leave files for tasks: below the data folder, and beside recorded events.
INBOX_FOLDER = "inbox"

_ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,63}")

#: What the profile's attribute ``network`` may say.
NETWORKS = ("metered", "unmetered", "none")

Attribute = str | int | float | bool


@dataclass(frozen=True, slots=True)
class AgentSection:
    """Where the agent keeps its things, and where events come in.

    An empty ``events_socket`` means ``<data_dir>/events.sock``, an empty ``events_http`` no HTTP.
    """

    data_dir: str = "walle-agent-data"
    events_socket: str = ""
    events_http: str = ""


@dataclass(frozen=True, slots=True)
class ControlSection:
    """Which control plane, the root of its trust, and the token to enrol with (needed once)."""

    url: str = ""
    trusted_root: str = ""
    enrol_token: str = ""


@dataclass(frozen=True, slots=True)
class LinkSection:
    """The conversation with the control plane. Times in seconds."""

    poll_s: float = 5 * MINUTE_S
    timeout_s: float = 30.0
    stream_silence_s: float = 60.0
    backoff_base_s: float = 0.5
    backoff_cap_s: float = 5 * MINUTE_S
    report_linger_s: float = 0.15
    reports_max: int = 10_000


@dataclass(frozen=True, slots=True)
class DeploySection:
    """Installation. ``download_attempts`` is per file, ``install_attempts`` per release.

    A fresh version is taken back when the agent has died ``revert_after_crashes`` times in a row within
    ``settled_after_s`` of starting it. ``bytes_per_day`` bounds all downloads (0: no limit),
    ``metered_max_bytes`` what one installation may take of a metered network, ``delta_memory_bytes`` the
    memory that unpacking a delta may take.
    A release that failed here is tried again after ``quarantine_s``, then after twice as long; 0: never.
    A release may ask for up to ``install_attempts_max``, and for at least ``quarantine_min_s``.
    ``require_simulation``: only versions whose approval says that they passed their simulations.
    """

    download_attempts: int = 5
    install_attempts: int = 3
    revert_after_failures: int = 5
    revert_after_crashes: int = 3
    settled_after_s: float = 5 * MINUTE_S
    proven_after_successes: int = 10
    retry_cap_s: float = HOUR_S
    bytes_per_day: int = 0
    metered_max_bytes: int = 4 * MIB
    delta_memory_bytes: int = 128 * MIB
    quarantine_s: float = DAY_S
    install_attempts_max: int = 10
    quarantine_min_s: float = HOUR_S
    require_simulation: bool = False


@dataclass(frozen=True, slots=True)
class StreamsSection:
    """The event stream.

    ``schema`` is the file that declares what the app's events hold and how private it is; empty: nothing is
    declared, and no field has a class. Events that are not as declared are counted, or refused (``reject``).
    Events with times of their own wait ``reorder_s`` for earlier ones. What comes later than that is taken
    as of when it came (``keep``), or put into a table that no trigger sees (``aside``).
    """

    schema: str = ""
    check: Literal["off", "count", "reject"] = "count"
    reorder_s: float = 0.2
    late: Literal["keep", "aside"] = "keep"


@dataclass(frozen=True, slots=True)
class TunnelSection:
    """What uploads may cost. ``conditions_file`` is written by whoever embeds the agent.

    After ``heartbeat_s`` seconds of silence the control plane is asked whether it is there.
    """

    bytes_per_day: int = 0
    battery_min: float = 0.2
    conditions_file: str = ""
    heartbeat_s: float = 45.0


@dataclass(frozen=True, slots=True)
class LearningSettings:
    """Learning together: whether the device takes part, in how many rounds a day, how often it looks for one.

    ``consent``: its owner agrees; ``conditions_file`` may say otherwise at any time. ``local_fields``: tasks
    that may have seen what must not leave the device take part as well.
    """

    consent: bool = False
    rounds_per_day: int = 8
    poll_s: float = 15 * MINUTE_S
    local_fields: bool = False


@dataclass(frozen=True, slots=True)
class RunSection:
    """Task runs: ``slots`` run at once, ``queue`` firings wait, a task may ask for at most the two limits.

    They run in at most ``workers`` processes, one per scenario and tier; each ends after ``worker_idle_s``
    seconds without a run. ``trace_share`` of runs and requests carry a trace to the control plane.
    """

    slots: int = 2
    workers: int = 8
    worker_idle_s: float = 5 * MINUTE_S
    queue: int = 1_024
    wall_max_s: float = 60.0
    memory_max_bytes: int = 256 * MIB
    trace_share: float = 0.0


@dataclass(frozen=True, slots=True)
class InboxSection:
    """Files that the app hands over to tasks, in ``folder`` (empty: ``<data_dir>/inbox``).

    They stay for ``keep_s`` seconds, and no longer than there are ``max_bytes`` of newer ones.
    """

    folder: str = ""
    max_bytes: int = 64 * MIB
    keep_s: float = 10 * MINUTE_S


@dataclass(frozen=True, slots=True)
class LogSection:
    """What is logged and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """All settings of the agent. ``profile`` holds the attributes that release conditions may ask for."""

    agent: AgentSection = AgentSection()
    control: ControlSection = ControlSection()
    profile: Mapping[str, Attribute] = field(default_factory=dict)
    link: LinkSection = LinkSection()
    deploy: DeploySection = DeploySection()
    streams: StreamsSection = StreamsSection()
    tunnel: TunnelSection = TunnelSection()
    run: RunSection = RunSection()
    learning: LearningSettings = LearningSettings()
    inbox: InboxSection = InboxSection()
    log: LogSection = LogSection()

    @property
    def data_dir(self) -> Path:
        """The data folder."""
        return Path(self.agent.data_dir)

    @property
    def events_socket(self) -> Path:
        """The Unix socket apps write events to."""
        return Path(self.agent.events_socket or self.data_dir / "events.sock")

    @property
    def inbox_dir(self) -> Path:
        """The folder in which apps leave files for tasks."""
        return Path(self.inbox.folder or self.data_dir / INBOX_FOLDER)

    @property
    def events_http(self) -> tuple[str, int] | None:
        """The address and port that events come in over HTTP, if they may.

        Raises:
            ConfigError: it is not a loopback address and a port.
        """
        return _parse_loopback(self.agent.events_http) if self.agent.events_http else None

    def event_schema(self) -> EventSchema | None:
        """What the app's events hold, from the file in the settings; None if none is set.

        Raises:
            ConfigError: it cannot be read, or is wrong.
        """
        return read_schema(Path(self.streams.schema)) if self.streams.schema else None

    def trusted_root(self) -> Pin:
        """The root that this device starts from.

        Raises:
            ConfigError: it is none.
        """
        return Pin.parse(self.control.trusted_root)


def load_config(
    path: Path, *, environ: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None
) -> AgentConfig:
    """Read a settings file; relative paths in it count from its folder.

    Raises:
        ConfigError: unreadable, not TOML, an unknown key, or a value out of range; names file and key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    config = parse_settings(
        AgentConfig, text, where=str(path), env_prefix=ENV_PREFIX, environ=environ, flags=flags
    )
    anchored = _anchor(config, path.parent)
    try:
        _check(anchored)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return anchored


def read_schema(path: Path) -> EventSchema:
    """Read and check an ``events.toml``.

    Raises:
        ConfigError: naming the file and the key.
    """
    try:
        return parse_schema(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None


def _anchor(config: AgentConfig, folder: Path) -> AgentConfig:
    """Make relative paths absolute, so that they mean the same from any working directory."""
    data_dir = (folder / config.agent.data_dir).absolute()
    socket = config.agent.events_socket
    conditions = config.tunnel.conditions_file
    tunnel = replace(
        config.tunnel, conditions_file=str((folder / conditions).absolute()) if conditions else ""
    )
    schema = config.streams.schema
    streams = replace(config.streams, schema=str((folder / schema).absolute()) if schema else "")
    inbox = config.inbox.folder
    section = replace(
        config.agent,
        data_dir=str(data_dir),
        events_socket=str((folder / socket).absolute()) if socket else "",
    )
    return replace(
        config, agent=section, tunnel=tunnel, streams=streams,
        inbox=replace(config.inbox, folder=str((folder / inbox).absolute()) if inbox else ""),
    )  # fmt: skip


def _check(config: AgentConfig) -> None:
    url = urlsplit(config.control.url)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ConfigError(f"control.url {config.control.url!r} is not like https://control.example.com")
    if not config.control.trusted_root:
        raise ConfigError(
            "control.trusted_root is empty: give what 'walle-control enrol-token create' printed as such"
        )
    config.trusted_root()
    _ = config.events_http  # raises what is wrong with it
    socket_bytes = len(os.fsencode(config.events_socket))
    if socket_bytes > SOCKET_PATH_MAX_BYTES:
        raise ConfigError(
            f"agent.events_socket {config.events_socket} has {socket_bytes} bytes, "
            f"a Unix socket's path at most {SOCKET_PATH_MAX_BYTES}: choose a shorter path for it"
        )
    for name, value in (
        ("link.poll_s", config.link.poll_s),
        ("link.timeout_s", config.link.timeout_s),
        ("link.stream_silence_s", config.link.stream_silence_s),
        ("link.backoff_base_s", config.link.backoff_base_s),
        ("tunnel.heartbeat_s", config.tunnel.heartbeat_s),
        ("link.backoff_cap_s", config.link.backoff_cap_s),
        ("link.reports_max", config.link.reports_max),
        ("deploy.download_attempts", config.deploy.download_attempts),
        ("deploy.install_attempts", config.deploy.install_attempts),
        ("deploy.install_attempts_max", config.deploy.install_attempts_max),
        ("deploy.revert_after_failures", config.deploy.revert_after_failures),
        ("deploy.revert_after_crashes", config.deploy.revert_after_crashes),
        ("deploy.settled_after_s", config.deploy.settled_after_s),
        ("deploy.proven_after_successes", config.deploy.proven_after_successes),
        ("deploy.retry_cap_s", config.deploy.retry_cap_s),
        ("learning.poll_s", config.learning.poll_s),
        ("run.slots", config.run.slots),
        ("run.workers", config.run.workers),
        ("run.worker_idle_s", config.run.worker_idle_s),
        ("run.queue", config.run.queue),
        ("run.wall_max_s", config.run.wall_max_s),
        ("run.memory_max_bytes", config.run.memory_max_bytes),
        ("inbox.max_bytes", config.inbox.max_bytes),
        ("inbox.keep_s", config.inbox.keep_s),
    ):
        if not value > 0:
            raise ConfigError(f"{name} must be over 0")
    for name, value in (
        ("link.report_linger_s", config.link.report_linger_s),
        ("deploy.quarantine_s", config.deploy.quarantine_s),
        ("deploy.quarantine_min_s", config.deploy.quarantine_min_s),
        ("learning.rounds_per_day", config.learning.rounds_per_day),
    ):
        if value < 0:
            raise ConfigError(f"{name} must not be negative")
    if not 0 <= config.streams.reorder_s <= REORDER_MAX_S:
        raise ConfigError(f"streams.reorder_s must be 0 to {REORDER_MAX_S:g}")
    if config.tunnel.bytes_per_day < 0 or not 0 <= config.tunnel.battery_min <= 1:
        raise ConfigError("tunnel.bytes_per_day must not be negative, and tunnel.battery_min 0 to 1")
    for name, size_bytes in (
        ("deploy.bytes_per_day", config.deploy.bytes_per_day),
        ("deploy.metered_max_bytes", config.deploy.metered_max_bytes),
        ("deploy.delta_memory_bytes", config.deploy.delta_memory_bytes),
    ):
        if size_bytes < 0:
            raise ConfigError(f"{name} must not be negative")
    if config.profile.get("network", "metered") not in NETWORKS:
        raise ConfigError(f"profile.network must be one of {', '.join(NETWORKS)}")
    for name in config.profile:
        if not _ATTRIBUTE.fullmatch(name):
            raise ConfigError(f"profile.{name[:80]!r} is not an attribute name: use letters, digits, _ and .")
    if len(encode(config.profile)) > PROFILE_MAX_BYTES:
        raise ConfigError(f"profile is over the limit of {PROFILE_MAX_BYTES} bytes")


def _parse_loopback(text: str) -> tuple[str, int]:
    """Read ``127.0.0.1:8710`` or ``[::1]:8710``.

    Raises:
        ConfigError: it is not that, or not a loopback address.
    """
    try:
        url = urlsplit(f"//{text}")
        address, port = ipaddress.ip_address(url.hostname or ""), url.port
    except ValueError:
        raise ConfigError(f"agent.events_http {text!r} is not like 127.0.0.1:8710") from None
    if port is None or url.path:
        raise ConfigError(f"agent.events_http {text!r} is not like 127.0.0.1:8710")
    if not address.is_loopback:
        raise ConfigError(f"agent.events_http {text!r} is not a loopback address: use 127.0.0.1 or [::1]")
    return str(address), port
