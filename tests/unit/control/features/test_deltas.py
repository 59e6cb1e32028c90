from __future__ import annotations

import random

import pytest

from walle_control.app import Control
from walle_control.config import ControlConfig, ImportConfig
from walle_control.features.tasks import store as rows
from walle_control.features.tasks.types import ImportRequest
from walle_shared.deltas import NO_BASE, DeltaList, check_deltas, unpack
from walle_shared.protocol.codec import decode
from walle_shared.signing import sha256_hex
from walle_shared.targeting import Snapshot
from walle_shared.units import KIB, MIB

WEIGHTS = random.Random(1).randbytes(200 * KIB)
WORDS = b"the same words again and again. " * 1_000


@pytest.fixture
def add(control: Control, repo, good_files):  # type: ignore[no-untyped-def]
    """``await add("1.0.0", weights)``: import a version with these weights."""

    async def import_one(version: str, weights: bytes, **others: bytes):  # type: ignore[no-untyped-def]
        files = {**good_files, "model/weights.bin": weights, **others}
        repo.tag(f"greeter/{version}", "greeter", files)
        return (
            await control.tasks.import_version(ImportRequest(str(repo.path), "greeter", version), "anna")
        ).version

    return import_one


def deltas_of(store, row) -> DeltaList:  # type: ignore[no-untyped-def]
    ref = store.database.read_sync(lambda db: rows.find_deltas(db, row.manifest.sha256))
    assert ref is not None
    return check_deltas(decode(DeltaList, store.files.read("delta", ref)), row.manifest.sha256)


def edited(number: int) -> bytes:
    return WEIGHTS[: number * KIB] + b"edit" + WEIGHTS[number * KIB :]


async def test_an_import_makes_deltas_that_lead_to_its_files(add, store) -> None:  # type: ignore[no-untyped-def]
    await add("1.0.0", WEIGHTS)
    row = await add("1.1.0", edited(1), **{"resource/words.txt": WORDS})
    by_target = {(delta.target, delta.base): delta for delta in deltas_of(store, row).deltas}
    change = by_target[sha256_hex(edited(1)), sha256_hex(WEIGHTS)]
    assert change.file.size_bytes < 500
    packed = store.files.read("delta", change.file)
    assert b"".join(unpack([packed], WEIGHTS, len(edited(1)), memory_max_bytes=MIB)) == edited(1)
    plain = by_target[sha256_hex(WORDS), NO_BASE]
    packed = store.files.read("delta", plain.file)
    assert b"".join(unpack([packed], b"", len(WORDS), memory_max_bytes=3 * MIB)) == WORDS
    assert len(by_target) == 2  # random weights do not compress, small files are not worth it


async def test_no_more_versions_than_asked_for_and_those_on_devices_first(  # type: ignore[no-untyped-def]
    control: Control, add, store, enrol
) -> None:
    for number in range(5):
        await add(f"1.{number}.0", edited(number))
    device = await enrol()
    await store.database.write(
        lambda db: db.execute(
            "INSERT INTO device_task (device_id, scenario, task, version, release_id, stage, outcome, at_ms)"
            " VALUES (?, 'demo', 'greeter', '1.0.0', 'r1', 'run', 'success', 1)",
            (device.id,),
        )
    )
    row = await add("2.0.0", edited(50))
    bases = {delta.base for delta in deltas_of(store, row).deltas}
    assert bases == {sha256_hex(edited(0)), sha256_hex(edited(4)), sha256_hex(edited(3))}


async def test_deltas_follow_what_devices_have(control: Control, add, store, enrol) -> None:  # type: ignore[no-untyped-def]
    for number in range(5):
        row = await add(f"1.{number}.0", edited(number))
    before = deltas_of(store, row)
    await control.tasks.deltas.make(row)
    assert deltas_of(store, row) == before
    device = await enrol()
    await store.database.write(
        lambda db: db.execute(
            "INSERT INTO device_task (device_id, scenario, task, version, release_id, stage, outcome, at_ms)"
            " VALUES (?, 'demo', 'greeter', '1.0.0', 'r1', 'run', 'success', 1)",
            (device.id,),
        )
    )
    await control.tasks.deltas.make(row)
    assert sha256_hex(edited(0)) in {delta.base for delta in deltas_of(store, row).deltas}


async def test_the_policy_names_the_list(control: Control, add, store, admin) -> None:  # type: ignore[no-untyped-def]
    await add("1.0.0", WEIGHTS)
    row = await add("1.1.0", edited(1))
    body = {"scenario": "demo", "task": "greeter", "version": "1.1.0"}
    assert (await admin.post("/api/v1/releases", json=body)).status_code == 201
    (release,) = decode(Snapshot, newest_snapshot(store)).releases
    listed = store.database.read_sync(lambda db: rows.find_deltas(db, row.manifest.sha256))
    assert release.deltas == listed
    answer = await admin.get(f"/s/delta/{listed.sha256}", headers={"Range": "bytes=0-9"})
    assert (answer.status_code, len(answer.content)) == (206, 10)


async def test_deltas_that_no_list_names_go_after_a_day(  # type: ignore[no-untyped-def]
    control: Control, add, store, admin
) -> None:
    for number in range(3):
        await add(f"1.{number}.0", edited(number))
    body = {"scenario": "demo", "task": "greeter", "version": "1.2.0"}
    assert (await admin.post("/api/v1/releases", json=body)).status_code == 201
    folder = store.files.root / "delta"
    named = {path.name for path in folder.iterdir()}
    store.files.put("delta", b"of a list that is gone")
    assert await control.tasks.deltas.prune() == 0  # too young
    assert await control.tasks.deltas.prune(older_than_s=-60) == 1
    assert {path.name for path in folder.iterdir()} == named
    await store.database.write(lambda db: db.execute("DELETE FROM delta_list"))
    await control.tasks.deltas.prune(older_than_s=-60)
    assert {path.name for path in folder.iterdir()} < named
    (release,) = decode(Snapshot, newest_snapshot(store)).releases
    assert store.files.path("delta", release.deltas.sha256)  # devices may still ask for it


def newest_snapshot(store) -> bytes:  # type: ignore[no-untyped-def]
    return max((store.files.root / "snapshot").iterdir(), key=lambda p: p.stat().st_mtime_ns).read_bytes()


class TestWithout:
    @pytest.fixture
    def config(self) -> ControlConfig:
        return ControlConfig(tasks=ImportConfig(delta_versions=0))

    async def test_none_are_made_if_none_are_wanted(self, add, store) -> None:  # type: ignore[no-untyped-def]
        row = await add("1.0.0", WEIGHTS)
        assert store.database.read_sync(lambda db: rows.find_deltas(db, row.manifest.sha256)) is None
        assert list((store.files.root / "delta").iterdir()) == []


async def test_a_damaged_file_costs_the_deltas_not_the_import(add, store) -> None:  # type: ignore[no-untyped-def]
    await add("1.0.0", WEIGHTS)
    store.files.path("blob", sha256_hex(WEIGHTS)).write_bytes(b"damaged")
    row = await add("1.1.0", edited(1))
    assert store.database.read_sync(lambda db: rows.find_deltas(db, row.manifest.sha256)) is None
