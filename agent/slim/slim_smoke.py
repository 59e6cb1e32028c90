"""Proves that a tree runs where nothing else is: an empty environment, another place, another root."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from slim_image import COMMAND, ENVIRONMENT, HOME
from slim_stdlib import LEFT_OUT
from slim_tree import VERSION
from walle_container.imports import ALLOWED_STDLIB

#: Runs a task, from bytecode alone, in a worker process of the tree.
_RUN_TASK = """
import os, py_compile, sys, tempfile, trio
from pathlib import Path
from walle_container import HostConfig, TaskHost, TaskSpec
from walle_container.bytecode import bytecode_path, cache_tag

SCRIPT = '''
import json, statistics
from walle_task import clock, events, log
def run():
    log.info("seen")
    return [json.loads("[1, 2]"), statistics.mean([1, 2, 3]), len(events.all()), clock.wall_ms() > 0]
'''

async def main():
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "main.py"
        source.write_text(SCRIPT)
        py_compile.compile(str(source), str(bytecode_path(source, cache_tag())), "main.py", doraise=True,
                           invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
        source.unlink()
        async with TaskHost(HostConfig(slots=2)) as host:
            spec = TaskSpec("smoke", "1", Path(folder), capabilities=frozenset({"events", "log"}))
            events = [{"seq": 1, "kind": "click"}]
            result = await host.run(spec, {"events": events, "visit": None, "trigger": {}})
            assert_equal(result.error, None)
            assert_equal(result.value, [[1, 2], 2, 1, True])
            assert_equal([entry.message for entry in result.logs], ["seen"])

def assert_equal(found, expected):
    if found != expected:
        sys.exit(f"{found!r} instead of {expected!r}")

trio.run(main)
print("task ran")
"""

#: Writes and reads an image of each format that ``cv`` knows.
_READ_IMAGES = """
import io
from walle_task.cv import _pillow
for name in _pillow.FORMATS:
    file = io.BytesIO()
    _pillow.load().new("RGB", (4, 3), (10, 20, 30)).save(file, name)
    if _pillow.decode(file.getvalue(), 1).shape != (3, 4, 3):
        raise SystemExit(f"{name} is read wrong")
print(*_pillow.FORMATS)
"""

#: Imports all that the tree has. What is missing may be another library, or a tool left out on purpose.
_IMPORT_ALL = """
import contextlib, importlib, io, pkgutil, sys, zipfile
from pathlib import Path
LEFT_OUT = set(sys.argv[1:])
SKIPPED = ("__main__", "antigravity", "this")
missing, names = {}, []

site = next(path for path in sys.path if path.endswith("site-packages"))
for folder, prefix in [(site, "")]:
    for module in pkgutil.walk_packages([folder], prefix, onerror=lambda name: None):
        names.append(module.name)
archive = next(path for path in sys.path if path.endswith(".zip"))
for entry in zipfile.ZipFile(archive).namelist():
    names.append(entry.removesuffix(".pyc").removesuffix("/__init__").replace("/", "."))
for name in names:
    if name.rpartition(".")[2] in SKIPPED:
        continue
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            importlib.import_module(name)
    except ModuleNotFoundError as error:
        top = str(error.name).partition(".")[0]
        if top in sys.stdlib_module_names and top not in LEFT_OUT:
            missing[error.name] = name
    except Exception:  # it wants another system, or another library
        pass
if missing:
    sys.exit("; ".join(f"{name} misses {what}" for what, name in missing.items()))
print(len(names), "modules")
"""


def commands() -> dict[str, list[str]]:
    """What a tree must do, as arguments of its interpreter."""
    names = ", ".join(sorted(ALLOWED_STDLIB - {"__future__"}))
    engine = "from walle_engine import _native; print(_native.Tensor([2]).tolist(), _native.isa())"
    return {
        "version": ["-I", "-m", "walle_agent", "--version"],
        "every module a task may import": ["-I", "-S", "-c", f"import {names}; print('imported')"],
        "the agent's modules": ["-I", "-c", "import walle_agent.app, walle_agent.cli; print('imported')"],
        "all that the tree has": ["-I", "-c", _IMPORT_ALL, *sorted(LEFT_OUT)],
        "the engine": ["-I", "-c", engine],
        "image files": ["-I", "-c", _READ_IMAGES],
        "a task": ["-I", "-c", _RUN_TASK],
    }


def smoke_tree(tree: Path) -> None:
    """Move a copy elsewhere and run it without any environment.

    Raises:
        CalledProcessError: something does not run; its words are shown.
    """
    with TemporaryDirectory(prefix="walle-slim-") as folder:
        moved = Path(folder) / "elsewhere"
        shutil.copytree(tree, moved, symlinks=True)
        environment = {"LD_LIBRARY_PATH": str(moved / "lib")}
        for what, arguments in commands().items():
            _run([str(moved / "bin" / f"python{VERSION}"), *arguments], environment, what)
        _run([str(moved / "bin/walle-agent"), "--version"], {"PATH": "/usr/bin:/bin"}, "the launcher")


def smoke_root(root: Path) -> bool:
    """The same with the image as the whole file system, in namespaces of its own, as a container has them.

    Returns:
        Whether it could be tried here: it needs the right to make namespaces.
    """
    program = shutil.which("unshare")
    enclosed = [str(program), "--mount", "--pid", "--fork", "--mount-proc"]
    probe = [*enclosed, "true"]
    if program is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        return False
    with TemporaryDirectory(prefix="walle-slim-") as folder:
        copy = Path(folder) / "root"
        shutil.copytree(root, copy, symlinks=True)
        os.mknod(copy / "dev/null", 0o020666, os.makedev(1, 3))  # a container's runtime makes it
        (copy / "tmp").chmod(0o1777)
        for what, arguments in commands().items():
            command = [*enclosed, f"--root={copy}", *COMMAND[:1], *arguments]
            _run(command, ENVIRONMENT | {"HOME": f"/{HOME}"}, f"{what}, in the image")
    return True


def _run(command: list[str], environment: dict[str, str], what: str) -> None:
    done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=False)
    print(f"  {what}: {done.stdout.strip() or done.stderr.strip()[-1500:]}", flush=True)
    done.check_returncode()
