"""``doctor``: asks a server for everything that may be wrong with it, and says how to mend it."""

from __future__ import annotations

import argparse
import shutil
import stat
import time
from collections.abc import Iterator

from walle_control.cli import show
from walle_control.cli.arguments import Subparsers, add_remote
from walle_control.cli.client import AdminClient, RequestFailed, connect, data_folder
from walle_control.db.store import Home
from walle_shared.findings import Finding, all_well, fine, note, tell, wrong
from walle_shared.records import to_plain
from walle_shared.units import MIB, format_bytes

#: Less room than this for published files and the database is worth a word.
_ROOM_BYTES = 5 * 1024 * MIB


def add_to(top: Subparsers) -> None:
    """Add it to the command line."""
    add_remote(top, "doctor", doctor, "look at everything a server needs; say what is wrong, and the cure")


def doctor(arguments: argparse.Namespace) -> int:
    """``doctor``."""
    folder = data_folder(arguments)
    findings = list(_folder(Home(folder))) if folder is not None else []
    with connect(arguments) as client:
        findings += _examine(client)
    show.print_answer(arguments, to_plain(findings), lambda: print(tell(findings)))
    return 0 if all_well(findings) else 1


def _folder(home: Home) -> Iterator[Finding]:
    about = "data folder"
    for path in (home.keys, home.admin_token):
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
            yield wrong(about, f"{path} is open to others", f"chmod go= {path}, and rotate what it holds")
            break
    else:
        yield fine(about, f"{home.root}: keys and tokens are their owner's alone")
    free = shutil.disk_usage(home.root).free
    if free < _ROOM_BYTES:
        yield note("disk", f"{format_bytes(free)} free", "make room: imports and writes fail without")
    else:
        yield fine("disk", f"{format_bytes(free)} free")


def _examine(client: AdminClient) -> Iterator[Finding]:
    began = time.monotonic()
    status = client.get("status")
    took_ms = (time.monotonic() - began) * 1e3
    yield fine("server", f"{client.url} answers in {took_ms:.0f} ms, version {status['version']}")
    for look in (_epoch, _trust, _releases, _approvals, _repositories, _sinks, _webhooks):
        try:
            yield from look(client)
        except RequestFailed as error:
            if error.code != "not_allowed":
                raise
            yield note(
                look.__name__.strip("_"), f"not yours to see: {error.message}", "ask with another token"
            )


def _epoch(client: AdminClient) -> Iterator[Finding]:
    epoch = client.get("epoch")
    left_s = epoch["envelope"]["signed"]["expires_ms"] / 1000 - time.time()
    tells = f"{epoch['epoch']}, valid for {left_s / 3600:.0f} h"
    if left_s <= 0:
        yield wrong(
            "epoch", f"{epoch['epoch']} has expired", "see the log for signing_failed: is the disk full?"
        )
    else:
        yield fine("epoch", tells)


def _trust(client: AdminClient) -> Iterator[Finding]:
    now_ms = time.time() * 1000
    roles = [role for role in client.get("trust")["roles"] if role["expires_ms"]]  # the others hold for ever
    expiring = client.get("status")[
        "trust_expiring"
    ]  # by trust.warn_s; not those that the server signs itself
    late = [role for role in roles if role["expires_ms"] <= now_ms]
    for role in late:
        cure = f"walle-control trust renew {role['role']}; devices take nothing new until then"
        yield wrong("trust", f"{role['role']} has expired", cure)
    for role in roles:
        if role["role"] in expiring and role not in late:
            tells = f"{role['role']} expires {show.moment(role['expires_ms'])} UTC"
            yield note("trust", tells, f"walle-control trust renew {role['role']}")
    if not late:
        yield fine("trust", f"{len(roles)} roles are valid")


def _releases(client: AdminClient) -> Iterator[Finding]:
    releases = client.get("releases")["releases"]
    for release in releases:
        head = release["release"]
        if head["state"] == "paused":
            cure = f"walle-control release show {head['id']}; then resume it, or roll it back"
            yield note("release", f"{head['id']} is paused: {release['verdict']['reason']}", cure)
    yield fine("releases", f"{sum(r['release']['state'] == 'live' for r in releases)} live")


def _approvals(client: AdminClient) -> Iterator[Finding]:
    for waiting in client.get("approvals")["approvals"]:
        tells = (
            f"{waiting['release_id']}: {waiting['step']} waits since {show.moment(waiting['asked_ms'])} UTC"
        )
        yield note("approval", tells, f"walle-control release approve {waiting['release_id']}, or reject it")


def _repositories(client: AdminClient) -> Iterator[Finding]:
    repositories = client.get("repositories")["repositories"]
    failing = [entry for entry in repositories if entry["error"]]
    for entry in failing:
        name = entry["repository"]["name"]
        yield wrong(
            "repository", f"{name}: {entry['error']}", f"mend that, then walle-control repo sync {name}"
        )
    if repositories and not failing:
        yield fine("repositories", f"{len(repositories)} are fetched")


def _sinks(client: AdminClient) -> Iterator[Finding]:
    for sink in client.get("sinks")["sinks"]:
        if sink["error"]:
            since = show.moment(sink["failing_since_ms"])
            cure = "mend it: nothing is lost, devices keep what it lacks"
            yield wrong("sink", f"{sink['name']} fails since {since} UTC: {sink['error']}", cure)
        elif sink["refused"]:
            tells = f"{sink['name']} refused {sink['refused']} rows for good"
            yield note("sink", tells, "see its log, and the types that the manifest declares")
        else:
            yield fine("sink", f"{sink['name']}: {sink['lag_rows']} behind")


def _webhooks(client: AdminClient) -> Iterator[Finding]:
    for hook in client.get("webhooks")["webhooks"]:
        if not hook["active"] or hook["dead"]:
            cure = f"walle-control webhook deliveries {hook['id']}, then redeliver"
            state = f"{hook['dead']} given up" if hook["active"] else "rests"
            yield note("webhook", f"{hook['url']}: {state}", cure)
