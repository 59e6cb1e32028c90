"""Drills of a bad network between a real agent and a real server: cut, one way, late, out of order.

The agent lives in a network of its own. Whatever the weather: nothing that its task uploads is lost or comes
twice, it installs nothing but what a policy that reached it gives it, and it comes back by itself.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from walle_support.live import LiveControl, LiveDevice, commit_tasks, task_folder, wait_for  # pyright: ignore[reportAttributeAccessIssue]
from walle_support.weather import CUT, FAIR, HELD, Link, Weather, why_no_link

_why_not = why_no_link()
pytestmark = [pytest.mark.slow_session, pytest.mark.slow, pytest.mark.skipif(bool(_why_not), reason=_why_not)]

#: Uploads what the event carries.
SCRIPT = """
    from walle_task import events, tunnel

    def run(*_):
        tunnel.send("seen", {"what": events.last().args["what"]})
    """

#: Notices a silent peer within a drill.
_LINK = "timeout_s = 2.0\nstream_silence_s = 3.0\n"

_DRILL_S = 6.0


class Rig:
    """A server here, an agent behind the link, a task in two versions."""

    def __init__(self, folder: Path, link: Link) -> None:
        self.link = link
        self.control = LiveControl(folder)
        self.device = LiveDevice("phone", folder, {"group": "beta"})
        self.device.link = _LINK
        self.repo = folder / "tasks"
        for version in ("1.0.0", "1.1.0"):
            task = task_folder(folder / version, "greeter", SCRIPT + f"\n    VERSION = '{version}'\n")
            commit_tasks(self.repo, {"greeter": task}, version)
        self._numbers = itertools.count()

    def start(self) -> None:
        self.control.let_drafts_through()
        self.control.listen_at(self.link.outside_ip)
        self.control.start()
        enrolment = self.control.post("/enrol-tokens", {"uses": 1}).json()
        root, token = enrolment["trusted_root"], enrolment["token"]
        self.link.inside(lambda: self.device.start(self.control.url, root, token))
        for version in ("1.0.0", "1.1.0"):
            self.control.import_task(self.repo, "greeter", version).raise_for_status()
        self.device.await_ready()

    def stop(self) -> None:
        self.link.heal()
        self.device.stop()
        self.control.stop()

    def emit(self, count: int = 1) -> None:
        events: list[dict[str, Any]] = [
            {"kind": "custom", "event_id": "go_greeter", "args": {"what": str(next(self._numbers))}}
            for _ in range(count)
        ]
        self.device.emit(events)

    def release(self, version: str = "1.0.0") -> str:
        return self.control.release("greeter", version)

    def roll_back(self, release: str) -> None:
        self.control.post(f"/releases/{release}/rollback", {"reason": "drill"}).raise_for_status()

    def await_installed(self, release: str) -> None:
        what = f"{release} to be installed, and reported"
        wait_for(what, lambda: self.control.reports(release, "install", "success") or None, timeout_s=60)

    def await_epoch(self) -> None:
        """Wait until the agent has decided by the newest policy."""
        epoch = self.control.get("/status")["epoch"]
        verified = "epoch_verified"
        wait_for(
            f"epoch {epoch} at the agent", lambda: self._logged(verified, epoch=epoch) or None, timeout_s=60
        )

    def _logged(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        lines = [line for line in self.device.log_lines() if line["event"] == event]
        return [line for line in lines if all(line[name] == value for name, value in fields.items())]

    def activated(self) -> list[str]:
        """The releases that the agent has installed, in order."""
        return [line["release_id"] for line in self._logged("release_activated")]

    def check(self) -> None:
        """Nothing lost, nothing twice, nothing installed but what a policy gave."""
        emitted = [str(number) for number in range(next(self._numbers))]

        def uploaded() -> list[str]:
            return [row["fields"]["what"] for row in self.control.features("greeter")]

        wait_for("everything to be uploaded", lambda: len(uploaded()) >= len(emitted) or None, timeout_s=60)
        assert sorted(uploaded(), key=int) == emitted
        wanted: set[str] = set()
        before, until = wanted, datetime.min.replace(tzinfo=UTC)
        for line in self.device.log_lines():
            at = datetime.fromisoformat(line["timestamp"])
            if line["event"] == "policy_decided":
                before, wanted, until = wanted, set(line["wanted"]), at + _WRITE
            if line["event"] == "release_activated":
                assert line["release_id"] in wanted | (before if at < until else set())
        reports = [report["report_id"] for report in self.control.get("/reports")["reports"]]
        assert len(reports) == len(set(reports))
        self.device.check()
        self.control.check()


@pytest.fixture
def rig() -> Iterator[Rig]:
    # Not below pytest's folder: the path of a Unix socket has room for 107 bytes.
    with tempfile.TemporaryDirectory(prefix="w-", dir="/tmp") as folder, Link(seed=1) as link:
        rig = Rig(Path(folder), link)
        try:
            rig.start()
            yield rig
        finally:
            rig.stop()


def test_what_came_and_went_while_it_was_cut_off_is_never_installed(rig: Rig) -> None:
    first = rig.release()
    rig.await_installed(first)
    rig.link.cut()
    gone = rig.release("1.1.0")
    rig.emit(3)  # it goes on with what it has
    rig.roll_back(gone)
    last = rig.release("1.1.0")
    rig.link.heal()
    rig.await_installed(last)
    assert rig.activated() == [first, last]
    rig.emit(3)
    rig.check()


def _steady(to_inside: Weather, to_outside: Weather) -> Callable[[Rig], None]:
    """One weather for the whole drill."""

    def drill(rig: Rig) -> None:
        rig.link.change(to_inside=to_inside, to_outside=to_outside)
        _be_busy(rig, _DRILL_S)

    return drill


def _flapping(rig: Rig) -> None:
    for _ in range(4):
        rig.link.cut()
        _be_busy(rig, 1.0)
        rig.link.heal()
        _be_busy(rig, 1.0)


def _held_again_and_again(rig: Rig) -> None:
    """All packets come, in bursts, long after both ends have given up on them."""
    for _ in range(3):
        rig.link.change(to_inside=HELD, to_outside=HELD)
        _be_busy(rig, 4.0)
        rig.link.heal()
        _be_busy(rig, 0.5)


DRILLS: dict[str, Callable[[Rig], None]] = {
    "cut": _steady(CUT, CUT),
    "agent_is_not_heard": _steady(FAIR, CUT),
    "server_is_not_heard": _steady(CUT, FAIR),
    "late_and_out_of_order": _steady(Weather(0.02, 0.05, 0.2), Weather(0.02, 0.05, 0.2)),
    "a_third_is_lost": _steady(Weather(loss=0.3), Weather(loss=0.3)),
    "answers_are_a_second_late": _steady(Weather(delay_s=1.0, jitter_s=0.5), FAIR),
    "flapping": _flapping,
    "held_again_and_again": _held_again_and_again,
}


@pytest.mark.parametrize("name", DRILLS)
def test_nothing_is_lost_and_nothing_installed_that_no_policy_gave(rig: Rig, name: str) -> None:
    first = rig.release()
    rig.await_installed(first)
    rig.emit(5)
    gone = rig.release("1.1.0")  # the agent may have it, until it hears that it went
    DRILLS[name](rig)
    rig.roll_back(gone)
    rig.emit(5)
    rig.link.heal()
    rig.await_epoch()
    last = rig.release("1.1.0")
    rig.await_installed(last)
    assert rig.activated()[-1] == last
    rig.emit(5)
    rig.check()


#: What was begun under one decision may be told of just after the next: writing the state takes its time.
_WRITE = timedelta(seconds=0.2)


def _be_busy(rig: Rig, for_s: float) -> None:
    """Things happen on the device, and releases come and go."""
    ends_s = time.monotonic() + for_s
    while time.monotonic() < ends_s:
        rig.emit(2)
        release = rig.release("1.1.0")
        time.sleep(0.4)
        rig.roll_back(release)
