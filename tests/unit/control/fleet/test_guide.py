"""The files and figures that the guide shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from walle_control.fleet.model import parse_model, run_model
from walle_control.fleet.scenario import parse_scenario

GUIDE = Path(__file__).parents[4] / "docs/guide"


def test_the_scenario_and_the_model_it_shows_are_ones():
    scenario, model = re.findall(r"```toml\n(.*?)```", (GUIDE / "fleet-sim.md").read_text(), re.DOTALL)
    assert parse_scenario(scenario, "fleet-sim.md").devices == 2_000
    assert parse_model(model, "fleet-sim.md").servers.count == 12


@pytest.mark.parametrize(("name", "seconds", "million"), [("online", 407, 7), ("paper", 1_320, 22)])
def test_the_papers_shape_comes_out_as_told(name, seconds, million):
    path = GUIDE / "fleet-sim" / f"{name}.toml"
    result = run_model(parse_model(path.read_text(), str(path)))
    assert result.seconds == pytest.approx(seconds, abs=3)
    assert result.covered[-1] == pytest.approx(million * 1e6, rel=0.002)
    assert sum(result.cost.values()) == pytest.approx({"online": 47.55, "paper": 149.94}[name], rel=0.01)
