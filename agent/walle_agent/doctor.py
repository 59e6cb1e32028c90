"""Looks at everything that a device needs, and says what is wrong and how to mend it.

It changes nothing that an agent uses, so it may look at a running one: what the control plane says is judged
from the root in the settings, in a folder of its own, as a device that starts afresh would.
"""

from __future__ import annotations

import shutil
import sqlite3
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from walle_agent import app
from walle_agent.config import AgentConfig
from walle_agent.deploy.trust import TrustKeeper
from walle_agent.link.signed_clock import SignedClock
from walle_agent.link.transport import Transport
from walle_agent.state.keeper import StateKeeper
from walle_agent.state.reports import read_statistics
from walle_agent.state.store import DeviceState, Identity, StateStore, read_only
from walle_container import fences
from walle_shared.clock import SystemClock
from walle_shared.errors import StorageError, TransportError, TrustError, WalleError
from walle_shared.findings import Finding, fine, note, wrong
from walle_shared.protocol.messages import EpochInfo
from walle_shared.units import MIB, format_bytes

#: Less room than this is worth a word: a bundle and its predecessor have to fit beside each other.
_ROOM_BYTES = 512 * MIB

#: Wall clocks further off than this are worth a word, though nothing rests on them.
_CLOCK_OFF_S = 120.0

#: How long the control plane may take to answer a doctor.
_PATIENCE_S = 10.0


async def examine(config: AgentConfig) -> list[Finding]:
    """Look at a device, from the disk to the control plane."""
    findings = [*_folder(config.data_dir), *_kernel(), *_engine(), *_schema(config)]
    try:
        identity, state = read_only(config.data_dir)
    except StorageError as error:
        findings.append(
            wrong("state", str(error), "start the agent: it takes its last good copy, or enrols again")
        )
        identity, state = None, None
    findings += [*_identity(config, identity), *_agent(config), *_tasks(state)]
    return findings + await _control(config, state)


def _folder(folder: Path) -> Iterator[Finding]:
    about = "data folder"
    if not folder.exists():
        yield note(about, f"{folder} is not there yet", "the agent makes it when it first runs")
        return
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o077:
        yield wrong(about, f"{folder} is open to others ({mode:04o})", f"chmod 700 {folder}")
    else:
        yield fine(about, str(folder))
    free = shutil.disk_usage(folder).free
    if free < _ROOM_BYTES:
        yield note("disk", f"{format_bytes(free)} free", "make room: installations wait for it")
    else:
        yield fine("disk", f"{format_bytes(free)} free")
    for name in (app.REPORTS_FILE, app.STREAMS_FILE):
        if (folder / name).exists():
            yield _database(folder / name)


def _database(path: Path) -> Finding:
    try:
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=2.0)
        try:
            verdict = str(db.execute("PRAGMA quick_check").fetchone()[0])
        finally:
            db.close()
    except sqlite3.Error as error:
        verdict = str(error)
    if verdict == "ok":
        return fine(path.name, f"sound, {format_bytes(path.stat().st_size)}")
    return wrong(
        path.name, f"damaged: {verdict}", "restart the agent: it sets the file aside and begins anew"
    )


def _kernel() -> Iterator[Finding]:
    found = fences.find_fences()
    for name in (fences.LANDLOCK, fences.SECCOMP):
        if name in found:
            yield fine(name, "the kernel offers it")
        else:
            yield note(
                name,
                "the kernel lacks it: tasks are kept apart by the interpreter alone",
                "use a kernel with it, or release only what you would run as yourself",
            )


def _engine() -> Iterator[Finding]:
    try:
        import walle_engine  # the doctor must come even where it does not load
    except ImportError as error:
        yield wrong("engine", f"does not load: {error}", "install walle again, built for this machine")
        return
    try:
        yield fine("engine", f"{walle_engine.isa()} instructions")
    except WalleError as error:
        yield wrong("engine", error.message, "unset WALLE_ENGINE_ISA, or name one that this processor has")


def _schema(config: AgentConfig) -> Iterator[Finding]:
    try:
        schema = config.event_schema()
    except WalleError as error:
        yield wrong("event schema", error.message, "mend the file: the agent does not start with it")
        return
    if schema is None:
        yield note("event schema", "none: no field has a privacy class", "set streams.schema")
    else:
        yield fine("event schema", config.streams.schema)


def _identity(config: AgentConfig, identity: Identity | None) -> Iterator[Finding]:
    if identity is not None and identity.enrolled:
        yield fine("enrolment", f"this is {identity.device_id}")
    elif config.control.enrol_token:
        yield note("enrolment", "not yet", "start the agent: it enrols by control.enrol_token")
    else:
        yield wrong(
            "enrolment", "the control plane does not know this device", "walle-agent enrol --token TOKEN"
        )


def _agent(config: AgentConfig) -> Iterator[Finding]:
    if not app.is_running(config.data_dir):
        yield note("agent", "not running", "walle-agent run, or systemctl start walle-agent")
    elif not config.events_socket.exists():
        yield wrong(
            "agent",
            f"runs, but {config.events_socket} is gone: apps cannot say anything",
            "restart the agent",
        )
    else:
        yield fine("agent", f"running, takes events at {config.events_socket}")
    try:
        reports = read_statistics(config.data_dir / app.REPORTS_FILE)
    except StorageError:
        return  # told of by _database
    if reports.evicted:
        yield note(
            "reports",
            f"{reports.evicted} were dropped, {reports.queued} wait",
            "let the device reach its control plane more often, or raise link.reports_max",
        )
    else:
        yield fine("reports", f"{reports.queued} wait, {reports.delivered} delivered")


def _tasks(state: DeviceState | None) -> Iterator[Finding]:
    if state is None:
        return
    active = sum(record.active is not None for record in state.tasks)
    yield fine("tasks", f"{active} of {len(state.tasks)} run")
    for entry in state.quarantine:
        yield note(
            "quarantine",
            f"{entry.release_id}: {entry.reason}",
            "a new release with other files is tried at once; this one again after its time",
        )
    for isolated in state.isolated:
        yield note(
            "isolated", isolated.reason, "mend the task: it runs in a process of its own, which costs time"
        )


async def _control(config: AgentConfig, state: DeviceState | None) -> list[Finding]:
    about = "control plane"
    with tempfile.TemporaryDirectory(prefix="walle-doctor-") as folder:
        store = StateStore(Path(folder), on_corrupt=_ignore)
        clock = SignedClock(SystemClock())
        async with Transport(config.control.url, timeout_s=_PATIENCE_S) as transport:
            trust = TrustKeeper(
                transport,
                Path(folder),
                config.trusted_root(),
                StateKeeper(store),
                clock,
                on_corrupt=_ignore,
            )
            began = time.monotonic()
            try:
                answer = await transport.get_epoch()
                took_ms = (time.monotonic() - began) * 1e3
                if answer is None:
                    raise TransportError("an answer without an epoch")
                info = await trust.open_epoch(answer.envelope)
            except TrustError as error:
                cure = "is control.trusted_root that of this control plane? 'walle-control status' shows it"
                return [wrong("trust", error.message, cure)]
            except WalleError as error:
                cure = "check control.url, the network, and 'walle-control doctor' over there"
                return [wrong(about, f"{config.control.url}: {error.message}", cure)]
    return [
        fine(about, f"{config.control.url} answers in {took_ms:.0f} ms"),
        fine("trust", "what it signs follows from the root in the settings"),
        _epoch(info, state),
        _clock(clock.wall_ms()),
    ]


def _epoch(info: EpochInfo, state: DeviceState | None) -> Finding:
    known = state.epoch if state is not None else 0
    if known < info.epoch:
        cure = "run the agent; if it runs, its log says why it has not followed"
        return note("epoch", f"{known} here, {info.epoch} there", cure)
    if known > info.epoch:
        cure = "is control.url the right one? After a restore, restore again with --last-epoch"
        return wrong("epoch", f"{known} here, but only {info.epoch} there", cure)
    return fine("epoch", str(known))


def _clock(true_ms: int) -> Finding:
    off_s = (SystemClock().wall_ms() - true_ms) / 1e3
    if abs(off_s) > _CLOCK_OFF_S:
        tells = f"off by {off_s:+.0f} s; nothing is judged by it but windows and logs"
        return note("wall clock", tells, "let the system keep its time (timedatectl set-ntp true)")
    return fine("wall clock", f"{off_s:+.1f} s from the control plane's")


def _ignore(_error: StorageError) -> None:
    """A new folder holds nothing corrupt."""
