"""The sinks that the settings name."""

from __future__ import annotations

from pathlib import Path

from walle_control.config import ControlConfig
from walle_control.features.telemetry.sinks.nats import NatsSink, require_nats
from walle_control.features.telemetry.sinks.parquet import FieldsOf, ParquetSink, has_pyarrow, require_pyarrow
from walle_control.features.telemetry.sinks.postgres import PostgresSink, require_psycopg
from walle_control.features.telemetry.sinks.sink import Sink


def configured_sinks(config: ControlConfig, fields_of: FieldsOf) -> list[Sink]:
    """Make them; nothing is connected yet.

    Raises:
        ConfigError: the library of one is not installed.
    """
    settings, sinks = config.sinks, list[Sink]()
    if settings.parquet == "on":
        require_pyarrow()
    if settings.parquet == "on" or (settings.parquet == "auto" and has_pyarrow()):
        folder = Path(config.server.data_dir) / settings.parquet_dir
        roll_s, roll_bytes = settings.parquet_roll_s, settings.parquet_roll_bytes
        sinks.append(ParquetSink(folder, fields_of, roll_s=roll_s, roll_bytes=roll_bytes))
    if settings.postgres_url:
        require_psycopg()
        sinks.append(PostgresSink(settings.postgres_url))
    if settings.nats_url:
        require_nats()
        sinks.append(NatsSink(settings.nats_url, settings.nats_stream, settings.nats_subject))
    return sinks
