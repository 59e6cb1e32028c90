"""``walle-engine``: convert, look into, run and explain models.

Exit codes: 0 done, 1 failed (one sentence on standard error), 2 wrong usage or settings.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from walle_engine import wmodel
from walle_shared.completion import add_completion, script_of
from walle_shared.errors import ConfigError, StorageError, WalleError
from walle_shared.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from walle_engine.api import Search
    from walle_engine.explaining import Regret
    from walle_engine.profile import OpTime

__all__ = ["main"]

#: Examples: the command first, then what it does.
_EXAMPLES = (
    ("convert digits.onnx", "check against ONNX Runtime, write digits.wmodel"),
    ("convert bert-mini/ encoder.wmodel", "a BERT encoder: config.json and model.safetensors"),
    ("compress digits.wmodel --data some.npz", "8-bit integers; the report on the same data"),
    ("compress digits.onnx --data some.npz --judge held.npz", "judged on other data, with labels"),
    ("compress digits.wmodel --store float16", "half the file; no data needed"),
    ("compress bert.wmodel --weights int4 --block 64", "weights alone; no data needed"),
    ("info digits.wmodel", "inputs, outputs, operators, weights"),
    ("run digits.wmodel --input image=one.npy --dim N=1", "an input from a file"),
    ("run digits.wmodel --repeat 1000 --json", "random inputs; timing for a script"),
    ("run digits.wmodel --profile trace.json", "a table of steps, and a trace to look at"),
    ("explain digits.wmodel", "the planned steps, predicted and measured"),
    ("explain digits.wmodel --regret --threads 2", "what other choices would have gained"),
    ("calibrate", "once per machine: lets models be planned for it"),
    ("bench digits.onnx --peers --threads 1,2", "a bar chart beside ONNX Runtime and OpenVINO"),
    ("coverage", "operators, and kernels by instruction set"),
    ("devices", "what models may run on beside the processor"),
    ("run bert.wmodel --backend opencl", "on the first of them"),
    ("workload", "what a new back end would have to implement"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        argv: arguments without the program's name; the process's own where omitted.

    Returns:
        The exit code.
    """
    args = build_parser().parse_args(argv)
    command: Callable[[argparse.Namespace], None] = args.command
    try:
        command(args)
    except _UsageError as error:
        _fail(str(error))
        return 2
    except WalleError as error:
        _fail(str(error))
        return 2 if isinstance(error, ConfigError) else 1
    except ModuleNotFoundError as error:
        return _fail(f"{error.name} is not installed: pip install 'walle[convert]'")
    except BrokenPipeError:
        return 0  # the reader, such as `head`, has seen enough
    return 0


LIST_MARK = "\n  - "  # what begins a line of a list in a message; other line breaks go


def _fail(sentence: str) -> int:
    text, *lines = (" ".join(part.split()) for part in sentence.split(LIST_MARK))
    print(f"walle-engine: error: {LIST_MARK.join((text, *lines))}", file=sys.stderr)
    return 1


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="walle-engine",
        description="Tools for models of the Walle tensor engine.",
        epilog=_examples(""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=_examples(name),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(command=command)
        sub.add_argument("--json", action="store_true", help="print JSON for a script")
        return sub

    convert = add("convert", _convert, "convert a model and check that it computes the same")
    convert.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="an ONNX file, or a folder with config.json and model.safetensors of a BERT encoder",
    )
    convert.add_argument("target", type=Path, nargs="?", metavar="OUT", help="default: MODEL.wmodel")
    convert.add_argument("-o", "--output", type=Path, metavar="OUT", help="the same")
    convert.add_argument("--no-check", action="store_true", help="do not compare with ONNX Runtime")
    convert.add_argument(
        "--no-optimise", action="store_true", help="keep the graph as it is: no folding, no rewrites"
    )
    _add_dims(convert)

    _add_compress(add("compress", _compress, "make a model smaller, and say what that costs"))

    info = add("info", _info, "show what a model file holds")
    info.add_argument("model", type=Path, metavar="MODEL.wmodel")

    run = add("run", _run, "run a model once or many times")
    _add_model(run)
    run.add_argument(
        "--input",
        action="append",
        default=[],
        type=_named,
        metavar="NAME=FILE.npy|random",
        help="an input; those not named are random",
    )
    run.add_argument("--repeat", type=_positive, default=1, metavar="N", help="timed runs, after one more")
    run.add_argument(
        "--profile",
        type=Path,
        metavar="TRACE.json",
        help="time each step of one more run; the file is for ui.perfetto.dev",
    )

    explain = add("explain", _explain, "show the planned steps of a model and what was chosen for each")
    explain.set_defaults(input=[])
    _add_model(explain)
    explain.add_argument("--no-run", action="store_true", help="do not run the model to measure its steps")
    explain.add_argument(
        "--regret", action="store_true", help="time the alternatives of every node as well; takes a while"
    )
    explain.add_argument("--worst", action="store_true", help="the dearest steps first")

    calibrate = add("calibrate", _calibrate, "measure this machine for the cost model, and keep the result")
    calibrate.add_argument("--show", action="store_true", help="measure nothing; print what is believed")
    calibrate.add_argument("--force", action="store_true", help="measure again where that was done before")
    calibrate.add_argument(
        "--forget", action="store_true", help="remove what was kept, measured choices too; measure nothing"
    )

    bench = add("bench", _bench, "time a model, beside other engines where asked")
    bench.add_argument("model", type=Path, metavar="MODEL.onnx|MODEL.wmodel")
    bench.add_argument(
        "--peers",
        action="store_true",
        help="also ONNX Runtime and OpenVINO, where this interpreter or one of WALLE_BENCH_PEERS has them",
    )
    bench.add_argument("--threads", type=_positives, default=[1], metavar="N[,N...]", help="default: 1")
    bench.add_argument("--precision", choices=_PRECISIONS, default="high", help="of Walle; default: high")
    bench.add_argument("--batch", type=_positive, metavar="N", help="size of a symbolic first dim")
    bench.add_argument(
        "--shape",
        action="append",
        default=[],
        type=_named_shape,
        metavar="NAME=N,N,...",
        help="an input's shape",
    )
    bench.add_argument("--turns", type=_positive, default=7, metavar="N", help="of each engine; default: 7")
    bench.add_argument(
        "--turn-s", type=_seconds, default=0.3, metavar="S", help="how long one lasts; default: 0.3"
    )
    _add_dims(bench)

    add(
        "coverage",
        _coverage,
        "list operators, and kernels by instruction set",
    )
    add("devices", _devices, "list what models may run on beside the processor")
    add("workload", _workload, "count what a new back end would have to implement")
    add_completion(commands, parser).set_defaults(command=_complete)
    return parser


def _add_compress(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL.onnx|MODEL.wmodel")
    parser.add_argument("target", type=Path, nargs="?", metavar="OUT", help="default: MODEL-<how>.wmodel")
    parser.add_argument(
        "--data", type=Path, metavar="DATA.npz",
        help="what its values look like: an array for each input, and perhaps 'labels'; some hundred samples",
    )  # fmt: skip
    parser.add_argument(
        "--judge", type=Path, metavar="DATA.npz", help="what the report is made on; default: --data"
    )
    parser.add_argument(
        "--store", choices=("float16", "bfloat16"), help="keep float32, and store weights in 16 bits"
    )
    parser.add_argument(
        "--weights", choices=("int8", "int4"),
        help="keep float32, and store and run weights alone as codes; needs no data",
    )  # fmt: skip
    parser.add_argument(
        "--block", type=int, choices=(16, 32, 64, 128, 256),
        help="weights of a row that share a scale with --weights; default: all with int8, 32 with int4",
    )  # fmt: skip
    parser.add_argument(
        "--asymmetric", action="store_true", help="with --weights: a zero point per block, too"
    )
    parser.add_argument(
        "--method", choices=("minmax", "kl", "percentile"), default="minmax",
        help="how the range of a value is chosen; default: minmax",
    )  # fmt: skip
    parser.add_argument(
        "--percentile",
        type=_percent,
        default=99.99,
        metavar="P",
        help="share that one covers; default: 99.99",
    )
    parser.add_argument(
        "--weight-bits", type=int, choices=range(2, 9), default=8, metavar="2..8", help="default: 8"
    )
    parser.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="LAYER",
        help="stays in float; or a pattern like 'head.*'",
    )
    parser.add_argument(
        "--max-drop", type=_share, metavar="D",
        help="write nothing where the model is worse by more: by the metric of its labels, else by the share "
        "of samples with another best score, else by the relative error",
    )  # fmt: skip
    parser.add_argument(
        "--keep-worst", action="store_true", help="leave layers in float until --max-drop holds"
    )
    parser.add_argument(
        "--metric", choices=("accuracy", "auc", "mse"), help="of the labels; default: what fits them"
    )
    parser.add_argument("--of", metavar="OUTPUT", help="the output that labels are for; default: the first")
    parser.add_argument(
        "--onnx", type=Path, metavar="OUT.onnx", help="write an ONNX file in QDQ form as well"
    )
    parser.add_argument(
        "--batch", type=_positive, default=32, metavar="N", help="samples in a run; default: 32"
    )
    parser.add_argument("--threads", type=_positive, default=1, metavar="N")
    parser.add_argument(
        "--worst", type=_positive, default=8, metavar="N", help="layers to list, the worst first; default: 8"
    )


def _complete(args: argparse.Namespace) -> None:
    print(script_of(build_parser(), args.shell))


def _examples(command: str) -> str:
    """The examples of one command, or all of them for ``""``."""
    chosen = ((words, text) for words, text in _EXAMPLES if command in ("", words.split()[0]))
    return "\n".join(["examples:", *(f"  walle-engine {words:<51}  {text}" for words, text in chosen)])


def _add_dims(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dim", action="append", default=[], type=_dim, metavar="NAME=SIZE", help="size of a symbolic dim"
    )


_PRECISIONS = ("highest", "high", "medium")
_LONGEST_TURN_S = 60


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL.wmodel")
    parser.add_argument("--threads", type=_positive, default=1, metavar="N")
    parser.add_argument(
        "--precision", choices=_PRECISIONS, default="high",
        help="of products: float32, float32 within 1e-5, or bfloat16 inputs where that is faster",
    )  # fmt: skip
    parser.add_argument(
        "--backend", metavar="BACKEND",
        help="cpu, opencl, auto, or one of the devices that 'walle-engine devices' lists; default: cpu",
    )  # fmt: skip
    _add_dims(parser)


def _named(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _dim(text: str) -> tuple[str, int]:
    name, value = _named(text)
    return name, _positive(value)


def _positives(text: str) -> list[int]:
    return [_positive(part) for part in text.split(",")]


def _named_shape(text: str) -> tuple[str, list[int]]:
    name, value = _named(text)
    return name, _positives(value)


def _percent(text: str) -> float:
    return _number(text, "a number above 50, at most 100", lambda value: 50 < value <= 100)


def _share(text: str) -> float:
    return _number(text, "a number from 0 on", lambda value: 0 <= value < float("inf"))


def _number(text: str, wanted: str, fits: Callable[[float], bool]) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not fits(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
    return value


def _seconds(text: str) -> float:
    wanted = f"a number of seconds above 0, at most {_LONGEST_TURN_S}"
    return _number(text, wanted, lambda value: 0 < value <= _LONGEST_TURN_S)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


# ---- Commands ----------------------------------------------------------------------------------------------


def _convert(args: argparse.Namespace) -> None:
    from walle_engine.convert import convert

    if args.output and args.target:
        raise _UsageError(f"both {args.target} and {args.output} are to be written: leave one out")
    beside = args.model.with_name(f"{args.model.name}.wmodel")
    output = (
        args.output or args.target or (beside if args.model.is_dir() else args.model.with_suffix(".wmodel"))
    )
    report = convert(
        args.model,
        output,
        check=not args.no_check,
        optimise=not args.no_optimise,
        sizes=dict(args.dim),
    )
    if args.json:
        _print_json({**asdict(report), "path": str(report.path)})
        return
    print(f"wrote {report.path}, {format_bytes(report.size_bytes)}")
    print(
        f"opset {report.opset}; {report.nodes_before} nodes became {report.nodes_after}: "
        f"{report.nodes_folded} computed now, {sum(report.rewrites.values())} folded into others"
    )
    if report.check is None:
        print("not compared with ONNX Runtime")
    else:
        print(
            f"same results as ONNX Runtime on {report.check.samples} random inputs; "
            f"largest difference {report.check.max_abs_error:.2g}"
        )


def _compress(args: argparse.Namespace) -> None:
    from rich.console import Console

    from walle_engine.compress import compress

    with Console(stderr=True).status("reading") as status:
        made = compress(
            args.model, args.data,
            judge=args.judge, stored=args.store,
            weights=int(args.weights.removeprefix("int")) if args.weights else None, block=args.block,
            symmetric=not args.asymmetric, method=args.method, percentile=args.percentile,
            weight_bits=args.weight_bits, keep=args.keep, max_drop=args.max_drop, keep_worst=args.keep_worst,
            metric=args.metric, output=args.of, batch=args.batch, threads=args.threads,
            progress=lambda what, done, total: status.update(f"{what}: {done} of {total}"),
        )  # fmt: skip
    how = args.store or (f"weights-{args.weights}" if args.weights else f"int{args.weight_bits}")
    target = args.target or args.model.with_name(f"{args.model.stem}-{how}.wmodel")
    made.save(target)
    if args.onnx:
        made.save_onnx(args.onnx)
    if args.json:
        _print_json({"path": str(target), "report": None if made.report is None else asdict(made.report)})
        return
    if made.report is not None:
        from walle_engine.compress.tables import tables_of

        for headers, rows in tables_of(made.report, args.worst):
            _print_table(headers, rows)
    print(f"wrote {target}, {format_bytes(target.stat().st_size)}")


def _info(args: argparse.Namespace) -> None:
    model = wmodel.read(args.model)
    graph = model.graph
    ops = Counter(node.op for node in graph.nodes)
    if args.json:
        _print_json(
            {
                "name": graph.name,
                "producer": graph.producer,
                "opset": graph.opset,
                "size_bytes": model.size_bytes,
                "inputs": [asdict(value) for value in graph.inputs],
                "outputs": [asdict(value) for value in graph.outputs],
                "ops": dict(ops),
                "weights": {name: asdict(info) for name, info in model.weights.items()},
            }
        )
        return
    made_by = graph.producer or "an unknown program"
    print(f"{graph.name}  ({format_bytes(model.size_bytes)}, opset {graph.opset}, made by {made_by})\n")
    values = [("input", v) for v in graph.inputs] + [("output", v) for v in graph.outputs]
    rows = ((kind, value.name, value.dtype or "?", _shape(value.shape)) for kind, value in values)
    _print_table(["", "name", "dtype", "shape"], rows)
    _print_table(["op", "count"], ops.most_common())
    _print_table(
        ["weight", "dtype", "shape", "size"],
        ((n, w.dtype, _shape(w.shape), format_bytes(w.size_bytes)) for n, w in model.weights.items()),
    )


def _run(args: argparse.Namespace) -> None:
    import numpy as np

    inputs = _inputs(args)
    session = _session(args)
    outputs = session.run(inputs)
    times_ms = []
    for _ in range(args.repeat):
        started = time.perf_counter()
        outputs = session.run(inputs)
        times_ms.append((time.perf_counter() - started) * 1e3)
    table = _profile(session, inputs, args.profile) if args.profile else ()
    arrays = {name: np.asarray(value) for name, value in outputs.items()}
    timing = {
        "runs": args.repeat,
        "median_ms": statistics.median(times_ms),
        "min_ms": min(times_ms),
        "max_ms": max(times_ms),
    }
    if args.json:
        described = {
            n: {"dtype": wmodel.dtype_name(a.dtype), "shape": list(a.shape), "data": a.tolist()}
            for n, a in arrays.items()
        }
        profile = {"profile": [asdict(row) for row in table]} if args.profile else {}
        _print_json({"outputs": described, "timing": timing, **profile})
        return
    if args.profile:
        _print_table(
            ["op", "step", "run by", "count", "ms", "share"],
            ((r.op, r.command, r.candidate, r.count, f"{r.total_ms:.3f}", f"{r.share:.1%}") for r in table),
        )
    with np.printoptions(precision=4, suppress=True, threshold=20, linewidth=100):
        for name, array in arrays.items():
            print(f"{name}  {wmodel.dtype_name(array.dtype)} {_shape(array.shape)}\n{array}")
    print(
        f"\n{args.repeat} runs: median {timing['median_ms']:.3f} ms, "
        f"min {timing['min_ms']:.3f} ms, max {timing['max_ms']:.3f} ms"
    )


_MEASURED_RUNS = 9


def _explain(args: argparse.Namespace) -> None:
    from walle_engine import explaining

    session = _session(args)
    inputs = _inputs(args)
    if session.is_module:  # where its programs end is seen with data at hand
        session.run(inputs)
    else:
        session.prepare(inputs)
    program = session.explain()
    if "segments" in program:
        _explain_segments(args, program)
        return
    if not args.no_run:
        session.run(inputs)
        with session.profile() as profile:
            for _ in range(_MEASURED_RUNS):
                session.run(inputs)
        explaining.add_measured(program, profile.steps)
    found = []
    if args.regret:
        exhaustive = _session(args, search="exhaustive")
        exhaustive.prepare(inputs)
        trials = exhaustive.explain()
        program["trials"] = trials["trials"]
        found = explaining.regrets(trials)
    program["totals"] = explaining.totals(program, found)
    if args.json:
        _print_json(program)
        return
    _print_program(program, args.worst)
    _print_regrets(found)


def _explain_segments(args: argparse.Namespace, program: Mapping[str, Any]) -> None:
    if args.json:
        _print_json(program)
        return
    for segment in program["segments"]:
        print(f"nodes from {segment['first_node']} on, {segment['nodes']} of them:")
        _print_program(segment["program"], args.worst)


def _print_program(program: Mapping[str, Any], worst_first: bool) -> None:
    from walle_engine import explaining

    _print_table(
        ["node", "op", "step", "chosen", "result", "predicted µs", "measured µs", "ratio", "bytes", "size"],
        (
            (
                row.nodes,
                row.op,
                row.command,
                row.candidate,
                row.shape,
                f"{row.predicted_ms * 1e3:.2f}",
                "-" if row.measured_ms is None else f"{row.measured_ms * 1e3:.2f}",
                "-" if row.ratio is None else f"{row.ratio:.2f}",
                format_bytes(row.bytes),
                row.size,
            )
            for row in explaining.group(program, worst_first=worst_first)
        ),
    )
    _print_placing(program)
    memory, merging = program["memory"], program["merging"]
    before, after = merging["before"], merging["after"]
    print(
        f"merging: {before['rasters']} rasters that moved {format_bytes(before['bytes'])} became "
        f"{after['rasters']} that move {format_bytes(after['bytes'])}; {merging['composed']} regions "
        f"and {merging['operands']} operands read past a raster, {merging['shared']} rasters are "
        f"shared, {merging['aliases']} move nothing"
    )
    print(f"{program['isa']}, {program['threads']} thread(s), precision {program['precision']}")
    layers = program.get("layers", [])
    if layers:
        on_bytes = sum(layer["on_bytes"] for layer in layers)
        print(
            f"{on_bytes} of {len(layers)} quantised layers run on bytes, where that is predicted to be faster"
        )
    sums = explaining.totals(program)
    measured = (
        "" if sums["measured_ms"] is None else f", measured {format_seconds(sums['measured_ms'] / 1e3)}"
    )
    print(
        f"predicted {format_seconds((sums['predicted_ms'] or 0) / 1e3)}{measured}; "
        f"tensors and scratch take {format_bytes(memory['arena_bytes'])}, no plan could take less than "
        f"{format_bytes(memory['lower_bound_bytes'])}; "
        f"largest scratch {format_bytes(memory['scratch_bytes'])}, "
        f"packed weights {format_bytes(memory['packed_bytes'])}"
    )


def _print_placing(program: Mapping[str, Any]) -> None:
    """What each node would cost in either place, and what the cut chose."""
    placing, copies = program.get("placing"), program["copies"]
    if placing is not None:
        rows = (
            (
                row["node"],
                row["op"],
                f"{row['cpu_ms'] * 1e3:.2f}",
                "-" if row["device_ms"] is None else f"{row['device_ms'] * 1e3:.2f}",
                placing["device"] if row["on_device"] else "cpu",
            )
            for row in placing["nodes"]
        )
        _print_table(["node", "op", "cpu µs", "device µs", "runs on"], rows)
    if placing is not None or program["backend"] != "cpu":
        print(f"copies in a run: {copies['to_device']} to the device, {copies['to_host']} back")
    if memory := program.get("device_memory"):
        constants, run = (format_bytes(memory[name]) for name in ("constant_bytes", "run_bytes"))
        print(f"memory of the device: {constants} of constants, {run} for each run")


def _print_regrets(found: Sequence[Regret]) -> None:
    if not found:
        return
    print()
    _print_table(
        ["node", "op", "chosen by the model", "ms", "fastest", "ms", "lost ms", "tried"],
        (
            (
                row.node if row.count == 1 else f"{row.node} +{row.count - 1}",
                row.op,
                row.chosen,
                f"{row.chosen_ms:.4f}",
                row.best if row.lost_ms else "the same",
                f"{row.best_ms:.4f}",
                f"{row.lost_ms:.4f}",
                row.tried,
            )
            for row in found
        ),
    )
    best_ms = sum(row.count * row.best_ms for row in found)
    lost_ms = sum(row.lost_ms for row in found)
    print(f"the model's choices lose {lost_ms:.3f} ms on the best, {best_ms:.3f} ms: {lost_ms / best_ms:.1%}")


def _forget(args: argparse.Namespace) -> None:
    from walle_engine import calibration, measured

    kinds = (calibration, measured)
    removed = [str(kind.file_path()) for kind in kinds if kind.forget()]
    if args.json:
        _print_json({"removed": removed})
    else:
        print("\n".join(f"removed {path}" for path in removed) or "nothing is kept of this machine")


def _lacks_a_device() -> bool:
    from walle_engine import api, calibration

    return not {device.identity for device in api.devices()} <= calibration.measured_devices()


def _calibrate(args: argparse.Namespace) -> None:
    from walle_engine import calibration

    if args.forget:
        _forget(args)
        return
    path = calibration.file_path()
    done = calibration.load() if not args.force or args.show else False
    if not args.show and (not done or _lacks_a_device()):
        path = calibration.calibrate()
        done = path is not None
    elif not args.show:
        calibration.improve()
    rows, doubt = calibration.parameters(), calibration.is_in_doubt()
    if args.json:
        _print_json(
            {"path": str(path), "kept": done, "in_doubt": doubt, "parameters": [asdict(row) for row in rows]}
        )
        return
    _print_table(
        ["parameter", "value", "standard", "meaning"],
        ((row.name, f"{row.value:.4g}", f"{row.standard:.4g}", row.meaning) for row in rows),
    )
    print(f"kept in {path}" if done else "these are not kept: there is no file of this machine's")
    if doubt:
        print("other work disturbed it: a later process measures again before its first session")


def _bench(args: argparse.Namespace) -> None:
    from walle_engine.bench.compare import Request, compare

    request = Request(
        args.model, args.peers, args.threads, args.precision, args.batch, dict(args.shape), dict(args.dim),
        args.turns, args.turn_s,
    )  # fmt: skip
    if args.json:
        _print_json(asdict(compare(request)))
        return

    from rich.console import Console

    from walle_engine.bench.chart import print_chart

    with Console(stderr=True).status("starting") as status:
        comparison = compare(request, status.update)
    print_chart(Console(), comparison)


def _coverage(args: argparse.Namespace) -> None:
    from walle_engine import api

    ops, isas = api.ops(), api.isas()
    if args.json:
        kernels = [asdict(kernel) for kernel in api.kernels()]
        _print_json({"isa": api.isa(), "ops": [asdict(op) for op in ops], "kernels": kernels})
        return
    by_class = sorted(ops, key=lambda op: (op.op_class, op.name))
    op_rows = ((op.name, op.op_class, op.rule, op.claims) for op in by_class)
    _print_table(["op", "class", "rule", "claimed by"], op_rows)
    rows = ((family, *(row.get(isa, "-") for isa in isas)) for family, row in api.coverage().items())
    _print_table(["kernels", *isas], rows)
    print(f"in use here: {api.isa()} (WALLE_ENGINE_ISA caps it)")


def _devices(args: argparse.Namespace) -> None:
    from walle_engine import api

    found = api.devices()
    if args.json:
        _print_json({"devices": [asdict(device) for device in found]})
        return
    rows = (
        (f"opencl:{number}", device.kind, device.name, device.units, format_bytes(device.memory_bytes),
         "yes" if device.f64 else "no", "yes" if device.f16 else "no", f"{device.platform} {device.driver}")
        for number, device in enumerate(found)
    )  # fmt: skip
    _print_table(["backend", "kind", "name", "units", "memory", "float64", "float16", "driver"], rows)
    if not found:
        print("there is no OpenCL device: models run on the processor")


def _workload(args: argparse.Namespace) -> None:
    from walle_engine import api

    counts = Counter(op.op_class for op in api.ops())
    backends = [*sorted({kernel.isa for kernel in api.kernels()}), *api.BACKENDS[1:]]
    figures = workload(counts, len(backends))
    if args.json:
        _print_json(figures)
        return
    _print_table(["", "operators"], ((name, figures[name]) for name in _WORKLOAD_COUNTS))
    print(f"back ends (instruction sets with kernels, and OpenCL): {', '.join(backends)}")
    print(f"every operator on every back end: {figures['without']} implementations")
    print(f"with geometry rules:              {figures['with']} ({figures['saving']:.0%} fewer)")


_WORKLOAD_COUNTS = ("atomic", "transform", "composite", "flow")


def workload(class_counts: Mapping[str, int], backends: int) -> dict[str, float]:
    """Apply the paper's formula to our own operator table.

    ``(Na + Nt + Nc) B + Nf`` without geometry rules, ``(Na + 1) B + Nt + Nc + Nf`` with them; the one extra
    atomic operator is the raster. Control flow and host operators are written once either way.

    Args:
        class_counts: operators by class name of the operator table.
        backends: number of back ends.

    Source: "Walle" (OSDI 2022), section 4.2.
    """
    atomic = class_counts.get("ATOMIC", 0)
    transform = class_counts.get("TRANSFORM", 0)
    composite = class_counts.get("COMPOSITE", 0)
    flow = class_counts.get("CONTROL", 0) + class_counts.get("HOST", 0)
    without = (atomic + transform + composite) * backends + flow
    with_rules = (atomic + 1) * backends + transform + composite + flow
    return {
        "atomic": atomic,
        "transform": transform,
        "composite": composite,
        "flow": flow,
        "backends": backends,
        "without": without,
        "with": with_rules,
        "saving": 1 - with_rules / without if without else 0.0,
    }


# ---- Shared by commands ------------------------------------------------------------------------------------


def _profile(session: Any, inputs: Mapping[str, Any], path: Path) -> tuple[OpTime, ...]:
    with session.profile() as profile:
        session.run(inputs)
    profile.write_trace(path)
    rows: tuple[OpTime, ...] = profile.table()
    return rows


def _session(args: argparse.Namespace, search: Search = "model") -> Any:
    from walle_engine import api

    model = api.load(args.model)
    return model.session(threads=args.threads, precision=args.precision, search=search, backend=args.backend)


def _inputs(args: argparse.Namespace) -> dict[str, Any]:
    """Load or invent every input of the model."""
    import numpy as np

    from walle_engine.samples import random_array

    given: dict[str, str] = dict(args.input)
    sizes = dict(args.dim)
    rng = np.random.default_rng(0)
    graph = wmodel.read(args.model).graph
    known = [value.name for value in graph.inputs]
    for name in given:
        if name not in known:
            raise _UsageError(f"the model has no input {name!r}: its inputs are {', '.join(known)}")
    return {
        value.name: random_array(value, sizes, 1, rng)
        if given.get(value.name, "random") == "random"
        else _load_npy(Path(given[value.name]))
        for value in graph.inputs
    }


class _UsageError(Exception):
    """The command line asks for something the model does not have."""


def _load_npy(path: Path) -> Any:
    import numpy as np

    try:
        return np.load(path, allow_pickle=False)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise StorageError(f"{path} is not an .npy file of plain numbers: {error}") from error


def _print_json(document: object) -> None:
    print(json.dumps(document, indent=2, default=_plain_json))


def _plain_json(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _shape(shape: Sequence[int | str] | None) -> str:
    if shape is None:
        return "of unknown rank"
    return "[" + ", ".join(str(dim) for dim in shape) + "]"


def _print_table(headers: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Print aligned columns and a blank line; nothing where there are no rows."""
    lines = [[str(cell) for cell in row] for row in rows]
    if not lines:
        return
    lines.insert(0, list(headers))
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print()
