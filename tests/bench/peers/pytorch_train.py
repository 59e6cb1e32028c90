"""PyTorch's training steps on the module of ``pytorch.py``: its first output squared, SGD with momentum."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).parent))
from pytorch import translated

DISTRIBUTION = "torch"


def load(job: Mapping[str, Any]) -> Callable[[], Sequence[object]]:
    """Build the module, let all its tensors of floats be trained; each call is a step.

    The setting ``autocast`` lets products be of bfloat16, with parameters of float32.
    """
    torch.set_num_threads(job["threads"])
    module = translated(job["model"])
    held = [*module.buffers(), *module.parameters()]
    trained = [value.requires_grad_() for value in held if value.is_floating_point()]
    settings = job["settings"]
    optimizer = torch.optim.SGD(trained, settings["rate"], momentum=settings["momentum"], fused=True)
    inputs = [torch.from_numpy(value) for value in job["inputs"].values()]

    def step() -> Sequence[object]:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled="autocast" in settings):
            output = module(*inputs)[0]
        loss = output.float().square().mean()
        loss.backward()
        optimizer.step()
        return [loss.detach().numpy().copy()]

    return step
