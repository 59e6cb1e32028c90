"""PyTorch on a CUDA device in plain float32: ``torch_cuda.py`` prints seconds by name, as JSON.

The networks are written out here, so that neither ONNX nor a model file is needed; weights are random, which
changes no time. A run of a network begins and ends with arrays of the host, as a session's does; products and
convolutions are timed on the device, many in a row.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional
from torch_cuda_shapes import CONVOLUTIONS, PRODUCTS


class Bottleneck(nn.Module):
    """Three convolutions beside a shortcut, norms folded."""

    def __init__(self, ins: int, width: int, stride: int) -> None:
        super().__init__()
        outs = 4 * width
        self.first = nn.Conv2d(ins, width, 1)
        self.second = nn.Conv2d(width, width, 3, stride, 1)
        self.third = nn.Conv2d(width, outs, 1)
        self.short = nn.Conv2d(ins, outs, 1, stride) if stride > 1 or ins != outs else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.second(functional.relu(self.first(x))))
        return functional.relu(self.third(y) + self.short(x))


def resnet50() -> nn.Module:
    """The network of that name, with its batch norms folded."""
    blocks: list[nn.Module] = []
    ins = 64
    for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for index in range(count):
            blocks.append(Bottleneck(ins, width, stride if index == 0 else 1))
            ins = 4 * width
    stem = (nn.Conv2d(3, 64, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000))


class Layer(nn.Module):
    """A layer of BERT-base's encoder."""

    def __init__(self, size: int = 768, heads: int = 12) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(size, size) for _ in range(4))
        self.up, self.down = nn.Linear(size, 4 * size), nn.Linear(4 * size, size)
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        seen = functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
        x = self.norms[0](x + self.out(seen))
        y: torch.Tensor = self.norms[1](x + self.down(functional.gelu(self.up(x))))
        return y


def _median_s(work: Callable[[], object], turns: int = 9, calls: int = 10) -> float:
    for _ in range(5):
        work()
    torch.cuda.synchronize()
    times = []
    for _ in range(turns):
        start = time.perf_counter()
        for _ in range(calls):
            work()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - start) / calls)
    return statistics.median(times)


def main() -> None:
    """Measure everything."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    found: dict[str, float] = {}
    with torch.inference_mode():
        for name, module, shape in (
            ("resnet50", resnet50(), (1, 3, 224, 224)),
            ("bert_base", nn.Sequential(*(Layer() for _ in range(12))), (1, 128, 768)),
        ):
            module, host = module.eval().cuda(), torch.randn(shape)
            found[name] = _median_s(lambda module=module, host=host: module(host.cuda()).cpu())
        for n in PRODUCTS:
            a, b = (torch.randn(n, n, device="cuda") for _ in range(2))
            found[f"product {n}"] = _median_s(lambda a=a, b=b: a @ b)
        for channels, extent, taps in CONVOLUTIONS:
            conv = nn.Conv2d(channels, channels, taps, padding=taps // 2).cuda()
            x = torch.randn(1, channels, extent, extent, device="cuda")
            found[f"conv {channels} {extent} {taps}"] = _median_s(lambda conv=conv, x=x: conv(x))
    print(json.dumps({"device": torch.cuda.get_device_name(), "seconds": found}))


if __name__ == "__main__":
    main()
