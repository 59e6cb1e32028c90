"""One simulated device: true to the protocol, without a disk.

It enrols with a key of its own, holds a push stream or polls, verifies every signature and digest, evaluates
the signed snapshot with the policy code that agents use, pulls what it does not have, confirms the epoch
before it activates, and reports as an agent does. What a script would have done is drawn from the scenario.

Invariants, as an agent's: epochs only rise; nothing is activated whose digests do not fit; a report is kept
until it was acknowledged.
"""

from __future__ import annotations

import math
import random
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import trio

from walle_control.fleet.http import Connection, Pool, open_stream
from walle_control.fleet.scenario import Network, Scenario, Version
from walle_control.fleet.tally import Tally
from walle_control.fleet.trust import FleetTrust
from walle_shared.backoff import Backoff
from walle_shared.clock import Clock
from walle_shared.errors import (
    ConnectionLost,
    ExpiredError,
    NotAllowed,
    RemoteProtocolError,
    RollbackError,
    SignatureError,
    TransportError,
    WalleError,
)
from walle_shared.ids import DeviceId, ReleaseId, Sha256
from walle_shared.limits import MANIFEST_MAX_BYTES, REPORT_BATCH_MAX, SNAPSHOT_MAX_BYTES
from walle_shared.manifest import Manifest, check_manifest
from walle_shared.protocol.codec import decode, encode
from walle_shared.protocol.messages import (
    NO_RELEASE,
    EnrolRequest,
    EnrolResponse,
    EpochInfo,
    EpochNotice,
    ErrorClass,
    FileRef,
    GoodbyeNotice,
    Outcome,
    RenewRequest,
    Report,
    ReportBatch,
    ReportReceipt,
    Stage,
    renewal_bytes,
)
from walle_shared.protocol.version import DEVICE_API, STATIC_ROOT
from walle_shared.signing import SigningKey, check_file
from walle_shared.targeting import Policy, Profile, Snapshot
from walle_shared.targeting.policy import TaskKey, Wanted

_RENEW_BEFORE_MS = 60_000
_AWAY_MAX_S = 300.0


@dataclass
class World:
    """What all devices of a fleet share: connections, trust, and what was parsed once for all of them."""

    scenario: Scenario
    pool: Pool
    trust: FleetTrust
    token: str
    clock: Clock
    tally: Tally
    newest_epoch: int = 0  # as the app's own servers know it
    policies: dict[Sha256, Policy] = field(default_factory=dict)
    manifests: dict[Sha256, Manifest] = field(default_factory=dict)

    def policy(self, data: bytes, info: EpochInfo) -> Policy:
        """The policy of an epoch; every device checks the digest, the first one also parses."""
        check_file(data, info.snapshot, "snapshot")
        if info.snapshot.sha256 not in self.policies:
            snapshot = decode(Snapshot, data, limit_bytes=SNAPSHOT_MAX_BYTES)
            if snapshot.epoch > info.epoch:
                raise RollbackError(
                    f"epoch {info.epoch} names a snapshot of the later epoch {snapshot.epoch}"
                )
            self.policies[info.snapshot.sha256] = Policy(snapshot)
        return self.policies[info.snapshot.sha256]

    def manifest(self, data: bytes, wanted: Wanted) -> Manifest:
        """The manifest that a release names, likewise."""
        check_file(data, wanted.manifest, f"manifest of {wanted.task} {wanted.version}")
        digest = wanted.manifest.sha256
        if digest not in self.manifests:
            manifest = decode(Manifest, data, limit_bytes=MANIFEST_MAX_BYTES)
            self.manifests[digest] = check_manifest(manifest)
        manifest = self.manifests[digest]
        head = manifest.definition.task
        if (head.scenario, head.name, manifest.version) != (wanted.scenario, wanted.task, wanted.version):
            raise SignatureError(
                f"release {wanted.release_id} names the manifest of {head.name} {manifest.version}"
            )
        return manifest


class SimulatedDevice:
    """A device of the fleet; ``run`` is its life.

    Args:
        world: what it shares with the others.
        profile: its attributes.
        network: how it is connected.
        streams: whether it holds a push stream.
        dice: its own chance.
    """

    def __init__(
        self, world: World, profile: Profile, network: Network, dice: random.Random, *, streams: bool
    ) -> None:
        self._world = world
        self._profile = profile
        self._network = network
        self._dice = dice
        self._streams = streams
        self._key = SigningKey.generate()
        self._id = DeviceId("")
        self._credential = ""
        self._expires_ms = 0
        self._renewal_ms = 0
        self._etag = ""
        self._info: EpochInfo | None = None
        self._policy: Policy | None = None
        self._active: dict[TaskKey, Wanted] = {}
        self._files: set[Sha256] = set()
        self._barred: set[ReleaseId] = set()
        self._compared: set[ReleaseId] = set()
        self._reports: list[Report] = []
        self._begun: set[ReleaseId] = set()
        self._open: dict[TaskKey, Wanted] = {}  # installations that have not succeeded
        self._untold: set[TaskKey] = set()  # those of them of which nothing was said since they began
        self._poked = trio.Event()
        self._news = True  # the epoch is to be read

    async def run(self) -> None:
        """Enrol, then live: online, and away for a while now and then."""
        scenario = self._world.scenario
        backoff = Backoff(0.5, 30.0, rng=self._dice)
        while not self._id:
            try:
                await self._enrol()
            except TransportError as error:
                self._world.tally.errors[error.code] += 1
                await trio.sleep(backoff.next_delay_s())
        while True:
            online_s = self._dice.expovariate(1 / scenario.online_s) if scenario.online_s else math.inf
            self._world.tally.online += 1
            with trio.move_on_after(online_s):
                try:
                    await self._live()
                finally:
                    self._world.tally.online -= 1
            await trio.sleep(self._dice.expovariate(1 / scenario.offline_s))

    async def _live(self) -> None:
        self._news = True  # it may have missed some
        async with trio.open_nursery() as nursery:
            if self._streams:
                nursery.start_soon(self._follow_stream)
            if self._world.scenario.business_s:
                nursery.start_soon(self._do_business)
            await self._follow_epochs(nursery)

    async def _follow_epochs(self, nursery: trio.Nursery) -> None:
        backoff = Backoff(0.5, 60.0, rng=self._dice)
        deadline = 0.0
        while True:
            self._poked = trio.Event()
            try:
                if self._news:
                    await self._refresh()
                    await self._converge(nursery)
                    self._news = False
                    poll_s = self._world.scenario.poll_s * self._dice.uniform(0.8, 1.2)
                    deadline = trio.current_time() + poll_s
                await self._deliver()
                backoff.reset()
            except WalleError as error:
                self._world.tally.errors[error.code] += 1
                await trio.sleep(backoff.next_delay_s())
                continue
            with trio.move_on_at(deadline) as waiting:
                await self._poked.wait()
            self._news = self._news or waiting.cancelled_caught

    async def _follow_stream(self) -> None:
        backoff = Backoff(0.5, 60.0, rng=self._dice)
        while True:
            wait_s = 0.0
            try:
                headers = {"Authorization": f"Bearer {await self._good_credential()}"}
                path = f"{DEVICE_API}/stream"
                self._world.pool.requests["stream"] += 1
                async with open_stream(self._world.pool.server, path, headers) as (status, stream):
                    _check_status(status, path)
                    wait_s = await self._listen(stream, backoff)
            except NotAllowed as error:
                self._world.tally.errors[error.code] += 1
                self._expires_ms = 0  # renewed by the next attempt
            except WalleError as error:
                self._world.tally.errors[error.code] += 1
            await trio.sleep(wait_s + backoff.next_delay_s())

    async def _listen(self, stream: Connection, backoff: Backoff) -> float:
        """Follow a stream to its end; how long the server asks to stay away."""
        self._world.tally.streams += 1
        rest = b""
        try:
            while (part := await stream.next_part()) is not None:
                events, rest = take_events(rest + part)
                for name, data in events:
                    backoff.reset()
                    if name == "goodbye":
                        return max(0.0, min(decode(GoodbyeNotice, data).retry_s, _AWAY_MAX_S))
                    if name == "epoch":
                        self._hear_of(decode(EpochNotice, data).epoch)
        finally:
            self._world.tally.streams -= 1
        raise ConnectionLost("the push stream ended without a goodbye")

    async def _do_business(self) -> None:
        while True:
            await trio.sleep(self._dice.expovariate(1 / self._world.scenario.business_s))
            self._hear_of(self._world.newest_epoch)

    def _hear_of(self, epoch: int) -> None:
        if epoch > (self._info.epoch if self._info is not None else 0):
            self._news = True
            self._poked.set()

    async def _enrol(self) -> None:
        request = EnrolRequest(self._world.token, self._key.public.raw_hex, dict(self._profile))
        self._keep(await self._post("enrol", request, EnrolResponse))
        self._world.tally.enrolled += 1

    async def _good_credential(self) -> str:
        if self._world.clock.wall_ms() + _RENEW_BEFORE_MS >= self._expires_ms:
            at_ms = self._renewal_ms = max(self._world.clock.wall_ms(), self._renewal_ms + 1)
            signature = self._key.sign(renewal_bytes(self._id, at_ms))
            request = RenewRequest(self._id, at_ms, signature)
            self._keep(await self._post("renew", request, EnrolResponse))
        return self._credential

    def _keep(self, answer: EnrolResponse) -> None:
        self._id, self._credential = answer.device_id, answer.credential
        self._expires_ms = answer.expires_ms

    async def _post[T](self, name: str, message: object, cls: type[T], credential: str = "") -> T:
        headers = {"Content-Type": "application/json"}
        if credential:
            headers["Authorization"] = f"Bearer {credential}"
        path = f"{DEVICE_API}/{name}"
        answer = await self._world.pool.request(
            "POST", path, headers=headers, body=encode(message), kind=name
        )
        await self._travel(0)
        _check_status(answer.status, path)
        return decode(cls, answer.body)

    async def _get(self, kind: str, ref: FileRef) -> bytes:
        answer = await self._world.pool.request("GET", f"{STATIC_ROOT}/{kind}/{ref.sha256}", kind=kind)
        await self._travel(len(answer.body))
        _check_status(answer.status, kind)
        return answer.body

    async def _travel(self, size_bytes: int) -> None:
        """Let the time pass that the device's own network takes."""
        network = self._network
        wait_s = network.rtt_ms / 1_000
        wait_s += size_bytes / network.bytes_per_s if network.bytes_per_s else 0.0
        if wait_s:
            await trio.sleep(wait_s)

    async def _refresh(self) -> bool:
        """Read the epoch file; whether the policy is still the one before."""
        headers = {"If-None-Match": self._etag} if self._etag else {}
        answer = await self._world.pool.request(
            "GET", f"{STATIC_ROOT}/epoch.json", headers=headers, kind="epoch"
        )
        await self._travel(0)
        if answer.status == 304:
            return True
        _check_status(answer.status, "epoch.json")
        info = await self._world.trust.open_epoch(answer.body)
        known = self._info
        if known is not None and info.epoch < known.epoch:
            raise RollbackError(f"epoch {info.epoch} was offered, but epoch {known.epoch} has been seen")
        if self._world.clock.wall_ms() >= info.expires_ms:
            raise ExpiredError(f"epoch {info.epoch} has expired")
        is_news = known is None or info.snapshot != known.snapshot
        if is_news:
            self._policy = self._world.policy(await self._get("snapshot", info.snapshot), info)
            self._world.tally.heard_of(info.epoch)
        self._info, self._etag = info, answer.headers.get("etag", "")
        return not is_news

    async def _converge(self, nursery: trio.Nursery) -> None:
        assert self._policy is not None
        while True:
            wanted = self._policy.decide(self._id, self._profile)
            self._tell_given_up(wanted)
            for key in self._active.keys() - wanted.keys():
                self._activate(key, None)
            if await self._install_all(wanted, nursery):
                return

    def _tell_given_up(self, wanted: Mapping[TaskKey, Wanted]) -> None:
        for key, begun in list(self._open.items()):
            target = wanted.get(key)
            if target is None or target.release_id != begun.release_id:
                del self._open[key]
                if key in self._untold:
                    self._report(begun, "install", "failure", "user", "superseded")
                if active := self._active.get(key):
                    self._report(replace(active, votes=False, control_of=NO_RELEASE), "revert")

    async def _install_all(self, wanted: Mapping[TaskKey, Wanted], nursery: trio.Nursery) -> bool:
        """Bring every task to what is wanted; false if the policy changed meanwhile."""
        for key, target in wanted.items():
            active = self._active.get(key)
            if active is not None and active.release_id == target.release_id:
                self._active[key] = target  # it may have come to be held back from another
                self._begin_comparison(target, nursery)
            elif target.release_id not in self._barred and not await self._install(key, target, nursery):
                return False
        return True

    async def _install(self, key: TaskKey, wanted: Wanted, nursery: trio.Nursery) -> bool:
        active = self._active.get(key)
        if active is None or active.manifest != wanted.manifest:
            if wanted.release_id not in self._begun:
                self._begun.add(wanted.release_id)
                self._report(replace(wanted, control_of=NO_RELEASE), "start")
            self._open[key] = wanted
            self._untold.add(key)
            began = trio.current_time()
            try:
                await self._pull(wanted)
            except TransportError as error:
                self._report(wanted, "install", "failure", "network", error.code)
                raise
            if self._dice.random() < self._behaviour(wanted).install_failure:
                self._barred.add(wanted.release_id)
                self._report(wanted, "install", "failure", "install", "simulated")
                return True
            if not await self._refresh():
                return False  # a newer policy: plan again before anything is activated
            duration_ms = (trio.current_time() - began) * 1_000
        else:
            duration_ms = 0.0
        self._activate(key, wanted)
        self._report(wanted, "install", duration_ms=duration_ms)
        self._begin_comparison(wanted, nursery)
        self._run_later(wanted, nursery)
        return True

    async def _pull(self, wanted: Wanted) -> None:
        if self._dice.random() < self._network.failure:
            raise ConnectionLost("the simulated network broke off")
        await self._world.trust.approve(wanted)
        manifest = self._world.manifest(await self._get("manifest", wanted.manifest), wanted)
        for file in manifest.files:
            if file.sha256 not in self._files:
                ref = FileRef(file.sha256, file.size_bytes)
                data = check_file(await self._get("blob", ref), ref, f"blob {file.sha256[:12]}")
                self._world.tally.blob_bytes += len(data)
                self._files.add(file.sha256)

    def _activate(self, key: TaskKey, wanted: Wanted | None) -> None:
        before = self._active.pop(key, None)
        if wanted is not None:
            self._active[key] = wanted
        self._world.tally.activated(_name(before), _name(wanted))

    def _begin_comparison(self, wanted: Wanted, nursery: trio.Nursery) -> None:
        if wanted.control_of == NO_RELEASE or wanted.control_of in self._compared:
            return
        self._compared.add(wanted.control_of)
        self._report(wanted, "start")
        self._run_later(wanted, nursery)

    def _run_later(self, wanted: Wanted, nursery: trio.Nursery) -> None:
        if self._dice.random() >= self._behaviour(wanted).silent:
            nursery.start_soon(self._run_task, wanted)

    async def _run_task(self, wanted: Wanted) -> None:
        behaviour = self._behaviour(wanted)
        await trio.sleep(self._dice.expovariate(1 / behaviour.run_after_s) if behaviour.run_after_s else 0)
        key = (wanted.scenario, wanted.task)
        present = self._active.get(key)
        if present is None or present.release_id != wanted.release_id:
            return
        failed = self._dice.random() < behaviour.run_failure
        if not (failed or present.votes or present.control_of != NO_RELEASE):
            return
        duration_ms = behaviour.run_ms * math.exp(behaviour.run_spread * self._dice.gauss(0, 1))
        if failed:
            self._report(present, "run", "failure", "runtime", "exception", duration_ms)
        else:
            self._report(present, "run", duration_ms=duration_ms, peak_bytes=behaviour.peak_bytes)
        self._poked.set()

    def _behaviour(self, wanted: Wanted) -> Version:
        return self._world.scenario.behaviour(f"{wanted.scenario}/{wanted.task}", wanted.version)

    def _report(
        self,
        wanted: Wanted,
        stage: Stage,
        outcome: Outcome = "success",
        error_class: ErrorClass = "none",
        code: str = "",
        duration_ms: float = 0.0,
        peak_bytes: int = 0,
    ) -> None:
        if stage == "install":
            key = (wanted.scenario, wanted.task)
            self._untold.discard(key)
            if outcome == "success":
                self._open.pop(key, None)
        self._reports.append(
            Report(
                secrets.token_hex(8),
                wanted.release_id,
                wanted.task,
                wanted.version,
                stage,
                outcome,
                1,
                self._world.clock.wall_ms(),
                duration_ms,
                error_class,
                code,
                votes=wanted.votes,
                control_of=wanted.control_of,
                peak_bytes=peak_bytes,
            )
        )

    async def _deliver(self) -> None:
        while batch := tuple(self._reports[:REPORT_BATCH_MAX]):
            credential = await self._good_credential()
            await self._post("reports", ReportBatch(batch), ReportReceipt, credential)
            del self._reports[: len(batch)]
            self._world.tally.reports += len(batch)


def _name(wanted: Wanted | None) -> str | None:
    return None if wanted is None else f"{wanted.scenario}/{wanted.task} {wanted.version}"


def _check_status(status: int, what: str) -> None:
    """Raise what a status means.

    Raises:
        NotAllowed: the credential is not good.
        ConnectionLost: the server is overloaded or broken.
        RemoteProtocolError: it refuses.
    """
    if status < 300:
        return
    if status in (401, 403):
        raise NotAllowed(f"{what}: answered {status}")
    if status >= 500 or status == 429:
        raise ConnectionLost(f"{what}: answered {status}")
    raise RemoteProtocolError(f"{what}: answered {status}")


def take_events(buffer: bytes) -> tuple[list[tuple[str, bytes]], bytes]:
    """The whole server-sent events in a buffer, as name and data, and what is left of it."""
    *blocks, rest = buffer.split(b"\n\n")
    fields = [dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line) for block in blocks]
    return [(each[b"event"].decode(), each.get(b"data", b"")) for each in fields if b"event" in each], rest
