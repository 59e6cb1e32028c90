"""Imports task versions: read the tag, check, convert, store the blobs, approve the manifest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path

import trio

from walle_control.config import ControlConfig
from walle_control.db.sql import Connection
from walle_control.db.store import Store
from walle_control.features.audit import log as audit
from walle_control.features.repositories import read_model as repositories
from walle_control.features.repositories.types import Source
from walle_control.features.tasks import bundle, git, store
from walle_control.features.tasks.changes import Comparison, compare_files
from walle_control.features.tasks.cloud_files import CloudFiles
from walle_control.features.tasks.deltas import DeltaMaker
from walle_control.features.tasks.large_files import LargeFiles
from walle_control.features.tasks.simulation import pack, record_of, simulate_with_agent, unpack
from walle_control.features.tasks.types import (
    ImportRequest,
    ImportResult,
    ModelConverter,
    Simulate,
    Simulation,
    TaskSource,
    VersionDetail,
    VersionList,
    VersionRow,
)
from walle_control.features.trust.book import TrustBook
from walle_control.features.trust.types import VersionApproval
from walle_control.features.webhooks import outbox
from walle_shared.clock import Clock
from walle_shared.deltas import Delta, DeltaList
from walle_shared.errors import ConfigError, Conflict, LimitExceeded, NotAllowed, NotFound
from walle_shared.ids import TaskVersion, check_name, check_version
from walle_shared.limits import DELTAS_MAX_BYTES, MANIFEST_MAX_BYTES
from walle_shared.manifest import BundleFile, ColumnType, Manifest
from walle_shared.protocol.codec import canonical, decode
from walle_shared.protocol.messages import FileRef
from walle_shared.schema import EventSchema, parse_schema
from walle_shared.trust.roles import bundle_path
from walle_shared.trust.simulated import SimulationMark

#: Publishes the trust metadata once an approval is in the database.
PublishTrust = Callable[[], Awaitable[None]]


def convert_with_engine(onnx_path: Path, wmodel_path: Path) -> object:
    """Convert by the engine's own converter (loaded on first use: it brings NumPy and ONNX)."""
    from walle_engine.convert import convert  # see above

    return convert(onnx_path, wmodel_path)


class TasksService:
    """Knows the imported task versions."""

    def __init__(
        self,
        data: Store,
        clock: Clock,
        config: ControlConfig,
        trust: TrustBook,
        publish_trust: PublishTrust,
        convert: ModelConverter = convert_with_engine,
        simulate: Simulate = simulate_with_agent,
    ) -> None:
        self._data = data
        self._trust = trust
        self._publish_trust = publish_trust
        self._clock = clock
        self._config = config.tasks
        self._whole_config = config
        self._convert = convert
        self.deltas = DeltaMaker(data, self._files_of, config.tasks.delta_versions)
        self._simulate = simulate
        self.cloud = CloudFiles(data)
        self._uploads: dict[tuple[str, str, str], Mapping[str, Mapping[str, ColumnType]]] = {}
        self._one_import = trio.Lock()  # an import may hold a whole bundle in memory

    async def import_version(
        self, request: ImportRequest, actor: str, check_scenario: Callable[[str], None] | None = None
    ) -> ImportResult:
        """Import a version; doing so again with the same commit changes nothing.

        ``check_scenario`` refuses a scenario, which only the tag's ``task.toml`` names, by raising.

        Raises:
            ConfigError: a name, the repository or ``task.toml`` is wrong.
            NotFound: no such tag or folder.
            TaskError: the task's files are wrong.
            NotAllowed: what it sends may hold what must stay on devices.
            EngineError: a model cannot be converted.
            Conflict: the version exists and was built from another commit: tags must not move.
        """
        check_name(request.task, "task")
        version = TaskVersion(check_version(request.version))
        tag = request.tag or f"{request.task}/{request.version}"
        folder = request.folder or request.task
        place = await self._source(request.repository)
        async with self._one_import:
            source = await trio.to_thread.run_sync(self._read, place, tag, folder)
            scenario = bundle.definition_of(source, request.task).task.scenario
            _check_scenario(place, scenario)
            if check_scenario is not None:
                check_scenario(scenario)
            return await self._import_source(source, request.task, version, actor)

    async def _source(self, repository: str) -> Source:
        """Where an import reads: a mirror, by its name, or a folder on this disk."""
        path = Path(repository)
        if path.is_absolute():
            git.check_root(path, self._config)
            return Source(path, repository)
        if "/" in repository:
            raise ConfigError(
                f"repository {repository[:200]!r} must be a name, or an absolute path on the server"
            )
        root = self._data.home.repositories
        return await self._data.database.read(lambda db: repositories.source_of(db, root, repository))

    def _read(self, place: Source, tag: str, folder: str) -> TaskSource:
        source = git.read_tag(place.path, tag, folder, self._config)
        large = LargeFiles(self._data.files, self._whole_config, place)
        return replace(source, files=large.resolve(source.files, f"{folder} at tag {tag}"))

    async def list(self) -> VersionList:
        """All imported versions."""
        return VersionList(tuple(await self._data.database.read(store.list_versions)))

    async def show(self, scenario: str, task: str, version: str) -> VersionDetail:
        """One version with its definition and files.

        Raises:
            NotFound: it was not imported.
        """
        row = await self._data.database.read(lambda db: store.find_version(db, scenario, task, version))
        if row is None:
            raise NotFound(
                f"version {version} of task {scenario}/{task} was not imported; see 'walle-control task list'"
            )
        manifest = await trio.to_thread.run_sync(self._manifest, row)
        return VersionDetail(row, manifest.definition, manifest.files)

    def _manifest(self, row: VersionRow) -> Manifest:
        encoded = self._data.files.read("manifest", row.manifest)
        return decode(Manifest, encoded, limit_bytes=MANIFEST_MAX_BYTES)

    def _files_of(self, row: VersionRow) -> tuple[BundleFile, ...]:
        return self._manifest(row).files

    async def upload_fields(
        self, scenario: str, task: str, version: str, name: str
    ) -> Mapping[str, ColumnType] | None:
        """The fields that a version's manifest lets an upload have; None if it knows no such upload."""
        key = (scenario, task, version)
        if key not in self._uploads:
            try:
                detail = await self.show(*key)
            except NotFound:
                return None  # not remembered: it may be imported yet, and devices can make up any name
            self._uploads[key] = detail.definition.uploads
        return self._uploads[key].get(name)

    async def _import_source(
        self, source: TaskSource, task: str, version: TaskVersion, actor: str
    ) -> ImportResult:
        scenario = bundle.definition_of(source, task).task.scenario
        known = await self._data.database.read(lambda db: store.find_version(db, scenario, task, version))
        if known is not None:
            row = _same_commit(known, source)
            recordings = pack(source.simulations)

            def look(db: Connection) -> bool:
                if not store.recordings_of(db, scenario, task, version):  # lost with a database
                    store.save_recordings(db, row, recordings)
                return self._is_approved(db, row)

            return ImportResult(row, created=False, approved=await self._data.database.write(look))
        row, files = await trio.to_thread.run_sync(self._build, source, task, version)
        simulation = await self._play(row, files | dict(source.simulations))
        row = replace(row, state="ready" if simulation.result.passed else "draft")
        mark = await trio.to_thread.run_sync(self._mark, row, source.simulations, simulation)

        def job(db: Connection) -> bool:
            store.insert_version(db, row)
            store.save_simulation(db, simulation)
            store.save_recordings(db, row, pack(source.simulations))
            _note_simulation(db, simulation, mark, actor)
            detail = {"commit": row.source, "tag": source.tag, "manifest": row.manifest.sha256}
            subject = f"{row.scenario}/{row.task} {row.version}"
            audit.record(db, row.imported_ms, actor, "task.import", subject, detail)
            data = {"by": actor, "task": row.task, "version": row.version, **detail}
            outbox.emit(db, row.imported_ms, "task.import", row.scenario, subject, data)
            return self._approve(db, row, simulation, mark)

        approved = await self._data.database.write(job)
        await self._publish_trust()
        await self.deltas.make(row)
        return ImportResult(row, created=True, approved=approved, simulation=simulation)

    def _is_approved(self, db: Connection, row: VersionRow) -> bool:
        return self._trust.is_approved(db, _path(row), row.manifest)

    async def deltas_to(self, scenario: str, task: str, version: str) -> tuple[Delta, ...]:
        """The deltas by which devices can come to a version's files."""
        row = (await self.show(scenario, task, version)).version
        ref = await self._data.database.read(lambda db: store.find_deltas(db, row.manifest.sha256))
        if ref is None:
            return ()
        encoded = await trio.to_thread.run_sync(self._data.files.read, "delta", ref)
        return decode(DeltaList, encoded, limit_bytes=DELTAS_MAX_BYTES).deltas

    def _mark(
        self, row: VersionRow, simulations: Mapping[str, bytes], simulation: Simulation
    ) -> SimulationMark:
        """Publish the record of a simulation; what the approval is to say of it."""
        record = record_of(row.manifest, simulations, simulation.result)
        return SimulationMark(
            record.outcome, len(record.cells), self._data.files.put("blob", canonical(record))
        )

    def _approve(self, db: Connection, row: VersionRow, simulation: Simulation, mark: SimulationMark) -> bool:
        """Approve what passed, or what need not; whether devices will believe it.

        What was approved once stays so: a simulation that fails later takes nothing back from devices.
        """
        if simulation.result.passed or not self._config.require_simulation:
            return self._trust.approve(db, {_path(row): row.manifest}, {_path(row): mark})
        return self._is_approved(db, row)

    async def approval(self, scenario: str, task: str, version: str) -> VersionApproval:
        """Whether and how a version is approved: by whose keys, and until when.

        Raises:
            NotFound: it was not imported.
        """
        row = (await self.show(scenario, task, version)).version
        return VersionApproval(
            await self._data.database.read(lambda db: self._trust.approval_of(db, _path(row), row.manifest))
        )

    async def base_of(self, scenario: str, task: str, version: str, base: str = "") -> str:
        """The version that another is compared with: the one imported before it, unless named; empty: none.

        Raises:
            NotFound: it was not imported, or the named one was not.
        """
        if base:
            return (await self.show(scenario, task, base)).version.version
        await self.show(scenario, task, version)
        names = [
            row.version
            for row in await self._data.database.read(lambda db: store.versions_of(db, scenario, task))
        ]
        later = names.index(TaskVersion(version)) + 1
        return names[later] if later < len(names) else ""

    async def compare(self, scenario: str, task: str, version: str, base: str = "") -> Comparison:
        """What differs between the files of a version and those of another.

        Args:
            scenario: the task's.
            task: its name.
            version: the version.
            base: the other; empty: the one imported before it, or without one, nothing at all.

        Raises:
            NotFound: one of them was not imported.
        """
        name = await self.base_of(scenario, task, version, base)
        detail = await self.show(scenario, task, version)
        before = (await self.show(scenario, task, name)).files if name else ()

        def look() -> Comparison:
            changes, same = compare_files(before, detail.files, self._content)
            return Comparison(name, version, changes, same)

        return await trio.to_thread.run_sync(look)

    def _content(self, file: BundleFile) -> bytes:
        return self._data.files.read("blob", FileRef(file.sha256, file.size_bytes))

    async def simulation(self, scenario: str, task: str, version: str) -> Simulation:
        """What came of a version's simulations.

        Raises:
            NotFound: the version was not imported, or never simulated.
        """
        found = await self._data.database.read(lambda db: store.find_simulation(db, scenario, task, version))
        if found is None:
            name = f"{scenario}/{task} {version}"
            raise NotFound(f"{name} was never simulated: use 'walle-control simulation run {name}'")
        return found

    async def simulate(self, scenario: str, task: str, version: str, actor: str) -> Simulation:
        """Play a version's simulations again, as they were at its tag; its approval then says how they ended.

        Raises:
            NotFound: it was not imported.
            Conflict: its recordings were lost with a database.
        """
        detail = await self.show(scenario, task, version)
        row = detail.version
        simulations = await self._data.database.read(lambda db: _recordings(db, row))
        async with self._one_import:
            files = await trio.to_thread.run_sync(self._contents, detail)
            simulation = await self._play(row, files | simulations)
        mark = await trio.to_thread.run_sync(self._mark, row, simulations, simulation)

        def job(db: Connection) -> None:
            store.save_simulation(db, simulation)
            _note_simulation(db, simulation, mark, actor)
            self._approve(db, row, simulation, mark)

        await self._data.database.write(job)
        await self._publish_trust()
        return simulation

    async def _play(self, row: VersionRow, files: Mapping[str, bytes]) -> Simulation:
        began = trio.current_time()
        result = await trio.to_thread.run_sync(self._simulate, files, self._config.simulation_s)
        seconds = trio.current_time() - began
        return Simulation(row.scenario, row.task, row.version, self._clock.wall_ms(), seconds, result)

    def _contents(self, detail: VersionDetail) -> dict[str, bytes]:
        files = {file.path: self._content(file) for file in detail.files}
        return files | self.cloud.read(self._manifest(detail.version))

    def _schema(self) -> EventSchema | None:
        """The app's registry as it is now, from the file in the settings."""
        path = self._config.events_schema
        if not path:
            return None
        try:
            return parse_schema(Path(path).read_text(encoding="utf-8"), path)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"tasks.events_schema: {path}: cannot be read: {error}") from None

    def _build(
        self, source: TaskSource, task: str, version: TaskVersion
    ) -> tuple[VersionRow, dict[str, bytes]]:
        built = bundle.build(source, task, version, self._convert, self._schema())
        manifest, files = built.manifest, built.files
        encoded = canonical(manifest)
        if len(encoded) > MANIFEST_MAX_BYTES:
            raise LimitExceeded(
                f"the manifest has {len(encoded)} bytes, over the limit of {MANIFEST_MAX_BYTES}"
            )
        self.cloud.keep(built.cloud, built.cloud_files)
        for data in files.values():
            self._data.files.put("blob", data)
        ref = self._data.files.put("manifest", encoded)
        head = manifest.definition.task
        total_bytes = sum(file.size_bytes for file in manifest.files)
        row = VersionRow(
            head.scenario,
            head.name,
            version,
            source.commit,
            ref,
            len(files),
            total_bytes,
            self._clock.wall_ms(),
        )
        return row, {**files, **built.cloud_files}


def _recordings(db: Connection, row: VersionRow) -> dict[str, bytes]:
    kept = store.recordings_of(db, row.scenario, row.task, row.version)
    if kept:
        return unpack(kept)
    last = store.find_simulation(db, row.scenario, row.task, row.version)
    if last is not None and not last.result.smoked:
        raise Conflict(
            f"the recordings of {row.scenario}/{row.task} {row.version} were lost with the database:"
            " 'walle-control import' of the same tag brings them back"
        )
    return {}


def _note_simulation(db: Connection, simulation: Simulation, mark: SimulationMark, actor: str) -> None:
    subject = f"{simulation.scenario}/{simulation.task} {simulation.version}"
    detail = {"passed": simulation.result.passed, "cells": mark.cells, "record": mark.record.sha256}
    audit.record(db, simulation.at_ms, actor, "task.simulate", subject, detail)


def _check_scenario(place: Source, scenario: str) -> None:
    if place.scenario and scenario != place.scenario:
        raise NotAllowed(
            f"the repository holds tasks of scenario {place.scenario}, and this task says {scenario}:"
            " correct task.toml, or add a repository of that scenario"
        )


def _path(row: VersionRow) -> str:
    return bundle_path(row.scenario, row.task, row.version)


def _same_commit(known: VersionRow, source: TaskSource) -> VersionRow:
    if known.source != source.commit:
        raise Conflict(
            f"{known.scenario}/{known.task} {known.version} was built from commit {known.source[:12]}, but"
            f" tag {source.tag} now names {source.commit[:12]}: tags must not move, make a new version"
        )
    return known
