"""Deliver queued reports in batches, oldest first, until the control plane has acknowledged them."""

from __future__ import annotations

from typing import NoReturn

import trio

from walle_agent.link.exchange import retry_after_s
from walle_agent.link.session import Session
from walle_agent.state.reports import ReportQueue
from walle_shared.backoff import Backoff
from walle_shared.clock import Clock
from walle_shared.errors import LimitExceeded, ProtocolError, WalleError
from walle_shared.ids import ReleaseId
from walle_shared.limits import REPORT_BATCH_MAX
from walle_shared.observe import get_logger
from walle_shared.protocol.messages import Report, ReportBatch, ReportReceipt
from walle_shared.tracing import enter_trace, new_trace

_log = get_logger("agent.link")


class Reporter:
    """Takes reports from everywhere in the agent and sees them through.

    Args:
        queue: the durable queue.
        clock: for the time of a report.
        linger_s: how long a report waits for company.
    """

    def __init__(self, queue: ReportQueue, clock: Clock, *, linger_s: float = 0.15) -> None:
        self.queue = queue
        self.clock = clock
        self._linger_s = linger_s
        self._wake = trio.Event()

    async def begin_attempt(self, release_id: ReleaseId) -> int:
        """Count a start of this release; the first is 1.

        Raises:
            StorageError: the disk refused.
        """
        return await trio.to_thread.run_sync(self.queue.begin_attempt, release_id)

    async def put(self, report: Report) -> None:
        """Queue a report and wake the sender.

        Raises:
            StorageError: the disk refused.
        """
        await trio.to_thread.run_sync(self.queue.put, report)
        self._wake.set()

    async def run(self, session: Session, backoff: Backoff) -> NoReturn:
        """Send for ever; network trouble is waited out.

        Raises:
            StorageError: the disk refused.
        """
        limit = REPORT_BATCH_MAX
        while True:
            numbers, reports = await trio.to_thread.run_sync(self.queue.next_batch, limit)
            if not reports:
                await self._wake.wait()
                self._wake = trio.Event()
                await trio.sleep(self._linger_s)
                continue
            enter_trace(new_trace())
            try:
                receipt = await session.post("reports", ReportBatch(reports), ReportReceipt)
            except (ProtocolError, LimitExceeded) as error:
                # It would be refused for ever: find the one report that is at fault, and drop it.
                limit = max(1, len(reports) // 2)
                if len(reports) == 1:
                    await trio.to_thread.run_sync(self.queue.drop, numbers)
                    _log.error("report_dropped", report_id=reports[0].report_id, error=str(error))
                await trio.sleep(backoff.next_delay_s())
            except WalleError as error:
                delay_s = backoff.next_delay_s(retry_after_s(error))
                _log.warning("reports_delayed", code=error.code, error=str(error), retry_s=round(delay_s, 2))
                await trio.sleep(delay_s)
            else:
                backoff.reset()
                limit = REPORT_BATCH_MAX
                await trio.to_thread.run_sync(self.queue.acknowledge, numbers)
                _log.debug("reports_delivered", accepted=receipt.accepted, duplicates=receipt.duplicates)
