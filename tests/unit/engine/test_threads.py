"""Threads: many callers of many sessions get the results of one, and a forked child works on."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from walle_engine import api, wmodel

CALLERS = 6


def _product(rows: int = 256, width: int = 256) -> api.Model:
    """Two products and what lies between them: loops of several kinds, long enough to be shared out."""
    builder = api.GraphBuilder("product")
    rng = np.random.default_rng(0)
    builder.input("x", "F32", (rows, width))
    builder.weight("w", rng.normal(size=(width, width)).astype(np.float32))
    builder.node("MatMul", ["x", "w"], ["p"])
    builder.node("Softmax", ["p"], ["s"])
    builder.node("MatMul", ["s", "x"], ["y"])
    builder.output("y")
    return builder.finish()


@pytest.mark.slow
def test_callers_at_once_get_the_results_of_one() -> None:
    model = _product()
    x = np.random.default_rng(1).normal(size=(256, 256)).astype(np.float32)
    want = np.asarray(model.session(threads=1).run({"x": x})["y"])
    sessions = [model.session(threads=threads) for threads in (1, 2, 3, 64)]
    failures: list[str] = []

    def work(number: int) -> None:
        for turn in range(20):
            got = np.asarray(sessions[(number + turn) % len(sessions)].run({"x": x})["y"])
            if not np.allclose(got, want, rtol=1e-5, atol=1e-5):
                failures.append(f"caller {number}, turn {turn}")

    callers = [threading.Thread(target=work, args=(number,)) for number in range(CALLERS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert failures == []


_FORK = """
import os, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from test_threads import _product

session = _product().session(threads=2)
x = np.ones((256, 256), np.float32)
want = np.asarray(session.run({"x": x})["y"])
child = os.fork()
same = np.array_equal(np.asarray(session.run({"x": x})["y"]), want)
if child == 0:
    os._exit(0 if same else 3)
assert same and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.mark.slow
def test_a_forked_child_runs_its_sessions() -> None:
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _FORK, here],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.optimised("isa")
def test_sessions_share_packed_weights_in_any_order_of_their_ends(tmp_path: Path) -> None:
    graph = wmodel.Graph(
        name="wide",
        inputs=(wmodel.Value("x", "F32", ("N", 64)),),
        outputs=(wmodel.Value("y", "F32", ("N", 96)),),
        nodes=(wmodel.Node("MatMul", "product", ("x", "w"), ("y",)),),
    )
    w = np.random.default_rng(0).normal(size=(64, 96)).astype(np.float32)
    wmodel.write(tmp_path / "wide.wmodel", graph, {"w": wmodel.weight_from_array(w)})
    model = api.load(tmp_path / "wide.wmodel")
    x = np.random.default_rng(1).normal(size=(48, 64)).astype(np.float32)
    first, second = model.session(), model.session(threads=2)
    for session in (first, second):
        np.testing.assert_allclose(np.asarray(session.run({"x": x})["y"]), x @ w, rtol=1e-4, atol=1e-4)
        assert session.explain()["memory"]["packed_bytes"] >= w.nbytes
    del first
    for rows in (48, 1, 17):  # other shapes of the session that is left, and one made later
        for session in (second, model.session()):
            got = np.asarray(session.run({"x": x[:rows]})["y"])
            np.testing.assert_allclose(got, x[:rows] @ w, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_a_filled_border_is_shared_out(dtype: type[np.generic]) -> None:
    x = np.ones((3, 5), dtype)
    width = 40_001  # several blocks, and a part of one
    builder = api.GraphBuilder("border")
    builder.input("x", wmodel.dtype_name(x.dtype), x.shape)
    builder.weight("pads", np.array([1, 7, 2, width], np.int64))
    builder.weight("fill", np.array(3, dtype))
    builder.node("Pad", ["x", "pads", "fill"], ["y"])
    builder.output("y")
    y = np.asarray(builder.finish().session(threads=2).run({"x": x})["y"])
    np.testing.assert_array_equal(y, np.pad(x, [(1, 2), (7, width)], constant_values=3))
