"""The console in a real browser: a bad version is released, and seen to go back; every page is accessible."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from walle_support.issuer import AUDIENCE, Issuer
from walle_support.live import SCENARIO, LiveControl, LiveDevice, commit_tasks, task_folder

pytestmark = [pytest.mark.browser, pytest.mark.slow]

_TELLER = """
from walle_task import tunnel

def run(*_):
    tunnel.send("seen", {"what": "it"})
"""
PHONE = {"width": 390, "height": 844}
_WCAG = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}
#: Where pictures of the main pages are put; nothing is drawn without it.
SHOTS = os.environ.get("WALLE_SCREENSHOTS", "")


def check(page: Any) -> None:
    """No violation of the accessibility rules, nothing that runs over the side, nothing that went wrong."""
    check_rules(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), page.url
    assert page.troubles == []


def check_rules(page: Any) -> None:
    """No violation of the accessibility rules."""
    from axe_core_python.sync_playwright import Axe

    found = Axe().run(page, options=_WCAG)["violations"]
    said = [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in found]
    assert said == [], page.url


def shoot(page: Any, name: str) -> None:
    """Keep a picture, if they are asked for."""
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)


def paths_of(control: LiveControl) -> list[str]:
    """Every page."""
    device = control.get("/devices", limit=1)["devices"][0]["id"]
    release = control.get("/releases")["releases"][-1]["release"]["id"]
    version = f"/tasks/{SCENARIO}/greeter"
    return [
        "/", "/releases", "/releases/new", f"/releases/{release}", "/tasks", version, f"{version}/2.0.0",
        f"{version}/3.0.0?base=1.0.0", "/ingest", "/devices", f"/devices/{device}", "/repositories",
        "/access", "/audit", "/nothing",
    ]  # fmt: skip


def test_signing_in_and_out(open_page: Any) -> None:
    page = open_page(signed_in=False)
    page.goto("/console/releases")
    check(page)
    page.get_by_label("Token").fill("wtok_wrong")
    page.keyboard.press("Enter")
    assert "not known here" in page.get_by_role("alert").inner_text()
    check(page)
    page = open_page()
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/console/signin")
    page.goto("/console/audit")
    assert page.url.endswith("/console/signin?next=/audit")


def test_signing_in_at_a_provider_on_another_site(chromium: Any, tmp_path: Path) -> None:
    with Issuer() as issuer:  # at 127.0.0.1, the console at localhost
        issuer.refresh = "r"
        control = LiveControl(tmp_path)
        for key, default, value in (
            ("issuer", '""', f'"{issuer.url}"'),
            ("audience", '""', f'"{AUDIENCE}"'),
            ("roles", "[]", '["admins: admin"]'),
        ):
            control.settle(key, default, value)
        context = None
        try:
            control.start()
            site = control.url.replace("127.0.0.1", "localhost")
            issuer.redirect_uris = {f"{site}/console/signin/back"}
            context = chromium.new_context(base_url=site)
            page = context.new_page()
            page.goto("/console/audit")
            page.get_by_role("link", name="Sign in at").click()
            assert "no, said Anna" in page.get_by_role("alert").inner_text()
            issuer.approved = issuer.claims(int(time.time()), groups=["admins"])
            page.goto("/console/audit")
            check_rules(page)
            page.get_by_role("link", name="Sign in at").click()
            page.wait_for_url("**/console/audit")
            assert "anna@example.org" in page.locator("header").inner_text()
            (cookie,) = context.cookies()
            assert (cookie["name"], cookie["sameSite"]) == ("walle_console", "Strict")
            page.go_back()  # to the address with the code
            page.goto("/console/")
            assert page.get_by_role("button", name="Sign out").count() == 1
        finally:
            if context is not None:
                context.close()
            control.stop()


def test_a_bad_version_is_released_and_goes_back_before_ones_eyes(
    open_page: Any, control: LiveControl
) -> None:
    page = open_page()
    page.get_by_role("link", name="Releases", exact=True).click()
    page.get_by_role("link", name="Release a version").click()
    page.locator("select[name=version]").select_option(f"{SCENARIO}/greeter 2.0.0")
    page.get_by_label("It may ask for attributes").check()
    where = page.get_by_label("For devices where")
    where.fill("group = 'beta'")
    page.locator("#check mark").wait_for()  # checked while it is written
    where.fill('group == "stable"')
    page.locator("#check", has_text="This can be released.").wait_for()
    assert re.search(r"Matches (about )?\d+ of", page.locator("#check").inner_text())
    page.get_by_label("Stages, percent").fill("60, 100")
    page.get_by_label("Devices per stage").fill("5000")
    page.locator(".changes td", has_text="60 %, 5\u202f000 devices").wait_for()
    shoot(page, "policy")
    page.get_by_role("button", name="Release", exact=True).click()
    page.wait_for_url("**/console/releases/r*")
    page.evaluate("window.isTheSamePage = true")
    page.locator("#rules .chart.evidence").first.wait_for()
    page.locator("#verdict .state", has_text="rolled back").wait_for(timeout=120_000)
    assert page.evaluate("window.isTheSamePage") is True
    page.locator("#coverage svg.coverage").wait_for()
    page.locator("#arms svg.intervals").wait_for()
    assert "guard" in page.locator("#history tbody tr").first.inner_text()
    assert page.get_by_text("Roll back…").count() == 0
    check(page)
    shoot(page, "release")
    detail = control.get(f"/releases/{page.url.rpartition('/')[2].partition('?')[0]}")
    assert (detail["release"]["state"], detail["history"][-1]["actor"]) == ("rolled_back", "guard")


def test_a_version_tells_where_it_comes_from_and_what_changed(open_page: Any, control: LiveControl) -> None:
    page = open_page()
    page.goto(f"/console/tasks/{SCENARIO}/greeter/3.0.0")
    commits = page.get_by_role("region", name="Commits").locator("tbody tr")
    assert commits.count() == 1
    assert "Release 3.0.0" in commits.first.inner_text()
    assert page.locator(".diff .removed code", has_text="return 2").count() == 1
    page.get_by_label("Since").select_option("1.0.0")
    page.get_by_role("button", name="Compare").click()
    page.wait_for_url("**base=1.0.0*")
    assert page.get_by_role("region", name="Commits").locator("tbody tr").count() == 2
    assert page.locator(".diff .removed code", has_text="return 1").count() == 1
    assert page.locator(".diff .added code", has_text="return 3").count() == 1
    deeds = page.get_by_role("region", name="Who did what").inner_text()
    assert "task.import" in deeds
    assert "admin" in deeds
    check(page)


def test_features_are_seen_coming_in(open_page: Any, control: LiveControl, tmp_path: Path) -> None:
    """A real device, whose features show on the page that looks on."""
    task = task_folder(tmp_path / "sources", "teller", _TELLER)
    commit_tasks(tmp_path / "tellers", {"teller": task}, "1.0.0")
    assert control.import_task(tmp_path / "tellers", "teller").status_code == 201
    device = LiveDevice("phone", tmp_path, {"group": "tellers"})
    enrolment = control.post("/enrol-tokens", {"uses": 1}).json()
    page = open_page(viewport={"width": 1280, "height": 900})
    try:
        device.start(control.url, enrolment["trusted_root"], enrolment["token"])
        wish = {"scenario": SCENARIO, "task": "teller", "version": "1.0.0", "predicate": 'group == "tellers"'}
        release = control.post("/releases", {**wish, "optional": True}).json()["release"]["id"]
        device.await_ready()
        control.await_report(release, "install", "success")
        page.goto("/console/ingest")
        page.evaluate("window.isTheSamePage = true")
        tunnels = page.locator("#figures div", has_text="Tunnels").locator("dd")
        assert tunnels.inner_text() == "1"
        for _ in range(5):
            device.emit([{"kind": "custom", "event_id": "go_teller"}])
        page.locator("#minutes svg.columns rect").wait_for()
        page.locator("#figures dd", has_text=re.compile(r"^[1-5]$")).last.wait_for()
        assert page.evaluate("window.isTheSamePage") is True
        check(page)
        shoot(page, "ingest")
    finally:
        device.stop()


def test_a_predicate_is_completed_by_the_keyboard_alone(open_page: Any, control: LiveControl) -> None:
    declared = control.post("/attributes", {"name": "tier", "kind": "string", "note": "what was paid for"})
    assert declared.status_code in (200, 201), declared.text
    segment = control.post("/segments", {"name": "testers", "predicate": 'tier == "gold"'})
    assert segment.status_code in (200, 201), segment.text
    page = open_page()
    page.goto("/console/releases/new")
    field = page.get_by_role("combobox", name="For devices where")
    options = page.locator("[role=listbox]:not([hidden]) [role=option]")
    active = page.locator("[role=option][aria-selected=true] b")
    field.focus()
    assert (field.get_attribute("aria-expanded"), options.count()) == ("false", 0)
    page.keyboard.type("ti")
    assert field.get_attribute("aria-expanded") == "true"
    assert options.first.inner_text().split("\n") == ["tier", "string: what was paid for"]
    check(page)
    page.keyboard.press("ArrowDown")
    assert field.get_attribute("aria-activedescendant") == options.first.get_attribute("id")
    check(page)
    shoot(page, "completion")
    page.keyboard.press("Enter")
    assert (field.input_value(), field.get_attribute("aria-expanded")) == ("tier", "false")
    page.keyboard.type(" ")
    page.keyboard.press("Control+Space")  # an operator fits here
    assert active.inner_text() == "=="
    page.keyboard.press("ArrowUp")
    assert active.inner_text() == "or"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.keyboard.type(' "or os')
    assert options.count() == 0  # within a text
    page.keyboard.type('" an')
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.keyboard.type(" test")
    assert options.first.inner_text().startswith('segment("testers@1")')
    page.keyboard.press("Escape")
    assert options.count() == 0
    page.keyboard.press("Enter")  # nothing is chosen: a new line
    page.keyboard.press("Backspace")
    for _ in range(4):
        page.keyboard.press("Backspace")
    page.keyboard.type('segment("te')
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert field.input_value() == 'tier == "or os" and segment("testers@1")'
    page.keyboard.type(" o")
    options.first.click()  # or by the mouse
    assert field.input_value().endswith(" or")
    assert page.evaluate("document.activeElement.id") == "predicate"
    page.keyboard.type(" os")
    page.keyboard.press("Tab")
    assert (options.count(), page.evaluate("document.activeElement.name")) == (0, "stages")
    assert page.troubles == []


def test_what_differs_from_the_last_release_is_said(open_page: Any, control: LiveControl) -> None:
    wish = {"scenario": SCENARIO, "task": "greeter", "version": "1.0.0", "predicate": 'group == "none"'}
    made = control.post("/releases", {**wish, "optional": True})
    assert made.status_code == 201, made.text
    page = open_page()
    page.goto("/console/releases/new")
    page.locator("select[name=version]").select_option(f"{SCENARIO}/greeter 3.0.0")
    page.get_by_label("It may ask for attributes").check()
    page.get_by_label("For devices where").fill('group == "some"')
    page.locator(".changes ins", has_text='"some"').wait_for()
    assert page.locator(".changes del").inner_text() == '"none"'
    assert page.locator(".changes th[scope=row]").all_inner_texts()[:2] == ["version", "for devices where"]
    page.get_by_label("Stages, percent").fill("")
    page.get_by_label("Held back").fill("0")
    check(page)
    control.post(f"/releases/{made.json()['release']['id']}/rollback", {"reason": "a test"})


def test_actions_ask_first_and_leave_what_is_being_written(open_page: Any, control: LiveControl) -> None:
    wish = {
        "scenario": SCENARIO,
        "task": "greeter",
        "version": "3.0.0",
        "predicate": 'group == "none"',
        "optional": True,
    }
    made = control.post("/releases", wish).json()["release"]["id"]
    page = open_page()
    page.goto(f"/console/releases/{made}")
    page.get_by_text("Pause…").click()
    page.locator("details[open]").get_by_label("Reason").fill("for a")
    other = control.post("/releases", wish).json()["release"]["id"]  # news
    page.wait_for_timeout(2_500)
    page.locator("details[open]").get_by_label("Reason").press_sequentially(" test")
    page.get_by_role("button", name="Pause").click()
    page.get_by_text("The release is paused").wait_for()
    assert control.get(f"/releases/{made}")["history"][-1]["reason"] == "for a test"
    for release in (made, other):
        page.goto(f"/console/releases/{release}")
        page.get_by_text("Roll back…").click()
        page.get_by_role("button", name="Roll back").click()
        page.get_by_text("The release was taken back.").wait_for()
    assert page.troubles == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_accessible(open_page: Any, control: LiveControl, scheme: str) -> None:
    page = open_page(color_scheme=scheme, viewport={"width": 1280, "height": 900})
    for path in paths_of(control):
        page.goto(f"/console{path}")
        page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        check(page)
        if path == "/":
            shoot(page, f"overview-{scheme}")
        if "base=" in path and scheme == "light":
            shoot(page, "version")


def test_every_page_fits_a_phone(open_page: Any, control: LiveControl) -> None:
    page = open_page(viewport=PHONE, has_touch=True)
    for path in paths_of(control):
        page.goto(f"/console{path}")
        check(page)


def test_without_javascript_all_is_there(open_page: Any, control: LiveControl) -> None:
    wish = {
        "scenario": SCENARIO,
        "task": "greeter",
        "version": "3.0.0",
        "predicate": 'group == "none"',
        "optional": True,
    }
    made = control.post("/releases", wish).json()["release"]["id"]
    page = open_page(java_script_enabled=False)
    for path in paths_of(control):
        page.goto(f"/console{path}")
        assert page.locator("main h1").inner_text()
    page.goto("/console/releases/new")
    page.get_by_label("For devices where").fill("group =")
    page.get_by_role("button", name="Check").click()
    assert page.locator("#check mark").count() == 1
    page.goto(f"/console/releases/{made}")
    page.get_by_text("Roll back…").click()
    page.get_by_role("button", name="Roll back").click()
    assert "The release was taken back." in page.locator("main").inner_text()


def test_the_keyboard_is_enough(open_page: Any) -> None:
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.goto("/console/releases")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent.trim()") == "Release a version":
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/releases/new")


def test_another_sites_form_does_nothing(open_page: Any, control: LiveControl) -> None:
    page = open_page()
    page.context.route(
        "http://evil.test/*",
        lambda route: route.fulfill(
            content_type="text/html",
            body=f"<form method=post action='{control.url}/console/signout'><button>Win</button></form>",
        ),
    )
    page.goto("http://evil.test/")
    page.get_by_text("Win").click()
    page.wait_for_url("**/console/signout")
    page.goto("/console/")
    assert page.get_by_role("button", name="Sign out").count() == 1
