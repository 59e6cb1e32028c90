from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from walle_agent.cli import EXIT_FAILED, EXIT_OK, EXIT_USAGE, main
from walle_agent.state.store import DeviceState, Identity, Isolated, SlotContent, StateStore, TaskRecord
from walle_shared.errors import StorageError
from walle_shared.ids import DeviceId, ReleaseId, ScenarioName, Sha256, TaskName, TaskVersion

KEY = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(
        f'[control]\nurl = "http://127.0.0.1:9"\ntrusted_root = "1.{KEY}"\n[agent]\ndata_dir = "data"\n'
    )
    return path


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()  # a command points the log at a stream that this test captured


def _no_corruption(error: StorageError) -> None:
    raise error


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == EXIT_OK
    shown = capsys.readouterr().out
    for word in ("examples:", "exit codes:", "run", "status", "enrol", "emit"):
        assert word in shown


def test_status_before_the_first_start(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--config", str(config)]) == EXIT_OK
    shown = capsys.readouterr().out
    assert "stopped" in shown
    assert "not enrolled" in shown


def test_status_of_a_stopped_agent(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = StateStore(config.parent / "data", on_corrupt=_no_corruption)
    store.save_identity(Identity("ab" * 32, DeviceId("d1"), "secret-credential", 5))
    slot = SlotContent("proven", ReleaseId("r1"), TaskVersion("1.0"), Sha256("a" * 64))
    store.save(DeviceState(epoch=7, tasks=(TaskRecord(ScenarioName("demo"), TaskName("reader"), slot),)))
    assert main(["status", "--config", str(config), "--json"]) == EXIT_OK
    printed = capsys.readouterr().out
    status = json.loads(printed)
    assert (status["running"], status["device_id"], status["epoch"]) == (False, "d1", 7)
    assert status["tasks"][0]["slots"]["a"]["version"] == "1.0"
    assert "secret-credential" not in printed
    assert "ab" * 32 not in printed


def test_status_tells_what_a_learning_round_waits_for(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = config.parent / "data"
    folder.mkdir(parents=True, exist_ok=True)
    learning = {"open": 1, "contributed": 2, "waiting_for": "its charger"}
    (folder / "status.json").write_text(json.dumps({"learning": learning}))
    assert main(["status", "--config", str(config)]) == EXIT_OK
    assert "learning   2 rounds joined; one waits for its charger" in capsys.readouterr().out


def test_status_tells_who_was_given_a_process_of_its_own(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = StateStore(config.parent / "data", on_corrupt=_no_corruption)
    slot = SlotContent("proven", ReleaseId("r1"), TaskVersion("1.0"), Sha256("a" * 64))
    record = TaskRecord(ScenarioName("demo"), TaskName("reader"), slot)
    isolated = tuple(Isolated(Sha256(letter * 64), f"died of {letter}", 5) for letter in "ab")
    store.save(DeviceState(tasks=(record,), isolated=isolated))
    assert main(["status", "--config", str(config)]) == EXIT_OK
    shown = capsys.readouterr().out
    assert "isolated demo/reader 1.0: died of a" in shown
    assert "died of b" not in shown  # no slot holds it any more


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["status", "--config", "none.toml"], EXIT_USAGE, "none.toml: cannot be read"),
        (["run", "--config", "none.toml"], EXIT_USAGE, "none.toml: cannot be read"),
        (["emit", "--socket", "none.sock", "/dev/null"], EXIT_FAILED, "is the agent running"),
        (["emit", "--socket", "none.sock", "none.jsonl"], EXIT_USAGE, "none.jsonl: cannot be read"),
    ],
)
def test_errors_are_one_sentence(
    arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == code
    shown = capsys.readouterr().err
    assert shown.startswith("walle-agent: error: ")
    assert shown.count("\n") == 1
    assert words in shown


def test_enrolling_with_nobody_there_fails_in_one_sentence(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["enrol", "--config", str(config), "--token", "t"]) == EXIT_FAILED
    assert "walle-agent: error: enrol: " in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["emit", "--rate", "0"], ["emit", "--speed", "x"], []])
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == EXIT_USAGE
    assert "usage:" in capsys.readouterr().err


def test_the_schema_is_shown_and_a_recording_held_against_it(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["events", "schema", "--config", str(config)]
    assert main(asked) == EXIT_USAGE
    assert "streams.schema is empty" in capsys.readouterr().err
    config.write_text(config.read_text() + '[streams]\nschema = "events.toml"\n')
    (tmp_path / "events.toml").write_text(
        '[envelope]\npage_id = "upload"\n[events.buy]\nkind = "click"\ndoc = "into the cart"\n'
        '[events.buy.args]\nprice = { type = "real", min = 0, privacy = "aggregate", required = true }\n'
    )
    events = tmp_path / "events.jsonl"
    events.write_text('# recorded\n{"kind": "click", "event_id": "buy", "args": {"price": 1}}\n')
    assert main([*asked, "--events", str(events)]) == EXIT_OK
    said = capsys.readouterr().out
    assert "(every)  page_id     upload" in said
    assert "buy                             click, 1 times, into the cart" in said
    assert "args.price  aggregate  real from 0, required" in said
    assert said.endswith("1 events, all as declared\n")
    events.write_text('{"kind": "click", "event_id": "buy"}\n{"kind": "scroll"}\nno\n')
    assert main([*asked, "--events", str(events), "--json"]) == EXIT_FAILED
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["events"], told["counts"]) == (False, 2, {"buy": 1})
    assert [complaint["line"] for complaint in told["complaints"]] == [1, 2, 3]
    assert main([*asked, "--events", str(events)]) == EXIT_FAILED
    assert "2 events, 3 not as declared\n  line 1: buy.args.price is missing" in capsys.readouterr().out
