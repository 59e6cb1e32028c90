"""``walle_task.matrix`` where tasks run: interpreters of their own, with own locks, beside models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from walle_container import TaskHost, TaskSpec

USES_ARRAYS = """
    from walle_task import matrix as np

    def run():
        x = np.arange(12, dtype=np.float32).reshape(3, 4)
        y = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-6)
        best = int(np.argmax(y @ y.T))
        mask = x[x > 5]
        text = repr(np.asarray([1.5, 2.0]))
        return {"best": best, "mask": mask.tolist(), "text": text, "sum": float(x.sum())}
"""

REFUSED = """
    from walle_task import matrix as np

    def run():
        return np.zeros((2, 3)) + np.zeros((4,))
"""


async def test_arrays_work_in_a_slot(
    host: TaskHost, make_spec: Callable[..., TaskSpec], inputs: dict[str, Any], tmp_path: Path
):
    for _ in range(3):  # the slot is used again, and the module with it
        result = await host.run(make_spec(USES_ARRAYS), inputs)
        assert result.error is None
        assert result.value == {
            "best": 0,
            "mask": [6.0, 7.0, 8.0, 9.0, 10.0, 11.0],
            "text": "array([1.5, 2. ])",
            "sum": 66.0,
        }


async def test_what_is_wrong_is_said_with_the_shapes(
    host: TaskHost, make_spec: Callable[..., TaskSpec], inputs: dict[str, Any]
):
    result = await host.run(make_spec(REFUSED), inputs)
    assert result.error_kind == "exception"
    assert "shapes (2, 3) and (4,) do not broadcast" in (result.error or "")
