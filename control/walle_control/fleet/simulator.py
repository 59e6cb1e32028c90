"""Runs a fleet of simulated devices against a real server, from one process."""

from __future__ import annotations

import random
import resource
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from walle_control.fleet.device import SimulatedDevice, World
from walle_control.fleet.http import Pool, Server
from walle_control.fleet.scenario import Scenario, draw, profile_of
from walle_control.fleet.tally import Tally
from walle_control.fleet.trust import FleetTrust
from walle_shared.clock import SystemClock
from walle_shared.errors import ConfigError, WalleError
from walle_shared.protocol.version import STATIC_ROOT
from walle_shared.trust.roles import Pin

#: How often the app's own servers look for a new epoch.
_APP_LOOKS_S = 0.2

#: Descriptors besides those of connections.
_OTHER_FILES = 100


@dataclass(frozen=True, slots=True)
class Target:
    """The server: its URL, the root that devices are told to trust, a token that lets every device enrol."""

    url: str
    trusted_root: str
    enrol_token: str


class Fleet:
    """A fleet that runs. Made by :func:`open_fleet`."""

    def __init__(self, world: World, devices: int) -> None:
        self.world = world
        self.devices = devices

    @property
    def tally(self) -> Tally:
        """What has happened so far."""
        return self.world.tally

    async def wait_enrolled(self) -> None:
        """Wait until every device is enrolled, and has read the policy there is."""
        await self.tally.wait_until(lambda: self._told() >= self.devices)

    async def wait_covered(self, version: str, part: float) -> None:
        """Wait until so large a part of the devices runs a version (as ``SCENARIO/TASK VERSION``)."""
        await self.tally.wait_until(lambda: self.tally.running[version] >= part * self.devices)

    def _told(self) -> int:
        return max(map(len, self.tally.told_s.values()), default=0)


@asynccontextmanager
async def open_fleet(scenario: Scenario, target: Target) -> AsyncGenerator[Fleet]:
    """Let a fleet come and live; it is gone at the end of the block.

    Raises:
        ConfigError: the URL is none, or the process may not open so many connections.
    """
    allow_files(round(scenario.devices * scenario.streaming) + scenario.connections + _OTHER_FILES)
    began = trio.current_time()
    tally = Tally(lambda: trio.current_time() - began)
    pool = Pool(Server.of(target.url), scenario.connections)
    trust = FleetTrust(pool, Pin.parse(target.trusted_root), SystemClock())
    world = World(scenario, pool, trust, target.enrol_token, SystemClock(), tally)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_follow_as_app, world)
            nursery.start_soon(_let_come, world, nursery)
            yield Fleet(world, scenario.devices)
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await pool.close()


async def _let_come(world: World, nursery: trio.Nursery) -> None:
    scenario = world.scenario
    dice = random.Random(scenario.seed)
    began = trio.current_time()
    for number in range(scenario.devices):
        await trio.sleep_until(began + number / scenario.enrol_per_s)
        profile = profile_of(draw(scenario.groups, dice))
        network = draw(scenario.networks, dice)
        streams = dice.random() < scenario.streaming
        own = random.Random(dice.getrandbits(64))
        device = SimulatedDevice(world, profile, network, own, streams=streams)
        nursery.start_soon(device.run)


async def _follow_as_app(world: World) -> None:
    """Know the newest epoch as the app's own servers do, whose answers name it to devices."""
    while world.scenario.business_s:
        try:
            answer = await world.pool.request("GET", f"{STATIC_ROOT}/epoch.json", kind="epoch of the app")
            if answer.status == 200:
                world.newest_epoch = (await world.trust.open_epoch(answer.body)).epoch
        except WalleError as error:
            world.tally.errors[error.code] += 1
        await trio.sleep(_APP_LOOKS_S)


def allow_files(count: int) -> None:
    """Let this process open so many files.

    Raises:
        ConfigError: the system's limit is lower.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if count <= soft:
        return
    if hard not in (resource.RLIM_INFINITY,) and count > hard:
        raise ConfigError(
            f"the fleet needs {count} open files, the system allows {hard}: "
            "raise it (ulimit -Hn), or let fewer devices hold a stream (streaming)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
