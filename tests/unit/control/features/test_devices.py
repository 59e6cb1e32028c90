from __future__ import annotations

import pytest

from walle_control.features.devices import credentials
from walle_control.features.devices.types import EnrolTokenRequest
from walle_control.web.problems import Unauthenticated
from walle_shared.errors import (
    ConfigError,
    Conflict,
    LimitExceeded,
    NotAllowed,
    NotFound,
    RollbackError,
    SignatureError,
)
from walle_shared.protocol.messages import EnrolRequest, RenewRequest
from walle_shared.signing import SigningKey


def enrol_request(key: SigningKey, token: str, **profile) -> EnrolRequest:
    return EnrolRequest(token, key.public.raw_hex, profile)


async def test_enrolled_device_has_a_credential_that_names_it(control, enrol):
    device = await enrol(group="beta")
    assert control.devices.check_credential(device.response.credential) == device.id
    shown = await control.devices.show(device.id)
    assert (shown.state, shown.profile, shown.tasks) == ("active", {"group": "beta"}, ())


async def test_token_admits_as_many_devices_as_it_says(control):
    token = (await control.devices.create_enrol_token(EnrolTokenRequest(uses=2), "anna")).token
    first = SigningKey.generate()
    once = await control.devices.enrol(enrol_request(first, token))
    again = await control.devices.enrol(enrol_request(first, token))  # the answer was lost: costs no use
    assert once.device_id == again.device_id
    await control.devices.enrol(enrol_request(SigningKey.generate(), token))
    with pytest.raises(NotAllowed, match="used up"):
        await control.devices.enrol(enrol_request(SigningKey.generate(), token))


async def test_token_expires(control, clock):
    token = (await control.devices.create_enrol_token(EnrolTokenRequest(valid_s=60), "anna")).token
    clock.advance(61)
    with pytest.raises(NotAllowed, match="expired"):
        await control.devices.enrol(enrol_request(SigningKey.generate(), token))


async def test_known_key_with_another_token_must_renew(control, enrol):
    device = await enrol()
    token = (await control.devices.create_enrol_token(EnrolTokenRequest(), "anna")).token
    with pytest.raises(Conflict, match="must renew"):
        await control.devices.enrol(device.request(token))


@pytest.mark.parametrize("wish", [EnrolTokenRequest(uses=0), EnrolTokenRequest(valid_s=0)])
async def test_senseless_tokens_are_refused(control, wish):
    with pytest.raises(ConfigError):
        await control.devices.create_enrol_token(wish, "anna")


async def test_oversized_profile_is_refused(control):
    token = (await control.devices.create_enrol_token(EnrolTokenRequest(), "anna")).token
    with pytest.raises(LimitExceeded, match="profile"):
        await control.devices.enrol(enrol_request(SigningKey.generate(), token, note="x" * 10_000))


async def test_credential_expires_and_is_renewed_by_the_key_months_later(control, enrol, clock):
    device = await enrol()
    clock.advance(100 * 86_400)
    with pytest.raises(Unauthenticated) as expired:
        control.devices.check_credential(device.response.credential)
    assert expired.value.code == "credential_expired"
    renewed = await control.devices.renew(RenewRequest(device.id, 5, device.renewal_signature(5)))
    assert control.devices.check_credential(renewed.credential) == device.id


async def test_renewal_refuses_strangers_and_replays(control, enrol):
    device = await enrol()
    good = RenewRequest(device.id, 5, device.renewal_signature(5))
    with pytest.raises(SignatureError):
        await control.devices.renew(RenewRequest(device.id, 6, good.signature))
    await control.devices.renew(good)
    with pytest.raises(RollbackError):
        await control.devices.renew(good)
    with pytest.raises(NotAllowed):
        await control.devices.renew(RenewRequest("dnobody", 1, good.signature))


async def test_revoked_device_can_neither_speak_nor_renew_nor_enrol(control, enrol, store, app):
    device = await enrol()
    assert (await control.devices.revoke(device.id, "anna")).state == "revoked"
    with pytest.raises(NotAllowed):
        control.devices.check_credential(device.response.credential)
    with pytest.raises(NotAllowed):
        await control.devices.renew(RenewRequest(device.id, 5, device.renewal_signature(5)))
    await control.devices.load()  # a restarted server remembers
    assert control.devices.is_revoked(device.id)
    with pytest.raises(NotFound):
        await control.devices.revoke("dnobody", "anna")


async def test_devices_are_listed_page_by_page(control, enrol):
    ids = sorted([(await enrol()).id for _ in range(5)])
    first = await control.devices.list("", 3)
    rest = await control.devices.list(first.next, 3)
    assert [device.id for device in (*first.devices, *rest.devices)] == ids
    assert rest.next is None


@pytest.mark.parametrize("change", ["{0}0", "x{0}", "", "wd1.a.1", "wd1.d1.99999999999999.é"])
def test_tampered_credentials_are_refused(change):
    credential = credentials.issue(b"key", "d1", 2_000)
    assert credentials.check(b"key", credential, 1_999) == "d1"
    with pytest.raises(Unauthenticated):
        credentials.check(b"key", change.format(credential), 0)
    with pytest.raises(Unauthenticated):
        credentials.check(b"other key", credential, 0)
