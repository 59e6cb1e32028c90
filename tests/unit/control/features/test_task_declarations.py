"""What a version declares is held against the app's registry; and versions that are declarations alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import pytest

from walle_control.app import Control
from walle_control.config import ImportConfig
from walle_control.features.tasks.types import ImportRequest
from walle_shared.errors import ConfigError, NotAllowed


class GitRepo(Protocol):
    """The fixture ``repo``."""

    path: Path

    def tag(self, tag: str, folder: str, files: Mapping[str, bytes]) -> str: ...


def request(path: Path, version: str = "1.0.0") -> ImportRequest:
    return ImportRequest(str(path), "greeter", version)


async def test_what_could_send_local_fields_is_refused(
    control: Control, repo: GitRepo, good_files: dict[str, bytes], tmp_path: Path
) -> None:
    schema = tmp_path / "events.toml"
    schema.write_text('[events.go.args]\nn = { type = "integer" }\n')
    control.tasks._config = ImportConfig(events_schema=str(schema))
    toml = good_files["task.toml"] + b'\n[uploads.told]\nn = "integer"\n[reads]\ngo = ["args.n"]\n'
    repo.tag("greeter/1.0.0", "greeter", {**good_files, "task.toml": toml})
    with pytest.raises(NotAllowed, match=r"uploads\.told\.n: the task sees what is local \(go\.args\.n\)"):
        await control.tasks.import_version(request(repo.path), "anna")
    toml += b"[bounds.told]\nn = { min = 0, max = 9 }\n"
    repo.tag("greeter/1.0.1", "greeter", {**good_files, "task.toml": toml})
    assert (await control.tasks.import_version(request(repo.path, "1.0.1"), "anna")).created
    schema.write_text("[events")
    repo.tag("greeter/1.0.2", "greeter", {**good_files, "task.toml": toml})
    with pytest.raises(ConfigError, match=r"events\.toml: not TOML"):
        await control.tasks.import_version(request(repo.path, "1.0.2"), "anna")


async def test_a_task_of_stages_alone_has_no_script(control: Control, repo: GitRepo) -> None:
    toml = b"""
[task]
scenario = "demo"
name = "greeter"
entry = ""
[[prepare]]
name = "seen"
over = "log"
events = ["scroll"]
window = { tumbling_ms = 60000 }
values = { n = "count()" }
upload = "seen"
[uploads.seen]
start_ms = "integer"
n = "integer"
"""
    repo.tag("greeter/1.0.0", "greeter", {"task.toml": toml})
    await control.tasks.import_version(request(repo.path), "anna")
    detail = await control.tasks.show("demo", "greeter", "1.0.0")
    assert [file.path for file in detail.files] == ["task.toml"]
    assert detail.definition.prepare[0].values == {"n": "count()"}
