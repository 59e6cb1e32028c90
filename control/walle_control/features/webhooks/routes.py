"""HTTP face of the webhooks feature."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from walle_control.features.webhooks.service import WebhooksService
from walle_control.features.webhooks.types import (
    DeliveriesAsked,
    DeliveryList,
    TestResult,
    Webhook,
    WebhookList,
    WebhookRequest,
    WebhookSecret,
)
from walle_control.web.auth import may_see, require
from walle_control.web.describe import describe
from walle_control.web.requests import json_response, read_message, read_query

_WEBHOOK = {
    "url": "https://chat.example.org/hooks/walle",
    "events": ["release.rollback", "release.ask"],
    "scenario": "demo",
}


class WebhookRoutes:
    """Endpoints about webhooks."""

    def __init__(self, service: WebhooksService) -> None:
        self._service = service

    async def scenario(self, request: Request) -> str:
        """The scenario of the webhook in the path."""
        return (await self._service.show(_id(request))).scenario

    @describe(WebhookList)
    async def list(self, request: Request) -> Response:
        """The webhooks of the scenarios one may see."""
        found = (await self._service.list()).webhooks
        return json_response(WebhookList(tuple(w for w in found if may_see(request, w.scenario))))

    @describe(WebhookSecret, body=WebhookRequest, status=(201,), errors=(400,), example=_WEBHOOK)
    async def create(self, request: Request) -> Response:
        """Be told of events at a URL; the secret that signs them is shown this once."""
        wish = await read_message(WebhookRequest, request)
        require(request, wish.scenario)
        return json_response(await self._service.create(wish, request.state.actor), 201)

    @describe(WebhookSecret, errors=(404,))
    async def rotate(self, request: Request) -> Response:
        """Give a webhook a new secret; for a day deliveries are signed with both."""
        return json_response(await self._service.rotate(_id(request), request.state.actor))

    @describe(Webhook, errors=(404,))
    async def delete(self, request: Request) -> Response:
        """End a webhook; what is on its way to it is forgotten."""
        return json_response(await self._service.delete(_id(request), request.state.actor))

    @describe(Webhook, errors=(404,))
    async def redeliver(self, request: Request) -> Response:
        """Wake a webhook that rests, and try again what was given up."""
        return json_response(await self._service.redeliver(_id(request), request.state.actor))

    @describe(TestResult, errors=(404,))
    async def test(self, request: Request) -> Response:
        """Send a test event now and say what came of it."""
        return json_response(await self._service.test(_id(request), request.state.actor))

    @describe(DeliveryList, query=DeliveriesAsked, errors=(400, 404))
    async def deliveries(self, request: Request) -> Response:
        """What went to a webhook, newest first."""
        asked = read_query(DeliveriesAsked, request)
        return json_response(await self._service.deliveries(_id(request), asked))


def _id(request: Request) -> str:
    webhook_id: str = request.path_params["webhook_id"]
    return webhook_id
