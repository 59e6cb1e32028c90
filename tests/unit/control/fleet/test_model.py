"""The model of a release to any number of devices: nobody is lost, nothing is faster than it can be."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from walle_control.cli.fleet import model_facts
from walle_control.fleet.model import (
    Model,
    Pull,
    Servers,
    Stage,
    _Run,
    parse_model,
    run_model,
    servers_needed,
)
from walle_control.fleet.scenario import Network, Scenario
from walle_shared.errors import ConfigError, LimitExceeded

FAST = Servers(requests_per_s=1e9, pushes_per_s=1e9, bytes_per_s=1e15)


def model(**fleet) -> Model:
    return Model(Scenario(devices=100_000, **fleet), FAST)


def test_a_push_reaches_all_at_once_where_servers_are_fast():
    result = run_model(model(streaming=1.0))
    assert result.seconds_to(100_000 * 0.99) <= 2.0
    assert result.covered[-1] >= 99_900
    assert 7 * 100_000 < result.requests <= 9 * 100_000  # it ends when they have it, not when they have told


def test_pushes_go_out_as_fast_as_servers_push():
    slow = replace(model(streaming=1.0, poll_s=1e6), servers=replace(FAST, pushes_per_s=1_000))
    assert run_model(slow).seconds_to(50_000) == pytest.approx(50, rel=0.05)


def test_business_is_heard_of_exponentially():
    result = run_model(model(streaming=0.0, business_s=20.0, poll_s=1e6))
    for seconds in (5, 20, 60):
        part = result.heard[round(seconds / 0.1)] / 100_000
        assert part == pytest.approx(1 - math.exp(-seconds / 20), abs=0.01)


def test_a_poll_is_heard_of_evenly_and_by_its_end():
    result = run_model(model(streaming=0.0, poll_s=100.0))
    for seconds in (25, 50, 75):
        assert result.heard[round(seconds / 0.1)] / 100_000 == pytest.approx(seconds / 100, abs=0.01)
    assert result.seconds_to(99_900) <= 102


def test_requests_are_answered_as_fast_as_the_servers_are():
    busy = replace(model(streaming=1.0), servers=replace(FAST, requests_per_s=10_000), step_s=0.5)
    result = run_model(busy)
    assert result.seconds_to(99_000) == pytest.approx(8 * 100_000 / 10_000, rel=0.05)  # the ninth comes after
    assert max(result.requests_per_s) <= 10_000 * 1.01
    assert max(result.waiting) > 90_000


def test_a_cdn_takes_what_is_static_off_the_servers():
    result = run_model(replace(model(), servers=replace(FAST, requests_per_s=20_000, cdn=True)))
    assert result.server_requests <= 100_000
    assert result.seconds_to(99_000) < 5


def test_networks_take_their_time():
    slow = Network("slow", 1.0, rtt_ms=500, bytes_per_s=10_000)
    result = run_model(replace(model(networks=(slow,)), until=0.5))
    pull = Pull()
    least = sum(0.5 + size / 10_000 for size in pull.bytes[:-1])
    assert least * 0.95 < result.seconds < least * 1.3 + 1


def test_stages_let_devices_in_one_after_the_other():
    staged = replace(model(), stages=(Stage(0, 0.1), Stage(60, 0.5), Stage(120, 1.0)))
    result = run_model(staged)
    at = {seconds: result.covered[round(seconds / 0.1)] for seconds in (50, 110)}
    assert at[50] == pytest.approx(10_000, rel=0.05)
    assert at[110] == pytest.approx(50_000, rel=0.02)


def test_devices_that_come_online_are_reached_then():
    away = replace(model(offline_s=600.0), online=0.2, until=0.9, step_s=0.5)
    result = run_model(away)
    assert result.covered[round(30 / 0.5)] / 100_000 == pytest.approx(1 - 0.8 * math.exp(-30 / 600), abs=0.02)


def test_a_thousand_million_devices_are_no_harder_than_a_thousand():
    huge = replace(
        model(streaming=0.2, business_s=60.0),
        fleet=Scenario(devices=10**9, streaming=0.2, business_s=60.0),
        servers=Servers(1_000, 1e5, 1e6, 1e12),
        step_s=1.0,
    )
    result = run_model(huge)
    assert result.covered[-1] >= 0.999 * 10**9
    assert result.seconds < 600


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 5_000),
    st.floats(0, 1),
    st.floats(0, 60),
    st.floats(0, 300),
    st.floats(0.01, 1),
    st.integers(5, 2_000),
    st.booleans(),
)
def test_nobody_is_lost(devices, streaming, business_s, online_s, online, requests_per_s, cdn):
    fleet = Scenario(devices, 3, streaming=streaming, business_s=business_s, online_s=online_s, poll_s=50.0)
    servers = Servers(1, requests_per_s, 500.0, 1e6, cdn)
    run = _Run(Model(fleet, servers, online=online, within_s=20.0))
    run.play()
    outside = sum(int(part.sum()) for part in (run.online, run.away, run.closed, run.closed_away))
    waiting = sum(int(part.sum()) for _, part in run.queue)
    last = len(run.model.pull.bytes) - 1
    arriving = sum(
        int(d.sum()) for batch in run.travelling.values() for request, d in batch if request <= last
    )
    assert min(int(part.min()) for part in (run.online, run.away)) >= 0
    assert waiting == run.queued
    reporting = sum(int(part.sum()) for request, part in run.queue if request == last)
    assert outside + run.heard == devices
    assert run.heard == run.covered + waiting - reporting + arriving


def test_servers_are_found_by_what_they_reach_in_time():
    slow = replace(model(), servers=replace(FAST, requests_per_s=5_000), step_s=0.5)
    count = servers_needed(slow, 0.99, 40.0)
    assert count == pytest.approx(8 * 100_000 / 5_000 / 40, abs=1)
    with pytest.raises(LimitExceeded, match="fewer than 99% of the devices"):
        servers_needed(model(streaming=0.0, poll_s=1_000.0), 0.99, 10.0, most=4)


def test_figures_are_told_to_people():
    facts = model_facts({"servers": 3, **run_model(model()).summary()})
    assert facts["devices"] == "100,000"
    assert str(facts["cost"]).endswith(")")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("online = 0.0", "online must be over 0"),
        ("step_s = 0.0", "step_s must be over 0"),
        ("step_s = 1e-6", "within_s must be 1 to"),
        ("[servers]\ncount = 0", "servers.count must be at least 1"),
        ("[servers]\nhour_price = -1.0", "servers.hour_price must not be negative"),
        ("[pull]\nbytes = [1.0]", "pull.bytes must have at least two"),
        (
            "[[stages]]\nat_s = 5.0\nshare = 0.5\n[[stages]]\nat_s = 1.0\nshare = 1.0",
            "stages must be in order",
        ),
        ("[fleet]\ndevices = 0", "fleet.devices must be at least 1"),
        ("speed = 1", "speed"),
    ],
)
def test_a_model_that_makes_no_sense_is_refused_by_name(text, complaint):
    with pytest.raises(ConfigError, match=complaint):
        parse_model(text, "model.toml")
