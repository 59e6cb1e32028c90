"""The engine on an OpenCL device: what it computes beside the CPU, how fast beside a textbook and PyTorch.

A product or convolution is timed inside a model that has many of them in a row, against one that has few:
what copies and starting cost is the same in both. The textbook's product of the same sizes takes turns with
it; for a convolution it gets the matrix of patches for nothing. PyTorch runs where an interpreter of
``WALLE_BENCH_PEERS`` has one that sees a CUDA device. Tasks run in processes of their own, as a kernel that
fails takes the device from its process: the next one goes on behind it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from measuring import Samples, interleave
from peers.torch_cuda_shapes import CONVOLUTIONS, PRODUCTS
from reporting import Cell, Grid, Report, Row
from textbook_opencl import TILES, Textbook
from walle_engine import api, calibration
from walle_engine.bench.peers import find_modules, interpreters

sys.path.append(str(Path(__file__).parents[1] / "support"))
from walle_support.networks import NETWORKS

SECTION = "engine-opencl"
NETS = ("resnet18", "resnet50", "bert_base")
LARGEST_ERROR = 1e-5  # relative, of norms: what 'high' allows a product
FEW, MANY = 2, 18  # links of a chain

type Array = np.ndarray[Any, Any]


def add_options(parser: argparse.ArgumentParser) -> None:
    """What can be said after ``nox -s bench -- engine-opencl``."""
    group = parser.add_argument_group(f"options of {SECTION}")
    group.add_argument("--device", default="opencl", metavar="opencl:N", help="of 'walle-engine devices'")
    group.add_argument("--largest", type=int, default=max(PRODUCTS), metavar="N", help="product to time")


def run(args: argparse.Namespace) -> Report:
    """Check, then measure; nothing where there is no device."""
    devices = api.devices()
    if not devices:
        print("there is no OpenCL device")
        return Report()
    number = int(args.device.partition(":")[2] or 0)
    print(f"{args.device}: {devices[number]}")
    tasks = _tasks()
    found = _in_processes(tasks, args)
    torch = _torch()
    report = Report([row for name in tasks for row in found.get(name, {}).get("rows", [])])
    report.rows = [_with_peer(Row(**row), torch) for row in report.rows]
    report.grids = [_products(found, torch), _convolutions(found, torch)]
    return report


type Task = Callable[[str], dict[str, Any]]


def _tasks() -> dict[str, Task]:
    """All there is to do, by name; each gets the device's name and returns what can be written as JSON."""
    tasks: dict[str, Task] = {"calibration": _calibrate}
    tasks |= {f"family {row[0]}": partial(_check_family, *row) for row in _FAMILIES}
    tasks |= {f"network {name}": partial(_network, name) for name in NETS}
    tasks |= {f"product {n}": partial(_product, n) for n in PRODUCTS}
    tasks |= {f"conv {c} {e} {t}": partial(_convolution, c, e, t) for c, e, t in CONVOLUTIONS}
    return tasks


def _calibrate(device: str) -> dict[str, Any]:
    """What the cost model goes by from here on."""
    path = calibration.calibrate()
    figures = {row.name: row.value for row in calibration.parameters() if row.name.startswith("device.")}
    print(f"{device}: {figures}, kept in {path}", file=sys.stderr)
    return {"figures": figures}


def _in_processes(tasks: Mapping[str, Task], args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Do the tasks in order; a process that fails at one is followed by another from the next on."""
    names = [name for name in tasks if not (name.split()[-1].isdigit() and _is_larger(name, args.largest))]
    found: dict[str, dict[str, Any]] = {}
    while names:
        command = [sys.executable, __file__, args.device, *names]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith(_MARK):
                    print(line.removeprefix(_MARK).rstrip(), flush=True)  # a run that is cut short shows them
                    result = json.loads(line.removeprefix(_MARK))
                    found[result.pop("name")] = result
                    names.pop(0)
        if names and process.returncode != 0:
            print(f"FAILED: {names.pop(0)} (exit code {process.returncode})", flush=True)
    return found


def _is_larger(name: str, largest: int) -> bool:
    kind, *rest = name.split()
    return kind == "product" and int(rest[0]) > largest


_MARK = "result "


def _work(device: str, *names: str) -> None:
    """What one process does."""
    tasks = _tasks()
    for name in names:
        start = time.perf_counter()
        result = tasks[name](device)
        print(f"{name}: {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
        print(_MARK + json.dumps({"name": name, **result}), flush=True)


def _with_peer(row: Row, torch: Mapping[str, float]) -> Row:
    if row.what not in torch:
        return row
    return replace(row, note=f"{row.note}, PyTorch {torch[row.what] * 1e3:.2f} ms")


# ---- What it computes --------------------------------------------------------------------------------------


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _f(*shape: int) -> Array:
    return _rng().standard_normal(shape).astype(np.float32)


#: Name, operator, inputs, weights, attributes.
_FAMILIES: tuple[tuple[str, str, list[Array], list[Array], dict[str, Any]], ...] = (
    ("function", "Erf", [_f(100003)], [], {}),
    ("broadcast", "Add", [_f(7, 1, 33), _f(5, 1)], [], {}),
    ("raster of one region", "Transpose", [_f(17, 33, 65)], [], {"perm": [2, 0, 1]}),
    ("raster of a table", "Concat", [_f(3, 5, 7), _f(3, 2, 7), _f(3, 9, 7)], [], {"axis": 1}),
    ("product of vectors of 4", "MatMul", [_f(3, 200, 256), _f(3, 256, 136)], [], {}),
    ("product of odd sizes", "MatMul", [_f(131, 77), _f(77, 61)], [], {}),
    ("product, split along k", "MatMul", [_f(16, 4096)], [_f(4096, 32)], {}),
    ("convolution 3 x 3", "Conv", [_f(2, 32, 29, 31)], [_f(48, 32, 3, 3)], {"pads": [1, 1, 1, 1]}),
    ("convolution 7 x 7", "Conv", [_f(1, 3, 65, 65)], [_f(8, 3, 7, 7)], {"strides": [2, 2], "pads": [3] * 4}),
    ("convolution 1 x 1", "Conv", [_f(2, 64, 14, 14)], [_f(96, 64, 1, 1)], {}),
    ("convolution, grouped", "Conv", [_f(1, 64, 20, 20)], [_f(64, 16, 3, 3)], {"group": 4, "pads": [1] * 4}),
    ("depthwise", "Conv", [_f(1, 64, 20, 20)], [_f(64, 1, 3, 3)], {"group": 64, "pads": [1] * 4}),
    ("pool of largest", "MaxPool", [_f(1, 16, 33, 33)], [], {"kernel_shape": [3, 3], "strides": [2, 2]}),
    ("pool of means", "AveragePool", [_f(1, 16, 33, 33)], [], {"kernel_shape": [3, 3], "pads": [1] * 4}),
    ("softmax", "Softmax", [_f(65, 1000)], [], {}),
    ("layer norm", "LayerNormalization", [_f(65, 768)], [_f(768), _f(768)], {}),
    (
        "attention", "Attention", [_f(1, 12, 128, 64), _f(1, 12, 128, 64), _f(1, 12, 128, 64)], [],
        {"is_causal": 1},
    ),
    ("reduction of rows", "ReduceSum", [_f(33, 5000)], [np.array([1])], {}),
    ("reduction of columns", "ReduceMax", [_f(500, 333)], [np.array([0])], {}),
    ("indexed read", "Gather", [_f(1000, 65)], [_rng().integers(-1000, 1000, (3, 77))], {}),
    ("order", "ArgMax", [_f(99, 501)], [], {"axis": 1}),
)  # fmt: skip


def _model(op: str, inputs: list[Array], weights: list[Array], attrs: Mapping[str, Any]) -> api.Model:
    builder = api.GraphBuilder(op)
    for index, value in enumerate(inputs):
        builder.input(f"x{index}", "F32", value.shape)
    for index, value in enumerate(weights):
        builder.weight(f"w{index}", value)
    names = [f"x{i}" for i in range(len(inputs))] + [f"w{i}" for i in range(len(weights))]
    builder.node(op, names, ["y"], name=op, **attrs)
    builder.output("y")
    return builder.finish()


def _error(got: object, want: object) -> float:
    found, expected = (np.asarray(value, np.float64) for value in (got, want))
    return float(np.linalg.norm(found - expected) / max(np.linalg.norm(expected), 1e-30))


def _check_family(
    name: str, op: str, inputs: list[Array], weights: list[Array], attrs: Mapping[str, Any], device: str
) -> dict[str, Any]:
    model = _model(op, inputs, weights, attrs)
    given = {f"x{index}": value for index, value in enumerate(inputs)}
    start = time.perf_counter()
    got = model.session(backend=device).run(given)["y"]
    first_s = time.perf_counter() - start
    error = _error(got, model.session(backend="cpu", precision="highest").run(given)["y"])
    if not error <= LARGEST_ERROR:
        raise RuntimeError(f"{name} on {device} is off by {error:.2e}")
    note = f"{first_s:.2f} s to prepare and run"
    return {"rows": [asdict(Row(SECTION, f"{name}: error", error, "", error, error, note))]}


# ---- How fast ----------------------------------------------------------------------------------------------


def _torch() -> dict[str, float]:
    """Seconds of PyTorch on CUDA; empty where no interpreter has it."""
    for python in interpreters(["python3"]):
        if "torch" not in find_modules(["torch"], [python]):
            continue
        script = Path(__file__).parent / "peers" / "torch_cuda.py"
        done = subprocess.run([python, str(script)], capture_output=True, text=True, timeout=300, check=False)
        if done.returncode == 0:
            found = json.loads(done.stdout.splitlines()[-1])
            print(f"PyTorch: {found['device']}")
            return dict(found["seconds"])
        print(f"PyTorch of {python}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
    return {}


def _network(name: str, device: str) -> dict[str, Any]:
    network = NETWORKS[name]()
    model = network.load()
    start = time.perf_counter()
    session = model.session(backend=device, search="measure", search_s=60)
    plain = model.session(threads=16, backend="cpu")
    got = session.run(network.inputs)
    first_s = time.perf_counter() - start
    want = model.session(threads=16, backend="cpu", precision="highest").run(network.inputs)
    error = max(_error(got[key], want[key]) for key in want)
    if not error <= LARGEST_ERROR:
        raise RuntimeError(f"{name} on {device} is off by {error:.2e}")
    samples = interleave(
        {"device": lambda: session.run(network.inputs), "cpu": lambda: plain.run(network.inputs)}, turns=7
    )
    note = f"CPU {samples['cpu'].median_s * 1e3:.2f} ms, first run {first_s:.2f} s, error {error:.1e}"
    low, high = samples["device"].span_s
    row = Row(SECTION, name, samples["device"].median_s * 1e3, "ms", low * 1e3, high * 1e3, note)
    return {"rows": [asdict(row)], "steps": _steps(session, network.inputs)}


def _steps(session: api.Session, inputs: Mapping[str, Array]) -> list[str]:
    """The dearest kinds of steps, for who wants to know where the time goes; each waits for the device."""
    with session.profile() as profile:
        session.run(inputs)
    rows = profile.table()[:8]
    lines = [f"{row}" for row in rows]
    print("\n".join(lines), file=sys.stderr)
    return lines


def _link_s(
    links: Callable[[int], api.Model], given: Mapping[str, Array], sizes: tuple[int, int, int], device: str
) -> dict[str, float]:
    """Seconds of one link, and of the textbook's product of m, n, k: that of its tiles that does better."""
    few, many = (links(count).session(backend=device, search="measure", search_s=60) for count in (FEW, MANY))
    books = {tile: Textbook(int(device.partition(":")[2] or 0), tile).product(*sizes) for tile in TILES}
    contestants: dict[str, Callable[[], object]] = {
        "few": lambda: few.run(given),
        "many": lambda: many.run(given),
        **{f"textbook {tile}": book for tile, book in books.items()},
    }
    samples: dict[str, Samples] = interleave(contestants, turns=7)
    more_s = float(samples["many"].median_s - samples["few"].median_s)
    textbook_s = min(float(samples[f"textbook {tile}"].median_s) for tile in TILES)
    return {"walle": max(more_s, 1e-9) / (MANY - FEW), "textbook": textbook_s}


def _product(n: int, device: str) -> dict[str, Any]:
    return {"seconds": _link_s(partial(_product_chain, n), {"x": _f(n, n)}, (n, n, n), device)}


def _convolution(channels: int, extent: int, taps: int, device: str) -> dict[str, Any]:
    x, sizes = _f(1, channels, extent, extent), (channels, extent * extent, channels * taps * taps)
    return {"seconds": _link_s(partial(_conv_chain, channels, extent, taps), {"x": x}, sizes, device)}


def _seconds(found: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, float]:
    return dict(found.get(name, {}).get("seconds", {}))


def _products(found: Mapping[str, Mapping[str, Any]], torch: Mapping[str, float]) -> Grid:
    grid = Grid(SECTION, "products of square matrices", "ms")
    for n in PRODUCTS:
        cells = _seconds(found, f"product {n}") | {"PyTorch": torch.get(f"product {n}", 0.0)}
        _put_row(grid, f"{n}", cells, 1e3, 2 * n**3)
    return grid


def _convolutions(found: Mapping[str, Mapping[str, Any]], torch: Mapping[str, float]) -> Grid:
    grid = Grid(SECTION, "convolutions: channels, extent, filter", "us")
    for channels, extent, taps in CONVOLUTIONS:
        name = f"conv {channels} {extent} {taps}"
        flop = 2 * channels * channels * taps * taps * extent * extent
        cells = _seconds(found, name) | {"PyTorch": torch.get(name, 0.0)}
        _put_row(grid, f"{channels} x {extent}, {taps} x {taps}", cells, 1e6, flop)
    return grid


def _put_row(grid: Grid, row: str, cells: Mapping[str, float], scale: float, flop: int) -> None:
    for column, seconds in cells.items():
        if seconds:
            text = f" {flop / seconds / 1e12:.2f} TFLOP/s"
            grid.put(row, column, Cell(seconds * scale, text=text))


def _product_chain(n: int, count: int) -> api.Model:
    builder = api.GraphBuilder("products")
    builder.input("x", "F32", (n, n))
    builder.weight("w", _f(n, n) / np.float32(np.sqrt(n)))
    for index in range(count):
        builder.node(
            "MatMul", [f"y{index - 1}" if index else "x", "w"], [f"y{index}"], name=f"product{index}"
        )
    builder.node("ReduceSum", [f"y{count - 1}"], ["y"], name="sum", keepdims=0)
    builder.output("y")
    return builder.finish()


def _conv_chain(channels: int, extent: int, taps: int, count: int) -> api.Model:
    builder = api.GraphBuilder("convolutions")
    builder.input("x", "F32", (1, channels, extent, extent))
    gain = np.float32(1 / np.sqrt(channels * taps * taps))
    builder.weight("w", _f(channels, channels, taps, taps) * gain)
    for index in range(count):
        builder.node(
            "Conv", [f"y{index - 1}" if index else "x", "w"], [f"y{index}"], name=f"conv{index}",
            pads=[taps // 2] * 4,
        )  # fmt: skip
    builder.node("ReduceSum", [f"y{count - 1}"], ["y"], name="sum", keepdims=0)
    builder.output("y")
    return builder.finish()


if __name__ == "__main__":
    _work(*sys.argv[1:])
