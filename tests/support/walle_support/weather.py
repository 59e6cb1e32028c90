"""A network of one's own between this process and others, whose weather a test makes.

``Link`` is two network interfaces (TUN) and a thread between them, in Python: one interface is here, the
other one in a new network namespace, where ``inside`` runs things. What goes through can be lost, delayed,
reordered or held back, each direction for itself, at any moment. It needs root, ``ip`` and ``/dev/net/tun``,
and nothing of the kernel's traffic control. Interfaces and namespace vanish with the object, and with the
process.
"""

from __future__ import annotations

import fcntl
import heapq
import itertools
import os
import random
import select
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

_TUN = "/dev/net/tun"
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_PACKET_MAX_BYTES = 65_536

#: A network set aside for measurements of networks (RFC 2544): nobody's.
_NETWORK = "198.18"

Side = Literal["to_inside", "to_outside"]


def why_no_link() -> str:
    """Why there can be no ``Link`` here; empty if there can."""
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    if shutil.which("ip") is None:
        return "needs ip: apt-get install iproute2"
    try:
        os.close(os.open(_TUN, os.O_RDWR))
        _in_new_thread(lambda: os.unshare(os.CLONE_NEWNET))
    except OSError as error:
        return f"no network of one's own: {error}"
    return ""


@dataclass(frozen=True, slots=True)
class Weather:
    """What befalls packets of one direction.

    Attributes:
        loss: the part of them that is lost; 1.0 cuts.
        delay_s: how late they come, at least.
        jitter_s: how much later, at random: those of less than this apart overtake each other.
        held: they wait until the weather changes, and come then.
    """

    loss: float = 0.0
    delay_s: float = 0.0
    jitter_s: float = 0.0
    held: bool = False


FAIR = Weather()
CUT = Weather(loss=1.0)
HELD = Weather(held=True)


class Link:
    """A link between here (``outside``) and a namespace of its own (``inside``). A context manager."""

    def __init__(self, seed: int = 0) -> None:
        network = f"{_NETWORK}.{random.randrange(256)}.{random.randrange(64) * 4}"
        stem = network.rpartition(".")[0]
        first = int(network.rpartition(".")[2])
        self.outside_ip, self.inside_ip = f"{stem}.{first + 1}", f"{stem}.{first + 2}"
        self._chance = random.Random(seed)
        self._weather: dict[Side, Weather] = {"to_inside": FAIR, "to_outside": FAIR}
        self._lock = threading.Lock()
        self._waiting: list[tuple[float, int, int, bytes]] = []  # due, number, where to, packet
        self._held: dict[Side, list[bytes]] = {"to_inside": [], "to_outside": []}
        self._numbers = itertools.count()
        self.passed: dict[Side, int] = {"to_inside": 0, "to_outside": 0}
        self.lost: dict[Side, int] = {"to_inside": 0, "to_outside": 0}

    def __enter__(self) -> Link:
        self._namespace = _in_new_thread(_new_namespace)
        self._outside = _interface(self.outside_ip, self.inside_ip)
        self._inside = self.inside(lambda: _interface(self.inside_ip, self.outside_ip))
        self._wake_reader, self._wake_writer = os.pipe()
        self._thread = threading.Thread(target=self._run, name="weather", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._wake_writer)
        self._thread.join()
        for descriptor in (self._outside, self._inside, self._wake_reader, self._namespace):
            os.close(descriptor)

    def inside[R](self, call: Callable[[], R]) -> R:
        """Call something in the namespace; sockets and processes that it makes live there for good."""

        def there() -> R:
            os.setns(self._namespace, os.CLONE_NEWNET)
            return call()

        return _in_new_thread(there)

    def change(self, *, to_inside: Weather | None = None, to_outside: Weather | None = None) -> None:
        """Change the weather, of one direction or both; what was held back comes, unless it is held on."""
        with self._lock:
            for side, weather in (("to_inside", to_inside), ("to_outside", to_outside)):
                if weather is None:
                    continue
                self._weather[side] = weather
                if not weather.held:
                    freed, self._held[side] = self._held[side], []
                    for packet in freed:
                        self._take(side, packet)
        os.write(self._wake_writer, b"x")

    def holds(self, side: Side) -> int:
        """How many packets are held back."""
        with self._lock:
            return len(self._held[side])

    def cut(self) -> None:
        """Nothing passes, either way."""
        self.change(to_inside=CUT, to_outside=CUT)

    def heal(self) -> None:
        """Everything passes."""
        self.change(to_inside=FAIR, to_outside=FAIR)

    def _run(self) -> None:
        sides: dict[int, Side] = {self._outside: "to_inside", self._inside: "to_outside"}
        while True:
            with self._lock:
                wait_s = self._deliver()
            ready, _, _ = select.select([*sides, self._wake_reader], [], [], wait_s)
            for descriptor in ready:
                if descriptor == self._wake_reader:
                    if not os.read(descriptor, 64):
                        return
                    continue
                packet = os.read(descriptor, _PACKET_MAX_BYTES)
                with self._lock:
                    self._take(sides[descriptor], packet)

    def _take(self, side: Side, packet: bytes) -> None:
        weather = self._weather[side]
        if weather.held:
            self._held[side].append(packet)
        elif self._chance.random() < weather.loss:
            self.lost[side] += 1
        else:
            due_s = time.monotonic() + weather.delay_s + self._chance.random() * weather.jitter_s
            where = self._inside if side == "to_inside" else self._outside
            self.passed[side] += 1
            heapq.heappush(self._waiting, (due_s, next(self._numbers), where, packet))

    def _deliver(self) -> float | None:
        """Hand on what is due; how long until the next."""
        while self._waiting:
            wait_s = self._waiting[0][0] - time.monotonic()
            if wait_s > 0:
                return wait_s
            _, _, where, packet = heapq.heappop(self._waiting)
            os.write(where, packet)
        return None


def _in_new_thread[R](call: Callable[[], R]) -> R:
    """Call something in a thread that ends with it: namespaces are a thread's own."""
    results: list[R] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001  # it belongs to the caller
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _new_namespace() -> int:
    os.unshare(os.CLONE_NEWNET)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _interface(address: str, peer: str) -> int:
    """An interface in the namespace of the calling thread; what is written here, arrives there."""
    descriptor = os.open(_TUN, os.O_RDWR | os.O_CLOEXEC)
    request = struct.pack("16sH22x", b"walle%d", _IFF_TUN | _IFF_NO_PI)
    name = fcntl.ioctl(descriptor, _TUNSETIFF, request)[:16].rstrip(b"\0").decode()
    for words in (["addr", "add", address, "peer", peer, "dev", name], ["link", "set", name, "up"]):
        subprocess.run(["ip", *words], check=True)
    return descriptor
