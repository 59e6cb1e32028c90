"""All that can be found wrong with a task before it runs, each with file and line. Blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from walle_agent.config import RunSection
from walle_agent.streams.event import EVENT_KINDS, EventError, parse_event
from walle_container.scripts import Problem, check_scripts
from walle_shared.errors import ConfigError, EngineError
from walle_shared.limits import IMPORT_BUNDLE_MAX_BYTES, IMPORT_FILE_MAX_BYTES, MANIFEST_MAX_FILES
from walle_shared.manifest import TASK_FILE, TaskFile
from walle_shared.privacy import complaints
from walle_shared.schema import SCHEMA_FILE, EventSchema
from walle_shared.units import MIB
from walle_task.authoring import (
    MODEL,
    MODEL_FOLDERS,
    convert_model,
    is_source_model,
    parse_task_text,
    read_files,
)

EVENT_FILES = "tests/*.jsonl"
_HEADER = re.compile(r"\s*\[(\[)?\s*([A-Za-z0-9_.\-]+)\s*\]")
_KEY = re.compile(r"\s*([A-Za-z0-9_\-]+)\s*=")
_KEY_PATH = re.compile(r"([A-Za-z_][\w.\-]*(?:\[\d+\][\w.\-]*)*)")


def check_folder(root: Path, schema: EventSchema | None = None) -> tuple[Problem, ...]:
    """Find what is wrong with the task in a folder, errors and warnings.

    Args:
        root: the folder.
        schema: what events hold and how private it is; None: no field has a class.

    Raises:
        ConfigError: there is no such folder, or it holds files that cannot be shipped.
    """
    files = read_files(root)
    if TASK_FILE not in files:
        message = "is missing; 'walle-agent task init NAME' makes a task with one"
        return (Problem("error", TASK_FILE, 0, message),)
    try:
        task = parse_task_text(files[TASK_FILE])
    except ConfigError as error:
        text = files[TASK_FILE].decode(errors="replace")
        message = error.message.removeprefix(f"{TASK_FILE}: ")
        return (Problem("error", TASK_FILE, find_line(text, message), message),)
    return (
        *_check_task(task, files[TASK_FILE].decode()),
        *_check_privacy(task, files[TASK_FILE].decode(), schema),
        *check_scripts(files, task),
        *_check_sizes(files),
        *_check_models(root, files),
        *_check_events(root),
    )


def find_line(text: str, message: str) -> int:
    """The line of a task file that a complaint about it is about; 0 where that cannot be told."""
    if position := re.search(r"at line (\d+)", message):
        return int(position[1])
    key = _KEY_PATH.match(message)
    return 0 if key is None else _line_of(text, key[1])


def _line_of(text: str, key: str) -> int:
    lines = dict(_key_lines(text))
    while key:
        if key in lines:
            return lines[key]
        key = key[: max(key.rfind("."), key.rfind("["), 0)]
    return 0


def _key_lines(text: str) -> Iterator[tuple[str, int]]:
    """Every table and key of a TOML text, by its path as error messages have it, with its line."""
    table, counts = "", dict[str, int]()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = header[2]
            if header[1]:
                counts[table] = counts.get(table, -1) + 1
                table = f"{table}[{counts[table]}]"
            yield table, number
        elif key := _KEY.match(line):
            yield (f"{table}.{key[1]}" if table else key[1]), number


def _check_task(task: TaskFile, text: str) -> Iterator[Problem]:
    for number, trigger in enumerate(task.triggers):
        for trigger_id in trigger.ids:
            kind = trigger_id.removeprefix("kind:")
            if kind != trigger_id and kind not in EVENT_KINDS:
                message = f"{trigger_id!r} never matches: kinds are {', '.join(sorted(EVENT_KINDS))}"
                yield Problem("error", TASK_FILE, _line_of(text, f"triggers[{number}].ids"), message)
    device = RunSection()
    for name, wanted, most, unit in (
        ("wall_s", task.limits.wall_s, device.wall_max_s, "s"),
        ("memory_bytes", task.limits.memory_bytes, device.memory_max_bytes, "bytes"),
    ):
        if wanted > most:
            message = f"limits.{name} is {wanted:g} {unit}; a device gives {most:g}, unless set otherwise"
            yield Problem("warning", TASK_FILE, _line_of(text, f"limits.{name}"), message)


def find_schema(root: Path) -> Path | None:
    """The nearest ``events.toml`` in a task's folder or above it, up to the top of its repository."""
    for folder in (root.absolute(), *root.absolute().parents):
        if (folder / SCHEMA_FILE).is_file():
            return folder / SCHEMA_FILE
        if (folder / ".git").exists():
            return None
    return None


def _check_privacy(task: TaskFile, text: str, schema: EventSchema | None) -> Iterator[Problem]:
    for key, message in complaints(task, schema):
        yield Problem("error", TASK_FILE, _line_of(text, key), message)
    for key in task.reads or {}:
        if schema is not None and key not in schema.events:
            message = f"reads.{key} is not declared in {SCHEMA_FILE}: all of its fields count as local"
            yield Problem("warning", TASK_FILE, _line_of(text, f"reads.{key}"), message)


def _check_sizes(files: Mapping[str, bytes]) -> Iterator[Problem]:
    for path, data in files.items():
        if len(data) > IMPORT_FILE_MAX_BYTES:
            message = f"has {len(data) / MIB:.1f} MiB; a release takes {IMPORT_FILE_MAX_BYTES / MIB:g} a file"
            yield Problem("error", path, 0, message)
    total_bytes = sum(map(len, files.values()))
    if total_bytes > IMPORT_BUNDLE_MAX_BYTES:
        most = IMPORT_BUNDLE_MAX_BYTES / MIB
        message = f"the task has {total_bytes / MIB:.1f} MiB in all; a release takes {most:g}"
        yield Problem("error", TASK_FILE, 0, message)
    if len(files) > MANIFEST_MAX_FILES:
        message = f"the task has {len(files)} files; a release takes {MANIFEST_MAX_FILES}"
        yield Problem("error", TASK_FILE, 0, message)


def _check_models(root: Path, files: Mapping[str, bytes]) -> Iterator[Problem]:
    """Convert what must be converted, and load everything, as the import and the device will."""
    from walle_engine.api import load_bytes  # on first use: it brings the C engine

    for path in sorted(files):
        try:
            if is_source_model(path):
                convert_model(root, path, files[path])
            elif path.startswith(MODEL_FOLDERS) and path.endswith(MODEL):
                load_bytes(files[path])
        except EngineError as error:
            yield Problem("error", path, 0, error.message.removeprefix(f"{path}: "))
        except ConfigError as error:
            yield Problem("warning", path, 0, error.message.removeprefix(f"{path}: "))


def _check_events(root: Path) -> Iterator[Problem]:
    """The recorded events beside the tests."""
    for path in sorted(root.glob(EVENT_FILES)):
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            if line.strip() and not line.startswith(b"#"):
                try:
                    parse_event(line)
                except EventError as error:
                    yield Problem("warning", path.relative_to(root).as_posix(), number, error.message)
