"""Runs the application (``web.server``), from the first signal to the last goodbye.

Stopping happens in this order, because the server tells an application nothing before it cancels its
streams: say goodbye on every push stream and tunnel, then let it finish running requests, then close the
database.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import cast

import orjson
import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio import serve as hypercorn_serve
from hypercorn.typing import ASGIFramework

from walle_control.app import Control, create_app, create_monitoring_app
from walle_control.config import ControlConfig, ServerConfig
from walle_control.db.store import Home, Store
from walle_control.web.server import Server
from walle_control.workers.notify import notify
from walle_control.workers.supervisor import Supervisor
from walle_shared.clock import SystemClock
from walle_shared.errors import ConfigError, WalleError
from walle_shared.limits import FRAME_MAX_BYTES
from walle_shared.observe import get_logger

_log = get_logger("control.serve")

#: Finds conversations whose device is gone: probed after 30 s of silence, then three times every 10 s.
_KEEP_ALIVE = (
    ((socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 30),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPINTVL), 10),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPCNT), 3),
)

_BACKLOG = 4096
_GOODBYE_MAX_S = 3.0
_EXIT_MARGIN_S = 5.0
_LAST_SPANS_S = 2.0


def run(config: ControlConfig, descriptor: int | None = None, *, supervised: bool = False) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        config: the settings.
        descriptor: of a socket that is bound already, instead of the settings' address.
        supervised: whether a parent says where the server is.

    Raises:
        ConfigError: the data folder is not set up, or the address is not free.
        StorageError: the database cannot be opened.
        ConnectionLost: the database's server does not answer.
    """
    store = Store.open(Path(config.server.data_dir), config.database.url)
    try:
        with unwrapped_errors():  # the monitoring's port is looked for beside the requests
            trio.run(_serve, config, store, descriptor, supervised)
    finally:
        if not supervised:
            store.home.address.unlink(missing_ok=True)
        store.close()


def run_workers(config: ControlConfig, command: Sequence[str], descriptor: int | None = None) -> None:
    """Serve with several processes until SIGTERM or SIGINT; SIGHUP replaces them one after the other.

    Args:
        config: the settings.
        command: starts one worker on the descriptor of its socket, which is appended.
        descriptor: of a socket that is bound already, instead of the settings' address.

    Raises:
        ConfigError: the database is not one that several processes can share, or a worker does not start.
    """
    if not config.database.url:
        raise ConfigError("several workers need a PostgreSQL: set database.url")
    listener, url = _listen(config.server, descriptor)
    home = Home(Path(config.server.data_dir))
    stop_s = config.server.graceful_s + _GOODBYE_MAX_S + 2 * _EXIT_MARGIN_S
    supervisor = Supervisor(command, listener, config.server.workers, stop_s)

    def on_started() -> None:
        _write_address(home, url)
        notify("READY=1")
        _log.info("server_started", url=url, workers=config.server.workers, pid=os.getpid())

    try:
        with unwrapped_errors():
            trio.run(supervisor.run, on_started)
    finally:
        home.address.unlink(missing_ok=True)
        listener.close()


@contextmanager
def unwrapped_errors() -> Iterator[None]:
    """The first of our errors out of a nursery's group."""
    try:
        yield
    except* WalleError as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None


async def _serve(config: ControlConfig, store: Store, descriptor: int | None, supervised: bool) -> None:
    app = create_app(config, clock=SystemClock(), store=store)
    control: Control = app.state.control
    listener, url = _listen(config.server, descriptor)
    async with trio.open_nursery() as background:
        await background.start(control.run)
        stop = trio.Event()
        async with trio.open_nursery() as server:
            await server.start(Server(app, hypercorn_config(config)).serve, listener, stop.wait)
            if not supervised:
                _write_address(store.home, url)
            if config.metrics.listen:
                await _serve_monitoring(server, config, control, stop)
            notify("READY=1")
            _log.info("server_started", url=url, epoch=control.hub.epoch, pid=os.getpid())
            await _wait_signal(os.getppid() if supervised else None)
            notify("STOPPING=1")
            _log.info("server_stopping", streams=control.streams.taken, tunnels=control.tunnels.taken)
            _exit_if_stuck(config.server.graceful_s + _GOODBYE_MAX_S + _EXIT_MARGIN_S)
            with trio.move_on_after(_GOODBYE_MAX_S):
                await control.say_goodbye()
            stop.set()
        background.cancel_scope.cancel()
    if control.traces is not None:
        with trio.move_on_after(_LAST_SPANS_S):
            await trio.to_thread.run_sync(control.traces.close, abandon_on_cancel=True)
    _log.info("server_stopped")


def _listen(config: ServerConfig, descriptor: int | None) -> tuple[socket.socket, str]:
    if descriptor is None:
        listener, url = bind(config)
        listener.listen(_BACKLOG)  # whoever comes now waits until a worker is ready
        return listener, url
    try:
        listener = socket.socket(fileno=descriptor)
        where = listener.getsockname()
    except OSError as error:
        raise ConfigError(
            f"--fd {descriptor}: is no open socket ({error}): give one that a parent has bound"
        ) from None
    if listener.family not in (socket.AF_INET, socket.AF_INET6):
        return listener, config.public_url
    host = f"[{where[0]}]" if listener.family == socket.AF_INET6 else where[0]
    return listener, config.public_url or f"http://{host}:{where[1]}"


async def _serve_monitoring(
    nursery: trio.Nursery, config: ControlConfig, control: Control, stop: trio.Event
) -> None:
    listener, url = _first_free(config.metrics.listen)
    await nursery.start(
        partial(
            hypercorn_serve,
            cast(ASGIFramework, create_monitoring_app(control)),
            hypercorn_config(config, listener.detach()),
            shutdown_trigger=stop.wait,
            mode="asgi",
        )
    )
    _log.info("monitoring_started", url=url)


def _first_free(listen: str) -> tuple[socket.socket, str]:
    """Take the first free port of ``host:port`` or ``host:first-last``: workers share the setting.

    Raises:
        ConfigError: all are taken.
    """
    host, _, ports = listen.rpartition(":")
    first, _, last = ports.partition("-")
    for port in range(int(first), int(last or first) + 1):
        try:
            listener, url = bind(ServerConfig(host=host.strip("[]"), port=port))
        except ConfigError:
            continue
        try:
            listener.listen()  # at once: two that are bound alike are told apart only now
        except OSError:
            listener.close()
            continue
        return listener, url
    raise ConfigError(f"metrics.listen: no port of {listen} is free: name others, or stop what holds them")


def bind(config: ServerConfig) -> tuple[socket.socket, str]:
    """Take the address; the socket and the URL under which clients reach it.

    Raises:
        ConfigError: the address is in use or not ours.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for option, value in _KEEP_ALIVE:  # accepted connections inherit them
            listener.setsockopt(*option, value)
        listener.bind((config.host, config.port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"server.host and server.port: cannot listen on {config.host} port {config.port}:"
            f" {error.strerror or error}"
        ) from None
    host = f"[{config.host}]" if ":" in config.host else config.host
    return listener, config.public_url or f"http://{host}:{listener.getsockname()[1]}"


def hypercorn_config(config: ControlConfig, descriptor: int | None = None) -> HypercornConfig:
    """Hypercorn's settings for a server of long conversations on a socket that is bound already, if any."""
    settings = HypercornConfig()
    settings.bind = [] if descriptor is None else [f"fd://{descriptor}"]
    settings.backlog = _BACKLOG
    settings.graceful_timeout = config.server.graceful_s
    settings.keep_alive_timeout = max(60.0, 2 * config.stream.heartbeat_s)
    settings.keep_alive_max_requests = 1 << 31  # ending a connection would kill what else runs on it
    settings.websocket_max_message_size = FRAME_MAX_BYTES
    # Hypercorn's pings outlive their connection by up to an interval, and so would the server: the kernel
    # probes silent connections instead (see ``bind``).
    settings.websocket_ping_interval = None
    settings.include_server_header = False
    # read_timeout stays off: it would cut push streams, whose clients are silent. Bodies have a limit
    # of their own.
    settings.accesslog = None
    settings.errorlog = _hypercorn_logger()
    return settings


class _ForwardToStructlog(logging.Handler):
    """Hypercorn's own log lines in the one log."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= logging.ERROR else "debug"
        getattr(_log, level)("hypercorn_said", text=record.getMessage(), exc_info=record.exc_info or None)


def _hypercorn_logger() -> logging.Logger:
    logger = logging.getLogger("walle_control.hypercorn")
    logger.handlers = [_ForwardToStructlog()]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return logger


async def _wait_signal(parent: int | None) -> None:
    """Wait until somebody wants the server to stop, or its parent is gone: the next one needs its socket."""
    async with trio.open_nursery() as nursery:
        if parent is not None:
            nursery.start_soon(_cancel_without, parent, nursery.cancel_scope)
        await _wait_stop_signal()
        nursery.cancel_scope.cancel()


async def _cancel_without(parent: int, scope: trio.CancelScope) -> None:
    try:
        descriptor = os.pidfd_open(parent)
    except ProcessLookupError:
        scope.cancel()
        return
    try:
        await trio.lowlevel.wait_readable(descriptor)
        scope.cancel()
    finally:
        os.close(descriptor)


async def _wait_stop_signal() -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            return


def _exit_if_stuck(after_s: float) -> None:
    """End the process even if a client that stopped reading holds Hypercorn in a send.

    Hypercorn shields its sends from cancellation. What was acknowledged is on disk, so nothing is lost.
    """

    def end() -> None:
        print(
            "walle-control: a stalled client held the server; leaving without it", file=sys.stderr, flush=True
        )
        os._exit(0)

    timer = threading.Timer(after_s, end)
    timer.daemon = True
    timer.start()


def _write_address(home: Home, url: str) -> None:
    temporary = home.address.with_suffix(".new")
    temporary.write_bytes(orjson.dumps({"url": url, "pid": os.getpid()}) + b"\n")
    temporary.replace(home.address)
