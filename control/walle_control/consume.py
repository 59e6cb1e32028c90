"""Read features in cloud code as they arrive: typed rows, in order, from where you stopped.

::

    @dataclass
    class DigitRead:                       # `walle-control features types` writes it from the manifest
        digit: int | None = None
        score: float | None = None

    async with HttpSource("http://control:8700", token) as source:
        rows = Features(source, "demo/digit_reader", "digit_read", DigitRead, after=cursor)
        async for row in rows:
            handle(row.device_id, row.fields.digit)
            save(rows.cursor)              # start there next time

Rules:

1. Rows come in the order of their ids, each once; ``cursor`` is the id of the last one given out. Ids are the
   same in every source of one control plane, so a consumer may move from one to another.
2. A source that does not answer is asked again, with a growing wait; everything else is raised.
3. A row that does not fit its type is raised once, and the cursor stands behind it: iterate on to skip it.

Runs under Trio. Needs nothing of the server.
"""

from __future__ import annotations

import sqlite3
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import httpx
import orjson
import trio

from walle_shared.backoff import Backoff
from walle_shared.errors import ConfigError, ConnectionLost, NotFound, RemoteProtocolError, StorageError
from walle_shared.errors import TransportError as _TransportError
from walle_shared.manifest import ColumnType
from walle_shared.records import RecordError, from_plain

if TYPE_CHECKING:
    import psycopg

__all__ = [
    "Feature", "FeatureFilter", "Features", "HttpSource", "ParquetSource", "PostgresSource", "Source",
    "SqliteSource", "check_type", "dataclass_text",
]  # fmt: skip

#: The server answers an empty page after so long; its limit is 50.
_WAIT_S = 25
_PAGE_ROWS = 1_000
#: How often a database is asked for more.
_POLL_S = 0.2

_PYTHON_TYPES: Mapping[ColumnType, str] = {
    "text": "str", "integer": "int", "real": "float", "boolean": "bool", "json": "Any",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Feature[F]:
    """One feature. (``device_id``, ``origin``) names it for ever; times are milliseconds since 1970."""

    id: int
    device_id: str
    origin: str
    scenario: str
    task: str
    version: str
    release_id: str
    name: str
    at_ms: int
    received_ms: int
    fields: F


@dataclass(frozen=True, slots=True)
class FeatureFilter:
    """Which features; empty text means any."""

    scenario: str = ""
    task: str = ""
    name: str = ""
    device: str = ""


_COLUMNS = [field.name for field in fields(Feature)]


class Source(Protocol):
    """Where features are read."""

    async def page(
        self, wanted: FeatureFilter, after: int, limit: int
    ) -> Sequence[Feature[Mapping[str, Any]]]:
        """Features after an id, in order; waits a while for the first and may come back without."""
        ...


class Features[F]:
    """The features of one upload, for ever; an async iterator.

    Args:
        source: where to read.
        task: ``SCENARIO/TASK``.
        name: the upload's.
        fields: a dataclass or a ``TypedDict``; ``dict`` takes the fields as they come.
        after: the ``cursor`` of the last time; 0 for all there are.
        device: one device's only.

    Raises:
        ConfigError: on construction, if ``task`` or ``fields`` is of another kind.
    """

    def __init__(
        self, source: Source, task: str, name: str, fields: type[F], *, after: int = 0, device: str = ""
    ) -> None:
        scenario, slash, task_name = task.partition("/")
        if not (scenario and slash and task_name):
            raise ConfigError(f"task {task!r} is not like SCENARIO/TASK")
        if not (is_dataclass(fields) or typing.is_typeddict(fields) or fields is dict):
            raise ConfigError(
                f"fields {fields!r} is no dataclass, no TypedDict and not dict: 'walle-control features"
                " types' writes one"
            )
        self.cursor = after
        self._source = source
        self._wanted = FeatureFilter(scenario, task_name, name, device)
        self._fields = fields
        self._backoff = Backoff(0.2, 10.0)
        self._rows: list[Feature[Mapping[str, Any]]] = []

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Feature[F]:
        while not self._rows:
            self._rows = list(reversed(await self._page()))
        row = self._rows.pop()
        self.cursor = row.id
        return _typed(row, self._fields)

    async def _page(self) -> Sequence[Feature[Mapping[str, Any]]]:
        try:
            page = await self._source.page(self._wanted, self.cursor, _PAGE_ROWS)
        except _TransportError as error:
            await trio.sleep(self._backoff.next_delay_s(getattr(error, "retry_after_s", None)))
            return ()
        self._backoff.reset()
        return page


class HttpSource:
    """The control plane's admin API, by long poll; an async context manager.

    Args:
        url: the server's.
        token: an admin token.
        wire: another transport than the network, for tests.
    """

    def __init__(self, url: str, token: str, *, wire: httpx.AsyncBaseTransport | None = None) -> None:
        self._http = httpx.AsyncClient(
            base_url=f"{url.rstrip('/')}/api/v1",
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(10.0, read=_WAIT_S + 15.0),
            transport=wire,
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def page(
        self, wanted: FeatureFilter, after: int, limit: int
    ) -> Sequence[Feature[Mapping[str, Any]]]:
        """Features after an id; see ``Source``.

        Raises:
            ConnectionLost: it does not answer.
            RemoteProtocolError: it refuses, in its own words.
        """
        asked = {name: getattr(wanted, name) for name in ("scenario", "task", "name", "device")}
        query = {name: text for name, text in asked.items() if text}
        answer = await self._get("features", {**query, "after": after, "limit": limit, "wait_s": _WAIT_S})
        try:
            return [Feature(**{name: row[name] for name in _COLUMNS}) for row in answer["features"]]
        except (KeyError, TypeError) as error:
            raise RemoteProtocolError(f"the features are not as expected: {error}") from None

    async def uploads(self, task: str, version: str) -> Mapping[str, Mapping[str, ColumnType]]:
        """What a task version's manifest declares: fields and types by upload.

        Raises:
            NotFound: the version was not imported.
            ConnectionLost: the server does not answer.
        """
        answer = await self._get(f"tasks/{task}/{version}", {})
        found: Mapping[str, Mapping[str, ColumnType]] = answer["definition"]["uploads"]
        return found

    async def _get(self, path: str, query: Mapping[str, str | int]) -> Any:
        try:
            answer = await self._http.get(path, params=query)
            body = orjson.loads(answer.content)
        except httpx.HTTPError as error:
            raise ConnectionLost(f"{self._http.base_url} does not answer: {error!r}") from None
        except orjson.JSONDecodeError:
            raise ConnectionLost(f"{self._http.base_url} answered without JSON: not our server?") from None
        if answer.status_code >= 500:
            raise ConnectionLost(f"{self._http.base_url}: {body.get('detail', body)}")
        if answer.is_error:
            kind = NotFound if answer.status_code == 404 else RemoteProtocolError
            raise kind(str(body.get("detail", body)))
        return body


class _PolledSource:
    """A source that is read in a thread, and asked again after a moment if there was nothing new."""

    async def page(
        self, wanted: FeatureFilter, after: int, limit: int
    ) -> Sequence[Feature[Mapping[str, Any]]]:
        """Features after an id; see ``Source``.

        Raises:
            StorageError: a file cannot be read.
            ConnectionLost: the server does not answer.
        """
        rows = await trio.to_thread.run_sync(self._read, wanted, after, limit)
        if not rows:
            await trio.sleep(_POLL_S)
        return rows

    def _read(self, wanted: FeatureFilter, after: int, limit: int) -> list[Feature[Mapping[str, Any]]]:
        raise NotImplementedError


class SqliteSource(_PolledSource):
    """The control plane's own database, read where it lies, on the same machine.

    Args:
        path: ``control.db`` in the server's data folder. It is opened to read only.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def _read(self, wanted: FeatureFilter, after: int, limit: int) -> list[Feature[Mapping[str, Any]]]:
        conditions, values = _conditions(wanted, "?")
        text = f"SELECT {', '.join(_COLUMNS)} FROM feature WHERE id > ?{conditions} ORDER BY id LIMIT ?"
        try:
            connection = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True, timeout=10)
            try:
                found = connection.execute(text, (after, *values, limit)).fetchall()
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise StorageError(f"{self._path}: {error}") from None
        return [_feature(row) for row in found]


class PostgresSource(_PolledSource):
    """The table that ``[sinks] postgres_url`` fills; close it with ``aclose``.

    Args:
        url: such as ``postgresql://reader@host/database``.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection[Any] | None = None

    async def aclose(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _read(self, wanted: FeatureFilter, after: int, limit: int) -> list[Feature[Mapping[str, Any]]]:
        import psycopg

        conditions, values = _conditions(wanted, "%s")
        text = (
            f"SELECT {', '.join(_COLUMNS)} FROM walle_feature WHERE id > %s{conditions} ORDER BY id LIMIT %s"
        )
        try:
            if self._connection is None:
                self._connection = psycopg.connect(self._url, autocommit=True, connect_timeout=10)
            found = self._connection.execute(text.encode(), (after, *values, limit)).fetchall()
        except psycopg.Error as error:
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            raise ConnectionLost(f"PostgreSQL: {' '.join(str(error).split())}") from None
        return [_feature(row) for row in found]


class ParquetSource(_PolledSource):
    """The files of one upload of one task version; needs pyarrow.

    Args:
        folder: the one of ``[sinks] parquet_dir``.
        version: the task's. Files of two versions appear in no order, so each is followed by itself.
    """

    def __init__(self, folder: Path, version: str) -> None:
        self._folder = folder
        self._version = version

    def _read(self, wanted: FeatureFilter, after: int, limit: int) -> list[Feature[Mapping[str, Any]]]:
        names = {
            "scenario": wanted.scenario, "task": wanted.task, "version": self._version, "name": wanted.name
        }  # fmt: skip
        folder = self._folder.joinpath(*(f"{key}={value}" for key, value in names.items()))
        rows: list[Feature[Mapping[str, Any]]] = []
        for path in sorted(folder.glob("*.parquet")):
            if int(path.stem.partition("-")[2]) > after:
                found = _read_parquet(path, names)
                rows += [r for r in found if r.id > after and wanted.device in ("", r.device_id)]
            if len(rows) >= limit:
                break
        return rows


def _read_parquet(path: Path, names: Mapping[str, str]) -> list[Feature[Mapping[str, Any]]]:
    from pyarrow import ArrowException, parquet

    try:
        table = parquet.ParquetFile(path).read()
    except (OSError, ArrowException) as error:
        raise StorageError(f"{path}: {error}") from None
    fields = table.schema.field("fields").type
    as_json = {field.name for field in fields if (field.metadata or {}).get(b"walle.type") == b"json"}

    def decoded(plain: Mapping[str, Any]) -> dict[str, Any]:
        present = {name: value for name, value in plain.items() if value is not None}
        return {name: orjson.loads(v) if name in as_json else v for name, v in present.items()}

    def feature(row: dict[str, Any]) -> Feature[Mapping[str, Any]]:
        row.update(names, fields=decoded(row["fields"]))
        return Feature(**row)

    return [feature(row) for row in table.to_pylist()]


def dataclass_text(name: str, declared: Mapping[str, ColumnType]) -> str:
    """The dataclass of one upload as Python text. Every field may be missing: a script may leave it out."""
    title = "".join(part.capitalize() for part in name.replace("-", "_").split("_"))
    lines = [f"    {field}: {_PYTHON_TYPES[kind]} | None = None" for field, kind in declared.items()]
    return "\n".join(["@dataclass(frozen=True, slots=True)", f"class {title}:", *lines, ""])


def check_type(fields_type: type[Any], declared: Mapping[str, ColumnType], what: str) -> None:
    """Compare a dataclass with what a manifest declares, before the first row does.

    Raises:
        ConfigError: it lacks a declared field, has another, or one of another type.
    """
    hints = typing.get_type_hints(fields_type)
    ours = {field.name for field in fields(fields_type)} - {"extra"}
    if missing := declared.keys() - ours - ({*declared} if "extra" in hints else set()):
        raise ConfigError(f"{fields_type.__name__} lacks {min(missing)}, which {what} declares: add it")
    if strange := ours - declared.keys():
        raise ConfigError(f"{fields_type.__name__}.{min(strange)} is not declared by {what}")
    examples: Mapping[ColumnType, object] = {
        "text": "", "integer": 1, "real": 0.5, "boolean": True, "json": {}
    }  # fmt: skip
    for name in sorted(ours):
        try:
            from_plain(hints[name], examples[declared[name]])
        except RecordError:
            raise ConfigError(
                f"{fields_type.__name__}.{name} cannot take a {declared[name]}, which {what} declares: add it"
            ) from None


def _conditions(wanted: FeatureFilter, mark: str) -> tuple[str, list[str]]:
    columns = {"scenario": "scenario", "task": "task", "name": "name", "device": "device_id"}
    given = {column: getattr(wanted, name) for name, column in columns.items() if getattr(wanted, name)}
    return "".join(f" AND {column} = {mark}" for column in given), list(given.values())


def _feature(row: Sequence[Any]) -> Feature[Mapping[str, Any]]:
    """A row of a database; SQLite has the fields as text."""
    values = dict(zip(_COLUMNS, row, strict=True))
    if isinstance(values["fields"], str):
        values["fields"] = orjson.loads(values["fields"])
    return Feature(**values)


def _typed[F](row: Feature[Mapping[str, Any]], kind: type[F]) -> Feature[F]:
    try:
        value = _fields(kind, row.fields)
    except RecordError as error:
        what = f"feature {row.id} ({row.scenario}/{row.task} {row.version}, {row.name})"
        raise RemoteProtocolError(f"{what} does not fit {kind.__name__}: {error}") from None
    return Feature(
        row.id, row.device_id, row.origin, row.scenario, row.task, row.version, row.release_id, row.name,
        row.at_ms, row.received_ms, value,
    )  # fmt: skip


def _fields[F](kind: type[F], plain: Mapping[str, Any]) -> F:
    if not typing.is_typeddict(kind):
        return typing.cast(F, plain) if kind is dict else from_plain(kind, plain)
    hints = typing.get_type_hints(kind)
    required: frozenset[str] = getattr(kind, "__required_keys__", frozenset())
    for name in sorted(required - plain.keys()):
        raise RecordError(name, "is missing")
    for name, value in plain.items():
        if name not in hints:
            raise RecordError(name, "is not known")
        from_plain(hints[name], value, name)
    return typing.cast(F, dict(plain))
