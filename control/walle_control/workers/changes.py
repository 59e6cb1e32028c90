"""What other workers changed, as the database tells it: a topic for each kind of change.

The database's own triggers send the topics (``db/migrations.py``), inside the transactions that make the
changes, so nobody can forget to. A notice may be lost while the connection is: every topic is looked after
anyway now and then, and after each reconnection.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NoReturn

import trio

from walle_control.db.postgres import Listener, PostgresBackend
from walle_shared.backoff import Backoff
from walle_shared.errors import WalleError
from walle_shared.observe import get_logger

_log = get_logger("control.changes")

Handler = Callable[[], Awaitable[None]]

_POLL_S = 2.0
_RETRY_BASE_S = 0.1
_RETRY_CAP_S = 2.0


class Changes:
    """Calls the handler of a topic after each change of it.

    Args:
        backend: where the changes are.
        handlers: what to do, by topic; each looks what there is, however often it is called.
    """

    def __init__(self, backend: PostgresBackend, handlers: Mapping[str, Handler]) -> None:
        self._backend = backend
        self._handlers = handlers

    async def run(self) -> NoReturn:
        """Listen for ever."""
        backoff = Backoff(_RETRY_BASE_S, _RETRY_CAP_S)
        while True:
            try:
                listener = await trio.to_thread.run_sync(Listener, self._backend)
                try:
                    await self._follow(listener, backoff)
                finally:
                    listener.close()
            except WalleError as error:
                _log.warning("changes_unheard", code=error.code, error=error.message)
                await trio.sleep(backoff.next_delay_s())

    async def _follow(self, listener: Listener, backoff: Backoff) -> NoReturn:
        while True:
            for handle in self._handlers.values():
                await handle()
            backoff.reset()
            until_s = trio.current_time() + _POLL_S
            while trio.current_time() < until_s:
                with trio.move_on_at(until_s):
                    await trio.lowlevel.wait_readable(listener.fileno())
                for topic in listener.topics() & self._handlers.keys():
                    await self._handlers[topic]()
