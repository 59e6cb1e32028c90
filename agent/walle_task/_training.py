"""Training of a model of the bundle within a run: what :func:`walle_task.model.train` does.

Invariants:

1. A checkpoint is of one model file: it is told by its digest, and of another file it is nothing.
2. That a checkpoint fits what the run may produce is known before the first step.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from walle_shared.errors import LimitExceeded, TaskError
from walle_shared.limits import TASK_ROW_MAX_BYTES
from walle_task import clock, store
from walle_task.context import RunContext

type LossName = Literal["cross_entropy", "binary_cross_entropy", "mean_squared_error"]
type OptimizerName = Literal["adam", "adamw", "sgd"]

_LOSSES = {
    "cross_entropy": "CrossEntropy",
    "binary_cross_entropy": "BinaryCrossEntropy",
    "mean_squared_error": "MeanSquaredError",
}
_OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}

# Characters of base64 under one key of the store: a value's limit, less what is written around it.
_PART_CHARS = TASK_ROW_MAX_BYTES - 1024
_CHECKPOINT_OVERHEAD_BYTES = 2048


class Checkpoint:
    """What training left in the store under a key.

    Args:
        key: in the store; parts lie under ``<key>.<number>``.
        model: the model's file.
    """

    def __init__(self, key: str, model: Path) -> None:
        self._key = key
        self._digest = hashlib.sha256(model.read_bytes()).hexdigest()

    def read(self) -> tuple[dict[str, bytes], int] | None:
        """What is there of this model, with the number of steps it took; None: nothing."""
        head = store.get(self._key)
        if not isinstance(head, dict) or head.get("model") != self._digest:
            return None
        parts = [store.get(f"{self._key}.{part}") for part in range(head["parts"])]
        if not all(isinstance(part, str) for part in parts):
            return None
        data = base64.b64decode("".join(parts))
        values, at = dict[str, bytes](), 0
        for name, size in head["values"]:
            values[name] = data[at : at + size]
            at += size
        return values, head["steps"]

    def pack(self, values: Mapping[str, bytes], steps: int) -> bytes:
        """A checkpoint as one file: a line of JSON, and the values one after another."""
        sizes = [[name, len(value)] for name, value in values.items()]
        head = json.dumps({"model": self._digest, "steps": steps, "values": sizes})
        return head.encode() + b"\n" + b"".join(values.values())

    def unpack(self, data: bytes) -> tuple[dict[str, bytes], int] | None:
        """What :meth:`pack` wrote, if it is of this model; None: of another, or damaged."""
        line, _, body = data.partition(b"\n")
        try:
            head = json.loads(line)
            sizes = [(str(name), int(size)) for name, size in head["values"]]
            if head["model"] != self._digest or sum(size for _, size in sizes) != len(body):
                return None
            values, at = dict[str, bytes](), 0
            for name, size in sizes:
                values[name] = body[at : at + size]
                at += size
            return values, int(head["steps"])
        except (ValueError, KeyError, TypeError):
            return None

    def write(self, values: Mapping[str, bytes], steps: int) -> None:
        """Keep ``values``, if the run ends well."""
        text = base64.b64encode(b"".join(values.values())).decode()
        parts = [text[at : at + _PART_CHARS] for at in range(0, len(text), _PART_CHARS)]
        for number, part in enumerate(parts):
            store.put(f"{self._key}.{number}", part)
        sizes = [[name, len(value)] for name, value in values.items()]
        head = {"model": self._digest, "steps": steps, "parts": len(parts), "values": sizes}
        store.put(self._key, head)


def make_trainer(
    path: Path,
    load: Callable[[bytes], Any],
    *,
    loss: str,
    optimizer: str,
    rate: float,
    trainable: Sequence[str] | None,
    seed: int,
    batch_statistics: bool = True,
) -> Any:
    """A trainer of the model in ``path`` whose program the engine runs in this interpreter."""
    try:
        train = importlib.import_module("walle_engine.train")
    except ImportError as error:
        raise TaskError(f"the tensor engine cannot be loaded here: {error}") from error
    return train.Trainer(
        path,
        getattr(train, _choice("loss", loss, _LOSSES))(),
        getattr(train, _choice("optimizer", optimizer, _OPTIMIZERS))(rate),
        trainable=trainable,
        seed=seed,
        batch_statistics=batch_statistics,
        load=load,
    )


def _choice(what: str, name: str, known: Mapping[str, str]) -> str:
    if name not in known:
        raise TaskError(f"{what} is {name!r:.80}: it must be one of {', '.join(known)}")
    return known[name]


def check_fits(context: RunContext, trainer: Any) -> None:
    """Refuse to begin what could not be kept.

    Raises:
        LimitExceeded: naming both sizes.
    """
    names = sum(len(json.dumps(name)) + 24 for name in trainer.checkpoint())
    needed = trainer.changed_bytes * 4 // 3 + names + _CHECKPOINT_OVERHEAD_BYTES
    left = context.output_bytes - context.produced_bytes
    if needed > left:
        raise LimitExceeded(
            f"the checkpoint would take {needed} bytes and the run may produce {left} more: "
            'train fewer weights by trainable=["..."], or raise limits.output_bytes in task.toml'
        )


def run_steps(
    trainer: Any, batches: Iterable[Mapping[str, object]], steps: int, seconds: float
) -> list[float]:
    """Train until batches, steps or seconds are used up; returns the loss before each step."""
    losses: list[float] = []
    until = clock.monotonic() + seconds
    for batch in batches:
        losses.append(trainer.step(batch))
        if len(losses) >= steps or clock.monotonic() >= until:
            break
    return losses
