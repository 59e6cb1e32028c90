"""The audit log: every change is in it, and none can be altered unseen."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walle_control.features.audit.types import GENESIS, AuditEntry, chain_hash, check_chain
from walle_control.features.devices.types import EnrolTokenRequest
from walle_control.features.releases.types import CreateRelease
from walle_shared.errors import NotFound, TrustError


def entry(seq: int, before: str, actor: str = "anna", detail=None) -> AuditEntry:
    body = (seq * 10, actor, "act", f"s{seq}", detail or {})
    return AuditEntry(seq, *body, chain_hash(before, seq, *body))


def chain(length: int, **values) -> list[AuditEntry]:
    entries: list[AuditEntry] = []
    for seq in range(1, length + 1):
        entries.append(entry(seq, entries[-1].hash if entries else GENESIS, **values))
    return entries


async def test_every_change_is_logged_with_who_made_it_and_no_secret(control, imported, enrol):
    await imported("1.0.0")
    created = await control.releases.create(CreateRelease("demo", "greeter", "1.0.0"), "ben")
    await control.releases.act(created.release.id, "stop", "ben", "lunch")
    token = await control.devices.create_enrol_token(EnrolTokenRequest(2, 60.0, "lab"), "carla")
    device = await enrol()
    await control.devices.revoke(device.id, "carla")
    entries = (await control.audit.page(0, 1_000)).entries
    done = [(e.actor, e.action) for e in entries]
    assert ("anna", "task.import") in done
    assert [each for each in done if each[0] == "ben"] == [("ben", "release.create"), ("ben", "release.stop")]
    assert done[-1] == ("carla", "device.revoke")
    assert check_chain(entries) == entries[-1].hash
    assert token.token not in str(entries)


async def test_what_is_refused_is_not_logged(control):
    before = (await control.audit.page(0, 1_000)).entries
    with pytest.raises(NotFound):
        await control.devices.revoke("dnobody", "anna")
    assert (await control.audit.page(0, 1_000)).entries == before


async def test_pages_follow_each_other(control):
    for _ in range(5):
        await control.devices.create_enrol_token(EnrolTokenRequest(1, 60.0, ""), "anna")
    everything = (await control.audit.page(0, 1_000)).entries
    first = await control.audit.page(0, 2)
    rest = await control.audit.page(first.next, 1_000)
    assert first.entries + rest.entries == everything
    assert check_chain(rest.entries, first.entries[-1].hash, first.next) == everything[-1].hash


@given(st.integers(1, 8), st.data())
def test_any_alteration_breaks_the_chain(length, data):
    entries = chain(length, detail={"reason": "x", "part": 0.25})
    assert check_chain(entries) == entries[-1].hash
    at = data.draw(st.integers(0, length - 1))
    change = data.draw(
        st.sampled_from([{"actor": "eve"}, {"at_ms": 1}, {"detail": {}}, {"hash": GENESIS}, {"seq": 99}])
    )
    with pytest.raises(TrustError, match=f"entry {at + 1}|entry {at + 2}"):
        check_chain([*entries[:at], replace(entries[at], **change), *entries[at + 1 :]])
    if at < length - 1:
        with pytest.raises(TrustError, match=f"entry {at + 1}"):
            check_chain([*entries[:at], *entries[at + 1 :]])
