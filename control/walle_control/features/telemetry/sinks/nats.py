"""Features into a NATS JetStream stream, each acknowledged by the server that has it on disk.

The subject is ``<prefix>.<scenario>.<task>.<name>``, the body the row as JSON, ``Nats-Msg-Id`` its key: the
server drops a row that comes again within the stream's duplicate window. After a longer outage between a
row's arrival and the position's commit it may come twice; the key tells. The server flushes its files to disk
by its setting ``jetstream.sync_interval``: by default a crash of its machine, not its own, may lose minutes.

nats-py speaks asyncio, so it lives in a thread with a loop of its own.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
import threading
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

import orjson
import trio

from walle_control.features.telemetry.sinks.sink import Batching, Row
from walle_shared.errors import ConfigError, ConnectionLost, StorageError
from walle_shared.observe import get_logger

if TYPE_CHECKING:
    import nats.aio.client
    import nats.js

_log = get_logger("control.sinks")

#: The stream that is made when there is none remembers keys for so long.
_DUPLICATE_WINDOW_S = 600.0
_TIMEOUT_S = 10.0
#: Rows published before the first of them must be acknowledged.
_IN_FLIGHT = 256
#: Room for subject and headers within the server's limit for a message.
_HEADERS_BYTES = 1_024
_NOT_A_TOKEN = re.compile(r"[^A-Za-z0-9_\-]")


class NatsSink:
    """One stream of one JetStream server.

    Args:
        url: such as ``nats://host:4222``; several may be separated by commas.
        stream: made, on disk, if the server has none of this name.
        subject: prefix of the subjects.
    """

    name = "nats"
    batching = Batching(rows_max=1_000)

    def __init__(self, url: str, stream: str, subject: str) -> None:
        self._url = url
        self._stream = stream
        self._subject = subject
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: nats.aio.client.Client | None = None

    async def write(self, rows: Sequence[Row]) -> int:
        """Publish one batch and wait for its acknowledgements."""
        return await self._in_loop(self._publish(rows))

    async def aclose(self) -> None:
        """Leave the server and end the loop."""
        if self._loop is not None:
            with trio.move_on_after(_TIMEOUT_S):
                await self._in_loop(self._disconnect())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop = None

    async def _in_loop[T](self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=_run_loop, args=[self._loop], name="walle-nats", daemon=True).start()
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        done, token = trio.Event(), trio.lowlevel.current_trio_token()
        future.add_done_callback(lambda _: _wake(token, done))
        try:
            await done.wait()
        except trio.Cancelled:
            future.cancel()
            raise
        return future.result()

    async def _publish(self, rows: Sequence[Row]) -> int:
        import nats.errors
        import nats.js.errors

        try:
            client = await self._connected()
            stream = client.jetstream(timeout=_TIMEOUT_S)
            room_bytes = client.max_payload - _HEADERS_BYTES
            refused = 0
            for at in range(0, len(rows), _IN_FLIGHT):
                refused += await self._publish_some(stream, rows[at : at + _IN_FLIGHT], room_bytes)
        except (nats.errors.Error, OSError, TimeoutError) as error:
            await self._disconnect()
            what = f"sinks.nats_url: {error or type(error).__name__}"
            if isinstance(error, nats.js.errors.APIError):
                raise StorageError(what) from None
            raise ConnectionLost(what) from None
        return refused

    async def _publish_some(
        self, stream: nats.js.JetStreamContext, rows: Sequence[Row], room_bytes: int
    ) -> int:
        bodies = [encode_row(row) for row in rows]
        fitting = [(row, body) for row, body in zip(rows, bodies, strict=True) if len(body) <= room_bytes]
        if len(fitting) < len(rows):
            _log.error("sink_refused_rows", sink=self.name, rows=len(rows) - len(fitting), limit=room_bytes)
        acks = [
            stream.publish(self.subject_of(row), body, headers={"Nats-Msg-Id": message_id(row)})
            for row, body in fitting
        ]
        await asyncio.gather(*acks)
        return len(rows) - len(fitting)

    def subject_of(self, row: Row) -> str:
        """The subject a row goes to."""
        return ".".join([self._subject, *(_token(part) for part in (row.scenario, row.task, row.name))])

    async def _connected(self) -> nats.aio.client.Client:
        import nats
        import nats.js.errors
        from nats.js.api import StorageType, StreamConfig

        if self._client is None or not self._client.is_connected:
            await self._disconnect()
            # The pump is what tries again: a client that reconnects by itself would hide that it fails.
            self._client = await nats.connect(
                self._url.split(","),
                name="walle",
                connect_timeout=5,
                allow_reconnect=False,
                max_reconnect_attempts=1,  # of each server, while connecting
                reconnect_time_wait=0,
                error_cb=_ignore,
            )
            streams = self._client.jetstream(timeout=_TIMEOUT_S)
            try:
                await streams.stream_info(self._stream)
            except nats.js.errors.NotFoundError:
                await streams.add_stream(
                    StreamConfig(
                        name=self._stream,
                        subjects=[f"{self._subject}.>"],
                        storage=StorageType.FILE,
                        duplicate_window=_DUPLICATE_WINDOW_S,
                    )
                )
        return self._client

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None and not client.is_closed:
            await client.close()


def require_nats() -> None:
    """Check that nats-py is there.

    Raises:
        ConfigError: it is not.
    """
    from importlib.util import find_spec

    if find_spec("nats") is None:
        raise ConfigError("sinks.nats_url is set, but nats-py is missing: pip install 'walle[nats]'")


def message_id(row: Row) -> str:
    """The key a consumer may drop repeated rows by."""
    return f"{row.device_id}:{row.origin}"


def encode_row(row: Row) -> bytes:
    """The body of a row's message: JSON with the members of ``StoredFeature``."""
    return orjson.dumps({**dataclasses.asdict(row), "fields": orjson.Fragment(row.fields)})


def _token(text: str) -> str:
    return _NOT_A_TOKEN.sub(lambda found: f"%{ord(found[0]):X}", text) or "_"


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


async def _ignore(_error: Exception) -> None:
    """What fails is told to whoever waits for it."""


def _wake(token: trio.lowlevel.TrioToken, event: trio.Event) -> None:
    try:
        token.run_sync_soon(event.set)
    except trio.RunFinishedError:
        return
