"""The .wmodel container: what is written, and what a reader refuses."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from walle_engine import wmodel
from walle_shared.errors import ModelError, StorageError

GRAPH = wmodel.Graph(
    name="tiny",
    inputs=(wmodel.Value("x", "F32", ("N", 3)),),
    outputs=(wmodel.Value("y", "F32", ("N", 2)),),
    nodes=(
        wmodel.Node("Gemm", "fc", ("x", "w", ""), ("y",), {"transB": 1, "alpha": 1.5, "tags": ["a", "b"]}),
    ),
    producer="test",
)
WEIGHTS = {
    "w": np.arange(6, dtype=np.float32).reshape(2, 3),
    "flag": np.array([True, False, True]),
    "scalar": np.array(7, np.int64),
    "empty": np.zeros((0, 4), np.float16),
    "brain": np.array([1.0, -2.5], ml_dtypes.bfloat16),
}


def write(path: Path) -> Path:
    wmodel.write(path, GRAPH, {name: wmodel.weight_from_array(array) for name, array in WEIGHTS.items()})
    return path


def header_of(path: Path) -> tuple[int, dict[str, object]]:
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    return size, json.loads(content[8 : 8 + size])


def with_header(path: Path, header: object, tail: bytes | None = None) -> Path:
    size, _ = header_of(path)
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64)
    data = path.read_bytes()[8 + size :] if tail is None else tail
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_round_trip(tmp_path: Path) -> None:
    model = wmodel.read(write(tmp_path / "m.wmodel"))
    assert model.graph == GRAPH
    assert list(model.weights) == list(WEIGHTS)
    for name, array in WEIGHTS.items():
        assert model.array(name).dtype == array.dtype
        np.testing.assert_array_equal(model.array(name), array)


def test_everything_is_aligned(tmp_path: Path) -> None:
    path = write(tmp_path / "m.wmodel")
    size, _ = header_of(path)
    assert (8 + size) % 64 == 0
    assert all(info.offset % 64 == 0 for info in wmodel.read(path).weights.values())


def test_safetensors_reads_it(tmp_path: Path) -> None:
    path = write(tmp_path / "m.wmodel")
    with safetensors.safe_open(path, "numpy") as file:
        assert file.metadata()["walle.format"] == "1"
        assert wmodel.Graph.from_json(file.metadata()["walle.graph"]) == GRAPH
        names = [name for name in file.keys() if not name.startswith("walle.pad.")]  # noqa: SIM118  (no dict)
        assert sorted(names) == sorted(WEIGHTS)
        np.testing.assert_array_equal(file.get_tensor("w"), WEIGHTS["w"])
        np.testing.assert_array_equal(file.get_tensor("flag"), WEIGHTS["flag"])


def test_big_endian_and_strided_arrays_are_stored_dense() -> None:
    array = np.arange(12, dtype=">i4").reshape(3, 4)[:, ::2]
    weight = wmodel.weight_from_array(array)
    assert weight.shape == (3, 2)
    assert bytes(weight.data) == np.array([0, 2, 4, 6, 8, 10], "<i4").tobytes()


def test_a_type_without_a_name_is_refused() -> None:
    with pytest.raises(ModelError, match="complex128 cannot be stored"):
        wmodel.weight_from_array(np.zeros(2, np.complex128))


@pytest.mark.parametrize("name", ["", "__metadata__", "walle.pad.0"])
def test_reserved_weight_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="reserved"):
        wmodel.write(tmp_path / "m.wmodel", GRAPH, {name: wmodel.weight_from_array(np.zeros(1))})
    assert list(tmp_path.iterdir()) == []


def test_size_that_is_not_the_shapes(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has 4 bytes where its shape needs 8"):
        wmodel.write(tmp_path / "m.wmodel", GRAPH, {"w": wmodel.Weight("F32", (2,), b"1234")})


def test_an_infinite_attribute_has_no_json(tmp_path: Path) -> None:
    node = wmodel.Node("Elu", "e", ("x",), ("y",), {"alpha": float("inf")})
    graph = wmodel.Graph("g", GRAPH.inputs, GRAPH.outputs, (node,))
    with pytest.raises(ModelError, match="not a finite number"):
        wmodel.write(tmp_path / "m.wmodel", graph, {})


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = write(tmp_path / "m.wmodel")
    before = path.read_bytes()
    with contextlib.suppress(ZeroDivisionError), wmodel.staged_file(path) as staged:
        staged.write_bytes(b"half")
        _ = 1 / 0
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_mode_follows_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        path = write(tmp_path / "m.wmodel")
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o640


def test_unwritable_and_missing_paths(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot write"):
        write(tmp_path / "no" / "such" / "folder.wmodel")
    with pytest.raises(StorageError, match="cannot read"):
        wmodel.read(tmp_path / "missing.wmodel")


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    content = write(tmp_path / "whole.wmodel").read_bytes()
    cut = tmp_path / "cut.wmodel"
    for length in [*range(0, len(content), 61), len(content) - 1]:
        cut.write_bytes(content[:length])
        with pytest.raises(ModelError):
            wmodel.read(cut)


def test_lies_in_the_header(tmp_path: Path) -> None:
    path = write(tmp_path / "m.wmodel")
    original = path.read_bytes()
    _, good = header_of(path)
    lies: list[tuple[str, dict[str, object]]] = [
        ("overlaps another or leaves a hole", {"flag": {**good["flag"], "data_offsets": [0, 3]}}),  # type: ignore[dict-item]
        ("malformed", {"w": {**good["w"], "shape": [2, -3]}}),  # type: ignore[dict-item]
        ("malformed", {"w": {**good["w"], "shape": [9, 3]}}),  # type: ignore[dict-item]
        ("malformed", {"w": {**good["w"], "dtype": "F8"}}),  # type: ignore[dict-item]
        ("malformed", {"w": {**good["w"], "data_offsets": [0, True]}}),  # type: ignore[dict-item]
        ("malformed", {"__metadata__": {}}),
        ("format version '2'", {"__metadata__": {"walle.format": "2", "walle.graph": "{}"}}),
        ("graph is malformed", {"__metadata__": {"walle.format": "1", "walle.graph": "{}"}}),
        ("graph is malformed", {"__metadata__": {"walle.format": "1", "walle.graph": "[" * 100_000}}),
    ]
    for message, lie in lies:
        path.write_bytes(original)
        with pytest.raises(ModelError, match=message):
            wmodel.read(with_header(path, {**good, **lie}))


def test_bytes_behind_the_last_weight_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.wmodel")
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ModelError, match="header promises"):
        wmodel.read(path)


def test_an_unknown_weight_is_named_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no weight 'v': its weights are w, flag"):
        wmodel.read(write(tmp_path / "m.wmodel")).array("v")
