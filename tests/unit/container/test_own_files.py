"""The files that a device alone has, as a task finds them in either tier (``walle_agent.deploy.own``)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from walle_container import HostConfig, TaskHost, TaskSpec

MakeSpec = Callable[..., TaskSpec]

SCRIPT = """
def run():
    try:
        with open("own/profile.json") as file:
            return file.read()
    except FileNotFoundError:
        return "none yet"
"""


def put(bundle: Path, counter: int, text: str) -> None:
    """What the agent does, in short."""
    folder = bundle / f".own-{counter}"
    folder.mkdir(mode=0o700)
    (folder / "profile.json").write_text(text)
    fresh = bundle / ".own.new"
    fresh.symlink_to(folder.name)
    fresh.replace(bundle / "own")


@pytest.mark.slow
@pytest.mark.parametrize("tier", ["interp", "process"])
async def test_a_run_reads_the_newest(make_spec: MakeSpec, inputs: dict[str, Any], tier: str):
    async with TaskHost(HostConfig(slots=1, grace_s=5.0)) as host:
        spec = make_spec(SCRIPT, tier=tier, wall_s=10.0)
        assert (await host.run(spec, inputs)).value == "none yet"
        for counter, text in ((1, "one"), (2, "two")):
            put(spec.bundle_dir, counter, text)
            assert (await host.run(spec, inputs)).value == text
