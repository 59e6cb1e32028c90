"""From the runtime tree to a container image: a root file system and an OCI image layout, without any daemon.

Nothing is in it but the tree, the C library and a few files that programs look up. Files get one time and one
owner, so the same tree gives the same image.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import shutil
import tarfile
from pathlib import Path
from typing import Any

from slim_tree import ENGINE_LIBRARY, SYSTEM_LIBRARIES, VERSION, elf_files, linked

HOME = "opt/walle"
COMMAND = [f"/{HOME}/bin/python{VERSION}", "-I", "-m", "walle_agent"]
ENVIRONMENT = {"LD_LIBRARY_PATH": f"/{HOME}/lib", "PATH": f"/{HOME}/bin"}
USER = 65532

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_FILES = {
    "etc/passwd": f"root:x:0:0::/:/bin/false\nwalle:x:{USER}:{USER}::/var/lib/walle:/bin/false\n",
    "etc/group": f"root:x:0:\nwalle:x:{USER}:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}
_FOLDERS = ("dev", "etc/walle", "proc", "sys", "tmp", "var/lib/walle")


def build_root(tree: Path, root: Path) -> None:
    """Build the root file system anew."""
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(tree, root / HOME, symlinks=True)
    for folder in _FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, text in _FILES.items():
        (root / name).write_text(text)
    for path in elf_files(root / HOME):
        for name, place in linked(path).items():
            target = root / str(place).lstrip("/")
            if name != ENGINE_LIBRARY and SYSTEM_LIBRARIES.fullmatch(name) and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(place.resolve(), target)


def write_layout(root: Path, layout: Path) -> None:
    """Write an OCI image layout of one layer: ``skopeo``, ``podman`` and ``ctr`` read it."""
    shutil.rmtree(layout, ignore_errors=True)
    (layout / "blobs/sha256").mkdir(parents=True)
    plain = _archive(root)
    layer = _put(layout, gzip.compress(plain, 9, mtime=0), "application/vnd.oci.image.layer.v1.tar+gzip")
    settings = {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {
            "Entrypoint": COMMAND,
            "Cmd": ["run", "--config", "/etc/walle/agent.toml"],
            "Env": [f"{name}={value}" for name, value in ENVIRONMENT.items()],
            "User": f"{USER}:{USER}",
            "Volumes": {"/var/lib/walle": {}},
            "StopSignal": "SIGTERM",
        },
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(plain).hexdigest()]},
    }
    config = _put(layout, _json(settings), "application/vnd.oci.image.config.v1+json")
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer]}
    listed = _put(layout, _json(manifest), kind)
    listed["annotations"] = {"org.opencontainers.image.ref.name": "walle-agent"}
    (layout / "index.json").write_bytes(_json({"schemaVersion": 2, "manifests": [listed]}))
    (layout / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))


def _archive(root: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(root.rglob("*")):
            archive.add(path, path.relative_to(root).as_posix(), recursive=False, filter=_settle)
    return buffer.getvalue()


def _settle(member: tarfile.TarInfo) -> tarfile.TarInfo:
    owner = USER if member.name.startswith("var/lib/walle") else 0
    member.uid = member.gid = owner
    member.uname = member.gname = ""
    member.mtime = 0
    if member.name == "tmp":
        member.mode = 0o1777
    return member


def _put(layout: Path, data: bytes, media_type: str) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    (layout / "blobs/sha256" / digest).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
