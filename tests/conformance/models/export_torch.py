"""Make ``torch/``: small networks as PyTorch exports them, with inputs and the outputs PyTorch computes.

Needs PyTorch 2.13 and onnxscript, in an environment of their own: ``python export_torch.py``. The suite reads
what it wrote and needs neither.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

OUT = Path(__file__).parent / "torch"


class Cnn(nn.Module):
    """Convolutions with norms and activations behind them, up and down."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.wise, self.wise_norm = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8), nn.BatchNorm2d(8)
        self.up, self.up_norm = nn.ConvTranspose2d(8, 4, 2, stride=2), nn.BatchNorm2d(4)
        self.dense = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.silu(self.first_norm(self.first(x)))
        x = functional.hardswish(self.wise_norm(self.wise(x)))
        x = functional.mish(self.up_norm(self.up(x)))
        return self.dense(functional.dropout(x.mean((2, 3)), training=self.training))


class RmsNorm(nn.Module):
    """A root-mean-square norm written out, as language models do."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class Block(nn.Module):
    """Attention with a mask, written out, then PyTorch's own; both kinds of GELU; three norms."""

    def __init__(self, width: int = 16, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.norm, self.rms = nn.LayerNorm(width), RmsNorm(width)
        self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, self.size).transpose(1, 2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (self.split(layer(x)) for layer in (self.query, self.key, self.value))
        scores = q @ k.transpose(-1, -2) / math.sqrt(self.size) + (1 - mask[:, None, None, :]) * -1e4
        x = self.norm(x + self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2)))
        q, k, v = (self.split(layer(x)) for layer in (self.query, self.key, self.value))
        own = functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(own.transpose(1, 2).flatten(2))
        exact, rough = functional.gelu(self.wide(x)), functional.gelu(self.wide(x), approximate="tanh")
        return self.rms(x + self.narrow(exact) + self.narrow(rough))


class Voice(nn.Module):
    """A recurrent layer and what is made of its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.dense = nn.LSTM(6, 8, batch_first=True, bidirectional=True), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(self.cell(x)[0])


def networks() -> Iterator[tuple[str, nn.Module, dict[str, Tensor], dict[str, dict[int, str]]]]:
    """Yield name, network, inputs by parameter, and the axes that may change."""
    steps = {0: "batch", 1: "steps"}
    yield "cnn", Cnn(), {"x": torch.randn(2, 3, 8, 8)}, {"x": {0: "batch"}}
    mask = torch.ones(3, 5)
    mask[1, 3:] = 0
    yield "block", Block(), {"x": torch.randn(3, 5, 16), "mask": mask}, {"x": steps, "mask": steps}
    encoder = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, activation="gelu")
    yield "encoder", encoder, {"src": torch.randn(2, 5, 16)}, {"src": {0: "batch"}}
    yield "voice", Voice(), {"x": torch.randn(2, 5, 6)}, {"x": {0: "batch"}}


def export(name: str, network: nn.Module, inputs: dict[str, Tensor], axes: Any, **settings: Any) -> None:
    path = OUT / f"{name}.onnx"
    torch.onnx.export(
        network, tuple(inputs.values()), path, input_names=list(inputs), output_names=["y"], **settings
    )
    model = onnx.load(path)
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input,
                 *model.graph.output, *model.graph.initializer):  # fmt: skip
        part.ClearField("metadata_props")  # where each came from in somebody's files
        part.ClearField("doc_string")
    onnx.save(model, path)


def main() -> None:
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    OUT.mkdir(exist_ok=True)
    for name, network, inputs, axes in networks():
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                nn.init.normal_(part.running_mean)
                nn.init.uniform_(part.running_var, 0.5, 2)
        network.eval()
        with torch.no_grad():
            y = network(*inputs.values())
        np.savez(OUT / f"{name}.npz", y=y.numpy(), **{key: value.numpy() for key, value in inputs.items()})
        export(f"{name}.static", network, inputs, axes, dynamo=True, external_data=False, opset_version=18)
        export(
            f"{name}.dynamic", network, inputs, axes, dynamo=True, external_data=False, dynamic_shapes=axes
        )
        if name != "encoder":  # which the old exporter cannot trace
            export(f"{name}.traced", network, inputs, axes, dynamo=False, opset_version=17, dynamic_axes=axes)


if __name__ == "__main__":
    main()
