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
from walle_shared.limits import CLOUD_WORKERS_MAX, IMPORT_BUNDLE_MAX_BYTES, IMPORT_FILE_MAX_BYTES
from walle_shared.settings import parse_settings
from walle_shared.units import DAY_S, HOUR_S, MIB

ENV_PREFIX = "WALLE_CONTROL"
CONFIG_FILE = "control.toml"

_STREAM = re.compile(r"[A-Za-z0-9_\-]{1,64}")
_ACCEL = re.compile(r"(/[A-Za-z0-9_\-]+)*")
_HTTP = re.compile(r"https?://[^\s/]+/\S+")
_LISTEN = re.compile(r"((\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.\-]+):[0-9]{1,5}(-[0-9]{1,5})?)?")
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
    workers: int = _setting(
        1, "Processes that serve; more than one needs database.url. SIGHUP replaces them one after the other."
    )
    public_url: str = _setting(
        "", "URL under which devices reach the server; empty: the address it listens on."
    )
    data_dir: str = _setting(".", "Database, keys and published files; relative to this file's folder.")
    accel_prefix: str = _setting(
        "",
        "Let nginx send stored files: an internal location whose alias is the static folder, such as /_files;"
        " empty: send them from here.",
    )
    graceful_s: float = _setting(
        10.0, "How long running requests may take to finish once the server is told to stop."
    )
    body_timeout_s: float = _setting(30.0, "How long a client may take to send the body of one request.")


@dataclass(frozen=True, slots=True)
class DatabaseConfig:
    """Where the state is."""

    url: str = _setting(
        "",
        "PostgreSQL for several workers, such as postgresql://walle@db/walle; empty: control.db in the data"
        " folder. Keep a password in WALLE_CONTROL_DATABASE__URL or in a .pgpass file.",
    )


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
    reconnects_per_s: float = _setting(
        500.0,
        "Streams that end together are told to come back at times so far apart that so many come a second.",
    )
    spread_s: float = _setting(
        0.0, "Devices ask for a new epoch spread over so many seconds after the push; 0: at once."
    )
    max_streams: int = _setting(20_000, "Push streams held at once; more are answered 503.")
    nchan_urls: tuple[str, ...] = _setting(
        (),
        "Where nginx's nchan takes the news of an epoch, such as http://127.0.0.1:8702/push/epoch; one for"
        " each nginx that holds the devices' push streams.",
    )
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
    delta_versions: int = _setting(
        3, "Deltas are made from so many earlier versions, the commonest on devices first; 0: none."
    )
    require_simulation: bool = _setting(
        True, "Whether a version must have passed its simulations before it may be released."
    )
    simulation_s: float = _setting(120.0, "How long the simulations of a version may take.")
    events_schema: str = _setting(
        "",
        "The app's events.toml, relative to this file's folder: versions that could send what it calls local "
        "are refused. Empty: fields have no classes.",
    )


@dataclass(frozen=True, slots=True)
class GitConfig:
    """Repositories that are kept as mirrors (walle-control repo), and where large files lie."""

    program: str = _setting("git", "The git program, 2.31 or newer.")
    sync_s: float = _setting(300.0, "How often every repository is fetched; 0: only when asked to.")
    timeout_s: float = _setting(300.0, "How long one fetch may take.")
    max_bytes: int = _setting(4096 * MIB, "Largest mirror of a repository.")
    credentials_file: str = _setting(
        "",
        "TOML with a table of username and password per credential, relative to this file's folder; nobody "
        "else may read it. Repositories name their credential.",
    )
    large_files: tuple[str, ...] = _setting(
        (),
        "Folders, or URLs, where files lie by SHA-256 that repositories only point to (Git LFS pointers).",
    )


@dataclass(frozen=True, slots=True)
class ExclusiveConfig:
    """Files of single devices (walle-control exclusive)."""

    lifetime_s: float = _setting(30 * DAY_S, "How long a device may act on what it was told it has.")
    url_s: float = _setting(HOUR_S, "How long the URL of a sealed file holds.")
    accel_prefix: str = _setting(
        "",
        "Let nginx send sealed files: its internal location that stands for <data_dir>/exclusive/blob/, such "
        "as /_sealed/. Empty: they are sent by this server.",
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
    larger: float = _setting(
        1.5, "A release whose runs need this many times as much memory as before is paused; 0: never."
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
class WebhooksConfig:
    """Telling others of what happens; 'walle-control webhook create' says whom."""

    allow_networks: tuple[str, ...] = _setting(
        (),
        "Networks such as 10.0.0.0/8 that webhooks may reach though they are not public. Plain http reaches"
        " only these.",
    )
    interval_s: float = _setting(1.0, "How often it is looked whether a delivery is due.")


@dataclass(frozen=True, slots=True)
class OidcConfig:
    """People who log in at a provider of identities (OpenID Connect); docs/guide/operators.md explains."""

    issuer: str = _setting(
        "", "The provider, such as https://login.example.org/realms/x, to the letter; empty: none."
    )
    audience: str = _setting("", "Whom its tokens must be for: the id of your client, as a rule.")
    client_id: str = _setting(
        "", "The client that 'walle-control login' and the console ask as; empty: the audience."
    )
    client_secret_file: str = _setting(
        "",
        "A file with the client's secret, for the console where the provider asks for one, relative to this"
        " file's folder; empty: PKCE alone.",
    )
    scope: str = _setting("openid email", "What 'walle-control login' and the console ask for.")
    person_claim: str = _setting(
        "email", "The claim that names a person. Take one that people cannot change themselves."
    )
    roles_claim: str = _setting("groups", "The claim that roles are given by: a text or a list of texts.")
    roles: tuple[str, ...] = _setting(
        (),
        "Which values of it give which roles: 'walle-admins: admin', 'shop team: operator of shop'. What"
        " 'walle-control person grant' gave counts besides.",
    )

    @property
    def client(self) -> str:
        """The client that asks."""
        return self.client_id or self.audience


@dataclass(frozen=True, slots=True)
class ConsoleConfig:
    """The operator's console at /console; docs/guide/console.md explains."""

    enabled: bool = _setting(True, "Whether it is served.")
    session_s: float = _setting(12 * HOUR_S, "How long a browser stays signed in at the most.")
    idle_s: float = _setting(HOUR_S, "How long it stays signed in without a request.")


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """What Prometheus may ask; docs/reference/metrics.md lists it."""

    enabled: bool = _setting(
        True, "Whether requests are counted and GET /metrics answers, to tokens with metrics:read."
    )
    listen: str = _setting(
        "",
        "Another address, such as 127.0.0.1:9464, where /metrics, /livez and /readyz answer without a token;"
        " empty: none. For several workers a range, 127.0.0.1:9464-9471: each takes the first that is free.",
    )


@dataclass(frozen=True, slots=True)
class TracesConfig:
    """OpenTelemetry traces; docs/guide/monitoring.md explains. Needs pip install 'walle[otel]'."""

    endpoint: str = _setting(
        "",
        "Where spans are sent by OTLP/HTTP, such as http://127.0.0.1:4318/v1/traces; empty: off.",
    )
    service: str = _setting("walle-control", "The name of the service in the spans.")
    sample: float = _setting(
        0.01, "The part of requests that is followed, besides those that say they are part of a trace."
    )
    max_per_s: float = _setting(20.0, "At most so many requests and records are followed a second.")
    interval_s: float = _setting(5.0, "How often spans are sent.")


@dataclass(frozen=True, slots=True)
class CloudConfig:
    """The cloud halves of tasks; docs/guide/ask-the-cloud.md explains."""

    slots: int = _setting(
        2, "Answers that each worker of the server works out at once, such as one a core; 0: it runs none."
    )
    processes: int = _setting(
        8, "Processes kept for them: each scenario has its own, and each task whose tier is process."
    )
    idle_s: float = _setting(300.0, "How long such a process is kept without a question.")
    queue: int = _setting(256, "Questions that may wait in each worker of the server; more are refused.")


@dataclass(frozen=True, slots=True)
class ControlConfig:
    """All settings of the control plane."""

    server: ServerConfig = ServerConfig()
    database: DatabaseConfig = DatabaseConfig()
    log: LogConfig = LogConfig()
    stream: StreamConfig = StreamConfig()
    devices: DevicesConfig = DevicesConfig()
    epoch: EpochConfig = EpochConfig()
    trust: TrustConfig = TrustConfig()
    tasks: ImportConfig = ImportConfig()
    git: GitConfig = GitConfig()
    exclusive: ExclusiveConfig = ExclusiveConfig()
    guard: GuardConfig = GuardConfig()
    sinks: SinksConfig = SinksConfig()
    oidc: OidcConfig = OidcConfig()
    webhooks: WebhooksConfig = WebhooksConfig()
    cloud: CloudConfig = CloudConfig()
    console: ConsoleConfig = ConsoleConfig()
    metrics: MetricsConfig = MetricsConfig()
    traces: TracesConfig = TracesConfig()


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
    git = config.git
    if git.credentials_file:
        git = dataclasses.replace(git, credentials_file=str((path.parent / git.credentials_file).absolute()))
    oidc = config.oidc
    if oidc.client_secret_file:
        secret_file = str((path.parent / oidc.client_secret_file).absolute())
        oidc = dataclasses.replace(oidc, client_secret_file=secret_file)
    return dataclasses.replace(config, server=server, tasks=tasks, git=git, oidc=oidc)


#: Read by the client commands; they share the prefix but are not settings of the server.
CLIENT_VARIABLES = frozenset({f"{ENV_PREFIX}_URL", f"{ENV_PREFIX}_TOKEN", f"{ENV_PREFIX}_DATA"})


def _check_ranges(config: ControlConfig, where: str) -> None:
    rules = (
        ("server.port", 0 <= config.server.port <= 65535, "must be within 0..65535"),
        ("server.workers", 1 <= config.server.workers <= 256, "must be within 1..256"),
        ("server.accel_prefix", _is(_ACCEL, config.server.accel_prefix), "must be a path such as /_files"),
        ("stream.nchan_urls", all(_is(_HTTP, url) for url in config.stream.nchan_urls), "must be http URLs"),
        ("server.graceful_s", config.server.graceful_s > 0, "must be over 0"),
        ("server.body_timeout_s", config.server.body_timeout_s > 0, "must be over 0"),
        ("stream.heartbeat_s", config.stream.heartbeat_s > 0, "must be over 0"),
        ("stream.retry_s", config.stream.retry_s >= 0, "must not be negative"),
        ("devices.credential_s", config.devices.credential_s >= 1, "must be at least 1"),
        ("tasks.simulation_s", config.tasks.simulation_s > 0, "must be over 0"),
        ("epoch.lifetime_s", config.epoch.lifetime_s >= HOUR_S, "must be at least an hour (3600)"),
        ("exclusive.lifetime_s", config.exclusive.lifetime_s >= HOUR_S, "must be at least an hour (3600)"),
        ("exclusive.url_s", config.exclusive.url_s > 0, "must be over 0"),
        ("git.sync_s", config.git.sync_s >= 0, "must not be negative"),
        ("git.timeout_s", config.git.timeout_s > 0, "must be over 0"),
        ("git.max_bytes", config.git.max_bytes > 0, "must be over 0"),
        (
            "git.large_files",
            all(place.startswith(("/", "http://", "https://")) for place in config.git.large_files),
            "must be absolute folders or http(s) URLs",
        ),
        *(
            (f"trust.{f.name}", getattr(config.trust, f.name) >= HOUR_S, "must be at least an hour (3600)")
            for f in dataclasses.fields(TrustConfig)
        ),
        ("guard.interval_s", config.guard.interval_s > 0, "must be over 0"),
        ("sinks.parquet_roll_s", config.sinks.parquet_roll_s > 0, "must be over 0"),
        ("sinks.parquet_roll_bytes", config.sinks.parquet_roll_bytes >= MIB, f"must be at least {MIB}"),
        ("sinks.nats_stream", _is(_STREAM, config.sinks.nats_stream), "must be letters, digits, '_', '-'"),
        ("sinks.nats_subject", _is(_SUBJECT, config.sinks.nats_subject), "must be words joined by dots"),
        ("metrics.listen", _listens(config.metrics.listen), "must be like 127.0.0.1:9464 or host:9464-9471"),
        ("traces.sample", 0 <= config.traces.sample <= 1, "must be within 0..1"),
        ("traces.max_per_s", config.traces.max_per_s >= 1, "must be at least 1"),
        ("traces.interval_s", config.traces.interval_s > 0, "must be over 0"),
        ("console.session_s", config.console.session_s >= 60, "must be at least 60"),
        ("console.idle_s", config.console.idle_s >= 60, "must be at least 60"),
        ("cloud.slots", 0 <= config.cloud.slots <= CLOUD_WORKERS_MAX, f"must be 0 to {CLOUD_WORKERS_MAX}"),
        ("cloud.processes", config.cloud.processes >= 1, "must be at least 1"),
        ("cloud.idle_s", config.cloud.idle_s > 0, "must be over 0"),
        ("cloud.queue", config.cloud.queue >= 1, "must be at least 1"),
        ("webhooks.interval_s", config.webhooks.interval_s > 0, "must be over 0"),
        ("sinks.journal_keep_s", config.sinks.journal_keep_s >= 0, "must not be negative"),
    )
    for key, holds, rule in rules:
        if not holds:
            raise ConfigError(f"{where}: {key} {rule}")
    try:
        config.guard.settings()
    except ConfigError as error:
        raise ConfigError(f"{where}: guard.{error.message}") from None


def _listens(text: str) -> bool:
    ports = text.rpartition(":")[2].split("-") if text else []
    return _is(_LISTEN, text) and all(0 < int(port) <= 65535 for port in ports)


def _is(pattern: re.Pattern[str], text: str) -> bool:
    return pattern.fullmatch(text) is not None


def default_toml(config: ControlConfig | None = None) -> str:
    """The commented settings file with every key, at its default or as in ``config``."""
    config = config or ControlConfig()
    lines = [
        "# Settings of walle-control: this file < environment < flags. Unknown keys are errors.",
        f"# The environment variable of [server] port is {ENV_PREFIX}_SERVER__PORT, and so on.",
    ]
    for table in dataclasses.fields(ControlConfig):
        section = getattr(config, table.name)
        lines += ["", f"[{table.name}]  # {(type(section).__doc__ or '').strip()}"]
        for key in dataclasses.fields(section):
            lines += [f"# {line}" for line in textwrap.wrap(key.metadata["doc"], 108)]
            lines.append(f"{key.name} = {_toml(getattr(section, key.name))}")
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value)
