"""What may take long the first time, such as adding up a million votes: no page and no answer waits for it.

Who asks gets what is there within ``wait_s``, else what was found last, else nothing; the work goes on beside
the requests, once for all who ask, and pages that are watched are told when it has ended late.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

import trio

from walle_shared.errors import WalleError
from walle_shared.observe import get_logger

_log = get_logger("control.web")

#: With it and all else, a page keeps within 200 ms.
_WAIT_S: Final = 0.05
#: So much is worked on at once, and so many answers are remembered.
_WORKS_MAX: Final = 64
_KNOWN_MAX: Final = 512

Work = Callable[[], Awaitable[Any]]


@dataclass(slots=True)
class _Running:
    done: trio.Event = field(default_factory=trio.Event)
    is_awaited: bool = True


class Soon:
    """Answers that come soon. ``run`` beside the requests.

    Args:
        ring: tells watched pages that there is news.
        wait_s: so long a page waits; others may say how long they do.
    """

    def __init__(self, ring: Callable[[], None], wait_s: float = _WAIT_S) -> None:
        self._ring = ring
        self.wait_s = wait_s
        self._nursery: trio.Nursery | None = None
        self._running: dict[Hashable, _Running] = {}
        self._known: OrderedDict[Hashable, Any] = OrderedDict()

    async def run(self) -> NoReturn:
        """Do what pages ask for, for ever."""
        async with trio.open_nursery() as self._nursery:
            await trio.sleep_forever()
        raise AssertionError("unreachable")

    async def of(self, works: Mapping[Hashable, Work], wait_s: float | None = None) -> Mapping[Hashable, Any]:
        """The answers that there are, by the names of the works; a name means the same work always."""
        if self._nursery is None:  # nothing runs beside the requests
            return {name: await work() for name, work in works.items()}
        begun = [running for name, work in works.items() if (running := self._begin(name, work))]
        with trio.move_on_after(self.wait_s if wait_s is None else wait_s):
            for running in begun:
                await running.done.wait()
        for running in begun:
            running.is_awaited = running.done.is_set()
        return {name: self._known[name] for name in works if name in self._known}

    def _begin(self, name: Hashable, work: Work) -> _Running | None:
        running = self._running.get(name)
        if running is None and len(self._running) < _WORKS_MAX:
            running = self._running[name] = _Running()
            assert self._nursery is not None  # ``of`` has looked
            self._nursery.start_soon(self._do, name, work, running)
        return running

    async def _do(self, name: Hashable, work: Work, running: _Running) -> None:
        try:
            self._known[name] = await work()
            self._known.move_to_end(name)
            if len(self._known) > _KNOWN_MAX:
                self._known.popitem(last=False)
        except WalleError as error:  # the page shows what was known before; the next look tries again
            self._known.pop(name, None)
            _log.warning("answer_part_failed", part=str(name), error=error.message, code=error.code)
        finally:
            del self._running[name]
            running.done.set()
        if not running.is_awaited:
            self._ring()
