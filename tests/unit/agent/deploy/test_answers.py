"""Sets of ids and decisions of the server, from the policy to what runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from walle_shared.errors import LengthOrHashError, SignatureError, TransportError, TrustError
from walle_shared.ids import DeviceId, ReleaseId
from walle_shared.protocol.messages import TOLD_KIND, Told
from walle_shared.signing import SigningKey, sign_envelope
from walle_shared.trust.roles import POLICY
from walle_support.control import EXPIRES_MS, ISSUED_MS, SimulatedControl, corrupt, unreachable
from walle_support.device import live


def controlled(predicate: str, *sets: tuple[str, ...]) -> tuple[SimulatedControl, ReleaseId]:
    """A control plane with one release and the sets that it asks for."""
    control = SimulatedControl()
    for name, *members in sets:
        control.add_set(name, *members)
    return control, control.release(control.add_version(), predicate=predicate)


@pytest.mark.parametrize(
    ("predicate", "runs"),
    [
        ('device in set("friends")', True),
        ('device not in set("friends")', False),
        ('device in set("strangers")', False),
        ('group in set("groups") and device not in set("strangers")', True),
        ('nickname in set("friends") or nickname not in set("friends")', False),  # it has none
    ],
)
async def test_a_device_finds_out_itself_whether_it_is_in_a_set(
    tmp_path: Path, predicate: str, runs: bool
) -> None:
    others = [f"d{n}" for n in range(2, 300)]
    control, _ = controlled(
        predicate, ("friends", "d1", *others), ("strangers", *others), ("groups", "beta", "stable")
    )
    async with live(tmp_path, control) as device:
        assert await device.catch_up() is None
        assert device.active() == ({"reader": "1.0"} if runs else {})
        read = [path for _, path in control.requests if path.startswith("/s/ids/")]
        assert len(read) <= 4  # an index and one shard of each, however many there are
        await device.decider.decide()
        assert [path for _, path in control.requests if path.startswith("/s/ids/")] == read


async def test_a_new_version_of_a_set_is_followed_unless_another_is_pinned(tmp_path: Path) -> None:
    control, _ = controlled('device in set("friends")', ("friends", "d1"))
    control.release(control.add_version("other"), "other", predicate='device in set("friends@1")')
    async with live(tmp_path, control) as device:
        assert await device.catch_up() is None
        assert device.active() == {"reader": "1.0", "other": "1.0"}
        control.add_set("friends", "d2")
        control.publish()
        assert await device.catch_up() is None
        assert device.active() == {"other": "1.0"}


@pytest.mark.parametrize(("fault", "error"), [(unreachable, TransportError), (corrupt, LengthOrHashError)])
async def test_without_an_answer_what_was_decided_stands(
    tmp_path: Path, fault: object, error: type[Exception]
) -> None:
    control, _ = controlled("")
    async with live(tmp_path, control) as device:
        assert await device.catch_up() is None
        control.add_set("friends", "d1")
        control.releases = tuple(
            replace(each, predicate='device in set("friends")') for each in control.releases
        )
        control.publish()
        control.distort(f"/s/ids/{control.sets[0].index.sha256}", fault)  # type: ignore[arg-type]  # one of two
        with pytest.raises(error):
            await device.catch_up()
        assert device.active() == {"reader": "1.0"}
        assert await device.catch_up() is None
        assert device.active() == {"reader": "1.0"}


async def test_what_only_the_server_knows_it_tells(tmp_path: Path) -> None:
    control, release = controlled('told("r1")')
    async with live(tmp_path, control) as device:
        assert await device.catch_up() is None
        assert device.active() == {}
        control.told.add(release)
        assert await device.catch_up() is None
        assert device.active() == {}  # it was told a moment ago
        assert await device.decider.decide() <= 3_600
        device.clock.advance(3_600)
        assert await device.catch_up() is None
        assert device.active() == {"reader": "1.0"}


def told(**changes: object) -> Told:
    return replace(Told(DeviceId("d1"), 2, (ReleaseId("r1"),), ISSUED_MS, EXPIRES_MS), **changes)  # type: ignore[arg-type]  # some of them


@pytest.mark.parametrize("wrong", [{"device_id": "d2"}, {"epoch": 1}])
async def test_an_answer_for_another_device_or_epoch_is_refused(
    tmp_path: Path, wrong: dict[str, object]
) -> None:
    control, _ = controlled('told("r1")')

    def replayed(_request: httpx.Request, _answer: httpx.Response) -> httpx.Response:
        return httpx.Response(
            200, content=sign_envelope(TOLD_KIND, told(**wrong), control.trust.keys_of(POLICY))
        )

    async with live(tmp_path, control) as device:
        control.distort("/d/v1/decide", replayed)
        with pytest.raises(SignatureError, match="asked about epoch 2"):
            await device.catch_up()
        assert device.active() == {}


async def test_an_answer_that_nobody_trusted_signed_is_refused(tmp_path: Path) -> None:
    control, _ = controlled('told("r1")')

    def forged(_request: httpx.Request, _answer: httpx.Response) -> httpx.Response:
        return httpx.Response(200, content=sign_envelope(TOLD_KIND, told(), [SigningKey.generate()]))

    async with live(tmp_path, control) as device:
        control.distort("/d/v1/decide", forged)
        with pytest.raises(TrustError):
            await device.catch_up()
        assert device.active() == {}
