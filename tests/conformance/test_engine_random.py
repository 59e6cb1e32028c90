"""Random numbers: distributions, seeds, types. What is fixed by parameters is in the conformance cases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from walle_engine import api
from walle_shared.errors import EngineError

type Array = np.ndarray[Any, Any]

COUNT = 40_000


def _session(op: str, **attrs: Any) -> api.Session:
    builder = api.GraphBuilder(op)
    builder.node(op, [], ["y"], name="node", shape=[COUNT], **attrs)
    builder.output("y")
    return builder.finish().session(threads=2)


def _draw(session: api.Session, **feeds: Array) -> Array:
    return np.asarray(session.run(feeds)["y"])


def test_uniform_numbers_fill_their_interval() -> None:
    x = _draw(_session("RandomUniform", low=-1.0, high=3.0, seed=1.0))
    assert x.dtype == np.float32
    assert -1 <= x.min() < -0.99
    assert 2.99 < x.max() < 3
    histogram = np.histogram(x, bins=16, range=(-1, 3))[0] / COUNT
    assert np.abs(histogram - 1 / 16).max() < 5 * np.sqrt(1 / 16 / COUNT)


def test_normal_numbers_have_their_moments() -> None:
    x = _draw(_session("RandomNormal", mean=2.0, scale=0.5, seed=1.0)).astype(np.float64)
    assert abs(x.mean() - 2) < 5 * 0.5 / np.sqrt(COUNT)
    assert abs(x.std() - 0.5) < 5 * 0.5 / np.sqrt(2 * COUNT)
    assert abs(np.mean(np.abs(x - 2) < 0.5) - 0.6827) < 0.015
    assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 5 / np.sqrt(COUNT)


def test_a_seed_decides_and_threads_do_not() -> None:
    first = _draw(_session("RandomNormal", seed=7.5))
    assert np.array_equal(first, _draw(_session("RandomNormal", seed=7.5)))
    assert not np.array_equal(first, _draw(_session("RandomNormal", seed=7.25)))


def test_without_a_seed_each_run_differs() -> None:
    session = _session("RandomUniform")
    assert not np.array_equal(_draw(session), _draw(session))


def test_two_nodes_of_one_seed_are_independent() -> None:
    builder = api.GraphBuilder()
    for name in ("a", "b"):
        builder.node("RandomUniform", [], [name], name=name, shape=[COUNT], seed=1.0)
        builder.output(name)
    result = builder.finish().session().run({})
    correlation = np.corrcoef(np.asarray(result["a"]), np.asarray(result["b"]))[0, 1]
    assert abs(correlation) < 5 / np.sqrt(COUNT)


@pytest.mark.parametrize("dtype", ["F32", "F64", "I64", "BOOL"])
def test_bernoulli_hits_as_often_as_it_should(dtype: str) -> None:
    builder = api.GraphBuilder()
    builder.input("p", "F32", [COUNT])
    builder.node("Bernoulli", ["p"], ["y"], dtype=dtype)
    builder.output("y")
    result = builder.finish().session().run({"p": np.full(COUNT, 0.3, np.float32)})["y"]
    hits = np.asarray(result)
    assert result.dtype == dtype
    assert set(np.unique(hits).tolist()) == {0, 1}
    assert abs(hits.mean() - 0.3) < 5 * np.sqrt(0.21 / COUNT)


def test_dropout_in_training_scales_what_it_keeps() -> None:
    builder = api.GraphBuilder()
    builder.input("x", "F32", [COUNT])
    builder.weight("ratio", np.array(0.25, np.float32))
    builder.weight("training", np.array(True))
    builder.node("Dropout", ["x", "ratio", "training"], ["y", "mask"], seed=3)
    builder.output("y")
    builder.output("mask")
    result = builder.finish().session().run({"x": np.full(COUNT, 3, np.float32)})
    y, mask = np.asarray(result["y"]), np.asarray(result["mask"])
    np.testing.assert_array_equal(y, np.where(mask, np.float32(4), np.float32(0)))
    assert abs(mask.mean() - 0.75) < 5 * np.sqrt(0.1875 / COUNT)


@pytest.mark.parametrize("shape", [[-1], [1] * 9])
def test_illegal_shapes_are_refused(shape: list[int]) -> None:
    builder = api.GraphBuilder()
    builder.node("RandomUniform", [], ["y"], name="dice", shape=shape)
    builder.output("y")
    with pytest.raises(EngineError) as caught:
        builder.finish().session().run({})
    assert caught.value.node == "dice"


def _dropout_by_turns(dtype: str, shape: list[int]) -> api.Session:
    builder = api.GraphBuilder()
    builder.input("x", "F32", [COUNT])
    builder.input("turn", dtype, shape)
    builder.weight("ratio", np.array(0.5, np.float32))
    builder.weight("training", np.array(True))
    builder.node("Dropout", ["x", "ratio", "training", "turn"], ["y"], name="node", seed=3)
    builder.output("y")
    return builder.finish().session(threads=2)


def test_turns_drop_apart_and_again_the_same() -> None:
    session, x = _dropout_by_turns("I64", []), np.ones(COUNT, np.float32)
    first, second, again = (_draw(session, x=x, turn=np.array(turn, np.int64)) > 0 for turn in (1, 2, 1))
    np.testing.assert_array_equal(first, again)
    assert abs((first == second).mean() - 0.5) < 5 * np.sqrt(0.25 / COUNT)


@pytest.mark.parametrize(("dtype", "shape"), [("F32", []), ("I64", [2])])
def test_a_turn_is_one_integer(dtype: str, shape: list[int]) -> None:
    session = _dropout_by_turns(dtype, shape)
    turn = np.zeros(shape, {"F32": np.float32, "I64": np.int64}[dtype])
    with pytest.raises(EngineError, match="the turn must be one I64"):
        _draw(session, x=np.ones(COUNT, np.float32), turn=turn)
