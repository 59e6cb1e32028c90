"""``walle-agent events``: the log as others see it, beside the agent that writes it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from walle_agent import watch
from walle_agent.cli import EXIT_FAILED, EXIT_OK, main
from walle_agent.streams.event import make_event, parse_event
from walle_agent.streams.flow import StreamFlow
from walle_agent.streams.storage import StreamStore
from walle_shared.clock import FixedClock


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[StreamFlow]:
    (tmp_path / "data").mkdir()
    store = StreamStore.open(tmp_path / "data" / "streams.db", FixedClock(mono_ns=1))
    yield StreamFlow(store, FixedClock(mono_ns=1))
    store.close()


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "agent.toml"
    key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    path.write_text(
        f'[control]\nurl = "http://127.0.0.1:9"\ntrusted_root = "1.{key}"\n[agent]\ndata_dir = "data"\n'
    )
    return str(path)


def visit(flow: StreamFlow) -> None:
    flow.accept([make_event("page_enter", page_id="item"), make_event("click", args={"sku": "red"})])
    flow.accept([make_event("page_enter", page_id="cart")])  # closes the first by replacing it


def test_following_sees_what_comes_later(flow: StreamFlow, tmp_path: Path) -> None:
    visit(flow)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        flow.accept([make_event("click", event_id=f"late{len(pauses)}")])

    with closing(watch.follow(tmp_path / "data" / "streams.db", last=1, pause=pause)) as following:
        assert [next(following).event_id for _ in range(3)] == ["page_enter", "late1", "late2"]


def test_a_record_leaves_out_what_the_agent_added_and_can_be_replayed(
    flow: StreamFlow, tmp_path: Path
) -> None:
    visit(flow)
    file = io.StringIO()
    log = tmp_path / "data" / "streams.db"
    assert watch.record(watch.follow(log, last=99, ongoing=False), file, count=None, progress=None) == 3
    lines = file.getvalue().splitlines()
    assert [parse_event(line.encode()).kind for line in lines] == ["page_enter", "click", "page_enter"]
    assert "visit_id" not in json.loads(lines[0])


def test_tail_and_record_from_the_command_line(
    flow: StreamFlow, config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    visit(flow)
    assert main(["events", "tail", "--config", config, "-n", "4", "--no-follow"]) == EXIT_OK
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 4
    assert "page_exit walle.closed.replaced" in shown[2]
    assert main(["events", "tail", "--config", config, "-n", "1", "--no-follow", "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out)["page_id"] == "cart"
    target = tmp_path / "kept.jsonl"
    assert main(["events", "record", "--config", config, str(target), "--last", "9", "-n", "2"]) == EXIT_OK
    assert "2 events in" in capsys.readouterr().out
    assert len(target.read_text().splitlines()) == 2


def test_a_folder_without_a_log_is_named(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["events", "tail", "--config", config]) == EXIT_FAILED
    assert "there is no event log: start the agent" in capsys.readouterr().err
