"""What the pages show, to whom, and what their forms do."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest

from walle_control.console.fleet import Coverage
from walle_control.console.releases import plan_line, stage_times, timeline
from walle_control.features.releases.types import ApprovalRule, CreateRelease, StageWish
from walle_control.features.repositories.types import Repository
from walle_control.features.rollouts.guard import RolloutPlan, RolloutStage
from walle_control.features.tasks.changes import ChangedLine, Comparison, FileChange
from walle_control.features.telemetry.types import ReportQuery
from walle_shared.errors import RemoteProtocolError
from walle_shared.ids import DeviceId, ScenarioName
from walle_shared.protocol.messages import Report, ReportBatch
from walle_shared.protocol.tunnel import Record, TunnelClass
from walle_shared.protocol.tunnel_receiver import RecordReceived, TombstoneReceived
from walle_shared.targeting import SHARE_ONE

HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'{{ 7*7 }}"


class Tags(HTMLParser):
    """The tags and attributes of a page, and whether every tag that is opened is closed."""

    VOID = frozenset({"meta", "link", "input", "br", "img", "rect", "line", "path", "circle", "option"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def check_page(text: str) -> Tags:
    """What the content policy asks of a page, and HTML of it."""
    tags = Tags(text)
    assert tags.names.count("script") == 1  # the one in the head
    assert ("script", "src", "/console/static/console.js") in tags.attributes
    assert "style" not in tags.names
    for tag, name, _ in tags.attributes:
        assert name != "style", tag
        assert not name.startswith("on"), (tag, name)
    ids = [value for _, name, value in tags.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    return tags


def report(release: str, stage: str = "run", outcome: str = "success", **more) -> Report:
    defaults = {
        "task": "greeter",
        "version": "1.0.0",
        "error_class": "none",
        "at_ms": 1_700_000_000_000,
        "attempt": 1,
        "duration_ms": 0.0,
    }
    number = more.pop("number", f"{release}-{stage}-{outcome}")
    return Report(number, release, stage=stage, outcome=outcome, **{**defaults, **more})


@pytest.fixture
def release(control, imported):
    """``await release()``: greeter 1.0.0 in stages."""

    async def make(version: str = "1.0.0", **wish):
        if not any(found.version == version for found in (await control.tasks.list()).versions):
            await imported(version)
        stages = wish.pop("stages", (StageWish(50, min_devices=1), StageWish(100)))
        return await control.releases.create(
            CreateRelease("demo", "greeter", version, stages=stages, **wish), "ben"
        )

    return make


@pytest.fixture
async def world(control, release, enrol):
    """A release that devices have reported of."""
    made = await release()
    devices = [await enrol(group="beta") for _ in range(4)]
    for number, device in enumerate(devices):
        run = {"duration_ms": 10.0 + number, "peak_bytes": 2_000_000}
        bad = {"outcome": "failure", "error_class": "runtime", "code": "boom"}
        reports = (
            report(made.release.id, "install"),
            report(made.release.id, "run", **(run if number else bad)),
        )
        await control.telemetry.record_reports(DeviceId(device.id), ReportBatch(reports))
    return made.release.id, devices[0].id


PAGES = [
    "/", "/releases", "/releases?show=ended", "/releases/new", "/releases/{release}", "/tasks",
    "/tasks/demo/greeter", "/tasks/demo/greeter/1.0.0", "/devices", "/devices/{device}", "/repositories",
    "/ingest", "/access", "/audit", "/nothing",
]  # fmt: skip


async def test_every_page_is_sound_and_free_of_what_the_policy_forbids(boss, world):
    for path in PAGES:
        answer = await boss.get(path.format(release=world[0], device=world[1]))
        assert answer.status_code == (404 if path == "/nothing" else 200), (path, answer.text)
        tags = check_page(answer.text)
        forms = [
            value for tag, name, value in tags.attributes if (tag, name, value) == ("form", "method", "post")
        ]
        assert answer.text.count('name="csrf"') == len(forms), path


async def test_pages_without_anything_are_sound_too(boss):
    for path in ("/", "/releases", "/releases/new", "/tasks", "/devices", "/ingest", "/repositories"):
        answer = await boss.get(path)
        assert answer.status_code == 200
        check_page(answer.text)


async def test_the_overview_shows_what_is_under_way(boss, world, control, clock):
    clock.advance(10)
    text = ""
    while ">4</dd>" not in text:  # devices are counted beside the requests
        text = (await boss.get("/")).text
    assert world[0] in text
    assert "boom" in text
    assert "devices by group" in text
    assert "demo/greeter" in text


async def test_a_release_shows_its_evidence(boss, world):
    text = (await boss.get(f"/releases/{world[0]}")).text
    for word in ("new version", "worse than before", "failing runs", "50 %", "Coverage over time: 4 devices"):
        assert word in text, word
    assert text.count('class="chart evidence"') == 6
    assert "Failure rates: new version 25 %" in text


async def test_actions_change_the_release_and_say_who(boss, control, release):
    made = await release()
    path = f"/releases/{made.release.id}"
    for action, state in (
        ("pause", "paused"),
        ("resume", "live"),
        ("promote", "live"),
        ("rollback", "rolled_back"),
    ):
        answer = await boss.post(f"{path}/{action}", reason="as I say")
        assert (answer.status_code, answer.headers["location"]) == (303, f"/console{path}?done={action}")
        detail = await control.releases.show(made.release.id)
        assert detail.release.state == state
        assert (detail.history[-1].actor, detail.history[-1].event) == ("admin", action)
    assert "The release was taken back." in (await boss.get(f"{path}?done=rollback")).text
    answer = await boss.post(f"{path}/pause")
    assert answer.status_code == 409
    assert "rolled_back" in answer.text


async def test_a_form_needs_the_word(boss, control, release):
    made = await release()
    answer = await boss.post(f"/releases/{made.release.id}/rollback", csrf="0" * 64)
    assert answer.status_code == 403
    assert (await control.releases.show(made.release.id)).release.state == "live"


async def test_a_viewer_sees_and_does_nothing(signed_in, control, world):
    eve = await signed_in("eve", "viewer")
    text = (await eve.get(f"/releases/{world[0]}")).text
    assert "Roll back" not in text
    for path in (
        f"/releases/{world[0]}/rollback", "/releases/new", f"/devices/{world[1]}/revoke", "/access/grant",
        "/tasks/demo/greeter/1.0.0/simulate",
    ):  # fmt: skip
        answer = await eve.post(path, person="eve", role="admin")
        assert answer.status_code == 403, path
    assert (await eve.get("/audit")).status_code == 403
    assert (await control.releases.show(world[0])).release.state == "live"


async def test_another_scenario_is_not_shown(signed_in, world):
    eve = await signed_in("eve", "operator", "shop")
    assert world[0] not in (await eve.get("/releases")).text
    assert world[0] not in (await eve.get("/")).text
    assert "greeter" not in (await eve.get("/tasks")).text
    for path in (f"/releases/{world[0]}", "/tasks/demo/greeter", "/tasks/demo/greeter/1.0.0", "/devices"):
        assert (await eve.get(path)).status_code == 403, path
    assert "greeter" not in (await eve.get("/releases/new")).text
    answer = await eve.post("/releases/new", version="demo/greeter 1.0.0", do="create")
    assert answer.status_code == 422
    assert "in scenario demo" in answer.text


async def test_attributes_of_devices_are_for_who_may_see_devices(boss, signed_in, world, clock):
    clock.advance(10)
    text = ""
    while "Devices by attribute" not in text:  # they are counted beside the requests
        text = (await boss.get("/")).text
    shop = await signed_in("sam", "admin", "shop")
    assert "Devices by attribute" not in (await shop.get("/")).text


async def test_four_eyes_are_shown_and_kept(signed_in, control, imported):
    await imported("1.0.0")
    await control.releases.set_approval_rule("demo", ApprovalRule(("create",)), "admin")
    ann, ben = await signed_in("ann", "admin"), await signed_in("ben", "approver")
    answer = await ann.post("/releases/new", version="demo/greeter 1.0.0", stages="1,100", do="create")
    path = answer.headers["location"].removeprefix("/console").partition("?")[0]
    text = (await ann.get(path)).text
    assert "Waits for another person" in text
    assert "Approve…" not in text
    assert "Break the glass…" in text
    assert (await ann.post(f"{path}/approve")).status_code == 403
    assert "Wait for another person" in (await ben.get("/")).text
    assert "Approve…" in (await ben.get(path)).text
    assert (await ben.post(f"{path}/approve", reason="fine")).status_code == 303
    assert (await control.releases.show(path.rpartition("/")[2])).release.state == "live"


async def test_names_and_words_from_outside_are_only_text(boss, control, release, enrol):
    made = await release(predicate='group == "<b>bold</b>"', optional=True)
    device = await enrol(**{"group": HOSTILE, "<i>name": 1})
    await control.telemetry.record_reports(
        DeviceId(device.id),
        ReportBatch(
            (report(made.release.id, outcome="failure", error_class="runtime", code="<u>c", message=HOSTILE),)
        ),
    )
    await boss.post(f"/releases/{made.release.id}/pause", reason=HOSTILE)
    await boss.post("/access/tokens", note=HOSTILE)
    for path in (
        *(
            "/",
            "/releases",
            f"/releases/{made.release.id}",
            "/devices",
            f"/devices/{device.id}",
            "/access",
            "/audit",
        ),
        *("/devices?id=%22%3E%3Cscript%3E", "/releases?show=%3Cb%3Ebold", "/nothing/%3Cscript%3E"),
        *("/releases/new?predicate=%3C/textarea%3E%3Cscript%3E", "/releases/%3Cscript%3E"),
    ):
        text = (await boss.get(path)).text
        check_page(text)
        assert "<script>" not in text, path
        for tag in ("<b>bold", "<i>name", "<u>c", "<img"):
            assert tag not in text, path
        assert HOSTILE not in text, path
    assert "{{ 7*7 }}" in (await boss.get("/access")).text  # shown as it is, not worked out


async def test_a_device_is_found_by_id_or_how_it_begins(boss, enrol):
    device, other = await enrol(group="beta"), await enrol()
    answer = await boss.get(f"/devices?id={device.id}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/console/devices/{device.id}")
    text = (await boss.get(f"/devices?id={device.id[:8]}")).text
    assert device.id in text
    assert other.id not in text
    assert (await boss.get("/devices?id=%00%ff")).status_code == 200
    assert (await boss.get("/devices/d00")).status_code == 404


async def test_a_device_page_says_what_and_why(boss, world, control):
    text = (await boss.get(f"/devices/{world[1]}")).text
    for word in ("demo/greeter", "installed", "every release of epoch", "boom", "beta"):
        assert word in text, word
    answer = await boss.post(f"/devices/{world[1]}/revoke")
    assert answer.status_code == 303
    assert (await control.devices.show(DeviceId(world[1]))).state == "revoked"


async def test_the_newest_reports_come_first(control, world):
    found = await control.telemetry.newest_reports(ReportQuery(device=world[1]), 2)
    assert [each.stage for each in found] == ["run", "install"]


async def test_a_version_shows_its_files_and_simulates_again(boss, control, imported, simulator):
    await imported("1.0.0")
    await imported("1.1.0")
    text = (await boss.get("/tasks/demo/greeter/1.1.0")).text
    for word in ("main.py", "model/net.wmodel", "was only loaded", "Release this version"):
        assert word in text, word
    simulator.passes = False
    answer = await boss.post("/tasks/demo/greeter/1.1.0/simulate")
    assert answer.headers["location"] == "/console/tasks/demo/greeter/1.1.0?done=simulated"
    text = (await boss.get("/tasks/demo/greeter/1.1.0")).text
    assert "not what was expected" in text
    assert "Release this version" not in text
    assert (await boss.get("/tasks/demo/greeter/9.9.9")).status_code == 404


async def test_a_version_shows_where_it_comes_from_and_what_changed(boss, control, repo, good_files):
    first = {**good_files, "notes.md": b"one\ntwo\nthree\n"}
    second = {**good_files, "notes.md": b"one\n" + HOSTILE.encode() + b"\nthree\n", "more.bin": b"\0\1"}
    second["model/net.onnx"] = b"another net"
    before = repo.tag("greeter/1.0.0", "greeter", first)
    newest = repo.tag("greeter/1.1.0", "greeter", second, message=HOSTILE, parents=[before])
    repo.repo.references.create("refs/heads/main", newest)
    what = Repository("shop", str(repo.path), ScenarioName("demo"), auto_import=True)
    await control.repositories.add(what, "anna")
    await control.repositories.sync("shop")
    text = (await boss.get("/tasks/demo/greeter/1.1.0")).text
    check_page(text)
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert text.count("&lt;script&gt;alert(1)") == 2  # what the commit is called, and a line of the file
    for word in (
        "What changed since 1.0.0", newest[:12], "greeter/1.1.0", "mirror of shop", "<code>two</code>",
        "more.bin", "task.import", "repository sync", "1 of the 1 signatures", "model/net.wmodel",
    ):  # fmt: skip
        assert word in text, word
    assert before[:12] not in text.partition('id="history"')[2].partition('id="changes"')[0]
    text = (await boss.get("/tasks/demo/greeter/1.0.0?base=1.1.0")).text
    assert "What changed since 1.1.0" in text
    assert "No commit of shop changed the task" in text
    assert "What it began with" in (await boss.get("/tasks/demo/greeter/1.0.0")).text
    assert (await boss.get("/tasks/demo/greeter/1.0.0?base=%3Cscript%3E")).status_code == 404


async def test_a_file_name_is_only_text_and_who_approved_is_for_who_may_know(
    boss, control, imported, signed_in, monkeypatch
):
    await imported("1.0.0")
    path = "/tasks/demo/greeter/1.0.0"
    lines = tuple(ChangedLine(kind, HOSTILE) for kind in ("place", "same", "added", "removed"))
    hostile = FileChange(HOSTILE, "added", 0, 1, "", HOSTILE, lines, cut=True)

    async def compare(*_) -> Comparison:
        return Comparison(HOSTILE, "1.0.0", (hostile, replace(hostile, lines=())), 0)

    monkeypatch.setattr(control.tasks, "compare", compare)
    text = (await boss.get(path)).text
    check_page(text)
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert "task.import" in text
    viewer = await signed_in("eve", "viewer")
    text = (await viewer.get(path)).text
    assert "1 of the 1 signatures" in text
    assert "task.import" not in text


async def test_ingest_shows_what_comes_in_and_what_does_not(boss, control, clock, signed_in):
    def received(seq: int, way_ms: int) -> RecordReceived:
        record = Record("demo", "greeter", "1.0.0", "r1", "seen", clock.wall_ms() - way_ms, {"n": 1})
        return RecordReceived(TunnelClass.BATCH, seq, record)

    await control.telemetry.record_tunnel(DeviceId("d1"), "inc", [received(n, 90_000) for n in range(1, 11)])
    await control.telemetry.record_tunnel(DeviceId("d2"), "inc", [TombstoneReceived(TunnelClass.BATCH, 1, 9)])
    control.refusals.add(HOSTILE, RemoteProtocolError(HOSTILE))
    clock.advance(60)
    text = (await boss.get("/ingest")).text
    check_page(text)
    assert "<script>alert" not in text
    assert 'data-live="/console/live?of=features"' in text
    for word in ("10, 70 B", ">1 min<", "d1", "protocol_remote <b>1</b>", ">9</td>", ">working<"):
        assert word in text, word
    assert "<dt>Features a minute</dt><dd>2</dd>" in text
    assert (await (await signed_in("eve", "operator")).get("/ingest")).status_code == 200
    shop = await signed_in("sam", "admin", "shop")
    assert (await shop.get("/ingest")).status_code == 403
    assert "/console/ingest" not in (await shop.get("/")).text


async def test_a_token_is_made_shown_once_and_revoked(boss, control):
    answer = await boss.post("/access/tokens", note="for a test", scopes="viewer, tasks:write", days="1")
    (secret,) = re.findall(r"wtok_[0-9a-f]{64}", answer.text)
    principal = await control.people.authenticate(secret)
    assert principal.may("tasks:write", "demo")
    assert not principal.may("releases:write", "demo")
    assert secret not in (await boss.get("/access")).text
    assert (await boss.post(f"/access/tokens/{principal.credential}/revoke")).status_code == 303
    for fields in (
        {"scopes": "king"},
        {"days": "x"},
        {"days": "nan"},
        {"days": "inf"},
        {"scenario": "No Name"},
    ):
        assert (await boss.post("/access/tokens", **fields)).status_code == 400, fields


async def test_roles_are_granted_and_withdrawn(boss, control):
    assert (await boss.post("/access/grant", person="eve", role="viewer", scenario="demo")).status_code == 303
    assert "viewer of demo" in (await boss.get("/access")).text
    assert (
        await boss.post("/access/withdraw", person="eve", role="viewer", scenario="demo")
    ).status_code == 303
    assert (await boss.post("/access/grant", person="eve", role="king")).status_code == 400
    answer = await boss.post("/access/withdraw", person="admin", role="admin")
    assert answer.status_code == 409
    assert "last admin" in answer.text


async def test_the_audit_log_is_read_from_its_end(boss, control, release):
    made = await release()
    for number in range(24):
        await boss.post(f"/releases/{made.release.id}/{('pause', 'resume')[number % 2]}")
    text = (await boss.get("/audit")).text
    assert "release.resume" in text
    newest = await control.audit.newest(0, 10)
    older = await control.audit.newest(newest.next, 10)
    numbers = [entry.seq for entry in (*newest.entries, *older.entries)]
    assert numbers == sorted(numbers, reverse=True)
    assert len(set(numbers)) == 20
    assert (await control.audit.newest(1, 10)).entries == ()


async def test_releases_are_listed_page_by_page(control, release):
    made = [await release() for _ in range(5)]
    await control.releases.act(made[0].release.id, "rollback", "ben")
    first = await control.releases.page(("live",), 0, 3)
    rest = await control.releases.page(("live",), first.releases[-1].release.rank, 3)
    found = [each.release.id for each in (*first.releases, *rest.releases)]
    assert found == [each.release.id for each in reversed(made[1:])]
    assert [each.id for each in await control.releases.of_task("demo", "greeter")] == [
        each.release.id for each in reversed(made)
    ]
    newest = await control.releases.newest_of("demo", "greeter")
    assert newest is not None
    assert newest.id == made[-1].release.id
    assert await control.releases.newest_of("demo", "greeter", made[0].release.rank) is None


async def test_coverage_adds_up_what_is_new(control, world, enrol, clock):
    release, _ = world
    assert [count for _, count in await control.console.coverage.of(release)] == [4]
    for wait_s in (5, 5, 7_200, 10):
        clock.advance(wait_s)
        device = await enrol()
        reports = (
            report(release, "install", number=device.id),
            report(release, "run", number=f"r{device.id}"),
        )
        await control.telemetry.record_reports(DeviceId(device.id), ReportBatch(reports))
        await control.console.coverage.of(release)
    points = await control.console.coverage.of(release)
    assert points == await Coverage(control.store.database).of(release)
    assert [count for _, count in points] == [4, 5, 6, 8]  # after an hour, by minutes
    assert [at - points[0][0] for at, _ in points[:3]] == [0, 5_000, 10_000]


def test_the_plan_rises_by_stages_and_ramps():
    stages = (
        RolloutStage(SHARE_ONE // 10),
        RolloutStage(SHARE_ONE // 2, ramp_s=100.0),
        RolloutStage(SHARE_ONE),
    )
    row = SimpleNamespace(plan=RolloutPlan(stages, control=SHARE_ONE // 2))
    assert plan_line(row, [0], 10, 1000) == [(0, 0), (0, 50), (10, 50)]
    line = plan_line(row, [0, 1_000, 51_000], 60_000, 1000)
    assert line[-1] == (60_000, 1000)
    assert (51_000, pytest.approx(150)) in line  # half-way from 50 to 250 when the last stage began
    assert [at for at, _ in line] == sorted(at for at, _ in line)


async def test_stages_are_dated_from_the_history(control, release, clock):
    await control.releases.set_approval_rule("demo", ApprovalRule(("create", "full")), "admin")
    made = await release(stages=(StageWish(1), StageWish(10), StageWish(100)))
    for step in ("approve", "promote", "ask", "approve"):
        clock.advance(60)
        if step == "approve":
            await control.releases.decide(made.release.id, "approved", "admin", "")
        else:
            await control.releases.act(made.release.id, "promote", "ben")
    detail = await control.releases.show(made.release.id)
    begun = made.release.created_ms
    assert stage_times(detail.history) == [begun + 60_000, begun + 120_000, begun + 240_000]
    assert [stage.place for stage in timeline(detail)] == ["past", "past", "now"]
