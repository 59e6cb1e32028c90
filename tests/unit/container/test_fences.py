"""The kernel's fences by themselves, each on a thread of its own: a fence never comes down again."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from walle_container import _fence, fences, locate

needs_landlock = pytest.mark.skipif(_fence.landlock_abi() == 0, reason="this kernel has no Landlock")
needs_seccomp = pytest.mark.skipif(not _fence.has_seccomp(), reason="this kernel has no seccomp")


def fenced(fence: Callable[[], None], *deeds: Callable[[], Any]) -> list[Any]:
    """What each deed gives, or the class it raises, on a fresh thread behind ``fence``."""
    found: list[Any] = []

    def live() -> None:
        fence()
        for deed in deeds:
            try:
                found.append(deed())
            except OSError as error:
                found.append(type(error))

    thread = threading.Thread(target=live)
    thread.start()
    thread.join()
    return found


def test_what_there_is_is_found():
    expected = {"landlock": _fence.landlock_abi() > 0, "seccomp": _fence.has_seccomp()}
    assert fences.find_fences() == tuple(name for name, is_there in expected.items() if is_there)


@needs_landlock
def test_only_what_is_readable_can_be_read_and_nothing_written(tmp_path: Path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "file").write_text("text")
    readable = [str(inside), str(tmp_path / "missing"), str(outside / "file" / "below a file")]
    assert fenced(
        lambda: _fence.restrict_files(readable),
        lambda: (inside / "file").read_text(),
        lambda: sorted(os.listdir(inside)),  # noqa: PTH208  # the call that is meant
        lambda: (outside / "file").read_text(),
        lambda: os.listdir(outside),  # noqa: PTH208  # the call that is meant
        lambda: (inside / "file").write_text("other"),
        lambda: (inside / "new").write_text("new"),
        lambda: (inside / "folder").mkdir(),
        lambda: (inside / "file").unlink(),
        lambda: os.posix_spawn("/bin/true", ["true"], {}),
    ) == ["text", ["file"], *[PermissionError] * 7]
    assert (inside / "file").read_text() == "text"
    (inside / "new").write_text("this thread is not fenced")


@needs_landlock
def test_one_file_may_be_readable(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    assert fenced(
        lambda: _fence.restrict_files([str(tmp_path / "a")]),
        lambda: (tmp_path / "a").read_text(),
        lambda: (tmp_path / "b").read_text(),
    ) == ["a", PermissionError]


@needs_landlock
def test_a_thread_started_behind_a_fence_is_behind_it(tmp_path: Path):
    (tmp_path / "file").write_text("text")
    inner: list[Any] = []
    fenced(
        lambda: _fence.restrict_files([]),
        lambda: inner.extend(fenced(lambda: None, lambda: (tmp_path / "file").read_text())),
    )
    assert inner == [PermissionError]


REFUSED: dict[str, Callable[[], Any]] = {
    "socket": lambda: socket.socket(),
    "socket pair": lambda: socket.socketpair(),
    "pipe": lambda: os.pipe(),
    "fork": lambda: os.fork(),
    "spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "kill": lambda: os.kill(os.getpid(), 0),
    "kill another": lambda: os.kill(os.getppid(), 0),
    "raise": lambda: signal.raise_signal(signal.SIGUSR1),
    "thread kill": lambda: signal.pthread_kill(threading.get_ident(), 0),
    "chdir": lambda: os.chdir("/"),
    "unlink": lambda: os.unlink("/nowhere"),  # noqa: PTH108  # the call that is meant
    "mkdir": lambda: os.mkdir("/nowhere"),  # noqa: PTH102  # the call that is meant
    "chmod": lambda: os.chmod("/nowhere", 0o777),  # noqa: PTH101  # the call that is meant
    "nice": lambda: os.nice(0),
    "affinity": lambda: os.sched_setaffinity(0, os.sched_getaffinity(0)),
    "chroot": lambda: os.chroot("/"),
    "setuid": lambda: os.setuid(os.getuid()),
    "unshare": lambda: os.unshare(os.CLONE_NEWNET),
}


@needs_seccomp
def test_system_calls_that_a_run_does_not_need_are_refused():
    answers = fenced(_fence.restrict_syscalls, *REFUSED.values())
    refused = dict(zip(REFUSED, answers, strict=True))
    assert refused == dict.fromkeys(REFUSED, PermissionError)


@needs_seccomp
def test_limits_may_be_asked_but_not_set():
    core = resource.RLIMIT_CORE
    before = resource.getrlimit(core)

    def lower() -> str:
        try:
            resource.setrlimit(core, (0, 0))
        except (ValueError, OSError):  # EPERM is a ValueError there
            return "refused"
        return "set"

    assert fenced(_fence.restrict_syscalls, lambda: resource.getrlimit(core), lower) == [before, "refused"]


@needs_seccomp
def test_what_a_run_needs_still_works(tmp_path: Path):
    (tmp_path / "file").write_text("text")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert fenced(
            _fence.restrict_syscalls,
            lambda: (tmp_path / "file").read_text(),
            lambda: sorted(os.listdir(tmp_path)),  # noqa: PTH208  # the call that is meant
            lambda: theirs.send(b"x"),
            lambda: time.sleep(0.001),
            lambda: len(bytearray(50 << 20)),
            lambda: len(os.urandom(8)),
            lambda: fenced(lambda: None, lambda: "a thread"),
        ) == ["text", ["file"], 1, None, 50 << 20, 8, ["a thread"]]


@needs_seccomp
def test_an_alarm_is_never_armed():
    fenced(_fence.restrict_syscalls, lambda: signal.alarm(60))
    assert signal.alarm(0) == 0


def test_wrong_arguments_are_type_errors():
    with pytest.raises(TypeError):
        _fence.restrict_files(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        _fence.restrict_files([3])  # type: ignore[list-item]


def test_the_library_is_absolute_folders_with_the_packages_among_them():
    locations = json.loads(locate.find_locations())
    library = fences.find_library(locations)
    assert all(path.startswith("/") for path in library)
    assert {os.path.dirname(json.__file__).rpartition("/")[0]} <= set(library)  # noqa: PTH120
    for path in locations["extensions"].values():
        assert str(Path(path).parent) in library
    assert "/" not in library
    assert "/etc" not in library
