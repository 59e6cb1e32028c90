"""Train the rankers with Walle's own engine, on SYNTHETIC shoppers.

Two networks, both log odds of a click:

- ``din``: attention of a candidate over the history of visits (Zhou et al., KDD 2018), 100 rows of 32. It
  runs on the device, with the newest visits.
- ``session``: a GRU that reads the last 20 visits. Its state, 32 float32, is the session in 128 bytes: what
  the device sends, and the cloud ranks by, with the small network ``cloud``.

Visits reach a training sample by a random delay, none to a day, so that one network knows fresh and old
histories.

Run from the repository root; the models are committed, so only a change to the shoppers or the networks
needs a new run, some minutes of one core::

    .venv/bin/python examples/recommend/train.py
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from borrowed import HERE
from dataset import Array, Catalogue, Log, behaviour, candidate_rows, histories, live, open_reader
from walle_engine import train

SEED = 31
TRAIN_SHOPPERS = 600
BATCH = 256
#: Cards without a click for each one with; the others say little more, and take as long.
NEGATIVES = 4
EPOCHS = 12
RATE = 5e-3
ATTENTION, HIDDEN, STATE = 36, 48, 32
WIDTH = behaviour.WIDTH


class Net:
    """An ONNX graph, node by node, with seeded weights."""

    def __init__(self, name: str, seed: int = SEED) -> None:
        self.name = name
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, Array] = {}

    def op(self, kind: str, *inputs: str, outputs: int = 1, name: str = "", **attrs: Any) -> str:
        """Add a node; the name of its last output."""
        names = [f"{kind.lower()}_{len(self.nodes)}_{place}" for place in range(outputs - 1)]
        names = ["" for _ in names] + [name or f"{kind.lower()}_{len(self.nodes)}"]
        self.nodes.append(helper.make_node(kind, list(inputs), names, names[-1], **attrs))
        return names[-1]

    def weight(self, name: str, *shape: int, terms: int) -> str:
        """A weight, uniform within 1 / sqrt(terms)."""
        bound = terms**-0.5
        self.weights[name] = self.rng.uniform(-bound, bound, shape).astype(np.float32)
        return name

    def number(self, name: str, value: Any) -> str:
        """A constant."""
        self.weights[name] = np.asarray(value)
        return name

    def dense(self, name: str, x: str, ins: int, outs: int) -> str:
        """``x W + b``."""
        product = self.op("MatMul", x, self.weight(f"{name}.w", ins, outs, terms=ins))
        return self.op("Add", product, self.weight(f"{name}.b", outs, terms=ins))

    def model(self, inputs: Mapping[str, list[Any]], outputs: Mapping[str, list[Any]]) -> onnx.ModelProto:
        """The graph as a model: names and shapes of inputs and outputs."""
        infos = [
            [
                helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
                for name, shape in some.items()
            ]
            for some in (inputs, outputs)
        ]
        weights = [numpy_helper.from_array(value, name) for name, value in self.weights.items()]
        graph = helper.make_graph(self.nodes, self.name, *infos, weights)
        opsets = [helper.make_opsetid("", 21)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="walle-recommend")
        model.ir_version = 10
        onnx.checker.check_model(model, full_check=True)
        return model


def make_din() -> onnx.ModelProto:
    """``history [B, 100, 32]`` and ``candidates [N, 1, 32]`` in, ``logits [N]`` out; B is N, or 1 for all.

    The attention's first layer sees b, t and b * t, by a product each: what ``[b, t, b * t] W`` is, without
    writing the row of each pair down, and the history's part is computed once for all candidates. Rows of
    zeros add nothing to what is pooled.
    """
    net = Net("din")
    visits = net.op("MatMul", "history", net.weight("embed.visit", WIDTH, WIDTH, terms=WIDTH))
    item = net.dense("embed.item", "candidates", WIDTH, WIDTH)
    past = net.op("MatMul", visits, net.weight("attention.past", WIDTH, ATTENTION, terms=3 * WIDTH))
    now = net.dense("attention.now", item, WIDTH, ATTENTION)
    pair = net.op(
        "MatMul", net.op("Mul", visits, item), net.weight("attention.pair", WIDTH, ATTENTION, terms=WIDTH)
    )
    hidden = net.op("Relu", net.op("Add", net.op("Add", past, now), pair))
    weights = net.dense("attention.out", hidden, ATTENTION, 1)
    interest = net.op("ReduceSum", net.op("Mul", weights, visits), net.number("rows", [1]), keepdims=1)
    x = net.op("Concat", interest, item, net.op("Mul", interest, item), axis=-1)
    x = net.op("Relu", net.dense("fc1", x, 3 * WIDTH, HIDDEN))
    x = net.op("Relu", net.dense("fc2", x, HIDDEN, HIDDEN // 2))
    net.op("Reshape", net.dense("fc3", x, HIDDEN // 2, 1), net.number("flat", [-1]), name="logits")
    shapes = {"history": ["B", behaviour.HISTORY, WIDTH], "candidates": ["N", 1, WIDTH]}
    return net.model(shapes, {"logits": ["N"]})


def make_session() -> onnx.ModelProto:
    """``recent [20, N, 32]`` and ``candidates [N, 1, 32]`` in; ``state [N, 32]`` and ``logits [N]`` out."""
    net = Net("session")
    gru = [
        net.weight("gru.w", 1, 3 * STATE, WIDTH, terms=STATE),
        net.weight("gru.r", 1, 3 * STATE, STATE, terms=STATE),
        net.weight("gru.b", 1, 6 * STATE, terms=STATE),
    ]
    last = net.op("GRU", "recent", *gru, outputs=2, hidden_size=STATE, linear_before_reset=1)
    net.op("Squeeze", last, net.number("first", [0]), name="state")
    _add_cloud(net)
    shapes = {"recent": [behaviour.RECENT, "N", WIDTH], "candidates": ["N", 1, WIDTH]}
    return net.model(shapes, {"state": ["N", STATE], "logits": ["N"]})


def _add_cloud(net: Net) -> None:
    """``logits [N]`` of ``state [N, 32]`` (or one for all) and ``candidates [N, 1, 32]``."""
    state = net.op("Unsqueeze", "state", net.number("middle", [1]))
    wanted = net.dense("wanted", state, STATE, WIDTH)
    pair = net.op("Mul", wanted, "candidates")
    x = net.op(
        "Add", net.dense("by_item", "candidates", WIDTH, HIDDEN), net.dense("by_pair", pair, WIDTH, HIDDEN)
    )
    x = net.op("Relu", net.op("Add", x, net.dense("by_state", state, STATE, HIDDEN)))
    net.op("Reshape", net.dense("score", x, HIDDEN, 1), net.number("flat", [-1]), name="logits")


def split_session(trained: onnx.ModelProto) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The device's half, which makes the state, and the cloud's, which ranks by it."""
    cut = onnx.utils.Extractor(trained)
    device = cut.extract_model(["recent"], ["state"])
    cloud = cut.extract_model(["state", "candidates"], ["logits"])
    for model, name in ((device, "session"), (cloud, "cloud")):
        model.graph.name, model.ir_version = name, 10
        del model.graph.value_info[:]
    cloud.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "B"
    return device, cloud


class Samples:
    """Cards shown, with whom they were shown to; histories are made when a batch needs them."""

    def __init__(self, catalogue: Catalogue, logs: list[Log], rng: np.random.Generator) -> None:
        self.catalogue, self.logs = catalogue, logs
        chosen = []
        for number, log in enumerate(logs):
            yes = np.flatnonzero(log.clicked)
            no = rng.permutation(np.flatnonzero(~log.clicked))[: NEGATIVES * len(yes)]
            chosen += [(number, place) for place in np.concatenate([yes, no])]
        self.places = np.array(chosen)
        self.fresh = rng.random(len(chosen))
        self.delay_ms = np.where(
            self.fresh < 0.5, 0.0, np.where(self.fresh < 0.8, 600_000 * rng.random(len(chosen)), 86_400_000.0)
        )

    def __len__(self) -> int:
        return len(self.places)

    def batch(self, chosen: Array) -> tuple[Array, Array, Array]:
        """``[N, HISTORY, WIDTH]`` histories, ``[N, 1, WIDTH]`` candidates, ``[N]`` clicks."""
        past = np.empty((len(chosen), behaviour.HISTORY, WIDTH), np.float32)
        items, clicked = np.empty(len(chosen), int), np.empty(len(chosen), np.float32)
        for row, place in enumerate(chosen):
            number, shown = self.places[place]
            log = self.logs[number]
            past[row] = histories(log, log.at_ms[[shown]], self.delay_ms[[place]])[0]
            items[row], clicked[row] = log.item[shown], log.clicked[shown]
        return past, candidate_rows(self.catalogue, items), clicked


def fit(
    model: onnx.ModelProto, samples: Samples, feed: Callable[[Array], dict[str, Array]], epochs: int
) -> onnx.ModelProto:
    """Train a model; the same seed gives the same weights on the same machine."""
    steps = len(samples) // BATCH * epochs
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        file.write(model.SerializeToString())
        file.flush()
        trainer = train.Trainer(
            file.name,
            train.BinaryCrossEntropy(output="logits"),
            train.AdamW(RATE, weight_decay=1e-4),
            schedule=train.warm_up(50, train.cosine(steps)),
            clip_norm=1.0,
        )
    rng = np.random.default_rng(SEED)
    for epoch in range(epochs):
        order, losses, started = rng.permutation(len(samples)), [], time.perf_counter()
        for start in range(0, len(order) - BATCH + 1, BATCH):
            past, items, clicked = samples.batch(order[start : start + BATCH])
            losses.append(trainer.step({**feed(past), "candidates": items, "target": clicked}))
        took_s = time.perf_counter() - started
        print(
            f"{model.graph.name} {epoch + 1}/{epochs}  loss {np.mean(losses):.4f}  {took_s:.0f} s", flush=True
        )
    values = trainer.parameters
    for weight in model.graph.initializer:
        if weight.name in values:
            weight.CopyFrom(numpy_helper.from_array(np.array(values[weight.name]), weight.name))
    return model


def recent(past: Array) -> Array:
    """``[RECENT, N, WIDTH]``: what the session's encoder reads of histories."""
    return np.ascontiguousarray(past[:, -behaviour.RECENT :].transpose(1, 0, 2))


def main(argv: list[str] | None = None) -> int:
    """Train both, write three models."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shoppers", type=int, default=TRAIN_SHOPPERS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--out", type=Path, default=HERE, help="the example's folder, or another")
    parser.add_argument("--only", choices=("din", "session"), help="one of the networks")
    args = parser.parse_args(argv)
    started = time.perf_counter()
    catalogue, rng = Catalogue(), np.random.default_rng(SEED)
    with open_reader() as reader:
        samples = Samples(
            catalogue, [live(catalogue, number, reader) for number in range(args.shoppers)], rng
        )
    print(
        f"{len(samples)} cards of {args.shoppers} shoppers, {time.perf_counter() - started:.0f} s", flush=True
    )
    models: dict[str, onnx.ModelProto] = {}
    if args.only != "session":
        models["task/model/din"] = fit(make_din(), samples, lambda past: {"history": past}, args.epochs)
    if args.only != "din":
        session = fit(make_session(), samples, lambda past: {"recent": recent(past)}, args.epochs)
        models["task/model/session"], models["cloud"] = split_session(session)
    for name, model in models.items():
        path = args.out / f"{name}.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(model.SerializeToString())
        print(f"wrote {path} ({path.stat().st_size} bytes)")
    print(f"{time.perf_counter() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
