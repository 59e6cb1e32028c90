"""The real engine inside the real container: models of a bundle, tensors, and their errors."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from walle_container import TaskHost, TaskLimits, TaskSpec
from walle_engine import wmodel
from walle_support.scripts import BYPASS


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


TENSORS = (
    BYPASS
    + """
Tensor = reach("walle_engine._native", fromlist=["Tensor"]).Tensor
kept = []
def run():
    for _ in range(40):
        Tensor((1 << 18,), "F32")  # 1 MiB each, gone at once
    return [kept.append(Tensor((1 << 18,), "F32")) for _ in range(COUNT)] and len(kept)
"""
)


@pytest.mark.parametrize("tier", ["interp", "process"])
async def test_tensors_are_charged_to_the_run_and_given_back(
    host: TaskHost, make_spec: Callable[..., TaskSpec], tier: str
):
    def spec(tensors: int) -> TaskSpec:
        return make_spec(TENSORS.replace("COUNT", str(tensors)), memory_bytes=32 << 20, tier=tier)

    async def failed(tensors: int) -> bool:
        result = await host.run(spec(tensors), model_inputs([]))
        assert result.error_kind in (None, "memory")
        if result.ok:
            assert tensors << 20 <= result.peak_bytes <= (tensors + 3) << 20
        return not result.ok

    for _ in range(3):  # each run starts from nothing, whatever the one before it took
        assert not await failed(26)
        assert await failed(33)
    assert host.statistics().workers_lost == 0


async def test_a_task_may_catch_that_a_tensor_is_too_large(
    host: TaskHost, make_spec: Callable[..., TaskSpec]
):
    script = TENSORS.partition("kept")[0] + (
        "from walle_shared.errors import OutOfMemory\n"
        "def run():\n"
        "    try:\n        Tensor((1 << 28,), 'F32')\n"
        "    except OutOfMemory:\n        return Tensor((4,), 'F32').tolist()\n"
    )
    result = await host.run(make_spec(script), model_inputs([]))
    assert result.value == [0.0, 0.0, 0.0, 0.0]


async def test_a_sessions_memory_is_charged_to_the_run_that_prepares_it(
    host: TaskHost, make_spec: Callable[..., TaskSpec]
):
    spec = make_spec(
        """
        from array import array
        from walle_task import model
        def run():
            x = array("f", bytes(8 * ROWS))
            return model.load("small").run({"x": memoryview(x).cast("B").cast("f", (ROWS, 2))})["y"].shape[0]
    """.replace("ROWS", str(1 << 20)),
        memory_bytes=64 << 20,
    )
    write_model(spec.bundle_dir / "model" / "small.wmodel", [2.0, 3.0])
    first, second = [await host.run(spec, model_inputs([])) for _ in range(2)]
    assert first.value == second.value == 1 << 20
    # 8 MiB of input and 4 MiB of output at least; the second finds the session's own memory prepared.
    assert 12 << 20 <= second.peak_bytes <= first.peak_bytes
    tight = TaskSpec(spec.task, spec.version, spec.bundle_dir, limits=TaskLimits(memory_bytes=10 << 20))
    assert (
        await host.run(replace(tight, capabilities=spec.capabilities), model_inputs([]))
    ).error_kind == "memory"
    assert (await host.run(spec, model_inputs([]))).ok
