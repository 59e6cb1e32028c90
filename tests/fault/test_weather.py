"""The network that drills are made in does to packets what it is told, each direction for itself."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from walle_support.live import wait_for  # pyright: ignore[reportAttributeAccessIssue]
from walle_support.weather import CUT, FAIR, HELD, Link, Weather, why_no_link

_why_not = why_no_link()
pytestmark = pytest.mark.skipif(bool(_why_not), reason=_why_not)

_COUNT = 40


class Ends:
    """Two UDP sockets, on either side of a link."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.outside = _bound(link.outside_ip)
        self.inside = link.inside(lambda: _bound(link.inside_ip))

    def close(self) -> None:
        self.outside.close()
        self.inside.close()

    def send(self, sender: socket.socket, receiver: socket.socket) -> None:
        for number in range(_COUNT):
            sender.sendto(bytes([number]), receiver.getsockname())

    def await_all(self, receiver: socket.socket) -> list[int]:
        receiver.settimeout(30)
        return [receiver.recv(8)[0] for _ in range(_COUNT)]


def _bound(address: str) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((address, 0))
    return made


def _rest(receiver: socket.socket) -> list[int]:
    """What has come and was not read."""
    receiver.setblocking(False)
    found: list[int] = []
    with suppress(BlockingIOError):
        while True:
            found.append(receiver.recv(8)[0])
    return found


@pytest.fixture
def ends() -> Iterator[Ends]:
    with Link(seed=3) as link:
        ends = Ends(link)
        try:
            yield ends
        finally:
            ends.close()


def test_in_fair_weather_all_comes_in_order(ends: Ends) -> None:
    for sender, receiver in ((ends.outside, ends.inside), (ends.inside, ends.outside)):
        ends.send(sender, receiver)
        assert ends.await_all(receiver) == [*range(_COUNT)]


def test_one_way_may_be_cut(ends: Ends) -> None:
    ends.link.change(to_inside=CUT)
    ends.send(ends.outside, ends.inside)
    ends.send(ends.inside, ends.outside)
    assert ends.await_all(ends.outside) == [*range(_COUNT)]
    wait_for("the loss", lambda: ends.link.lost["to_inside"] >= _COUNT or None)
    assert _rest(ends.inside) == []
    ends.link.heal()
    ends.send(ends.outside, ends.inside)
    assert ends.await_all(ends.inside) == [*range(_COUNT)]


def test_what_is_held_comes_when_the_weather_changes(ends: Ends) -> None:
    ends.link.change(to_inside=HELD)
    ends.send(ends.outside, ends.inside)
    wait_for("all to be held", lambda: ends.link.holds("to_inside") >= _COUNT or None)
    assert _rest(ends.inside) == []
    ends.link.change(to_inside=FAIR)
    assert ends.await_all(ends.inside) == [*range(_COUNT)]


def test_jitter_lets_packets_overtake_each_other(ends: Ends) -> None:
    ends.link.change(to_outside=Weather(delay_s=0.02, jitter_s=0.05))
    ends.send(ends.inside, ends.outside)
    come = ends.await_all(ends.outside)
    assert come != sorted(come)
    assert sorted(come) == [*range(_COUNT)]


def test_a_part_may_be_lost(ends: Ends) -> None:
    ends.link.change(to_inside=Weather(loss=0.5))
    ends.send(ends.outside, ends.inside)
    link = ends.link
    wait_for(
        "all to pass or not", lambda: link.passed["to_inside"] + link.lost["to_inside"] >= _COUNT or None
    )
    assert 5 < link.lost["to_inside"] < _COUNT - 5
