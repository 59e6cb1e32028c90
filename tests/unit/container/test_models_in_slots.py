"""The real engine inside the real container: models of a bundle, tensors, and their errors."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from walle_container import TaskHost, TaskSpec
from walle_engine import wmodel


def write_model(path: Path, weights: list[float]) -> None:
    """``y = relu(x w)`` with ``x`` of [N, 2] and ``w`` of [2, 1]."""
    graph = wmodel.Graph(
        name="small",
        inputs=(wmodel.Value("x", "F32", ("N", 2)),),
        outputs=(wmodel.Value("y", "F32", ("N", 1)),),
        nodes=(
            wmodel.Node("MatMul", "product", ("x", "w"), ("p",)),
            wmodel.Node("Relu", "relu", ("p",), ("y",)),
        ),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    wmodel.write(path, graph, {"w": wmodel.Weight("F32", (2, 1), struct.pack("<2f", *weights))})


RUN_MODEL = """
    from walle_task import events, model
    def run():
        small = model.load("small")
        y = small.run({"x": events.last().args["x"]})["y"]
        return [list(small.inputs[0]), y.dtype, list(y.shape), y.tolist()]
"""


def model_inputs(x: Any) -> dict[str, Any]:
    return {"events": [{"seq": 1, "kind": "custom", "args": {"x": x}}], "visit": None, "trigger": {}}


async def test_a_task_runs_a_model_of_its_bundle(host: TaskHost, make_spec: Callable[..., TaskSpec]):
    spec = make_spec(RUN_MODEL)
    write_model(spec.bundle_dir / "model" / "small.wmodel", [2.0, 3.0])
    for _ in range(3):
        result = await host.run(spec, model_inputs([[1, 10], [-1, 0], [0, 0.5]]))
        assert result.error is None
        assert result.value == [["x", "F32", ["N", 2]], "F32", [3, 1], [[32.0], [0.0], [1.5]]]


async def test_a_replaced_model_is_loaded_afresh(host: TaskHost, make_spec: Callable[..., TaskSpec]):
    spec = make_spec(RUN_MODEL)
    for factor in (1.0, 5.0):
        write_model(spec.bundle_dir / "model" / "small.wmodel", [factor, 0.0])
        result = await host.run(spec, model_inputs([[1, 1]]))
        assert result.error is None
        assert result.value[3] == [[factor]]


async def test_engine_errors_are_the_tasks_own(host: TaskHost, make_spec: Callable[..., TaskSpec]):
    spec = make_spec(RUN_MODEL)
    path = spec.bundle_dir / "model" / "small.wmodel"
    write_model(path, [1.0, 1.0])
    wrong_shape = await host.run(spec, model_inputs([[1, 2, 3]]))
    assert wrong_shape.error_kind == "exception"
    assert "EngineError: " in (wrong_shape.error or "")
    path.write_bytes(path.read_bytes()[:-70])
    truncated = await host.run(spec, model_inputs([[1, 2]]))
    assert truncated.error_kind == "exception"
    assert (truncated.error or "").startswith("ModelError: ")
    assert host.statistics().workers_started == 1
