"""HTTP face of the telemetry feature."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from walle_control.features.telemetry.service import TelemetryService
from walle_control.features.telemetry.types import FeatureQuery, ReportQuery
from walle_control.web.requests import PAGE_DEFAULT, PAGE_MAX, json_response, query_int, read_message
from walle_shared.errors import RemoteProtocolError
from walle_shared.ids import DeviceId
from walle_shared.protocol.messages import ReportBatch

Q = TypeVar("Q", FeatureQuery, ReportQuery)

_PAGING = frozenset({"after", "limit"})
#: So long may ``GET features`` be asked to wait for its first row: proxies cut silence after a minute.
_WAIT_MAX_S = 50


class TelemetryRoutes:
    """Endpoints for reports and features."""

    def __init__(self, service: TelemetryService) -> None:
        self._service = service

    async def post_reports(self, request: Request, device_id: DeviceId) -> Response:
        """``POST reports`` of a device."""
        batch = await read_message(ReportBatch, request)
        return json_response(await self._service.record_reports(device_id, batch))

    async def reports(self, request: Request) -> Response:
        """``GET reports``."""
        query = _query(ReportQuery, request)
        return json_response(await self._service.reports(query, *_paging(request)))

    async def features(self, request: Request) -> Response:
        """``GET features``."""
        query = _query(FeatureQuery, request)
        wait_s = query_int(request, "wait_s", 0, high=_WAIT_MAX_S)
        return json_response(await self._service.features(query, *_paging(request), wait_s))

    async def sinks(self, _request: Request) -> Response:
        """``GET sinks``."""
        return json_response(self._service.sink_list())


def _query[Q: (FeatureQuery, ReportQuery)](cls: type[Q], request: Request) -> Q:
    known = {f.name for f in dataclasses.fields(cls)}
    control = _PAGING | {"wait_s"} if cls is FeatureQuery else _PAGING
    given = {name: text for name, text in request.query_params.items() if name not in control}
    if unknown := given.keys() - known:
        raise RemoteProtocolError(
            f"query {', '.join(sorted(unknown))[:80]} is not known;"
            f" known here: {', '.join(sorted(known | control))}"
        )
    return cls(**given)


def _paging(request: Request) -> tuple[int, int]:
    return query_int(request, "after", 0), max(1, query_int(request, "limit", PAGE_DEFAULT, high=PAGE_MAX))
