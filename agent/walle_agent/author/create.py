"""Makes a small working task in a new folder. Blocks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from walle_shared.errors import Conflict, StorageError
from walle_shared.ids import check_name
from walle_shared.manifest import CLOUD_SCRIPT

_TEMPLATE = Path(__file__).parent / "template"
_SUFFIX = ".template"
_NAME, _SCENARIO = "@NAME@", "@SCENARIO@"

#: What makes the template ask its cloud half: file, a piece of it, and what stands there instead.
_ASKING: Final = (
    ("task.toml", '"tunnel", "log"]', '"tunnel", "log", "cloud"]'),
    (
        "task.toml",
        "[params]",
        "[cloud]                      # what cloud.py may use\nwall_s = 1.0\n\n[params]",
    ),
    ("main.py", "import events, log, params", "import cloud, events, log, params"),
    (
        "main.py",
        "    tunnel.send(",
        "    try:\n"
        '        log.info("asked", **cloud.ask(row, timeout_s=0.5))\n'
        "    except cloud.Unavailable as error:\n"
        '        log.info("not_asked", reason=error.reason)\n'
        "    tunnel.send(",
    ),
)
_CLOUD_HALF: Final = '''"""The task's half on the control plane; no device gets this file."""


def answer(request):
    """Say what a visit looks like from here; request.data, .device_id and .version are there too."""
    return {"busy": request.payload["clicks"] > 2}
'''


def create_task(folder: Path, *, scenario: str, cloud: bool = False) -> tuple[Path, ...]:
    """Write a task into a folder that is not there yet, or empty; it is named for the folder.

    Args:
        folder: where.
        scenario: the group of tasks it belongs to.
        cloud: give it a cloud half, and let it ask.

    Raises:
        ConfigError: the folder's name, or the scenario's, is no name.
        Conflict: the folder holds something.
        StorageError: it cannot be written.
    """
    check_name(folder.name, "the task's name (that of its folder)")
    check_name(scenario, "scenario")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise Conflict(f"{folder}: holds something already; choose another name")
        written = tuple(_write(folder, scenario))
        return (*written, *_write_cloud_half(folder)) if cloud else written
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written: {error.strerror or error}") from error


def _write_cloud_half(folder: Path) -> Iterator[Path]:
    for name, before, after in _ASKING:
        text = (folder / name).read_text("utf-8")
        assert text.count(before) == 1, f"the template of {name} has changed"
        (folder / name).write_text(text.replace(before, after), "utf-8")
    (folder / CLOUD_SCRIPT).write_text(_CLOUD_HALF, "utf-8")
    yield folder / CLOUD_SCRIPT


def _write(folder: Path, scenario: str) -> Iterator[Path]:
    for source in sorted(path for path in _TEMPLATE.rglob("*") if path.name.endswith(_SUFFIX)):
        text = source.read_text("utf-8").replace(_NAME, folder.name).replace(_SCENARIO, scenario)
        target = folder / source.relative_to(_TEMPLATE).as_posix().removesuffix(_SUFFIX)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")
        yield target
