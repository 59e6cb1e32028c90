"""Types of the webhooks feature, and the table of what can be heard of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from walle_control.web.describe import within
from walle_control.web.requests import page_limit

#: What can be subscribed to. ``release.*`` stands for all that begins so.
KINDS: Final[Mapping[str, str]] = {
    "release.create": "a release was made",
    "release.promote": "it went on to its next stage",
    "release.pause": "it grows no further for now, by an operator or the guard",
    "release.stop": "it was taken off all devices for now",
    "release.resume": "it goes on",
    "release.rollback": "it was taken back, by an operator or the guard",
    "release.ask": "it waits for approval",
    "release.approve": "it was approved",
    "release.reject": "it was turned down",
    "release.break_glass": "it went on without approval",
    "release.quarantine": "a device gave up on it for a while; told of the first, then once an hour at most",
    "task.import": "a task version was imported",
    "device.revoke": "a device lost its rights",
    "trust.ask": "trust metadata waits for signatures of people",
    "trust.expire": "what people sign expires soon; told of every day",
    "repository.fail": "a repository was not fetched, or a tag of it not imported",
    "sink.fail": "a sink takes no features",
}

DeliveryState = Literal["waiting", "delivered", "dead"]


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """A wish to be told of ``events`` (none: of all) in ``scenario`` (empty: in all) at ``url``."""

    url: str
    events: tuple[str, ...] = ()
    scenario: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Webhook:
    """A subscription. ``waiting`` deliveries are on their way, ``dead`` ones were given up."""

    id: str
    url: str
    events: tuple[str, ...]
    scenario: str
    note: str
    active: bool
    created_ms: int
    created_by: str
    generation: int
    rotated_ms: int
    waiting: int = 0
    dead: int = 0

    def wants(self, kind: str, scenario: str) -> bool:
        """Whether an event is to be delivered."""
        if not self.active or self.scenario not in ("", scenario):
            return False
        return not self.events or kind in self.events or f"{kind.split('.')[0]}.*" in self.events


@dataclass(frozen=True, slots=True)
class WebhookList:
    """Subscriptions, oldest first."""

    webhooks: tuple[Webhook, ...]


@dataclass(frozen=True, slots=True)
class WebhookSecret:
    """A subscription and the secret that its deliveries are signed with, shown this once."""

    webhook: Webhook
    secret: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one subscriber. ``error`` says why the last attempt failed."""

    id: int
    webhook_id: str
    message_id: str
    kind: str
    at_ms: int
    body: str
    state: DeliveryState
    attempts: int
    next_ms: int
    error: str


@dataclass(frozen=True, slots=True)
class DeliveryList:
    """Deliveries, newest first."""

    deliveries: tuple[Delivery, ...]


@dataclass(frozen=True, slots=True)
class DeliveriesAsked:
    """A page of deliveries before an id."""

    before: int = within(2**62, 0, 2**62)
    limit: int = page_limit()


@dataclass(frozen=True, slots=True)
class TestResult:
    """What came of a test delivery: the receiver's status (0: none) and what went wrong."""

    delivered: bool
    status: int
    error: str
    duration_ms: float
