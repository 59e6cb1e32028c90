"""The settings of ``walle-control``: one frozen object, read once, passed down.

Each setting stands here once with its default, its unit (in its name) and its explanation; ``default_toml``
writes the commented file that ``walle-control init`` and ``configs/control.toml`` show.
"""

from __future__ import annotations

import dataclasses
import json
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from walle_control.features.rollouts.guard import GuardSettings
from walle_shared.errors import ConfigError
from walle_shared.limits import IMPORT_BUNDLE_MAX_BYTES, IMPORT_FILE_MAX_BYTES
from walle_shared.settings import parse_settings
from walle_shared.units import DAY_S, HOUR_S, MIB

ENV_PREFIX = "WALLE_CONTROL"
CONFIG_FILE = "control.toml"

_STREAM = re.compile(r"[A-Za-z0-9_\-]{1,64}")
_SUBJECT = re.compile(r"[A-Za-z0-9_\-]+(\.[A-Za-z0-9_\-]+)*")


def _setting(default: Any, doc: str) -> Any:
    return dataclasses.field(default=default, metadata={"doc": doc})


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Where the server listens and keeps its data."""

    host: str = _setting(
        "127.0.0.1", "Address to listen on. Put a TLS proxy in front before opening it to a network."
    )
    port: int = _setting(8700, "Port to listen on; 0 lets the system choose (see <data_dir>/address.json).")
    public_url: str = _setting(
        "", "URL under which devices reach the server; empty: the address it listens on."
    )
    data_dir: str = _setting(".", "Database, keys and published files; relative to this file's folder.")
    graceful_s: float = _setting(
        10.0, "How long running requests may take to finish once the server is told to stop."
    )
    body_timeout_s: float = _setting(30.0, "How long a client may take to send the body of one request.")


@dataclass(frozen=True, slots=True)
class LogConfig:
    """What is logged and how."""

    level: Literal["debug", "info", "warning", "error"] = _setting("info", "debug, info, warning or error.")
    format: Literal["console", "json"] = _setting(
        "console", "console for people, json (one object a line) for machines."
    )


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """The push stream and the tunnel."""

    heartbeat_s: float = _setting(15.0, "Silence on a push stream after which a heartbeat comment is sent.")
    retry_s: float = _setting(
        2.0, "What devices are told to wait (plus jitter) before they come back after a goodbye."
    )
    max_streams: int = _setting(20_000, "Push streams held at once; more are answered 503.")
    max_tunnels: int = _setting(5_000, "Upload tunnels held at once; more are refused.")


@dataclass(frozen=True, slots=True)
class DevicesConfig:
    """Device identities."""

    credential_s: float = _setting(
        DAY_S, "Lifetime of a device credential; devices renew it by proof of possession."
    )
    seen_every_s: float = _setting(60.0, "A device's last-seen time is written at most this often.")


@dataclass(frozen=True, slots=True)
class EpochConfig:
    """The signed epoch file."""

    lifetime_s: float = _setting(
        7 * DAY_S, "How long a signed epoch is valid; it is signed anew at half of that."
    )


@dataclass(frozen=True, slots=True)
class TrustConfig:
    """The trust metadata (docs/guide/security.md); lifetimes count from the moment something is signed."""

    root_lifetime_s: float = _setting(365 * DAY_S, "The root: who may sign for the other roles.")
    targets_lifetime_s: float = _setting(365 * DAY_S, "The targets and the lists of approved bundles.")
    snapshot_lifetime_s: float = _setting(7 * DAY_S, "The snapshot; signed anew at half of that.")
    timestamp_lifetime_s: float = _setting(
        DAY_S, "The timestamp; signed anew at half of that. Devices take nothing new on an expired one."
    )
    warn_s: float = _setting(
        30 * DAY_S, "What people must sign is called for in the log and the status so long before it expires."
    )


@dataclass(frozen=True, slots=True)
class ImportConfig:
    """Limits of what a task repository may bring in."""

    max_file_bytes: int = _setting(IMPORT_FILE_MAX_BYTES, "Largest single file of a task.")
    max_bundle_bytes: int = _setting(IMPORT_BUNDLE_MAX_BYTES, "Largest sum of all files of a task version.")
    repository_roots: tuple[str, ...] = _setting(
        (), "Folders that repositories must lie in; empty: any folder the server can read."
    )
    events_schema: str = _setting(
        "",
        "The app's events.toml, relative to this file's folder: versions that could send what it calls local "
        "are refused. Empty: fields have no classes.",
    )


@dataclass(frozen=True, slots=True)
class SinksConfig:
    """Where features go besides the database. Devices are told "received" once every sink has them."""

    parquet: Literal["auto", "on", "off"] = _setting(
        "auto", "Parquet files with the types of the task's manifest. auto: on if pyarrow is installed."
    )
    parquet_dir: str = _setting("features", "Folder of the Parquet files; relative to the data folder.")
    parquet_roll_s: float = _setting(60.0, "A file holds at most so many seconds of features.")
    parquet_roll_bytes: int = _setting(
        64 * MIB, "The files of one batch hold at most so many bytes of features, counted as JSON."
    )
    postgres_url: str = _setting(
        "", "PostgreSQL to copy features into, such as postgresql://walle@db/features; empty: none."
    )
    nats_url: str = _setting(
        "", "NATS JetStream to publish features to, such as nats://broker:4222; empty: none."
    )
    nats_stream: str = _setting("WALLE_FEATURES", "The stream; made if it is not there.")
    nats_subject: str = _setting("walle.features", "Subjects are <this>.<scenario>.<task>.<name>.")
    journal_keep_s: float = _setting(
        0.0, "How long the database keeps features that every sink has; 0, or without a sink: for ever."
    )


@dataclass(frozen=True, slots=True)
class GuardConfig:
    """The guard of releases that do not set their own; features/rollouts/guard.py explains its rules."""

    max_failure_rate: float = _setting(
        0.05, "The part of its devices that a release may fail on, at the most."
    )
    alpha: float = _setting(
        1e-5,
        "Probability of taking back a release that is fine, for all rules together, however often one looks.",
    )
    tolerance: float = _setting(
        0.005, "A failure rate counts as worse than before if it is higher by more than this."
    )
    horizon_s: float = _setting(DAY_S, "Failures count within this time of a device's start.")
    silence_s: float = _setting(
        DAY_S, "A device not heard of this long after its start counts as silent; 0: never."
    )
    slower: float = _setting(
        1.5, "A release whose runs take this many times as long as before is paused; 0: never."
    )
    min_reports: int = _setting(
        0,
        "For a handful of devices: roll back as soon as more than max_failure_rate of so many reports failed,"
        " with no guarantee against chance. 0: off.",
    )
    interval_s: float = _setting(1.0, "How often live releases are judged, besides whenever reports arrive.")

    def settings(self) -> GuardSettings:
        """What releases are judged by.

        Raises:
            ConfigError: a value makes no sense.
        """
        names = [f.name for f in dataclasses.fields(GuardSettings)]
        return GuardSettings(**{name: getattr(self, name) for name in names}).checked()


@dataclass(frozen=True, slots=True)
class ControlConfig:
    """All settings of the control plane."""

    server: ServerConfig = ServerConfig()
    log: LogConfig = LogConfig()
    stream: StreamConfig = StreamConfig()
    devices: DevicesConfig = DevicesConfig()
    epoch: EpochConfig = EpochConfig()
    trust: TrustConfig = TrustConfig()
    tasks: ImportConfig = ImportConfig()
    guard: GuardConfig = GuardConfig()
    sinks: SinksConfig = SinksConfig()


def load_config(
    path: Path, *, environ: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None
) -> ControlConfig:
    """Read a settings file; environment and flags win over it.

    Raises:
        ConfigError: unreadable, not TOML, unknown key, or a value out of range; names file and key.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    settings = {name: value for name, value in (environ or {}).items() if name not in CLIENT_VARIABLES}
    config = parse_settings(
        ControlConfig, text, where=str(path), env_prefix=ENV_PREFIX, environ=settings, flags=flags
    )
    _check_ranges(config, str(path))
    data_dir = (path.parent / config.server.data_dir).resolve()
    server = dataclasses.replace(config.server, data_dir=str(data_dir))
    tasks = config.tasks
    if tasks.events_schema:
        tasks = dataclasses.replace(tasks, events_schema=str((path.parent / tasks.events_schema).absolute()))
    return dataclasses.replace(config, server=server, tasks=tasks)


#: Read by the client commands; they share the prefix but are not settings of the server.
CLIENT_VARIABLES = frozenset({f"{ENV_PREFIX}_URL", f"{ENV_PREFIX}_TOKEN", f"{ENV_PREFIX}_DATA"})


def _check_ranges(config: ControlConfig, where: str) -> None:
    rules = (
        ("server.port", 0 <= config.server.port <= 65535, "must be within 0..65535"),
        ("server.graceful_s", config.server.graceful_s > 0, "must be over 0"),
        ("server.body_timeout_s", config.server.body_timeout_s > 0, "must be over 0"),
        ("stream.heartbeat_s", config.stream.heartbeat_s > 0, "must be over 0"),
        ("stream.retry_s", config.stream.retry_s >= 0, "must not be negative"),
        ("devices.credential_s", config.devices.credential_s >= 1, "must be at least 1"),
        ("epoch.lifetime_s", config.epoch.lifetime_s >= HOUR_S, "must be at least an hour (3600)"),
        *(
            (f"trust.{f.name}", getattr(config.trust, f.name) >= HOUR_S, "must be at least an hour (3600)")
            for f in dataclasses.fields(TrustConfig)
        ),
        ("guard.interval_s", config.guard.interval_s > 0, "must be over 0"),
        ("sinks.parquet_roll_s", config.sinks.parquet_roll_s > 0, "must be over 0"),
        ("sinks.parquet_roll_bytes", config.sinks.parquet_roll_bytes >= MIB, f"must be at least {MIB}"),
        ("sinks.nats_stream", _is(_STREAM, config.sinks.nats_stream), "must be letters, digits, '_', '-'"),
        ("sinks.nats_subject", _is(_SUBJECT, config.sinks.nats_subject), "must be words joined by dots"),
        ("sinks.journal_keep_s", config.sinks.journal_keep_s >= 0, "must not be negative"),
    )
    for key, holds, rule in rules:
        if not holds:
            raise ConfigError(f"{where}: {key} {rule}")
    try:
        config.guard.settings()
    except ConfigError as error:
        raise ConfigError(f"{where}: guard.{error.message}") from None


def _is(pattern: re.Pattern[str], text: str) -> bool:
    return pattern.fullmatch(text) is not None


def default_toml() -> str:
    """The commented settings file with every key at its default."""
    lines = [
        "# Settings of walle-control: this file < environment < flags. Unknown keys are errors.",
        f"# The environment variable of [server] port is {ENV_PREFIX}_SERVER__PORT, and so on.",
    ]
    for table in dataclasses.fields(ControlConfig):
        section = getattr(ControlConfig(), table.name)
        lines += ["", f"[{table.name}]  # {(type(section).__doc__ or '').strip()}"]
        for key in dataclasses.fields(section):
            lines += [f"# {line}" for line in textwrap.wrap(key.metadata["doc"], 108)]
            lines.append(f"{key.name} = {_toml(key.default)}")
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value)
