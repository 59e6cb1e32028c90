"""What a script reaches that goes round the import rules on purpose, in each tier, with and without fences.

The tables are the honest half of docs/guide/container-security.md: a row that says ``reached`` is a way out
of Python's own rules that works.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trio

from walle_container import HostConfig, TaskHost, TaskLimits, TaskResult, TaskSpec, fences
from walle_shared.manifest import Tier
from walle_support.scripts import BYPASS, bypass, native_crash

INPUTS: dict[str, Any] = {"events": [], "visit": None, "trigger": {}}
MakeSpec = Callable[..., TaskSpec]

needs_fences = pytest.mark.skipif(
    fences.find_fences() != ("landlock", "seccomp"), reason="this kernel lacks one of the fences"
)

OS = "[c for c in object.__subclasses__() if c.__name__ == '_wrap_close'][0].__init__.__globals__"

#: Every way to ``os`` of which vm.md knows, and what can be done with it: outcome by (bare interp, fenced).
#: ``bare`` is a kernel without Landlock and seccomp; what the process tier gives is what ``fenced`` gives.
REACHED = "reached"
WAYS: dict[str, tuple[str, str, str]] = {
    "subclasses, list files": (f"{OS}['listdir']('/')", REACHED, "denied"),
    "subclasses, run a program": (f"{OS}['system']('true')", "denied", "denied"),
    "sys.modules": ("reach('sys').modules['os'].getpid()", REACHED, REACHED),
    "posix": ("reach('posix').getpid()", REACHED, REACHED),
    "built-in importer": (
        "reach('_frozen_importlib').BuiltinImporter.load_module('posix').getpid()",
        REACHED,
        REACHED,
    ),
    "finders removed": ("(reach('sys').meta_path.clear(), reach('posix').getpid())", REACHED, REACHED),
    "read a system file": ("reach('io').open('/etc/passwd').read()", REACHED, "denied"),
    "read by posix": ("reach('posix').open('/etc/passwd', 0)", REACHED, "denied"),
    "read the environment": ("reach('io').open('/proc/self/environ').read()", REACHED, "denied"),
    "list descriptors": ("reach('os').listdir('/proc/self/fd')", REACHED, "denied"),
    "signal itself": ("reach('signal').raise_signal(0)", REACHED, "denied"),
    "change priority": ("reach('os').nice(0)", REACHED, "denied"),
    "make a pipe": ("reach('os').pipe()", REACHED, "denied"),
    "recursion limit": ("reach('sys').setrecursionlimit(100_000)", REACHED, REACHED),
    "subclasses alone": ("object.__subclasses__()[:1]", REACHED, REACHED),
    "list interpreters": ("reach('_interpreters').list_all()", REACHED, REACHED),
    "enter the main interpreter": ("reach('_interpreters').exec(0, '')", "exception", "exception"),
    "create an interpreter": ("reach('_interpreters').create()", "exception", "exception"),
    "destroy a neighbour": ("reach('_interpreters').destroy(1)", "exception", "exception"),
    "handle a signal": ("reach('signal').signal(10, print)", "exception", "exception"),
    "byte code of its own": ("exec(reach('marshal').loads(b'N') or '')", REACHED, REACHED),
    "change its code": ("(lambda: 0).__code__.replace(co_consts=())", "denied", "denied"),
}


@pytest.fixture
def make_spec(tmp_path: Path) -> MakeSpec:
    numbers = count()

    def make(script: str, *, tier: Tier = "interp", wall_s: float = 20.0) -> TaskSpec:
        bundle_dir = tmp_path / "s" / f"bundle{next(numbers)}"
        bundle_dir.mkdir(parents=True)
        (bundle_dir / "main.py").write_text(script, encoding="utf-8")
        return TaskSpec("t", "1", bundle_dir, "s", tier=tier, limits=TaskLimits(wall_s=wall_s))

    return make


def outcome(result: TaskResult) -> str:
    return REACHED if result.ok else str(result.error_kind)


async def try_all(host: TaskHost, make_spec: MakeSpec, tier: Tier) -> dict[str, str]:
    """All ways on one worker, which must survive them and be as good as new."""
    script = BYPASS + "".join(
        f"def run{number}(): return repr({deed})\n" for number, (deed, *_) in enumerate(WAYS.values())
    )
    spec = make_spec(script, tier=tier)
    found = {}
    for number, name in enumerate(WAYS):
        one = TaskSpec("t", "1", spec.bundle_dir, "s", f"main:run{number}", tier=tier, limits=spec.limits)
        found[name] = outcome(await host.run(one, INPUTS))
    honest = make_spec("import json, decimal\ndef run(): return json.loads('1')\n", tier=tier)
    assert (await host.run(honest, INPUTS)).value == 1
    return found


async def test_a_kernel_without_fences_lets_a_hostile_script_reach_this(
    make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("walle_container.fences.find_fences", lambda: ())
    async with TaskHost(HostConfig(slots=1, bundles_dir=tmp_path)) as host:
        found = await try_all(host, make_spec, "interp")
        assert host.statistics().workers_lost == 0
    assert found == {name: bare for name, (_, bare, _) in WAYS.items()}


@needs_fences
@pytest.mark.parametrize("tier", ["interp", "process"])
async def test_the_fences_leave_a_hostile_script_this(make_spec: MakeSpec, tmp_path: Path, tier: Tier):
    async with TaskHost(HostConfig(slots=1, bundles_dir=tmp_path)) as host:
        found = await try_all(host, make_spec, tier)
        assert host.statistics().workers_lost == 0
    assert found == {name: fenced for name, (_, _, fenced) in WAYS.items()}


#: What ends a worker, in any tier; it depends on the tier whose runs end with it.
DEADLY = {
    "exit": ("reach('os')._exit(3)", "exit code 3"),
    "native crash": (native_crash(), "SIGSEGV"),
    "abort": ("reach('os').abort()", "SIGABRT"),
    "close the channels": ("[reach('os').close(fd) for fd in range(3, 32) if is_open(fd)]", "worker process"),
    "write on the channels": (
        "[reach('os').write(fd, b'\\x05\\0\\0\\0hello') for fd in range(3, 32) if is_open(fd)]",
        "",
    ),
}
IS_OPEN = """
def is_open(fd):
    try:
        return reach('stat').S_ISSOCK(reach('os').fstat(fd).st_mode)
    except OSError:
        return False
"""


@pytest.mark.slow
@pytest.mark.parametrize("tier", ["interp", "process"])
async def test_what_ends_a_worker_takes_along_only_those_who_share_it(make_spec: MakeSpec, tier: Tier):
    """In ``interp`` the neighbour falls with it; in ``process`` nobody else notices."""
    results: dict[str, TaskResult] = {}
    neighbour = make_spec("import time\ndef run():\n    time.sleep(0.3)\n    return 'well'\n")

    async def run(name: str, spec: TaskSpec) -> None:
        results[name] = await host.run(spec, INPUTS)

    for name, (deed, words) in DEADLY.items():
        async with TaskHost(HostConfig(slots=2)) as host:
            hostile = make_spec(bypass(deed) + IS_OPEN, tier=tier)
            if tier == "process":  # have both workers up, so that the two runs overlap
                await host.run(make_spec("def run(): pass\n"), INPUTS)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run, "neighbour", neighbour)
                await trio.sleep(0.05)
                nursery.start_soon(run, "hostile", hostile)
        assert results["hostile"].error_kind == "crashed", name
        assert words in (results["hostile"].error or "")
        if tier == "process":
            assert results["neighbour"].value == "well", name
        else:
            assert results["neighbour"].error_kind == "crashed", name
