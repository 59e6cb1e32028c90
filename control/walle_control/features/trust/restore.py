"""Reads the published trust metadata, for a database that is made anew. Blocks."""

from __future__ import annotations

from walle_control.db.files import METADATA_FOLDER, FileStore
from walle_control.features.trust.repository import read_metadata
from walle_shared.errors import NotFound
from walle_shared.trust.roles import TIMESTAMP, file_name


def read_published(files: FileStore) -> list[tuple[str, int, bytes]]:
    """Role, version and bytes of everything that is published, oldest first.

    Raises:
        NotFound: nothing is; devices would not believe a control plane that begins anew.
        ConfigError: a file is no metadata.
    """
    folder = files.root / METADATA_FOLDER
    newest = folder / file_name(TIMESTAMP, 0)
    if not newest.exists():
        raise NotFound(f"{newest} is missing: without the trust metadata, devices must be enrolled anew")
    found = [(TIMESTAMP, _version(newest.read_bytes()), newest.read_bytes())]
    for path in folder.glob("[0-9]*.*.json"):
        version, _, role = path.name.removesuffix(".json").partition(".")
        found.append((role, int(version), path.read_bytes()))
    return sorted(found, key=lambda entry: (entry[1], entry[0]))


def _version(data: bytes) -> int:
    version: int = read_metadata(data).signed.version
    return version
