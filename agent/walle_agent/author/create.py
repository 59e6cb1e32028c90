"""Makes a small working task in a new folder. Blocks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from walle_shared.errors import Conflict, StorageError
from walle_shared.ids import check_name

_TEMPLATE = Path(__file__).parent / "template"
_SUFFIX = ".template"
_NAME, _SCENARIO = "@NAME@", "@SCENARIO@"


def create_task(folder: Path, *, scenario: str) -> tuple[Path, ...]:
    """Write a task into a folder that is not there yet, or empty; it is named for the folder.

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
        return tuple(_write(folder, scenario))
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written: {error.strerror or error}") from error


def _write(folder: Path, scenario: str) -> Iterator[Path]:
    for source in sorted(path for path in _TEMPLATE.rglob("*") if path.name.endswith(_SUFFIX)):
        text = source.read_text("utf-8").replace(_NAME, folder.name).replace(_SCENARIO, scenario)
        target = folder / source.relative_to(_TEMPLATE).as_posix().removesuffix(_SUFFIX)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")
        yield target
