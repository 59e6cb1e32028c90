"""Bare mirrors of repositories, fetched by the system's git in an environment that trusts nothing.

Rules:

1. git runs without the settings of user and system, without hooks, prompts, helpers, and speaks http, https
   and files only. It is killed, with its children, when it takes too long or brings too much.
2. A password travels in the environment of that one process, bound to that one remote: not in arguments, URLs
   or settings. Redirects are refused, since they would carry it elsewhere.
3. Every object is checked as it comes in; a fetch that fails leaves the mirror as it was.
4. Nothing is ever checked out; files are read from the object store (``tasks.git``).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pygit2
import trio

from walle_control.config import GitConfig
from walle_control.features.repositories.credentials import Credential
from walle_control.features.repositories.types import Repository
from walle_shared.errors import ConfigError, ConnectionLost, LimitExceeded, PeerTimeout, StorageError
from walle_shared.protocol.codec import canonical, decode

#: The definition of a repository, beside its objects.
DEFINITION_FILE: Final = "walle.json"

_LOOK_S = 0.25
_WORDS_MAX = 500

#: What git is told besides; ``http.<url>.extraHeader`` joins it where there is a password.
_SETTINGS: Final = {
    "core.hooksPath": "/dev/null",
    "core.askPass": "",
    "credential.helper": "",
    "http.followRedirects": "false",
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "30",
    "fetch.fsckObjects": "true",
    "fetch.unpackLimit": "1",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "transfer.bundleURI": "false",
}
#: What it keeps of our own environment: the way out, and whom to trust there.
_KEPT: Final = (
    "PATH", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE",
    "SSL_CERT_DIR", "GIT_SSL_CAINFO",
)  # fmt: skip


def mirror_path(root: Path, name: str) -> Path:
    """Where the mirror of a repository lies."""
    return root / f"{name}.git"


def check_url(url: str) -> str:
    """Return a remote that may be fetched from.

    Raises:
        ConfigError: another protocol, a password in it, or no remote at all.
    """
    parts = urlsplit(url)
    if not url.isprintable() or " " in url or len(url) > 1_000:
        raise ConfigError("a repository's URL has at most 1000 printable characters and no spaces")
    if parts.username or parts.password or "@" in parts.netloc:
        raise ConfigError(
            "a repository's URL must not hold a name or password: use a credential, by its name"
        )
    is_path = url.startswith("/")
    is_file = parts.scheme == "file" and not parts.netloc and parts.path.startswith("/")
    is_web = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query
    if not (is_path or is_file or is_web):
        raise ConfigError(f"repository {url[:200]!r} must be an http(s) URL, a file URL or an absolute path")
    return url


def local_path(url: str) -> Path | None:
    """The folder of a remote on this disk; None for one elsewhere."""
    if url.startswith("/"):
        return Path(url)
    parts = urlsplit(url)
    return Path(parts.path) if parts.scheme == "file" else None


class Mirrors:
    """The mirrors below one folder.

    Args:
        root: the folder.
        config: limits.
    """

    def __init__(self, root: Path, config: GitConfig) -> None:
        self.root = root
        self._config = config

    def define(self, what: Repository) -> None:
        """Make an empty mirror that remembers what it mirrors. Blocks.

        Raises:
            StorageError: the disk refused.
        """
        path = mirror_path(self.root, what.name)
        try:
            self.root.mkdir(mode=0o700, exist_ok=True)
            pygit2.init_repository(str(path), bare=True)
            (path / DEFINITION_FILE).write_bytes(canonical(what))
        except (OSError, pygit2.GitError) as error:
            raise StorageError(f"{path}: cannot be made: {error}") from None

    def defined(self) -> list[Repository]:
        """What all mirrors here mirror. Blocks."""
        return [
            decode(Repository, path.read_bytes())
            for path in sorted(self.root.glob(f"*.git/{DEFINITION_FILE}"))
        ]

    def remove(self, name: str) -> None:
        """Delete a mirror. Blocks."""
        shutil.rmtree(mirror_path(self.root, name), ignore_errors=True)

    def tags(self, name: str) -> dict[str, str]:
        """Every tag with the commit it names. Blocks."""
        repo = pygit2.Repository(str(mirror_path(self.root, name)))
        found: dict[str, str] = {}
        for reference in repo.references.objects:
            if reference.name.startswith("refs/tags/"):
                try:
                    commit = reference.peel(pygit2.Commit)
                except (pygit2.GitError, ValueError):
                    continue  # a tag of a file or folder
                found[reference.name.removeprefix("refs/tags/")] = str(commit.id)
        repo.free()
        return found

    async def fetch(self, what: Repository, credential: Credential | None) -> None:
        """Bring a mirror up to date.

        Raises:
            ConnectionLost: the remote refused or cannot be reached; in git's words.
            PeerTimeout: it took longer than ``git.timeout_s``.
            ConfigError: there is no git here.
            LimitExceeded: the mirror grew beyond ``git.max_bytes``.
        """
        if shutil.which(self._config.program) is None:
            raise ConfigError(f"git.program {self._config.program!r} is not here: install git, or name it")
        path = mirror_path(self.root, what.name)
        command = [
            self._config.program, "--git-dir", str(path), "fetch", "--quiet", "--prune", "--no-tags",
            "--no-recurse-submodules", "--no-write-fetch-head", "--atomic", "--", what.url,
            "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*",
        ]  # fmt: skip
        error = await self._run(command, _environment(what.url, credential), path)
        if error:
            raise ConnectionLost(f"repository {what.name}: {error}")

    async def _run(self, command: list[str], environment: Mapping[str, str], path: Path) -> str:
        """Run git within its limits; what it complained of, or nothing."""
        outgrown = False
        done: subprocess.CompletedProcess[bytes] | None = None
        with trio.move_on_after(self._config.timeout_s):
            async with trio.open_nursery() as nursery:

                async def watch() -> None:
                    nonlocal outgrown
                    while True:
                        await trio.sleep(_LOOK_S)
                        if await trio.to_thread.run_sync(_size_bytes, path) > self._config.max_bytes:
                            outgrown = True
                            nursery.cancel_scope.cancel()

                nursery.start_soon(watch)
                done = await _run_group(command, environment)
                nursery.cancel_scope.cancel()
        if done is None or done.returncode:
            await trio.to_thread.run_sync(_sweep, path)
        if outgrown or await trio.to_thread.run_sync(_size_bytes, path) > self._config.max_bytes:
            raise LimitExceeded(f"{path.name}: has over {self._config.max_bytes} bytes (git.max_bytes)")
        if done is None:
            raise PeerTimeout(
                f"{path.name}: git took longer than {self._config.timeout_s:g} s (git.timeout_s)"
            )
        words = done.stderr.decode(errors="replace").strip()[-_WORDS_MAX:]
        return (words or f"git ended with {done.returncode}") if done.returncode else ""


async def _run_group(
    command: list[str], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[bytes]:
    """Run a program in a process group of its own, all of which is killed on cancellation."""
    return await trio.run_process(
        command,
        env=environment,
        stdin=b"",
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        start_new_session=True,
        deliver_cancel=_kill_group,
    )


async def _kill_group(process: trio.Process) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()


def _environment(url: str, credential: Credential | None) -> dict[str, str]:
    settings = dict(_SETTINGS)
    if credential is not None and url.startswith("http"):
        settings[f"http.{url}.extraHeader"] = f"Authorization: {credential.authorization}"
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environment |= {
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "GIT_ALLOW_PROTOCOL": "file:http:https",
        "GIT_CONFIG_COUNT": str(len(settings)),
    }
    for number, (key, value) in enumerate(settings.items()):
        environment |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return environment


def _size_bytes(path: Path) -> int:
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118  # thousands of them
            except FileNotFoundError:  # git is at work
                continue
    return total


def _sweep(path: Path) -> None:
    """Delete what an ended git has left half done."""
    for pattern in (
        "objects/pack/tmp_*",
        "objects/**/tmp_obj_*",
        "objects/incoming-*",
        "*.lock",
        "refs/**/*.lock",
    ):
        for left in path.glob(pattern):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
