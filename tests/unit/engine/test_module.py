"""Models that are no single program: control flow, shapes from data, sequences, text, and their limits."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from walle_engine import api
from walle_shared.errors import ConfigError, EngineError, ModelError, OutOfMemory, UnsupportedError

Array = np.ndarray[Any, Any]
_TRIPS = np.array(3, np.int64)


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    before = api.live_blocks()
    yield
    assert api.live_blocks() == before


def _body(*inputs: str) -> api.GraphBuilder:
    body = api.GraphBuilder("body")
    for name in inputs:
        body.input(name)
    return body


def _outputs(builder: api.GraphBuilder, *names: str) -> api.GraphBuilder:
    for name in names:
        builder.output(name)
    return builder


def _doubling() -> api.GraphBuilder:
    """A loop body: s to s + s."""
    body = _body("i", "c", "s")
    body.node("Identity", ["c"], ["go"])
    body.node("Add", ["s", "s"], ["d"])
    return _outputs(body, "go", "d")


def _loop(body: api.GraphBuilder, shape: tuple[int | str, ...] = ("N",)) -> api.Model:
    builder = api.GraphBuilder("loop")
    builder.input("n", "I64", ())
    builder.input("x", "F32", shape)
    builder.node("Loop", ["n", "", "x"], ["y"], name="loop", body=body)
    return _outputs(builder, "y").finish()


def _ones(*shape: int) -> Array:
    return np.ones(shape, np.float32)


# ---- Control flow


def test_a_loop_runs_its_body_until_the_condition_says_no() -> None:
    body = _body("i", "c", "s")
    body.weight("limit", np.float32(20))
    body.node("Add", ["s", "s"], ["d"])
    body.node("Less", ["d", "limit"], ["go"])
    builder = api.GraphBuilder("loop")
    builder.input("x", "F32", ())
    builder.node("Loop", ["", "", "x"], ["y"], body=_outputs(body, "go", "d"))
    assert _outputs(builder, "y").finish().session().run({"x": np.float32(3)})["y"].tolist() == 24


def test_bodies_nest_and_read_values_of_every_graph_round_them() -> None:
    inner = _body("j", "c2", "t")
    inner.node("Identity", ["c2"], ["go2"])
    inner.node("Add", ["t", "s"], ["t1"])  # s is of the outer body
    inner.node("Add", ["t1", "w"], ["t2"])  # w is of the model
    outer = _body("i", "c", "s")
    outer.node("Identity", ["c"], ["go"])
    outer.node("Loop", ["n", "", "s"], ["u"], body=_outputs(inner, "go2", "t2"))
    builder = api.GraphBuilder("nested")
    builder.input("n", "I64", ())
    builder.input("x", "F32", ())
    builder.weight("w", np.float32(1))
    builder.node("Loop", ["n", "", "x"], ["y"], body=_outputs(outer, "go", "u"))
    session = _outputs(builder, "y").finish().session()
    x = 2.0
    for _ in range(3):
        x = x + 3 * (x + 1)
    assert session.run({"n": _TRIPS, "x": np.float32(2)})["y"].tolist() == x


def test_a_state_may_change_its_shape_at_each_pass() -> None:
    body = _body("i", "c", "s")
    body.node("Identity", ["c"], ["go"])
    body.node("Concat", ["s", "s"], ["d"], axis=0)
    session = _loop(_outputs(body, "go", "d")).session()
    assert session.run({"n": _TRIPS, "x": _ones(1)})["y"].shape == (8,)
    assert session.run({"n": np.array(0), "x": _ones(5)})["y"].shape == (5,)


def test_only_the_branch_taken_runs() -> None:
    yes, no = api.GraphBuilder("yes"), api.GraphBuilder("no")
    yes.node("Identity", ["x"], ["a"])
    no.node("Reshape", ["x", "bad"], ["a"])  # would fail
    builder = api.GraphBuilder("if")
    builder.input("c", "BOOL", (1,))
    builder.input("x", "F32", (3,))
    builder.weight("bad", np.array([2, 2]))
    builder.node("If", ["c"], ["y"], then_branch=_outputs(yes, "a"), else_branch=_outputs(no, "a"))
    session = _outputs(builder, "y").finish().session()
    assert session.run({"c": np.array([True]), "x": _ones(3)})["y"].tolist() == [1, 1, 1]
    with pytest.raises(ModelError, match="3 elements do not fit"):
        session.run({"c": np.array([False]), "x": _ones(3)})


def test_a_scan_output_needs_one_shape() -> None:
    body = _body("i", "c", "s")
    body.node("Identity", ["c"], ["go"])
    body.node("Concat", ["s", "s"], ["d"], axis=0)
    body.node("Identity", ["d"], ["row"])
    builder = api.GraphBuilder("loop")
    builder.input("x", "F32", (1,))
    builder.weight("n", _TRIPS)
    builder.node("Loop", ["n", "", "x"], ["y", "rows"], name="grows", body=_outputs(body, "go", "d", "row"))
    with pytest.raises(ModelError, match=r"same type and shape at each pass"):
        _outputs(builder, "rows").finish().session().run({"x": _ones(1)})


# ---- Shapes that depend on data


def _reshaped() -> api.Model:
    builder = api.GraphBuilder("reshape")
    builder.input("x", "F32", ("N",))
    builder.input("shape", "I64", ("M",))
    builder.node("Neg", ["x"], ["a"])
    builder.node("Reshape", ["a", "shape"], ["b"], name="shaped")
    builder.node("Abs", ["b"], ["y"])
    return _outputs(builder, "y").finish()


def test_a_shape_may_be_an_input() -> None:
    session = _reshaped().session()
    for shape in ([2, 3], [3, -1], [6], [2, 3]):
        assert session.run({"x": _ones(6), "shape": shape})["y"].shape == np.empty(6).reshape(shape).shape
    with pytest.raises(ModelError, match="shaped") as caught:
        session.run({"x": _ones(6), "shape": [4, 4]})
    assert caught.value.op == "Reshape"


def test_shapes_may_come_from_contents() -> None:
    builder = api.GraphBuilder("ones")
    builder.input("x", "F32", ("N", "M"))
    builder.weight("axis", np.array([0]))
    builder.node("NonZero", ["x"], ["places"])
    builder.node("Shape", ["places"], ["all"])
    builder.node("ConstantOfShape", ["all"], ["zeros"])
    builder.node("Cast", ["places"], ["real"], to="F32")
    builder.node("Add", ["real", "zeros"], ["sum"])
    builder.node("ReduceSum", ["sum", "axis"], ["y"])
    session = _outputs(builder, "y").finish().session()
    for seed in range(5):
        x = np.random.default_rng(seed).integers(0, 2, (3, 4)).astype(np.float32)
        np.testing.assert_array_equal(session.run({"x": x})["y"], np.array(x.nonzero()).sum(0, keepdims=True))


def test_programs_are_kept_between_runs() -> None:
    session = _reshaped().session()
    session.run({"x": _ones(6), "shape": [2, 3]})
    kept = len(session.explain()["segments"])
    session.run({"x": _ones(6), "shape": [2, 3]})
    assert len(session.explain()["segments"]) == kept == 3


def test_idle_programs_are_dropped() -> None:
    session = _reshaped().session()
    for rows in range(1, 13):
        session.run({"x": _ones(12 * rows), "shape": [rows, 12]})
    assert len(session.explain()["segments"]) <= 3 * 4


def test_threads_may_share_a_session() -> None:
    session = _loop(_doubling()).session()

    def run(size: int) -> list[float]:
        return [session.run({"n": _TRIPS, "x": _ones(size)})["y"].tolist()[-1] for _ in range(20)]

    with ThreadPoolExecutor(4) as pool:
        assert all(set(values) == {8.0} for values in pool.map(run, [1, 2, 3, 1]))


# ---- Values


def test_results_are_the_callers_own() -> None:
    builder = api.GraphBuilder("pass")
    builder.input("x", "F32", (2,))
    builder.input("c", "BOOL", ())
    yes, no = api.GraphBuilder("yes"), api.GraphBuilder("no")
    yes.node("Identity", ["x"], ["a"])
    no.node("Identity", ["w"], ["a"])
    builder.weight("w", _ones(2))
    builder.node("If", ["c"], ["y"], then_branch=_outputs(yes, "a"), else_branch=_outputs(no, "a"))
    builder.node("SequenceConstruct", ["x", "w"], ["s"])
    session = _outputs(builder, "y", "s").finish().session()
    x = _ones(2)
    for c in (True, False):
        results = session.run({"x": x, "c": np.array(c)})
        for value in (results["y"], *results["s"]):
            np.asarray(value)[:] = 7
    assert x.tolist() == [1, 1]
    assert session.run({"x": x, "c": np.array(False)})["y"].tolist() == [1, 1]


def test_texts_move_like_any_elements() -> None:
    builder = api.GraphBuilder("texts")
    builder.input("x", "STRING", ("N", 2))
    builder.weight("rows", np.array([1, 0, 1]))
    builder.node("Transpose", ["x"], ["t"], perm=[1, 0])
    builder.node("Gather", ["t", "rows"], ["y"])
    session = _outputs(builder, "y").finish().session()
    result = session.run({"x": [["a", "ü"], ["", "long " * 100]]})["y"]
    assert result.tolist() == [["ü", "long " * 100], ["a", ""], ["ü", "long " * 100]]
    assert np.asarray(result).shape == (3, 2)
    assert session.run({"x": np.array([["p", "q"]])})["y"].tolist() == [["q"], ["p"], ["q"]]


@pytest.mark.parametrize("op", ["Neg", "Softmax", "ReduceSum", "Relu", "Sum"])
def test_texts_are_no_numbers(op: str) -> None:
    builder = api.GraphBuilder("texts")
    builder.input("x", "STRING", ("N",))
    builder.node(op, ["x"], ["y"], name="wrong")
    with pytest.raises(UnsupportedError, match="text"):
        _outputs(builder, "y").finish().session().run({"x": ["a"]})


@pytest.mark.parametrize("to", ["STRING"])
def test_numbers_do_not_become_texts_by_their_bits(to: str) -> None:
    builder = api.GraphBuilder("bits")
    builder.input("x", "I64", ("N",))
    builder.node("BitCast", ["x"], ["y"], to=to)
    with pytest.raises(EngineError):
        _outputs(builder, "y").finish().session().run({"x": [1]})


def test_a_text_must_hold_no_nul() -> None:
    builder = api.GraphBuilder("texts")
    builder.input("x", "STRING", ("N",))
    builder.node("Identity", ["x"], ["y"])
    session = _outputs(builder, "y").finish().session()
    for value in (["a\0b"], [["a"], "b"], [1]):
        with pytest.raises(EngineError, match="texts without NUL"):
            session.run({"x": value})


def test_inputs_of_unknown_type_take_what_comes() -> None:
    builder = api.GraphBuilder("free")
    builder.input("x", "F32")
    builder.node("Neg", ["x"], ["y"])
    session = _outputs(builder, "y").finish().session()
    assert session.run({"x": _ones(2, 3)})["y"].shape == (2, 3)
    assert session.run({"x": np.float32(1)})["y"].tolist() == -1
    with pytest.raises(EngineError, match="is F64, not F32"):
        session.run({"x": np.ones(2)})


# ---- What goes wrong has a name, and the session goes on


def _sequence_at(position: int) -> api.Session:
    builder = api.GraphBuilder("at")
    builder.input("s", "F32", kind="sequence")
    builder.weight("p", np.array(position))
    builder.node("SequenceAt", ["s", "p"], ["y"], name="pick")
    return _outputs(builder, "y").finish().session()


def test_a_position_outside_a_sequence() -> None:
    session = _sequence_at(2)
    with pytest.raises(EngineError, match="position 2 is outside a sequence of 1") as caught:
        session.run({"s": [_ones(1)]})
    assert (caught.value.op, caught.value.node) == ("SequenceAt", "pick")
    assert session.run({"s": [_ones(1)] * 3})["y"].tolist() == [1]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "'s' is missing"),
        ({"s": [], "t": 1}, "no input 't'"),
        ({"s": _ones(1)}, "must be a sequence"),
        ({"s": None}, "must be a sequence"),
        ({"s": [[_ones(1)]]}, "input 's'"),
    ],
)
def test_inputs_that_do_not_fit(inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        _sequence_at(0).run(inputs)


def test_a_sequence_where_a_tensor_goes() -> None:
    builder = api.GraphBuilder("wrong")
    builder.input("x", "F32", (1,))
    builder.node("SequenceConstruct", ["x"], ["s"])
    builder.node("Neg", ["s"], ["y"], name="negated")
    with pytest.raises(ModelError, match="input 0 of Neg must be a tensor, not a sequence"):
        _outputs(builder, "y").finish().session().run({"x": _ones(1)})


def test_a_loop_without_end_is_ended_by_its_limit() -> None:
    session = _loop(_doubling()).session(max_trips=1000)
    with pytest.raises(OutOfMemory, match="limit of 1000 trips"):
        session.run({"n": np.array(2**62), "x": _ones(1)})
    assert session.run({"n": np.array(1000), "x": np.zeros(1, np.float32)})["y"].tolist() == [0]


def test_a_loop_that_hoards_is_ended_by_the_memory_limit() -> None:
    body = _body("i", "c", "s")
    body.node("Identity", ["c"], ["go"])
    body.node("Concat", ["s", "s"], ["d"], axis=0)
    session = _loop(_outputs(body, "go", "d")).session(memory_limit=1 << 20)
    with pytest.raises(OutOfMemory, match="memory limit of 1048576"):
        session.run({"n": np.array(60), "x": _ones(1)})
    assert session.run({"n": np.array(4), "x": _ones(1)})["y"].shape == (16,)


def test_a_program_past_the_memory_limit_names_its_largest_tensor() -> None:
    builder = api.GraphBuilder("large")
    builder.input("x", "F32", (1,))
    builder.weight("shape", np.array([1 << 12, 1 << 12]))
    builder.node("Expand", ["x", "shape"], ["huge"], name="blow")
    builder.node("Exp", ["huge"], ["exp"])
    builder.node("ReduceSum", ["exp"], ["y"])
    model = _outputs(builder, "y").finish()
    with pytest.raises(OutOfMemory, match=r"tensor '(huge|exp)'"):
        model.session(memory_limit=1 << 20, merge=False).run({"x": _ones(1)})
    assert model.session(merge=False).run({"x": np.zeros(1, np.float32)})["y"].tolist() == [[1 << 24]]


def test_many_small_tensors_count_too() -> None:
    body = _body("i", "c", "s")
    body.node("Identity", ["c"], ["go"])
    body.node("SequenceInsert", ["s", "i"], ["d"])
    builder = api.GraphBuilder("hoard")
    builder.input("n", "I64", ())
    builder.node("SequenceEmpty", [], ["none"])
    builder.node("Loop", ["n", "", "none"], ["y"], body=_outputs(body, "go", "d"))
    session = _outputs(builder, "y").finish().session(memory_limit=1 << 16)
    with pytest.raises(OutOfMemory):
        session.run({"n": np.array(10_000)})
    assert [item.tolist() for item in session.run({"n": _TRIPS})["y"]] == [0, 1, 2]


@pytest.mark.parametrize("limits", [{"memory_limit": -1}, {"max_trips": -1}])
def test_limits_are_not_negative(limits: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="must not be negative"):
        _reshaped().session(**limits)


def test_another_thread_may_interrupt_a_run() -> None:
    session = _loop(_doubling()).session()
    failures: list[str] = []

    def run() -> None:
        try:
            session.run({"n": np.array(2**40), "x": np.zeros(1, np.float32)})
        except EngineError as error:
            failures.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    while thread.is_alive():
        session.interrupt()
        thread.join(0.001)
    assert "interrupted" in failures[0]
    assert session.run({"n": _TRIPS, "x": _ones(1)})["y"].tolist() == [8]


def _wrong(op: str, inputs: list[str], outputs: int, **attrs: Any) -> api.GraphBuilder:
    builder = api.GraphBuilder("wrong")
    builder.input("x", "F32", (2,))
    builder.input("n", "I64", ())
    builder.node(op, inputs, [f"y{i}" for i in range(outputs)], name="wrong", **attrs)
    return _outputs(builder, *(f"y{i}" for i in range(outputs)))


@pytest.mark.parametrize(
    ("builder", "message"),
    [
        (lambda: _wrong("If", ["x"], 1), "one BOOL"),
        (lambda: _wrong("Loop", ["n", "", "x"], 1), "'body' is required"),
        (lambda: _wrong("Loop", ["x", "", "x"], 1, body=_doubling()), "trip count must be one I64"),
        (lambda: _wrong("Loop", ["n", "", "x", "x"], 1, body=_doubling()), "do not fit"),
        (lambda: _wrong("Loop", ["n", "", "x"], 3, body=_doubling()), "more outputs than its body"),
        (lambda: _wrong("Scan", ["x", "x"], 1, body=_doubling()), "num_scan_inputs is required"),
        (lambda: _wrong("Scan", ["n"], 1, num_scan_inputs=1, body=_doubling()), "axis of a scan input"),
        (lambda: _wrong("SequenceMap", ["x"], 1, body=_doubling()), "must be a sequence"),
        (lambda: _wrong("SequenceLength", ["x"], 1), "must be a sequence"),
        (lambda: _wrong("Compress", ["x", "x"], 1), "must be BOOL"),
        (lambda: _wrong("Unique", ["x"], 1, axis=3), "axis 3 is outside"),
        (lambda: _wrong("SplitToSequence", ["x", "n"], 1), "parts of length"),
        (lambda: _wrong("NonMaxSuppression", ["x", "x"], 1), "boxes"),
        (lambda: _wrong("StringConcat", ["x", "x"], 1), "must be STRING"),
        (lambda: _wrong("TfIdfVectorizer", ["n"], 1, mode="TF", ngram_counts=[5], ngram_indexes=[0]), "pool"),
    ],
)  # fmt: skip
def test_wrong_use_is_named(builder: Any, message: str) -> None:
    session = builder().finish().session()
    with pytest.raises(EngineError, match=message):
        session.run({"x": _ones(2), "n": np.array(-1)})


def test_a_body_may_not_read_what_is_nowhere() -> None:
    body = _doubling()
    body.node("Neg", ["ghost"], ["unused"])
    with pytest.raises(ModelError, match="its body reads 'ghost'"):
        _loop(body)


def test_bodies_have_a_depth_limit() -> None:
    body = _doubling()
    with pytest.raises(ModelError, match="more than 16 graphs"):  # noqa: PT012 (some nesting is legal)
        for _ in range(20):
            outer = _body("i", "c", "s")
            outer.node("Identity", ["c"], ["go"])
            outer.node("Loop", ["", "c", "s"], ["d"], body=body)
            body = _outputs(outer, "go", "d")


def test_a_body_is_spent_by_the_node_that_takes_it() -> None:
    body = _doubling()
    _loop(body)
    with pytest.raises(ModelError, match="spent"):
        _loop(body)


def test_a_body_may_not_read_what_depends_on_it() -> None:
    body = _doubling()
    body.node("Add", ["d", "y"], ["e"])
    with pytest.raises(ModelError, match="cycle"):
        _loop(body)
