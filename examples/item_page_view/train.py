"""Train the encoder: a GRU of 32 units in plain NumPy, on labelled SYNTHETIC visits.

It reads a visit event by event and learns to tell whether the item is bought later (``generate.py`` knows).
The hidden state behind the last event is the visit's encoding: 32 float32, 128 bytes.

Run from the repository root; the model is committed, so only a change to the visits or the network needs a
new run, half a minute of one core::

    .venv/bin/python examples/item_page_view/train.py

Shapes: visits ``[T, N, F]`` (T rows of F numbers, see ``task/steps.py``), gates ``[., 3 H]`` in ONNX's order:
update, reset, new.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

# Read when NumPy loads: with one thread the sums, and so the weights, come out the same on every run.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np

if TYPE_CHECKING:
    import onnx

Array = np.ndarray[Any, np.dtype[Any]]
Parameters = dict[str, Array]

HERE = Path(__file__).resolve().parent
HIDDEN = 32
BATCH = 64
SEED = 21
TRAIN_VISITS = 6_000
HELD_VISITS = 1_500


def load(path: Path) -> ModuleType:
    """A script of this example as a module."""
    import importlib.util

    spec = importlib.util.spec_from_file_location(f"item_page_view_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses ask for it
    spec.loader.exec_module(module)
    return module


def make_visits(count: int, seed: int) -> tuple[Array, Array]:
    """``[T, N, F]`` of synthetic visits, and ``[N]``: 1 where the item was bought."""
    from walle_task.events import Event, Visit

    steps = load(HERE / "task" / "steps.py")
    stream = load(HERE / "generate.py").generate(count, seed)
    by_visit: dict[str, list[Event]] = {}
    for seq, event in enumerate(stream.events):
        by_visit.setdefault(event["visit_id"], []).append(Event(seq, **event))
    rows = [steps.rows(Visit(visit_id, events=tuple(events))) for visit_id, events in by_visit.items()]
    bought = [stream.bought[visit_id] for visit_id in by_visit]
    return np.array(rows, np.float32).transpose(1, 0, 2), np.array(bought, np.float32)


def initial_parameters(width: int, rng: np.random.Generator) -> Parameters:
    """Uniform within 1 / sqrt(H), as recurrent networks are usually begun."""
    bound = HIDDEN**-0.5
    shapes = {
        "w": (width, 3 * HIDDEN),
        "r": (HIDDEN, 3 * HIDDEN),
        "wb": (3 * HIDDEN,),
        "rb": (3 * HIDDEN,),
        "head.w": (HIDDEN,),
        "head.b": (1,),
    }
    return {name: rng.uniform(-bound, bound, shape).astype(np.float32) for name, shape in shapes.items()}


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), by way of a function that does not overflow."""
    return (np.tanh(x / 2) + 1) / 2


def forward(p: Parameters, x: Array) -> tuple[Array, Array, list[tuple[Array, ...]]]:
    """Last hidden states ``[N, H]``, logits ``[N]``, and what ``backward`` needs of each step."""
    from_input = x @ p["w"] + p["wb"]
    h = np.zeros((x.shape[1], HIDDEN), x.dtype)
    trace = []
    for gates in from_input:
        from_state = h @ p["r"] + p["rb"]
        both = sigmoid(gates[:, : 2 * HIDDEN] + from_state[:, : 2 * HIDDEN])
        update, reset = both[:, :HIDDEN], both[:, HIDDEN:]
        old = from_state[:, 2 * HIDDEN :]
        new = np.tanh(gates[:, 2 * HIDDEN :] + reset * old)
        trace.append((h, update, reset, new, old))
        h = new + update * (h - new)
    return h, h @ p["head.w"] + p["head.b"], trace


def loss_and_gradients(p: Parameters, x: Array, bought: Array) -> tuple[float, Parameters]:
    """Mean cross-entropy, and its derivative by every parameter (backpropagation through time)."""
    h, logits, trace = forward(p, x)
    loss = float(np.mean(np.logaddexp(0, logits) - bought * logits))
    by_logit = (sigmoid(logits) - bought) / len(bought)
    gradients = {name: np.zeros_like(value) for name, value in p.items()}
    gradients["head.w"], gradients["head.b"] = by_logit @ h, np.array([by_logit.sum()], h.dtype)
    by_h = by_logit[:, None] * p["head.w"]
    for step, (before, update, reset, new, old) in zip(reversed(x), reversed(trace), strict=True):
        by_new = by_h * (1 - update) * (1 - new**2)
        by_update = by_h * (before - new) * update * (1 - update)
        by_reset = by_new * old * reset * (1 - reset)
        by_input = np.concatenate([by_update, by_reset, by_new], axis=1)
        by_state = np.concatenate([by_update, by_reset, by_new * reset], axis=1)
        gradients["w"] += step.T @ by_input
        gradients["wb"] += by_input.sum(axis=0)
        gradients["r"] += before.T @ by_state
        gradients["rb"] += by_state.sum(axis=0)
        by_h = by_h * update + by_state @ p["r"].T
    return loss, gradients


class Adam:
    """Adam with its usual constants (Kingma and Ba, 2015)."""

    def __init__(self, p: Parameters) -> None:
        self._mean = {name: np.zeros_like(value) for name, value in p.items()}
        self._square = {name: np.zeros_like(value) for name, value in p.items()}
        self._steps = 0

    def step(self, p: Parameters, gradients: Parameters, rate: float) -> None:
        """Move ``p`` against its gradients."""
        self._steps += 1
        for name, g in gradients.items():
            self._mean[name] += np.float32(0.1) * (g - self._mean[name])
            self._square[name] += np.float32(0.001) * (g * g - self._square[name])
            mean = self._mean[name] / np.float32(1 - 0.9**self._steps)
            square = self._square[name] / np.float32(1 - 0.999**self._steps)
            p[name] -= np.float32(rate) * mean / (np.sqrt(square) + np.float32(1e-8))


def train(x: Array, bought: Array, *, epochs: int, seed: int = SEED) -> Parameters:
    """Fit the network; the same seed gives the same weights on the same machine."""
    rng = np.random.default_rng(seed)
    p = initial_parameters(x.shape[2], rng)
    optimiser = Adam(p)
    for epoch in range(epochs):
        rate = 0.003 * (1 + np.cos(np.pi * epoch / epochs)) / 2
        order = rng.permutation(len(bought))
        losses = []
        for start in range(0, len(bought), BATCH):
            chosen = order[start : start + BATCH]
            loss, gradients = loss_and_gradients(p, x[:, chosen], bought[chosen])
            optimiser.step(p, gradients, rate)
            losses.append(loss)
        print(f"epoch {epoch + 1:3}/{epochs}  loss {np.mean(losses):.4f}", flush=True)
    return p


def rank_quality(scores: Array, bought: Array) -> float:
    """How often a bought visit scores above one that was not: area under the ROC curve; 0.5 is chance."""
    yes, no = scores[bought > 0.5], scores[bought <= 0.5]
    return float((yes[:, None] > no).mean() + (yes[:, None] == no).mean() / 2)


def to_onnx(p: Parameters, steps: int) -> onnx.ModelProto:
    """Write it as ONNX: ``steps [T, N, F]`` in, ``state [N, H]`` and ``interest [N, 1]`` (0..1) out."""
    import onnx  # only the export needs it
    from onnx import helper, numpy_helper

    weights = {
        "w": p["w"].T[None],
        "r": p["r"].T[None],
        "b": np.concatenate([p["wb"], p["rb"]])[None],
        "head.w": p["head.w"][:, None],
        "head.b": p["head.b"],
        "first": np.array([0], np.int64),
    }
    gru: dict[str, Any] = {"hidden_size": HIDDEN, "linear_before_reset": 1}
    nodes = [
        helper.make_node("GRU", ["steps", "w", "r", "b"], ["", "last"], "gru", **gru),
        helper.make_node("Squeeze", ["last", "first"], ["state"], "squeeze"),
        helper.make_node("Gemm", ["state", "head.w", "head.b"], ["logit"], "head"),
        helper.make_node("Sigmoid", ["logit"], ["interest"], "sigmoid"),
    ]
    floats = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "item_page_encoder",
        [helper.make_tensor_value_info("steps", floats, [steps, "N", p["w"].shape[0]])],
        [
            helper.make_tensor_value_info("state", floats, ["N", HIDDEN]),
            helper.make_tensor_value_info("interest", floats, ["N", 1]),
        ],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 21)], producer_name="walle-item-page-encoder"
    )
    model.ir_version = 10
    onnx.checker.check_model(model, full_check=True)
    return model


def main(argv: list[str] | None = None) -> int:
    """Train, say how well it does on visits never trained on, write the model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--visits", type=int, default=TRAIN_VISITS)
    parser.add_argument("--out", type=Path, default=HERE / "task" / "model" / "encoder.onnx")
    args = parser.parse_args(argv)
    if args.epochs < 1 or args.visits < 1:
        parser.error("--epochs and --visits must be at least 1")

    started = time.perf_counter()
    x, bought = make_visits(args.visits, SEED)
    held_x, held_bought = make_visits(HELD_VISITS, SEED + 1)
    p = train(x, bought, epochs=args.epochs)
    for what, rows, labels in (("trained", x, bought), ("held-out", held_x, held_bought)):
        quality = rank_quality(forward(p, rows)[1], labels)
        print(
            f"{len(labels)} {what} visits, {labels.mean():.0%} bought: area under the ROC curve {quality:.3f}"
        )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_bytes(to_onnx(p, x.shape[0]).SerializeToString())
    print(f"wrote {args.out} ({args.out.stat().st_size} bytes) in {time.perf_counter() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
