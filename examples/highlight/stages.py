"""The stages of the example, in order: three devices watch the same streams, each in a way of its own.

One asks the cloud where it is unsure, one never does, and one always does: the cloud's models on every tick
are what the first two are compared with.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import judge
import measure
import picture
import results
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

import generate
from page import Page
from screen import Screen
from train import SEEDS
from world import ControlPlane, DemoError, Device, World, commit_tasks, wait_for, wall_ms

HERE = Path(__file__).resolve().parent
TASK = HERE / "task"
#: The name of the task for each way of watching; the mode is a parameter of it.
TASKS: Mapping[str, str] = {"gate": "highlight", "device": "highlight_alone", "cloud": "highlight_cloud"}
#: What the ways are called in tables.
WORDS = {"gate": "device, cloud if unsure", "device": "device alone", "cloud": "cloud on every tick"}


@dataclass
class Show:
    """What the stages share: the world, the streams, and what is on the screen."""

    world: World
    streams: int
    ticks: int
    pause_s: float
    moments: dict[str, list[generate.Moment]] = field(default_factory=dict)
    shown: generate.Moment | None = None
    played: dict[str, int] = field(default_factory=dict)  # by way: ticks emitted
    found: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # by way: highlights' fields
    sums: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # by way: summaries' fields

    def truth(self) -> dict[str, list[judge.Span]]:
        """The highlights of each stream."""
        return {name: generate.spans([m.tick for m in moments]) for name, moments in self.moments.items()}

    def body(self) -> RenderableType:
        """The frame that is on, and what each device made of its stream so far."""
        table = Table(title="Watching · SYNTHETIC streams", title_justify="left")
        for column in ("way", "ticks", "highlights", "asked", "kept by the cloud", "cloud s", "KB up"):
            table.add_column(column, justify="left" if column == "way" else "right")
        for way, word in WORDS.items():
            sums = self.sums.get(way, [])
            told = [
                sum(row[name] for row in sums)
                for name in ("asked", "accepted_by_cloud", "cloud_ms", "up_bytes")
            ]
            table.add_row(
                word, str(self.played.get(way, 0)), str(len(self.found.get(way, []))), f"{told[0]:.0f}",
                f"{told[1]:.0f}", f"{told[2] / 1e3:.2f}", f"{told[3] / 1e3:,.1f}",
            )  # fmt: skip
        if self.shown is None:
            return table
        tick = self.shown.tick
        about = f"tick {tick.number}: {tick.segment}" + (" · a highlight" if tick.highlight else "")
        return Group(picture.draw(self.shown.frame.pixels), Text(about, style="dim"), table)

    def conclusion(self) -> RenderableType:
        """The tables."""
        return results.tables(self.world.summary)

    def page(self) -> Page:
        """The tables and plots to keep."""
        page = results.page(self.world.summary)
        for title, moment in self._pictures():
            page.picture(title, base64.b64encode(moment.jpeg).decode())
        return page

    def _pictures(self) -> Iterator[tuple[str, generate.Moment]]:
        first = next(iter(self.moments.values()), [])
        for segment in generate.SEGMENTS:
            for moment in first:
                if moment.tick.segment == segment:
                    yield f"A frame of {segment!r}", moment
                    break

    def kept(self) -> Iterable[str]:
        """What to look at."""
        yield "walle-control release list"
        yield "walle-control features list --task highlight"


def make_repository(show: Show) -> str:
    """Put the task into a new git repository, once for each way."""
    changes = {}
    for way, task in TASKS.items():
        changed = show.world.folder / f"{task}.toml"
        text = (TASK / "task.toml").read_text()
        text = text.replace('name = "highlight"', f'name = "{task}"').replace(
            'mode = "gate"', f'mode = "{way}"'
        )
        changed.write_text(text)
        changes[f"{task}/task.toml"] = changed
    commit_tasks(show.world.folder / "tasks", dict.fromkeys(TASKS.values(), TASK), "1.0.0", changes=changes)
    return ", ".join(f"{task}/1.0.0" for task in TASKS.values())


def start_control(show: Show) -> str:
    """Start the control plane."""
    show.world.control.start()
    return show.world.control.url


def start_devices(show: Show) -> str:
    """Start one agent for each way."""
    show.world.enrol()
    return ", ".join(show.world.devices)


def import_tasks(show: Show) -> str:
    """Import the task: the device's half, and the cloud's that stays there."""
    for task in TASKS.values():
        show.world.bring(task, "1.0.0")
    size = sum(path.stat().st_size for path in (TASK / "model").iterdir())
    kept = sum(path.stat().st_size for path in (TASK / "cloud").iterdir())
    return f"{size / 1e3:,.0f} KB of models for devices; {kept / 1e3:,.0f} KB stay in the cloud"


def release_tasks(show: Show) -> str:
    """Release each way to its own device."""
    for way, task in TASKS.items():
        show.world.release(task, "1.0.0", predicate=f'way == "{way}"')
    wanted = {(task, device_name(way)) for way, task in TASKS.items()}
    wait_for("the devices to install the task", lambda: _installed(show, wanted), timeout_s=60)
    return "one way of watching for each device"


def _installed(show: Show, wanted: set[tuple[str, str]]) -> bool | None:
    show.world.check()
    return True if show.world.installed().keys() >= wanted else None


def device_name(way: str) -> str:
    """The device that watches this way."""
    return f"phone-{way}"


def draw_streams(show: Show) -> str:
    """Draw the streams; no model has learnt from their seeds."""
    for number in range(show.streams):
        name = f"stream-{number}"
        show.moments[name] = list(generate.stream(SEEDS["test"] + number, show.ticks))
    every = [moment for moments in show.moments.values() for moment in moments]
    show.world.summary |= {
        "synthetic": True,
        "streams": show.streams,
        "ticks": len(every),
        "raw_bytes": sum(len(moment.jpeg) + moment.sound.nbytes for moment in every),
        "highlights": sum(len(spans) for spans in show.truth().values()),
    }
    return f"{len(every)} ticks with {show.world.summary['highlights']} highlights"


def play_streams(show: Show) -> str:
    """Let each device's app play all streams; one device after the other, so that none slows another down."""
    for way in TASKS:
        device = show.world.devices[device_name(way)]
        for name, moments in show.moments.items():
            _play(show, way, device, name, moments)
        wait_for(f"the sums of {WORDS[way]}", partial(_collect, show, way, show.streams), timeout_s=120)
    show.shown = None
    return f"{len(TASKS)} x {show.world.summary['ticks']} ticks"


def _play(show: Show, way: str, device: Device, stream: str, moments: Sequence[generate.Moment]) -> None:
    before = runs_of(device)

    def events() -> Iterator[dict[str, Any]]:
        for moment in moments:
            began = time.monotonic()
            show.shown = moment
            yield tick_event(device, stream, moment)
            show.played[way] = show.played.get(way, 0) + 1
            if moment.tick.number % 25 == 0:
                _collect(show, way, 0)
            time.sleep(max(0.0, show.pause_s - (time.monotonic() - began)))
        _settle(device, before + len(moments))
        args = {"stream": stream, "ticks": len(moments)}
        yield {"kind": "custom", "event_id": "stream_end", "wall_ms": wall_ms(), "args": args}

    device.emit(events())


def tick_event(device: Device, stream: str, moment: generate.Moment) -> dict[str, Any]:
    """Leave a tick's frame and sound in the agent's inbox, as an app would; the event that names them."""
    inbox = device.folder / "data" / "inbox"
    names = {}
    for kind, suffix, data in (("frame", "jpg", moment.jpeg), ("sound", "pcm", moment.sound.tobytes())):
        names[kind] = f"{stream}-{moment.tick.number:05}.{suffix}"
        (inbox / f".{names[kind]}").write_bytes(data)
        (inbox / f".{names[kind]}").rename(inbox / names[kind])
    args = {"stream": stream, "tick": moment.tick.number, **names}
    return {"kind": "custom", "event_id": "tick", "wall_ms": wall_ms(), "args": args}


def runs_of(device: Device) -> int:
    """How many runs have ended on a device, as its agent tells whoever asks for its status."""
    try:
        return sum(json.loads((device.folder / "data" / "status.json").read_text())["runs"].values())
    except (FileNotFoundError, json.JSONDecodeError):
        return 0  # it has just started


def _settle(device: Device, runs: int) -> None:
    """Wait until a device has dealt with all ticks: the last runs of a stream overlap."""

    def settled() -> bool | None:
        device.check()
        return True if runs_of(device) >= runs else None

    wait_for(f"{device.name} to deal with all ticks", settled, timeout_s=120)


def _collect(show: Show, way: str, streams: int) -> bool | None:
    """Fetch what the control plane has of a way; true once it has the sums of so many streams."""
    show.world.check()
    task = TASKS[way]
    show.found[way] = [row["fields"] for row in show.world.features(task, "highlight")]
    show.sums[way] = [row["fields"] for row in show.world.features(task, "stream_summary")]
    return True if len(show.sums[way]) >= streams else None


def judge_highlights(show: Show) -> str:
    """Compare the control plane's list of highlights with the truth."""
    truth = show.truth()
    ways = {}
    for way in TASKS:
        lost = show.world.summary["ticks"] - sum(row["ticks"] for row in show.sums[way])
        if lost:
            raise DemoError(f"{lost} ticks are not among the rows of {device_name(way)}")
        found = {
            name: [(r["item"], r["first"], r["last"]) for r in show.found[way] if r["stream"] == name]
            for name in truth
        }
        quality = sum((judge.of_spans(found[name], truth[name]) for name in truth), judge.Quality(0, 0, 0))
        ways[way] = results.way(show.sums[way], show.found[way], quality) | {"spans": found}
    show.world.summary |= {"ways": ways, "truth": truth, "words": WORDS}
    show.world.summary["costs"] = results.costs(show.world.summary)
    return ", ".join(f"{WORDS[way]}: F1 {ways[way]['f1']:.3f}" for way in ways)


def fall_back(show: Show) -> str:
    """Stop the control plane while a stream is on: the device goes on alone, and tells it all later."""
    control, device = show.world.control, show.world.devices[device_name("gate")]
    port = int(control.url.rsplit(":", 1)[1])
    control.stop()
    name, moments = next(iter(show.moments.items()))
    again = f"{name}-offline"
    _play_away(show, device, again, moments)
    control.start(port)
    sums = wait_for("what was found meanwhile", lambda: _sum_of(show, again), timeout_s=120)
    found = [
        (row["fields"]["item"], row["fields"]["first"], row["fields"]["last"])
        for row in show.world.features(TASKS["gate"], "highlight")
        if row["fields"]["stream"] == again
    ]
    quality = judge.of_spans(found, show.truth()[name])
    show.world.summary["away"] = {
        "ticks": sums["ticks"], "unsure": sums["asked"], "decided_alone": sums["offline"],
        "found": len(found), "precision": quality.precision, "recall": quality.recall,
    }  # fmt: skip
    return f"{sums['offline']} unsure ticks decided by the device; {len(found)} highlights told afterwards"


def _play_away(show: Show, device: Device, stream: str, moments: Sequence[generate.Moment]) -> None:
    before = runs_of(device)
    for moment in moments:
        show.shown = moment
        device.emit([tick_event(device, stream, moment)])
        time.sleep(show.pause_s)
    show.shown = None
    _settle(device, before + len(moments))
    args = {"stream": stream, "ticks": len(moments)}
    device.emit([{"kind": "custom", "event_id": "stream_end", "wall_ms": wall_ms(), "args": args}])


def _sum_of(show: Show, stream: str) -> dict[str, Any] | None:
    show.world.check()
    rows = show.world.features(TASKS["gate"], "stream_summary")
    return next((row["fields"] for row in rows if row["fields"]["stream"] == stream), None)


def time_models(show: Show) -> str:
    """Time each model, and those of the paper's size beside them."""
    timed = measure.measure(TASK)
    show.world.summary["models"] = [asdict(one) for one in timed]
    sums = measure.totals(timed)
    show.world.summary["model_ms"] = dict(sums)
    return ", ".join(f"{kind} {ms:.1f} ms" for kind, ms in sums.items())


def make(folder: Path, screen: Screen, agent: Path, streams: int, ticks: int, pause_s: float) -> Show:
    """The example's world: a control plane, and a device for each way."""
    devices = {
        device_name(way): Device(device_name(way), folder, {"name": device_name(way), "way": way}, agent)
        for way in TASKS
    }
    return Show(World(folder, ControlPlane(folder, screen.command), devices), streams, ticks, pause_s)
