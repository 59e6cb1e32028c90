from __future__ import annotations

import os
from pathlib import Path

import pytest

from walle_agent.state import files
from walle_agent.state.store import (
    DeviceState,
    Identity,
    SlotContent,
    StateStore,
    TaskRecord,
    read_only,
)
from walle_shared.errors import StorageError
from walle_shared.ids import DeviceId, ReleaseId, ScenarioName, Sha256, TaskName, TaskVersion

RECORD = TaskRecord(
    ScenarioName("demo"),
    TaskName("reader"),
    SlotContent("proven", ReleaseId("r1"), TaskVersion("1.0"), Sha256("a" * 64)),
    SlotContent("ready", ReleaseId("r0"), TaskVersion("0.9"), Sha256("b" * 64)),
)


def open_store(folder: Path) -> tuple[StateStore, list[StorageError]]:
    corrupt: list[StorageError] = []
    return StateStore(folder, on_corrupt=corrupt.append), corrupt


def test_what_is_saved_is_there_after_a_restart(tmp_path: Path) -> None:
    store, _ = open_store(tmp_path)
    store.save_identity(Identity("ab" * 32, DeviceId("d1"), "secret", 5))
    store.save(DeviceState(epoch=7, tasks=(RECORD,)))
    again, corrupt = open_store(tmp_path)
    assert (again.identity, again.state, corrupt) == (store.identity, store.state, [])
    assert read_only(tmp_path) == (store.identity, store.state)


def test_the_key_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    store, _ = open_store(tmp_path / "data")
    store.save_identity(Identity("ab" * 32))
    store.save_identity(Identity("ab" * 32, DeviceId("d1")))
    for path in (tmp_path / "data").glob("identity.json*"):
        assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"sha256":"00","content":{}}', b"\xff" * 100])
def test_a_corrupt_file_is_set_aside_and_the_last_good_copy_used(tmp_path: Path, damage: bytes) -> None:
    store, _ = open_store(tmp_path)
    store.save(DeviceState(epoch=7))
    store.save(DeviceState(epoch=8))
    (tmp_path / "state.json").write_bytes(damage)
    again, corrupt = open_store(tmp_path)
    assert again.state.epoch == 7
    assert "state.json" in corrupt[0].message
    assert (tmp_path / "state.json.corrupt-1").read_bytes() == damage
    again.save(DeviceState(epoch=9))
    assert open_store(tmp_path)[0].state.epoch == 9


def test_without_any_good_copy_the_device_starts_afresh(tmp_path: Path) -> None:
    for name in ("state.json", "state.json.previous", "identity.json"):
        (tmp_path / name).write_text("rubbish")
    store, corrupt = open_store(tmp_path)
    assert (store.state, store.identity) == (DeviceState(), None)
    assert len(corrupt) == 3
    assert open_store(tmp_path)[1] == []  # set aside once, not complained about for ever


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    store, _ = open_store(tmp_path)
    store.save(DeviceState(epoch=7))
    path = tmp_path / "state.json"
    path.write_bytes(path.read_bytes().replace(b'"epoch":7', b'"epoch":1'))
    again, corrupt = open_store(tmp_path)
    assert again.state.epoch == 0
    assert "digest" in corrupt[0].message


def test_a_full_disk_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = open_store(tmp_path)
    store.save(DeviceState(epoch=7))

    def refuse(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(StorageError, match="No space left"):
            store.save(DeviceState(epoch=8))
    assert store.state.epoch == 7
    assert open_store(tmp_path)[0].state.epoch == 7


def test_a_torn_temporary_file_does_not_matter(tmp_path: Path) -> None:
    store, _ = open_store(tmp_path)
    store.save(DeviceState(epoch=7))
    (tmp_path / "state.json.new").write_bytes(b'{"sha')
    assert open_store(tmp_path)[0].state.epoch == 7


def test_records_name_their_active_slot_and_what_they_hold() -> None:
    assert RECORD.active == "a"
    assert RECORD.holding(Sha256("b" * 64)) == "b"
    assert RECORD.holding(Sha256("c" * 64)) is None
    state = DeviceState().with_record(RECORD)
    assert state.record(RECORD.key) == RECORD
    assert state.with_record(TaskRecord(*RECORD.key)).tasks == ()


def test_setting_aside_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "x"
    names = []
    for _ in range(3):
        path.write_text("bad")
        names.append(files.set_aside(path).name)
    assert names == ["x.corrupt-1", "x.corrupt-2", "x.corrupt-3"]
