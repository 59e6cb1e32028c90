"""Serves the published files when no other web server does: strong ETags, ranges, conditional requests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from walle_control.db.files import FileStore
from walle_control.web.describe import Raw, describe
from walle_shared.errors import NotFound
from walle_shared.signing import sha256_hex
from walle_shared.trust.roles import TIMESTAMP_FILE

SIGNED = Raw("application/json", {"type": "object"})
FILE = Raw("application/octet-stream", {"type": "string", "format": "binary"})

_FOREVER = "public, max-age=31536000, immutable"


class StoredFile(FileResponse):
    """A file: whole, it is left to the server to send (``pathsend``); ranges of it are read in large pieces.

    A piece takes a thread: 64 KiB at a time, a resumed download was half as fast (2026-11-26).
    """

    chunk_size = 1 << 20


class StaticRoutes:
    """Endpoints of ``STATIC_ROOT``."""

    def __init__(self, files: FileStore, accel_prefix: str = "") -> None:
        self._files = files
        self._accel_prefix = accel_prefix

    @describe(SIGNED, status=(200, 304), errors=(404,))
    async def epoch(self, request: Request) -> Response:
        """The newest signed epoch: always revalidated, 304 while nothing changed."""
        # One small file: reading it takes less than handing it to a thread.
        try:
            data = self._files.epoch_path.read_bytes()
        except FileNotFoundError:
            raise NotFound("no epoch has been published yet: try again later") from None
        return _small_file(request, data, "no-cache")

    @describe(SIGNED, status=(200, 304), errors=(404,))
    async def rounds(self, request: Request) -> Response:
        """The signed list of open learning rounds: always revalidated; none before the first plan."""
        data = self._files.read_rounds()
        if not data:
            raise NotFound("nothing was ever learnt together here: ask once a plan of learning is there")
        return _small_file(request, data, "no-cache")

    @describe(SIGNED, status=(200, 304), errors=(404,))
    async def metadata(self, request: Request) -> Response:
        """Trust metadata: all but the timestamp never change."""
        name = request.path_params["name"]
        data = self._files.metadata_path(name).read_bytes()
        return _small_file(request, data, "no-cache" if name == TIMESTAMP_FILE else _FOREVER)

    @describe(FILE, status=(200, 206, 304), errors=(400, 404, 416))
    async def immutable(self, request: Request) -> Response:
        """A file named by its digest: cacheable for ever, resumable by ``Range`` with ``If-Range``."""
        kind, sha256 = request.path_params["kind"], request.path_params["sha256"]
        path = self._files.path(kind, sha256)
        headers = {"ETag": f'"{sha256}"', "Cache-Control": _FOREVER}
        if _matches(request.headers.get("if-none-match", ""), headers["ETag"]):
            return Response(status_code=304, headers=headers)
        media_type = "application/octet-stream" if kind in ("blob", "delta") else "application/json"
        return self.send(path, headers, media_type)

    def send(self, path: Path, headers: Mapping[str, str], media_type: str) -> Response:
        """A file of the static folder, sent by nginx where it is set up to, else from here."""
        if not self._accel_prefix:
            # The look at the file takes less than handing it to a thread.
            return StoredFile(path, headers=headers, media_type=media_type, stat_result=path.stat())
        where = f"{self._accel_prefix}/{path.relative_to(self._files.root)}"
        return Response(headers={**headers, "X-Accel-Redirect": where}, media_type=media_type)


def _small_file(request: Request, data: bytes, caching: str) -> Response:
    headers = {"ETag": f'"{sha256_hex(data)}"', "Cache-Control": caching}
    if _matches(request.headers.get("if-none-match", ""), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers, media_type="application/json")


def _matches(if_none_match: str, etag: str) -> bool:
    """Whether a conditional request names the file as it stands (weak comparison, as for every GET)."""
    candidates = [candidate.strip().removeprefix("W/") for candidate in if_none_match.split(",")]
    return etag in candidates or "*" in candidates
