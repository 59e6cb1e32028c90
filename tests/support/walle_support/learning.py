"""A small model of digits, and updates as devices send them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from walle_engine import wmodel
from walle_shared.learning import UPDATE_RECORD, Encoding, OpenRound, UpdatePart, vector_size
from walle_shared.protocol.tunnel import Record
from walle_shared.records import to_plain
from walle_task._updates import cut, encode, flat

HIDDEN = 16

TASK_TOML = """
[task]
scenario = "demo"
name = "greeter"
capabilities = ["events", "model", "store", "tunnel", "params", "log", "learn"]

[[triggers]]
ids = ["event:walle.learning_round"]

[tables.samples]
pixels = "json"
label = "integer"

[learning]
model = "digits"
table = "samples"
min_cohort = 3
"""


def write_digits_model(path: Path, seed: int = 0, hidden: int = HIDDEN) -> Path:
    """A network of 64 pixels (0 to 1), one hidden layer and ten scores; untrained."""
    rng = np.random.default_rng(seed)
    weights = {
        "hidden.weight": rng.standard_normal((64, hidden)) / 8,
        "hidden.bias": np.zeros(hidden),
        "scores.weight": rng.standard_normal((hidden, 10)) / 4,
        "scores.bias": np.zeros(10),
    }
    nodes = (
        wmodel.Node("Gemm", "hidden", ("image", "hidden.weight", "hidden.bias"), ("h",)),
        wmodel.Node("Relu", "bend", ("h",), ("r",)),
        wmodel.Node("Gemm", "out", ("r", "scores.weight", "scores.bias"), ("scores",)),
    )
    graph = wmodel.Graph(
        "digits",
        (wmodel.Value("image", "F32", ("batch", 64)),),
        (wmodel.Value("scores", "F32", ("batch", 10)),),
        nodes,
    )
    stored = {name: wmodel.weight_from_array(value.astype("f4")) for name, value in weights.items()}
    wmodel.write(path, graph, stored)
    return path


def npz(**arrays: Any) -> bytes:
    """Arrays as an ``.npz`` file."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def parts(
    told: OpenRound, vector: Any, *, samples: int = 10, name: str = "u", encoding: Encoding | None = None
) -> list[Record]:
    """The records of an honest update of a round."""
    assert len(vector) == vector_size(told.parameters)
    terms = to_plain(told.terms) | ({"encoding": encoding} if encoding else {})
    body = encode(flat([memoryview(np.asarray(vector, np.float32))]), terms, seed=7)
    return records(told, body, samples=samples, name=name, encoding=terms["encoding"])


def records(
    told: OpenRound, body: bytes, *, samples: int = 10, name: str = "u", encoding: Encoding = "int8"
) -> list[Record]:
    """The records of any bytes as an update of a round."""
    pieces = cut(body)
    return [
        Record(
            told.scenario, told.task, "1.0.0", "r1", UPDATE_RECORD, 0,
            to_plain(UpdatePart(told.plan, told.number, name, i, len(pieces), samples, encoding, piece)),
        )
        for i, piece in enumerate(pieces)
    ]  # fmt: skip
