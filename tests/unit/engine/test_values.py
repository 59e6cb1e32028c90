"""Text, sequences and optionals in and out of a session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from walle_engine import api, wmodel
from walle_engine.tensor import TextTensor
from walle_shared.errors import EngineError


def _model(node: wmodel.Node, inputs: list[wmodel.Value], *outputs: wmodel.Value) -> api.Model:
    graph = wmodel.Graph("values", tuple(inputs), outputs, (node,))
    return api.load_bytes(wmodel.to_bytes(graph, {}))


def _concat() -> api.Session:
    node = wmodel.Node("StringConcat", "join", ("a", "b"), ("y",))
    a, b = wmodel.Value("a", "STRING", ("N",)), wmodel.Value("b", "STRING", (1,))
    return _model(node, [a, b], wmodel.Value("y", "STRING", ("N",))).session()


@pytest.mark.parametrize(
    "words", [["ja", "né"], np.array(["ja", "né"]), np.array(["ja", "né"], object), (b"ja", "né".encode())]
)
def test_text_goes_in_and_comes_out(words: Any) -> None:
    y = _concat().run({"a": words, "b": ["!"]})["y"]
    assert isinstance(y, TextTensor)
    assert (y.dtype, y.shape, y.tolist()) == ("STRING", (2,), ["ja!", "né!"])
    assert np.asarray(y).tolist() == ["ja!", "né!"]
    again = _concat().run({"a": y, "b": ["?"]})["y"]
    assert again.tolist() == ["ja!?", "né!?"]


def test_text_of_other_ranks() -> None:
    assert TextTensor(["a"], ()).tolist() == "a"
    assert TextTensor(list("abcd"), (2, 2)).tolist() == [["a", "b"], ["c", "d"]]
    assert TextTensor([], (2, 0)).tolist() == [[], []]


@pytest.mark.parametrize("words", [[["a"], "b"], [1, 2], ["a\0b"]])
def test_text_that_is_none_is_refused(words: Any) -> None:
    with pytest.raises(EngineError, match="must hold texts"):
        _concat().run({"a": words, "b": ["!"]})


def test_inputs_are_checked_by_name() -> None:
    with pytest.raises(EngineError, match="no input 'c'"):
        _concat().run({"a": ["x"], "b": ["y"], "c": ["z"]})
    with pytest.raises(EngineError, match="'b' is missing"):
        _concat().run({"a": ["x"]})


def test_sequences_go_in_and_come_out() -> None:
    node = wmodel.Node("SequenceInsert", "add", ("s", "t"), ("y",))
    sequence = wmodel.Value("s", "F32", None, "sequence")
    model = _model(
        node, [sequence, wmodel.Value("t", "F32", ("N",))], wmodel.Value("y", "F32", None, "sequence")
    )
    assert [value.kind for value in (*model.inputs, *model.outputs)] == ["sequence", "tensor", "sequence"]
    y = model.session().run({"s": [np.float32([1]), np.float32([2, 3])], "t": [4.0]})["y"]
    assert [item.tolist() for item in y] == [[1], [2, 3], [4]]


def test_an_optional_may_be_none() -> None:
    node = wmodel.Node("OptionalHasElement", "has", ("o",), ("y",))
    model = _model(node, [wmodel.Value("o", "F32", None, "optional")], wmodel.Value("y", "BOOL", ()))
    session = model.session()
    assert session.run({"o": None})["y"].tolist() is False
    assert session.run({"o": np.float32([1])})["y"].tolist() is True


def test_a_tensor_is_no_sequence(tmp_path: Path) -> None:
    node = wmodel.Node("SequenceLength", "count", ("s",), ("y",))
    model = _model(node, [wmodel.Value("s", "F32", None, "sequence")], wmodel.Value("y", "I64", ()))
    with pytest.raises(EngineError):
        model.session().run({"s": np.float32([1])})
