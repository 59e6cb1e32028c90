"""The menu: ``nox -l``. Sessions use the environment nox itself runs in (``make setup`` made it)."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
import sysconfig
import time
import tomllib
from pathlib import Path

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "test"]

ROOT = Path(__file__).parent
PYTHON_ROOTS = ("agent", "control", "shared", "engine_c/python", "examples", "docs", "tests", "noxfile.py")
PACKAGES = ("walle_agent", "walle_container", "walle_task", "walle_control", "walle_shared", "walle_engine")
PACKAGE_ROOTS = ("agent", "control", "shared", "engine_c/python")


def _python(session: nox.Session, *args: str) -> None:
    session.run(sys.executable, *args, external=True)


def _tool(session: nox.Session, name: str, *args: str) -> None:
    """Run a program of this environment."""
    session.run(str(Path(sys.executable).parent / name), *args, external=True)


def _pytest(session: nox.Session, *args: str) -> None:
    _python(session, "-m", "pytest", *args, *session.posargs)


def _c_sources() -> list[str]:
    found = [*ROOT.glob("engine_c/**/*.[ch]"), *ROOT.glob("agent/**/*.c"), *ROOT.glob("tests/**/*.[ch]")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


@nox.session
def dev(session: nox.Session) -> None:
    """Editable install with a kept build folder."""
    _python(session, "-m", "pip", "install", "--quiet", "--editable", ".[agent,control]", "--group", "dev")


@nox.session
def fmt(session: nox.Session) -> None:
    """Format Python and C."""
    _python(session, "-m", "ruff", "format", *PYTHON_ROOTS)
    _python(session, "-m", "ruff", "check", "--fix-only", "--quiet", *PYTHON_ROOTS)
    _tool(session, "clang-format", "-i", *_c_sources())


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, spelling and the layers between the rooms."""
    _python(session, "-m", "ruff", "check", *PYTHON_ROOTS)
    _python(session, "-m", "ruff", "format", "--check", *PYTHON_ROOTS)
    _tool(session, "clang-format", "--dry-run", "--Werror", *_c_sources())
    _tool(session, "codespell")
    _tool(session, "lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Check types: mypy strict over the packages, and the calls that must and must not type-check."""
    _python(session, "-m", "mypy")
    _python(session, "-m", "mypy", "tests/types", "docs/reference")
    _python(session, "-m", "mypy", "agent/slim")
    _tool(session, "pyright", "--pythonpath", sys.executable)


@nox.session
def test(session: nox.Session) -> None:
    """Run the default suite: everything that is fast enough to run always; whole, it shares out the files."""
    shared_out = () if session.posargs else ("--numprocesses=auto", "--maxprocesses=4", "--dist=loadfile")
    _pytest(session, "-m", "not slow_session and not browser", *shared_out)


@nox.session
def slow(session: nox.Session) -> None:
    """Run the long drills: leak bounds, kill loops, large property runs."""
    _pytest(session, "-m", "slow_session")


@nox.session(name="property")
def property_(session: nox.Session) -> None:
    """Run the property tests with many more examples."""
    _pytest(session, "tests/property", "--hypothesis-profile=thorough")


@nox.session
def postgres(session: nox.Session) -> None:
    """Run every test of the control plane that has a database on PostgreSQL."""
    _pytest(session, "tests/unit/control", "-k", "postgres or workers")


@nox.session
def fault(session: nox.Session) -> None:
    """Run the fault loops."""
    _pytest(session, "tests/fault")


@nox.session
def api(session: nox.Session) -> None:
    """Ask a real server thousands of things that its description allows, and that it does not."""
    session.env["WALLE_API_EXAMPLES"] = "100"
    _pytest(session, "tests/e2e/test_api_description.py")


@nox.session
def e2e(session: nox.Session) -> None:
    """Run the real programs against each other on loopback."""
    _pytest(session, "tests/e2e")


def _engine(session: nox.Session, folder: str, *options: str) -> None:
    build = str(ROOT / "build" / folder)
    session.run(
        "cmake", "-S", "engine_c", "-B", build, "-G", "Ninja", "-DWALLE_TESTS=ON", *options, external=True
    )
    _tool(session, "cmake", "--build", build)
    _tool(session, "ctest", "--test-dir", build, "--output-on-failure")


@nox.session
def engine(session: nox.Session) -> None:
    """Build the C engine without Python and run its tests under every ISA this machine has."""
    _engine(session, "engine", "-DCMAKE_BUILD_TYPE=Release")


@nox.session(name="engine-san")
def engine_san(session: nox.Session) -> None:
    """The same under the address and undefined-behaviour sanitizers."""
    _engine(session, "engine-san", "-DCMAKE_BUILD_TYPE=Debug", "-DWALLE_SANITIZE=address,undefined")


@nox.session(name="engine-tsan")
def engine_tsan(session: nox.Session) -> None:
    """The same under the thread sanitizer."""
    _engine(session, "engine-tsan", "-DCMAKE_BUILD_TYPE=Debug", "-DWALLE_SANITIZE=thread")


@nox.session(name="engine-arm")
def engine_arm(session: nox.Session) -> None:
    """Build the engine for AArch64 and run it emulated: the C tests, then what the Python suites computed.

    Needs Debian's gcc-aarch64-linux-gnu and qemu-user; llvm-mca of LLVM 17 or newer for the inner loops.
    """
    for program in ("aarch64-linux-gnu-gcc", "qemu-aarch64"):
        if shutil.which(program) is None:
            session.error(f"no {program} found: apt-get install gcc-aarch64-linux-gnu qemu-user")
    build, cases = ROOT / "build" / "engine-arm", ROOT / "build" / "arm-cases"
    toolchain = f"-DCMAKE_TOOLCHAIN_FILE={ROOT / 'engine_c' / 'cmake' / 'aarch64.cmake'}"
    configure = ("-S", "engine_c", "-B", str(build), "-G", "Ninja", "-DWALLE_TESTS=ON", toolchain)
    session.run("cmake", *configure, external=True)
    _tool(session, "cmake", "--build", str(build))
    # The emulator itself gives up in children that are forked beside threads (QEMU 7.2).
    _tool(session, "ctest", "--test-dir", str(build), "--output-on-failure", "-E", "^threads$")
    emulator, checkasm = (
        ("qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"),
        str(build / "checkasm" / "checkasm"),
    )
    for cpu, isa in (("max", "neonbf16"), ("neoverse-n1", "neondot"), ("cortex-a72", "neon")):
        told = session.run(*emulator, "-cpu", cpu, checkasm, "--isa", external=True, silent=True)
        if not isinstance(told, str) or told.strip() != isa:
            session.error(f"on a {cpu}, kernels go up to {told}, not to {isa}")
    for cpu in ("neoverse-n1", "cortex-a72"):
        for test in (checkasm, str(build / "checkasm" / "bytes_test")):
            session.run(*emulator, "-cpu", cpu, test, external=True)
    _python(session, "tests/checkasm/inner_loops.py", str(build))
    shutil.rmtree(cases, ignore_errors=True)
    recorded = ("tests/conformance", "tests/property", "tests/unit/engine")
    select = ("-m", "not slow_session and not browser", "-k", "not matrix and not tunnel and not flink")
    session.run(
        sys.executable, "-m", "pytest", "-q", "-p", "walle_support.recording", *recorded, *select,
        external=True, env={**os.environ, "WALLE_RECORD": str(cases), "WALLE_ENGINE_ISA": "ref"},
    )  # fmt: skip
    session.run(*emulator, str(build / "checkasm" / "run_cases"), str(cases), external=True)


def _need_playwright(session: nox.Session) -> None:
    if importlib.util.find_spec("playwright") is None:
        session.error(
            "no Playwright: .venv/bin/python -m pip install --group browser (and Debian's chromium)"
        )


@nox.session
def browser(session: nox.Session) -> None:
    """Drive the console with Chromium, a fleet behind it: what pages do, and that all can use them."""
    _need_playwright(session)
    _pytest(session, "tests/browser", "-m", "browser", "-p", "no:randomly")


@nox.session
def screenshots(session: nox.Session) -> None:
    """Draw the pictures of the console in the guide anew."""
    _need_playwright(session)
    session.env["WALLE_SCREENSHOTS"] = str(ROOT / "docs" / "guide" / "console")
    _pytest(
        session,
        "tests/browser",
        "-m",
        "browser",
        "-p",
        "no:randomly",
        "-k",
        "goes_back or accessible or coming_in",
    )


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzz the tunnel, the converter, random graphs and the loader, a minute each; the last needs clang."""
    _python(session, "tests/fuzz/hostile_frames.py", "--seed", str(time.time_ns() % 10**6))
    for mode in ("convert", "build"):
        cases, seed = ROOT / "build" / "fuzz-cases" / mode, str(time.time_ns() % 10**6)
        options = ("--seconds", "60", "--seed", seed, "--cases", str(cases))
        _python(session, "tests/fuzz/hostile_models.py", mode, *options)
    names = ["clang", *(f"clang-{version}" for version in range(30, 13, -1))]
    clang = next(filter(None, map(shutil.which, names)), None)
    if clang is None:
        session.error(
            "no clang found: install clang and its compiler-rt, for example 'apt-get install clang'"
        )
    build, corpus = ROOT / "build" / "fuzz", ROOT / "build" / "fuzz-corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    options = ("-DWALLE_FUZZ=ON", "-DWALLE_SANITIZE=address,undefined", f"-DCMAKE_C_COMPILER={clang}")
    _tool(session, "cmake", "-S", "engine_c", "-B", str(build), "-G", "Ninja", *options)
    _tool(session, "cmake", "--build", str(build))
    (target,) = build.glob("**/fuzz_loader")
    session.run(str(target), str(corpus), "-max_total_time=60", external=True)


@nox.session
def conformance(session: nox.Session) -> None:
    """Run ONNX's own cases on the engine and list what does not pass; ``-- -k OP``, ``-- --peer``."""
    _python(session, "tests/conformance/node_suite.py", *session.posargs)


@nox.session
def matrix(session: nox.Session) -> None:
    """Say how much of the array API standard ``matrix`` has, and compare it with NumPy at length."""
    _python(session, "-m", "pytest", "-s", "-q", "tests/conformance/test_matrix_standard.py")
    _pytest(session, "tests/property", "-k", "matrix", "--hypothesis-profile=thorough")


SWITCHES = ("merge", "vertical", "horizontal", "claims", "fuse", "reuse")
CAPS = ("ref", "avx2", "avx512")


@nox.session
def switches(session: nox.Session) -> None:
    """Run the engine's suite with each optimisation off, with all off, and under each instruction set."""
    runs = {f"without {name}": {"WALLE_ENGINE_DISABLE": name} for name in SWITCHES}
    runs["without any"] = {"WALLE_ENGINE_DISABLE": ",".join(SWITCHES)}
    runs |= {f"up to {cap}": {"WALLE_ENGINE_ISA": cap} for cap in CAPS}
    suites = ("tests/unit/engine", "tests/conformance", "tests/property")
    logs = ROOT / "build" / "switches"
    logs.mkdir(parents=True, exist_ok=True)
    results: dict[str, str] = {}
    for name, environment in runs.items():
        log = logs / f"{name.replace(' ', '-')}.log"
        with log.open("w") as output:
            session.run(
                sys.executable, "-m", "pytest", *suites, "-m", "not slow_session", "--tb=short", "-q",
                *session.posargs, external=True, env={**os.environ, **environment},
                success_codes=range(256), stdout=output,
            )  # fmt: skip
        results[name] = (log.read_text().strip().splitlines() or ["nothing ran"])[-1]
    print(f"{'engine':20} result")
    for name, result in results.items():
        print(f"{name:20} {result}")
    if failed := [n for n, r in results.items() if " passed" not in r or " failed" in r or " error" in r]:
        session.error(f"failed {', '.join(failed)}: see {logs.relative_to(ROOT)}")


#: What holds for any back end; the rest of the engine's suite is about choices of the CPU's.
DEVICE_SUITES = (
    "tests/conformance/test_engine_ops.py", "tests/conformance/test_engine_types.py",
    "tests/conformance/test_module_ops.py", "tests/property/test_chains.py",
    "tests/property/test_convolution.py", "tests/property/test_geometry.py", "tests/property/test_indexed.py",
    "tests/property/test_narrow.py", "tests/property/test_sequences.py", "tests/unit/engine/test_networks.py",
    "tests/unit/engine/test_opencl.py", "tests/unit/engine/test_placing.py",
    "tests/unit/engine/test_sequence_ops.py", "tests/unit/engine/test_vision_ops.py",
)  # fmt: skip


@nox.session(name="engine-opencl")
def engine_opencl(session: nox.Session) -> None:
    """Run what holds for any back end on the first OpenCL device, and each atom and cut of products alone."""
    alone = ("tests/conformance/test_engine_ops.py", "tests/unit/engine/test_opencl.py")
    _pytest(session, *alone, "-m", "slow_session", "-k", "test_a_device")
    session.run(
        sys.executable, "-m", "pytest", *DEVICE_SUITES, "-m", "not slow_session", *session.posargs,
        external=True, env={**os.environ, "WALLE_ENGINE_BACKEND": "opencl"},
    )  # fmt: skip


#: The applications below examples, which can be played from end to end; the demo has a session of its own.
APPS = sorted(main.parent.name for main in ROOT.glob("examples/*/__main__.py") if main.parent.name != "demo")


@nox.session
def apps(session: nox.Session) -> None:
    """Play the paper's applications; pages and their index go to build/apps. ``-- NAME``: only that one."""
    out = ROOT / "build" / "apps"
    out.mkdir(parents=True, exist_ok=True)
    for name in session.posargs or APPS:
        written = ("--json", str(out / f"{name}.json"), "--report", str(out / f"{name}.html"))
        _python(session, f"examples/{name}", *written)
    _python(session, "examples/common/index.py", str(out))


@nox.session
def demo(session: nox.Session) -> None:
    """Run the main job end to end, as ``make demo`` does."""
    _python(session, "examples/demo", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation as a site, below build/site; every warning is an error."""
    _python(
        session, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", "--builder", "html",
        "--conf-dir", "docs", ".", "build/site",
    )  # fmt: skip


@nox.session
def reference(session: nox.Session) -> None:
    """Write the pages of docs/reference anew from the code, and the dashboard from its table."""
    _python(session, "docs/reference/generate.py")
    _python(session, "docs/reference/dashboard.py")


@nox.session
def bench(session: nox.Session) -> None:
    """Measure, print the table with machine facts, and write it to ``build/bench``."""
    _python(session, "tests/bench", *session.posargs)


@nox.session
def learning(session: nox.Session) -> None:
    """Learn together in one process: accuracy by round, with drop-outs, poisoned devices and noise."""
    _python(session, "tests/bench/learn_together.py", *(session.posargs or ["--rounds", "40"]))


@nox.session(name="bench-peers")
def bench_peers(session: nox.Session) -> None:
    """Install the engines to compare with into ``build/bench/peers``, where ``bench`` finds them."""
    env = ROOT / "build" / "bench" / "peers"
    if not (env / "bin" / "python").exists():
        python = _python_311()
        if python is None:
            session.error("no Python 3.11 on PATH or in pyenv: install one, for example 'pyenv install 3.11'")
        session.run(python, "-m", "venv", str(env), external=True)
    wanted = "tests/bench/peers/requirements.txt"
    session.run(str(env / "bin" / "pip"), "install", "--quiet", "--requirement", wanted, external=True)


def _python_311() -> str | None:
    """The newest Python that all peers have wheels for."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = sorted(map(str, pyenv.glob("3.11.*/bin/python")))
    return found[-1] if found else shutil.which("python3.11")


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel, install it in a clean environment and smoke-test it away from the checkout."""
    out = ROOT / "build" / "wheel"
    shutil.rmtree(out, ignore_errors=True)
    _python(session, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out), ".")
    env = out / "env"
    _python(session, "-m", "venv", str(env))
    (built,) = out.glob("*.whl")
    requirement = f"walle[agent,control] @ file://{built}"
    session.run(str(env / "bin/pip"), "install", "--quiet", requirement, external=True)
    with session.chdir(out):
        for program in ("walle-agent", "walle-control", "walle-engine"):
            session.run(str(env / "bin" / program), "--help", external=True, silent=True)
        code = "from walle_engine import _native; print(_native.Tensor([2]).tolist(), _native.isa())"
        clean = {**os.environ, "PYTHONPATH": ""}
        session.run(str(env / "bin/python"), "-c", code, external=True, env=clean)


ARM_SUFFIX = "cpython-313-aarch64-linux-gnu"
#: Imports all extensions, runs a model, and sees that 'medium' multiplies in bfloat16 where the CPU can.
ARM_SMOKE = """
import sys
from walle_container import _fence, _vm
from walle_engine import _native, api

builder = api.GraphBuilder("smoke")
builder.input("x", "F32", (64, 256))
builder.input("w", "F32", (256, 128))
builder.node("MatMul", ["x", "w"], ["y"])
builder.output("y")
session = builder.finish().session(precision="medium")
x, w = [[1.0 + i] * 256 for i in range(64)], [[0.5] * 128] * 256
assert session.run({"x": x, "w": w})["y"].tolist() == [[128.0 * (1 + i)] * 128 for i in range(64)]
(step,) = session.explain()["steps"]
assert ("bf16x1" in step["candidate"]) == (_native.isa() == "neonbf16"), step
print(sys.version.split()[0], sys.implementation._multiarch, _native.isa(), step["candidate"])
"""


def _glibc_needed(session: nox.Session, folder: Path) -> str:
    """The newest version of glibc that any library asks for, once it is seen that all are AArch64's."""
    newest = (2, 17)
    for library in sorted(folder.glob("**/*.so")):
        told = session.run("aarch64-linux-gnu-readelf", "-hV", str(library), external=True, silent=True)
        assert isinstance(told, str)
        if not re.search(r"Machine:\s+AArch64", told):
            session.error(f"{library.relative_to(folder)} is not for AArch64")
        versions = re.findall(r"GLIBC_(\d+)\.(\d+)", told)
        newest = max(newest, *((int(major), int(minor)) for major, minor in versions))
    return f"{newest[0]}_{newest[1]}"


@nox.session(name="wheel-arm")
def wheel_arm(session: nox.Session) -> None:
    """Build the wheel for AArch64 on this machine; ``-- ROOT`` tries it, emulated, on such a system's Python.

    Needs Debian's gcc-aarch64-linux-gnu, and qemu-user for a ROOT. Headers are those of the Python this runs
    in: where it matters to an extension, they are the same for every 64-bit little-endian Linux.
    """
    out = ROOT / "build" / "wheel-arm"
    shutil.rmtree(out, ignore_errors=True)
    env, content = out / "env", out / "content"
    _python(session, "-m", "venv", str(env))
    # pip would install the build's requirements for the platform of the wheel, so they are there before.
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    python = str(env / "bin" / "python")
    session.run(python, "-m", "pip", "install", "--quiet", *requires, "wheel", external=True)
    session.run(
        python, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", "--wheel-dir", str(out),
        "--config-settings", f"cmake.define.Python_INCLUDE_DIR={sysconfig.get_path('include')}", ".",
        external=True, env={
            **os.environ,
            "CMAKE_TOOLCHAIN_FILE": str(ROOT / "engine_c" / "cmake" / "aarch64.cmake"),
            "SETUPTOOLS_EXT_SUFFIX": f".{ARM_SUFFIX}.so",
            "_PYTHON_HOST_PLATFORM": "linux-aarch64",
        },
    )  # fmt: skip
    (built,) = out.glob("*.whl")
    shutil.unpack_archive(built, content, "zip")
    glibc = _glibc_needed(session, content)
    tag = f"manylinux_{glibc}_aarch64"
    session.run(python, "-m", "wheel", "tags", "--remove", "--platform-tag", tag, str(built), external=True)
    (tagged,) = out.glob("*.whl")
    print(f"{tagged.relative_to(ROOT)} is for AArch64, and for glibc {glibc.replace('_', '.')} or newer")
    for root in session.posargs:
        session.run(
            python, "-m", "pip", "install", "--quiet", "--target", str(content), "--only-binary", ":all:",
            "--platform", tag, "--platform", "manylinux2014_aarch64", "--upgrade", str(tagged), external=True,
        )  # fmt: skip
        for cpu in ("max", "cortex-a72"):
            emulated = ("qemu-aarch64", "-cpu", cpu, "-L", root, "-E", f"PYTHONPATH={content}")
            session.run(*emulated, f"{root}/usr/bin/python3.13", "-c", ARM_SMOKE, external=True)


@nox.session
def slim(session: nox.Session) -> None:
    """Build the stripped runtime of a device, its container image and its unit; try them, and the demo."""
    _python(session, "agent/slim", *session.posargs)
    if not session.posargs:
        _python(session, "examples/demo", "--digits", "30", "--agent", "build/slim/tree/bin/walle-agent")
