"""The operators of ``ai.onnx.ml`` against ONNX Runtime, on random models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from walle_engine import api, onnx_backend
from walle_shared.errors import EngineError, ModelError, UnsupportedError

Array = np.ndarray[Any, Any]
MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
MATRICES = ("ArrayFeatureExtractor", "TreeEnsembleRegressor", "LinearRegressor")  # whatever goes in
FLOAT, DOUBLE, INT64, STRING = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.STRING


def model(
    op: str, inputs: Mapping[str, Array], outputs: list[int], version: int = 3, **attributes: Any
) -> onnx.ModelProto:
    """One node; ``outputs`` are element types."""
    tensors = {
        n: numpy_helper.from_array(v) if isinstance(v, np.ndarray) else v for n, v in attributes.items()
    }
    names = [f"y{i}" for i in range(len(outputs))]
    node = helper.make_node(op, list(inputs), names, "it", domain="ai.onnx.ml", **tensors)
    first = next(iter(inputs.values())).ndim
    ranks = (
        [1] if len(outputs) == 2 else [max(first, 2) if op in MATRICES else first + (op == "OneHotEncoder")]
    )
    graph = helper.make_graph(
        [node],
        op,
        [
            helper.make_tensor_value_info(
                name,
                STRING if value.dtype == object else helper.np_dtype_to_tensor_dtype(value.dtype),
                value.shape,
            )
            for name, value in inputs.items()
        ],
        [
            helper.make_tensor_value_info(name, kind, [f"{name}.{axis}" for axis in range(rank)])
            for name, kind, rank in zip(names, outputs, [*ranks, 2], strict=False)
        ],
    )
    imports = [helper.make_opsetid("ai.onnx.ml", version), helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def theirs(proto: onnx.ModelProto, inputs: Mapping[str, Array]) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found: list[Array] = session.run(None, dict(inputs))
    return found


def agree(proto: onnx.ModelProto, inputs: Mapping[str, Array], tolerance: float = 1e-5) -> None:
    """Ours are ONNX Runtime's values, types and shapes."""
    wanted = theirs(proto, inputs)
    found = onnx_backend.run_model(proto, inputs)
    for want, got in zip(wanted, found, strict=True):
        assert got.shape == want.shape
        if want.dtype.kind in "OU":
            assert got.tolist() == want.tolist()
        else:
            assert got.dtype == want.dtype
            np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


# ---- Trees ----


def random_forest(
    rng: np.random.Generator, trees: int, depth: int, features: int, modes: tuple[str, ...] = MODES[:1]
) -> dict[str, list[Any]]:
    """The ``nodes_*`` attributes of trees whose branches end anywhere down to ``depth``."""
    made: dict[str, list[Any]] = {
        f"nodes_{name}": []
        for name in (
            "treeids", "nodeids", "modes", "featureids", "values", "truenodeids", "falsenodeids",
            "missing_value_tracks_true",
        )
    }  # fmt: skip
    for tree in range(trees):
        waiting, number = [(0, 0)], 1
        while waiting:
            node, level = waiting.pop()
            leaf = level == depth or (level > 0 and rng.random() < 0.3)
            children = (0, 0) if leaf else (number, number + 1)
            row = {
                "treeids": tree, "nodeids": node, "modes": "LEAF" if leaf else str(rng.choice(modes)),
                "featureids": 0 if leaf else int(rng.integers(features)),
                "values": 0.0 if leaf else float(np.float32(rng.integers(-8, 8) / 4)),
                "truenodeids": children[0], "falsenodeids": children[1],
                "missing_value_tracks_true": 0 if leaf else int(rng.integers(2)),
            }  # fmt: skip
            for name, value in row.items():
                made[f"nodes_{name}"].append(value)
            if not leaf:
                waiting += [(number, level + 1), (number + 1, level + 1)]
                number += 2
    return made


def random_votes(
    rng: np.random.Generator, forest: dict[str, list[Any]], prefix: str, targets: list[int], low: float = -1.0
) -> dict[str, list[Any]]:
    """Each leaf votes for each target."""
    leaves = [
        (t, n)
        for t, n, mode in zip(
            forest["nodes_treeids"], forest["nodes_nodeids"], forest["nodes_modes"], strict=True
        )
        if mode == "LEAF"
    ]
    votes = [(t, n, target) for t, n in leaves for target in targets]
    return {
        f"{prefix}_treeids": [t for t, _, _ in votes],
        f"{prefix}_nodeids": [n for _, n, _ in votes],
        f"{prefix}_ids": [target for _, _, target in votes],
        f"{prefix}_weights": [float(np.float32(w)) for w in rng.uniform(low, 1, len(votes))],
    }


def features(rng: np.random.Generator, rows: int, columns: int, dtype: Any = np.float32) -> Array:
    """Numbers that often equal a split, and some that are missing."""
    x = rng.integers(-8, 8, (rows, columns)) / 4
    if np.dtype(dtype).kind == "f":
        x[rng.random(x.shape) < 0.1] = np.nan
    return x.astype(dtype)


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
@pytest.mark.parametrize("targets", [1, 3])
@pytest.mark.parametrize("modes", [MODES[:1], MODES], ids=["leq", "every mode"])
def test_tree_regressor(aggregate: str, targets: int, modes: tuple[str, ...]) -> None:
    rng = np.random.default_rng(targets)
    forest = random_forest(rng, 7, 5, 4, modes)
    votes = random_votes(rng, forest, "target", list(range(targets)))
    x = features(rng, 37, 4)
    proto = model(
        "TreeEnsembleRegressor", {"x": x}, [FLOAT], aggregate_function=aggregate, n_targets=targets,
        base_values=[0.25 * i for i in range(1, targets + 1)], **forest, **votes,
    )  # fmt: skip
    agree(proto, {"x": x})


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32])
@pytest.mark.parametrize("rows", [1, 7, 8, 9, 200])
def test_trees_on_any_type_and_number_of_rows(dtype: Any, rows: int) -> None:
    rng = np.random.default_rng(rows)
    forest = random_forest(rng, 11, 6, 3)
    votes = random_votes(rng, forest, "class", [0, 1, 2])
    x = features(rng, rows, 3, dtype)
    proto = model(
        "TreeEnsembleClassifier", {"x": x}, [INT64, FLOAT], classlabels_int64s=[0, 1, 2], **forest, **votes
    )
    agree(proto, {"x": x})


def test_doubles_as_tensors_are_compared_as_such() -> None:
    rng = np.random.default_rng(3)
    forest = random_forest(rng, 5, 4, 3)
    votes = random_votes(rng, forest, "target", [0])
    split = 1 + 2**-40
    forest["nodes_values_as_tensor"] = np.full(len(forest.pop("nodes_values")), split)  # type: ignore[assignment]
    votes["target_weights_as_tensor"] = np.array(votes.pop("target_weights"))  # type: ignore[assignment]
    x = np.array([[split] * 3, [1 + 2**-39] * 3, [1.0] * 3])
    agree(model("TreeEnsembleRegressor", {"x": x}, [FLOAT], n_targets=1, **forest, **votes), {"x": x})


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("labels", [[3, 1, 2], ["c", "a", "b"]], ids=["integers", "texts"])
def test_tree_classifier(transform: str, labels: list[Any]) -> None:
    rng = np.random.default_rng(5)
    forest = random_forest(rng, 6, 4, 4)
    low = 0.0 if transform == "PROBIT" else -1.0
    votes = random_votes(rng, forest, "class", [0, 1, 2], low)
    if transform == "PROBIT":  # of numbers between 0 and 1
        votes["class_weights"] = [w / 6 for w in votes["class_weights"]]
    x = features(rng, 40, 4)
    names = {f"classlabels_{'strings' if isinstance(labels[0], str) else 'int64s'}": labels}
    kind = STRING if isinstance(labels[0], str) else INT64
    proto = model(
        "TreeEnsembleClassifier",
        {"x": x},
        [kind, FLOAT],
        post_transform=transform,
        **names,
        **forest,
        **votes,
    )
    agree(proto, {"x": x}, 1e-4 if transform == "PROBIT" else 1e-5)


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX"])
@pytest.mark.parametrize("low", [-1.0, 0.0], ids=["mixed", "positive"])
@pytest.mark.parametrize("base", [[], [0.5]], ids=["no base", "base"])
@pytest.mark.parametrize("targets", [[0], [1]], ids=str)
def test_tree_classifier_of_two_classes(
    transform: str, low: float, base: list[float], targets: list[int]
) -> None:
    rng = np.random.default_rng(7)
    forest = random_forest(rng, 4, 3, 4)
    votes = random_votes(rng, forest, "class", targets, low)
    x = features(rng, 40, 4)
    proto = model(
        "TreeEnsembleClassifier", {"x": x}, [INT64, FLOAT], post_transform=transform,
        classlabels_int64s=[10, 20], **({"base_values": base} if base else {}), **forest, **votes,
    )  # fmt: skip
    if base and targets == [1]:
        with pytest.raises(UnsupportedError, match="base value"):
            onnx_backend.prepare(proto)
        return
    agree(proto, {"x": x})


def newest(rng: np.random.Generator, dtype: Any = np.float32, targets: int = 2) -> dict[str, Any]:
    """Attributes of ``TreeEnsemble``: two trees, the second of sets, one leaf shared by two branches."""
    return {
        "n_targets": targets,
        "nodes_splits": np.array([0.5, -0.25, 0, 0.5], dtype),
        "nodes_featureids": [0, 1, 2, 0],
        "nodes_modes": np.array([0, 3, 6, 6], np.uint8),
        "nodes_truenodeids": [1, 0, 3, 3],
        "nodes_falsenodeids": [2, 1, 4, 0],
        "nodes_trueleafs": [0, 1, 0, 1],
        "nodes_falseleafs": [1, 1, 1, 1],
        "leaf_targetids": [0, 1, 0, 1, 0],
        "leaf_weights": rng.uniform(-1, 1, 5).astype(dtype),
        "tree_roots": [0, 2],
        "membership_values": np.array([1, 2, np.nan, -1, np.nan], dtype),
    }


@pytest.mark.parametrize("aggregate", range(4))
@pytest.mark.parametrize("transform", range(5))
def test_tree_ensemble(aggregate: int, transform: int) -> None:
    rng = np.random.default_rng(1)
    attributes = newest(rng)
    if transform == 4:
        attributes["leaf_weights"] = np.abs(attributes["leaf_weights"]) / 2
    x = features(rng, 30, 3)

    def of(number: int) -> onnx.ModelProto:
        return model(
            "TreeEnsemble", {"x": x}, [FLOAT], 5, aggregate_function=aggregate, post_transform=number,
            **attributes,
        )  # fmt: skip

    (found,) = onnx_backend.run_model(of(transform), [x])
    # ONNX Runtime 1.32 takes SOFTMAX for LOGISTIC and the other way round; ONNX says 1 and 2.
    (wanted,) = theirs(of({1: 2, 2: 1}.get(transform, transform)), {"x": x})
    tolerance = 1e-4 if transform == 4 else 1e-5
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


def test_half_precision_ensemble_is_computed_in_single() -> None:
    rng = np.random.default_rng(1)
    x, attributes = features(rng, 9, 3), newest(rng)
    exact = theirs(model("TreeEnsemble", {"x": x}, [FLOAT], 5, **attributes), {"x": x})[0]
    halves = {
        name: v.astype(np.float16) if isinstance(v, np.ndarray) and v.dtype == np.float32 else v
        for name, v in attributes.items()
    }
    proto = model("TreeEnsemble", {"x": x.astype(np.float16)}, [TensorProto.FLOAT16], 5, **halves)
    (found,) = onnx_backend.run_model(proto, [x.astype(np.float16)])
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, exact, atol=2e-3)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("tree_roots", [0, 4], "tree_roots"),
        ("tree_roots", [-1], "tree_roots"),
        ("nodes_truenodeids", [1, 0, 3, 9], "does not exist"),
        ("nodes_truenodeids", [1, 0, -1, 3], "does not exist"),
        ("nodes_truenodeids", [0, 0, 3, 3], "back to a node above"),
        ("nodes_truenodeids", [1, 0, 2, 3], "back to a node above"),
        ("nodes_featureids", [0, 1, -(2**40), 0], "nodes_featureids"),
        ("nodes_modes", np.array([0, 3, 7, 6], np.uint8), "nodes_modes"),
        ("leaf_targetids", [0, 1, 0, 2, 0], "leaf_targetids"),
        ("leaf_targetids", [0, 1, 0, -1, 0], "leaf_targetids"),
        ("membership_values", np.array([1, np.nan, 2], np.float32), "membership_values"),
        ("membership_values", np.array([1.0], np.float32), "membership_values"),
        ("aggregate_function", 9, "aggregate_function"),
        ("post_transform", 9, "post_transform"),
        ("n_targets", 0, "n_targets"),
    ],
)
def test_a_broken_ensemble_is_refused_when_loaded(name: str, value: Any, says: str) -> None:
    rng = np.random.default_rng(1)
    x = features(rng, 3, 3)
    proto = model("TreeEnsemble", {"x": x}, [FLOAT], 5, **newest(rng) | {name: value})
    with pytest.raises(ModelError, match=says) as caught:
        onnx_backend.prepare(proto)
    assert caught.value.op == "TreeEnsemble"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("nodes_modes", ["BRANCH_LEQ", "LEAF", "TWIG"], "TWIG"),
        ("nodes_truenodeids", [5, 0, 0], "no node 5"),
        ("nodes_truenodeids", [0, 0, 0], "no branch"),
        ("nodes_nodeids", [0, 1, 1], "one number"),
        ("nodes_values", [0.5], "different lengths"),
        ("target_nodeids", [1, 7], "no node 7"),
        ("target_ids", [0], "different lengths"),
        ("target_ids", [0, 4], "leaf_targetids"),
        ("base_values", [1.0, 2.0], "base values"),
        ("aggregate_function", "MEDIAN", "MEDIAN"),
        ("post_transform", "CUBE", "CUBE"),
    ],
)
def test_a_broken_older_ensemble_is_refused(name: str, value: Any, says: str) -> None:
    attributes: dict[str, Any] = {
        "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_featureids": [0, 0, 0], "nodes_values": [0.5, 0.0, 0.0], "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0], "target_treeids": [0, 0], "target_nodeids": [1, 2],
        "target_ids": [0, 1], "target_weights": [1.0, 2.0], "n_targets": 2,
    }  # fmt: skip
    x = np.zeros((2, 1), np.float32)
    if name == "post_transform":
        attributes["n_targets"] = 2
    if name == "base_values":
        attributes |= {"n_targets": 1, "target_ids": [0, 0]}
    proto = model("TreeEnsembleRegressor", {"x": x}, [FLOAT], **attributes | {name: value})
    with pytest.raises(ModelError, match=says):
        onnx_backend.prepare(proto)


def test_every_row_is_the_same_in_any_number_of_threads() -> None:
    rng = np.random.default_rng(9)
    forest = random_forest(rng, 50, 6, 8)
    votes = random_votes(rng, forest, "target", [0, 1])
    x = features(rng, 3000, 8)
    proto = model("TreeEnsembleRegressor", {"x": x}, [FLOAT], n_targets=2, **forest, **votes)
    one, two = (onnx_backend.run_model(proto, [x], threads=n)[0] for n in (1, 2))
    assert one.tobytes() == two.tobytes()
    np.testing.assert_allclose(one, theirs(proto, {"x": x})[0], rtol=1e-5, atol=1e-5)


# ---- Linear models and support vectors ----


@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"])
@pytest.mark.parametrize("targets", [1, 3])
def test_linear_regressor(transform: str, targets: int) -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(5, 4)).astype(np.float32)
    proto = model(
        "LinearRegressor", {"x": x}, [FLOAT], post_transform=transform, targets=targets,
        coefficients=rng.normal(size=4 * targets).tolist(), intercepts=rng.normal(size=targets).tolist(),
    )  # fmt: skip
    agree(proto, {"x": x})


@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX", "LOGISTIC"])
@pytest.mark.parametrize(
    ("scores", "labels"), [(3, [4, 5, 6]), (3, ["a", "b", "c"]), (1, [7, 9]), (1, ["n", "p"])]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_linear_classifier(transform: str, scores: int, labels: list[Any], dtype: Any) -> None:
    rng = np.random.default_rng(4)
    x = (3 * rng.normal(size=(20, 4))).astype(dtype)
    texts = isinstance(labels[0], str)
    proto = model(
        "LinearClassifier", {"x": x}, [STRING if texts else INT64, FLOAT], post_transform=transform,
        coefficients=rng.normal(size=4 * scores).tolist(), intercepts=rng.normal(size=scores).tolist(),
        **{"classlabels_strings" if texts else "classlabels_ints": labels},
    )  # fmt: skip
    agree(proto, {"x": x})


KERNELS = [
    ("LINEAR", [0.0, 0.0, 0.0]),
    ("POLY", [0.3, 1.0, 3.0]),
    ("RBF", [0.4, 0.0, 0.0]),
    ("SIGMOID", [0.2, 0.1, 0.0]),
]


@pytest.mark.parametrize(("kernel", "parameters"), KERNELS)
@pytest.mark.parametrize("one_class", [0, 1])
def test_svm_regressor(kernel: str, parameters: list[float], one_class: int) -> None:
    rng = np.random.default_rng(6)
    x = rng.normal(size=(9, 4)).astype(np.float32)
    proto = model(
        "SVMRegressor", {"x": x}, [FLOAT], kernel_type=kernel, kernel_params=parameters, n_supports=6,
        support_vectors=rng.normal(size=24).tolist(), coefficients=rng.normal(size=6).tolist(), rho=[0.3],
        one_class=one_class,
    )  # fmt: skip
    agree(proto, {"x": x}, 1e-4)


@pytest.mark.parametrize(("kernel", "parameters"), KERNELS)
@pytest.mark.parametrize("labels", [[1, 2], ["a", "b", "c", "d"]], ids=["two", "four"])
@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC"])
def test_svm_classifier(kernel: str, parameters: list[float], labels: list[Any], transform: str) -> None:
    rng = np.random.default_rng(8)
    x = rng.normal(size=(15, 3)).astype(np.float32)
    count, sizes = len(labels), [2, 3, 1, 2][: len(labels)]
    texts = isinstance(labels[0], str)
    proto = model(
        "SVMClassifier", {"x": x}, [STRING if texts else INT64, FLOAT], kernel_type=kernel,
        post_transform=transform, kernel_params=parameters, vectors_per_class=sizes,
        support_vectors=rng.normal(size=3 * sum(sizes)).tolist(),
        coefficients=rng.normal(size=(count - 1) * sum(sizes)).tolist(),
        rho=rng.normal(size=count * (count - 1) // 2).tolist(),
        **{"classlabels_strings" if texts else "classlabels_ints": labels},
    )  # fmt: skip
    agree(proto, {"x": x}, 1e-4)


@pytest.mark.parametrize("labels", [[1, 2], [1, 2, 3]], ids=["two", "three"])
@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_svm_classifier_without_vectors(labels: list[int], low: float) -> None:
    rng = np.random.default_rng(8)
    x = rng.normal(size=(15, 3)).astype(np.float32)
    proto = model(
        "SVMClassifier", {"x": x}, [INT64, FLOAT], coefficients=rng.uniform(low, 1, 3 * len(labels)).tolist(),
        rho=[0.1], classlabels_ints=labels, kernel_type="LINEAR", kernel_params=[0.0, 0.0, 0.0],
    )  # fmt: skip
    agree(proto, {"x": x})


def test_svm_probabilities_are_refused() -> None:
    x = np.zeros((1, 1), np.float32)
    proto = model(
        "SVMClassifier", {"x": x}, [INT64, FLOAT], vectors_per_class=[1, 1], support_vectors=[0.0, 1.0],
        coefficients=[1.0, -1.0], rho=[0.0], prob_a=[1.0], prob_b=[0.0], classlabels_ints=[0, 1],
    )  # fmt: skip
    with pytest.raises(UnsupportedError, match="probabilities"):
        onnx_backend.prepare(proto)


# ---- Features ----


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4)], ids=str)
def test_array_feature_extractor(dtype: Any, shape: tuple[int, ...]) -> None:
    x = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    y = np.array([[3, 0, 0]], np.int64)
    agree(
        model("ArrayFeatureExtractor", {"x": x, "y": y}, [helper.np_dtype_to_tensor_dtype(x.dtype)]),
        {"x": x, "y": y},
    )


def test_array_feature_extractor_of_texts() -> None:
    x, y = np.array([["a", "b"], ["c", "d"]], object), np.array([1], np.int64)
    agree(model("ArrayFeatureExtractor", {"x": x, "y": y}, [STRING]), {"x": x, "y": y})


def test_binarizer() -> None:
    x = np.array([[-1, 0.5, 0.5001, np.inf]], np.float32)
    agree(model("Binarizer", {"x": x}, [FLOAT], threshold=0.5), {"x": x})


@pytest.mark.parametrize("norm", ["MAX", "L1", "L2"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32])
def test_normalizer(norm: str, dtype: Any) -> None:
    x = np.array([[1, -2, 3], [0, 0, 0], [4, 5, 6]], dtype)
    agree(model("Normalizer", {"x": x}, [FLOAT], norm=norm), {"x": x})


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32])
def test_scaler(count: int, dtype: Any) -> None:
    x = np.array([[1, -2, 3], [7, 8, 9]], dtype)
    agree(
        model("Scaler", {"x": x}, [FLOAT], offset=[0.5, 1.0, -2.0][:count], scale=[2.0, 0.5, 3.0][:count]),
        {"x": x},
    )


@pytest.mark.parametrize("zeros", [0, 1])
@pytest.mark.parametrize(
    "x",
    [np.array([[1, 3], [2, 1]]), np.array([3.0, 1.0], np.float32), np.array([["c", "a"]], object)],
    ids=str,
)
def test_one_hot_encoder(zeros: int, x: Array) -> None:
    categories: dict[str, Any] = (
        {"cats_strings": ["a", "b", "c"]} if x.dtype == object else {"cats_int64s": [1, 2, 3]}
    )
    agree(model("OneHotEncoder", {"x": x}, [FLOAT], zeros=zeros, **categories), {"x": x})


def test_one_hot_encoder_of_the_unknown() -> None:
    x = np.array([[1, 9]])
    agree(model("OneHotEncoder", {"x": x}, [FLOAT], zeros=1, cats_int64s=[1, 2]), {"x": x})
    with pytest.raises(EngineError, match="index 2 is outside an axis of 2"):
        onnx_backend.run_model(model("OneHotEncoder", {"x": x}, [FLOAT], zeros=0, cats_int64s=[1, 2]), [x])


@pytest.mark.parametrize(
    ("x", "attributes"),
    [
        (
            np.array([[1, np.nan], [np.nan, 2]], np.float32),
            {"imputed_value_floats": [7.0, 8.0], "replaced_value_float": np.nan},
        ),
        (
            np.array([[1, 0], [-1, 2]], np.float32),
            {"imputed_value_floats": [7.0], "replaced_value_float": -1.0},
        ),
        (np.array([[1, 0], [0, 2]]), {"imputed_value_int64s": [7, 8], "replaced_value_int64": 0}),
    ],
    ids=["nan", "value", "integers"],
)  # fmt: skip
def test_imputer(x: Array, attributes: dict[str, Any]) -> None:
    agree(model("Imputer", {"x": x}, [helper.np_dtype_to_tensor_dtype(x.dtype)], **attributes), {"x": x})


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_feature_vectorizer(dtype: Any) -> None:
    a, b = np.array([[1, 2], [3, 4]], dtype), np.array([[5, 6, 7], [8, 9, 10]], dtype)
    agree(model("FeatureVectorizer", {"a": a, "b": b}, [FLOAT], inputdimensions=[2, 3]), {"a": a, "b": b})


# ---- Labels ----

TABLES: dict[str, tuple[list[Any], list[Any]]] = {
    "strings": (["a", "b", "c"], ["x", "y", "zz"]),
    "int64s": ([5, -1, 2**40], [1, 2, 3]),
    "floats": ([0.5, float("nan"), 0.0], [0.25, 4.0, -1.0]),
}
INPUTS = {
    "strings": np.array([["b", "q"], ["", "a"]], object),
    "int64s": np.array([[2**40, 7], [5, -1]]),
    "floats": np.array([[np.nan, 0.5], [-0.0, 3]], np.float32),
}
TYPES = {"strings": STRING, "int64s": INT64, "floats": FLOAT}
DEFAULTS: dict[str, dict[str, Any]] = {
    "strings": {"default_string": "?"}, "int64s": {"default_int64": 42}, "floats": {"default_float": 1.5}
}  # fmt: skip


@pytest.mark.parametrize("stated", [False, True], ids=["no default", "default"])
@pytest.mark.parametrize("values", TABLES)
@pytest.mark.parametrize("keys", TABLES)
def test_label_encoder(keys: str, values: str, stated: bool) -> None:
    x = INPUTS[keys]
    attributes: dict[str, Any] = {f"keys_{keys}": TABLES[keys][0], f"values_{values}": TABLES[values][1]}
    proto = model(
        "LabelEncoder", {"x": x}, [TYPES[values]], 4, **attributes, **(DEFAULTS[values] if stated else {})
    )
    if (keys, values) in (("int64s", "int64s"), ("floats", "floats"), ("strings", "strings")):
        (found,) = onnx_backend.run_model(proto, [x])  # ONNX Runtime has some of these only in later versions
        fallback = {"strings": "_Unused", "int64s": -1, "floats": -0.0}[values]
        fallback = next(iter(DEFAULTS[values].values())) if stated else fallback
        want = [
            _looked_up(item, *TABLES[keys], TABLES[values][1], fallback) for item in x.reshape(-1).tolist()
        ]
        assert found.reshape(-1).tolist() == want
    else:
        agree(proto, {"x": x})


def _looked_up(item: Any, keys: list[Any], _own: list[Any], values: list[Any], fallback: Any) -> Any:
    places = [i for i, key in enumerate(keys) if key == item or (key != key and item != item)]
    return values[places[-1]] if places else fallback


@pytest.mark.parametrize("key_type", [np.float64, np.int32, np.int16, np.int64, np.float32])
@pytest.mark.parametrize("value_type", [np.float64, np.int32, np.int16, np.int64, np.float32])
def test_label_encoder_of_tensors(key_type: Any, value_type: Any) -> None:
    keys, values = np.array([3, 1, 3, 7], key_type), np.array([10, 20, 30, 40], value_type)
    x = np.array([[1, 3, 7, 0]], key_type)
    proto = model(
        "LabelEncoder", {"x": x}, [helper.np_dtype_to_tensor_dtype(values.dtype)], 4, keys_tensor=keys,
        values_tensor=values, default_tensor=np.array([99], value_type),
    )  # fmt: skip
    (found,) = onnx_backend.run_model(proto, [x])
    assert found.dtype == value_type
    assert found.tolist() == [[20, 30, 40, 99]]  # of equal keys the last counts


def test_first_label_encoder_and_category_mapper() -> None:
    texts, numbers = np.array(["b", "x"], object), np.array([1, 5])
    for x, kind in ((texts, INT64), (numbers, STRING)):
        first = model("LabelEncoder", {"x": x}, [kind], 1, classes_strings=["a", "b"])
        agree(first, {"x": x})
        mapper = model("CategoryMapper", {"x": x}, [kind], 1, cats_strings=["a", "b"], cats_int64s=[4, 5])
        agree(mapper, {"x": x})


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        ({"keys_strings": ["a"], "values_int64s": [1, 2]}, "keys 1 and the number of values 2"),
        ({"keys_strings": ["a"]}, "values"),
        ({"values_int64s": [1]}, "keys"),
        ({"keys_int64s": [1], "values_int64s": [1]}, "are different"),
        (
            {"keys_strings": ["a"], "values_tensor": np.array([1]), "default_tensor": np.array([1, 2])},
            "singleton",
        ),
    ],
)
def test_a_broken_label_encoder_is_refused(attributes: dict[str, Any], says: str) -> None:
    x = np.array(["a"], object)
    with pytest.raises(ModelError, match=says):
        onnx_backend.run_model(model("LabelEncoder", {"x": x}, [INT64], 4, **attributes), [x])


def _engine_ensemble(rng: np.random.Generator, **changed: Any) -> api.GraphBuilder:
    """``newest`` in the engine's own form, which the converter writes."""
    builder = api.GraphBuilder("trees")
    builder.input("x", "F32", [2, 3])
    attributes: dict[str, Any] = {}
    for name, value in (newest(rng) | changed).items():
        if isinstance(value, int):
            attributes[name] = value
        elif value is not None:
            builder.weight(name, np.asarray(value))
            attributes[name] = f"@{name}"
    builder.node("TreeEnsemble", ["x"], ["y"], name="it", **attributes)
    builder.output("y")
    return builder


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"nodes_featureids": [0, 1]}, "different lengths"),
        ({"nodes_featureids": None}, "different lengths"),
        ({"nodes_splits": None}, "missing"),
        ({"leaf_targetids": [0, 1]}, "different lengths"),
        ({"leaf_targetids": None}, "missing"),
        ({"nodes_missing_value_tracks_true": [1]}, "nodes_missing_value_tracks_true"),
        ({"leaf_sizes": [1, 1, 1, 1]}, "leaf_sizes"),
        ({"leaf_sizes": [1, 1, 1, 1, 2]}, "leaf_sizes"),
        ({"leaf_sizes": [1, 1, -1, 3, 1]}, "leaf_sizes"),
        ({"leaf_sizes": [2**62, 1, 1, 1, 1]}, "leaf_sizes"),
        ({"n_targets": -5}, "n_targets"),
        ({"n_targets": 2**40}, "n_targets"),
        ({"nodes_featureids": [0, 1, 3, 0]}, "the input does not have"),
    ],
    ids=str,
)
def test_hostile_trees_are_refused_by_the_engine(changed: dict[str, Any], says: str) -> None:
    builder = _engine_ensemble(np.random.default_rng(0), **changed)
    with pytest.raises(ModelError, match=says) as caught:
        builder.finish().session().run({"x": np.zeros((2, 3), np.float32)})
    assert (caught.value.op, caught.value.node) == ("TreeEnsemble", "it")


def test_hostile_label_tables_are_refused_by_the_engine() -> None:
    """What the converter never writes."""
    for attrs, says in (
        ({}, "keys_strings"),
        ({"keys_strings": ["a"], "values_strings": []}, "1 keys for 0 values"),
    ):
        builder = api.GraphBuilder("labels")
        builder.input("x", "STRING", [1])
        builder.node("LabelEncoder", ["x"], ["y"], **attrs)  # type: ignore[arg-type]
        builder.output("y")
        with pytest.raises(ModelError, match=says):
            builder.finish().session().run({"x": np.array(["a"], object)})
