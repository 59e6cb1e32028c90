"""Serves the published files when no other web server does: strong ETags, ranges, conditional requests."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from walle_control.db.files import FileStore
from walle_shared.errors import NotFound
from walle_shared.signing import sha256_hex
from walle_shared.trust.roles import TIMESTAMP_FILE

_FOREVER = "public, max-age=31536000, immutable"


class StaticRoutes:
    """Endpoints of ``STATIC_ROOT``."""

    def __init__(self, files: FileStore) -> None:
        self._files = files

    async def epoch(self, request: Request) -> Response:
        """``epoch.json``: always revalidated, 304 while nothing changed."""
        # One small file: reading it takes less than handing it to a thread.
        try:
            data = self._files.epoch_path.read_bytes()
        except FileNotFoundError:
            raise NotFound("no epoch has been published yet") from None
        return _small_file(request, data, "no-cache")

    async def metadata(self, request: Request) -> Response:
        """``tuf/<name>``: all but the timestamp never change."""
        name = request.path_params["name"]
        data = self._files.metadata_path(name).read_bytes()
        return _small_file(request, data, "no-cache" if name == TIMESTAMP_FILE else _FOREVER)

    async def immutable(self, request: Request) -> Response:
        """A file named by its digest: cacheable for ever, resumable by ``Range`` with ``If-Range``."""
        kind, sha256 = request.path_params["kind"], request.path_params["sha256"]
        path = self._files.path(kind, sha256)
        headers = {"ETag": f'"{sha256}"', "Cache-Control": _FOREVER}
        if _matches(request.headers.get("if-none-match", ""), headers["ETag"]):
            return Response(status_code=304, headers=headers)
        media_type = "application/octet-stream" if kind == "blob" else "application/json"
        return FileResponse(path, headers=headers, media_type=media_type)


def _small_file(request: Request, data: bytes, caching: str) -> Response:
    headers = {"ETag": f'"{sha256_hex(data)}"', "Cache-Control": caching}
    if _matches(request.headers.get("if-none-match", ""), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers, media_type="application/json")


def _matches(if_none_match: str, etag: str) -> bool:
    """Whether a conditional request names the file as it stands (weak comparison, as for every GET)."""
    candidates = [candidate.strip().removeprefix("W/") for candidate in if_none_match.split(",")]
    return etag in candidates or "*" in candidates
