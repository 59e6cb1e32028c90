"""The folder in which the app leaves files for tasks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from walle_agent.config import InboxSection
from walle_agent.tasks.inbox import Inbox
from walle_shared.clock import FixedClock
from walle_shared.errors import LimitExceeded, NotFound, RemoteProtocolError, StorageError, TaskError
from walle_shared.limits import INBOX_FILE_MAX_BYTES
from walle_task import inbox as task_inbox
from walle_task.testing import fake_host

NOW_MS = 1_000_000_000


def make_inbox(folder: Path, *, keep_s: float = 60, max_bytes: int = 1_000) -> Inbox:
    made = Inbox(folder / "inbox", InboxSection(keep_s=keep_s, max_bytes=max_bytes), FixedClock(NOW_MS, 1))
    made.open()
    return made


def leave(inbox: Inbox, name: str, size: int, age_s: float) -> Path:
    path = inbox.folder / name
    path.write_bytes(bytes(size))
    os.utime(path, (NOW_MS / 1e3 - age_s,) * 2)
    return path


async def test_a_file_is_read_by_its_name(tmp_path: Path) -> None:
    inbox = make_inbox(tmp_path)
    (inbox.folder / "a-1.jpg").write_bytes(b"pixels")
    assert inbox.folder.stat().st_mode & 0o777 == 0o700
    assert await inbox.answer({"name": "a-1.jpg"}) == b"pixels"
    with pytest.raises(RemoteProtocolError):
        await inbox.answer({"name": 7})


@pytest.mark.parametrize("name", ["", ".hidden", "../secret", "a/b", "/etc/passwd", "a\0b", "x" * 129, "a\n"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("no")
    with pytest.raises(TaskError):
        make_inbox(tmp_path).read(name)


def test_only_files_are_read_and_links_pipes_and_folders_are_not(tmp_path: Path) -> None:
    inbox = make_inbox(tmp_path)
    (tmp_path / "secret").write_text("no")
    (inbox.folder / "link").symlink_to(tmp_path / "secret")
    (inbox.folder / "folder").mkdir()
    os.mkfifo(inbox.folder / "pipe")
    for name in ("link", "folder", "pipe", "nothing"):
        with pytest.raises((NotFound, StorageError)):
            inbox.read(name)


def test_what_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    inbox = make_inbox(tmp_path)
    with (inbox.folder / "large").open("wb") as file:
        file.truncate(INBOX_FILE_MAX_BYTES + 1)
    with pytest.raises(LimitExceeded, match="limit"):
        inbox.read("large")


def test_old_files_go_and_then_the_oldest_of_too_many(tmp_path: Path) -> None:
    inbox = make_inbox(tmp_path)
    leave(inbox, "old", 10, 61)
    leave(inbox, "first", 600, 30)
    leave(inbox, "second", 600, 20)
    leave(inbox, "third", 300, 10)
    leave(inbox, ".being-written", 5_000, 99)
    assert inbox.sweep() == 2
    assert sorted(path.name for path in inbox.folder.iterdir()) == [".being-written", "second", "third"]
    assert inbox.sweep() == 0


def test_reading_sweeps_now_and_then(tmp_path: Path) -> None:
    clock = FixedClock(NOW_MS, 1)
    inbox = Inbox(tmp_path, InboxSection(keep_s=60), clock)
    leave(inbox, "kept", 1, 0)
    old = leave(inbox, "old", 1, 61)
    inbox.read("kept")
    assert not old.exists()
    again = leave(inbox, "old", 1, 61)
    inbox.read("kept")
    assert again.exists()  # not with every read


def test_an_authors_folder_is_never_swept(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, None, FixedClock(NOW_MS, 1))
    leave(inbox, "old", 1, 10**6)
    assert inbox.read("old") == bytes(1)
    assert inbox.sweep() == 0


def test_a_task_reads_what_the_fake_host_was_given() -> None:
    with fake_host(inbox={"frame.jpg": b"pixels"}):
        assert bytes(task_inbox.read("frame.jpg")) == b"pixels"
        with pytest.raises(NotFound, match="inbox="):
            task_inbox.read("other.jpg")
