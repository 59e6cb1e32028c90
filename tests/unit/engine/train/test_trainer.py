"""Training beside the same steps in plain NumPy, and what is kept, refused and gone on with."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from walle_engine import api, train, wmodel
from walle_shared.errors import EngineError, ModelError

type Array = np.ndarray[Any, Any]

_CLASSES, _PIXELS, _HIDDEN = 10, 64, 16


def _write(
    path: Path, nodes: list[wmodel.Node], weights: Mapping[str, Array], image: tuple[int, ...]
) -> Path:
    dtype = wmodel.dtype_name(next(iter(weights.values())).dtype)
    graph = wmodel.Graph(
        "net",
        (wmodel.Value("image", dtype, ("batch", *image)),),
        (wmodel.Value("scores", dtype, ("batch", _CLASSES)),),
        tuple(nodes),
    )
    wmodel.write(path, graph, {name: wmodel.weight_from_array(array) for name, array in weights.items()})
    return path


def _mlp_weights(dtype: str = "f8") -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {
        "hidden.weight": (rng.standard_normal((_PIXELS, _HIDDEN)) * 0.2).astype(dtype),
        "hidden.bias": np.zeros(_HIDDEN, dtype),
        "scores.weight": (rng.standard_normal((_HIDDEN, _CLASSES)) * 0.2).astype(dtype),
        "scores.bias": np.zeros(_CLASSES, dtype),
    }


def _mlp(path: Path, dtype: str = "f8") -> Path:
    nodes = [
        wmodel.Node("Gemm", "hidden", ("image", "hidden.weight", "hidden.bias"), ("h",)),
        wmodel.Node("Relu", "bend", ("h",), ("r",)),
        wmodel.Node("Gemm", "scores", ("r", "scores.weight", "scores.bias"), ("scores",)),
    ]
    return _write(path / "mlp.wmodel", nodes, _mlp_weights(dtype), (_PIXELS,))


def _cnn(path: Path) -> Path:
    rng = np.random.default_rng(1)
    weights = {
        "conv1.weight": (rng.standard_normal((8, 1, 3, 3)) * 0.3).astype("f4"),
        "bn1.weight": np.ones(8, "f4"),
        "bn1.bias": np.zeros(8, "f4"),
        "bn1.mean": np.zeros(8, "f4"),
        "bn1.var": np.ones(8, "f4"),
        "conv2.weight": (rng.standard_normal((16, 8, 3, 3)) * 0.1).astype("f4"),
        "conv2.bias": np.zeros(16, "f4"),
        "fc.weight": (rng.standard_normal((_CLASSES, 256)) * 0.05).astype("f4"),
        "fc.bias": np.zeros(_CLASSES, "f4"),
    }
    same = {"pads": [1, 1, 1, 1]}
    nodes = [
        wmodel.Node("Conv", "conv1", ("image", "conv1.weight"), ("a",), same),
        wmodel.Node(
            "BatchNormalization",
            "bn1",
            ("a", *(f"bn1.{n}" for n in ("weight", "bias", "mean", "var"))),
            ("b",),
        ),
        wmodel.Node("Relu", "relu1", ("b",), ("c",)),
        wmodel.Node("MaxPool", "pool", ("c",), ("d",), {"kernel_shape": [2, 2], "strides": [2, 2]}),
        wmodel.Node("Conv", "conv2", ("d", "conv2.weight", "conv2.bias"), ("e",), same),
        wmodel.Node("Relu", "relu2", ("e",), ("f",)),
        wmodel.Node("Flatten", "flat", ("f",), ("h",)),
        wmodel.Node("Gemm", "fc", ("h", "fc.weight", "fc.bias"), ("scores",), {"transB": 1}),
    ]
    return _write(path / "cnn.wmodel", nodes, weights, (1, 8, 8))


def _digits(dtype: str = "f8") -> tuple[Array, Array]:
    digits = load_digits()
    return (digits.data / 16).astype(dtype), digits.target.astype(np.int64)


# ---- The same in NumPy ----


def _gradients(p: dict[str, Array], x: Array, t: Array) -> tuple[float, dict[str, Array]]:
    h = x @ p["hidden.weight"] + p["hidden.bias"]
    r = np.maximum(h, 0)
    s = r @ p["scores.weight"] + p["scores.bias"]
    e = np.exp(s - s.max(1, keepdims=True))
    share = e / e.sum(1, keepdims=True)
    rows = np.arange(len(t))
    loss = float(-np.log(share[rows, t]).mean())
    share[rows, t] -= 1
    ds = share / len(t)
    dh = (ds @ p["scores.weight"].T) * (h > 0)
    return loss, {
        "hidden.weight": x.T @ dh,
        "hidden.bias": dh.sum(0),
        "scores.weight": r.T @ ds,
        "scores.bias": ds.sum(0),
    }


class _Sgd:
    def __init__(self, rate: float, momentum: float, decay: float, nesterov: bool) -> None:
        self.rate, self.momentum, self.decay, self.nesterov = rate, momentum, decay, nesterov
        self.velocity: dict[str, Array] = {}

    def move(self, name: str, x: Array, g: Array, factor: float, step: int) -> Array:
        del step
        g = g + self.decay * x
        v = self.velocity[name] = self.momentum * self.velocity.get(name, np.zeros_like(g)) + g
        return x - self.rate * factor * (g + self.momentum * v if self.nesterov else v)


class _Adam:
    def __init__(self, rate: float, decay: float, decoupled: bool) -> None:
        self.rate, self.decay, self.decoupled = rate, decay, decoupled
        self.kept: dict[str, tuple[Array, Array]] = {}

    def move(self, name: str, x: Array, g: Array, factor: float, step: int) -> Array:
        rate = self.rate * factor
        if self.decoupled:
            x = x * (1 - rate * self.decay)
        else:
            g = g + self.decay * x
        m, v = self.kept.get(name, (np.zeros_like(g), np.zeros_like(g)))
        m, v = self.kept[name] = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        return x - rate * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)


@pytest.mark.parametrize(
    ("optimizer", "plain", "settings"),
    [
        (train.SGD(0.1), _Sgd(0.1, 0, 0, False), {}),
        (train.SGD(0.05, 0.9, 1e-2), _Sgd(0.05, 0.9, 1e-2, False), {"schedule": train.step_decay(5, 0.5)}),
        (train.SGD(0.05, 0.9, nesterov=True), _Sgd(0.05, 0.9, 0, True), {"clip_norm": 0.3}),
        (train.Adam(1e-2, weight_decay=1e-2), _Adam(1e-2, 1e-2, False), {"schedule": train.warm_up(5)}),
        (train.AdamW(1e-2), _Adam(1e-2, 0.01, True), {"schedule": train.cosine(15, 0.1), "clip_value": 0.01}),
    ],
    ids=["sgd", "sgd-momentum-decay", "nesterov-clipped", "adam", "adamw"],
)
def test_steps_are_those_of_numpy(
    tmp_path: Path, optimizer: Any, plain: Any, settings: dict[str, Any]
) -> None:
    images, labels = _digits()
    trainer = train.Trainer(_mlp(tmp_path), train.CrossEntropy(), optimizer, **settings)
    p = _mlp_weights()
    assert set(trainer.trained) == set(p)
    for step in range(20):
        x, t = images[step * 32 : step * 32 + 32], labels[step * 32 : step * 32 + 32]
        want, gradients = _gradients(p, x, t)
        if limit := settings.get("clip_value"):
            gradients = {name: g.clip(-limit, limit) for name, g in gradients.items()}
        length = math.sqrt(sum(float((g * g).sum()) for g in gradients.values()))
        shorter = min(1.0, settings.get("clip_norm", math.inf) / (length + 1e-6))
        factor = settings.get("schedule", lambda _: 1.0)(step)
        p = {name: plain.move(name, x, gradients[name] * shorter, factor, step + 1) for name, x in p.items()}
        assert trainer.step({"image": x, "target": t}) == pytest.approx(want, rel=1e-10)
    for name, value in trainer.parameters.items():
        np.testing.assert_allclose(np.asarray(value), p[name], rtol=1e-8, atol=1e-12)


@pytest.mark.slow
def test_a_convolutional_network_learns_to_read_digits(tmp_path: Path) -> None:
    images, labels = _digits("f4")
    images = images.reshape(-1, 1, 8, 8)
    trainer = train.Trainer(_cnn(tmp_path), train.CrossEntropy(), train.Adam(5e-3), threads=2)
    rng = np.random.default_rng(0)
    for _ in range(6):
        order = rng.permutation(1500)
        for start in range(0, 1500, 50):
            chosen = order[start : start + 50]
            trainer.step({"image": images[chosen], "target": labels[chosen]})
    saved = tmp_path / "read.wmodel"
    trainer.save(saved)
    for model in (trainer.model(), api.load(saved)):
        scores = np.asarray(model.session().run({"image": images[1500:]})["scores"])
        assert (scores.argmax(1) == labels[1500:]).mean() > 0.9
    # Running statistics were kept, and are a model's weights like any other.
    assert np.abs(wmodel.read(saved).array("bn1.mean")).max() > 0.01


def test_products_of_bfloat16_learn_as_those_of_float32_do(tmp_path: Path) -> None:
    images, labels = _digits("f4")
    images = images.reshape(-1, 1, 8, 8)
    right, last = {}, {}
    for precision in ("high", "medium"):
        trainer = train.Trainer(_cnn(tmp_path), train.CrossEntropy(), train.Adam(5e-3), precision=precision)
        losses = []
        for start in range(0, 4500, 50):
            chosen = np.arange(start, start + 50) % 1500
            losses.append(trainer.step({"image": images[chosen], "target": labels[chosen]}))
        scores = np.asarray(trainer.model().session().run({"image": images[1500:]})["scores"])
        right[precision] = float((scores.argmax(1) == labels[1500:]).mean())
        last[precision] = float(np.mean(losses[-10:]))
    assert right["medium"] > right["high"] - 0.03
    assert last["medium"] < 1.2 * last["high"] + 0.02


def test_parameters_stay_float32_where_products_are_of_bfloat16(tmp_path: Path) -> None:
    # Steps of a thousandth of what bfloat16 tells apart: were parameters rounded to it, they would stay.
    images, labels = _digits("f4")
    batch = {"image": images[:50], "target": labels[:50]}
    moved = {}
    for precision in ("high", "medium"):
        trainer = train.Trainer(
            _mlp(tmp_path, "f4"), train.CrossEntropy(), train.SGD(1e-5), precision=precision
        )
        before = {name: np.array(value) for name, value in trainer.parameters.items()}
        for _ in range(20):
            trainer.step(batch)
        moved[precision] = {n: np.array(v) - before[n] for n, v in trainer.parameters.items()}
    for name, right in moved["high"].items():
        assert np.linalg.norm(moved["medium"][name] - right) < 0.1 * np.linalg.norm(right), name


def test_a_saved_training_goes_on_where_it_was(tmp_path: Path) -> None:
    images, labels = _digits("f4")
    batches = [{"image": images[i : i + 20], "target": labels[i : i + 20]} for i in range(0, 160, 20)]
    source, saved = _mlp(tmp_path, "f4"), tmp_path / "half.wmodel"
    settings: dict[str, Any] = {"schedule": train.cosine(8)}
    whole = train.Trainer(source, train.CrossEntropy(), train.Adam(1e-2), **settings)
    half = train.Trainer(source, train.CrossEntropy(), train.Adam(1e-2), **settings)
    losses = [whole.step(batch) for batch in batches]
    for batch in batches[:4]:
        half.step(batch)
    half.save(saved)
    rest = train.Trainer(saved, train.CrossEntropy(), train.Adam(1e-2), **settings)
    assert rest.count == 4
    assert [rest.step(batch) for batch in batches[4:]] == losses[4:]
    for name, value in whole.parameters.items():
        np.testing.assert_array_equal(np.asarray(rest.parameters[name]), np.asarray(value))


def test_only_what_is_chosen_changes(tmp_path: Path) -> None:
    images, labels = _digits()
    trainer = train.Trainer(_mlp(tmp_path), train.CrossEntropy(), train.SGD(0.5), trainable=["scores.*"])
    assert trainer.trained == ("scores.weight", "scores.bias")
    trainer.step({"image": images[:32], "target": labels[:32]})
    path = tmp_path / "after.wmodel"
    trainer.save(path)
    after, before = wmodel.read(path), _mlp_weights()
    np.testing.assert_array_equal(after.array("hidden.weight"), before["hidden.weight"])
    assert not np.array_equal(after.array("scores.weight"), before["scores.weight"])


@pytest.mark.parametrize(
    ("loss", "formula"),
    [
        (train.MeanSquaredError(), lambda s, t: ((s - t) ** 2).mean()),
        (train.BinaryCrossEntropy(), lambda s, t: (np.logaddexp(0, s) - t * s).mean()),
    ],
)
def test_losses_are_their_formulas(tmp_path: Path, loss: Any, formula: Any) -> None:
    images, _ = _digits()
    target = np.random.default_rng(0).uniform(0, 1, (12, _CLASSES))
    trainer = train.Trainer(_mlp(tmp_path), loss, train.SGD(0.1))
    scores = np.asarray(trainer.model().session().run({"image": images[:12]})["scores"])
    first = trainer.step({"image": images[:12], "target": target})
    assert first == pytest.approx(float(formula(scores, target)), rel=1e-12)
    assert trainer.step({"image": images[:12], "target": target}) < first


def test_what_cannot_be_trained_is_refused_by_name(tmp_path: Path) -> None:
    source = _mlp(tmp_path)
    loss, optimizer = train.CrossEntropy(), train.SGD(0.1)
    with pytest.raises(ModelError, match=r"no weight fits 'fc\.\*'"):
        train.Trainer(source, loss, optimizer, trainable=["fc.*"])
    with pytest.raises(ModelError, match="no output 'logits'"):
        train.Trainer(source, train.CrossEntropy(output="logits"), optimizer)
    with pytest.raises(ModelError, match="has a value 'r' already"):
        train.Trainer(source, train.CrossEntropy(target="r"), optimizer)
    with pytest.raises(ModelError, match="rate is -1"):
        train.SGD(-1)
    with pytest.raises(ModelError, match="clip_norm is 0"):
        train.Trainer(source, loss, optimizer, clip_norm=0)
    with pytest.raises(EngineError, match="'target' is missing"):
        train.Trainer(source, loss, optimizer).step({"image": np.zeros((2, _PIXELS))})


def test_an_operator_without_a_gradient_is_named(tmp_path: Path) -> None:
    weights = {"w": np.ones((2, 3, 3))}
    nodes = [
        wmodel.Node("Add", "shift", ("image", "w"), ("moved",)),
        wmodel.Node("Det", "volume", ("moved",), ("scores",)),
    ]
    graph = wmodel.Graph(
        "det",
        (wmodel.Value("image", "F64", (2, 3, 3)),),
        (wmodel.Value("scores", "F64", (2,)),),
        tuple(nodes),
    )
    path = tmp_path / "det.wmodel"
    wmodel.write(path, graph, {name: wmodel.weight_from_array(array) for name, array in weights.items()})
    trainer = train.Trainer(path, train.MeanSquaredError(), train.SGD(0.1))
    with pytest.raises(ModelError, match="Det 'volume': it has no gradient") as caught:
        trainer.step({"image": np.ones((2, 3, 3)), "target": np.ones(2)})
    assert (caught.value.op, caught.value.node) == ("Det", "volume")


def test_the_graph_in_the_guide_runs() -> None:
    page = (Path(__file__).parents[4] / "docs/guide/train-a-model.md").read_text()
    example = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[-1]
    exec(compile(example, "train-a-model.md", "exec"), {})


def test_a_step_is_the_same_however_its_program_is_chosen(tmp_path: Path) -> None:
    images, labels = _digits("f4")
    batch = {"image": images[:20].reshape(-1, 1, 8, 8), "target": labels[:20]}
    losses = [
        [trainer.step(batch) for _ in range(3)]
        for search in ("model", "measure", "reference")
        for trainer in [train.Trainer(_cnn(tmp_path), train.CrossEntropy(), train.SGD(0.1), search=search)]
    ]
    for other in losses[1:]:
        assert other == pytest.approx(losses[0], rel=1e-5)


# ---- Dropout ----

_WIDE = 40_000


def _dropping(path: Path, *, ratio: float = 0.25, nodes: int = 1) -> Path:
    """The scores are what a weight of ones becomes behind layers that drop."""
    chain = [wmodel.Node("Mul", "ones", ("image", "w"), ("v0",))] + [
        wmodel.Node("Dropout", f"drop{i}", (f"v{i}", "ratio"), (f"v{i + 1}",)) for i in range(nodes)
    ]
    graph = wmodel.Graph(
        "dropping",
        (wmodel.Value("image", "F64", (_WIDE,)),),
        (wmodel.Value(f"v{nodes}", "F64", (_WIDE,)),),
        tuple(chain),
    )
    weights = {"w": np.ones(_WIDE), "ratio": np.array(ratio)}
    file = path / "dropping.wmodel"
    wmodel.write(file, graph, {name: wmodel.weight_from_array(value) for name, value in weights.items()})
    return file


def _masks(trainer: train.Trainer, steps: int) -> list[Array]:
    """What is kept in each step, by the weight's gradient: 2 s^2 / n where kept, of the mean of squares."""
    masks = []
    for _ in range(steps):
        before = np.array(trainer.parameters["w"])
        trainer.step({"image": np.ones(_WIDE), "target": np.zeros(_WIDE)})
        masks.append((before - np.array(trainer.parameters["w"])) * _WIDE / (2e-6 * before))
    return masks


def _dropping_trainer(file: Path, **settings: Any) -> train.Trainer:
    return train.Trainer(file, train.MeanSquaredError(), train.SGD(1e-6), trainable=["w"], **settings)


def test_dropout_drops_its_share_and_others_each_step(tmp_path: Path) -> None:
    first, second = (mask for mask in _masks(_dropping_trainer(_dropping(tmp_path)), 2))
    for mask in (first, second):
        kept = mask > 0.5
        np.testing.assert_allclose(mask[kept], 1 / 0.75**2, rtol=1e-3)  # scaled on the way there and back
        np.testing.assert_array_equal(mask[~kept], 0)
        assert kept.mean() == pytest.approx(0.75, abs=5 * math.sqrt(0.75 * 0.25 / _WIDE))
    both = ((first > 0.5) & (second > 0.5)).mean()
    assert both == pytest.approx(0.75**2, abs=5 * math.sqrt(0.5 / _WIDE))  # independent


def test_layers_drop_apart(tmp_path: Path) -> None:
    (mask,) = _masks(_dropping_trainer(_dropping(tmp_path, ratio=0.5, nodes=2)), 1)
    assert (mask > 0.5).mean() == pytest.approx(0.25, abs=5 * math.sqrt(0.25 / _WIDE))


def test_a_seed_repeats_what_is_dropped_and_a_resumed_training_goes_on(tmp_path: Path) -> None:
    file = _dropping(tmp_path)
    trainer = _dropping_trainer(file, seed=5)
    want = _masks(trainer, 1)
    trainer.save(tmp_path / "kept.wmodel")
    want += _masks(trainer, 1)
    again = _masks(_dropping_trainer(file, seed=5), 1)
    again += _masks(_dropping_trainer(tmp_path / "kept.wmodel", seed=5), 1)
    np.testing.assert_array_equal(np.array(want) > 0.5, np.array(again) > 0.5)
    (other,) = _masks(_dropping_trainer(file, seed=6), 1)
    assert ((other > 0.5) != (want[0] > 0.5)).mean() > 0.3


def test_nothing_is_dropped_where_that_is_not_wanted_or_the_model_only_runs(tmp_path: Path) -> None:
    file = _dropping(tmp_path)
    trainer = _dropping_trainer(file, dropout=False)
    (mask,) = _masks(trainer, 1)
    np.testing.assert_allclose(mask, 1, rtol=1e-3)
    scores = trainer.model().session().run({"image": np.ones(_WIDE)})["v1"]
    np.testing.assert_array_equal(np.asarray(scores), np.array(trainer.parameters["w"]))
