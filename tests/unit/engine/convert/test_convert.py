"""The whole conversion: what it writes, what it reports, and what it refuses without leaving a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper

from walle_engine import wmodel
from walle_engine.convert import Tolerance, convert, rewrites
from walle_engine.convert.check import run_engine
from walle_engine.convert.loading import load
from walle_engine.convert.rewrites.index import Index
from walle_engine.convert.rewrites.patterns import Match, op
from walle_engine.convert.support import require_supported
from walle_shared.errors import ModelError, StorageError, UnsupportedError

type SaveModel = Callable[..., Path]

RNG = np.random.default_rng(11)
W = RNG.standard_normal((4, 3)).astype(np.float32)
CHAIN = [
    helper.make_node("MatMul", ["x", "w"], ["a"], "product"),
    helper.make_node("LeakyRelu", ["a"], ["b"], "leak", alpha=0.1),
    helper.make_node("Exp", ["b"], ["c"], "power"),
    helper.make_node("Neg", ["c"], ["y"], "sign"),
]


@pytest.fixture
def chain(save_model: SaveModel) -> Path:
    return save_model(CHAIN, {"x": ["N", 4]}, {"y": ["N", 3]}, {"w": W})


def test_report_and_result(chain: Path, tmp_path: Path) -> None:
    target = tmp_path / "chain.wmodel"
    report = convert(chain, target)
    assert (report.path, report.opset) == (target, 21)
    assert (report.nodes_before, report.nodes_after, report.nodes_folded) == (4, 4, 0)
    assert report.size_bytes == target.stat().st_size
    assert report.check is not None
    assert report.check.samples == 2
    assert report.check.max_abs_error < 1e-4
    x = RNG.standard_normal((5, 4)).astype(np.float32)
    product = x @ W
    expected = -np.exp(np.where(product > 0, product, 0.1 * product))
    np.testing.assert_allclose(run_engine(target, {"x": x})["y"], expected, rtol=1e-5)


def test_the_same_model_gives_the_same_bytes(chain: Path, tmp_path: Path) -> None:
    convert(str(chain), str(tmp_path / "a.wmodel"))
    convert(chain, tmp_path / "b.wmodel", check=False)
    assert (tmp_path / "a.wmodel").read_bytes() == (tmp_path / "b.wmodel").read_bytes()


def spoil_leak(_index: Index, match: Match) -> list[wmodel.Node] | None:
    """A wrong rewrite: the leak gets another slope."""
    leak = match.root
    return None if leak.attrs["alpha"] == 0.5 else [replace(leak, attrs={"alpha": 0.5})]


def test_a_wrong_result_names_the_first_wrong_node(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = rewrites.Rewrite("spoil", op("LeakyRelu"), spoil_leak)
    monkeypatch.setattr(rewrites, "REWRITES", (wrong,))
    target = tmp_path / "chain.wmodel"
    target.write_bytes(b"the model from before")
    with pytest.raises(ModelError, match="first node to differ is LeakyRelu 'leak'") as caught:
        convert(chain, target)
    assert (caught.value.op, caught.value.node) == ("LeakyRelu", "leak")
    assert target.read_bytes() == b"the model from before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chain.wmodel", "model.onnx"]


def test_a_model_older_than_onnx_runtime_is_checked_at_our_opset(
    save_model: SaveModel, tmp_path: Path
) -> None:
    node = helper.make_node("Gemm", ["x", "w", "c"], ["y"], transB=1, broadcast=1)  # as opset 6 had it
    weights = {"w": W.T.copy(), "c": np.ones(3, np.float32)}
    report = convert(
        save_model([node], {"x": [2, 4]}, {"y": [2, 3]}, weights, opset=6), tmp_path / "m.wmodel"
    )
    assert report.opset == 6
    assert report.check is not None


def test_a_generous_tolerance_lets_it_pass(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewrites, "REWRITES", (rewrites.Rewrite("spoil", op("LeakyRelu"), spoil_leak),))
    report = convert(chain, tmp_path / "chain.wmodel", tolerance=Tolerance(relative=10.0))
    assert report.rewrites == {"spoil": 1}
    assert report.check is not None
    assert report.check.max_abs_error > 0.01


def test_every_unsupported_operator_is_named_at_once(save_model: SaveModel, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Magic", ["x"], ["m"], "trick", domain="custom"),
        helper.make_node("Riddle", ["m"], ["h"], "hard", domain="custom"),
        helper.make_node("Riddle", ["h"], ["i"], "harder", domain="custom"),
        helper.make_node("Multinomial", ["i"], ["j"], "dice", dtype=onnx.TensorProto.FLOAT),
        helper.make_node("Relu", ["j"], ["y"], "fine"),
    ]
    target = tmp_path / "m.wmodel"
    with pytest.raises(UnsupportedError) as caught:
        convert(save_model(nodes, {"x": [1, 4]}, {"y": [1, 4]}), target)
    message = str(caught.value)
    assert "4 of the model's nodes" in message
    _first, *lines = message.split("\n  - ")
    assert [line.split(";")[0] for line in lines] == [
        "custom.Magic (domain custom, opset 1), 1 node: trick",
        "custom.Riddle (domain custom, opset 1), 2 nodes: hard, harder",
        "Multinomial (domain ai.onnx, opset 21), 1 node: dice",
    ]
    assert "replace it" in lines[0]
    assert ": fine" not in message
    assert "walle-engine coverage" in lines[2]
    assert (caught.value.op, caught.value.node) == ("custom.Magic", "trick")
    assert not target.exists()


def test_an_output_the_engine_does_not_compute_is_unsupported(save_model: SaveModel, tmp_path: Path) -> None:
    node = helper.make_node("MaxPool", ["x"], ["p", "where"], "pool", kernel_shape=[2, 2])
    nodes = [node, helper.make_node("Cast", ["where"], ["y"], "cast", to=onnx.TensorProto.FLOAT)]
    path = save_model(nodes, {"x": [1, 1, 4, 4]}, {"y": [1, 1, 3, 3]})
    with pytest.raises(UnsupportedError, match=r"MaxPool .*: pool; only the first 1 of"):
        require_supported(load(path).draft, (), {"MaxPool": 1, "Cast": 1}, {})
    convert(path, tmp_path / "m.wmodel")  # the real engine has both


@pytest.mark.parametrize("check", [True, False])
def test_an_attribute_the_engine_does_not_know(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: bool
) -> None:
    def invent(_index: Index, match: Match) -> list[wmodel.Node] | None:
        node = match.root
        return None if "slope" in node.attrs else [replace(node, attrs={**node.attrs, "slope": 1})]

    monkeypatch.setattr(rewrites, "REWRITES", (rewrites.Rewrite("invent", op("LeakyRelu"), invent),))
    with pytest.raises(UnsupportedError, match="slope") as caught:
        convert(chain, tmp_path / "m.wmodel", check=check)
    assert caught.value.op == "LeakyRelu"
    assert not (tmp_path / "m.wmodel").exists()


def test_a_rank_the_engine_does_not_have(save_model: SaveModel, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axes"], ["t"], "tower"),
        helper.make_node("Squeeze", ["t", "axes"], ["y"], "flat"),
    ]
    path = save_model(nodes, {"x": [4]}, {"y": [4]}, {"axes": np.arange(8, dtype=np.int64)})
    with pytest.raises(UnsupportedError, match="more than 8 dims") as caught:
        convert(path, tmp_path / "m.wmodel")
    assert (caught.value.op, caught.value.node) == ("Unsqueeze", "tower")


def test_folding_and_rewriting_are_reported(save_model: SaveModel, tmp_path: Path) -> None:
    norm = {name: RNG.uniform(0.5, 1.5, 4).astype(np.float32) for name in ("g", "b", "m", "v")}
    nodes = [
        helper.make_node("Neg", ["k"], ["w"]),
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node("BatchNormalization", ["c", *norm], ["n"], "norm"),
        helper.make_node("Relu", ["n"], ["y"]),
    ]
    kernel = RNG.standard_normal((4, 2, 3, 3)).astype(np.float32)
    path = save_model(nodes, {"x": ["N", 2, 6, 6]}, {"y": ["N", 4, 4, 4]}, {"k": kernel, **norm})
    report = convert(path, tmp_path / "m.wmodel")
    assert (report.nodes_before, report.nodes_after, report.nodes_folded) == (4, 2, 1)
    assert report.rewrites == {"batch_norm_into_conv": 1}


def test_sizes_that_the_model_cannot_take(save_model: SaveModel, tmp_path: Path) -> None:
    nodes = [helper.make_node("Reshape", ["x", "to"], ["y"], "halve")]
    path = save_model(nodes, {"x": ["N"]}, {"y": [2, None]}, {"to": np.array([2, -1], np.int64)})
    with pytest.raises(ModelError, match=r"cannot run the original on random inputs.*--dim NAME=SIZE"):
        convert(path, tmp_path / "m.wmodel")
    report = convert(path, tmp_path / "m.wmodel", sizes={"N": 6})
    assert report.check is not None
    assert report.check.samples == 1


def test_the_original_is_never_overwritten(chain: Path, tmp_path: Path) -> None:
    before = chain.read_bytes()
    (tmp_path / "link.wmodel").symlink_to(chain)
    for target in (chain, tmp_path / "link.wmodel"):
        with pytest.raises(StorageError, match="would overwrite"):
            convert(chain, target)
    assert chain.read_bytes() == before


def test_unwritable_target(chain: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot write"):
        convert(chain, tmp_path / "no" / "folder.wmodel")


@pytest.mark.parametrize(
    ("expected", "actual", "allowed"),
    [
        ([1.0, 100.0], [1.005, 100.0], True),
        ([1.0, 100.0], [1.05, 100.0], False),
        ([0.0], [1e-6], True),
        ([np.nan, np.inf, 1.0], [np.nan, np.inf, 1.0], True),
        ([np.nan], [1.0], False),
        ([1.0], [np.nan], False),
        ([np.inf], [-np.inf], False),
        ([1.0], [1.0, 1.0], False),
        ([], [], True),
    ],
)
def test_tolerance(expected: list[float], actual: list[float], allowed: bool) -> None:
    assert Tolerance().allows(np.array(expected), np.array(actual)) is allowed


@pytest.mark.parametrize(("dtype", "step"), [(np.float16, 2.0**-10), (ml_dtypes.bfloat16, 2.0**-7)])
def test_half_width_types_may_differ_by_rounding(dtype: Any, step: float) -> None:
    one = np.ones(1, dtype)
    assert Tolerance().allows(one, np.array([1 + 2 * step], dtype))
    assert not Tolerance().allows(one, np.array([1 + 8 * step], dtype))


@pytest.mark.parametrize("dtype", [np.int64, np.bool_])
def test_integers_must_be_equal(dtype: Any) -> None:
    one, zero = np.array([1], dtype), np.array([0], dtype)
    assert Tolerance(absolute=10).allows(one, one)
    assert not Tolerance(absolute=10).allows(one, zero)
