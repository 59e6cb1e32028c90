"""Our matchers against what Flink's MATCH_RECOGNIZE said of the same streams (``flink_fixtures.py``)."""

from __future__ import annotations

import importlib.util
import json
import lzma
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from walle_agent.streams.matcher import Matcher
from walle_agent.streams.relaxed import RelaxedMatcher
from walle_shared.ids import ScenarioName, TaskName
from walle_shared.manifest import Trigger
from walle_shared.targeting.policy import TaskKey
from walle_shared.triggers import compile_trigger, parse

#: In the paper profile's words, where it has them.
CONSECUTIVE = {
    "single": ("event:a",),
    "strict": ("event:a", "event:b", "event:c"),
    "strict, same twice": ("event:a", "event:a", "event:b"),
}
Fires = list[list[int]]


def load_script() -> ModuleType:
    path = Path(__file__).with_name("flink_fixtures.py")
    spec = importlib.util.spec_from_file_location("flink_fixtures", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses ask for it
    spec.loader.exec_module(module)
    return module


flink_fixtures = load_script()


def key(name: str) -> TaskKey:
    return ScenarioName("demo"), TaskName(name)


@pytest.fixture(scope="module")
def kept() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(lzma.decompress(flink_fixtures.KEPT.read_bytes()))
    return document


@pytest.fixture(scope="module")
def extended(kept: dict[str, Any]) -> dict[str, Fires]:
    """(stream, first, last) of every fire by pattern; all patterns in one trie, as on a device."""
    compiled = {
        name: compile_trigger(parse(pattern["trigger"])) for name, pattern in kept["patterns"].items()
    }
    found: dict[str, Fires] = {name: [] for name in compiled}
    for number, stream in enumerate(kept["streams"]):
        matcher = RelaxedMatcher()
        for name, trigger in compiled.items():
            matcher.register(key(name), {0: trigger})
        for seq, (event, at_ms, visit, n) in enumerate(stream, 1):
            for match in matcher.feed(("event:" + event,), seq, at_ms, visit_id=visit, args={"n": n}):
                found[match.task[1]].append([number, match.first_seq, match.last_seq])
    return found


def test_the_kept_questions_are_the_scripts(kept: dict[str, Any]) -> None:
    assert kept["streams"] == [[list(seen) for seen in stream] for stream in flink_fixtures.make_streams()]
    assert {name: pattern["trigger"] for name, pattern in kept["patterns"].items()} == {
        name: pattern.trigger for name, pattern in flink_fixtures.PATTERNS.items()
    }


@pytest.mark.parametrize("name", flink_fixtures.PATTERNS)
def test_extended_triggers_fire_where_flink_matches(
    kept: dict[str, Any], extended: dict[str, Fires], name: str
) -> None:
    expected: Fires = kept["patterns"][name]["fires"]
    ours = extended[name]
    if flink_fixtures.PATTERNS[name].once:
        ours = [[number, last] for number, _, last in ours]
    assert len(expected) > 30
    assert sorted(ours) == sorted(expected)


@pytest.mark.parametrize("name", CONSECUTIVE)
def test_consecutive_triggers_fire_where_flink_matches(kept: dict[str, Any], name: str) -> None:
    found: Fires = []
    for number, stream in enumerate(kept["streams"]):
        matcher = Matcher()
        matcher.register(key("t"), [Trigger(CONSECUTIVE[name])])
        for seq, (event, *_) in enumerate(stream, 1):
            found += [[number, m.first_seq, m.last_seq] for m in matcher.feed(("event:" + event,), seq)]
    assert sorted(found) == sorted(kept["patterns"][name]["fires"])
