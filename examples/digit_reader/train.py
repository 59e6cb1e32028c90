"""Train the digit reader: a small convolutional network in plain NumPy, on real 8x8 scans of digits.

The data is the set bundled with scikit-learn (1 797 scans). A fifth of it, the same share of every digit, is
never trained on: it is written to ``digits_heldout.json`` so that neither the demo nor a device needs
scikit-learn.

Run from the repository root; the files written are committed, so only a change to the network needs a new
run::

    .venv/bin/python examples/digit_reader/train.py
    .venv/bin/python examples/digit_reader/train.py --epochs 2 --out /tmp/quick.onnx --heldout /tmp/quick.json

Shapes: images ``[N, C, H, W]``, convolution weights ``[Cout, Cin, Kh, Kw]``, dense weights ``[Out, In]``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Read when NumPy loads: with one thread the sums, and so the weights, come out the same on every run.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

if TYPE_CHECKING:
    import onnx

Array = np.ndarray[Any, np.dtype[np.float32]]
Labels = np.ndarray[Any, np.dtype[np.int64]]
Parameters = dict[str, Array]

HERE = Path(__file__).resolve().parent
SEED = 20
HELDOUT_SHARE = 0.2
BATCH = 64
PIXEL_SCALE = np.float32(1 / 16)  # scans hold 0..16
SOURCE = (
    "Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak, 1998), "
    "UCI Machine Learning Repository"
)
LICENCE = (
    "CC BY 4.0, https://doi.org/10.24432/C50P49; as bundled with scikit-learn (BSD-3-Clause) in "
    "sklearn.datasets.load_digits; item id = row of that set; pixels 0..16, row by row"
)


@dataclass(frozen=True)
class Split:
    """Training and held-out scans; ``held_rows`` are the held-out rows of the original set."""

    train_x: Array  # [N, 1, 8, 8], 0..16
    train_y: Labels
    held_x: Array
    held_y: Labels
    held_rows: Labels


def load_split() -> Split:
    """Load the scans and hold back the same share of every digit."""
    from sklearn.datasets import load_digits  # only training needs it

    digits = load_digits()
    images = digits.images.astype(np.float32)[:, None]
    labels = digits.target.astype(np.int64)
    rng = np.random.default_rng(SEED)
    held: list[int] = []
    for digit in range(10):
        rows = rng.permutation(np.flatnonzero(labels == digit))
        held.extend(int(row) for row in rows[: round(len(rows) * HELDOUT_SHARE)])
    held_rows = np.sort(np.array(held, dtype=np.int64))
    is_held = np.zeros(len(labels), dtype=bool)
    is_held[held_rows] = True
    return Split(images[~is_held], labels[~is_held], images[is_held], labels[is_held], held_rows)


def initial_parameters(rng: np.random.Generator) -> Parameters:
    """He initialisation for layers followed by a ReLU; biases zero."""
    shapes = {"conv1.w": (16, 1, 3, 3), "conv2.w": (32, 16, 3, 3), "fc1.w": (64, 512), "fc2.w": (10, 64)}
    parameters: Parameters = {}
    for name, shape in shapes.items():
        fan_in = int(np.prod(shape[1:]))
        parameters[name] = (rng.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(np.float32)
        parameters[name.replace(".w", ".b")] = np.zeros(shape[0], np.float32)
    return parameters


# Each layer returns its output and what its backward needs.


def conv_forward(x: Array, w: Array, b: Array) -> tuple[Array, Array]:
    """3x3 convolution with one pixel of zero padding, as one matrix product over unfolded patches."""
    n, c, h, wd = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    patches = sliding_window_view(padded, (3, 3), axis=(2, 3))  # [N, C, H, W, 3, 3]
    columns = np.ascontiguousarray(patches.transpose(0, 2, 3, 1, 4, 5)).reshape(n * h * wd, c * 9)
    y = columns @ w.reshape(len(w), -1).T + b
    return y.reshape(n, h, wd, len(w)).transpose(0, 3, 1, 2), columns


def conv_backward(dy: Array, columns: Array, w: Array) -> tuple[Array, Array, Array]:
    """Gradients of input, weight and bias; patches are folded back by nine shifted additions."""
    n, k, h, wd = dy.shape
    flat = dy.transpose(0, 2, 3, 1).reshape(-1, k)
    dw = (flat.T @ columns).reshape(w.shape)
    patches = (flat @ w.reshape(k, -1)).reshape(n, h, wd, w.shape[1], 3, 3)
    padded = np.zeros((n, w.shape[1], h + 2, wd + 2), np.float32)
    for i in range(3):
        for j in range(3):
            padded[:, :, i : i + h, j : j + wd] += patches[..., i, j].transpose(0, 3, 1, 2)
    return padded[:, :, 1:-1, 1:-1], dw, flat.sum(axis=0)


def pool_forward(x: Array) -> tuple[Array, Array]:
    """2x2 maximum, stride 2; the mask shares a tie equally."""
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // 2, 2, w // 2, 2)
    y = blocks.max(axis=(3, 5))
    mask = (blocks == y[:, :, :, None, :, None]).astype(np.float32)
    return y, mask / mask.sum(axis=(3, 5), keepdims=True)


def pool_backward(dy: Array, mask: Array) -> Array:
    """Send each gradient to where the maximum came from."""
    n, c, h, _, w, _ = mask.shape
    return (mask * dy[:, :, :, None, :, None]).reshape(n, c, h * 2, w * 2)


def forward(p: Parameters, x: Array) -> tuple[Array, dict[str, Array]]:
    """Logits ``[N, 10]`` of scans ``[N, 1, 8, 8]`` (0..16), and the intermediates."""
    keep: dict[str, Array] = {}
    a1, keep["columns1"] = conv_forward(x * PIXEL_SCALE, p["conv1.w"], p["conv1.b"])
    keep["r1"] = np.maximum(a1, 0)
    a2, keep["columns2"] = conv_forward(keep["r1"], p["conv2.w"], p["conv2.b"])
    keep["r2"] = np.maximum(a2, 0)
    pooled, keep["mask"] = pool_forward(keep["r2"])
    keep["flat"] = pooled.reshape(len(x), -1)
    keep["r3"] = np.maximum(keep["flat"] @ p["fc1.w"].T + p["fc1.b"], 0)
    return keep["r3"] @ p["fc2.w"].T + p["fc2.b"], keep


def loss_and_gradients(p: Parameters, x: Array, labels: Labels) -> tuple[float, Parameters]:
    """Mean cross-entropy of a batch, and its gradient for every parameter."""
    logits, keep = forward(p, x)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_scores = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    rows = np.arange(len(x))
    loss = float(-log_scores[rows, labels].mean())

    g: Parameters = {}
    dlogits = np.exp(log_scores)
    dlogits[rows, labels] -= 1
    dlogits /= np.float32(len(x))
    g["fc2.w"], g["fc2.b"] = dlogits.T @ keep["r3"], dlogits.sum(axis=0)
    d3 = (dlogits @ p["fc2.w"]) * (keep["r3"] > 0)
    g["fc1.w"], g["fc1.b"] = d3.T @ keep["flat"], d3.sum(axis=0)
    dpooled = (d3 @ p["fc1.w"]).reshape(len(x), 32, 4, 4)
    d2 = pool_backward(dpooled, keep["mask"]) * (keep["r2"] > 0)
    d1, g["conv2.w"], g["conv2.b"] = conv_backward(d2, keep["columns2"], p["conv2.w"])
    _, g["conv1.w"], g["conv1.b"] = conv_backward(d1 * (keep["r1"] > 0), keep["columns1"], p["conv1.w"])
    return loss, g


class Adam:
    """The usual optimiser (Kingma and Ba, 2015) with the paper's constants."""

    def __init__(self, parameters: Parameters) -> None:
        self._mean = {name: np.zeros_like(value) for name, value in parameters.items()}
        self._square = {name: np.zeros_like(value) for name, value in parameters.items()}
        self._steps = 0

    def step(self, parameters: Parameters, gradients: Parameters, rate: float) -> None:
        """Move every parameter in place."""
        self._steps += 1
        correction = np.sqrt(1 - 0.999**self._steps) / (1 - 0.9**self._steps)
        for name, g in gradients.items():
            self._mean[name] = 0.9 * self._mean[name] + 0.1 * g
            self._square[name] = 0.999 * self._square[name] + 0.001 * g * g
            step = rate * correction * self._mean[name] / (np.sqrt(self._square[name]) + 1e-8)
            parameters[name] -= step.astype(np.float32)


def jittered(x: Array, rng: np.random.Generator) -> Array:
    """Move each scan by at most one pixel each way, as a scanner would."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    down, right = rng.integers(0, 3, size=(2, len(x)))
    windows = sliding_window_view(padded, (8, 8), axis=(2, 3))  # [N, 1, 3, 3, 8, 8]
    return np.ascontiguousarray(windows[np.arange(len(x)), :, down, right])


def train(x: Array, labels: Labels, *, epochs: int, seed: int = SEED) -> Parameters:
    """Train from scratch; prints the mean loss of each epoch; the rate falls along a half cosine."""
    rng = np.random.default_rng(seed)
    parameters = initial_parameters(rng)
    optimiser = Adam(parameters)
    for epoch in range(epochs):
        rate = 0.0005 + 0.0015 * (1 + np.cos(np.pi * epoch / epochs)) / 2
        order = rng.permutation(len(x))
        losses = []
        for start in range(0, len(x), BATCH):
            rows = order[start : start + BATCH]
            loss, gradients = loss_and_gradients(parameters, jittered(x[rows], rng), labels[rows])
            optimiser.step(parameters, gradients, rate)
            losses.append(loss)
        print(f"epoch {epoch + 1:3}/{epochs}  loss {np.mean(losses):.4f}", flush=True)
    return parameters


def accuracy(parameters: Parameters, x: Array, labels: Labels) -> float:
    """Share of scans read right."""
    return float((forward(parameters, x)[0].argmax(axis=1) == labels).mean())


def to_onnx(parameters: Parameters) -> onnx.ModelProto:
    """Write the network as ONNX: ``image [N, 1, 8, 8]`` raw 0..16 in, ``scores [N, 10]`` (sum 1) out."""
    import onnx  # only the export needs it
    from onnx import helper, numpy_helper

    weights = {"pixel_scale": np.array(PIXEL_SCALE, np.float32), **parameters}
    conv: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Mul", ["image", "pixel_scale"], ["scaled"], "scale"),
        helper.make_node("Conv", ["scaled", "conv1.w", "conv1.b"], ["a1"], "conv1", **conv),
        helper.make_node("Relu", ["a1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "conv2.w", "conv2.b"], ["a2"], "conv2", **conv),
        helper.make_node("Relu", ["a2"], ["r2"], "relu2"),
        helper.make_node("MaxPool", ["r2"], ["pooled"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flatten", axis=1),
        helper.make_node("Gemm", ["flat", "fc1.w", "fc1.b"], ["a3"], "fc1", transB=1),
        helper.make_node("Relu", ["a3"], ["r3"], "relu3"),
        helper.make_node("Gemm", ["r3", "fc2.w", "fc2.b"], ["logits"], "fc2", transB=1),
        helper.make_node("Softmax", ["logits"], ["scores"], "softmax", axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "digit_reader",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 21)], producer_name="walle-digit-reader"
    )
    model.ir_version = 10
    onnx.checker.check_model(model, full_check=True)
    return model


def heldout_document(split: Split) -> dict[str, object]:
    """The held-out scans with where they come from."""
    items = [
        {"id": int(row), "pixels": [int(v) for v in image.ravel()], "label": int(label)}
        for row, image, label in zip(split.held_rows, split.held_x, split.held_y, strict=True)
    ]
    return {"source": SOURCE, "licence": LICENCE, "items": items}


def write_heldout(path: Path, document: dict[str, object]) -> None:
    """Write JSON with one item a line, so that a change reads well in a diff."""
    items = document["items"]
    assert isinstance(items, list)
    head = json.dumps({k: v for k, v in document.items() if k != "items"}, indent=1).rstrip("}\n")
    body = ",\n  ".join(json.dumps(item, separators=(",", ":")) for item in items)
    path.write_text(f'{head},\n "items": [\n  {body}\n ]\n}}\n', encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """Train, report accuracy on scans never trained on, write the model and those scans."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--out", type=Path, default=HERE / "task" / "model" / "digits.onnx")
    parser.add_argument("--heldout", type=Path, default=HERE / "digits_heldout.json")
    args = parser.parse_args(argv)
    if args.epochs < 1:
        parser.error("--epochs must be at least 1")

    started = time.perf_counter()
    split = load_split()
    parameters = train(split.train_x, split.train_y, epochs=args.epochs)
    trained = accuracy(parameters, split.train_x, split.train_y)
    held = accuracy(parameters, split.held_x, split.held_y)
    print(f"accuracy on {len(split.train_y)} trained scans: {trained:.2%}")
    print(f"accuracy on {len(split.held_y)} held-out scans: {held:.2%}")

    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_bytes(to_onnx(parameters).SerializeToString())
    write_heldout(args.heldout, heldout_document(split))
    print(f"wrote {args.out} ({args.out.stat().st_size} bytes) and {args.heldout}")
    print(f"took {time.perf_counter() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
