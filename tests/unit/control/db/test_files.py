from __future__ import annotations

import pytest

from walle_control.db.files import FileStore
from walle_shared.errors import ConfigError, LengthOrHashError, NotFound, StorageError
from walle_shared.protocol.messages import FileRef
from walle_shared.signing import file_ref


@pytest.fixture
def files(tmp_path):
    return FileStore(tmp_path / "static")


def test_put_and_read(files):
    ref = files.put("blob", b"hello")
    assert (ref, files.read("blob", ref)) == (file_ref(b"hello"), b"hello")
    assert files.put("blob", b"hello") == ref
    assert [path.name for path in (files.root / "blob").iterdir()] == [ref.sha256]
    assert list(files.check()) == [(f"blob/{ref.sha256}", True)]


def test_put_refuses_what_was_not_promised(files):
    with pytest.raises(LengthOrHashError):
        files.put("blob", b"hello", FileRef(file_ref(b"other").sha256, 5))


def test_damage_is_found_on_reading_and_mended_by_putting_again(files):
    ref = files.put("blob", b"hello")
    files.path("blob", ref.sha256).write_bytes(b"torn")
    with pytest.raises(LengthOrHashError):
        files.read("blob", ref)
    assert list(files.check()) == [(f"blob/{ref.sha256}", False)]
    files.put("blob", b"hello")
    assert files.read("blob", ref) == b"hello"


@pytest.mark.parametrize(("kind", "name"), [("blob", "0" * 64), ("keys", "0" * 64)])
def test_unknown_files_are_not_found(files, kind, name):
    with pytest.raises(NotFound):
        files.path(kind, name)


def test_names_that_are_no_digests_are_refused(files):
    with pytest.raises(ConfigError):
        files.path("blob", "../../control.db")


def test_a_folder_that_cannot_be_written_is_named(files, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkstemp", full)
    with pytest.raises(StorageError, match="No space left"):
        files.put("blob", b"hello")
