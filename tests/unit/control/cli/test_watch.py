"""A release is followed line by line until it ends, and its devices are drawn as bars."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

import pytest

from walle_control.cli import watch


def answer(state: str, started: int, failed: int = 0, stage: int = 0) -> dict[str, Any]:
    arm = {"started": started, "failed": failed}
    return {
        "release": {"state": state, "stage": stage, "plan": {"stages": [{}, {}]}},
        "percent": "50",
        "verdict": {"reason": f"{started} so far", "evidence": {"arms": {"treatment": arm}}},
    }


class Client:
    """Answers one thing after the other."""

    url = "http://control"

    def __init__(self, answers: Iterator[Any]) -> None:
        self._answers = answers

    def get(self, path: str) -> Any:
        assert path == "releases/r1"
        return next(self._answers)


def follow(*answers: Any, until: int = 0, as_json: bool = True) -> int:
    wish = argparse.Namespace(release="r1", until_started=until, every_s=0.0, json=as_json)
    return watch._list(Client(iter(answers)), wish)  # type: ignore[arg-type]


def test_a_line_for_each_change_and_1_when_it_is_taken_back(capsys: pytest.CaptureFixture[str]) -> None:
    live = answer("live", 3)
    assert follow(live, live, answer("live", 5, 4), answer("rolled_back", 5, 4)) == 1
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["state"], line["started"], line["failed"]) for line in told] == [
        ("live", 3, 0),
        ("live", 5, 4),
        ("rolled_back", 5, 4),
    ]


def test_it_ends_well_once_enough_devices_have_run_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert follow(answer("live", 1), answer("live", 2), until=2, as_json=False) == 0
    assert "stage 1 of 2, 50 %: 2 have run it, 0 failed" in capsys.readouterr().out


def test_a_release_without_evidence_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    bare = {"release": answer("rejected", 0)["release"] | {"state": "rejected"}, "percent": "1"}
    assert follow(bare | {"verdict": {"reason": "", "evidence": {}}}, as_json=False) == 1
    assert "0 have run it" in capsys.readouterr().out


def test_bars() -> None:
    assert watch.sparks([0, 1, 2, 4, 8]) == "▁▂▃▅█"
    assert watch.sparks([0, 0]) == "▁▁"
    assert watch.sparks([]) == ""
