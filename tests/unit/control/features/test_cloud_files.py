"""What becomes of a task's cloud half at its import."""

from __future__ import annotations

import httpx
import pytest

from walle_control.app import Control
from walle_control.features.tasks.types import ImportRequest
from walle_shared.errors import NotFound, TaskError
from walle_shared.manifest import Manifest
from walle_shared.protocol.codec import decode

CLOUD = b'\n[cloud]\nentry = "cloud:answer"\n'
HALF = b"def answer(request):\n    return {}\n"


@pytest.fixture
def asking_files(good_files: dict[str, bytes]) -> dict[str, bytes]:
    """The files of a task with a cloud half."""
    main = b"from walle_task import cloud\n\ndef run():\n    return cloud.ask({})\n"
    toml = good_files["task.toml"].replace(
        b'entry = "main:run"', b'entry = "main:run"\ncapabilities = ["cloud"]'
    )
    return {
        **good_files, "task.toml": toml + CLOUD, "main.py": main, "cloud.py": HALF,
        "cloud/big.onnx": b"big onnx", "cloud/words.txt": b"hello",
    }  # fmt: skip


def manifest_of(control: Control, store, result) -> Manifest:
    return decode(Manifest, store.files.read("manifest", result.version.manifest))


async def test_the_cloud_half_stays_here_and_the_manifest_names_it(
    control: Control, repo, asking_files, store, simulator, anyone: httpx.AsyncClient
):
    repo.tag("greeter/1.0.0", "greeter", asking_files)
    result = await control.tasks.import_version(ImportRequest(str(repo.path), "greeter", "1.0.0"), "anna")
    manifest = manifest_of(control, store, result)
    assert not [file.path for file in manifest.files if "cloud" in file.path]
    assert manifest.cloud is not None
    own = control.tasks.cloud.read(manifest)
    assert {"cloud.py", "cloud/big.wmodel", "cloud/words.txt"} <= own.keys()
    assert own["cloud/big.wmodel"] == b"wmodel of big onnx"
    assert own.keys() <= simulator.seen[0].keys()
    for data in own.values():
        from walle_shared.signing import sha256_hex

        assert (await anyone.get(f"/s/blob/{sha256_hex(data)}")).status_code == 404
    assert (await anyone.get(f"/s/manifest/{manifest.cloud.sha256}")).status_code == 404


async def test_a_cloud_half_is_unpacked_with_all_it_needs(control: Control, repo, asking_files, store):
    repo.tag("greeter/1.0.0", "greeter", asking_files)
    result = await control.tasks.import_version(ImportRequest(str(repo.path), "greeter", "1.0.0"), "anna")
    manifest = manifest_of(control, store, result)
    place = control.tasks.cloud.unpack(manifest, result.version.manifest.sha256)
    assert place.is_relative_to(store.home.unpacked / "demo")
    assert (place / "cloud.py").read_bytes() == HALF
    assert (place / "main.py").read_bytes() == asking_files["main.py"]
    assert (place / "model/net.wmodel").read_bytes() == b"wmodel of onnx bytes"
    assert control.tasks.cloud.unpack(manifest, result.version.manifest.sha256) == place


async def test_a_version_without_a_cloud_half_has_none(control: Control, repo, good_files, store):
    repo.tag("greeter/1.0.0", "greeter", good_files)
    result = await control.tasks.import_version(ImportRequest(str(repo.path), "greeter", "1.0.0"), "anna")
    manifest = manifest_of(control, store, result)
    assert manifest.cloud is None
    with pytest.raises(NotFound, match="no cloud half"):
        control.tasks.cloud.unpack(manifest, result.version.manifest.sha256)


@pytest.mark.parametrize(
    ("half", "words"),
    [
        (b"def answer():\n    return {}\n", "called with the request"),
        (b"def answer(request, more):\n    return {}\n", "with the request alone"),
        (b"def other(request):\n    return {}\n", "does not define answer"),
        (
            b"from walle_task import store\ndef answer(r):\n    return store.get('x')\n",
            "a cloud half has none",
        ),
        (b"import socket\ndef answer(r):\n    return {}\n", "may not import 'socket'"),
        (b"import main\n", "does not define answer"),
        (None, "there is no cloud.py"),
    ],
)
async def test_a_cloud_half_is_checked_like_a_device_half(control: Control, repo, asking_files, half, words):
    files = {**asking_files, "cloud.py": half} if half is not None else dict(asking_files)
    if half is None:
        del files["cloud.py"]
    repo.tag("greeter/1.0.0", "greeter", files)
    with pytest.raises(TaskError, match=words):
        await control.tasks.import_version(ImportRequest(str(repo.path), "greeter", "1.0.0"), "anna")


async def test_a_cloud_half_needs_its_section(control: Control, repo, good_files):
    repo.tag("greeter/1.0.0", "greeter", {**good_files, "cloud.py": HALF})
    with pytest.raises(TaskError, match=r"there is no \[cloud\]"):
        await control.tasks.import_version(ImportRequest(str(repo.path), "greeter", "1.0.0"), "anna")


async def test_the_device_half_cannot_import_what_it_does_not_get(control: Control, repo, asking_files):
    asking_files["main.py"] = b"import cloud\n\ndef run():\n    return 1\n"
    repo.tag("greeter/1.0.0", "greeter", asking_files)
    with pytest.raises(TaskError, match="may not import 'cloud'"):
        await control.tasks.import_version(ImportRequest(str(repo.path), "greeter", "1.0.0"), "anna")
