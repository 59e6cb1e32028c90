"""Consuming features: typed, in order, resumable, from each source; the guide's example runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import httpx
import pytest
import trio
from starlette.applications import Starlette

from walle_control.app import Control
from walle_control.consume import (
    Feature,
    FeatureFilter,
    Features,
    HttpSource,
    ParquetSource,
    PostgresSource,
    Source,
    SqliteSource,
    check_type,
    dataclass_text,
)
from walle_control.db.store import Store
from walle_control.features.telemetry.sinks.parquet import ParquetSink
from walle_control.features.telemetry.sinks.postgres import PostgresSink
from walle_control.features.telemetry.sinks.sink import Row
from walle_shared.errors import ConfigError, ConnectionLost, NotFound, RemoteProtocolError
from walle_shared.ids import DeviceId
from walle_shared.protocol.tunnel import Record, TunnelClass
from walle_shared.protocol.tunnel_receiver import RecordReceived
from walle_support.servers import ServerProcess

GUIDE = Path(__file__).parents[3] / "docs" / "guide" / "read-features.md"
D1 = DeviceId("d1")
DECLARED: dict[str, Any] = {"n": "integer", "t": "text"}


@dataclass(frozen=True)
class Seen:
    n: int
    t: str | None = None


class SeenDict(TypedDict, total=False):
    n: int


async def arrive(control: Control, *numbers: int, task: str = "reader", **fields: Any) -> None:
    items = [
        RecordReceived(
            TunnelClass.BATCH, n, Record("demo", task, "1.0.0", "r", "seen", 5, {"n": n, **fields})
        )
        for n in numbers
    ]
    await control.telemetry.record_tunnel(D1, f"inc-{task}", items)


async def take(rows: Features[Any], count: int) -> list[Any]:
    with trio.fail_after(60):
        return [(await anext(rows)).fields for _ in range(count)]


@pytest.fixture
def wire(app: Starlette) -> httpx.ASGITransport:
    return httpx.ASGITransport(app)


@pytest.fixture
def source(wire: httpx.ASGITransport, control: Control, admin_token: str) -> HttpSource:
    return HttpSource("http://control", admin_token, wire=wire)


async def test_rows_come_typed_in_order_and_from_where_one_stopped(
    control: Control, source: HttpSource
) -> None:
    await arrive(control, 1, 2)
    await arrive(control, 1, task="other")
    await arrive(control, 3)
    rows = Features(source, "demo/reader", "seen", Seen)
    assert await take(rows, 2) == [Seen(1), Seen(2)]
    again = Features(source, "demo/reader", "seen", Seen, after=rows.cursor)
    assert await take(again, 1) == [Seen(3)]
    row = await anext(Features(source, "demo/reader", "seen", SeenDict))
    assert (row.id, row.device_id, row.fields) == (1, "d1", {"n": 1})


async def test_a_poll_waits_for_what_is_to_come(
    control: Control, source: HttpSource, nursery: trio.Nursery
) -> None:
    got: list[Any] = []
    done = trio.Event()

    async def consume() -> None:
        got.extend(await take(Features(source, "demo/reader", "seen", dict), 1))
        done.set()

    nursery.start_soon(consume)
    await arrive(control, 1, task="other")  # wakes the poll, which has nothing to say
    await arrive(control, 1)
    with trio.fail_after(60):
        await done.wait()
    assert got == [{"n": 1}]


async def test_a_row_that_does_not_fit_is_raised_once(control: Control, source: HttpSource) -> None:
    await arrive(control, 1, n="text")
    await arrive(control, 2)
    rows = Features(source, "demo/reader", "seen", Seen)
    with pytest.raises(RemoteProtocolError, match=r"feature 1 .* does not fit Seen: n: expected an integer"):
        await anext(rows)
    assert await take(rows, 1) == [Seen(2)]
    with pytest.raises(RemoteProtocolError, match="n: expected an integer"):
        await anext(Features(source, "demo/reader", "seen", SeenDict))


async def test_a_source_that_is_away_is_asked_again() -> None:
    row = Feature[Mapping[str, Any]](7, "d1", "o", "demo", "reader", "1", "r", "seen", 1, 2, {"n": 1})

    class Shy:
        asked = 0

        async def page(
            self, wanted: FeatureFilter, after: int, limit: int
        ) -> Sequence[Feature[Mapping[str, Any]]]:
            await trio.lowlevel.checkpoint()
            self.asked += 1
            if self.asked == 1:
                raise ConnectionLost("not yet")
            return [row] if self.asked == 3 else []

    shy: Source = Shy()
    rows = Features(shy, "demo/reader", "seen", Seen, after=3)
    assert await take(rows, 1) == [Seen(1)]
    assert rows.cursor == 7


async def test_refusals_are_raised(wire: httpx.ASGITransport, control: Control, source: HttpSource) -> None:
    with pytest.raises(RemoteProtocolError, match="token"):
        await anext(Features(HttpSource("http://control", "wrong", wire=wire), "demo/reader", "seen", dict))
    with pytest.raises(NotFound):
        await source.uploads("demo/reader", "9.9.9")
    for task, kind in (("reader", Seen), ("demo/reader", int)):
        with pytest.raises(ConfigError):
            Features(source, task, "seen", kind)


@pytest.mark.parametrize("backend", ["sqlite"])  # a PostgreSQL is asked through the server
async def test_the_database_is_a_source(control: Control, store: Store) -> None:
    rows = Features(SqliteSource(store.home.database), "demo/reader", "seen", Seen)
    await arrive(control, 1, 2)
    assert await take(rows, 2) == [Seen(1), Seen(2)]
    await arrive(control, 3)
    assert await take(rows, 1) == [Seen(3)]


@pytest.mark.slow
async def test_postgres_is_a_source(postgres: ServerProcess) -> None:
    sink, source = PostgresSink(postgres.url), PostgresSource(postgres.url)
    names = ("demo", "reader", "1.0.0", "r", "seen")
    await sink.write([Row(n, "d1", f"o{n}", *names, 1, 2, f'{{"n":{n}}}') for n in (4, 5)])
    assert await take(Features(source, "demo/reader", "seen", Seen, after=4), 1) == [Seen(5)]
    await sink.aclose()
    await source.aclose()


async def test_parquet_files_are_a_source(tmp_path: Path) -> None:
    async def declared(scenario: str, task: str, version: str, name: str) -> dict[str, Any]:
        return {**DECLARED, "j": "json"}

    sink = ParquetSink(tmp_path, declared, roll_s=60, roll_bytes=1 << 20)
    names = ("demo", "reader", "1.0.0", "r", "seen")
    for first in (1, 3):
        texts = (f'{{"n":{first},"j":{{"a":"b"}}}}', f'{{"n":{first + 1}}}')
        await sink.write([Row(first + i, "d1", "o", *names, 1, 2, text) for i, text in enumerate(texts)])
    rows = Features(ParquetSource(tmp_path, "1.0.0"), "demo/reader", "seen", dict, after=1)
    assert await take(rows, 3) == [{"n": 2}, {"n": 3, "j": {"a": "b"}}, {"n": 4}]
    assert rows.cursor == 4


# Types from the manifest


@dataclass
class Wrong:
    n: str
    t: str


@dataclass
class Strange:
    n: int
    t: str
    more: int = 0


@dataclass
class Lacking:
    n: int


@dataclass
class Lenient:
    n: int
    extra: Mapping[str, Any] = field(default_factory=dict)


def test_a_class_is_compared_with_what_a_manifest_declares() -> None:
    check_type(Seen, DECLARED, "1.0.0")
    check_type(Lenient, DECLARED, "1.0.0")
    for kind, complaint in (
        (Wrong, r"Wrong\.n cannot take a integer"),
        (Strange, r"Strange\.more is not declared"),
        (Lacking, "Lacking lacks t"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            check_type(kind, DECLARED, "1.0.0")


def test_the_dataclass_of_an_upload_is_python_that_fits_it() -> None:
    every: dict[str, Any] = {"a": "text", "b": "integer", "c": "real", "d": "boolean", "e": "json"}
    space: dict[str, Any] = {"dataclass": dataclass, "Any": Any}
    text = dataclass_text("digit_read", every)
    exec(compile(text, "declared", "exec", dont_inherit=True), space)
    check_type(space["DigitRead"], every, "1.0.0")


# The guide


async def test_the_guides_example_counts(
    control: Control, wire: httpx.ASGITransport, admin_token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (text,) = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    space: dict[str, Any] = {"__name__": "guide"}
    exec(compile(text, str(GUIDE), "exec", dont_inherit=True), space)
    space["HttpSource"] = lambda url, token: HttpSource(url, token, wire=wire)
    for n, digit in enumerate((7, 7, 3), start=1):
        record = Record("demo", "digit_reader", "1.0.0", "r", "digit_read", 5, {"digit": digit, "score": 0.9})
        await control.telemetry.record_tunnel(D1, "inc", [RecordReceived(TunnelClass.BATCH, n, record)])
    count: Callable[..., Any] = space["count_digits"]
    with trio.fail_after(60):
        assert await count("http://control", admin_token, 0, 2) == ({7: 2}, 2)
        assert await count("http://control", admin_token, 2, 1) == ({3: 1}, 3)
