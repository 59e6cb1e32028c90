"""Server-sent events: bytes of a stream to events, whoever carries them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from walle_shared.errors import LimitExceeded, RemoteProtocolError
from walle_shared.units import KIB

SSE_LINE_MAX_BYTES = 16 * KIB


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One server-sent event."""

    name: str
    data: str
    event_id: str = ""


class SseParser:
    """Bytes of an event stream to events; comments and unknown fields are skipped."""

    def __init__(self) -> None:
        self._buffer = b""
        self._name = ""
        self._data: list[str] = []
        self._id = ""
        self._size = 0

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """Take what arrived and return the events it completes.

        Raises:
            LimitExceeded: a line or event is too long.
            RemoteProtocolError: not UTF-8.
        """
        self._buffer += chunk
        lines = re.split(rb"\r\n|\n|\r(?!$)", self._buffer)
        self._buffer = lines.pop()
        if len(self._buffer) > SSE_LINE_MAX_BYTES:
            raise LimitExceeded(f"a line of the event stream is over the limit of {SSE_LINE_MAX_BYTES} bytes")
        return [event for line in lines if (event := self._line(line)) is not None]

    def _line(self, line: bytes) -> SseEvent | None:
        if not line:
            return self._dispatch()
        self._size += len(line)
        if self._size > SSE_LINE_MAX_BYTES and not line.startswith(b":"):
            raise LimitExceeded(f"an event of the stream is over the limit of {SSE_LINE_MAX_BYTES} bytes")
        try:
            field, _, value = line.decode().partition(":")
        except UnicodeDecodeError:
            raise RemoteProtocolError("the event stream is not UTF-8") from None
        value = value.removeprefix(" ")
        if field == "event":
            self._name = value
        elif field == "data":
            self._data.append(value)
        elif field == "id" and "\0" not in value:
            self._id = value
        return None

    def _dispatch(self) -> SseEvent | None:
        name, data = self._name or "message", self._data
        self._name, self._data, self._size = "", [], 0
        return SseEvent(name, "\n".join(data), self._id) if data else None
