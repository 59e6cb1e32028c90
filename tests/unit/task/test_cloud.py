"""What a task's device half says to its cloud half, against the fake host."""

from __future__ import annotations

import base64
import math
from typing import Any

import pytest

from walle_shared.errors import LimitExceeded, NotAllowed, TaskError
from walle_shared.limits import CLOUD_ASKS_OPEN_MAX, CLOUD_DATA_MAX_BYTES, CLOUD_PAYLOAD_MAX_BYTES
from walle_task import cloud
from walle_task.testing import fake_host


def test_the_answer_comes_back_as_json_keeps_it():
    def half(request: cloud.Request) -> dict[str, Any]:
        return {"sum": sum(request.payload["values"]) + len(request.data), "pair": (1, 2)}

    with fake_host(cloud=half) as host:
        assert cloud.ask({"values": [1, 2]}, data=b"abc") == {"sum": 6, "pair": [1, 2]}
        cloud.ask({"values": []})
    assert host.asked == [cloud.Request({"values": [1, 2]}, b"abc"), cloud.Request({"values": []})]


def test_without_a_cloud_half_the_device_is_offline():
    with fake_host(), pytest.raises(cloud.Unavailable) as caught:
        cloud.ask({})
    assert caught.value.reason == "offline"
    assert isinstance(caught.value, TaskError)


def test_a_fake_half_can_be_unavailable_for_any_reason():
    def half(request: cloud.Request) -> dict[str, Any]:
        raise cloud.Unavailable("budget")

    with fake_host(cloud=half), pytest.raises(cloud.Unavailable) as caught:
        cloud.ask({})
    assert caught.value.reason == "budget"


@pytest.mark.parametrize(
    ("use", "error"),
    [
        (lambda: cloud.ask({"x": math.nan}), TaskError),
        (lambda: cloud.ask([1]), TaskError),  # type: ignore[arg-type]
        (lambda: cloud.ask({}, data="text"), TaskError),
        (lambda: cloud.ask({}, timeout_s=0), TaskError),
        (lambda: cloud.ask({}, timeout_s=math.nan), TaskError),
        (lambda: cloud.ask({"x": "y" * CLOUD_PAYLOAD_MAX_BYTES}), LimitExceeded),
        (lambda: cloud.ask({}, data=bytes(CLOUD_DATA_MAX_BYTES + 1)), LimitExceeded),
        (lambda: cloud.ask_later({}, data=bytes(CLOUD_DATA_MAX_BYTES)), LimitExceeded),
    ],
)
def test_what_cannot_be_asked_is_refused_before_it_leaves(use: Any, error: type[Exception]):
    with fake_host(cloud=lambda request: {}) as host, pytest.raises(error):
        use()
    assert not host.asked
    assert not host.later


def test_data_of_the_largest_size_goes():
    with fake_host(cloud=lambda request: {"bytes": len(request.data)}):
        assert cloud.ask({}, data=bytes(CLOUD_DATA_MAX_BYTES)) == {"bytes": CLOUD_DATA_MAX_BYTES}


@pytest.mark.parametrize("use", [lambda: cloud.ask({}), lambda: cloud.ask_later({})])
def test_asking_needs_its_capability(use: Any):
    with fake_host(capabilities=frozenset()), pytest.raises(NotAllowed, match="add 'cloud' to capabilities"):
        use()


def test_a_question_for_later_is_an_output_of_the_run():
    with fake_host() as host:
        cloud.ask_later({"a": 1}, data=b"xyz")
        assert host.later == [{"payload": {"a": 1}, "data": base64.b64encode(b"xyz").decode()}]
        assert host.context.produced_bytes > 0
    with fake_host(output_bytes=8) as host, pytest.raises(LimitExceeded):
        cloud.ask_later({"a": "12345678"})
    assert host.later == []


@pytest.mark.parametrize(
    ("confidence", "verdict"),
    [(1.0, "accept"), (0.8, "accept"), (0.79, "ask"), (0.3, "ask"), (0.29, "reject"), (math.nan, "ask")],
)
def test_the_gate(confidence: float, verdict: str):
    assert cloud.gate(confidence, accept=0.8, reject=0.3) == verdict


def test_a_gate_that_is_upside_down_is_refused():
    with pytest.raises(TaskError, match="rejects below"):
        cloud.gate(0.5, accept=0.2, reject=0.8)


def test_several_questions_go_at_once_and_each_has_its_own_end():
    def half(request: cloud.Request) -> dict[str, Any]:
        if request.payload["n"] == 1:
            raise cloud.Unavailable("busy")
        return {"n": request.payload["n"] + len(request.data)}

    with fake_host(cloud=half):
        answers = cloud.ask_each([({"n": 0}, b"ab"), ({"n": 1}, None), ({"n": 2}, None)])
        assert cloud.ask_each([]) == []
        with pytest.raises(LimitExceeded, match="at once"):
            cloud.ask_each([({}, None)] * (CLOUD_ASKS_OPEN_MAX + 1))
    assert (answers[0], answers[2]) == ({"n": 2}, {"n": 2})
    assert isinstance(answers[1], cloud.Unavailable)
    assert answers[1].reason == "busy"
