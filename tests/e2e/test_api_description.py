"""The API's description tells the truth: a real server is asked what it allows, and what it does not.

A few questions a route here; ``nox -s api`` asks a hundred, and every boundary of every schema.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from walle_shared.signing import SigningKey
from walle_support.live import SCENARIO, LiveControl, commit_tasks, task_folder

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

EXAMPLES = int(os.environ.get("WALLE_API_EXAMPLES", "2"))
PHASES = "examples,fuzzing" if EXAMPLES < 10 else "examples,coverage,fuzzing"

#: Values may fit a schema and still make no sense: a predicate that does not parse, a tag that is not there.
SETTINGS = """
generation.deterministic = true
generation.database = "none"
[checks]
positive_data_acceptance.expected-statuses = ["2xx", "304", "400", "403", "404", "409", "413", "422"]
[phases.stateful]
enabled = false
{operations}
"""

#: What would wait, the names of things that are there, and what asks servers of others, which are not there.
OPERATOR = """
[[operations]]
include-path = "/api/v1/repositories/{{name}}/sync"
checks.not_a_server_error.enabled = false
checks.positive_data_acceptance.enabled = false
[[operations]]
include-path-regex = "^/d/v1/"
enabled = false
[[operations]]
include-path = "/api/v1/features"
parameters = {{ "query.wait_s" = 0 }}
[[operations]]
include-path-regex = "/releases/"
parameters = {{ "path.release_id" = "{release}" }}
[[operations]]
include-path = "/api/v1/devices/{{device_id}}"
parameters = {{ "path.device_id" = "{device}" }}
[[operations]]
include-path = "/api/v1/tasks/{{scenario}}/{{task}}/{{version}}"
parameters = {{ "path.scenario" = "{scenario}", "path.task" = "hello", "path.version" = "1.0.0" }}
"""

#: A push stream never ends.
DEVICE = """
[[operations]]
include-path-regex = "^/d/v1/(stream)"
enabled = false
[[operations]]
exclude-path-regex = "^/d/v1/"
enabled = false
"""


@dataclass
class World:
    control: LiveControl
    folder: Path
    device: str
    credential: str
    release: str


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("api")
    task = task_folder(folder / "sources", "hello", "def run(*_):\n    pass\n")
    commit_tasks(folder / "tasks", {"hello": task}, "1.0.0")
    control = LiveControl(folder)
    try:
        control.start()
        assert control.import_task(folder / "tasks", "hello").status_code == 201
        token = control.post("/enrol-tokens", {"uses": 1}).json()["token"]
        wish = {"token": token, "public_key": SigningKey.generate().public.raw_hex, "profile": {}}
        device = control.ask("POST", "/d/v1/enrol", wish).json()
        yield World(control, folder, device["device_id"], device["credential"], control.release("hello"))
    finally:
        control.stop()
    assert "Traceback" not in (folder / "control.log").read_text()


def ask_everything(world: World, operations: str, credential: str) -> None:
    settings = world.folder / "schemathesis.toml"
    settings.write_text(SETTINGS.format(operations=operations))
    words = [
        str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(settings),
        "run", f"{world.control.url}/openapi.json", "--header", f"Authorization: Bearer {credential}",
        "--phases", PHASES, "--max-examples", str(EXAMPLES), "--no-color",
    ]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, timeout=1800, check=False, cwd=world.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def test_operators_are_answered_as_described(world: World) -> None:
    operations = OPERATOR.format(release=world.release, device=world.device, scenario=SCENARIO)
    token = (world.control.data / "admin.token").read_text().strip()
    ask_everything(world, operations, token)


def test_devices_are_answered_as_described(world: World) -> None:
    ask_everything(world, DEVICE, world.credential)
