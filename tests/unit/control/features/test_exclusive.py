"""Files of single devices, from the operator who gives them to the device that opens them."""

from __future__ import annotations

import base64
import contextlib
import itertools
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
import trio

from walle_agent.deploy.download import ContentStore, Downloader
from walle_agent.deploy.own import OwnFiles, OwnLinks
from walle_agent.link.session import Session
from walle_agent.link.signed_clock import SignedClock
from walle_agent.link.transport import Transport
from walle_agent.state.keeper import StateKeeper
from walle_agent.state.store import StateStore
from walle_agent.tasks.registry import InstalledTask, TaskRegistry
from walle_control.app import Control
from walle_control.config import ControlConfig, ExclusiveConfig
from walle_control.features.devices.types import EnrolTokenRequest
from walle_control.features.exclusive.types import GiveRequest, TakeRequest
from walle_shared.clock import FixedClock
from walle_shared.errors import (
    ExpiredError,
    LimitExceeded,
    NotFound,
    RollbackError,
    SignatureError,
    StorageError,
)
from walle_shared.exclusive import EXCLUSIVE_KIND, ExclusiveManifest
from walle_shared.ids import DeviceId, ReleaseId, ScenarioName, Sha256, TaskName, TaskVersion
from walle_shared.manifest import OwnSection, TaskFile, TaskHead
from walle_shared.protocol.messages import ExclusiveOffer
from walle_shared.signing import SigningKey, open_envelope, sha256_hex, sign_envelope
from walle_shared.trust.roles import EXCLUSIVE
from walle_support.device import FakeTriggers
from walle_support.power import Disk, PowerCut
from walle_support.trust import believe

KEY = (ScenarioName("demo"), TaskName("greeter"))
LETTER = b"for your eyes only " * 500
FILES = ("letter.bin", "deep/er.txt")


def no_corruption(error: StorageError) -> None:
    raise error


@dataclass
class Receiver:
    """The part of an agent that has files of its own, against a real control plane."""

    own: OwnFiles
    task: InstalledTask
    registry: TaskRegistry
    store: StateStore
    session: Session
    opens: list[Callable[[bytes], Awaitable[ExclusiveManifest]]]

    @property
    def id(self) -> DeviceId:
        device_id = self.session.device_id
        assert device_id is not None
        return device_id

    def read(self, name: str = "letter.bin") -> bytes | None:
        path = self.task.bundle_dir / "own" / name
        return path.read_bytes() if path.exists() else None

    async def refresh(self) -> bytes | None:
        await self.own.refresh(self.task)
        return self.read()


@pytest.fixture
def receiver(app, control: Control, store, clock: FixedClock, tmp_path: Path):  # type: ignore[no-untyped-def]
    """``async with receiver("phone") as device``: an enrolled device with the task installed."""

    @asynccontextmanager
    async def make(name: str, own: tuple[str, ...] = FILES) -> AsyncIterator[Receiver]:
        folder = tmp_path / name
        bundle = folder / "bundle"
        bundle.mkdir(parents=True, exist_ok=True)
        token = await control.devices.create_enrol_token(EnrolTokenRequest(), "anna")
        states = StateStore(folder, on_corrupt=no_corruption)
        registry = TaskRegistry(FakeTriggers())
        task = InstalledTask(
            KEY, TaskVersion("1.0"), ReleaseId("r1"), Sha256("a" * 64), bundle,
            TaskFile(TaskHead(*KEY), own=OwnSection(own)),
        )  # fmt: skip
        await registry.activate(task)
        content = ContentStore(folder / "sealed")

        async def open_signed(data: bytes) -> ExclusiveManifest:
            check = believe(store.home.root, FixedClock()).signatures_of(EXCLUSIVE)
            return open_envelope(ExclusiveManifest, EXCLUSIVE_KIND, data, check)

        async def now_ms() -> int:
            return clock.wall_ms()

        opens = [open_signed]
        async with Transport("http://control", wire=httpx.ASGITransport(app)) as transport:
            session = Session(transport, states, SignedClock(clock), profile={}, enrol_token=token.token)
            await session.credential()
            files = OwnFiles(
                session,
                states,
                StateKeeper(states),
                registry,
                content,
                Downloader(transport, content, attempts=2, base_s=0.001, cap_s=0.002),
                OwnLinks(folder / "own", lambda data: opens[0](data), now_ms),
                poll_s=60.0,
            )
            yield Receiver(files, task, registry, states, session, opens)

    return make


async def give(control: Control, *devices: str, content: bytes = LETTER, path: str = "letter.bin"):  # type: ignore[no-untyped-def]
    wish = GiveRequest(path, base64.b64encode(content).decode(), tuple(map(DeviceId, devices)))
    return await control.exclusive.give(*KEY, wish, "anna")


async def test_a_device_opens_what_it_was_given(control: Control, receiver, store) -> None:  # type: ignore[no-untyped-def]
    async with receiver("phone") as phone:
        assert await phone.refresh() is None
        result = await give(control, phone.id, "nobody")
        assert (result.devices, result.unknown) == (1, ("nobody",))
        assert await phone.refresh() == LETTER
        await give(control, phone.id, content=b"second", path="deep/er.txt")
        assert await phone.refresh() == LETTER
        assert phone.read("deep/er.txt") == b"second"
        assert (phone.task.bundle_dir / "own").readlink().name == ".own-2"
    everything = [path.read_bytes() for path in store.home.root.rglob("*") if path.is_file()]
    assert not any(b"for your eyes only" in data for data in everything)  # nowhere on the server in the clear


async def test_what_is_replaced_or_taken_away_is_gone_everywhere(control: Control, receiver, store) -> None:  # type: ignore[no-untyped-def]
    async with receiver("phone") as phone:
        await give(control, phone.id)
        await phone.refresh()
        await give(control, phone.id, content=b"newer")
        assert await phone.refresh() == b"newer"
        assert len(list((store.home.exclusive / "blob").iterdir())) == 1
        result = await control.exclusive.take(
            *KEY, TakeRequest("letter.bin", (phone.id, DeviceId("nobody"))), "anna"
        )
        assert (result.devices, result.unknown) == (1, ("nobody",))
        assert await phone.refresh() is None
        assert list((store.home.exclusive / "blob").iterdir()) == []
        left = [
            p for p in phone.task.bundle_dir.parent.rglob("*") if p.is_file() and b"newer" in p.read_bytes()
        ]
        assert left == []


async def test_a_file_for_many_is_stored_once_and_opened_by_each(control: Control, receiver, store) -> None:  # type: ignore[no-untyped-def]
    async with receiver("phone") as phone, receiver("tablet") as tablet, receiver("other") as other:
        await give(control, phone.id, tablet.id)
        assert len(list((store.home.exclusive / "blob").iterdir())) == 1
        assert await phone.refresh() == LETTER
        assert await tablet.refresh() == LETTER
        assert await other.refresh() is None


async def test_another_device_can_neither_ask_nor_open(control: Control, receiver) -> None:  # type: ignore[no-untyped-def]
    async with receiver("phone") as phone, receiver("thief") as thief:
        await give(control, phone.id)
        with pytest.raises(NotFound):
            await control.exclusive.offer(thief.id, *KEY)
        stolen = await control.exclusive.offer(phone.id, *KEY)
        manifest = await phone.opens[0](stolen.envelope.encode())
        (file,) = manifest.files
        with pytest.raises(SignatureError, match="was offered to"):
            await thief.own._check(thief.id, KEY, stolen.envelope.encode())
        path = thief.own._content.path(file.sealed.sha256)
        path.write_bytes((await control.exclusive.open(file.sealed.sha256, **_query(stolen))).read_bytes())
        for claimed in (manifest, replace(manifest, device_id=thief.id)):
            with pytest.raises(SignatureError, match="not for this device"):
                thief.own._open(KEY, claimed, file, path.parent / "out")


def _query(offer: ExclusiveOffer) -> dict[str, str]:
    query = httpx.URL(next(iter(offer.urls.values()))).params
    return {"device_id": query["device"], "expires": query["expires"], "mac": query["mac"]}


async def test_an_older_manifest_is_refused_also_after_a_restart(control: Control, receiver) -> None:  # type: ignore[no-untyped-def]
    async with receiver("phone") as phone:
        await give(control, phone.id)
        old = await control.exclusive.offer(phone.id, *KEY)
        assert await control.exclusive.offer(phone.id, *KEY) == old  # the same until something changes
        await phone.refresh()
        await give(control, phone.id, content=b"newer")
        await phone.refresh()
        again = StateStore(phone.store.folder, on_corrupt=no_corruption)
        assert again.state.own_record(KEY).counter == 2
        with pytest.raises(RollbackError):
            await phone.own._check(phone.id, KEY, old.envelope.encode())


async def test_a_forged_manifest_or_a_wrong_file_changes_nothing(control: Control, receiver, store) -> None:  # type: ignore[no-untyped-def]
    async with receiver("phone") as phone:
        await give(control, phone.id)
        await phone.refresh()
        await give(control, phone.id, content=b"newer")
        (sealed,) = (store.home.exclusive / "blob").iterdir()
        sealed.write_bytes(b"?" * sealed.stat().st_size)
        with pytest.raises(Exception, match=r"digest|promised"):
            await phone.refresh()
        assert phone.read() == LETTER
        assert phone.store.state.own_record(KEY).counter == 1
        right = phone.opens[0]

        async def forged(data: bytes) -> ExclusiveManifest:
            return await right(sign_envelope(EXCLUSIVE_KIND, await right(data), [SigningKey.generate()]))

        phone.opens[0] = forged
        with pytest.raises(SignatureError):
            await phone.refresh()
        assert phone.read() == LETTER


async def test_a_key_of_another_counter_does_not_open(control: Control, receiver) -> None:  # type: ignore[no-untyped-def]
    async with receiver("phone") as phone:
        await give(control, phone.id)
        right = phone.opens[0]

        async def other_counter(data: bytes) -> ExclusiveManifest:
            manifest = await right(data)
            (file,) = manifest.files
            return replace(manifest, counter=5, files=(replace(file, extra={**file.extra, "counter": 2}),))

        phone.opens[0] = other_counter
        with pytest.raises(SignatureError, match="task and counter"):
            await phone.refresh()


async def test_a_manifest_is_signed_anew_before_it_expires_and_refused_after(  # type: ignore[no-untyped-def]
    control: Control, receiver, clock: FixedClock
) -> None:
    async with receiver("phone") as phone:
        await give(control, phone.id)
        await phone.refresh()
        old = await control.exclusive.offer(phone.id, *KEY)
        clock.advance(16 * 24 * 3_600)
        assert await phone.refresh() == LETTER
        assert phone.store.state.own_record(KEY).counter == 2
        clock.advance(16 * 24 * 3_600)
        manifest = await phone.opens[0](old.envelope.encode())

        async def higher_counter(_: bytes) -> ExclusiveManifest:
            return replace(manifest, counter=9)

        phone.opens[0] = higher_counter
        with pytest.raises(ExpiredError):
            await phone.refresh()


async def test_only_what_the_task_names_is_put_beside_it(control: Control, receiver) -> None:  # type: ignore[no-untyped-def]
    async with receiver("phone", own=("deep/er.txt",)) as phone:
        await give(control, phone.id)
        assert await phone.refresh() is None
        later = replace(phone.task, definition=replace(phone.task.definition, own=OwnSection(FILES)),
                        bundle_dir=phone.task.bundle_dir.parent / "next")  # fmt: skip
        later.bundle_dir.mkdir()
        await trio.to_thread.run_sync(phone.own.place, later)  # a new version finds it without asking anybody
        assert (later.bundle_dir / "own" / "letter.bin").read_bytes() == LETTER


async def test_a_run_keeps_the_files_it_began_with(control: Control, receiver) -> None:  # type: ignore[no-untyped-def]
    async with receiver("phone") as phone:
        await give(control, phone.id)
        await phone.refresh()
        with phone.registry.running(phone.task):
            began_with = (phone.task.bundle_dir / "own").resolve() / "letter.bin"
            await give(control, phone.id, content=b"newer")
            assert await phone.refresh() == b"newer"
            assert began_with.read_bytes() == LETTER


@pytest.mark.slow
async def test_whenever_the_power_goes_the_files_are_the_old_or_the_new(  # type: ignore[no-untyped-def]
    control: Control, receiver, tmp_path: Path
) -> None:
    async with receiver("phone") as phone:
        await give(control, phone.id)
        await phone.refresh()
        await give(control, phone.id, content=b"newer")
    for at in itertools.count(1, 3):
        shutil.copytree(tmp_path / "phone", tmp_path / f"p{at}", symlinks=True)
        disk = Disk(tmp_path / f"p{at}", at)
        disk.adopt()
        died = True
        with contextlib.suppress(PowerCut), disk.watching():
            async with receiver(f"p{at}") as phone:
                await phone.refresh()
            died = False
        await trio.to_thread.run_sync(disk.after_cut, tmp_path / f"up{at}", "strict")
        disk.close()
        async with receiver(f"up{at}") as phone:
            await trio.to_thread.run_sync(phone.own.place, phone.task)
            counter = phone.store.state.own_record(KEY).counter
            assert phone.read() == {1: LETTER, 2: b"newer"}[counter]
            assert await phone.refresh() == b"newer"
        if not died:
            break
    assert at > 8


async def test_a_url_holds_for_a_while_and_for_what_the_device_has(  # type: ignore[no-untyped-def]
    control: Control, receiver, anyone: httpx.AsyncClient, clock: FixedClock
) -> None:
    async with receiver("phone") as phone:
        await give(control, phone.id)
        offer = await control.exclusive.offer(phone.id, *KEY)
        ((sha256, url),) = offer.urls.items()
        whole = await anyone.get(url)
        assert sha256_hex(whole.content) == sha256
        part = await anyone.get(url, headers={"Range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, whole.content[10:20])
        assert (await anyone.get(f"/d/v1/sealed/{sha256}")).status_code == 403
        assert (await anyone.get(url.replace(phone.id, "d-other"))).status_code == 403
        assert (await anyone.get(url.replace("expires=", "expires=9"))).status_code == 403
        await control.exclusive.take(*KEY, TakeRequest("letter.bin", (phone.id,)), "anna")
        assert (await anyone.get(url)).status_code == 403
        await give(control, phone.id)
        url = next(iter((await control.exclusive.offer(phone.id, *KEY)).urls.values()))
        clock.advance(3_601)
        answer = await anyone.get(url)
        assert (answer.status_code, "holds no longer" in answer.text) == (403, True)


async def test_a_revoked_device_is_given_nothing(control: Control, receiver) -> None:  # type: ignore[no-untyped-def]
    async with receiver("phone") as phone:
        await control.devices.revoke(phone.id, "anna")
        assert (await give(control, phone.id)).unknown == (phone.id,)


async def test_too_large_is_said(control: Control) -> None:
    with pytest.raises(LimitExceeded, match="over the limit"):
        await give(control, "d1", content=bytes(64 << 20))


async def test_over_http(admin, receiver) -> None:  # type: ignore[no-untyped-def]
    async with receiver("phone") as phone:
        base = "/api/v1/exclusive/demo/greeter"
        body = {"path": "letter.bin", "content": base64.b64encode(LETTER).decode(), "devices": [phone.id]}
        assert (await admin.post(f"{base}/give", json=body)).json() == {"devices": 1, "unknown": []}
        (entry,) = (await admin.get(base)).json()["files"]
        assert (entry["device_id"], entry["path"], entry["size_bytes"]) == (
            phone.id,
            "letter.bin",
            len(LETTER),
        )
        assert (await admin.post(f"{base}/give", json={**body, "content": "%%"})).status_code == 400
        assert (await admin.post(f"{base}/give", json={**body, "path": "../up"})).status_code == 400
        taken = await admin.post(f"{base}/take", json={"path": "letter.bin", "devices": [phone.id]})
        assert taken.json()["devices"] == 1
        assert (await admin.get(base)).json()["files"] == []


class TestBehindNginx:
    @pytest.fixture
    def config(self) -> ControlConfig:
        return ControlConfig(exclusive=ExclusiveConfig(accel_prefix="/_sealed/"))

    async def test_the_proxy_is_told_which_file_to_send(self, control: Control, receiver, anyone) -> None:  # type: ignore[no-untyped-def]
        async with receiver("phone") as phone:
            await give(control, phone.id)
            ((sha256, url),) = (await control.exclusive.offer(phone.id, *KEY)).urls.items()
            answer = await anyone.get(url)
            assert answer.headers["X-Accel-Redirect"] == f"/_sealed/{sha256}"
            assert answer.content == b""
            assert (await anyone.get(url + "0")).status_code == 403
