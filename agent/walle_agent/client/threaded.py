"""Sending events from a thread."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from walle_agent.client.buffer import (
    CAPACITY,
    LINGER_S,
    RETRY_FIRST_S,
    RETRY_MAX_S,
    SOCKET_TIMEOUT_S,
    ClientStatistics,
    Emitter,
    EventBuffer,
)
from walle_agent.streams.event import EventKind


class EventClient(Emitter):
    """Sends events from a thread of its own; safe to use from any thread.

    Args:
        path: the agent's events socket; see ``walle-agent status --json``.
        capacity: events that may wait for the agent.
        linger_s: how long the first event of a batch waits for company.
    """

    def __init__(self, path: str | Path, *, capacity: int = CAPACITY, linger_s: float = LINGER_S) -> None:
        self._path = str(path)
        self._linger_s = linger_s
        self._buffer = EventBuffer(capacity)
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._start()

    def _put(self, kind: EventKind, line: bytes) -> bool:
        if os.getpid() != self._pid:  # a fork has the buffer, and no thread
            self._changed = threading.Condition()
            self._start()
        with self._changed:
            kept = self._buffer.add(kind, line)
            self._changed.notify()
        return kept

    def statistics(self) -> ClientStatistics:
        """Counters since the start."""
        with self._changed:
            return self._buffer.statistics()

    def close(self, timeout_s: float = 2.0) -> ClientStatistics:
        """Send what waits, for at most ``timeout_s``, and stop. Returns the last figures."""
        self._closing.set()
        with self._changed:
            self._changed.notify()
        self._thread.join(timeout_s)
        return self.statistics()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name="walle-events", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        retry_s = RETRY_FIRST_S
        while True:
            with self._changed:
                while not self._buffer and not self._closing.is_set():
                    self._changed.wait()
                if not self._buffer:
                    return
            self._closing.wait(self._linger_s)
            try:
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                    connection.settimeout(SOCKET_TIMEOUT_S)
                    connection.connect(self._path)
                    self._note_connected(connected=True)
                    retry_s = RETRY_FIRST_S
                    self._serve(connection)
                    return
            except OSError:
                self._note_connected(connected=False)
                if self._closing.wait(retry_s):
                    return
                retry_s = min(retry_s * 2, RETRY_MAX_S)

    def _serve(self, connection: socket.socket) -> None:
        """Send until the client is closed.

        Raises:
            OSError: the connection is gone; what was not written is back in the buffer.
        """
        while True:
            with self._changed:
                while not self._buffer and not self._closing.is_set():
                    self._changed.wait()
                if not self._buffer:
                    break
            self._closing.wait(self._linger_s)
            self._send_batch(connection)
            self._hear(connection, timeout_s=0.0)
        connection.shutdown(socket.SHUT_WR)
        self._hear(connection, timeout_s=SOCKET_TIMEOUT_S)

    def _send_batch(self, connection: socket.socket) -> None:
        with self._changed:
            batch, data = self._buffer.take()
        written = 0
        try:
            while written < len(data):
                written += connection.send(data[written:])
        finally:
            with self._changed:
                self._buffer.settle(batch, written)

    def _hear(self, connection: socket.socket, *, timeout_s: float) -> None:
        """Take the agent's complaints: those that are there, or all until it closes.

        Raises:
            OSError: it has closed although there is more to say, or says nothing for ``timeout_s``.
        """
        connection.settimeout(timeout_s)
        try:
            while answers := connection.recv(65_536):
                with self._changed:
                    self._buffer.hear(answers)
        except BlockingIOError:
            return
        finally:
            connection.settimeout(SOCKET_TIMEOUT_S)
        if not timeout_s:
            raise ConnectionResetError("the agent closed the connection")

    def _note_connected(self, *, connected: bool) -> None:
        with self._changed:
            self._buffer.connected = connected
