"""Training inside the real container, by the real engine: what is learnt, kept, gone on from, and refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from walle_container import TaskHost, TaskSpec
from walle_engine import wmodel

KEY = "tuned"
GRANTED = frozenset({"model", "store"})


def write_line(path: Path, *, width: int = 1) -> None:
    """``y = x w + b``, all zeros."""
    graph = wmodel.Graph(
        name="line",
        inputs=(wmodel.Value("x", "F32", ("N", width)),),
        outputs=(wmodel.Value("y", "F32", ("N", 1)),),
        nodes=(
            wmodel.Node("MatMul", "product", ("x", "w"), ("p",)),
            wmodel.Node("Add", "sum", ("p", "b"), ("y",)),
        ),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {
        "w": wmodel.Weight("F32", (width, 1), bytes(4 * width)),
        "b": wmodel.Weight("F32", (1,), bytes(4)),
    }
    wmodel.write(path, graph, weights)


TRAIN = """
    from itertools import repeat
    from walle_task import model
    BATCH = {"x": [[0], [1], [2], [3]], "target": [[1], [3], [5], [7]]}  # 2 x + 1
    def run():
        trained = model.train(
            "line", repeat(BATCH), steps=STEPS, seconds=SECONDS, loss="mean_squared_error",
            optimizer="sgd", rate=0.1, checkpoint="tuned",
        )
        y = trained.model.run({"x": [[10]]})["y"].tolist()
        return [trained.steps, len(trained.losses), trained.losses[-1], y[0][0]]
"""
LOAD = """
    from walle_task import model
    def run():
        return model.load("line", checkpoint="tuned").run({"x": [[10]]})["y"].tolist()[0][0]
"""


def script(steps: int = 200, seconds: float = 60) -> str:
    return TRAIN.replace("STEPS", str(steps)).replace("SECONDS", str(seconds))


class Kept:
    """The store of a device: what runs put is there for the next."""

    def __init__(self, host: TaskHost, model: Path) -> None:
        self.host, self.model = host, model
        self.values: dict[str, Any] = {}

    async def run(self, spec: TaskSpec) -> Any:
        async def get(args: dict[str, Any]) -> Any:
            return self.values.get(args["key"])

        result = await self.host.run(spec, {"events": [], "visit": None, "trigger": {}}, {"store.get": get})
        self.values.update(result.values)
        return result


@pytest.fixture
def kept(host: TaskHost, tmp_path: Path) -> Kept:
    return Kept(host, tmp_path)


def spec_of(make_spec: Callable[..., TaskSpec], text: str, **settings: Any) -> TaskSpec:
    spec = make_spec(text, **{"capabilities": GRANTED, "wall_s": 60.0, **settings})
    write_line(spec.bundle_dir / "model" / "line.wmodel")
    return spec


async def test_a_run_trains_and_the_next_goes_on(kept: Kept, make_spec: Callable[..., TaskSpec]):
    first = await kept.run(spec_of(make_spec, script(40)))
    assert first.error is None
    assert first.value[:2] == [40, 40]
    assert first.value[2] < 0.1
    assert first.value[3] == pytest.approx(21, abs=2)
    later = await kept.run(spec_of(make_spec, script(40)))
    assert later.value[:2] == [80, 40]
    assert later.value[2] < first.value[2] / 2
    loaded = await kept.run(spec_of(make_spec, LOAD))
    assert loaded.value == pytest.approx(later.value[3])


async def test_what_was_learnt_of_another_file_is_nothing(kept: Kept, make_spec: Callable[..., TaskSpec]):
    await kept.run(spec_of(make_spec, script(5)))
    assert set(kept.values) == {KEY, f"{KEY}.0"}
    kept.values[KEY] = {**kept.values[KEY], "model": "0" * 64}
    assert (await kept.run(spec_of(make_spec, LOAD))).value == 0
    assert (await kept.run(spec_of(make_spec, script(5)))).value[0] == 5


async def test_seconds_end_training_and_the_runs_own_limit_ends_the_run(
    kept: Kept, make_spec: Callable[..., TaskSpec]
):
    ended = await kept.run(spec_of(make_spec, script(10**9, 0.05)))
    assert ended.error is None
    assert 0 < ended.value[1] < 10**9
    kept.values.clear()
    stopped = await kept.run(spec_of(make_spec, script(10**9, 600), wall_s=0.5))
    assert stopped.error_kind == "timeout"
    assert kept.values == {}


async def test_memory_is_the_runs_own(kept: Kept, make_spec: Callable[..., TaskSpec]):
    spec = make_spec(
        """
        from array import array
        from walle_task import model
        WIDTH = 1 << 21
        def run():
            x = memoryview(array("f", bytes(4 * WIDTH))).cast("B").cast("f", (1, WIDTH))
            batch = {"x": x, "target": [[1]]}
            return model.train("line", [batch], steps=1, seconds=60, loss="mean_squared_error").steps
        """,
        capabilities=GRANTED,
        wall_s=60.0,
        memory_bytes=24 << 20,
    )
    write_line(spec.bundle_dir / "model" / "line.wmodel", width=1 << 21)
    assert (await kept.run(spec)).error_kind == "memory"


REFUSED: list[tuple[frozenset[str], tuple[str, str], str]] = [
    (frozenset({"store"}), ("", ""), "add 'model' to capabilities"),
    (frozenset({"model"}), ("", ""), "add 'store' to capabilities"),
    (GRANTED, ('loss="mean_squared_error"', 'loss="best"'), "loss is 'best': it must be one of"),
    (GRANTED, ("steps=5", "steps=0"), "both must be positive"),
    (GRANTED, ('optimizer="sgd"', 'optimizer="sgd", trainable=["no*"]'), "no weight fits 'no*'"),
    (GRANTED, ('"line"', '"circle"'), "it has: line"),
]


async def test_what_is_refused(kept: Kept, make_spec: Callable[..., TaskSpec]):
    for granted, change, error in REFUSED:
        result = await kept.run(spec_of(make_spec, script(5).replace(*change), capabilities=granted))
        assert error in (result.error or "")
        assert kept.values == {}


async def test_a_checkpoint_that_could_not_be_kept_is_refused_before_the_first_step(
    kept: Kept, make_spec: Callable[..., TaskSpec]
):
    result = await kept.run(spec_of(make_spec, script(10**9, 600), output_bytes=2000))
    assert "the run may produce 2000 more: train fewer weights" in (result.error or "")
