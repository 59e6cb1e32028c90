"""What differs between the files of two versions: lines of short texts, size and digest of the rest. Pure.

Whoever made a version wrote these files: everything is bounded, in bytes, lines and characters, before it is
compared, and nothing here makes markup.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal

from walle_shared.manifest import BundleFile

#: A longer file is shown by size and digest: comparing lines costs up to the product of their numbers.
_TEXT_MAX_BYTES: Final = 64 * 1024
_TEXT_MAX_LINES: Final = 2_000
#: So much is compared line by line in all; files that come later by path are shown by size and digest.
_COMPARED_MAX_BYTES: Final = 1024 * 1024
#: So many lines of one file's difference are shown, and of all files together; and so much of each line.
_FILE_LINES_MAX: Final = 400
_LINES_MAX: Final = 4_000
_LINE_MAX_CHARS: Final = 400
_CONTEXT_LINES: Final = 3

LineKind = Literal["place", "same", "added", "removed"]
ChangeKind = Literal["added", "removed", "changed"]


@dataclass(frozen=True, slots=True)
class ChangedLine:
    """A line of a difference; a ``place`` says which lines follow."""

    kind: LineKind
    text: str


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file that differs: sizes and digests before and after (0 and empty where it is not there).

    ``lines`` are empty for what is no short text; ``cut``: there are more of them.
    """

    path: str
    kind: ChangeKind
    before_bytes: int
    after_bytes: int
    before_sha256: str
    after_sha256: str
    lines: tuple[ChangedLine, ...]
    cut: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs between a version and one before it; ``same`` files do not."""

    base: str
    version: str
    changes: tuple[FileChange, ...]
    same: int


#: Reads a file of either version.
ReadFile = Callable[[BundleFile], bytes]


def compare_files(
    before: Sequence[BundleFile], after: Sequence[BundleFile], read: ReadFile
) -> tuple[tuple[FileChange, ...], int]:
    """The files that differ, by path, and how many do not."""
    old = {file.path: file for file in before}
    new = {file.path: file for file in after}
    differing = [path for path in sorted({*old, *new}) if _digest(old, path) != _digest(new, path)]
    left, left_bytes, changes = _LINES_MAX, _COMPARED_MAX_BYTES, []
    for path in differing:
        pair = old.get(path), new.get(path)
        size_bytes = sum(file.size_bytes for file in pair if file is not None)
        lines_max = min(left, _FILE_LINES_MAX) if size_bytes <= left_bytes else 0
        change = _change(path, *pair, read, lines_max)
        if change.lines:
            left, left_bytes = left - len(change.lines), left_bytes - size_bytes
        changes.append(change)
    return tuple(changes), len({*old, *new}) - len(differing)


def _digest(files: Mapping[str, BundleFile], path: str) -> str:
    file = files.get(path)
    return file.sha256 if file is not None else ""


def _change(
    path: str, before: BundleFile | None, after: BundleFile | None, read: ReadFile, lines_max: int
) -> FileChange:
    kind: ChangeKind = "added" if before is None else "removed" if after is None else "changed"
    lines = list(islice(_lines(before, after, read), lines_max + 1)) if lines_max else []
    return FileChange(
        path,
        kind,
        before.size_bytes if before else 0,
        after.size_bytes if after else 0,
        before.sha256 if before else "",
        after.sha256 if after else "",
        tuple(lines[:lines_max]),
        len(lines) > lines_max,
    )


def _lines(before: BundleFile | None, after: BundleFile | None, read: ReadFile) -> Iterator[ChangedLine]:
    old, new = _text(before, read), _text(after, read)
    if old is not None and new is not None:
        yield from _difference(old, new)


def _text(file: BundleFile | None, read: ReadFile) -> list[str] | None:
    """The lines of a file; none of one that is not there; ``None`` if it is no short text."""
    if file is None:
        return []
    if file.size_bytes > _TEXT_MAX_BYTES:
        return None
    try:
        text = read(file).decode()
    except UnicodeDecodeError:
        return None
    lines = text.split("\n")
    return None if "\0" in text or len(lines) > _TEXT_MAX_LINES else lines


def _difference(before: list[str], after: list[str]) -> Iterator[ChangedLine]:
    kinds: dict[str, LineKind] = {"@": "place", " ": "same", "+": "added", "-": "removed"}
    for number, line in enumerate(difflib.unified_diff(before, after, n=_CONTEXT_LINES, lineterm="")):
        if number < 2:  # the names of the files
            continue
        kind = kinds[line[0]]
        text = line.strip("@ ") if kind == "place" else line[1:]
        yield ChangedLine(kind, text[:_LINE_MAX_CHARS])
