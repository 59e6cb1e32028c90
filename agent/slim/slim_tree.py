"""The stripped runtime tree: an interpreter, a subset of its library, our packages and what they need.

::

    bin/python3.13  bin/walle-agent          lib/python313.zip          the library's subset, -OO bytecode
    lib/*.so*       what they link to        lib/python3.13/lib-dynload extension modules, stripped
    share/          unit file, settings      lib/python3.13/site-packages

It runs from wherever it is put. The C library is the system's.
"""

from __future__ import annotations

import importlib.util
import py_compile
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement

from slim_stdlib import Subset, archive_names, find_subset
from walle_container import locate

ROOT = Path(__file__).parents[2]
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
ZIP_NAME = f"python{sys.version_info.major}{sys.version_info.minor}.zip"
UNCHECKED = py_compile.PycInvalidationMode.UNCHECKED_HASH

#: Our packages, and what of each stays behind: tools of authors and of those who build models.
PACKAGES = {
    "walle_agent": ("author",),
    "walle_container": ("scripts.py",),
    "walle_task": ("authoring.py", "pytest_plugin.py", "testing.py"),
    "walle_engine": ("bench", "convert", "onnx_backend.py", "samples.py"),
    "walle_shared": (),
}
EXTENSIONS = (*locate.EXTENSIONS, "walle_engine._cffi")
ENGINE_LIBRARY = "libwalle_engine.so"

#: Extensions of what we depend on that a device never loads, by the start of their path: formats of images
#: that ``cv`` does not read, fonts, and what compiles bindings.
NEVER_LOADED = (
    "PIL/_avif", "PIL/_imagingcms", "PIL/_imagingft", "PIL/_imagingmath", "PIL/_imagingmorph",
    "PIL/_imagingtk", "pycparser/",
)  # fmt: skip

#: Of the C library, which every system brings itself.
SYSTEM_LIBRARIES = re.compile(r"(ld-linux.*|lib(c|m|dl|rt|pthread|util|resolv)\.so.*)")
_SKIPPED_PARTS = frozenset({"tests", "_tests", "testing", "__pycache__", "bin", "include"})
_LAUNCHER = f"""#!/bin/sh
here=$(dirname "$(readlink -f "$0")")/..
LD_LIBRARY_PATH="$here/lib" exec "$here/bin/python{VERSION}" -I -m walle_agent "$@"
"""


def build_tree(tree: Path) -> Subset:
    """Build the tree anew; the part of the standard library that is in it."""
    shutil.rmtree(tree, ignore_errors=True)
    site = tree / "lib" / f"python{VERSION}" / "site-packages"
    site.mkdir(parents=True)
    scripts = [*copy_packages(site), *copy_dependencies(site)]
    subset = find_subset(scripts)
    copy_library(subset, tree)
    copy_interpreter(tree)
    strip_all(tree)
    drop_unlinked(site)
    copy_linked(tree)
    share = tree / "share"
    share.mkdir()
    shutil.copy(ROOT / "configs/agent.toml", share)
    shutil.copy(Path(__file__).parent / "walle-agent.service", share)
    return subset


def copy_packages(site: Path) -> Iterator[Path]:
    """Our own packages as bytecode, and their extensions; yields the sources."""
    for name, left_out in PACKAGES.items():
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        folder = Path(spec.origin).parent
        for source in sorted(folder.rglob("*.py")):
            inner = source.relative_to(folder)
            if inner.parts[0] not in left_out and inner.as_posix() not in left_out:
                compile_to(source, site / name / inner.with_suffix(".pyc"), f"{name}/{inner.as_posix()}")
                yield source
    for name in EXTENSIONS:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        package = site / name.partition(".")[0]
        shutil.copy(spec.origin, package)
        library = Path(spec.origin).parent / ENGINE_LIBRARY
        if library.is_file():
            shutil.copy(library, package)
    copy_metadata(distribution("walle"), site)


def copy_dependencies(site: Path) -> Iterator[Path]:
    """What the agent depends on, without tests and stubs; yields the sources."""
    for found in dependencies("walle", frozenset({"agent"})):
        for file in found.files or ():
            path = PurePosixPath(file)
            source = Path(str(found.locate_file(file)))
            if ".." in path.parts or not _SKIPPED_PARTS.isdisjoint(path.parts) or not source.is_file():
                continue
            if path.parts[0].endswith(".dist-info") or str(path).startswith(NEVER_LOADED):
                continue
            if path.suffix == ".py":
                compile_to(source, site / path.with_suffix(".pyc"), path.as_posix())
                yield source
            elif path.suffix not in (".pyi", ".typed", ".pyc", ".c", ".h", ".pth"):
                place = site / path
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, place)
        copy_metadata(found, site)


def copy_metadata(found: Distribution, site: Path) -> None:
    """The name and version of a distribution, which some packages ask for."""
    name, version = found.metadata["Name"], found.version
    place = site / f"{re.sub(r'[-_.]+', '_', name)}-{version}.dist-info" / "METADATA"
    place.parent.mkdir()
    place.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def dependencies(name: str, extras: frozenset[str]) -> list[Distribution]:
    """Every distribution that one needs here, itself left out."""
    found: dict[str, Distribution] = {}
    waiting = [(name, extras)]
    while waiting:
        current, wanted = waiting.pop()
        for text in distribution(current).requires or ():
            requirement = Requirement(text)
            marker = requirement.marker
            if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in (*wanted, "")):
                continue
            key = requirement.name.lower().replace("_", "-")
            if key not in found and key != name:
                found[key] = distribution(requirement.name)
                waiting.append((requirement.name, frozenset(requirement.extras)))
    return [found[key] for key in sorted(found)]


def copy_library(subset: Subset, tree: Path) -> None:
    """The standard library's subset: an archive of bytecode, and extension modules beside it."""
    library = tree / "lib" / f"python{VERSION}"
    staging = tree / "staging"
    with zipfile.ZipFile(tree / "lib" / ZIP_NAME, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, source in sorted(archive_names(subset)):
            compile_to(source, staging / name, f"<stdlib>/{name.removesuffix('c')}")
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, (staging / name).read_bytes())
    # The interpreter knows its library by this file.
    shutil.copy(staging / "os.pyc", library / "os.pyc")
    shutil.rmtree(staging)
    (library / "lib-dynload").mkdir()
    for extension in subset.extensions.values():
        shutil.copy(extension, library / "lib-dynload")


def compile_to(source: Path, target: Path, shown: str) -> None:
    """Bytecode without docstrings and assertions, that nobody compares with a source."""
    target.parent.mkdir(parents=True, exist_ok=True)
    py_compile.compile(
        str(source), str(target), shown, doraise=True, optimize=2, invalidation_mode=UNCHECKED, quiet=2
    )


def copy_interpreter(tree: Path) -> None:
    """The interpreter and the launcher."""
    binary = tree / "bin"
    binary.mkdir()
    shutil.copy(Path(sys.base_prefix) / "bin" / f"python{VERSION}", binary)
    launcher = binary / "walle-agent"
    launcher.write_text(_LAUNCHER)
    launcher.chmod(0o755)


def elf_files(tree: Path) -> list[Path]:
    """Programs and shared libraries."""
    return [path for path in sorted(tree.rglob("*")) if path.is_file() and _is_elf(path)]


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def strip_all(tree: Path) -> None:
    """Take symbols out that only debuggers want."""
    for path in elf_files(tree):
        path.chmod(0o755)
        subprocess.run(["strip", "--strip-unneeded", str(path)], check=True)


def linked(path: Path) -> dict[str, Path]:
    """What a program or library links to, by name, as this machine finds it."""
    shown = subprocess.run(["ldd", str(path)], capture_output=True, text=True, check=False).stdout
    found = re.findall(r"^\s*(\S+) => (/\S+)|^\s*(/\S+) \(", shown, re.MULTILINE)
    return {Path(name or alone).name: Path(place or alone) for name, place, alone in found}


def drop_unlinked(site: Path) -> None:
    """Of the shared libraries that a wheel brought, those stay that something here links to."""
    brought = {path for path in elf_files(site) if path.relative_to(site).parts[0].endswith(".libs")}
    needed = {
        place.resolve() for path in elf_files(site) if path not in brought for place in linked(path).values()
    }
    for path in brought:
        if path.resolve() not in needed:
            path.unlink()


def copy_linked(tree: Path) -> None:
    """Shared libraries that are neither the system's own nor in the tree go beside the interpreter."""
    library = tree / "lib"
    for path in elf_files(tree):
        for name, place in linked(path).items():
            if place.is_relative_to(tree) or SYSTEM_LIBRARIES.fullmatch(name) or (library / name).exists():
                continue
            shutil.copy(place.resolve(), library / name)
            subprocess.run(["strip", "--strip-unneeded", str(library / name)], check=True)


def sizes(tree: Path) -> dict[str, int]:
    """Bytes on disk by part."""
    site = tree / "lib" / f"python{VERSION}" / "site-packages"
    parts: dict[str, int] = {}
    for path in sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink()):
        parts[_part_of(path, tree, site)] = parts.get(_part_of(path, tree, site), 0) + path.stat().st_size
    return parts


def _part_of(path: Path, tree: Path, site: Path) -> str:
    if path.is_relative_to(site):
        package = path.relative_to(site).parts[0]
        if not package.startswith("walle"):
            return "dependencies"
        return "engine" if path.suffix == ".so" or ".so." in path.name else "our packages"
    if path.name == ZIP_NAME or path.name == "os.pyc":
        return "standard library, bytecode"
    if "lib-dynload" in path.parts:
        return "standard library, extensions"
    if path.parent == tree / "bin" or path.name.startswith("libpython"):
        return "interpreter"
    return "shared libraries" if path.parent == tree / "lib" else "settings and unit"
