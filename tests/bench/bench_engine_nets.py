"""The engine beside all others on whole networks: latency, load, memory and accuracy."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from reference import float64_outputs, frobenius_error, largest_error
from reporting import Cell, Grid, Report
from walle_engine import api
from walle_engine.bench.driver import ENGINES, Contestant, Samples, Worker, fastest, race, running
from walle_engine.bench.peers import PEERS, Peer, interpreters, resolve
from walle_engine.convert import convert

sys.path.append(str(Path(__file__).parents[1] / "support"))
from walle_support import networks
from walle_support.networks import NETWORKS, VARIANTS

SECTION = "engine-nets"
ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "bench"
HERE = Path(__file__).parent / "peers"

PRECISIONS = ("highest", "high", "medium")
ALL_PEERS = (
    *PEERS,
    Peer("MNN", "MNN", HERE / "mnn.py"),
    Peer("ncnn", "ncnn", HERE / "ncnn.py"),
    Peer("PyTorch", "torch", HERE / "pytorch.py"),
    Peer("PyTorch compiled", "torch", HERE / "pytorch.py", {"compile": "yes"}),
)
#: Left out unless asked for: compiling takes ten seconds and more for each model.
SLOW = ("PyTorch compiled",)
#: What a reader of the table has to know about a peer.
REMARKS = {
    "ncnn": "MNN, ncnn and we load a file of our own, converted beforehand; the others read the ONNX file",
    "MNN": "MNN: the wheel, which uses AVX2 alone",
    "OpenVINO": "OpenVINO: its own choice of precision, bfloat16 where the processor has instructions for it",
    "PyTorch": "PyTorch: load includes building the module",
}
#: The same of runs that are capped. Measured: eight products of 128 x 512 x 512, capped to AVX2, at
#: 237 GFLOP/s on a processor whose AVX2 can do 131; its own profile names the kernel.
CAPPED_REMARK = (
    "OpenVINO's cap is oneDNN's alone: its fully connected layers, most of BERT, run in MLAS "
    "(gemm_mlas_f32) and use AVX-512 all the same"
)
_FULL = [peer.name for peer in ALL_PEERS if peer.full]
#: Of our precisions: who it is compared with, and the column that says how much faster it is than their best.
RATIOS = (
    ("walle highest", _FULL, "highest / best f32"),
    ("walle high", _FULL, "high / best f32"),
    ("walle medium", [peer.name for peer in ALL_PEERS if not peer.full], "medium / OpenVINO"),
)


def section_name(isa: str | None) -> str:
    """Under which figures are kept: those of a capped run apart."""
    return f"{SECTION}-{isa}" if isa else SECTION


def add_options(parser: argparse.ArgumentParser) -> None:
    """What can be said after ``nox -s bench -- engine-nets``."""
    group = parser.add_argument_group(
        f"options of {SECTION}, the first two of engine-search, engine-train as well"
    )
    group.add_argument(
        "--models",
        type=_names({**NETWORKS, **VARIANTS}),
        default=list(NETWORKS),
        metavar="A,B",
        help=", ".join([*NETWORKS, *VARIANTS]),
    )
    group.add_argument("--threads", type=_numbers, default=[1, 2], metavar="1,2")
    names = [peer.name for peer in ALL_PEERS]
    group.add_argument(
        "--peers",
        type=_names(names),
        default=[name for name in names if name not in SLOW],
        metavar="A,B",
        help=", ".join(names),
    )
    group.add_argument("--precisions", type=_names(PRECISIONS), default=list(PRECISIONS), metavar="A,B")
    group.add_argument(
        "--isa", help="cap the instruction set of all engines that can be capped: avx2, avx512, ..."
    )
    group.add_argument("--turns", type=int, default=7, metavar="N", help="undisturbed turns of each engine")
    group.add_argument("--turn-s", type=float, default=0.3, metavar="S", help="how long a turn lasts")
    group.add_argument(
        "--urgent", action="store_true", help="run before all other processes; needs the right to"
    )
    group.add_argument(
        "--quick", action="store_true", help="three short turns, 'high' alone of our precisions"
    )


def _names(known: Sequence[str] | Mapping[str, object]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return names

    return parse


def _numbers(text: str) -> list[int]:
    if not all(part.isdecimal() and int(part) for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers above 0")
    return [int(part) for part in text.split(",")]


def run(args: argparse.Namespace) -> Report:
    """Measure every model with every number of threads."""
    if args.quick:
        args = argparse.Namespace(**{**vars(args), "turns": 3, "turn_s": 0.1, "precisions": ["high"]})
    peers, missing = resolve([p for p in ALL_PEERS if p.name in args.peers], pythons(), args.isa)
    tables = _Tables(args.isa)
    for name, why in missing.items():
        tables.note("", f"{name}: {why}")
    for peer in peers:
        if peer.name in REMARKS:
            tables.note("", REMARKS[peer.name])
    if args.isa and any(peer.name.startswith("OpenVINO") for peer in peers):
        tables.note("", CAPPED_REMARK)
    for model in args.models:
        folder = model_folder(model)
        tables.add_plan(model, planned_memory(folder))
        for threads in args.threads:
            _measure(model, folder, threads, peers, args, tables)
    return tables.report()


def pythons() -> list[str]:
    """The interpreters that may have peers."""
    return interpreters([str(BUILD / "peers" / "bin" / "python")])


def model_folder(model: str) -> Path:
    """Write a network and its inputs once for each version of its source; convert it anew each time."""
    source = Path(networks.__file__).read_bytes()
    folder = BUILD / "networks" / f"{model}-{hashlib.sha256(source).hexdigest()[:12]}"
    if not (folder / "inputs.npz").exists():
        folder.mkdir(parents=True, exist_ok=True)
        network = {**NETWORKS, **VARIANTS}[model]()
        network.save(folder / "model.onnx")
        np.savez(folder / "inputs.npz", allow_pickle=False, **network.inputs)
    convert(folder / "model.onnx", folder / "model.wmodel", check=False)
    return folder


def planned_memory(folder: Path) -> Mapping[str, int]:
    """The memory plan of our engine for a network; empty where it is more than one program."""
    session = api.load(folder / "model.wmodel").session()
    with np.load(folder / "inputs.npz") as arrays:
        session.prepare(dict(arrays))
    memory: Mapping[str, int] = session.explain().get("memory", {})
    return memory


def ours(folder: Path, precision: str, isa: str | None) -> Contestant:
    """Our engine with the converted model of a folder."""
    settings = {"converted": str(folder / "model.wmodel"), "precision": precision}
    environment = {"WALLE_ENGINE_ISA": isa} if isa else {}
    return Contestant(f"walle {precision}", ENGINES / "walle.py", settings, environment=environment)


def _measure(
    model: str,
    folder: Path,
    threads: int,
    peers: Sequence[Contestant],
    args: argparse.Namespace,
    tables: _Tables,
) -> None:
    contestants = [*(ours(folder, precision, args.isa) for precision in args.precisions), *peers]
    job = {
        "model": str(folder / "model.onnx"), "folder": str(folder), "inputs": str(folder / "inputs.npz"),
        "threads": threads,
    }  # fmt: skip
    with running(contestants, job, urgent=args.urgent) as (workers, failures):
        samples, died = race(workers, turns=args.turns, turn_s=args.turn_s, patience=args.turns)
        row = f"{model}, {threads} thread{'s' * (threads > 1)}"
        for name, why in {**failures, **died}.items():
            tables.note(row, f"{name}: {why}")
        tables.add_latency(row, samples)
        tables.add_costs(row, workers)
        if not args.quick:
            tables.add_errors(row, workers, float64_outputs(folder))


class _Tables:
    """The grids of the section, as they fill."""

    def __init__(self, isa: str | None) -> None:
        capped = f", capped to {isa}" if isa else ""
        self._versions: dict[str, str] = {}
        section = section_name(isa)
        self.latency = Grid(section, f"Latency{capped}", "ms")
        self.load = Grid(section, f"Load and first inference{capped}", "ms")
        self.memory = Grid(section, f"Growth of peak memory by load and first inference{capped}", "MB")
        self.frobenius = Grid(section, f"Relative Frobenius error against float64{capped}", "")
        self.plan = Grid(section, f"Plan of our tensors' memory{capped}", "MB")
        self.largest = Grid(section, f"Largest error over largest magnitude, against float64{capped}", "")

    def report(self) -> Report:
        versions = ", ".join(f"{name} {version}" for name, version in self._versions.items())
        self.note("", f"versions: {versions}")
        grids = (self.latency, self.load, self.memory, self.plan, self.frobenius, self.largest)
        return Report(grids=[grid for grid in grids if grid.cells])

    def note(self, row: str, text: str) -> None:
        self.latency.note(row, text)

    def add_latency(self, row: str, samples: Mapping[str, Samples]) -> None:
        for name, sample in samples.items():
            low, high = sample.span_s
            self.latency.put(row, name, Cell(sample.median_s * 1e3, low * 1e3, high * 1e3))
        disturbed = [name for name, sample in samples.items() if sample.disturbed]
        if disturbed:
            self.note(row, f"other processes disturbed most turns of {', '.join(disturbed)}")
        for ours, peers, column in RATIOS:
            best = fastest(samples, peers)
            if best is not None and ours in samples:
                ratio = samples[best].median_s / samples[ours].median_s
                self.latency.put(row, column, Cell(ratio, unit="x", text=best))

    def add_costs(self, row: str, workers: Mapping[str, Worker]) -> None:
        for name, worker in workers.items():
            self._versions[worker.loaded.distribution] = worker.loaded.version
            self.load.put(row, name, Cell(worker.loaded.load_s * 1e3))
            self.memory.put(row, name, Cell(worker.loaded.growth_bytes / 1e6))

    def add_plan(self, model: str, memory: Mapping[str, int]) -> None:
        for column, key in (
            ("arena", "arena_bytes"),
            ("no plan can take less", "lower_bound_bytes"),
            ("scratch", "scratch_bytes"),
        ):
            if key in memory:
                self.plan.put(model, column, Cell(memory[key] / 1e6))

    def add_errors(self, row: str, workers: Mapping[str, Worker], reference: Sequence[np.ndarray]) -> None:
        for name, worker in workers.items():
            with np.load(worker.loaded.outputs) as arrays:
                outputs = [arrays[key] for key in arrays.files]
            self.frobenius.put(row, name, Cell(frobenius_error(outputs, reference)))
            self.largest.put(row, name, Cell(largest_error(outputs, reference)))
