"""HTTP face of the telemetry feature."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from walle_control.features.telemetry.ingest import IngestService, IngestView
from walle_control.features.telemetry.service import TelemetryService
from walle_control.features.telemetry.types import (
    FeaturePage,
    FeaturesAsked,
    ReportPage,
    ReportsAsked,
    SinkList,
)
from walle_control.web.access import ALL_SCENARIOS
from walle_control.web.auth import require
from walle_control.web.describe import describe
from walle_control.web.requests import json_response, read_message, read_query
from walle_shared.ids import DeviceId
from walle_shared.protocol.messages import ReportBatch, ReportReceipt


class TelemetryRoutes:
    """Endpoints for reports and features."""

    def __init__(self, service: TelemetryService, ingest: IngestService) -> None:
        self._service = service
        self._ingest = ingest

    @describe(ReportReceipt, body=ReportBatch, errors=(400,))
    async def post_reports(self, request: Request, device_id: DeviceId) -> Response:
        """What a device reports about its releases; a report counts once, however often it comes."""
        batch = await read_message(ReportBatch, request)
        return json_response(await self._service.record_reports(device_id, batch))

    @describe(ReportPage, query=ReportsAsked, errors=(400,))
    async def reports(self, request: Request) -> Response:
        """Reports by arrival: those of a release, or all for who may read in all scenarios."""
        query = read_query(ReportsAsked, request)
        require(request, await self._service.scenario_of(query.release) or ALL_SCENARIOS)
        return json_response(await self._service.reports(query, query.after, query.limit))

    @describe(FeaturePage, query=FeaturesAsked, errors=(400,))
    async def features(self, request: Request) -> Response:
        """Features by arrival: those of a scenario, or all for who may read in all scenarios."""
        query = read_query(FeaturesAsked, request)
        require(request, query.scenario or ALL_SCENARIOS)
        return json_response(await self._service.features(query, query.after, query.limit, query.wait_s))

    @describe(IngestView)
    async def ingest(self, _request: Request) -> Response:
        """How features come in: minute by minute, late or with gaps, refused, and how far each sink is."""
        return json_response(await self._ingest.view())

    @describe(SinkList)
    async def sinks(self, _request: Request) -> Response:
        """Where features go besides the database, and how far each is."""
        return json_response(self._service.sink_list())
