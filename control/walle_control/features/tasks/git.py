"""Reads a task's folder from a git repository at a tag; never from the work tree. Blocks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pygit2
from pygit2.enums import FileMode

from walle_control.config import ImportConfig
from walle_control.features.tasks.types import TaskSource
from walle_shared.errors import ConfigError, NotAllowed, NotFound, TaskError
from walle_shared.limits import MANIFEST_MAX_FILES
from walle_shared.manifest import SIMULATIONS_FOLDER, check_bundle_path, is_shipped

#: Folders of a task may be nested this deep.
_DEPTH_MAX = 16


def read_tag(repository: Path, tag: str, folder: str, limits: ImportConfig) -> TaskSource:
    """Read every file of ``folder`` at ``tag``.

    Raises:
        ConfigError: the repository cannot be opened.
        NotFound: no such tag or folder.
        TaskError: a link, submodule, illegal path, or too many or too large files; names the path.
    """
    try:
        repo = pygit2.Repository(str(repository))
    except (pygit2.GitError, ValueError) as error:
        raise ConfigError(
            f"{repository}: not a git repository the server can read ({error}): name its folder, or let"
            " the server read it"
        ) from None
    try:
        commit = _commit_of(repo, repository, tag)
        tree = _folder_of(commit, tag, folder)
        where = f"{folder} at tag {tag}"
        files = _read_files(tree, where, limits)
        return TaskSource(str(commit.id), tag, files, _read_simulations(tree, where, limits))
    finally:
        repo.free()


def check_root(repository: Path, limits: ImportConfig) -> None:
    """Refuse a path outside the folders that repositories may lie in.

    Raises:
        NotAllowed: saying which those are.
    """
    resolved = repository.resolve()
    roots = [Path(root).resolve() for root in limits.repository_roots]
    if roots and not any(resolved.is_relative_to(root) for root in roots):
        raise NotAllowed(
            f"{repository}: lies outside tasks.repository_roots ({', '.join(map(str, roots))}) of the"
            " server: put it there, or add its folder"
        )


def _commit_of(repo: pygit2.Repository, repository: Path, tag: str) -> pygit2.Commit:
    try:
        target = repo.lookup_reference(f"refs/tags/{tag}").peel(pygit2.Commit)
    except (KeyError, pygit2.GitError, ValueError):
        raise NotFound(f"{repository}: has no tag {tag!r}; make it with 'git tag {tag}'") from None
    return target


def _folder_of(commit: pygit2.Commit, tag: str, folder: str) -> pygit2.Tree:
    check_bundle_path(folder)
    try:
        found = commit.tree / folder
    except (KeyError, TypeError):
        found = None
    if not isinstance(found, pygit2.Tree):
        raise NotFound(f"tag {tag!r} has no folder {folder!r}: name the task's with --folder")
    return found


def _read_files(tree: pygit2.Tree, where: str, limits: ImportConfig) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    total_bytes = 0
    for path, blob in _walk(tree, "", where):
        if blob.size > limits.max_file_bytes:
            raise TaskError(
                f"{where}: {path} has {blob.size} bytes, at most {limits.max_file_bytes} are allowed"
            )
        total_bytes += blob.size
        if total_bytes > limits.max_bundle_bytes:
            raise TaskError(f"{where}: with {path} the task has over {limits.max_bundle_bytes} bytes in all")
        if len(files) >= MANIFEST_MAX_FILES:
            raise TaskError(f"{where}: with {path} the task has over {MANIFEST_MAX_FILES} files")
        files[path] = blob.data
    return files


def _read_simulations(tree: pygit2.Tree, where: str, limits: ImportConfig) -> dict[str, bytes]:
    """What stays in the repository, but must be passed before a release."""
    if SIMULATIONS_FOLDER not in tree or not isinstance(folder := tree[SIMULATIONS_FOLDER], pygit2.Tree):
        return {}
    files = _read_files(folder, f"{where}: {SIMULATIONS_FOLDER}", limits)
    return {f"{SIMULATIONS_FOLDER}/{path}": data for path, data in files.items()}


def _walk(tree: pygit2.Tree, prefix: str, where: str) -> Iterator[tuple[str, pygit2.Blob]]:
    if prefix.count("/") > _DEPTH_MAX:
        raise TaskError(f"{where}: {prefix} is nested deeper than {_DEPTH_MAX} folders")
    for entry in tree:
        path = f"{prefix}{entry.name}"
        if not is_shipped(path):
            continue
        if entry.filemode == FileMode.LINK:
            raise TaskError(f"{where}: {path} is a symbolic link; put the file itself there")
        if entry.filemode == FileMode.COMMIT:
            raise TaskError(f"{where}: {path} is a submodule; put the files themselves there")
        if isinstance(entry, pygit2.Tree):
            yield from _walk(entry, f"{path}/", where)
        elif isinstance(entry, pygit2.Blob):
            try:
                check_bundle_path(path)
            except ConfigError as error:
                raise TaskError(f"{where}: {error}") from None
            yield path, entry
