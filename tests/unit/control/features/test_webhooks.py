"""Webhooks: signed, in order, again until heard, and never into our own network."""

from __future__ import annotations

import base64
import hmac
from dataclasses import replace

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from walle_control.app import ADMIN_API
from walle_control.config import ControlConfig, WebhooksConfig
from walle_control.features.releases.types import CreateRelease
from walle_control.features.webhooks import signature
from walle_control.features.webhooks.sender import Sender, check_url, is_public, parse_networks
from walle_control.features.webhooks.service import RETRY_S
from walle_control.features.webhooks.types import DeliveriesAsked, WebhookRequest
from walle_shared.errors import ConfigError, ConnectionLost, NotAllowed
from walle_support.receiver import Receiver

WISH = CreateRelease("demo", "greeter", "1.0.0")


@pytest.fixture
def config() -> ControlConfig:
    webhooks = WebhooksConfig(allow_networks=("127.0.0.0/8",), interval_s=3600.0)  # delivered by hand
    return replace(ControlConfig(), webhooks=webhooks)


@pytest.fixture
def deliver(control):
    """``await deliver()``: one round of what is due."""

    async def once() -> None:
        async with trio.open_nursery() as nursery:
            await control.webhooks.deliver_due(nursery)

    return once


def verify(secret: str, headers, body: bytes) -> bool:
    """As a receiver does it, by the specification."""
    signed = b"%s.%s.%s" % (headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body)
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    return expected in headers["webhook-signature"].split(" ")


async def test_a_receiver_hears_what_happens_in_order_and_can_check_it(control, imported, deliver, clock):
    await imported("1.0.0")
    with Receiver() as receiver:
        made = await control.webhooks.create(WebhookRequest(receiver.url, ("release.*",), "demo"), "ben")
        release = (await control.releases.create(WISH, "ben")).release.id
        await control.releases.act(release, "pause", "guard", "too slow", {"rule": "slower"})
        await deliver()
    events = [arrived.event for arrived in receiver.arrived]
    assert [event["type"] for event in events] == ["release.create", "release.pause"]
    assert events[1]["data"]["subject"] == release
    assert events[1]["data"]["evidence"] == {"rule": "slower"}
    assert (events[1]["data"]["by"], events[1]["data"]["reason"]) == ("guard", "too slow")
    for arrived in receiver.arrived:
        assert verify(made.secret, arrived.headers, arrived.body)
        assert not verify(made.secret, arrived.headers, arrived.body + b" ")
        assert int(arrived.headers["webhook-timestamp"]) == clock.wall_ms() // 1000
    kept = (await control.webhooks.deliveries(made.webhook.id, DeliveriesAsked())).deliveries
    assert [delivery.state for delivery in kept] == ["delivered", "delivered"]


async def test_only_what_was_asked_for_is_delivered(control, imported, enrol, deliver):
    await imported("1.0.0")
    with Receiver() as receiver:
        for wish in (
            WebhookRequest(receiver.url + "/rollback", ("release.rollback",)),
            WebhookRequest(receiver.url + "/shop", (), "shop"),
            WebhookRequest(receiver.url + "/devices", ("device.revoke",)),
        ):
            await control.webhooks.create(wish, "ben")
        release = (await control.releases.create(WISH, "ben")).release.id
        await control.releases.act(release, "rollback", "ben")
        await control.devices.revoke((await enrol()).id, "ben")
        await deliver()
    assert sorted((a.path, a.event["type"]) for a in receiver.arrived) == [
        ("/hook/devices", "device.revoke"),
        ("/hook/rollback", "release.rollback"),
    ]


async def test_what_fails_is_tried_again_in_order_until_it_is_given_up(control, imported, deliver, clock):
    await imported("1.0.0")
    with Receiver(lambda arrived: 500 if arrived.event["type"] == "release.create" else 200) as receiver:
        made = await control.webhooks.create(WebhookRequest(receiver.url), "ben")
        release = (await control.releases.create(WISH, "ben")).release.id
        await control.releases.act(release, "stop", "ben")
        await deliver()
        await deliver()
        assert len(receiver.arrived) == 1  # the first is not due again, and the second waits for it
        assert (await control.webhooks.show(made.webhook.id)).waiting == 2
        for wait_s in RETRY_S:
            clock.advance(wait_s)
            await deliver()
        arrived = [(a.event["type"], a.headers["webhook-id"]) for a in receiver.arrived]
        assert [kind for kind, _ in arrived] == ["release.create"] * (len(RETRY_S) + 1) + ["release.stop"]
        assert len({message for _, message in arrived}) == 2  # every attempt has the name of its event
        webhook = await control.webhooks.show(made.webhook.id)
        assert (webhook.waiting, webhook.dead) == (0, 1)
        receiver.answer = lambda _: 200
        assert (await control.webhooks.redeliver(made.webhook.id, "ben")).waiting == 1
        await deliver()
    assert receiver.arrived[-1].event["type"] == "release.create"
    assert (await control.webhooks.show(made.webhook.id)).dead == 0


async def test_one_who_is_gone_is_left_alone_and_others_do_not_wait(control, imported, deliver):
    await imported("1.0.0")
    statuses = {"/hook/gone": 410, "/hook/moved": 302, "/hook/fine": 200}
    with Receiver(lambda arrived: statuses[arrived.path]) as receiver:
        gone = await control.webhooks.create(WebhookRequest(receiver.url + "/gone"), "ben")
        moved = await control.webhooks.create(WebhookRequest(receiver.url + "/moved"), "ben")
        await control.webhooks.create(WebhookRequest(receiver.url + "/fine"), "ben")
        release = (await control.releases.create(WISH, "ben")).release.id
        await deliver()
        await control.releases.act(release, "stop", "ben")
        await deliver()
    paths = [arrived.path for arrived in receiver.arrived]
    assert sorted(paths) == ["/hook/fine", "/hook/fine", "/hook/gone", "/hook/moved"]
    assert not (await control.webhooks.show(gone.webhook.id)).active
    (_, failed) = (await control.webhooks.deliveries(moved.webhook.id, DeliveriesAsked())).deliveries
    assert failed.error == "the receiver answered 302"  # redirects are not followed


async def test_both_secrets_sign_for_a_day_after_a_rotation(control, deliver, clock, enrol):
    with Receiver() as receiver:
        made = await control.webhooks.create(WebhookRequest(receiver.url), "ben")
        clock.advance(10.0)
        rotated = await control.webhooks.rotate(made.webhook.id, "ben")
        assert rotated.secret != made.secret
        for after_s, old in ((0.0, True), (signature.OVERLAP_MS / 1000, False)):
            clock.advance(after_s)
            await control.devices.revoke((await enrol()).id, "ben")
            await deliver()
            arrived = receiver.arrived[-1]
            assert verify(rotated.secret, arrived.headers, arrived.body)
            assert verify(made.secret, arrived.headers, arrived.body) == old


async def test_nothing_of_the_secret_is_stored_or_told(control, store, admin):
    made = await control.webhooks.create(WebhookRequest("https://example.org/hook"), "ben")
    bare = made.secret.removeprefix("whsec_")
    for path in store.home.root.glob("control.db*"):
        assert bare.encode() not in path.read_bytes()
    assert bare not in str(await control.audit.page(0, 1000))
    assert bare not in (await admin.get(f"{ADMIN_API}/webhooks")).text


async def test_the_test_command_says_what_came_of_it(control):
    with Receiver() as receiver:
        made = await control.webhooks.create(WebhookRequest(receiver.url), "ben")
        result = await control.webhooks.test(made.webhook.id, "ben")
        assert (result.delivered, result.status, result.error) == (True, 204, "")
        assert receiver.arrived[0].event["type"] == "test"
        assert verify(made.secret, receiver.arrived[0].headers, receiver.arrived[0].body)
    result = await control.webhooks.test(made.webhook.id, "ben")
    assert (result.delivered, result.status) == (False, 0)
    assert "127.0.0.1" in result.error


async def test_the_loop_delivers_by_itself(config, clock, store, converter, nursery, imported_into):
    from walle_control.app import create_control

    quick = replace(config, webhooks=replace(config.webhooks, interval_s=0.01))
    control = create_control(quick, clock=clock, store=store, convert=converter)
    await nursery.start(control.run)
    heard = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def answer(_arrived) -> int:
        token.run_sync_soon(heard.set)
        return 200

    with Receiver(answer) as receiver:
        await control.webhooks.create(WebhookRequest(receiver.url), "ben")
        await imported_into(control)
        with trio.fail_after(30):
            await heard.wait()


@pytest.fixture
def imported_into(repo, good_files):
    from walle_control.features.tasks.types import ImportRequest

    async def into(control) -> None:
        repo.tag("greeter/1.0.0", "greeter", good_files)
        await control.tasks.import_version(ImportRequest(str(repo.path), "greeter", "1.0.0"), "anna")

    return into


# Where webhooks may lead


INSIDE = [
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1",
    "255.255.255.255", "224.0.0.1", "198.18.0.1", "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::",
    "2002:a9fe:a9fe::", "ff02::1",
]  # fmt: skip


@pytest.mark.parametrize("address", INSIDE)
async def test_a_name_that_leads_inside_is_refused(address):
    async def resolve(_host: str, _port: int) -> list[str]:
        return ["93.184.216.34", address]  # one good address does not help

    with pytest.raises(NotAllowed, match="public") as raised:
        await Sender(resolve=resolve).post("https://innocent.example/hook", {}, b"")
    assert raised.value.code == "not_public"


async def test_only_addresses_that_were_checked_are_connected_to():
    """A name that answers differently the next time gains nothing: it is looked up once."""
    answers = iter([["127.0.0.2"]])

    async def resolve(_host: str, _port: int) -> list[str]:
        return next(answers)

    sender = Sender(parse_networks(["127.0.0.2/32"]), resolve)
    with Receiver() as receiver, pytest.raises(ConnectionLost):  # nobody listens on that one
        await sender.post(receiver.url.replace("127.0.0.1", "rebinding.example"), {}, b"")
    assert receiver.arrived == []


async def test_plain_http_is_for_allowed_networks():
    async def resolve(_host: str, _port: int) -> list[str]:
        return ["93.184.216.34"]

    with pytest.raises(NotAllowed, match="https"):
        await Sender(resolve=resolve).post("http://example.org/hook", {}, b"")


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:4700::1111", "64:ff9b::5db8:d822"])
def test_the_open_internet_is_public(address):
    import ipaddress

    assert is_public(ipaddress.ip_address(address))


BAD_URLS = [
    "", "example.org", "ftp://example.org/", "file:///etc/passwd", "https://", "https://u:p@example.org/",
    "https://example.org:99999/", "https://example.org:0/", "https://exa mple.org/", "https://a.org/\r\nX: y",
    "https://example.org/#x", "https://[::1/", "https://ä.example/", "https://example.org/" + "x" * 2000,
]  # fmt: skip


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_senseless_url_is_refused(url):
    with pytest.raises(ConfigError):
        check_url(url)


@given(st.text(max_size=60))
def test_no_url_crashes_the_check(text):
    try:
        check_url("https://" + text)
    except ConfigError:
        return


async def test_senseless_wishes_are_refused(control):
    for wish in (
        WebhookRequest("https://example.org/", ("release.fly",)),
        WebhookRequest("https://example.org/", (), "No Such"),
    ):
        with pytest.raises(ConfigError):
            await control.webhooks.create(wish, "ben")
    with pytest.raises(ConfigError, match="allow_networks"):
        parse_networks(["10.0.0.1/8"])
