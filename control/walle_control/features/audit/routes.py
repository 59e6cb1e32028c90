"""HTTP face of the audit feature."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from walle_control.features.audit.service import AuditService
from walle_control.web.requests import PAGE_DEFAULT, PAGE_MAX, json_response, query_int


class AuditRoutes:
    """Endpoints about the audit log."""

    def __init__(self, service: AuditService) -> None:
        self._service = service

    async def page(self, request: Request) -> Response:
        """``GET audit``: oldest first, ``after`` an entry; whoever reads all can check the chain."""
        limit = max(1, query_int(request, "limit", PAGE_DEFAULT, high=PAGE_MAX))
        return json_response(await self._service.page(query_int(request, "after", 0), limit))
