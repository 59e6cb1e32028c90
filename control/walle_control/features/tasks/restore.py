"""Finds the imported versions in the published files, for a database that is made anew. Blocks."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from walle_control.db.store import Store
from walle_control.features.tasks.simulation import result_of
from walle_control.features.tasks.types import Simulation, VersionRow
from walle_control.features.trust.types import ApprovedBundle
from walle_shared.errors import NotFound, WalleError
from walle_shared.limits import MANIFEST_MAX_BYTES
from walle_shared.manifest import Manifest, check_manifest
from walle_shared.protocol.codec import decode
from walle_shared.signing import file_ref
from walle_shared.trust.roles import bundle_path
from walle_shared.trust.simulated import SimulationRecord


def find_versions(store: Store) -> tuple[list[VersionRow], tuple[str, ...]]:
    """Every version whose manifest and files are whole, oldest first, and what was left out, with why."""
    found: dict[tuple[str, str, str], VersionRow] = {}
    left_out: list[str] = []
    paths = sorted(
        (store.files.root / "manifest").iterdir(), key=lambda path: (path.stat().st_mtime_ns, path.name)
    )
    for path in paths:
        try:
            row = _read(store, path)
        except WalleError as error:
            left_out.append(f"manifest {path.name[:12]}: {error.message}")
            continue
        known = found.setdefault((row.scenario, row.task, row.version), row)
        if known is not row:
            left_out.append(f"manifest {path.name[:12]}: {row.task} {row.version} has an older one")
    return list(found.values()), tuple(left_out)


def find_simulations(
    store: Store, versions: Iterable[VersionRow], approved: Iterable[ApprovedBundle]
) -> list[Simulation]:
    """How the simulations of versions ended, by the records that their approvals name."""
    marks = {bundle.path: bundle.simulation for bundle in approved}
    found = []
    for row in versions:
        mark = marks.get(bundle_path(row.scenario, row.task, row.version))
        if mark is None:
            continue
        with suppress(WalleError):  # a record that is not whole tells nothing: it is to be simulated again
            record = decode(SimulationRecord, store.files.read("blob", mark.record))
            if record.manifest == row.manifest.sha256:
                result = result_of(record)
                found.append(Simulation(row.scenario, row.task, row.version, row.imported_ms, 0.0, result))
    return found


def _read(store: Store, path: Path) -> VersionRow:
    data = path.read_bytes()
    ref = file_ref(data)
    if ref.sha256 != path.name:
        raise NotFound("is not what its name says: import its version again")
    manifest = check_manifest(decode(Manifest, data, limit_bytes=MANIFEST_MAX_BYTES))
    for file in manifest.files:
        if store.files.path("blob", file.sha256).stat().st_size != file.size_bytes:
            raise NotFound(f"blob {file.sha256[:12]} of {file.path} is not whole: import its version again")
    head = manifest.definition.task
    return VersionRow(
        head.scenario,
        head.name,
        manifest.version,
        manifest.source,
        ref,
        len(manifest.files),
        sum(file.size_bytes for file in manifest.files),
        path.stat().st_mtime_ns // 1_000_000,
    )
