"""``fleet-sim``: arguments in, progress and a summary out; the work is in ``walle_control.fleet``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import trio

from walle_control.cli import show
from walle_control.cli.client import AdminClient
from walle_control.fleet.model import check_model, parse_model, run_model, servers_needed
from walle_control.fleet.plot import line_chart, thin
from walle_control.fleet.scenario import Scenario, check_scenario, parse_scenario
from walle_control.fleet.simulator import Fleet, Target, open_fleet
from walle_shared.errors import ConfigError, WalleError
from walle_shared.units import format_bytes

_TOKEN_VALID_S = 7 * 86_400.0
_PROGRESS_S = 1.0


def simulate(arguments: argparse.Namespace, client: AdminClient) -> int:
    """Run a fleet against the server that a client speaks to; the exit code.

    Raises:
        ConfigError: the scenario is wrong.
        RequestFailed: the server refuses the token or the release.
    """
    scenario = read_scenario(arguments.scenario, devices=arguments.devices, seed=arguments.seed)
    with client:
        wish = {"uses": scenario.devices, "valid_s": _TOKEN_VALID_S, "note": "fleet-sim"}
        granted = client.post("enrol-tokens", wish)
        target = Target(client.url, granted["trusted_root"], granted["token"])
        reached, summary, curves = trio.run(_run, arguments, scenario, target, client)
    if arguments.plot:
        chart = line_chart(
            f"{scenario.devices} simulated devices", "seconds since a version's first activation", curves,
            y_name="devices", y_percent=True,
        )  # fmt: skip
        _write(Path(arguments.plot), chart)
    if arguments.json:
        show.print_json(summary)
    else:
        print_summary(summary)
    return 0 if reached else 1


def play_model(arguments: argparse.Namespace) -> int:
    """Play a model of a release; 1 if it did not reach its part in time.

    Raises:
        ConfigError: the model is wrong.
        LimitExceeded: no number of servers is enough.
    """
    model = parse_model(_read(arguments.model), arguments.model)
    fleet = model.fleet
    fleet = replace(
        fleet,
        devices=fleet.devices if arguments.devices is None else arguments.devices,
        seed=fleet.seed if arguments.seed is None else arguments.seed,
    )
    model = replace(model, fleet=fleet)
    check_model(model)
    if arguments.servers_within:
        count = servers_needed(model, arguments.until, arguments.servers_within)
        model = replace(model, servers=replace(model.servers, count=count))
    result = run_model(model)
    if arguments.plot:
        curves = {
            "online, or have it": list(zip(result.times_s, result.online, strict=True)),
            "have heard": list(zip(result.times_s, result.heard, strict=True)),
            "activated": list(zip(result.times_s, result.covered, strict=True)),
        }
        thinned = {
            name: thin([(at / 60, count / 1e6) for at, count in curve]) for name, curve in curves.items()
        }
        title = f"{fleet.devices / 1e6:g} million devices, {model.servers.count} servers"
        _write(
            Path(arguments.plot), line_chart(title, "minutes since the release", thinned, y_name="million")
        )
    summary = {"servers": model.servers.count, **result.summary()}
    if arguments.json:
        show.print_json(summary)
    else:
        show.print_facts(model_facts(summary))
    return 0 if summary["covered"] >= model.until else 1


def model_facts(summary: Mapping[str, Any]) -> dict[str, object]:
    """What came of a model, for people."""
    seconds = {f"{part} of them after": f"{at:.0f} s" for part, at in summary["seconds_to"].items()}
    cost = summary["cost"]
    pace = format_bytes(summary["peak_bytes_per_s"])
    parts = ", ".join(f"{name} {value:.2f}" for name, value in cost.items())
    return {
        "devices": f"{summary['devices']:,}",
        "servers": summary["servers"],
        "have it": f"{summary['covered']:.3%} after {summary['seconds']:.0f} s",
        **seconds,
        "requests": f"{summary['requests']:,.0f}, of them {summary['server_requests']:,.0f} by servers",
        "at most": f"{summary['peak_requests_per_s']:,.0f} requests/s, {pace}/s",
        "waiting at most": f"{summary['peak_waiting']:,.0f} requests",
        "bytes": format_bytes(summary["bytes"]),
        "cost": f"{sum(cost.values()):.2f} ({parts})",
    }


def read_scenario(path: str | None, *, devices: int | None, seed: int | None) -> Scenario:
    """The scenario of a file, or a plain one, with what the command line says instead.

    Raises:
        ConfigError: naming the file and the key.
    """
    scenario = parse_scenario(_read(path), path) if path else Scenario()
    if devices is not None:
        scenario = replace(scenario, devices=devices)
    if seed is not None:
        scenario = replace(scenario, seed=seed)
    check_scenario(scenario)
    return scenario


async def _run(
    arguments: argparse.Namespace, scenario: Scenario, target: Target, client: AdminClient
) -> tuple[bool, dict[str, Any], dict[str, list[tuple[float, float]]]]:
    reached = arguments.release is None
    refused: WalleError | None = None
    async with open_fleet(scenario, target) as fleet, trio.open_nursery() as nursery:
        if not arguments.json:
            nursery.start_soon(_show_progress, fleet)
        with trio.move_on_after(arguments.seconds):
            await fleet.wait_enrolled()
            if arguments.release is None:
                await trio.sleep_forever()
            refused = await _release(arguments.release, client)
            if refused is None:
                await fleet.wait_covered(" ".join(arguments.release), arguments.until)
                reached = True
        nursery.cancel_scope.cancel()
    if refused is not None:  # raised here, where no nursery wraps it
        raise refused
    tally, pool = fleet.tally, fleet.world.pool
    curves = {name: tally.coverage(name, scenario.devices) for name in sorted(tally.activations)}
    return reached, tally.summary(scenario.devices, pool.requests, pool.received_bytes), curves


async def _release(what: tuple[str, str], client: AdminClient) -> WalleError | None:
    """Release a version to all; why not, if the server refuses."""
    scenario, _, task = what[0].partition("/")
    body = {"scenario": scenario, "task": task, "version": what[1]}
    try:
        await trio.to_thread.run_sync(client.post, "releases", body)
    except WalleError as error:
        return error
    return None


async def _show_progress(fleet: Fleet) -> None:
    while True:
        await trio.sleep(_PROGRESS_S)
        tally = fleet.tally
        running = ", ".join(f"{name}: {count}" for name, count in sorted(tally.running.items()) if count)
        print(
            f"{tally.now():6.0f} s  {tally.enrolled} enrolled, {tally.streams} streams, "
            f"{tally.reports} reports, {sum(tally.errors.values())} errors  {running}",
            file=sys.stderr,
        )


def print_summary(summary: Mapping[str, Any]) -> None:
    """Print what a fleet did, for people."""
    show.print_facts(
        {
            "devices": f"{summary['enrolled']} of {summary['devices']} enrolled",
            "seconds": f"{summary['seconds']:.1f}",
            "requests": sum(summary["requests"].values()),
            "received": format_bytes(summary["received_bytes"]),
            "reports": summary["reports"],
        }
    )
    for title, rows in (("learned of epoch", summary["epochs"]), ("activated", summary["versions"])):
        print()
        columns: list[show.Column] = [
            (title, lambda row: row["name"]),
            ("devices", lambda row: row["devices"]),
            *(
                (f"{part}, s", lambda row, part=part: f"{row[part]:.2f}")
                for part in ("p50", "p90", "p99", "last")
            ),
        ]
        show.print_table([{"name": name, **row} for name, row in rows.items()], columns, "nothing yet")
    for title, counts in (("requests for", summary["requests"]), ("errors", summary["errors"])):
        print()
        pairs: list[show.Column] = [(title, lambda row: row[0]), ("times", lambda row: row[1])]
        show.print_table(counts.items(), pairs, f"no {title}")


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from None
