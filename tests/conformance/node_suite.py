"""ONNX's own test cases through ``WalleBackend``: ``nox -s conformance``, or this file as a program.

::

    parent ── collects the cases (in a process that may import onnx.reference) ──► build/conformance
       └───── worker: one case after another; killed and restarted when it crashes or hangs

The worker is where our engine runs. It refuses to import ``onnx.reference`` or another runtime, and looks at
its modules after each case, so that no node can be computed anywhere but in our C code.
"""

from __future__ import annotations

import argparse
import importlib.abc
import json
import os
import pickle
import re
import selectors
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
NOT_PASSED = Path(__file__).with_name("not_passed.txt")
KINDS = ("node", "simple", "light", "pytorch-operator", "pytorch-converted")
CASE_LIMIT_S = 20.0
PLAIN_CASE_LIMIT_S = 200.0  # of large networks on the plain kernels
REASON_CHARACTERS = 200
FORBIDDEN = (
    "onnx.reference", "onnx.backend.test", "onnxruntime", "torch", "tensorflow", "openvino", "MNN", "ncnn",
    "tvm", "tinygrad", "jax",
)  # fmt: skip
# Why cases do not pass, by the key of the case; the first that fits counts.
REASONS = (
    (r"node/test_bernoulli", "ONNX defines no random stream: the answer is what NumPy drew"),
    (r"node/test_training_dropout", "ONNX defines no random stream: the answer is what NumPy drew"),
    (r"node/test_image_decoder", "the engine decodes no image files: an app has the system's decoders"),
    (
        r"node/test_dft_inverse",
        "the answer holds the noise of a float32 transform, ours is exact where it is 0",
    ),
    (
        r"node/test_attention_4d_causal_fp16_expanded",
        "the answer is rounded to float16 at each step, a composite of ours once at its end",
    ),
)
UNEXPLAINED = "nobody has looked into it yet"


@dataclass(frozen=True)
class Result:
    """What one case gave: an empty reason means it passed."""

    kind: str
    name: str
    op: str
    reason: str

    @property
    def key(self) -> str:
        return f"{self.kind}/{self.name}"


# ---- Collecting ----


def collect(kinds: Sequence[str], folder: Path) -> None:
    """Write each case as one file. Runs in a process of its own."""
    import warnings

    from onnx.backend.test.loader import load_model_tests

    warnings.simplefilter("ignore")  # the cases divide by zero on purpose
    for kind in kinds:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for case in load_model_tests(kind="real" if kind == "light" else kind):
            record = _record(case, kind)
            (folder / kind / f"{case.name}.pickle").write_bytes(pickle.dumps(record))
        (folder / kind / "complete").touch()


def _record(case: Any, kind: str) -> dict[str, Any]:
    import onnx
    import onnx.backend.test

    if kind == "light":
        path = Path(onnx.backend.test.__file__).parent / "data/light" / Path(case.url).name
        model = onnx.load(path)
        data = [_light_data(model, path)]
    elif case.model is None:
        model = onnx.load(Path(case.model_dir) / "model.onnx")
        data = [_stored_data(model, part) for part in sorted(Path(case.model_dir).glob("test_data_set*"))]
    else:
        model = case.model
        data = [tuple([_array(value) for value in part] for part in pair) for pair in case.data_sets]
    ops = [node.op_type for node in model.graph.node]
    op = ops[0] if kind == "node" and len(ops) == 1 else _op_of(case.name, ops)
    return {
        "model": model.SerializeToString(), "data": data, "rtol": case.rtol, "atol": case.atol, "op": op,
    }  # fmt: skip


def _op_of(name: str, ops: Sequence[str]) -> str:
    """Expanded cases hold many operators and are counted with the one they define."""
    import onnx.defs

    words = name.removeprefix("test_").replace("_", "")
    known = {schema.name for schema in onnx.defs.get_all_schemas()}
    fitting = [op for op in known if words.startswith(op.lower())]
    return max(fitting, key=len) if fitting else (ops[0] if ops else name)


def _array(value: Any) -> Any:
    import onnx
    from onnx import numpy_helper

    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def _light_data(model: Any, path: Path) -> tuple[list[Any], list[Any]]:
    """Inputs as the official runner makes them: evenly spaced numbers below one."""
    import numpy as np
    from onnx import TensorProto, numpy_helper

    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = []
    for info in model.graph.input:
        if info.name not in weights:
            shape = [dim.dim_value or 1 for dim in info.type.tensor_type.shape.dim]
            count = int(np.prod(shape))
            inputs.append((np.arange(count).reshape(shape) / count).astype(np.float32))
    outputs = [
        numpy_helper.to_array(
            TensorProto.FromString(path.with_name(f"{path.stem}_output_{i}.pb").read_bytes())
        )
        for i in range(len(model.graph.output))
    ]
    return inputs, outputs


def _stored_data(model: Any, folder: Path) -> tuple[list[Any], list[Any]]:
    def read(prefix: str, infos: Any) -> list[Any]:
        count = len(list(folder.glob(f"{prefix}_*.pb")))
        return [_read_proto(folder / f"{prefix}_{i}.pb", infos[i].type) for i in range(count)]

    return read("input", model.graph.input), read("output", model.graph.output)


def _read_proto(path: Path, type_: Any) -> Any:
    import onnx
    from onnx import numpy_helper

    content = path.read_bytes()
    if type_.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(content))
    if type_.HasField("optional_type"):
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(content))
    return numpy_helper.to_array(onnx.TensorProto.FromString(content))


def cases(kinds: Sequence[str], pattern: str) -> list[Path]:
    """Return the files of the wanted cases, made on first use."""
    import onnx

    folder = ROOT / "build/conformance" / f"onnx-{onnx.__version__}"
    if missing := [kind for kind in kinds if not (folder / kind / "complete").exists()]:
        command = [sys.executable, __file__, "--collect", str(folder), "--kinds", ",".join(missing)]
        subprocess.run(command, check=True, timeout=300)
    wanted = re.compile(pattern, re.IGNORECASE)
    files = (path for kind in kinds for path in sorted((folder / kind).glob("*.pickle")))
    return [path for path in files if wanted.search(f"{path.parent.name}/{path.stem}")]


# ---- The worker ----


class _Guard(importlib.abc.MetaPathFinder):
    """Refuses what could compute a node in our place."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname.startswith(tuple(f"{name}." for name in FORBIDDEN)) or fullname in FORBIDDEN:
            raise ImportError(f"{fullname} may not be imported while the engine is tested")


def work(peer: bool, settings: Mapping[str, Any]) -> None:
    """Run the cases named on standard input, one line of JSON for each on standard output."""
    run = _run_peer if peer else partial(_run_walle, settings)
    if not peer:
        sys.meta_path.insert(0, _Guard())
    for line in sys.stdin:
        start = time.perf_counter()
        reason = _try_case(Path(line.rstrip("\n")), run)
        loaded = [] if peer else [name for name in FORBIDDEN if name in sys.modules]
        answer = {"reason": reason, "ms": (time.perf_counter() - start) * 1e3, "forbidden": loaded}
        print(json.dumps(answer), flush=True)


def _try_case(path: Path, run: Any) -> str:
    record = pickle.loads(path.read_bytes())
    try:
        for inputs, expected in record["data"]:
            outputs = run(record["model"], inputs)
            if difference := compare(expected, outputs, record["rtol"], record["atol"]):
                return difference
    except Exception as error:  # noqa: BLE001 - whatever a case raises is its result
        return _one_line(f"{type(error).__name__}: {error}")
    return ""


def _run_walle(settings: Mapping[str, Any], model: bytes, inputs: Sequence[Any]) -> Sequence[Any]:
    import onnx

    from walle_engine import onnx_backend

    outputs: Sequence[Any] = onnx_backend.run_model(onnx.load_from_string(model), inputs, **settings)
    return outputs


def _run_peer(model: bytes, inputs: Sequence[Any]) -> Sequence[Any]:
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    # It takes no NumPy scalars, which some cases hold.
    arrays = [np.asarray(value) if isinstance(value, np.generic) else value for value in inputs]
    outputs: Sequence[Any] = session.run(None, dict(zip(names, arrays, strict=False)))
    return outputs


def compare(expected: Sequence[Any], actual: Sequence[Any], rtol: float, atol: float) -> str:
    """Compare as the official runner does; "" or what differs.

    Shapes and types must be equal, strings too, numbers close. bfloat16 is allowed two of its rounding steps.
    """
    import numpy as np

    if len(expected) != len(actual):
        return f"{len(actual)} outputs, not {len(expected)}"
    for index, (want, got) in enumerate(zip(expected, actual, strict=True)):
        where = f"output {index}"
        if isinstance(want, (list, tuple)) or want is None:
            if not isinstance(got, type(want)):
                return f"{where} is a {type(got).__name__}, not a {type(want).__name__}"
            if want is not None and (difference := compare(want, got, rtol, atol)):
                return f"{where}: {difference}"
            continue
        want, got = np.asarray(want), np.asarray(got)
        if want.shape != got.shape:
            return f"{where} has shape {list(got.shape)}, not {list(want.shape)}"
        if want.dtype.kind in "OUST" or got.dtype.kind in "OUST":
            if want.tolist() != got.tolist():
                return f"{where} holds other strings"
            continue
        if want.dtype != got.dtype:
            return f"{where} has type {got.dtype}, not {want.dtype}"
        if difference := _difference(
            want, got, max(rtol, 2**-6) if want.dtype.name == "bfloat16" else rtol, atol
        ):
            return f"{where} {difference}"
    return ""


def _difference(want: Any, got: Any, rtol: float, atol: float) -> str:
    import numpy as np

    if want.dtype.isbuiltin == 2:  # types NumPy borrows; float32 holds all their values
        want, got = want.astype(np.float32), got.astype(np.float32)
    close = np.isclose(got, want, rtol=rtol, atol=atol, equal_nan=True)
    if close.all():
        return ""
    first = tuple(int(i) for i in np.argwhere(~close)[0])
    count = int((~close).sum())
    return f"differs in {count} of {close.size} elements; at {list(first)} {got[first]} is not {want[first]}"


def _one_line(text: str) -> str:
    line = " ".join(text.split()).replace(str(ROOT), "")
    return line if len(line) <= REASON_CHARACTERS else line[: REASON_CHARACTERS - 3] + "..."


# ---- The parent ----


class Worker:
    """A worker process that is replaced when it dies."""

    def __init__(self, *, peer: bool, settings: Mapping[str, Any]) -> None:
        self._arguments = ["--peer"] if peer else []
        self._arguments += [f"--set={name}={json.dumps(value)}" for name, value in settings.items()]
        self._peer = peer
        self._limit_s = PLAIN_CASE_LIMIT_S if os.environ.get("WALLE_ENGINE_ISA") == "ref" else CASE_LIMIT_S
        self._process: subprocess.Popen[str] | None = None

    def run(self, case: Path) -> str:
        """Run one case; return why it did not pass, or ""."""
        process = self._process or self._start()
        assert process.stdin
        assert process.stdout
        process.stdin.write(f"{case}\n")
        process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            ready = selector.select(self._limit_s)
        if not ready:
            self.close()
            return f"hang: no answer within {self._limit_s:g} s"
        line = process.stdout.readline()
        if not line:
            status = process.wait()
            self.close()
            return f"crash: {signal.Signals(-status).name if status < 0 else f'exit status {status}'}"
        answer = json.loads(line)
        if answer["forbidden"]:
            raise SystemExit(
                f"{case.stem}: {', '.join(answer['forbidden'])} was imported while our engine ran"
            )
        reason: str = answer["reason"]
        return reason

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "ignore", __file__, "--worker", *self._arguments]
        errors = None if not self._peer else subprocess.DEVNULL
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        return self._process

    def close(self) -> None:
        if self._process:
            self._process.kill()
            self._process.communicate()
        self._process = None


def run_all(
    files: Iterable[Path], *, peer: bool = False, settings: Mapping[str, Any] | None = None
) -> Iterator[Result]:
    """Run cases one after another; ``settings`` are those of ``Model.session``."""
    worker = Worker(peer=peer, settings=settings or {})
    try:
        for file in files:
            record = pickle.loads(file.read_bytes())
            yield Result(file.parent.name, file.stem, record["op"], worker.run(file))
    finally:
        worker.close()


def read_not_passed() -> set[str]:
    """Return the keys of the cases listed as not passed."""
    lines = NOT_PASSED.read_text().splitlines() if NOT_PASSED.exists() else []
    return {line.split(":", 1)[0] for line in lines if line and not line.startswith("#")}


def explain(key: str) -> str:
    """Return why a case does not pass."""
    return next((reason for pattern, reason in REASONS if re.match(pattern, key)), UNEXPLAINED)


def write_not_passed(results: Iterable[Result]) -> None:
    """List the cases that do not pass: why, and what was seen."""
    failed = sorted((result for result in results if result.reason), key=lambda result: result.key)
    head = (
        "# ONNX's own cases that do not pass: why (REASONS of node_suite.py), and what was seen.\n"
        "# Written by `nox -s conformance`.\n"
    )
    lines = [f"{result.key}: {explain(result.key)} | {result.reason}\n" for result in failed]
    NOT_PASSED.write_text(head + "".join(lines))


def report(ours: Sequence[Result], theirs: Sequence[Result]) -> None:
    """Print the table by op and the totals by kind."""
    by_op: dict[str, list[Result]] = defaultdict(list)
    for result in ours:
        by_op[f"{result.op} ({result.kind})" if result.kind != "node" else result.op].append(result)
    peer = {result.key: not result.reason for result in theirs}
    head = f"{'operator':34} {'passed':>6} {'of':>5}" + (f" {'ONNX Runtime':>13}" if peer else "")
    print(head)
    for op, results in sorted(by_op.items()):
        passed = sum(not result.reason for result in results)
        beside = f" {sum(peer[result.key] for result in results):13}" if peer else ""
        print(f"{op:34} {passed:6} {len(results):5}{beside}")
    for kind in dict.fromkeys(result.kind for result in ours):
        results = [result for result in ours if result.kind == kind]
        passed = sum(not result.reason for result in results)
        beside = f" (ONNX Runtime {sum(peer[result.key] for result in results)})" if peer else ""
        print(f"{kind}: passed {passed} of {len(results)}{beside}")


def _setting(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=JSON") from None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run ONNX's own test cases on the Walle engine.")
    parser.add_argument("-k", dest="pattern", default="", help="only cases whose kind/name matches this")
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"comma-separated, of {', '.join(KINDS)}")
    parser.add_argument("--peer", action="store_true", help="run ONNX Runtime beside ours")
    parser.add_argument("--listed", action="store_true", help="only cases that not_passed.txt does not list")
    parser.add_argument(
        "--set", action="append", default=[], type=_setting, metavar="NAME=JSON",
        help="a setting of our sessions, such as merge=false",
    )  # fmt: skip
    parser.add_argument("-v", dest="verbose", action="store_true", help="print each failure as it happens")
    parser.add_argument("--collect", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    arguments = _arguments()
    kinds = arguments.kinds.split(",")
    if unknown := set(kinds) - set(KINDS):
        raise SystemExit(f"unknown kinds {', '.join(sorted(unknown))}; known are {', '.join(KINDS)}")
    settings = dict(arguments.set)
    if arguments.worker:
        work(arguments.peer, settings)
        return 0
    if arguments.collect:
        collect(kinds, arguments.collect)
        return 0
    files = cases(kinds, arguments.pattern)
    if arguments.listed:
        listed = read_not_passed()
        files = [file for file in files if f"{file.parent.name}/{file.stem}" not in listed]
    ours = []
    for result in run_all(files, settings=settings):
        ours.append(result)
        if result.reason and (arguments.verbose or arguments.listed):
            print(f"{result.key}: {result.reason}", flush=True)
    report(ours, list(run_all(files, peer=True)) if arguments.peer else [])
    if not (arguments.pattern or arguments.listed or settings) and tuple(kinds) == KINDS:
        write_not_passed(ours)
    return int(arguments.listed and any(result.reason for result in ours))


if __name__ == "__main__":
    sys.exit(main())
