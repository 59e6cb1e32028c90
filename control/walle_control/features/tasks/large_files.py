"""Large files by pointer: what git keeps is a digest and a size, what a release gets is the file.

A pointer is what Git LFS writes (https://git-lfs.github.com/spec/v1)::

    version https://git-lfs.github.com/spec/v1
    oid sha256:<64 hex digits>
    size <bytes>

The file is looked for among the blobs that are here already, in the LFS storage of a repository on this disk,
in the places of ``git.large_files`` (folders, or URLs to which the digest is appended), and last at the
remote's LFS server. Whatever comes is checked. Blocks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson

from walle_control.config import ControlConfig
from walle_control.db.files import FileStore
from walle_control.features.repositories.credentials import read_credential
from walle_control.features.repositories.mirrors import local_path
from walle_control.features.repositories.types import Source
from walle_shared.errors import ConnectionLost, LengthOrHashError, NotFound, TaskError, WalleError
from walle_shared.ids import Sha256
from walle_shared.protocol.messages import FileRef
from walle_shared.signing import check_file
from walle_shared.units import KIB

_POINTER_MAX_BYTES = 1 * KIB
_HEAD = b"version https://git-lfs.github.com/spec/v1\n"
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize ([0-9]{1,15})\n"
)

_LFS_JSON = "application/vnd.git-lfs+json"
_ANSWER_MAX_BYTES = 64 * KIB

#: One place to look in: the file's bytes, or None if it is not there.
Place = Callable[[FileRef], bytes | None]


def read_pointer(data: bytes) -> FileRef | None:
    """What a file points to; None if it is no pointer."""
    match = _POINTER.fullmatch(data) if len(data) <= _POINTER_MAX_BYTES else None
    return FileRef(Sha256(match[1].decode()), int(match[2])) if match else None


class LargeFiles:
    """Replaces pointers by what they point to.

    Args:
        files: blobs that are here.
        config: other places, and limits.
        source: the repository that the pointers are in.
        client: for the places that are elsewhere; tests bring their own.
    """

    def __init__(
        self, files: FileStore, config: ControlConfig, source: Source, client: httpx.Client | None = None
    ) -> None:
        self._files = files
        self._config = config
        self._source = source
        self._client = client

    def resolve(self, contents: Mapping[str, bytes], where: str) -> dict[str, bytes]:
        """The files of a task, with the real ones in place of pointers.

        Raises:
            TaskError: a pointer is malformed, or what it points to is too large.
            NotFound: the file is nowhere; says where it was looked for.
        """
        limits = self._config.tasks
        found: dict[str, bytes] = {}
        total_bytes = 0
        for path, data in contents.items():
            ref = read_pointer(data)
            if ref is None and data.startswith(_HEAD):
                raise TaskError(f"{where}: {path} is a Git LFS pointer that cannot be read")
            size_bytes = ref.size_bytes if ref is not None else len(data)
            total_bytes += size_bytes
            if size_bytes > limits.max_file_bytes or total_bytes > limits.max_bundle_bytes:
                raise TaskError(
                    f"{where}: {path} has {size_bytes} bytes; at most {limits.max_file_bytes} are allowed"
                    f" for a file, and {limits.max_bundle_bytes} for all"
                )
            found[path] = data if ref is None else self._find(ref, f"{where}: {path}")
        return found

    def _find(self, ref: FileRef, what: str) -> bytes:
        complaints: list[str] = []
        for name, place in self._places():
            try:
                data = place(ref)
                if data is not None:
                    return check_file(data, ref, name)
            except (WalleError, OSError) as error:
                complaints.append(f"{name}: {error}")
            else:
                complaints.append(f"{name}: not there")
        raise NotFound(
            f"{what} points to {ref.size_bytes} bytes with digest {ref.sha256}, which are nowhere"
            f" ({'; '.join(complaints)[:1_000]}): push them by 'git lfs push --all', or store them here"
        )

    def _places(self) -> Iterator[tuple[str, Place]]:
        yield "the blobs here", self._from_blobs
        folder = local_path(self._source.remote)
        if folder is not None:
            for root in (folder / "lfs" / "objects", folder / ".git" / "lfs" / "objects"):
                if root.is_dir():
                    yield str(root), _from_folder(root)
        for place in self._config.git.large_files:
            if urlsplit(place).scheme in ("http", "https"):
                yield place, self._from_url(place)
            else:
                yield place, _from_folder(Path(place))
        if folder is None:
            yield "the remote's LFS server", self._from_remote

    def _from_blobs(self, ref: FileRef) -> bytes | None:
        try:
            return self._files.read("blob", ref)
        except NotFound:
            return None

    def _from_url(self, base: str) -> Place:
        return lambda ref: self._download(f"{base.rstrip('/')}/{ref.sha256}", {}, ref)

    def _from_remote(self, ref: FileRef) -> bytes | None:
        """Ask the remote by the batch API, then fetch from where it says."""
        remote = self._source.remote.rstrip("/")
        server = f"{remote if remote.endswith('.git') else remote + '.git'}/info/lfs/objects/batch"
        wish = {
            "operation": "download",
            "transfers": ["basic"],
            "objects": [{"oid": ref.sha256, "size": ref.size_bytes}],
        }
        headers = {"Accept": _LFS_JSON, "Content-Type": _LFS_JSON}
        if self._source.credential:
            credential = read_credential(self._config.git.credentials_file, self._source.credential)
            headers["Authorization"] = credential.authorization
        answer = self._request("POST", server, headers, _ANSWER_MAX_BYTES, orjson.dumps(wish))
        match _json(answer):
            case {"objects": [{"actions": {"download": {"href": str(href), **more}}}, *_]}:
                given = more.get("header")
                extra = {str(k): str(v) for k, v in given.items()} if isinstance(given, dict) else {}
                return self._download(href, extra, ref)
            case _:
                return None

    def _download(self, url: str, headers: Mapping[str, str], ref: FileRef) -> bytes | None:
        if urlsplit(url).scheme not in ("http", "https"):
            raise ConnectionLost(f"{url[:200]!r} is no http(s) URL")
        return self._request("GET", url, headers, ref.size_bytes)

    def _request(
        self, method: str, url: str, headers: Mapping[str, str], limit_bytes: int, body: bytes | None = None
    ) -> bytes | None:
        client = self._client or httpx.Client(timeout=self._config.git.timeout_s, follow_redirects=False)
        try:
            sent = {"Accept-Encoding": "identity", **headers}
            with client.stream(method, url, headers=sent, content=body) as answer:
                if answer.status_code == 404:
                    return None
                if answer.status_code != 200:
                    raise ConnectionLost(f"answered {answer.status_code}")
                data = bytearray()
                for chunk in answer.iter_bytes():
                    data += chunk
                    if len(data) > limit_bytes:
                        raise LengthOrHashError(f"sends more than the promised {limit_bytes} bytes")
                return bytes(data)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ConnectionLost(str(error) or type(error).__name__) from None
        finally:
            if self._client is None:
                client.close()


def _from_folder(root: Path) -> Place:
    def look(ref: FileRef) -> bytes | None:
        name = str(ref.sha256)
        for path in (root / name, root / name[:2] / name[2:4] / name):
            if path.is_file() and path.stat().st_size == ref.size_bytes:
                return path.read_bytes()
        return None

    return look


def _json(data: bytes | None) -> Any:
    try:
        return orjson.loads(data or b"null")
    except orjson.JSONDecodeError:
        return None
