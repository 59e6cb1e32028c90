"""A control plane on a temporary folder, a clock that stands still, and a git repository to import from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pygit2
import pytest
import trio
from starlette.applications import Starlette

from walle_control import setup
from walle_control.app import Control, create_app
from walle_control.config import ControlConfig
from walle_control.db.connection import Database
from walle_control.db.postgres import PostgresBackend
from walle_control.db.store import Store
from walle_control.features.tasks.simulation import failed
from walle_control.features.tasks.types import SimulationCell, SimulationResult
from walle_shared.clock import FixedClock
from walle_shared.errors import UnsupportedError
from walle_shared.manifest import SIMULATIONS_FOLDER
from walle_shared.protocol.messages import EnrolRequest, EnrolResponse, renewal_bytes
from walle_shared.signing import SigningKey

TASK_TOML = """
[task]
scenario = "demo"
name = "greeter"
entry = "main:run"

[[triggers]]
ids = ["page:home.exit"]
"""

GOOD_FILES: dict[str, bytes] = {
    "task.toml": TASK_TOML.encode(),
    "main.py": b"def run():\n    return 1\n",
    "model/net.onnx": b"onnx bytes",
}


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


#: What runs on PostgreSQL in the default suite too; ``nox -s postgres`` runs the rest of it there.
_ALWAYS_ON_POSTGRES = frozenset(
    {
        "test_connection",
        "test_reports",
        "test_migrations",
        "test_releases",
        "test_devices",
        "test_rollouts",
        "test_sinks",
        "test_audit",
    }
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what needs a database on each kind of database."""
    always = metafunc.module.__name__.rpartition(".")[2] in _ALWAYS_ON_POSTGRES
    marks = [] if always else [pytest.mark.slow_session]
    chosen = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "backend" in metafunc.fixturenames and "backend" not in chosen:
        metafunc.parametrize("backend", ["sqlite", pytest.param("postgres", marks=marks)])


@pytest.fixture
def database_url(backend: str, request: pytest.FixtureRequest) -> str:
    """What ``database.url`` says."""
    return request.getfixturevalue("postgres_schema") if backend == "postgres" else ""


@pytest.fixture
def database(database_url: str, tmp_path: Path) -> Iterator[Database]:
    """An empty database."""
    source = PostgresBackend(database_url) if database_url else tmp_path / "control.db"
    with Database(source) as database:
        yield database


@pytest.fixture
def store(tmp_path: Path, clock: FixedClock, database_url: str) -> Iterator[Store]:
    setup.init(tmp_path / "data", clock, database_url)
    store = Store.open(tmp_path / "data", database_url)
    yield store
    store.close()


@dataclass
class FakeConverter:
    """Stands in for the engine's converter: recognisable output, refuses what says so."""

    calls: int = 0

    def __call__(self, onnx_path: Path, wmodel_path: Path) -> None:
        self.calls += 1
        data = onnx_path.read_bytes()
        if b"unsupported" in data:
            raise UnsupportedError("operator Frobnicate is not known", op="Frobnicate", node="n1")
        wmodel_path.write_bytes(b"wmodel of " + data)


@dataclass
class FakeSimulator:
    """Stands in for the program that simulates: every version passes, unless told otherwise."""

    passes: bool = True
    cpu_s: float = 0.1
    seen: list[Mapping[str, bytes]] = field(default_factory=list)

    def __call__(self, files: Mapping[str, bytes], timeout_s: float) -> SimulationResult:
        self.seen.append(files)
        if not self.passes:
            return failed("golden_differs", "not what was expected")
        smoked = not any(path.startswith(f"{SIMULATIONS_FOLDER}/") for path in files)
        cell = SimulationCell("" if smoked else "visit", "", "", 1, self.cpu_s, 1024, ())
        return SimulationResult(passed=True, smoked=smoked, cells=(cell,))


@pytest.fixture
def converter() -> FakeConverter:
    return FakeConverter()


@pytest.fixture
def config() -> ControlConfig:
    return ControlConfig()


@pytest.fixture
def simulator() -> FakeSimulator:
    return FakeSimulator()


@pytest.fixture
def app(
    config: ControlConfig,
    clock: FixedClock,
    store: Store,
    converter: FakeConverter,
    simulator: FakeSimulator,
) -> Starlette:
    return create_app(config, clock=clock, store=store, convert=converter, simulate=simulator)


@pytest.fixture
async def control(app: Starlette, nursery: trio.Nursery) -> Control:
    control: Control = app.state.control
    await nursery.start(control.run)
    return control


@pytest.fixture
def admin_token(store: Store) -> str:
    return store.home.admin_token.read_text().strip()


@pytest.fixture
async def anyone(app: Starlette, control: Control) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
        yield client


@pytest.fixture
async def admin(app: Starlette, control: Control, admin_token: str) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {admin_token}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://control", headers=headers) as client:
        yield client


@dataclass
class DeviceActor:
    """A device with its key, as far as the control plane can tell."""

    key: SigningKey = field(default_factory=SigningKey.generate)
    response: EnrolResponse | None = None

    @property
    def id(self) -> str:
        assert self.response is not None
        return self.response.device_id

    @property
    def headers(self) -> dict[str, str]:
        assert self.response is not None
        return {"Authorization": f"Bearer {self.response.credential}"}

    def request(self, token: str, **profile: str | int) -> EnrolRequest:
        return EnrolRequest(token, self.key.public.raw_hex, profile)

    def renewal_signature(self, at_ms: int) -> str:
        return self.key.sign(renewal_bytes(self.id, at_ms))


@pytest.fixture
def enrol(control: Control) -> Callable[..., object]:
    """``await enrol(group="beta")``: a freshly enrolled device."""
    from walle_control.features.devices.types import EnrolTokenRequest

    async def enrol_one(**profile: str | int) -> DeviceActor:
        token = await control.devices.create_enrol_token(EnrolTokenRequest(), "anna")
        device = DeviceActor()
        device.response = await control.devices.enrol(device.request(token.token, **profile))
        return device

    return enrol_one


class GitRepo:
    """A git repository that only ever gets commits and tags, never a work tree."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.repo = pygit2.init_repository(str(path), bare=True)
        self.author = pygit2.Signature("Test", "test@example.org", 1_700_000_000, 0)

    def tag(
        self,
        tag: str,
        folder: str,
        files: Mapping[str, bytes],
        mode: Mapping[str, int] | None = None,
        *,
        message: str = "a version",
        parents: Sequence[str] = (),
    ) -> str:
        """Commit ``files`` below ``folder`` and tag the commit, unless ``tag`` is empty; its id."""
        index = pygit2.Index()
        for path, data in files.items():
            kind = (mode or {}).get(path, 0o100644)
            blob = self.repo.create_blob(data) if kind != 0o160000 else pygit2.Oid(hex="12" * 20)
            index.add(pygit2.IndexEntry(f"{folder}/{path}", blob, kind))
        tree = index.write_tree(self.repo)
        before = [pygit2.Oid(hex=parent) for parent in parents]
        commit = self.repo.create_commit(None, self.author, self.author, message, tree, before)
        if tag:
            self.repo.references.create(f"refs/tags/{tag}", commit, force=True)
        return str(commit)


@pytest.fixture
def repo(tmp_path: Path) -> GitRepo:
    return GitRepo(tmp_path / "tasks.git")


@pytest.fixture
def good_files() -> dict[str, bytes]:
    return dict(GOOD_FILES)


@pytest.fixture
def imported(control: Control, repo: GitRepo) -> Callable[..., object]:
    """``await imported("1.0.0")``: greeter at that version is imported."""
    from walle_control.features.tasks.types import ImportRequest

    async def import_one(version: str = "1.0.0") -> None:
        files = {**GOOD_FILES, "main.py": f"VERSION = '{version}'\n\ndef run():\n    return 1\n".encode()}
        repo.tag(f"greeter/{version}", "greeter", files)
        await control.tasks.import_version(ImportRequest(str(repo.path), "greeter", version), "anna")

    return import_one
