"""Keeps subscriptions and delivers to them.

1. Deliveries to one subscriber are in order: what comes later waits until the first is delivered or given up.
2. Subscribers do not wait for each other.
3. An attempt that fails is made again after ``RETRY_S``; then the delivery is dead and the next one's turn.
   ``redeliver`` gives the dead another life.
4. A delivery may arrive twice (its answer was lost): receivers tell by ``webhook-id``.
"""

from __future__ import annotations

import secrets
from typing import Final, NoReturn

import trio

from walle_control.config import WebhooksConfig
from walle_control.db.connection import Database
from walle_control.db.sql import Connection
from walle_control.features.audit import log as audit
from walle_control.features.webhooks import outbox, signature, store
from walle_control.features.webhooks.sender import Sender, check_url
from walle_control.features.webhooks.types import (
    KINDS,
    DeliveriesAsked,
    Delivery,
    DeliveryList,
    TestResult,
    Webhook,
    WebhookList,
    WebhookRequest,
    WebhookSecret,
)
from walle_shared.clock import Clock
from walle_shared.errors import ConfigError, LimitExceeded, NotFound, WalleError
from walle_shared.ids import check_name
from walle_shared.observe import get_logger
from walle_shared.units import DAY_S, HOUR_S

_log = get_logger("control.webhooks")

#: Seconds between attempts: more than a day altogether, as a receiver's weekend allows.
RETRY_S: Final = (5.0, 30.0, 2 * 60.0, 10 * 60.0, HOUR_S, 6 * HOUR_S, 12 * HOUR_S, 24 * HOUR_S)

_WEBHOOKS_MAX = 100
_NOTE_MAX = 200
#: So long deliveries that arrived are kept for whoever looks.
_KEEP_MS = round(7 * DAY_S * 1000)
_GONE = 410


class WebhooksService:
    """Knows who wants to hear of what. ``run`` delivers."""

    def __init__(
        self, database: Database, clock: Clock, config: WebhooksConfig, key: bytes, sender: Sender
    ) -> None:
        self._database = database
        self._clock = clock
        self._config = config
        self._key = key
        self._sender = sender
        self._busy: set[str] = set()
        self.delivered = 0
        self.failed = 0

    async def create(self, wish: WebhookRequest, actor: str) -> WebhookSecret:
        """Subscribe.

        Raises:
            ConfigError: the URL, the scenario or an event is none.
            LimitExceeded: there are too many.
        """
        check_url(wish.url)
        if wish.scenario:
            check_name(wish.scenario, "scenario")
        for kind in wish.events:
            _check_kind(kind)
        now_ms = self._clock.wall_ms()
        webhook = Webhook(
            "w" + secrets.token_hex(6),
            wish.url,
            tuple(sorted(set(wish.events))),
            wish.scenario,
            wish.note[:_NOTE_MAX],
            True,
            now_ms,
            actor,
            1,
            0,
        )

        def job(db: Connection) -> None:
            if len(store.webhooks(db)) >= _WEBHOOKS_MAX:
                raise LimitExceeded(f"there are {_WEBHOOKS_MAX} webhooks already: delete one first")
            store.insert_webhook(db, webhook)
            detail = {"url": webhook.url, "events": webhook.events, "scenario": webhook.scenario}
            audit.record(db, now_ms, actor, "webhook.create", webhook.id, detail)

        await self._database.write(job)
        return WebhookSecret(webhook, self._secret(webhook, 1))

    async def list(self) -> WebhookList:
        """All subscriptions."""
        return WebhookList(tuple(await self._database.read(store.counted_webhooks)))

    async def show(self, webhook_id: str) -> Webhook:
        """One subscription.

        Raises:
            NotFound: no such webhook.
        """
        return await self._database.read(lambda db: _find(db, webhook_id))

    async def rotate(self, webhook_id: str, actor: str) -> WebhookSecret:
        """Give a subscription a new secret; the old one signs beside it for a day.

        Raises:
            NotFound: no such webhook.
        """

        def job(db: Connection) -> Webhook:
            _find(db, webhook_id)
            now_ms = self._clock.wall_ms()
            store.rotate(db, webhook_id, now_ms)
            audit.record(db, now_ms, actor, "webhook.rotate", webhook_id)
            return _find(db, webhook_id)

        webhook = await self._database.write(job)
        return WebhookSecret(webhook, self._secret(webhook, webhook.generation))

    async def delete(self, webhook_id: str, actor: str) -> Webhook:
        """End a subscription; what is on its way to it is forgotten.

        Raises:
            NotFound: no such webhook.
        """

        def job(db: Connection) -> Webhook:
            webhook = _find(db, webhook_id)
            store.delete_webhook(db, webhook_id)
            audit.record(db, self._clock.wall_ms(), actor, "webhook.delete", webhook_id)
            return webhook

        return await self._database.write(job)

    async def redeliver(self, webhook_id: str, actor: str) -> Webhook:
        """Wake a subscription that rests, and try again what was given up.

        Raises:
            NotFound: no such webhook.
        """

        def job(db: Connection) -> Webhook:
            _find(db, webhook_id)
            now_ms = self._clock.wall_ms()
            store.set_active(db, webhook_id, True)
            revived = store.revive(db, webhook_id, now_ms)
            audit.record(db, now_ms, actor, "webhook.redeliver", webhook_id, {"deliveries": revived})
            return _find(db, webhook_id)

        return await self._database.write(job)

    async def deliveries(self, webhook_id: str, asked: DeliveriesAsked) -> DeliveryList:
        """What went to a subscriber, newest first.

        Raises:
            NotFound: no such webhook.
        """

        def job(db: Connection) -> DeliveryList:
            _find(db, webhook_id)
            return DeliveryList(tuple(store.deliveries(db, webhook_id, asked.before, asked.limit)))

        return await self._database.read(job)

    async def test(self, webhook_id: str, actor: str) -> TestResult:
        """Send a test event now, past the queue, and say what came of it.

        Raises:
            NotFound: no such webhook.
        """
        webhook = await self.show(webhook_id)
        now_ms, started = self._clock.wall_ms(), trio.current_time()
        body = outbox.message("test", now_ms, {"scenario": webhook.scenario, "by": actor})
        status, error = await self._attempt(webhook, outbox.new_message_id(), body)
        detail = {"status": status, "error": error}
        await self._database.write(
            lambda db: audit.record(db, now_ms, actor, "webhook.test", webhook_id, detail)
        )
        return TestResult(not error, status, error, (trio.current_time() - started) * 1000)

    async def run(self) -> NoReturn:
        """Deliver for ever."""
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    await self.deliver_due(nursery)
                except WalleError as error:  # e.g. a full disk: tried again
                    _log.error("webhook_queue_failed", error=error.message, code=error.code)
                await trio.sleep(self._config.interval_s)

    async def deliver_due(self, nursery: trio.Nursery) -> None:
        """Start on the first delivery of every subscriber who is not being delivered to."""
        now_ms = self._clock.wall_ms()
        for head in await self._database.read(store.heads):
            if head.next_ms <= now_ms and head.webhook_id not in self._busy:
                self._busy.add(head.webhook_id)
                nursery.start_soon(self._drain, head.webhook_id)

    async def _drain(self, webhook_id: str) -> None:
        """Deliver to one subscriber until nothing is due any more."""
        try:
            while True:
                heads = await self._database.read(store.heads)
                head = next((head for head in heads if head.webhook_id == webhook_id), None)
                if head is None or head.next_ms > self._clock.wall_ms():
                    return
                await self._deliver(await self.show(webhook_id), head)
        except NotFound:
            return  # deleted meanwhile
        except WalleError as error:  # e.g. a full disk: the loop comes back to it
            _log.error("webhook_queue_failed", webhook=webhook_id, error=error.message, code=error.code)
        finally:
            self._busy.discard(webhook_id)

    async def _deliver(self, webhook: Webhook, delivery: Delivery) -> None:
        status, error = await self._attempt(webhook, delivery.message_id, delivery.body)
        attempts, now_ms = delivery.attempts + 1, self._clock.wall_ms()
        gone = status == _GONE
        if not error:
            self.delivered += 1

            def job(db: Connection) -> None:
                store.set_outcome(db, delivery.id, "delivered", attempts, now_ms, "")
                store.forget_delivered(db, now_ms - _KEEP_MS)

        else:
            self.failed += 1
            dead = gone or attempts > len(RETRY_S)
            next_ms = now_ms if dead else now_ms + round(RETRY_S[attempts - 1] * 1000)

            def job(db: Connection) -> None:
                state = "dead" if dead else "waiting"
                store.set_outcome(db, delivery.id, state, attempts, next_ms, error)  # type: ignore[arg-type]
                if gone:
                    store.set_active(db, webhook.id, False)

            _log.warning("webhook_delivery_failed", webhook=webhook.id, attempts=attempts, error=error)
        await self._database.write(job)

    async def _attempt(self, webhook: Webhook, message_id: str, body: str) -> tuple[int, str]:
        """One attempt: the receiver's status (0: none), and what went wrong, if anything did."""
        now_ms = self._clock.wall_ms()
        generations = [webhook.generation]
        if webhook.generation > 1 and now_ms - webhook.rotated_ms < signature.OVERLAP_MS:
            generations.append(webhook.generation - 1)
        signing = tuple(self._secret(webhook, generation) for generation in generations)
        data = body.encode()
        headers = signature.headers(signing, message_id, now_ms // 1000, data)
        headers |= {"Content-Type": "application/json", "User-Agent": "walle-control"}
        try:
            status = await self._sender.post(webhook.url, headers, data)
        except WalleError as error:
            return 0, error.message[:300]
        return status, "" if 200 <= status < 300 else f"the receiver answered {status}"

    def _secret(self, webhook: Webhook, generation: int) -> str:
        return signature.secret_of(self._key, webhook.id, generation)


def _find(db: Connection, webhook_id: str) -> Webhook:
    webhook = store.find_webhook(db, webhook_id)
    if webhook is None:
        raise NotFound(f"no webhook {webhook_id[:40]!r}; see 'walle-control webhook list'")
    return webhook


def _check_kind(kind: str) -> None:
    families = {f"{known.split('.')[0]}.*" for known in KINDS}
    if kind not in KINDS and kind not in families:
        raise ConfigError(
            f"event {kind[:40]!r} is not known; known: {', '.join([*sorted(families), *KINDS])}"
        )
