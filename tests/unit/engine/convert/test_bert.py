"""A BERT encoder from its configuration and weights: the same numbers as float64, and clear refusals."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from walle_engine import wmodel
from walle_engine.convert import convert
from walle_engine.convert.bert import read_bert
from walle_engine.convert.check import run_engine
from walle_shared.errors import ModelError, StorageError, UnsupportedError, WalleError

type Array = np.ndarray[Any, Any]
type Weights = dict[str, Array]

CONFIG: dict[str, Any] = {
    "model_type": "bert",
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 12,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}


def weights_of(config: dict[str, Any]) -> Weights:
    """Random weights with the names of ``BertModel``."""
    rng = np.random.default_rng(4)
    hidden, wide = config["hidden_size"], config["intermediate_size"]
    weights: Weights = {}

    def dense(name: str, outs: int, ins: int) -> None:
        weights[f"{name}.weight"] = rng.normal(0, 0.3, (outs, ins)).astype(np.float32)
        weights[f"{name}.bias"] = rng.normal(0, 0.3, outs).astype(np.float32)

    def norm(name: str) -> None:
        weights[f"{name}.LayerNorm.weight"] = rng.uniform(0.5, 1.5, hidden).astype(np.float32)
        weights[f"{name}.LayerNorm.bias"] = rng.normal(0, 0.3, hidden).astype(np.float32)

    for part, rows in (
        ("word", "vocab_size"),
        ("position", "max_position_embeddings"),
        ("token_type", "type_vocab_size"),
    ):
        table = rng.normal(0, 1, (config[rows], hidden)).astype(np.float32)
        weights[f"embeddings.{part}_embeddings.weight"] = table
    norm("embeddings")
    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        for part in ("query", "key", "value"):
            dense(f"{layer}.attention.self.{part}", hidden, hidden)
        dense(f"{layer}.attention.output.dense", hidden, hidden)
        norm(f"{layer}.attention.output")
        dense(f"{layer}.intermediate.dense", wide, hidden)
        dense(f"{layer}.output.dense", hidden, wide)
        norm(f"{layer}.output")
    dense("pooler.dense", hidden, hidden)
    return weights


ACTIVATE: dict[str, Callable[[Array], Array]] = {
    "gelu": lambda x: x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
    "gelu_new": lambda x: x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
}


def forward(config: dict[str, Any], weights: Weights, inputs: dict[str, Array]) -> tuple[Array, Array]:
    """The encoder in float64, written from the paper: last hidden states and the pooled first one."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}
    heads = config["num_attention_heads"]

    def dense(name: str, x: Array) -> Array:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name: str, x: Array) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(-1, keepdims=True) + config["layer_norm_eps"])
        return centred / spread * w[f"{name}.LayerNorm.weight"] + w[f"{name}.LayerNorm.bias"]

    def attend(name: str, x: Array) -> Array:
        q, k, v = (
            np.stack(np.split(dense(f"{name}.{part}", x), heads, -1), 1) for part in ("query", "key", "value")
        )
        scores = np.einsum("bhqd,bhkd->bhqk", q, k) / math.sqrt(q.shape[-1])
        scores = np.where(inputs["attention_mask"][:, None, None, :] > 0, scores, -1e30)
        powers = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = np.einsum("bhqk,bhkd->bhqd", powers / powers.sum(-1, keepdims=True), v)
        return np.concatenate(list(mixed.transpose(1, 0, 2, 3)), -1)

    ids = inputs["input_ids"]
    x = w["embeddings.word_embeddings.weight"][ids]
    x = x + w["embeddings.position_embeddings.weight"][: ids.shape[1]]
    x = norm("embeddings", x + w["embeddings.token_type_embeddings.weight"][inputs["token_type_ids"]])
    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        mixed = dense(f"{layer}.attention.output.dense", attend(f"{layer}.attention.self", x))
        x = norm(f"{layer}.attention.output", x + mixed)
        wide = ACTIVATE[config["hidden_act"]](dense(f"{layer}.intermediate.dense", x))
        x = norm(f"{layer}.output", x + dense(f"{layer}.output.dense", wide))
    return x, np.tanh(dense("pooler.dense", x[:, 0]))


def save(folder: Path, config: Any, weights: Weights) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def sample(batch: int, length: int) -> dict[str, Array]:
    rng = np.random.default_rng(9)
    mask = np.ones((batch, length), np.int64)
    mask[-1, length // 2 :] = 0
    return {
        "input_ids": rng.integers(0, 30, (batch, length)),
        "attention_mask": mask,
        "token_type_ids": rng.integers(0, 2, (batch, length)),
    }


@pytest.mark.parametrize("activation", ACTIVATE)
@pytest.mark.parametrize("prefix", ["", "bert."])
def test_same_as_float64(tmp_path: Path, activation: str, prefix: str) -> None:
    config, weights = {**CONFIG, "hidden_act": activation}, weights_of(CONFIG)
    head = {"cls.predictions.bias": np.zeros(30, np.float32)} if prefix else {}  # not of the encoder
    stored = {prefix + name: array for name, array in weights.items()} | head
    target = tmp_path / "m.wmodel"
    report = convert(save(tmp_path / "bert", config, stored), target)  # and the same as ONNX Runtime
    assert report.check is not None
    assert report.check.samples == 2
    ops = [node.op for node in wmodel.read(target).graph.nodes]
    assert ops.count("Attention") == 2
    assert "Softmax" not in ops
    assert "Transpose" not in ops
    inputs = sample(3, 10)
    hidden, pooled = forward(config, weights, inputs)
    outputs = run_engine(target, inputs)
    np.testing.assert_allclose(outputs["last_hidden_state"], hidden, atol=2e-5)
    np.testing.assert_allclose(outputs["pooler_output"], pooled, atol=2e-5)


def test_as_it_is(tmp_path: Path) -> None:
    weights, target, inputs = weights_of(CONFIG), tmp_path / "m.wmodel", sample(2, 7)
    convert(save(tmp_path / "bert", CONFIG, weights), target, optimise=False)
    assert [node.op for node in wmodel.read(target).graph.nodes].count("Softmax") == 2
    hidden, _pooled = forward(CONFIG, weights, inputs)
    np.testing.assert_allclose(run_engine(target, inputs)["last_hidden_state"], hidden, atol=2e-5)


def test_without_a_pooler(tmp_path: Path) -> None:
    weights = {name: array for name, array in weights_of(CONFIG).items() if not name.startswith("pooler")}
    target = tmp_path / "m.wmodel"
    convert(save(tmp_path / "bert", CONFIG, weights), target)
    assert [value.name for value in wmodel.read(target).graph.outputs] == ["last_hidden_state"]


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_weights_of_other_types_become_float32(tmp_path: Path, dtype: Any) -> None:
    weights = {name: array.astype(dtype) for name, array in weights_of(CONFIG).items()}
    target, inputs = tmp_path / "m.wmodel", sample(2, 5)
    convert(save_raw(tmp_path / "bert", CONFIG, weights), target)
    hidden, _pooled = forward(CONFIG, weights, inputs)
    np.testing.assert_allclose(run_engine(target, inputs)["last_hidden_state"], hidden, atol=2e-5)


def save_raw(folder: Path, config: Any, weights: Weights) -> Path:
    """As ``save``, for types that the reference writer does not know."""
    header, data = {}, b""
    for name, array in weights.items():
        end = len(data) + array.nbytes
        header[name] = {
            "dtype": wmodel.dtype_name(array.dtype),
            "shape": array.shape,
            "data_offsets": [len(data), end],
        }
        data += array.tobytes()
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    return folder


def test_old_names_of_the_norms(tmp_path: Path) -> None:
    renamed = {
        name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): array
        for name, array in weights_of(CONFIG).items()
    }
    convert(save(tmp_path / "bert", CONFIG, renamed), tmp_path / "m.wmodel")


def test_every_weight_that_does_not_fit_is_named(tmp_path: Path) -> None:
    weights = weights_of(CONFIG)
    del weights["encoder.layer.1.output.dense.bias"]
    del weights["embeddings.LayerNorm.weight"]
    weights["encoder.layer.0.attention.self.key.weight"] = np.zeros((16, 8), np.float32)
    weights["encoder.layer.0.output.dense.bias"] = np.zeros(16, np.int64)
    with pytest.raises(ModelError) as caught:
        read_bert(save(tmp_path / "bert", CONFIG, weights))
    first, *lines = str(caught.value).split("\n  - ")
    assert "save_pretrained()" in first
    assert lines == [
        "embeddings.LayerNorm.weight is missing; it should be [16]",
        "encoder.layer.0.attention.self.key.weight is [16, 8] where config.json wants [16, 16]",
        "encoder.layer.0.output.dense.bias is of type I64 where one of F64, F32, F16, BF16 can be read",
        "encoder.layer.1.output.dense.bias is missing; it should be [16]",
    ]


def test_a_long_list_is_cut(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"and \d+ more$"):
        read_bert(save(tmp_path / "bert", {**CONFIG, "num_hidden_layers": 1000}, weights_of(CONFIG)))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model_type": "roberta"}, UnsupportedError, "model_type is 'roberta', and only 'bert'"),
        ({"position_embedding_type": "relative_key"}, UnsupportedError, "only 'absolute'"),
        ({"is_decoder": True}, UnsupportedError, "is_decoder is True"),
        ({"hidden_act": "swish9"}, UnsupportedError, "hidden_act is 'swish9'"),
        ({"hidden_act": ["gelu"]}, UnsupportedError, "hidden_act"),
        ({"hidden_size": None}, ModelError, "hidden_size must be a whole number"),
        ({"hidden_size": -16}, ModelError, "hidden_size must be a whole number"),
        ({"hidden_size": 1e3}, ModelError, "hidden_size must be a whole number"),
        ({"vocab_size": True}, ModelError, "vocab_size must be a whole number"),
        ({"num_hidden_layers": 10**9}, ModelError, "num_hidden_layers must be a whole number from 1 to 1024"),
        ({"num_attention_heads": 5}, ModelError, "does not divide"),
        ({"layer_norm_eps": "small"}, ModelError, "layer_norm_eps"),
        ({"layer_norm_eps": math.nan}, ModelError, "layer_norm_eps"),
        ({"vocab_size": 10**9}, ModelError, "word_embeddings.weight is"),
    ],
)
def test_configurations_that_do_not_do(
    tmp_path: Path, change: dict[str, Any], error: type[WalleError], message: str
) -> None:
    folder = save(tmp_path / "bert", {**CONFIG, **change}, weights_of(CONFIG))
    with pytest.raises(error, match=message):
        read_bert(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 9999, '"bert"', "\udcff"])
def test_configurations_that_are_none(tmp_path: Path, text: str) -> None:
    folder = save(tmp_path / "bert", CONFIG, weights_of(CONFIG))
    (folder / "config.json").write_text(text, errors="surrogateescape")
    with pytest.raises(ModelError, match=r"config\.json"):
        read_bert(folder)


def test_files_that_are_missing(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"has no config\.json: name an ONNX file, or a folder"):
        convert(tmp_path, tmp_path / "m.wmodel")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(StorageError, match=r"has no model\.safetensors: save the model with save_pretrained"):
        read_bert(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(StorageError, match="in several files"):
        read_bert(tmp_path)


def test_weights_that_are_cut_off(tmp_path: Path) -> None:
    folder = save(tmp_path / "bert", CONFIG, weights_of(CONFIG))
    whole = (folder / "model.safetensors").read_bytes()
    for length in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        (folder / "model.safetensors").write_bytes(whole[:length])
        with pytest.raises(ModelError, match=r"truncated|ends before|malformed"):
            read_bert(folder)
