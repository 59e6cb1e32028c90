"""A folder with ``config.json`` and ``model.safetensors`` of a plain BERT encoder, as an ONNX model.

The graph is that of Devlin et al., *BERT*, in the form Hugging Face gives it: the sum of three embeddings,
layers of attention and a feed-forward net with a norm behind each, a pooler if the file has one. What comes
of it goes the way of every other ONNX model: it is checked against ONNX Runtime, and its activations and
attention become operators of the engine.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from walle_engine import wmodel
from walle_engine.convert.draft import Array
from walle_shared.errors import ModelError, StorageError, UnsupportedError

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
CONFIG_MAX_BYTES = 1 << 20
MAX_LAYERS = 1024  # the largest encoders have some tens
PROBLEMS_SHOWN = 20
OPSET = 20  # the first with Gelu
MODEL_MAX_BYTES = onnx.checker.MAXIMUM_PROTOBUF

#: Names of activations to the operator and its attributes.
ACTIVATIONS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "gelu": ("Gelu", {}),
    "gelu_new": ("Gelu", {"approximate": "tanh"}),
    "gelu_pytorch_tanh": ("Gelu", {"approximate": "tanh"}),
    "relu": ("Relu", {}),
    "tanh": ("Tanh", {}),
}
# As training scripts before 2019 named them.
_OLD_NAMES = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
_FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class BertConfig:
    """The entries of ``config.json`` that say what the graph is; names are those of the file."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int
    hidden_act: str
    layer_norm_eps: float

    @property
    def head_size(self) -> int:
        """Width of one head."""
        return self.hidden_size // self.num_attention_heads


def read_bert(folder: Path) -> onnx.ModelProto:
    """Build the ONNX model of a folder.

    Raises:
        StorageError: if one of the two files cannot be read.
        ModelError: if one is malformed; weights that are missing or of another shape are all listed.
        UnsupportedError: if the configuration is of another kind of model.
    """
    config = read_config(folder / CONFIG_FILE)
    return _Encoder(config, _Weights(folder / WEIGHTS_FILE, config)).model()


# ---- The configuration


def read_config(path: Path) -> BertConfig:
    """Read and check a configuration."""
    try:
        with path.open("rb") as file:
            text = file.read(CONFIG_MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise StorageError(
            f"{path.parent} has no {path.name}: name an ONNX file, or a folder with {CONFIG_FILE} and "
            f"{WEIGHTS_FILE} of a BERT encoder"
        ) from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        document = json.loads(text) if len(text) <= CONFIG_MAX_BYTES else None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON ({error}): download it again") from error
    if not isinstance(document, dict):
        raise ModelError(f"{path} is not the configuration of a model: download it again")
    _require_plain(path, document)
    config = BertConfig(
        **{name: _whole(path, document, name) for name, kind in _fields() if kind == "int"},
        hidden_act=document.get("hidden_act", "gelu"),
        layer_norm_eps=_epsilon(path, document),
    )
    if config.hidden_size % config.num_attention_heads:
        raise ModelError(
            f"{path}: hidden_size {config.hidden_size} does not divide into num_attention_heads "
            f"{config.num_attention_heads}: correct one of them"
        )
    return config


def _fields() -> Iterator[tuple[str, str]]:
    return ((name, str(kind)) for name, kind in BertConfig.__annotations__.items())


def _require_plain(path: Path, document: Mapping[str, Any]) -> None:
    """Refuse what is no plain encoder."""
    wanted = (
        ("model_type", ("bert",), "convert it by way of ONNX (see the guide on converting models)"),
        ("position_embedding_type", ("absolute",), "export it to ONNX"),
        ("is_decoder", (False,), "export it to ONNX"),
        ("add_cross_attention", (False,), "export it to ONNX"),
        ("hidden_act", tuple(ACTIVATIONS), "export it to ONNX"),
    )
    for name, known, cure in wanted:
        found = document.get(name, known[0])
        if not any(found is one or (isinstance(found, str) and found == one) for one in known):
            choices = " or ".join(map(repr, known))
            raise UnsupportedError(
                f"{path}: {name} is {found!r}, and only {choices} can be converted directly: {cure}"
            )


def _whole(path: Path, document: Mapping[str, Any], name: str) -> int:
    value = document.get(name)
    largest = MAX_LAYERS if name == "num_hidden_layers" else (1 << 31) - 1
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= largest:
        raise ModelError(
            f"{path}: {name} must be a whole number from 1 to {largest}, not {value!r}: download it again"
        )
    return value


def _epsilon(path: Path, document: Mapping[str, Any]) -> float:
    value = document.get("layer_norm_eps", 1e-12)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < 1:
        raise ModelError(f"{path}: layer_norm_eps must be a number from 0 to 1, not {value!r}")
    return float(value)


# ---- The weights


class _Weights:
    """What a weights file holds, checked against the configuration before anything is read."""

    def __init__(self, path: Path, config: BertConfig) -> None:
        self._path = path
        self._infos = _table(path)
        self._prefix = "bert." if any(name.startswith("bert.") for name in self._infos) else ""
        wanted = dict(_wanted(config))
        self.has_pooler = self._found("pooler.dense.weight") is not None
        if not self.has_pooler:
            wanted = {name: shape for name, shape in wanted.items() if not name.startswith("pooler.")}
        self._require(wanted)

    def _found(self, name: str) -> str | None:
        """The name a weight has in the file; None where it is not there."""
        old = next((name.replace(new, old) for new, old in _OLD_NAMES.items() if name.endswith(new)), name)
        choices = (self._prefix + name, self._prefix + old)
        return next((choice for choice in choices if choice in self._infos), None)

    def _require(self, wanted: Mapping[str, Sequence[int]]) -> None:
        problems: list[str] = []
        for name, shape in wanted.items():
            found = self._found(name)
            if found is None:
                problems.append(f"{self._prefix}{name} is missing; it should be {list(shape)}")
                continue
            info = self._infos[found]
            if info.shape != tuple(shape):
                problems.append(f"{found} is {list(info.shape)} where {CONFIG_FILE} wants {list(shape)}")
            elif info.dtype not in _FLOATS:
                problems.append(
                    f"{found} is of type {info.dtype} where one of {', '.join(_FLOATS)} can be read"
                )
        if problems:
            shown = problems[:PROBLEMS_SHOWN]
            more = [f"and {len(problems) - len(shown)} more"] if len(shown) < len(problems) else []
            first = (
                f"{self._path} does not fit its {CONFIG_FILE}; take both from one and the same "
                "save_pretrained() of a BERT model:"
            )
            raise ModelError("\n  - ".join((first, *shown, *more)))
        size = sum(4 * math.prod(shape) for shape in wanted.values())
        if size > MODEL_MAX_BYTES:
            raise UnsupportedError(
                f"{self._path} holds {size} bytes of weights; at most {MODEL_MAX_BYTES} fit ONNX"
            )

    def __getitem__(self, name: str) -> Array:
        """Read one weight, in F32."""
        found = self._found(name)
        assert found is not None
        info = self._infos[found]
        try:
            with self._path.open("rb") as file:
                file.seek(info.offset)
                data = file.read(info.size_bytes)
        except OSError as error:
            raise StorageError(f"cannot read {self._path}: {error.strerror or error}") from error
        dtype = wmodel.numpy_dtype(info.dtype)
        return np.frombuffer(data, dtype).reshape(info.shape).astype(np.float32)


def _table(path: Path) -> Mapping[str, wmodel.WeightInfo]:
    if not path.exists():
        cure = f"save the model with save_pretrained(), which writes {WEIGHTS_FILE}"
        if path.with_name("model.safetensors.index.json").exists():
            cure = "its weights are in several files: save it with a larger max_shard_size"
        raise StorageError(f"{path.parent} has no {path.name}: {cure}")
    return wmodel.read_table(path)


def _wanted(config: BertConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every weight of the graph, with its shape."""
    hidden, wide = config.hidden_size, config.intermediate_size

    def dense(name: str, outs: int, ins: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.weight", (outs, ins)
        yield f"{name}.bias", (outs,)

    def norm(name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.LayerNorm.weight", (hidden,)
        yield f"{name}.LayerNorm.bias", (hidden,)

    yield "embeddings.word_embeddings.weight", (config.vocab_size, hidden)
    yield "embeddings.position_embeddings.weight", (config.max_position_embeddings, hidden)
    yield "embeddings.token_type_embeddings.weight", (config.type_vocab_size, hidden)
    yield from norm("embeddings")
    for i in range(config.num_hidden_layers):
        layer = f"encoder.layer.{i}"
        for part in ("query", "key", "value"):
            yield from dense(f"{layer}.attention.self.{part}", hidden, hidden)
        yield from dense(f"{layer}.attention.output.dense", hidden, hidden)
        yield from norm(f"{layer}.attention.output")
        yield from dense(f"{layer}.intermediate.dense", wide, hidden)
        yield from dense(f"{layer}.output.dense", hidden, wide)
        yield from norm(f"{layer}.output")
    yield from dense("pooler.dense", hidden, hidden)


# ---- The graph


class _Encoder:
    """One graph being built; methods take and return names of values."""

    def __init__(self, config: BertConfig, weights: _Weights) -> None:
        self._config, self._weights = config, weights
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, Array] = {}

    def model(self) -> onnx.ModelProto:
        """Build everything."""
        config, batch = self._config, ["batch", "sequence"]
        names = ("input_ids", "attention_mask", "token_type_ids")
        x = self._embed()
        mask = self._mask()
        for i in range(config.num_hidden_layers):
            x = self._layer(f"encoder.layer.{i}", x, mask)
        outputs: dict[str, list[str | int]] = {"last_hidden_state": [*batch, config.hidden_size]}
        self._nodes.append(helper.make_node("Identity", [x], ["last_hidden_state"], "last_hidden_state"))
        if self._weights.has_pooler:
            self._pool(x)
            outputs["pooler_output"] = ["batch", config.hidden_size]
        graph = helper.make_graph(
            self._nodes,
            "bert",
            [helper.make_tensor_value_info(name, TensorProto.INT64, batch) for name in names],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in outputs.items()],
            [numpy_helper.from_array(array, name) for name, array in self._constants.items()],
            # As far as inference sees, there may be fewer positions than tokens.
            value_info=[
                helper.make_tensor_value_info(
                    "embeddings.places.out", TensorProto.FLOAT, ["sequence", config.hidden_size]
                )
            ],
        )
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="walle-engine")

    def _op(self, op: str, name: str, *inputs: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(op, inputs, [f"{name}.out"], name, **attributes))
        return f"{name}.out"

    def _constant(self, name: str, array: Any) -> str:
        self._constants[name] = np.asarray(array)
        return name

    def _weight(self, name: str) -> str:
        return name if name in self._constants else self._constant(name, self._weights[name])

    def _dense(self, name: str, x: str) -> str:
        turned = self._constant(f"{name}.weight", np.ascontiguousarray(self._weights[f"{name}.weight"].T))
        product = self._op("MatMul", f"{name}.product", x, turned)
        return self._op("Add", name, product, self._weight(f"{name}.bias"))

    def _norm(self, name: str, x: str) -> str:
        name = f"{name}.LayerNorm"
        gain, bias = self._weight(f"{name}.weight"), self._weight(f"{name}.bias")
        return self._op(
            "LayerNormalization", name, x, gain, bias, axis=-1, epsilon=self._config.layer_norm_eps
        )

    def _embed(self) -> str:
        name = "embeddings"
        words = self._op(
            "Gather", f"{name}.words", self._weight(f"{name}.word_embeddings.weight"), "input_ids"
        )
        types = self._op(
            "Gather", f"{name}.types", self._weight(f"{name}.token_type_embeddings.weight"), "token_type_ids"
        )
        zero = self._constant("zero", np.zeros(1, np.int64))
        length = self._op("Shape", f"{name}.length", "input_ids", start=1, end=2)
        table = self._weight(f"{name}.position_embeddings.weight")
        places = self._op("Slice", f"{name}.places", table, zero, length, zero)
        summed = self._op("Add", f"{name}.typed", words, types)
        return self._norm(name, self._op("Add", f"{name}.placed", summed, places))

    def _mask(self) -> str:
        """0 where a token is seen, the lowest number there is where not."""
        axes = self._constant("mask.axes", np.array([1, 2], np.int64))
        seen = self._op("Cast", "mask.seen", "attention_mask", to=TensorProto.BOOL)
        wide = self._op("Unsqueeze", "mask.wide", seen, axes)
        none, lowest = np.float32(0), np.finfo(np.float32).min
        return self._op(
            "Where", "mask", wide, self._constant("mask.none", none), self._constant("mask.lowest", lowest)
        )

    def _layer(self, name: str, x: str, mask: str) -> str:
        mixed = self._dense(f"{name}.attention.output.dense", self._attend(f"{name}.attention.self", x, mask))
        x = self._norm(f"{name}.attention.output", self._op("Add", f"{name}.attention.residual", mixed, x))
        op, attributes = ACTIVATIONS[self._config.hidden_act]
        wide = self._op(
            op, f"{name}.intermediate.act", self._dense(f"{name}.intermediate.dense", x), **attributes
        )
        narrow = self._dense(f"{name}.output.dense", wide)
        return self._norm(f"{name}.output", self._op("Add", f"{name}.residual", narrow, x))

    def _attend(self, name: str, x: str, mask: str) -> str:
        config = self._config
        split = self._constant(
            "heads", np.array([0, 0, config.num_attention_heads, config.head_size], np.int64)
        )
        join = self._constant("joined", np.array([0, 0, config.hidden_size], np.int64))

        def heads(part: str, perm: Sequence[int]) -> str:
            parts = self._op("Reshape", f"{name}.{part}.heads", self._dense(f"{name}.{part}", x), split)
            return self._op("Transpose", f"{name}.{part}.turned", parts, perm=perm)

        query, key, value = (
            heads("query", (0, 2, 1, 3)),
            heads("key", (0, 2, 3, 1)),
            heads("value", (0, 2, 1, 3)),
        )
        size = self._constant("root_of_size", np.float32(math.sqrt(config.head_size)))
        scores = self._op("Div", f"{name}.scaled", self._op("MatMul", f"{name}.scores", query, key), size)
        shown = self._op(
            "Softmax", f"{name}.weights", self._op("Add", f"{name}.masked", scores, mask), axis=-1
        )
        mixed = self._op("MatMul", f"{name}.mixed", shown, value)
        turned = self._op("Transpose", f"{name}.back", mixed, perm=(0, 2, 1, 3))
        return self._op("Reshape", f"{name}.joined", turned, join)

    def _pool(self, x: str) -> None:
        first = self._op("Gather", "pooler.first", x, self._constant("first", np.int64(0)), axis=1)
        self._nodes.append(
            helper.make_node("Tanh", [self._dense("pooler.dense", first)], ["pooler_output"], "pooler_output")
        )
