"""HTTP face of the audit feature."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from walle_control.features.audit.service import AuditService
from walle_control.features.audit.types import AuditPage, AuditQuery
from walle_control.web.describe import describe
from walle_control.web.requests import json_response, read_query


class AuditRoutes:
    """Endpoints about the audit log."""

    def __init__(self, service: AuditService) -> None:
        self._service = service

    @describe(AuditPage, query=AuditQuery, errors=(400,))
    async def page(self, request: Request) -> Response:
        """Who changed what, oldest first, ``after`` an entry; whoever reads all can check the chain."""
        query = read_query(AuditQuery, request)
        return json_response(await self._service.page(query.after, query.limit))
