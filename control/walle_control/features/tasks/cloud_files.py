"""The files of cloud halves: kept by digest, apart from those that devices may fetch, and unpacked to be run.

A version's signed manifest names the list of its cloud half's files by digest, so what answers is what was
approved. Blocks.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from walle_control.db.files import FileStore
from walle_control.db.store import Store
from walle_shared.errors import NotFound, StorageError
from walle_shared.ids import Sha256
from walle_shared.limits import MANIFEST_MAX_BYTES
from walle_shared.manifest import BundleFile, CloudBundle, Manifest, check_bundle_path
from walle_shared.protocol.codec import decode
from walle_shared.protocol.messages import FileRef


class CloudFiles:
    """Keeps and unpacks cloud halves."""

    def __init__(self, data: Store) -> None:
        self._public = data.files
        self._own = FileStore(data.home.cloud)
        self._unpacked = data.home.unpacked

    def keep(self, listed: bytes, files: Mapping[str, bytes]) -> None:
        """Store the files of a cloud half and the list of them; nothing for a version that has none.

        Raises:
            StorageError: they cannot be written.
        """
        for data in files.values():
            self._own.put("blob", data)
        if listed:
            self._own.put("manifest", listed)

    def read(self, manifest: Manifest) -> dict[str, bytes]:
        """What the cloud half has besides the files that devices get, by path.

        Raises:
            NotFound: a file is not here.
            LengthOrHashError: one was damaged.
        """
        if manifest.cloud is None:
            return {}
        ref = FileRef(manifest.cloud.sha256, manifest.cloud.size_bytes)
        listed = decode(CloudBundle, self._own.read("manifest", ref), limit_bytes=MANIFEST_MAX_BYTES)
        return _read(self._own, listed.files)

    def unpack(self, manifest: Manifest, sha256: Sha256) -> Path:
        """A folder with all files of the cloud half, those of the device's half included.

        Args:
            manifest: the version's.
            sha256: its digest, which names the folder.

        Raises:
            NotFound: the version has no cloud half, or a file is not here.
            LengthOrHashError: one was damaged.
            StorageError: the folder cannot be written.
        """
        if manifest.cloud is None:
            raise NotFound(f"version {manifest.version} has no cloud half: add [cloud] to its task.toml")
        place = self._unpacked / manifest.definition.task.scenario / sha256
        if not place.is_dir():
            _write_folder(place, {**_read(self._public, manifest.files), **self.read(manifest)})
        return place


def _read(store: FileStore, files: Iterable[BundleFile]) -> dict[str, bytes]:
    return {file.path: store.read("blob", FileRef(file.sha256, file.size_bytes)) for file in files}


def _write_folder(place: Path, files: Mapping[str, bytes]) -> None:
    """Write all files, or nothing: workers that do the same at the same time do no harm."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent.parent, prefix=".new-") as folder:
            root = Path(folder) / "files"
            for path, data in files.items():
                target = root / check_bundle_path(path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
            try:
                root.rename(place)
            except OSError:
                if not place.is_dir():  # else another worker was first
                    raise
    except OSError as error:
        raise StorageError(f"{place}: cannot be written: {error}") from None
