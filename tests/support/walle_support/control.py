"""A control plane in memory: signed static files in a dict, a small device API, and levers to make it lie.

It speaks through ``httpx.MockTransport``, so an agent's real transport talks to it without a socket.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import trio

from walle_shared.clock import FixedClock
from walle_shared.deltas import NO_BASE, Delta, DeltaList, pack
from walle_shared.ids import DeviceId, ReleaseId, TaskVersion
from walle_shared.manifest import BundleFile, Manifest, parse_task_file
from walle_shared.protocol.codec import decode, encode
from walle_shared.protocol.messages import (
    TOLD_KIND,
    DecideRequest,
    EnrolRequest,
    EnrolResponse,
    EpochInfo,
    EpochNotice,
    FileRef,
    PermitAnswer,
    PermitRequest,
    Problem,
    RenewRequest,
    Report,
    ReportBatch,
    ReportReceipt,
    TimeRequest,
    Told,
    renewal_bytes,
)
from walle_shared.signing import SigningKey, VerifyKey, file_ref, sha256_hex, sign_envelope
from walle_shared.targeting import IdSet, idset
from walle_shared.targeting.hashing import SHARE_ONE
from walle_shared.targeting.policy import Holdout, Release, Snapshot
from walle_shared.trust.roles import POLICY, TIME_KIND, TIMESTAMP, SignedTime
from walle_support.trust import SimulatedTrust

TOKEN = "enrol-me"
URL = "http://control.test"
ISSUED_MS = 1_700_000_000_000
EXPIRES_MS = ISSUED_MS + 7 * 24 * 3_600_000

TASK_TOML = """
[task]
scenario = "demo"
name = "{name}"
entry = "main:run"
capabilities = ["events", "store", "tunnel", "params", "log"]
[[triggers]]
ids = ["event:go"]
[tables.reads]
value = "integer"
[uploads.result]
value = "integer"
"""

Fault = Callable[[httpx.Request, httpx.Response], httpx.Response]


@dataclass
class SimulatedDevice:
    """What the control plane knows of a device."""

    public_key: VerifyKey
    credentials: set[str] = field(default_factory=set)
    renewed_ms: int = 0


class SimulatedControl:
    """One control plane. ``files`` maps paths to bytes; ``faults`` maps paths to one-shot distortions."""

    def __init__(self, seed: str = "") -> None:
        self.trust = SimulatedTrust(ISSUED_MS, seed)
        self.clock = FixedClock(ISSUED_MS + 1_000)
        self.expires_ms = EXPIRES_MS
        self.files: dict[str, bytes] = {}
        self.faults: defaultdict[str, list[Fault]] = defaultdict(list)
        self.requests: list[tuple[str, str]] = []
        self.reports: list[Report] = []
        self.devices: dict[str, SimulatedDevice] = {}
        self.epoch = 0
        self.releases: tuple[Release, ...] = ()
        self.holdouts: tuple[Holdout, ...] = ()
        self.sets: tuple[IdSet, ...] = ()
        self.told: set[ReleaseId] = set()
        self.streams: list[trio.MemorySendChannel[bytes]] = []
        self.permits: defaultdict[ReleaseId, set[str]] = defaultdict(set)
        self.report_arrived = trio.Event()
        self._ranks = 0
        self.publish()

    # What an operator does

    def add_version(
        self,
        name: str = "reader",
        version: str = "1.0",
        files: Mapping[str, bytes] | None = None,
        *,
        toml: str = TASK_TOML,
        approved: bool = True,
    ) -> FileRef:
        """Publish a task version's files and manifest, and approve it; the manifest's reference."""
        contents = {"main.py": f"def run():\n    return {version!r}\n".encode(), **(files or {})}
        for data in contents.values():
            self.files[f"/s/blob/{sha256_hex(data)}"] = data
        listed = tuple(
            BundleFile(path, sha256_hex(data), len(data)) for path, data in sorted(contents.items())
        )
        manifest = Manifest(TaskVersion(version), "0" * 40, parse_task_file(toml.format(name=name)), listed)
        return self.add_manifest(encode(manifest), name, version, approved=approved)

    def add_deltas(self, manifest: FileRef, *ways: tuple[bytes, bytes]) -> FileRef:
        """Publish deltas (base, target) for a manifest; the reference of their list."""
        deltas: list[Delta] = []
        for base, target in ways:
            packed = pack(target, base)
            assert packed is not None
            ref = file_ref(packed)
            self.files[f"/s/delta/{ref.sha256}"] = packed
            deltas.append(Delta(sha256_hex(target), sha256_hex(base) if base else NO_BASE, len(base), ref))
        encoded = encode(DeltaList(manifest.sha256, tuple(deltas)))
        listed = file_ref(encoded)
        self.files[f"/s/delta/{listed.sha256}"] = encoded
        return listed

    def add_manifest(
        self, encoded: bytes, name: str = "reader", version: str = "1.0", *, approved: bool = True
    ) -> FileRef:
        """Publish any bytes as a manifest."""
        ref = file_ref(encoded)
        self.files[f"/s/manifest/{ref.sha256}"] = encoded
        if approved:
            self.trust.approve("demo", name, version, ref)
        return ref

    def release(
        self,
        manifest: FileRef,
        name: str = "reader",
        version: str = "1.0",
        *,
        predicate: str = "",
        share: int = SHARE_ONE,
        control: int = 0,
        voters: int = SHARE_ONE,
        deltas: FileRef | None = None,
        **terms: Any,
    ) -> ReleaseId:
        """Release a version and publish the next epoch."""
        self._ranks += 1
        release_id = ReleaseId(f"r{self._ranks}")
        parsed = parse_task_file(TASK_TOML.format(name=name)).task
        added = Release(
            release_id,
            parsed.scenario,
            parsed.name,
            TaskVersion(version),
            manifest,
            predicate,
            share,
            f"salt-{self._ranks}",
            self._ranks,
            control,
            voters,
            deltas=deltas,
            **terms,
        )
        self.releases = (*self.releases, added)
        self.publish()
        return release_id

    def add_set(self, name: str, *members: str) -> None:
        """Publish a set of ids; the next epoch names it."""
        version = 1 + max((each.version for each in self.sets if each.name == name), default=0)
        count, shards = idset.build(members, salt := f"{name}-{version}")
        refs = [file_ref(shard) for shard in shards]
        index = idset.index_of(refs)
        for data in (index, *shards):
            self.files[f"/s/ids/{sha256_hex(data)}"] = data
        self.sets = (*self.sets, IdSet(name, version, count, salt, file_ref(index)))

    def roll_back(self, release_id: ReleaseId) -> None:
        """Take a release out of the policy and publish the next epoch."""
        self.releases = tuple(release for release in self.releases if release.id != release_id)
        self.publish()

    def publish(
        self, *, epoch: int | None = None, expires_ms: int | None = None, key: SigningKey | None = None
    ) -> None:
        """Publish the releases as the next epoch, or as any other, and push it."""
        self.epoch = self.epoch + 1 if epoch is None else epoch
        snapshot = encode(Snapshot(self.epoch, self.releases, self.holdouts, sets=self.sets))
        ref = file_ref(snapshot)
        self.files[f"/s/snapshot/{ref.sha256}"] = snapshot
        info = EpochInfo(self.epoch, ref, ISSUED_MS, expires_ms or self.expires_ms, self.trust.version)
        keys = [key] if key is not None else self.trust.keys_of(POLICY)
        self.files["/s/epoch.json"] = sign_envelope("epoch", info, keys)
        self.push(self.epoch)

    def push(self, epoch: int) -> None:
        """Say "epoch n" on every open stream."""
        line = b"event: epoch\ndata: " + encode(EpochNotice(epoch)) + b"\n\n"
        for stream in list(self.streams):
            stream.send_nowait(line)

    def distort(self, path: str, fault: Fault, times: int = 1) -> None:
        """Change the next answers to ``path``."""
        self.faults[path].extend([fault] * times)

    async def wait_reports(self, count: int) -> list[Report]:
        """Wait until so many different reports have come in."""
        while len(self.reports) < count:
            await self.report_arrived.wait()
        return self.reports

    # What a device sees

    def wire(self) -> httpx.MockTransport:
        """The transport to hand to an agent."""
        return httpx.MockTransport(self._answer)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.requests.append((request.method, path))
        await trio.lowlevel.checkpoint()
        answer = self._static(request) if path.startswith("/s/") else self._device_api(request)
        if self.faults[path]:
            answer = self.faults[path].pop(0)(request, answer)
        return answer

    def _static(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        data = self.files.get(path)
        if data is None and path.startswith("/s/tuf/"):
            data = self.trust.files.get(path.removeprefix("/s/tuf/"))
        if data is None:
            return problem(404, "not_found", f"no {request.url.path}")
        etag = '"' + hashlib.sha256(data).hexdigest() + '"'
        if request.headers.get("If-None-Match") == etag:
            return httpx.Response(304, headers={"ETag": etag})
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        if start == 0:
            return httpx.Response(200, headers={"ETag": etag}, content=data)
        content_range = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return httpx.Response(206, headers={"Content-Range": content_range}, content=data[start:])

    def _device_api(self, request: httpx.Request) -> httpx.Response:
        match request.url.path.removeprefix("/d/v1/"):
            case "enrol":
                return self._enrol(decode(EnrolRequest, request.content))
            case "renew":
                return self._renew(decode(RenewRequest, request.content))
            case "time":
                return self._tell_time(decode(TimeRequest, request.content))
        if not self._authorised(request):
            return problem(401, "not_allowed", "credential is not valid")
        match request.url.path.removeprefix("/d/v1/"):
            case "reports":
                return self._take_reports(decode(ReportBatch, request.content))
            case "decide":
                return self._tell(request)
            case "permits":
                return self._give_permit(decode(PermitRequest, request.content), request)
            case "stream":
                return httpx.Response(200, stream=self._open_stream())
        return problem(404, "not_found", "no such route")

    def _enrol(self, request: EnrolRequest) -> httpx.Response:
        if request.token != TOKEN:
            return problem(403, "not_allowed", "the enrolment token is not valid")
        device_id = f"d{len(self.devices) + 1}"
        self.devices[device_id] = SimulatedDevice(VerifyKey.from_hex(request.public_key))
        return self._grant(device_id)

    def _renew(self, request: RenewRequest) -> httpx.Response:
        device = self.devices.get(request.device_id)
        if device is None or request.at_ms <= device.renewed_ms:
            return problem(403, "not_allowed", "unknown device or used nonce")
        device.public_key.verify(
            request.signature, renewal_bytes(request.device_id, request.at_ms), "renewal"
        )
        device.renewed_ms = request.at_ms
        return self._grant(request.device_id)

    def _tell_time(self, request: TimeRequest) -> httpx.Response:
        told = SignedTime(request.nonce, self.clock.wall_ms())
        return httpx.Response(200, content=sign_envelope(TIME_KIND, told, self.trust.keys_of(TIMESTAMP)))

    def _grant(self, device_id: str) -> httpx.Response:
        device = self.devices[device_id]
        credential = f"{device_id}-credential-{len(device.credentials) + 1}"
        device.credentials = {credential}
        answer = EnrolResponse(DeviceId(device_id), credential, EXPIRES_MS)
        return httpx.Response(200, content=encode(answer))

    def revoke_credentials(self) -> None:
        """No credential handed out so far is good any more; keys are."""
        self.devices = {name: replace(device, credentials={"-"}) for name, device in self.devices.items()}

    def _authorised(self, request: httpx.Request) -> bool:
        credential = request.headers.get("Authorization", "").removeprefix("Bearer ")
        return any(credential in device.credentials for device in self.devices.values())

    def _take_reports(self, batch: ReportBatch) -> httpx.Response:
        known = {report.report_id for report in self.reports}
        fresh = [report for report in batch.reports if report.report_id not in known]
        self.reports.extend(fresh)
        self.report_arrived.set()
        self.report_arrived = trio.Event()
        receipt = ReportReceipt(len(fresh), len(batch.reports) - len(fresh))
        return httpx.Response(200, content=encode(receipt))

    def _tell(self, request: httpx.Request) -> httpx.Response:
        told = Told(
            DeviceId(_device_of(request)),
            decode(DecideRequest, request.content).epoch,
            tuple(sorted(self.told)),
            ISSUED_MS,
            ISSUED_MS + 3_600_000,
        )
        return httpx.Response(200, content=sign_envelope(TOLD_KIND, told, self.trust.keys_of(POLICY)))

    def _give_permit(self, asked: PermitRequest, request: httpx.Request) -> httpx.Response:
        holders = self.permits[asked.release_id]
        cap = next((release.cap for release in self.releases if release.id == asked.release_id), 0)
        device = _device_of(request)
        if device not in holders and len(holders) >= cap:
            return httpx.Response(200, content=encode(PermitAnswer(False, retry_s=600.0)))
        holders.add(device)
        return httpx.Response(200, content=encode(PermitAnswer(True, EXPIRES_MS)))

    def _open_stream(self) -> EventStream:
        send, receive = trio.open_memory_channel[bytes](64)
        self.streams.append(send)
        self.push(self.epoch)
        return EventStream(receive, lambda: self.streams.remove(send))


def _device_of(request: httpx.Request) -> str:
    """Whose credential it carries."""
    return str(request.headers["Authorization"]).partition("-")[0].removeprefix("Bearer ")


class EventStream(httpx.AsyncByteStream):
    """The body of a push stream."""

    def __init__(self, chunks: trio.MemoryReceiveChannel[bytes], closed: Callable[[], None]) -> None:
        self._chunks = chunks
        self._closed: Callable[[], None] | None = closed

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._chunks:
            yield chunk

    async def aclose(self) -> None:
        self._chunks.close()
        if self._closed is not None:
            self._closed()
            self._closed = None


class BrokenBody(httpx.AsyncByteStream):
    """A body that stops in the middle, as a connection that breaks does."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._data
        raise httpx.ReadError("connection reset")

    async def aclose(self) -> None:
        pass


def problem(status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
    """An error as the control plane words it."""
    return httpx.Response(status, content=encode(Problem(code, detail, status)), headers=headers)


def corrupt(_request: httpx.Request, answer: httpx.Response) -> httpx.Response:
    """Flip one bit of the body."""
    body = bytearray(answer.content)
    body[len(body) // 2] ^= 1
    return httpx.Response(answer.status_code, headers=_kept(answer), content=bytes(body))


def oversized(_request: httpx.Request, answer: httpx.Response) -> httpx.Response:
    """Append more than was promised."""
    return httpx.Response(answer.status_code, headers=_kept(answer), content=answer.content + b"x" * 100_000)


def broken_off(_request: httpx.Request, answer: httpx.Response) -> httpx.Response:
    """Half of the body, then the connection is gone."""
    half = answer.content[: len(answer.content) // 2]
    return httpx.Response(answer.status_code, headers=_kept(answer), stream=BrokenBody(half))


def unavailable(_request: httpx.Request, _answer: httpx.Response) -> httpx.Response:
    """The server is overloaded and says when to come back."""
    return problem(503, "busy", "come back later", {"Retry-After": "7"})


def unreachable(request: httpx.Request, _answer: httpx.Response) -> httpx.Response:
    """No connection at all."""
    raise httpx.ConnectError("connection refused", request=request)


def _kept(answer: httpx.Response) -> dict[str, str]:
    return {name: answer.headers[name] for name in ("ETag", "Content-Range") if name in answer.headers}
