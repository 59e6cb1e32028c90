"""Tasks run on recorded events: the real streams and a real worker."""

from __future__ import annotations

import re
from pathlib import Path

import orjson

from walle_agent.author.create import create_task
from walle_agent.author.measure import measure
from walle_agent.author.report import run_lines, summary_lines, to_plain
from walle_agent.author.simulate import EventClock, Options, Outcome, inbox_beside, open_simulator
from walle_agent.streams.event import RawEvent
from walle_task.authoring import read_folder


def read_events(folder: Path) -> list[bytes]:
    return (folder / "tests/events.jsonl").read_bytes().splitlines()


async def play(folder: Path, lines: list[bytes], options: Options | None = None) -> tuple[Outcome, list[str]]:
    """The outcome, and what a person is shown of it."""
    task = read_folder(folder)
    async with open_simulator(task) as simulator:
        outcome = await simulator.play(lines, options or Options())
        shown = [line for n, run in enumerate(outcome.runs, 1) for line in run_lines(n, run, simulator.spec)]
        orjson.dumps(to_plain(outcome, simulator.spec))
    return outcome, [*shown, *summary_lines(outcome, task.definition)]


async def test_events_fire_runs_and_one_sees_the_others_rows(folder: Path) -> None:
    outcome, shown = await play(folder, [*read_events(folder), b'{"kind": "tap"}', b"no"])
    assert [run.result.ok for run in outcome.runs] == [True, True]
    assert [dict(row) for run in outcome.runs for _, row in run.commit.rows] == [
        {"dwell_ms": 12_000, "clicks": 2},
        {"dwell_ms": 900, "clicks": 0},
    ]
    fields = [record.fields for run in outcome.runs for record in run.commit.uploads]
    assert [(sent["visits_before"], sent["glance"]) for sent in fields] == [(0, False), (1, True)]
    assert [line for line, _ in outcome.refused] == [11, 12]
    text = "\n".join(shown)
    assert "run 1  ok  [page:item.exit] at event 5, 5 events" in text
    assert "of 2000 ms" in text
    assert "of 64 MiB" in text
    assert "log       info: glance dwell_ms=900" in text
    assert "line 11 refused: event.kind must be one of" in text
    assert "9 events, 2 runs, 0 failed" in text


async def test_what_fails_is_shown_with_the_scripts_own_lines(folder: Path) -> None:
    script = """
from walle_task import events, store, tunnel
def run():
    print("hello")
    match events.visit().events[0].args.get("item"):
        case "lamp":
            return {}["absent"]
        case "desk":
            tunnel.send("visit", {"price": 3})
        case "chair":
            while True:
                pass
"""
    (folder / "main.py").write_text(script)
    toml = (folder / "task.toml").read_text().replace("wall_s = 2.0", "wall_s = 0.2")
    (folder / "task.toml").write_text(toml)
    lines = read_events(folder)
    lines += [line.replace(b"v1", b"v4").replace(b"lamp", b"chair") for line in lines[1:6]]
    outcome, shown = await play(folder, lines)
    assert [run.result.error_kind for run in outcome.runs] == ["exception", "denied", "timeout"]
    text = "\n".join(shown)
    assert "run 1  failed: exception" in text
    assert "error     KeyError: 'absent'" in text
    assert '    File "main.py", line 7, in run\n      return {}["absent"]' in text
    assert "visit.price is not declared in [uploads.visit] of task.toml" in text
    assert "stopped: the run passed its limit of 0.2 s" in text
    assert "printed   hello" in text
    assert not any(run.commit.uploads or run.commit.rows for run in outcome.runs)


async def test_a_simulation_repeats_itself_by_seed(folder: Path) -> None:
    (folder / "main.py").write_text(
        "from walle_task import clock, random\ndef run():\n    return [clock.wall_ms(), random.random()]\n"
    )
    lines = read_events(folder)
    first, again, other = [
        [run.result.value for run in (await play(folder, lines, Options(seed=seed)))[0].runs]
        for seed in (1, 1, 2)
    ]
    assert first == again
    assert first != other
    assert [value[0] for value in first] == [1_767_225_612_000, 1_767_225_616_900]
    assert first[0][1] != first[1][1]


async def test_when_nothing_fires_it_says_what_it_waits_for(folder: Path) -> None:
    outcome, shown = await play(folder, read_events(folder)[:3])
    assert outcome.runs == []
    assert outcome.open_visits == 1
    assert shown == [
        "1 visits are still open at the end: end them with a page_exit, or let them end with --end-visits",
        "nothing fired in 2 events",
        "  the trigger waits for page:item.exit (there 2 times)",
        "  the events have page:item (2), event:page_enter (1), kind:page_enter (1), event:scroll (1), "
        "kind:scroll (1)",
    ]


async def test_open_visits_end_after_half_an_hour(folder: Path) -> None:
    outcome, _ = await play(folder, read_events(folder)[:3], Options(end_visits=True))
    (run,) = outcome.runs
    assert run.firing.visit is not None
    assert run.firing.visit.reason == "age"


async def test_a_task_is_measured_with_and_without_the_profile(folder: Path) -> None:
    lines = read_events(folder)
    found = await measure(read_folder(folder), lines, Options(), 0.001)
    assert found.runs == 2
    assert all(any(node.name == "run" and node.kind == "task" for node in tree) for tree in found.profiles)
    assert found.plain_ms > 0
    assert found.profiled_ms > 0


async def test_a_silence_fires_an_extended_trigger(folder: Path) -> None:
    toml = (folder / "task.toml").read_text()
    toml = toml.replace('ids = ["page:item.exit"]', 'on = "on enter(item) !click within 3s"')
    (folder / "task.toml").write_text(toml)
    (folder / "main.py").write_text("def run():\n    return 1\n")
    outcome, shown = await play(folder, read_events(folder), Options(end_visits=True))
    assert outcome.runs, shown
    assert "[on enter(item)" in shown[0]


def test_the_clock_goes_with_the_events_and_never_back() -> None:
    clock = EventClock()
    clock.move_to(RawEvent("click", "click"))
    first_ns = clock.mono_ns()
    assert clock.wall_ms() > 0
    clock.move_to(RawEvent("click", "click", wall_ms=1_000_000))
    clock.move_to(RawEvent("click", "click", wall_ms=1_002_000))
    assert (clock.wall_ms(), clock.mono_ns() - first_ns) == (1_002_000, 2_001_000_000)
    clock.move_to(RawEvent("click", "click", wall_ms=5))
    assert (clock.wall_ms(), clock.mono_ns() - first_ns) == (1_002_001, 2_002_000_000)
    clock.move_to(RawEvent("click", "click", mono_ns=first_ns + 9_000_000_000))
    assert clock.mono_ns() - first_ns == 9_000_000_000


async def test_the_cloud_half_is_run_in_the_same_container(tmp_path: Path):
    create_task(tmp_path / "asker", scenario="demo")
    root = tmp_path / "asker"
    text = (root / "task.toml").read_text()
    (root / "task.toml").write_text(
        text.replace('"log"]', '"log", "cloud"]').replace("[limits]", "[cloud]\n[limits]", 1)
    )
    (root / "main.py").write_text(
        "from walle_task import cloud\n\ndef run():\n    return cloud.ask({'n': 20}, data=b'abc')\n"
    )
    (root / "cloud").mkdir()
    (root / "cloud/words.txt").write_text("two")
    (root / "cloud.py").write_text(
        "def answer(request):\n"
        "    return {'n': request.payload['n'] + len(request.data), 'word': open('cloud/words.txt').read()}\n"
    )
    lines = (root / "tests/events.jsonl").read_bytes().splitlines()
    async with open_simulator(read_folder(root)) as simulator:
        outcome = await simulator.play(lines, Options(end_visits=True))
        assert not (simulator.task.bundle_dir / "cloud.py").exists()
    assert outcome.runs
    assert all(run.result.value == {"n": 23, "word": "two"} for run in outcome.runs)


async def test_files_of_the_app_lie_beside_the_recorded_events(folder: Path) -> None:
    script = "from walle_task import inbox\ndef run():\n    return [*inbox.read('a.bin')]\n"
    (folder / "main.py").write_text(script)
    task_file = folder / "task.toml"
    task_file.write_text(re.sub(r"capabilities = .*", 'capabilities = ["inbox"]', task_file.read_text()))
    events = folder / "tests" / "events.jsonl"
    (events.parent / "inbox").mkdir()
    (events.parent / "inbox" / "a.bin").write_bytes(bytes([1, 2, 40]))
    outcome, _ = await play(folder, read_events(folder), Options(inbox=inbox_beside(events)))
    assert [run.result.value for run in outcome.runs] == [[1, 2, 40]] * 2
    outcome, _ = await play(folder, read_events(folder))
    assert {run.result.error_kind for run in outcome.runs} == {"exception"}  # this host has no inbox
