from __future__ import annotations

import socket
from pathlib import Path

import orjson
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from walle_agent.streams.event import EventError, RawEvent, make_event
from walle_agent.streams.ingest import EventCheck, EventInlet, EventListener, LineSplitter, parse_hint
from walle_shared.clock import FixedClock
from walle_shared.errors import ConfigError
from walle_shared.limits import EVENT_MAX_BYTES, INLET_MAX_CLIENTS
from walle_shared.schema import parse_schema


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.sock"


@pytest.fixture
def inlet() -> EventInlet:
    return EventInlet(FixedClock(wall_ms=7_000, mono_ns=9), capacity=4)


@pytest.fixture
async def listener(path: Path, inlet: EventInlet, nursery: trio.Nursery) -> EventListener:
    listener = EventListener(path, inlet.emit)
    await nursery.start(listener.run)
    return listener


async def error_lines(stream: trio.SocketStream, count: int) -> list[dict[str, object]]:
    data = b""
    with trio.fail_after(5):
        while data.count(b"\n") < count:
            data += await stream.receive_some()
    return [orjson.loads(line)["error"] for line in data.splitlines()]


async def test_good_lines_get_through_and_bad_ones_an_answer(
    listener: EventListener, path: Path, inlet: EventInlet
) -> None:
    stream = await trio.open_unix_socket(path)
    await stream.send_all(b'{"kind":"click"}\n\nrubbish\n' + b"x" * (EVENT_MAX_BYTES + 1) + b'\n{"kind":"scr')
    first, second = await error_lines(stream, 2)
    assert (first["code"], first["line"]) == ("event", 3)
    assert (second["code"], second["line"]) == ("event", 4)
    assert "over the limit" in str(second["message"])
    await stream.send_all(b'oll","wall_ms":5}\n')
    events: list[RawEvent] = []
    with trio.fail_after(5):
        while len(events) < 2:
            events += await inlet.receive_batch(10)
    times = [(event.kind, event.wall_ms, event.mono_ns) for event in events]
    assert times == [("click", 7_000, 9), ("scroll", 5, 9)]
    statistics = listener.statistics()
    assert (statistics.connections, statistics.refused_lines) == (1, 2)
    await stream.aclose()


async def test_a_line_cut_off_is_refused(listener: EventListener, path: Path) -> None:
    stream = await trio.open_unix_socket(path)
    await stream.send_all(b'{"kind":"click"}')
    await stream.send_eof()
    (error,) = await error_lines(stream, 1)
    assert "cut off" in str(error["message"])
    await stream.aclose()


async def test_a_full_pipeline_holds_the_app_back_and_loses_nothing(
    listener: EventListener, path: Path, inlet: EventInlet, nursery: trio.Nursery
) -> None:
    line = b'{"kind":"click","args":{"pad":"' + b"x" * 20_000 + b'"}}\n'
    count = 200
    sent = 0
    stream = await trio.open_unix_socket(path)

    async def app() -> None:
        nonlocal sent
        for _ in range(count):
            await stream.send_all(line)
            sent += 1
        await stream.aclose()

    nursery.start_soon(app)
    await trio.testing.wait_all_tasks_blocked(0.05)
    assert sent < count
    received = 0
    with trio.fail_after(10):
        while received < count:
            received += len(await inlet.receive_batch(50))
    await trio.testing.wait_all_tasks_blocked()  # the last sender still has to count
    assert received == inlet.statistics().accepted == count


async def test_too_many_clients_are_turned_away(listener: EventListener, path: Path) -> None:
    streams = [await trio.open_unix_socket(path) for _ in range(INLET_MAX_CLIENTS)]
    with trio.fail_after(5):
        while listener.statistics().open_now < INLET_MAX_CLIENTS:
            await trio.testing.wait_all_tasks_blocked()
        late = await trio.open_unix_socket(path)
        assert await late.receive_some() == b""
    assert listener.statistics().refused_clients == 1
    for stream in [*streams, late]:
        await stream.aclose()


async def test_a_dead_agents_socket_is_replaced(path: Path, inlet: EventInlet, nursery: trio.Nursery) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    await nursery.start(EventListener(path, inlet.emit).run)
    assert (await trio.Path(path).stat()).st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="another agent answers"):
        await EventListener(path, inlet.emit).run()


async def test_a_path_that_cannot_be_used_is_named(tmp_path: Path, inlet: EventInlet) -> None:
    taken = tmp_path / "file"
    taken.write_text("mine")
    with pytest.raises(ConfigError, match="file of another kind"):
        await EventListener(taken, inlet.emit).run()
    assert taken.read_text() == "mine"
    with pytest.raises(ConfigError, match="choose another path"):
        await EventListener(tmp_path / ("x" * 200), inlet.emit).run()


async def test_the_in_process_inlet_waits_when_full(inlet: EventInlet, autojump_clock: object) -> None:
    for _ in range(4):
        await inlet.emit(make_event("click"))
    with trio.move_on_after(1) as scope:
        await inlet.emit(make_event("click"))
    assert scope.cancelled_caught
    assert inlet.statistics().waiting == 4
    assert len(await inlet.receive_batch(10)) == 4


@given(st.lists(st.binary(max_size=30)), st.data())
def test_lines_do_not_depend_on_how_bytes_arrive(chunks: list[bytes], data: st.DataObject) -> None:
    text = b"".join(chunks)
    expected = [line if len(line) <= 8 else None for line in text.split(b"\n")]
    splitter = LineSplitter(8)
    got: list[bytes | None] = []
    while text:
        size = data.draw(st.integers(1, len(text)))
        got += splitter.feed(text[:size])
        text = text[size:]
    rest = expected.pop()
    if rest is None:
        expected.append(None)  # too long already, complete or not
    assert got == expected
    assert splitter.has_rest() == bool(rest)


SCHEMA = parse_schema('[events.click.args]\nn = { type = "integer" }')


async def test_events_that_are_not_as_declared_are_counted_or_refused() -> None:
    wrong = make_event("click", args={"n": "one"})
    for mode, unexpected in (("off", 0), ("count", 1)):
        inlet = EventInlet(FixedClock(), check=EventCheck(SCHEMA, mode))  # type: ignore[arg-type]
        await inlet.emit(wrong)
        await inlet.emit(make_event("click", args={"n": 1}))
        assert (inlet.statistics().accepted, inlet.statistics().unexpected) == (2, unexpected)
    inlet = EventInlet(FixedClock(), check=EventCheck(SCHEMA, "reject"))
    with pytest.raises(EventError, match=r"click\.args\.n is 'one', not what is declared"):
        await inlet.emit(wrong)
    assert (inlet.statistics().accepted, inlet.statistics().unexpected) == (0, 1)


async def test_a_refused_event_is_answered_like_a_bad_line(path: Path, nursery: trio.Nursery) -> None:
    inlet = EventInlet(FixedClock(), check=EventCheck(SCHEMA, "reject"))
    listener = EventListener(path, inlet.emit)
    await nursery.start(listener.run)
    async with await trio.open_unix_socket(path) as stream:
        await stream.send_all(b'{"kind":"click"}\n{"kind":"scroll"}\n')
        (answer,) = await error_lines(stream, 1)
    assert answer["line"] == 2
    assert "[events.scroll]" in str(answer["message"])
    assert (inlet.statistics().accepted, listener.statistics().refused_lines) == (1, 1)


@pytest.mark.parametrize(
    ("line", "epoch"),
    [
        (b'{"walle_epoch": 7}', 7),
        (b'{"walle_epoch": 0}', None),
        (b'{"walle_epoch": true}', None),
        (b'{"walle_epoch": "7"}', None),
        (b'{"walle_epoch": 7, "kind": "click"}', None),
        (b'{"kind": "custom", "args": {"x": "\\"walle_epoch\\""}}', None),
        (b'["walle_epoch"]', None),
        (b'"walle_epoch" {', None),
        (b"", None),
    ],
)
def test_a_hint_is_told_from_an_event(line: bytes, epoch: int | None) -> None:
    assert parse_hint(line) == epoch
