from __future__ import annotations

import random
from pathlib import Path

import pytest

from walle_agent.config import DeploySection
from walle_shared.protocol.messages import FileRef
from walle_shared.signing import sha256_hex
from walle_shared.units import KIB
from walle_support.control import SimulatedControl, broken_off, corrupt
from walle_support.device import live

OLD = random.Random(1).randbytes(100 * KIB)
NEW = OLD[: 50 * KIB] + b"retrained" + OLD[50 * KIB :]
TEXT = b"the same words again and again. " * 4_000


def update(control: SimulatedControl, *ways: tuple[bytes, bytes], model: bytes = NEW) -> FileRef:
    """Release version 2 with these deltas."""
    manifest = control.add_version(version="2.0", files={"model.bin": model})
    listed = control.add_deltas(manifest, *ways)
    control.release(manifest, version="2.0", deltas=listed)
    return listed


def fetched(control: SimulatedControl, kind: str) -> list[str]:
    return [path for _, path in control.requests if path.startswith(f"/s/{kind}/")]


async def run_the_update(folder: Path, control: SimulatedControl, *, memory_bytes: int = 1 << 20) -> bytes:
    config = DeploySection(download_attempts=2, delta_memory_bytes=memory_bytes)
    async with live(folder, control, config=config) as device:
        assert await device.catch_up() is None
        assert device.active() == {"reader": "2.0"}
        assert device.keeper.state.install_failures == {}
        (task,) = device.registry.tasks()
        blobs = {path.name for path in device.content.folder.iterdir()}
        assert not any(sha256_hex(data) in blobs for path, data in control.files.items() if "/delta/" in path)
        return (task.bundle_dir / "model.bin").read_bytes()


@pytest.fixture
async def control(tmp_path: Path) -> SimulatedControl:
    """A control plane whose device has version 1."""
    control = SimulatedControl()
    control.release(control.add_version(files={"model.bin": OLD}))
    async with live(tmp_path, control) as device:
        await device.catch_up()
    control.requests.clear()
    return control


async def test_only_what_is_new_travels(tmp_path: Path, control: SimulatedControl) -> None:
    update(control, (OLD, NEW))
    assert await run_the_update(tmp_path, control) == NEW
    assert f"/s/blob/{sha256_hex(NEW)}" not in fetched(control, "blob")
    assert len(fetched(control, "delta")) == 2  # the list, and one delta


async def test_without_the_base_the_whole_file_comes(tmp_path: Path, control: SimulatedControl) -> None:
    update(control, (OLD[1:], NEW))
    assert await run_the_update(tmp_path, control) == NEW
    assert f"/s/blob/{sha256_hex(NEW)}" in fetched(control, "blob")
    assert len(fetched(control, "delta")) == 1


async def test_a_first_version_comes_compressed(tmp_path: Path) -> None:
    control = SimulatedControl()
    update(control, (b"", TEXT), model=TEXT)
    assert await run_the_update(tmp_path, control) == TEXT
    assert f"/s/blob/{sha256_hex(TEXT)}" not in fetched(control, "blob")


async def test_the_cheapest_of_several_is_taken(tmp_path: Path, control: SimulatedControl) -> None:
    update(control, (b"", NEW), (OLD, NEW), (OLD[:10], NEW))
    assert await run_the_update(tmp_path, control) == NEW
    assert sum(len(control.files[path]) for path in fetched(control, "delta")) < 2_000


async def test_a_delta_that_takes_too_much_memory_is_not_even_fetched(
    tmp_path: Path, control: SimulatedControl
) -> None:
    update(control, (OLD, NEW))
    assert await run_the_update(tmp_path, control, memory_bytes=150 * KIB) == NEW
    assert len(fetched(control, "delta")) == 1


async def test_a_delta_that_makes_something_else_is_no_failure(
    tmp_path: Path, control: SimulatedControl
) -> None:
    manifest = control.add_version(version="2.0", files={"model.bin": NEW[:-1] + b"?"})
    wrong = control.add_deltas(manifest, (OLD, NEW))  # a true delta, to the wrong file
    data = control.files[f"/s/delta/{wrong.sha256}"].replace(
        sha256_hex(NEW).encode(), sha256_hex(NEW[:-1] + b"?").encode()
    )
    ref = FileRef(sha256_hex(data), len(data))
    control.files[f"/s/delta/{ref.sha256}"] = data
    control.release(manifest, version="2.0", deltas=ref)
    assert await run_the_update(tmp_path, control) == NEW[:-1] + b"?"
    assert len(fetched(control, "delta")) == 2


@pytest.mark.parametrize("fault", [corrupt, broken_off])
async def test_a_delta_that_comes_badly_is_fetched_again(
    tmp_path: Path, control: SimulatedControl, fault
) -> None:  # type: ignore[no-untyped-def]
    listed = update(control, (OLD, NEW))
    (delta,) = [p for p in control.files if p.startswith("/s/delta/") and listed.sha256 not in p]
    control.distort(delta, fault)
    assert await run_the_update(tmp_path, control) == NEW
    assert fetched(control, "delta").count(delta) == 2
    assert f"/s/blob/{sha256_hex(NEW)}" not in fetched(control, "blob")


@pytest.mark.parametrize("gone", ["list", "delta"])
async def test_deltas_that_are_gone_are_done_without(
    tmp_path: Path, control: SimulatedControl, gone: str
) -> None:
    listed = update(control, (OLD, NEW))
    for path in [p for p in control.files if p.startswith("/s/delta/")]:
        if (listed.sha256 in path) == (gone == "list"):
            del control.files[path]
    assert await run_the_update(tmp_path, control) == NEW


async def test_a_list_that_is_nonsense_is_done_without(tmp_path: Path, control: SimulatedControl) -> None:
    manifest = control.add_version(version="2.0", files={"model.bin": NEW})
    control.files["/s/delta/" + sha256_hex(b"[]")] = b"[]"
    control.release(manifest, version="2.0", deltas=FileRef(sha256_hex(b"[]"), 2))
    assert await run_the_update(tmp_path, control) == NEW


async def test_the_rest_of_a_broken_download_is_cheaper_than_a_delta(
    tmp_path: Path, control: SimulatedControl
) -> None:
    other = random.Random(2).randbytes(100 * KIB)
    update(control, (OLD, other), model=other)
    part = tmp_path / "blobs" / f"{sha256_hex(other)}.part"
    part.write_bytes(other[: 60 * KIB])
    assert await run_the_update(tmp_path, control) == other
    assert len(fetched(control, "delta")) == 1
