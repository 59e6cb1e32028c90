"""Where a run's time goes, as the slot saw it."""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType
from typing import Any

import pytest

from walle_container import TaskHost, TaskResult, TaskSpec
from walle_container.profiling import NODES_MAX, CallTree
from walle_container.spec import ProfileNode

from .test_models_in_slots import write_model

SCRIPT = """
    from walle_task import store
    def run():
        total = sum(step(n) for n in range(5))
        store.get("key")
        deep(3)
        try:
            fail()
        except ValueError:
            return total
    def step(n):
        return n
    def deep(n):
        if n:
            deep(n - 1)
    def fail():
        raise ValueError
"""


async def get(args: dict[str, Any]) -> Any:
    return None


def find(result: TaskResult, kind: str, name: str) -> list[ProfileNode]:
    return [node for node in result.profile if (node.kind, node.name) == (kind, name)]


async def test_every_call_is_in_the_tree(
    host: TaskHost, make_spec: Callable[..., TaskSpec], inputs: dict[str, Any]
):
    spec = make_spec(SCRIPT, profile=True)
    for _ in range(2):
        result = await host.run(spec, inputs, {"store.get": get})
        assert (result.error, result.value) == (None, 10)
        root = result.profile[0]
        assert (root.parent, root.kind, root.calls) == (-1, "run", 1)
        (entry,) = find(result, "task", "run")
        assert (entry.place, entry.calls) == ("main.py:3", 1)
        (step,) = find(result, "task", "step")
        assert step.calls == 5
        assert result.profile[step.parent].name == "run.<locals>.<genexpr>"
        assert [node.calls for node in find(result, "task", "deep")] == [1, 1, 1, 1]
        assert [node.calls for node in find(result, "task", "fail")] == [1]
        (call,) = find(result, "host", "store.get")
        assert call.calls == 1
        assert call.total_ns > 0
        for number, node in enumerate(result.profile):
            below = sum(child.total_ns for child in result.profile if child.parent == number)
            assert below <= node.total_ns
    plain = await host.run(make_spec(SCRIPT), inputs, {"store.get": get})
    assert plain.profile == ()


async def test_a_run_that_is_stopped_tells_where_it_was(
    host: TaskHost, make_spec: Callable[..., TaskSpec], inputs: dict[str, Any]
):
    script = """
        def run():
            spin()
        def spin():
            while True:
                pass
    """
    result = await host.run(make_spec(script, profile=True, wall_s=0.1), inputs)
    assert result.error_kind == "timeout"
    (spin,) = find(result, "task", "spin")
    assert spin.total_ns > 0.05e9


async def test_models_and_their_steps_have_nodes(
    host: TaskHost, make_spec: Callable[..., TaskSpec], inputs: dict[str, Any]
):
    script = """
        from walle_task import model
        def run():
            for _ in range(3):
                model.load("small").run({"x": [[1, 2]]})
    """
    spec = make_spec(script, profile=True)
    write_model(spec.bundle_dir / "model" / "small.wmodel", [2.0, 3.0])
    result = await host.run(spec, inputs)
    assert result.error is None
    (model,) = find(result, "model", "small")
    assert model.calls == 3
    steps = [node for node in result.profile if node.kind == "engine"]
    assert steps
    assert all(result.profile[node.parent] is model and node.calls % 3 == 0 for node in steps)
    assert any(node.name.startswith("MatMul") for node in steps)


def code(name: str) -> CodeType:
    return compile("0", name, "eval")


def test_what_was_entered_before_is_not_left():
    tree, outer, inner = CallTree(), code("a"), code("b")
    tree.leave(outer)
    tree.enter(outer)
    tree.enter(inner)
    tree.leave(outer)  # inner was cut short
    tree.leave(inner)
    tree.close()
    assert [row[4] for row in tree.to_plain(())] == [1, 1, 1]


def test_a_tree_has_an_end():
    tree = CallTree()
    keys = [code(str(n)) for n in range(NODES_MAX + 10)]
    for key in keys:
        tree.enter(key)
    for key in reversed(keys):
        tree.leave(key)
    tree.close()
    assert len(tree.to_plain(())) == NODES_MAX


@pytest.mark.parametrize("kind", ["host", "model"])
def test_a_span_counts_once_and_is_left_by_errors(kind: str):
    tree = CallTree()

    def use() -> None:
        with tree.span(kind, "x"):
            tree.add("engine", "Relu", 5)
            raise ValueError("away")

    with pytest.raises(ValueError, match="away"):
        use()
    tree.close()
    rows = tree.to_plain(())
    assert [row[:5] for row in rows[1:]] == [[0, kind, "x", "", 1], [1, "engine", "Relu", "", 1]]
