"""What a fleet is made of: read from a file, checked, drawn by weight."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from walle_control.fleet.scenario import Group, Network, Scenario, Version, draw, parse_scenario
from walle_shared.errors import ConfigError

TEXT = """
devices = 50
streaming = 0.5

[[groups]]
weight = 3
profile = { group = "stable", memory_mb = 4096 }

[[groups]]
profile = { group = "beta" }

[[networks]]
name = "mobile"
rtt_ms = 80
bytes_per_s = 1e6

[[versions]]
task = "demo/greeter"
version = "1.1.0"
run_failure = 0.2
"""


def test_a_file_says_what_differs_from_plain_devices():
    scenario = parse_scenario(TEXT, "fleet.toml")
    assert (scenario.devices, scenario.streaming, scenario.poll_s) == (50, 0.5, Scenario().poll_s)
    assert scenario.groups[0] == Group(3.0, {"group": "stable", "memory_mb": 4096})
    assert scenario.networks == (Network("mobile", 1.0, 80.0, 1e6),)


def test_the_first_version_that_fits_says_how_it_does():
    scenario = parse_scenario(TEXT, "fleet.toml")
    assert scenario.behaviour("demo/greeter", "1.1.0").run_failure == 0.2
    assert scenario.behaviour("demo/greeter", "1.0.0") == Version()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("devices = 0", "fleet.toml: devices must be at least 1"),
        ("streaming = 2", "streaming must be 0 to 1"),
        ("[[groups]]\nweight = 0", r"groups\[0\].weight must be over 0"),
        ("[[networks]]\nfailure = 1.0", r"networks\[0\].failure must be at least 0 and below 1"),
        ("[[versions]]\nsilent = 1.5", r"versions\[0\].silent must be 0 to 1"),
        ("groups = []", "groups must not be empty"),
        ("device = 5", "device"),
        ("devices =", "not TOML"),
    ],
)
def test_a_scenario_that_makes_no_sense_is_refused_by_name(text, complaint):
    with pytest.raises(ConfigError, match=complaint):
        parse_scenario(text, "fleet.toml")


def test_choices_are_drawn_by_weight():
    dice = Random(5)
    groups = (Group(3.0, {"n": 1}), Group(1.0, {"n": 2}))
    drawn = Counter(draw(groups, dice).profile["n"] for _ in range(10_000))
    assert 7_300 < drawn[1] < 7_700
