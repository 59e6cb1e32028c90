"""Features as Parquet files, one folder per upload of a task version, with the types its manifest declares.

::

    <folder>/scenario=demo/task=digit_reader/version=1.0.0/name=digit_read/0000000000000001-0000000000000420.parquet
    <folder>/undeclared/...

The ``key=value`` folders are what Spark, DuckDB and pyarrow read as columns. A file's name is the range of
journal ids in it, so writing a batch again writes the same files again. A file appears whole or not at all:
it is flushed to disk under another name and renamed. What no manifest declares, or not so, goes to
``undeclared`` with its fields as JSON text: nothing a device sends can stop the others' features.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import trio

from walle_control.features.telemetry.sinks.sink import Batching, Row
from walle_shared.errors import ConfigError, StorageError
from walle_shared.manifest import ColumnType

if TYPE_CHECKING:
    import pyarrow as pa

#: Fields and their types of one upload, or None if nothing declares it.
Fields = Mapping[str, ColumnType]
#: Looks an upload up: scenario, task, version, name.
FieldsOf = Callable[[str, str, str, str], Awaitable[Fields | None]]

_UNDECLARED = "undeclared"
#: Key of a field's metadata: the type its manifest declares, which tells JSON from text.
_DECLARED = "walle.type"
_INT64 = range(-(2**63), 2**63)
_HEAD = ("id", "device_id", "origin", "release_id", "at_ms", "received_ms")
#: Beside the head, where the folder does not say it.
_NAMES = ("scenario", "task", "version", "name")


class ParquetSink:
    """Files below ``folder``.

    Args:
        folder: made if need be.
        fields_of: what a task's manifest declares.
        roll_s: a file holds at most so many seconds of features.
        roll_bytes: and about so many bytes of fields as JSON, over all files of a batch.
    """

    name = "parquet"

    def __init__(self, folder: Path, fields_of: FieldsOf, *, roll_s: float, roll_bytes: int) -> None:
        self._folder = folder
        self._fields_of = fields_of
        self.batching = Batching(100_000, roll_bytes, roll_s, staged=True)

    async def write(self, rows: Sequence[Row]) -> int:
        """Write one batch: a file for each upload in it."""
        declared = {key: await self._fields_of(*key) for key in {_key(row) for row in rows}}
        await trio.to_thread.run_sync(self._write, rows, declared)
        return 0

    async def aclose(self) -> None:
        """Nothing is open between batches."""

    def _write(
        self, rows: Sequence[Row], declared: Mapping[tuple[str, str, str, str], Fields | None]
    ) -> None:
        groups: dict[str, list[tuple[Row, dict[str, Any]]]] = defaultdict(list)
        for row in rows:
            fields, values = declared[_key(row)], orjson.loads(row.fields)
            fits = fields is not None and fits_fields(values, fields)
            groups[_partition(row) if fits else _UNDECLARED].append((row, values))
        for where, members in groups.items():
            fields = None if where == _UNDECLARED else declared[_key(members[0][0])]
            table = _undeclared(members) if fields is None else _typed(members, fields)
            first, last = members[0][0].id, members[-1][0].id
            self._publish(table, self._folder / where / f"{first:016d}-{last:016d}.parquet")

    def _publish(self, table: pa.Table, path: Path) -> None:
        from pyarrow import ArrowException, parquet  # half a second and 60 MB: only those who write pay

        unfinished = path.with_suffix(".unfinished")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            parquet.write_table(table, unfinished, compression="zstd")
            _flush(unfinished)
            unfinished.replace(path)
            _flush(path.parent)
        except (OSError, ArrowException) as error:
            raise StorageError(f"{path}: cannot be written: {error}") from None


def require_pyarrow() -> None:
    """Check that pyarrow is there.

    Raises:
        ConfigError: it is not.
    """
    if not has_pyarrow():
        raise ConfigError("sinks.parquet is on, but pyarrow is missing: pip install 'walle[parquet]'")


def has_pyarrow() -> bool:
    """Whether pyarrow is installed; does not load it."""
    from importlib.util import find_spec

    return find_spec("pyarrow") is not None


def fits_fields(values: Mapping[str, Any], fields: Fields) -> bool:
    """Whether a record has no field but the declared ones, each of its type or null."""
    return values.keys() <= fields.keys() and all(
        _fits(value, fields[name]) for name, value in values.items()
    )


def _fits(value: object, kind: ColumnType) -> bool:
    if value is None or kind == "json":
        return True
    if kind == "boolean" or isinstance(value, bool):
        return kind == "boolean" and isinstance(value, bool)
    if kind == "integer":
        return isinstance(value, int) and value in _INT64
    return isinstance(value, int | float) if kind == "real" else isinstance(value, str)


def arrow_fields(fields: Fields) -> pa.StructType:
    """The type of the column ``fields``."""
    import pyarrow as pa

    kinds = {
        "text": pa.string(), "integer": pa.int64(), "real": pa.float64(), "boolean": pa.bool_(),
        "json": pa.string(),
    }  # fmt: skip
    return pa.struct(
        [pa.field(name, kinds[kind], metadata={_DECLARED: kind}) for name, kind in fields.items()]
    )


def _typed(members: Sequence[tuple[Row, dict[str, Any]]], fields: Fields) -> pa.Table:
    import pyarrow as pa

    def value(values: Mapping[str, Any], name: str) -> Any:
        found = values.get(name)
        if fields[name] == "json" and found is not None:
            return orjson.dumps(found).decode()
        return float(found) if fields[name] == "real" and found is not None else found

    structs = [{name: value(values, name) for name in fields} for _, values in members]
    return pa.table({**_columns(members, _HEAD), "fields": pa.array(structs, type=arrow_fields(fields))})


def _undeclared(members: Sequence[tuple[Row, dict[str, Any]]]) -> pa.Table:
    import pyarrow as pa

    texts = pa.array([row.fields for row, _ in members], type=pa.string())
    return pa.table({**_columns(members, (*_HEAD, *_NAMES)), "fields": texts})


def _columns(members: Sequence[tuple[Row, object]], names: Sequence[str]) -> dict[str, pa.Array[Any]]:
    import pyarrow as pa

    def kind(name: str) -> pa.DataType:
        return pa.int64() if name in ("id", "at_ms", "received_ms") else pa.string()

    return {name: pa.array([getattr(row, name) for row, _ in members], type=kind(name)) for name in names}


def _key(row: Row) -> tuple[str, str, str, str]:
    return row.scenario, row.task, row.version, row.name


def _partition(row: Row) -> str:
    """A manifest declares it, so these are names of ours, without a slash or two dots."""
    return f"scenario={row.scenario}/task={row.task}/version={row.version}/name={row.name}"


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
