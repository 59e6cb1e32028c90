"""A slow link on one machine: two network namespaces, a TUN device in each, a relay that delays and drops.

For kernels without ``netem``. Needs root, ``/dev/net/tun`` and ``ip``. Packets keep their order; each is lost
by itself, whatever the direction.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import random
import select
import shutil
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_TUNSETIFF = 0x400454CA
_IFF_TUN_NO_PI = 0x0001 | 0x1000
_MTU_BYTES = 1_500
_NETNS = Path("/run/netns")

NEAR_ADDRESS, FAR_ADDRESS = "10.201.0.1", "10.201.0.2"


@dataclass(frozen=True)
class SlowLink:
    """Two ends; run a command at one with ``at``."""

    near: str
    far: str

    def at(self, end: str, words: list[str]) -> list[str]:
        """The command that runs ``words`` in the namespace ``end``."""
        return ["ip", "netns", "exec", end, *words]


def unavailable() -> str:
    """Why there can be no slow link here; empty if there can."""
    if os.geteuid() != 0:
        return "needs root for network namespaces"
    if not Path("/dev/net/tun").exists():
        return "needs /dev/net/tun"
    if shutil.which("ip") is None:
        return "needs ip (iproute2)"
    probe = subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False)
    return "" if probe.returncode == 0 else "may not make network namespaces"


@contextmanager
def slow_link(rtt_ms: float, loss: float, seed: int = 1) -> Iterator[SlowLink]:
    """Two namespaces and the relay between them.

    Args:
        rtt_ms: delay there and back, half of it each way.
        loss: part of the packets lost, 0 to 1.
        seed: of the losses.
    """
    link = SlowLink(f"walle-near-{os.getpid()}", f"walle-far-{os.getpid()}")
    relay: subprocess.Popen[bytes] | None = None
    try:
        for name in (link.near, link.far):
            subprocess.run(["ip", "netns", "add", name], check=True)
        words = [link.near, link.far, str(rtt_ms / 2), str(loss), str(seed)]
        relay = subprocess.Popen([sys.executable, __file__, *words], stdout=subprocess.PIPE)
        assert relay.stdout is not None
        if relay.stdout.readline() != b"up\n":
            raise RuntimeError("the relay of the slow link did not start")
        yield link
    finally:
        if relay is not None:
            relay.kill()
            relay.wait()
        for name in (link.near, link.far):
            subprocess.run(["ip", "netns", "delete", name], check=False)


def _open_tun(namespace: str, address: str, peer: str) -> int:
    """A TUN device in a namespace, with its address; this process is in that namespace afterwards."""
    with (_NETNS / namespace).open() as handle:
        os.setns(handle.fileno(), os.CLONE_NEWNET)
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", b"tun0", _IFF_TUN_NO_PI))
    for words in (
        f"addr add {address} peer {peer} dev tun0",
        f"link set tun0 mtu {_MTU_BYTES} txqueuelen 1000 up",
        "link set lo up",
    ):
        subprocess.run(["ip", *words.split()], check=True)
    return device


class Way:
    """One direction: packets and when they are due."""

    def __init__(self, source: int, target: int, delay_s: float, loss: float, chance: random.Random) -> None:
        self.source, self.target = source, target
        self._delay_s, self._loss, self._chance = delay_s, loss, chance
        self._packets: deque[tuple[float, bytes]] = deque()

    def take(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                packet = os.read(self.source, 65_536)
                if self._chance.random() >= self._loss:
                    self._packets.append((time.monotonic() + self._delay_s, packet))

    def give(self, now: float) -> float:
        """Deliver what is due; when the next is."""
        while self._packets and self._packets[0][0] <= now:
            with contextlib.suppress(BlockingIOError):
                os.write(self.target, self._packets.popleft()[1])
        return self._packets[0][0] if self._packets else now + 1.0


def _relay(near: str, far: str, delay_s: float, loss: float, seed: int) -> None:
    chance = random.Random(seed)
    ends = _open_tun(near, NEAR_ADDRESS, FAR_ADDRESS), _open_tun(far, FAR_ADDRESS, NEAR_ADDRESS)
    ways = [Way(a, b, delay_s, loss, chance) for a, b in (ends, ends[::-1])]
    print("up", flush=True)
    while True:
        due = min(way.give(time.monotonic()) for way in ways)
        readable, _, _ = select.select(ends, [], [], max(0.0, due - time.monotonic()))
        for way in ways:
            if way.source in readable:
                way.take()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("near")
    parser.add_argument("far")
    parser.add_argument("delay_ms", type=float)
    parser.add_argument("loss", type=float)
    parser.add_argument("seed", type=int)
    given = parser.parse_args()
    _relay(given.near, given.far, given.delay_ms / 1e3, given.loss, given.seed)
