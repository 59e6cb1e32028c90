"""The policy editor: what is wrong, whom it would reach, and the release that comes of it."""

from __future__ import annotations

import pytest
from markupsafe import escape

from walle_control.console import policy
from walle_control.features.audiences.types import EstimateRequest, SegmentWish
from walle_shared.errors import NotFound
from walle_shared.ids import DeviceId
from walle_shared.targeting import PredicateError, parse_predicate
from walle_shared.targeting.attributes import Attribute
from walle_shared.targeting.predicate import JOINS, OPERATORS, STARTS

WISH = {
    "version": "demo/greeter 1.0.0", "stages": "1, 10, 100", "hold_h": "2", "min_devices": "5",
    "control_percent": "25", "optional": "yes",
}  # fmt: skip


async def test_a_wish_becomes_a_release(boss, control, imported):
    await imported("1.0.0")
    answer = await boss.post("/releases/new", **WISH, predicate='group == "beta"', do="create")
    assert answer.status_code == 303, answer.text
    release_id = answer.headers["location"].removeprefix("/console/releases/").removesuffix("?done=create")
    row = (await control.releases.show(release_id)).release
    assert row.predicate == 'group == "beta"'
    assert [stage.share for stage in row.plan.stages] == [10_000_000, 100_000_000, 1_000_000_000]
    assert (row.plan.stages[0].hold_s, row.plan.stages[0].min_devices) == (7200, 5)
    assert row.plan.control == 250_000_000


async def test_checking_makes_nothing_and_says_how_many_match(boss, control, imported, enrol):
    await imported("1.0.0")
    for group in ("beta", "beta", "stable"):
        device = await enrol(group=group)
    answer = await boss.post(
        "/releases/new", **WISH, predicate='group == "beta"', device=device.id, do="check"
    )
    assert answer.status_code == 200
    assert "Matches <b>2</b> of 3 devices (67 %)" in answer.text
    assert "<b>does not match</b>" in answer.text
    assert "This can be released." in answer.text
    assert (await control.releases.list()).releases == ()
    answer = await boss.post("/releases/new", **WISH, device="d0", do="check")
    assert "no device" in answer.text


async def test_errors_point(boss, imported):
    await imported("1.0.0")
    answer = await boss.post("/releases/new", **WISH, predicate='group = "beta"', do="create")
    assert answer.status_code == 422
    assert "<mark>" in answer.text
    fields = {**WISH, "optional": ""}
    answer = await boss.post(
        "/releases/new", **fields, predicate="os == 'x' and colour == 'red'", do="create"
    )
    assert "<mark>" in answer.text


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("version", "", "scenario"),
        ("version", "demo/greeter 9.9.9", "was not imported"),
        ("version", "nonsense", "task"),
        ("stages", "10, 1", "more devices than the one before"),
        ("stages", "many", "percent"),
        ("hold_h", "soon", "hold h"),
        ("min_devices", "1e400", "min devices"),
        ("min_devices", "-1", "min_devices"),
        ("control_percent", "100", "control"),
        ("windows", "whenever", "window"),
        ("cap", "5", "capped"),
        ("cap", "nan", "cap"),
    ],
)
async def test_what_makes_no_sense_is_said(boss, control, imported, field, value, said):
    await imported("1.0.0")
    answer = await boss.post("/releases/new", **{**WISH, field: value}, do="create")
    assert answer.status_code == 422, answer.text
    assert 'class="notice bad"' in answer.text
    assert said in answer.text
    assert (await control.releases.list()).releases == ()


async def test_what_was_written_stays_in_the_form(boss, imported):
    await imported("1.0.0")
    answer = await boss.post("/releases/new", **{**WISH, "stages": "2, 1"}, predicate="x <", do="check")
    assert 'value="2, 1"' in answer.text
    assert "x &lt;</textarea>" in answer.text
    assert '<option value="demo/greeter 1.0.0" selected>' in answer.text


async def test_names_to_ask_for_are_offered(boss, control, imported):
    await imported("1.0.0")
    await control.audiences.declare(Attribute("tier", "string", "server"), "ben")
    await control.audiences.set_segment(SegmentWish("testers", 'tier == "gold"'), "ben")
    text = (await boss.get("/releases/new?version=demo/greeter%201.0.0")).text
    assert 'data-insert="tier"' in text
    assert "testers@1" in text
    assert '<option value="demo/greeter 1.0.0" selected>' in text


async def test_an_estimate_counts_what_only_the_server_knows(control, enrol):
    await control.audiences.declare(Attribute("tier", "string", "server"), "ben")
    devices = [await enrol() for _ in range(3)]
    from walle_control.features.audiences.types import SaidAttributes

    await control.audiences.describe("device", devices[0].id, SaidAttributes({"tier": "gold"}), "ben")
    found = await control.audiences.estimate(EstimateRequest('tier == "gold"'))
    assert (found.devices, found.sampled, found.matching) == (3, 3, 1)
    assert await control.audiences.applies('tier == "gold"', DeviceId(devices[0].id))
    assert not await control.audiences.applies('tier == "gold"', DeviceId(devices[1].id))
    with pytest.raises(PredicateError):
        await control.audiences.estimate(EstimateRequest("colour == 'red'"))
    with pytest.raises(NotFound):
        await control.audiences.applies("", DeviceId("d0"))


def test_every_word_of_the_language_is_explained():
    assert set(policy._MEANINGS) == {*OPERATORS, *JOINS, *STARTS}
    for word in OPERATORS:
        value = '("a", "b")' if word.endswith("in") else '"a"'
        assert parse_predicate(f"has(name) and not (name {word} {value})")


async def test_operators_are_offered(boss, imported):
    await imported("1.0.0")
    text = (await boss.get("/releases/new")).text
    for word in (*OPERATORS, *JOINS):
        assert f'data-insert="{escape(word)}" data-into="predicate" data-when="after"' in text
    assert 'data-insert="os" data-into="predicate" data-when="before"' in text


async def test_what_differs_from_the_last_release_is_said(boss, control, imported):
    await imported("1.0.0")
    await imported("1.1.0")
    first = await boss.post("/releases/new", **WISH, predicate='group == "beta" and os == "a<b"', do="create")
    assert first.status_code == 303
    again = await boss.post("/releases/new", **WISH, predicate='group == "beta" and os == "a<b"', do="check")
    assert "This one changes nothing." in again.text
    wish = {**WISH, "version": "demo/greeter 1.1.0", "stages": "1, 50, 100", "windows": "02:00-05:00"}
    text = (
        await boss.post("/releases/new", **wish, predicate='group == "b" and os == "a<b"', do="check")
    ).text
    assert "<del>&#34;beta&#34;</del> and os == &#34;a&lt;b&#34;" in text
    assert "<ins>&#34;b&#34;</ins> and os == &#34;a&lt;b&#34;" in text
    assert '<th scope="row">stage 2</th>' in text
    assert '<th scope="row">stage 1</th>' not in text
    assert '<th scope="row">version</th>' in text
    assert "<td>-</td>\n<td>02:00-05:00</td>" in text
    text = (await boss.post("/releases/new", **{**wish, "cap": "many"}, do="check")).text
    assert "once it makes sense" in text
