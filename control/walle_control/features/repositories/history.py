"""The commits that led to a version, as a mirror has them. Blocks.

Messages and names are whatever somebody wrote: they are cut, and told as text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pygit2
from pygit2.enums import SortMode

from walle_control.features.repositories.types import Commit

#: So many commits are looked at, and so many of those that change the task are told.
_WALKED_MAX: Final = 5_000
COMMITS_MAX: Final = 100
_MESSAGE_MAX_CHARS: Final = 2_000
_NAME_MAX_CHARS: Final = 200


def holds(mirror: Path, commit: str) -> bool:
    """Whether a mirror has a commit."""
    try:
        repo = pygit2.Repository(str(mirror))
    except (pygit2.GitError, ValueError):
        return False
    try:
        return _find(repo, commit) is not None
    finally:
        repo.free()


def commits_to(mirror: Path, commit: str, base: str, folder: str) -> tuple[tuple[Commit, ...], bool]:
    """The commits up to one that change a folder, newest first, without those that ``base`` holds.

    Args:
        mirror: the repository.
        commit: the last of them.
        base: an earlier one; empty: go back to the beginning.
        folder: below the root; empty: all of it.

    Returns:
        The commits, and whether there are more than are told.
    """
    repo = pygit2.Repository(str(mirror))
    try:
        newest, before = _find(repo, commit), _find(repo, base)
        if newest is None:
            return (), False
        tags = _tags(repo)
        walker = repo.walk(newest.id, SortMode.TOPOLOGICAL | SortMode.TIME)
        if before is not None:
            walker.hide(before.id)
        found: list[Commit] = []
        for walked, each in enumerate(walker):
            if walked == _WALKED_MAX or len(found) == COMMITS_MAX:
                return tuple(found), True
            if _changes(each, folder):
                found.append(_told(each, tags.get(str(each.id), ())))
        return tuple(found), False
    finally:
        repo.free()


def _find(repo: pygit2.Repository, commit: str) -> pygit2.Commit | None:
    try:
        found = repo.get(commit)
    except ValueError:  # no object's name
        return None
    return found if isinstance(found, pygit2.Commit) else None


def _tags(repo: pygit2.Repository) -> dict[str, tuple[str, ...]]:
    """The tags of each commit."""
    found: dict[str, tuple[str, ...]] = {}
    for reference in repo.references.objects:
        if reference.name.startswith("refs/tags/"):
            try:
                commit = str(reference.peel(pygit2.Commit).id)
            except (pygit2.GitError, ValueError):
                continue  # a tag of a file or folder
            name = reference.name.removeprefix("refs/tags/")[:_NAME_MAX_CHARS]
            found[commit] = (*found.get(commit, ()), name)
    return found


def _changes(commit: pygit2.Commit, folder: str) -> bool:
    """Whether a commit has the folder otherwise than each of its parents."""
    mine = _entry(commit, folder)
    theirs = [_entry(parent, folder) for parent in commit.parents]
    return all(mine != other for other in theirs) and (mine is not None or bool(theirs))


def _entry(commit: pygit2.Commit, folder: str) -> pygit2.Oid | None:
    tree = commit.tree
    if not folder:
        return tree.id
    try:
        return (tree / folder).id
    except (KeyError, TypeError):
        return None


def _told(commit: pygit2.Commit, tags: tuple[str, ...]) -> Commit:
    author = commit.author
    return Commit(
        str(commit.id),
        _decoded(author.raw_name)[:_NAME_MAX_CHARS],
        author.time * 1000,
        _decoded(commit.raw_message).strip()[:_MESSAGE_MAX_CHARS],
        tags,
    )


def _decoded(raw: bytes | None) -> str:
    return (raw or b"").decode(errors="replace")
