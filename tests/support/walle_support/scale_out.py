"""The whole scale-out profile on loopback: a private PostgreSQL, two workers, nginx with nchan."""

from __future__ import annotations

import datetime
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parents[3] / "examples" / "common"))
from walle_support.live import LiveControl  # pyright: ignore[reportAttributeAccessIssue]
from walle_support.servers import quiet_port
from world import BIN, Program, wait_for

CONFIGS = Path(__file__).parents[3] / "configs" / "scale-out"
NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")


def nginx_program() -> str | None:
    """nginx with nchan, if it is installed."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    return found if NCHAN.exists() else None


class Nginx:
    """nginx with the settings that ``configs/scale-out`` shows, but for its paths and ports.

    Args:
        folder: everything it writes.
        static: the published files.
        control_port: where the workers listen.
        tls: a folder with ``server.pem`` and ``server.key``; without it, plain HTTP.
        more: further directives of the devices' server.
        mutual: whether devices need certificates.
    """

    def __init__(
        self,
        folder: Path,
        static: Path,
        control_port: int,
        *,
        tls: Path | None = None,
        more: str = "",
        mutual: bool = False,
        workers: int = 1,
    ) -> None:
        self.folder = folder
        self.port, self.push_port = quiet_port(), quiet_port()
        self._program: Program | None = None
        folder.mkdir()
        secure = " ssl http2" if tls else ""
        changes = {
            "user www-data;": "user root;" if os.geteuid() == 0 else "",
            "pid /run/nginx.pid;": f"pid {folder}/nginx.pid; daemon off;",
            "/var/log/nginx/error.log": f"{folder}/error.log",
            "worker_processes auto;": f"worker_processes {workers};",
            "worker_rlimit_nofile 200000;": "",
            "worker_connections 100000;": "worker_connections 16384;",
            "http {": "http {" + "".join(
                f"{kind}_temp_path {folder}/{kind};"
                for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            ),
            "nchan_shared_memory_size 512M;": "nchan_shared_memory_size 128M;",
            "127.0.0.1:8700": f"127.0.0.1:{control_port}",
            "listen 443 ssl http2 backlog=4096;": f"listen 127.0.0.1:{self.port}{secure};{more}",
            "/etc/walle/tls/": f"{tls or folder}/",
            "/var/lib/walle/control/static/": f"{static}/",
            "127.0.0.1:8702": f"127.0.0.1:{self.push_port}",
            "rate=20r/s": "rate=2000r/s",
            "rate=200r/s": "rate=20000r/s",
            "limit_conn client 2000;": "limit_conn client 20000;",
        }  # fmt: skip
        text = (CONFIGS / "nginx.conf").read_text()
        for shown, here in changes.items():
            assert shown in text, f"nginx.conf has no {shown!r} any more"
            text = text.replace(shown, here)
        if mutual:
            text = text.replace("#mtls ", "")
        if tls is None:
            text = re.sub(r"\n\s*ssl_[^\n]*", "", text)
        self.config = folder / "nginx.conf"
        self.config.write_text(text)
        self.url = f"{'https' if tls else 'http'}://{'localhost' if tls else '127.0.0.1'}:{self.port}"
        self.push_url = f"http://127.0.0.1:{self.push_port}/push/epoch"

    def start(self) -> None:
        """Start, and wait until it listens."""
        program = nginx_program()
        assert program is not None
        self._program = Program("nginx", [program, "-e", f"{self.folder}/error.log", "-c", str(self.config)],
                                self.folder / "log.txt")  # fmt: skip
        wait_for("nginx to listen", self._listens)

    def _listens(self) -> bool | None:
        assert self._program is not None
        self._program.check()
        try:
            httpx.get(f"http://127.0.0.1:{self.push_port}/", timeout=2)
        except httpx.TransportError:
            return None
        return True

    def kill(self) -> None:
        """SIGKILL of master and workers."""
        assert self._program is not None
        master = int((self.folder / "nginx.pid").read_text())
        children = children_of(master)
        self._program.kill()
        for child in children:
            os.kill(child, signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM: a fast stop."""
        if self._program is not None:
            self._program.stop()


class ScaleOutControl(LiveControl):
    """``walle-control serve --workers N`` on a PostgreSQL."""

    def __init__(self, folder: Path, database_url: str, settings: str = "", workers: int = 2) -> None:
        super().__init__(folder)
        self.database_url = database_url
        self.settings = settings
        self.workers = workers

    def start(self, port: int = 0) -> None:
        """Initialise the data folder, start the workers, wait until they answer."""
        if not (self.data / "control.toml").exists():
            self.command("init", "--database", self.database_url)
            if self.settings:
                path = self.data / "control.toml"
                lines = path.read_text().splitlines()
                new = dict(line.split(" = ", 1) for line in self.settings.splitlines() if line)
                kept = [
                    f"{key} = {new.pop(key)}" if (key := line.split(" = ")[0]) in new else line
                    for line in lines
                ]
                assert not new, f"no such settings: {new}"
                path.write_text("\n".join(kept) + "\n")
        words = [
            str(BIN / "walle-control"), "serve", "--data", str(self.data), "--port", str(port),
            "--workers", str(self.workers),
        ]  # fmt: skip
        self._program = Program("walle-control", words, self.data.parent / "control.log")
        self.url = wait_for("walle-control to listen", self._address, timeout_s=60)["url"]
        token = (self.data / "admin.token").read_text().strip()
        self._client = httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=30
        )

    @property
    def pid(self) -> int:
        """The parent's process id."""
        address = self._address()
        assert address is not None
        return int(address["pid"])

    def worker_pids(self) -> list[int]:
        """The workers' process ids."""
        return children_of(self.pid)

    def replace_workers(self) -> None:
        """SIGHUP, and wait until every worker is another one."""
        before = set(self.worker_pids())
        os.kill(self.pid, signal.SIGHUP)

        def replaced() -> bool | None:
            now = set(self.worker_pids())
            return True if not before & now and len(now) == self.workers else None

        wait_for("the workers to be replaced", replaced, timeout_s=60)

    def crash_parent(self) -> None:
        """SIGKILL of the parent alone."""
        super().crash()

    def crash(self) -> None:
        """SIGKILL of the parent and all workers."""
        workers = self.worker_pids()
        self.crash_parent()
        for pid in workers:
            with suppress(ProcessLookupError):  # it ends by itself then
                os.kill(pid, signal.SIGKILL)
        for pid in workers:
            while Path(f"/proc/{pid}").exists() and _state(pid) != "Z":
                time.sleep(0.005)


def children_of(pid: int) -> list[int]:
    """The processes that any thread of a process has started."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return sorted({int(child) for children in lists for child in children.read_text().split()})


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


@contextmanager
def run_profile(
    folder: Path, database_url: str, **nginx_options: Any
) -> Iterator[tuple[ScaleOutControl, Nginx]]:
    """Bring everything up; everything is gone at the end."""
    port = quiet_port()
    control = ScaleOutControl(folder, database_url)
    nginx = Nginx(folder / "nginx", control.data / "static", port, **nginx_options)
    control.settings = f'nchan_urls = ["{nginx.push_url}"]\naccel_prefix = "/_files"\n'
    nginx.start()
    try:
        control.start(port)
        yield control, nginx
    finally:
        control.stop()
        nginx.stop()


def make_certificate(folder: Path) -> Path:
    """A certificate for ``localhost`` that signs itself, its key, and itself again as an authority."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    folder.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "server.pem").write_bytes(pem)
    (folder / "devices-ca.pem").write_bytes(pem)
    (folder / "server.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return folder
