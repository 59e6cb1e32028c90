"""Real servers for the sinks' tests, each private: its own folder, a free port, gone at the end."""

from __future__ import annotations

import os
import pwd
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_START_S = 60.0


def quiet_port() -> int:
    """A free port that no outgoing connection is given: a server finds it free again after a restart."""
    while True:
        port = random.randrange(20_000, 32_000)  # below the range of ephemeral ports
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def free_port() -> int:
    """A port of loopback nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def postgres_programs() -> Path | None:
    """The folder of ``initdb`` and ``postgres``, if they are installed."""
    if found := shutil.which("postgres"):
        return Path(found).parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


def nats_program() -> str | None:
    """The program ``nats-server``, if it is installed."""
    beside = Path(sys.executable).with_name("nats-server")
    return str(beside) if beside.exists() else shutil.which("nats-server")


@dataclass
class ServerProcess:
    """One server that can be killed, stopped for a while and started again where it was."""

    url: str
    command: list[str]
    ready: Callable[[], bool]
    user: str | None
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, user=self.user, extra_groups=[] if self.user else None
            )
        deadline = time.monotonic() + _START_S
        while not self.ready():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, f"{self.command[0]} did not start: {self.log.read_text()}"
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextmanager
def run_postgres(*settings: str, host: str = "") -> Iterator[ServerProcess]:
    """A PostgreSQL with one empty database, on a Unix socket or at ``host``, where it trusts everybody.

    It refuses to be root, so it is not.
    """
    programs = postgres_programs()
    assert programs is not None
    user = "nobody" if os.geteuid() == 0 else None
    # Not below pytest's folder: that is closed to other users, and a socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="walle-pg-", ignore_cleanup_errors=True) as folder:
        if user:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        data, log = Path(folder, "data"), Path(folder, "log.txt")
        init = [str(programs / "initdb"), "-D", str(data), "-U", "walle", "-A", "trust", "-E", "UTF8", "-N"]
        options = {"check": True, "capture_output": True, "cwd": folder}
        subprocess.run([*init, "--locale=C"], user=user, extra_groups=[] if user else None, **options)  # type: ignore[call-overload]
        if host:
            with (data / "pg_hba.conf").open("a") as rules:
                rules.write("host all all all trust\n")
        command = [
            str(programs / "postgres"), "-D", str(data), "-k", folder, "-c", f"listen_addresses={host}",
            "-c", "shared_buffers=16MB", "-c", "max_connections=60",
            *(word for setting in settings for word in ("-c", setting)),
        ]  # fmt: skip
        url = f"postgresql://walle@{host}/postgres" if host else f"postgresql://walle@/postgres?host={folder}"
        server = ServerProcess(url, command, lambda: _postgres_answers(url), user, log)
        server.start()
        try:
            yield server
        finally:
            server.kill()


#: For tests that never kill the machine: what they wait for otherwise is the disk.
FORGETFUL = ("fsync=off", "full_page_writes=off", "synchronous_commit=off")


def new_schema(server: ServerProcess) -> str:
    """The URL of an empty schema of one's own."""
    import psycopg

    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f'CREATE SCHEMA "{name}"'.encode())
    return f"{server.url}&options=-csearch_path%3D{name}"


@contextmanager
def run_nats() -> Iterator[ServerProcess]:
    """A JetStream server that keeps its streams on disk."""
    program = nats_program()
    assert program is not None
    with tempfile.TemporaryDirectory(prefix="walle-nats-", ignore_cleanup_errors=True) as folder:
        port = free_port()
        command = [program, "-js", "-sd", folder, "-a", "127.0.0.1", "-p", str(port)]
        url = f"nats://127.0.0.1:{port}"
        server = ServerProcess(url, command, lambda: _listens(port), None, Path(folder, "log.txt"))
        server.start()
        try:
            yield server
        finally:
            server.kill()


def _postgres_answers(url: str) -> bool:
    import psycopg

    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
