"""The extension's Model and Session: what goes in, what comes out, what is refused."""

from __future__ import annotations

import array
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from walle_engine import _native
from walle_engine._native import Model, Tensor
from walle_shared.errors import ConfigError, EngineError, ModelError, UnsupportedError, WalleError

X = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
Y = [[4.0, 0.0], [10.0, 1.0]]


def test_inputs_and_outputs_are_described(perceptron: Path) -> None:
    model = Model(str(perceptron))
    assert model.inputs == (("x", "F32", ("N", 3)),)
    assert model.outputs == (("y", "F32", ("N", 2)),)
    assert Model(perceptron).inputs == model.inputs


@pytest.mark.parametrize(
    "x",
    [
        X,
        tuple(map(tuple, X)),
        np.array(X, np.float32),
        np.asfortranarray(np.array(X, np.float32)),
        np.array(X, np.float32)[::-1][::-1],
        memoryview(array.array("f", [1, 2, 3, 4, 5, 6])).cast("B").cast("f", (2, 3)),
        Tensor((2, 3), "F32", X),
    ],
    ids=["lists", "tuples", "numpy", "column-major", "reversed", "memoryview", "tensor"],
)
def test_any_form_of_input(perceptron: Path, x: Any) -> None:
    outputs = Model(str(perceptron)).session().run({"x": x})
    assert outputs["y"].tolist() == Y
    assert list(outputs) == ["y"]


def test_a_model_of_bytes_is_a_copy(perceptron: Path) -> None:
    data = bytearray(perceptron.read_bytes())
    model, other = Model.from_bytes(data), Model.from_bytes(memoryview(data))
    data[:] = bytes(len(data))
    del other
    assert model.session().run({"x": X})["y"].tolist() == Y
    for broken in (data, b"", perceptron.read_bytes()[:-70]):
        with pytest.raises(ModelError):
            Model.from_bytes(broken)
    with pytest.raises(TypeError):
        Model.from_bytes(str(perceptron))  # type: ignore[arg-type]


def test_unaligned_memory_is_copied(perceptron: Path) -> None:
    raw = bytearray(1) + np.array(X, np.float32).tobytes()
    x = np.frombuffer(raw, np.float32, offset=1).reshape(2, 3)
    assert Model(str(perceptron)).session().run({"x": x})["y"].tolist() == Y


def test_batches_of_every_size_on_one_session(perceptron: Path) -> None:
    session = Model(str(perceptron)).session(threads=2, precision="highest")
    for rows in (2, 1, 5, 2, 0):
        x = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
        y = np.asarray(session.run({"x": x})["y"])
        np.testing.assert_array_equal(y, np.maximum(x @ [[1, 0], [0, 1], [1, 1]] + [0, -10], 0))


@pytest.mark.parametrize(
    ("inputs", "error"),
    [
        ({}, WalleError),
        ({"z": X}, WalleError),
        ({"x": X, "z": X}, WalleError),
        ({"x": [[1.0, 2.0]]}, WalleError),
        ({"x": 1.0}, WalleError),
        ({"x": np.array(X)}, WalleError),
        ({"x": np.array(X, np.complex64)}, TypeError),
        ({"x": "abc"}, TypeError),
        ({"x": None}, TypeError),
        ({"x": [[1.0, 2.0, "3"]]}, TypeError),
        ({"x": [[1.0, 2.0, 3.0], [4.0]]}, ValueError),
        ({7: X}, TypeError),
        ([("x", X)], (TypeError, AttributeError)),
    ],
)
def test_inputs_that_do_not_fit(
    perceptron: Path, inputs: Any, error: type[Exception] | tuple[type[Exception], ...]
) -> None:
    session = Model(str(perceptron)).session()
    before = _native.live_blocks()
    with pytest.raises(error):
        session.run(inputs)
    assert _native.live_blocks() == before
    assert session.run({"x": X})["y"].tolist() == Y


def test_an_unknown_input_is_named(perceptron: Path) -> None:
    with pytest.raises(WalleError, match="z"):
        Model(str(perceptron)).session().run({"x": X, "z": X})


def test_settings_are_checked(perceptron: Path) -> None:
    model = Model(str(perceptron))
    with pytest.raises(ConfigError, match="precision"):
        model.session(precision="sloppy")
    with pytest.raises(WalleError, match="threads"):
        model.session(threads=-1)
    with pytest.raises(TypeError):
        model.session(2)  # type: ignore[misc]


def test_a_truncated_model(perceptron: Path) -> None:
    content = perceptron.read_bytes()
    for length in (0, 7, 8, 100, len(content) // 2, len(content) - 1):
        cut = perceptron.with_name(f"cut-{length}.wmodel")
        cut.write_bytes(content[:length])
        with pytest.raises(ModelError) as caught:
            Model(str(cut))
        assert caught.value.status == "INVALID_MODEL"


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(WalleError, match="missing"):
        Model(str(tmp_path / "missing.wmodel"))
    with pytest.raises(ValueError, match="null"):
        Model("a\0b")


def test_an_unknown_operator_is_named(perceptron: Path) -> None:
    content = perceptron.read_bytes().replace(rb"\"op\":\"Relu\"", rb"\"op\":\"Rexu\"")
    path = perceptron.with_name("other.wmodel")
    path.write_bytes(content)
    with pytest.raises(UnsupportedError, match="Rexu") as caught:
        Model(str(path))
    assert (caught.value.op, caught.value.node) == ("Rexu", "relu")


def test_a_replaced_file_is_a_new_model(perceptron: Path) -> None:
    old = Model(str(perceptron))
    renamed = perceptron.with_name("new.wmodel")
    renamed.write_bytes(perceptron.read_bytes()[:-8] + bytes(8))  # the bias becomes zero
    renamed.replace(perceptron)
    assert Model(str(perceptron)).session().run({"x": X})["y"].tolist() == [[4.0, 5.0], [10.0, 11.0]]
    assert old.session().run({"x": X})["y"].tolist() == Y


def test_outputs_outlive_session_and_model(perceptron: Path) -> None:
    before = _native.live_blocks()
    y = Model(str(perceptron)).session().run({"x": X})["y"]
    assert y.tolist() == Y
    del y
    assert _native.live_blocks() == before


def test_one_session_serves_many_threads(perceptron: Path) -> None:
    session = Model(str(perceptron)).session()
    failures: list[object] = []

    def work(rows: int) -> None:
        x = [X[0]] * rows
        for _ in range(100):
            y = session.run({"x": x})["y"].tolist()
            if y != [Y[0]] * rows:
                failures.append(y)

    threads = [threading.Thread(target=work, args=(rows,)) for rows in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert failures == []


def test_isa_is_a_name() -> None:
    assert _native.isa() in {
        "ref",
        "avx2",
        "avx512",
        "avx512vnni",
        "avx512bf16",
        "amx",
        "neon",
        "neondot",
        "neonbf16",
    }


def test_engine_errors_carry_their_place(perceptron: Path) -> None:
    with pytest.raises(EngineError) as caught:
        Model(str(perceptron)).session().run({"x": np.zeros((2, 4), np.float32)})
    assert caught.value.status
