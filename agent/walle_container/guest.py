"""What runs inside a slot's interpreter: takes a run from the channel, runs the script, sends back how it
ended.

Invariants:

1. Code of the task, and any method of an object the task made, runs only inside ``_vm.guard``: there alone it
   can be interrupted and its memory is counted. Everything else here may rely on running to its end.
2. Each run gets exactly one ``done`` frame, and it is the run's last frame.
3. After a run nothing of the bundle is left in ``sys.modules``, and no run is current in ``walle_task``.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Container
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, SupportsIndex

import walle_shared.errors
from walle_container import _vm, fences, profiling, tensors
from walle_container.imports import BundleImporter, ForbiddenImport
from walle_container.profiling import CallTree
from walle_shared.errors import ConnectionLost, LimitExceeded, NotAllowed, OutOfMemory, TaskError, WalleError
from walle_shared.limits import CONTAINER_FRAME_MAX_BYTES
from walle_shared.units import MIB
from walle_task.cloud import Request
from walle_task.context import RunContext, encode_json, set_current, set_image_service
from walle_task.model import set_recorder

STDOUT_TAIL_CHARS = 4_000
ERROR_MAX_CHARS = 2_000
TRACEBACK_MAX_FRAMES = 20
DESCRIBE_MEMORY_BYTES = 4 * MIB
SWITCH_INTERVAL_S = 0.001
SLEEP_SLICE_S = 0.01

# Longer than the kernel's own turns (2.8 ms from eight cores on): the agent, which wakes for a moment between
# two runs, then need not wait for the end of one. Measured 2026-11-26 with two slots on two cores: 12 % more
# runs of 1 ms; turns of 20 ms gave no more.
TURN_NS = 5_000_000

# Most runs leave no cycles worth a collection of their own.
COLLECT_EVERY_RUNS = 32
COLLECT_FROM_BYTES = 8 * MIB


def serve(fd: int, images_fd: int, enclosure_json: str) -> None:
    """Serve runs from the channel ``fd`` until the agent closes it: the whole life of a slot.

    Args:
        fd: the channel to the agent.
        images_fd: the channel to the worker's decoder of image files.
        enclosure_json: ``{"fences": [...], "library": [...]}``: what binds this thread from its first run on.
    """
    enclosure = json.loads(enclosure_json)
    _vm.take_long_turns(TURN_NS)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    sys.dont_write_bytecode = True
    importlib.import_module("walle_task")  # every run needs all of it: once, before the first
    set_image_service(lambda question: ask_image_service(images_fd, question))
    printed = TailWriter(STDOUT_TAIL_CHARS)
    sys.stdout = sys.stderr = printed  # as much of a text file as print() needs
    time.sleep = sleep_in_slices
    gc.collect()
    gc.freeze()  # what is here now stays: collections need not look at it
    _vm.send_frame(fd, json.dumps({"op": "ready"}).encode())
    runs = 0
    while (received := _vm.receive_frame(fd, CONTAINER_FRAME_MAX_BYTES)) is not None:
        order = open_frame(*received)
        if not runs:  # only now is it known whose bundles this slot will read
            fences.fence_thread(enclosure["fences"], [*enclosure["library"], order["root"]])
        run = GuestRun(fd, order, printed)
        answer, shared, peak_bytes = run.finish()
        del run, order, received
        _vm.send_frame(fd, answer, shared)
        if shared >= 0:
            os.close(shared)
        del answer
        runs += 1
        if runs % COLLECT_EVERY_RUNS == 0 or peak_bytes >= COLLECT_FROM_BYTES:
            gc.collect()


def open_frame(frame: bytes, attached: int) -> dict[str, Any]:
    """What the agent says, with the tensors that came along in their places."""
    message: dict[str, Any] = json.loads(frame)
    table = message.pop(tensors.TABLE, None)
    if table is not None:
        message = tensors.restore(message, tensors.unpack(table, attached))
    return message


class TailWriter:
    """A write-only text file that keeps the end of what it is given.

    Args:
        keep_chars: how much of the end.
    """

    encoding = "utf-8"

    def __init__(self, keep_chars: int) -> None:
        self._keep_chars = keep_chars
        self._text = ""

    def write(self, text: str) -> int:
        """Take ``text``; forget the oldest beyond the cap."""
        self._text = (self._text + text[-self._keep_chars :])[-self._keep_chars :]
        return len(text)

    def flush(self) -> None:
        """Do nothing: there is nothing to flush to."""

    def isatty(self) -> bool:
        """It is not a terminal."""
        return False

    def take(self) -> str:
        """What was kept; starts afresh."""
        text, self._text = self._text, ""
        return text


_sleep_of_time = time.sleep


def sleep_in_slices(seconds: float | SupportsIndex, /) -> None:
    """``time.sleep`` for tasks: short naps, so that a run can be stopped in between."""
    length_s = float(seconds)
    if length_s < 0:
        raise ValueError("sleep length must be non-negative")
    until = time.monotonic() + length_s
    while (left := until - time.monotonic()) > 0:
        _sleep_of_time(min(left, SLEEP_SLICE_S))


class GuestRun:
    """One run of one task.

    Args:
        fd: the slot's channel.
        order: the agent's ``run`` frame.
        printed: where the task's output goes.
    """

    def __init__(self, fd: int, order: dict[str, Any], printed: TailWriter) -> None:
        self._fd = fd
        self._order = order
        self._printed = printed
        self._importer = BundleImporter(Path(order["bundle_dir"]))
        self._context = RunContext(
            inputs=order["inputs"],
            params=order["params"],
            bundle_dir=self._importer.bundle_dir,
            capabilities=frozenset(order["capabilities"]),
            call=self._call_host,
            output_bytes=order["output_bytes"],
        )
        self._profile = CallTree() if order["profile"] else None

    def finish(self) -> tuple[bytes, int, int]:
        """Run the task to whatever end.

        Returns:
            The ``done`` frame, the descriptor of the memory that goes with it (-1: none) and the peak memory
            (bytes).
        """
        started_s = time.perf_counter()
        finders, recursion_limit = sys.meta_path[:], sys.getrecursionlimit()
        _vm.begin(self._order["run"])
        set_current(self._context)
        sys.meta_path.insert(0, self._importer)
        try:
            value, error, cpu_ns, peak_bytes, interrupts = self._guard()
            kind = self._kind_of(error, interrupts)
            message = None if kind is None else self._describe(kind, error)
            traceback = (
                ""
                if error is None
                else task_traceback(error.__traceback__, self._importer.bundle_dir, self._importer.sources)
            )
        finally:
            _vm.end()
            set_current(None)
            sys.meta_path[:] = finders  # whatever the task did to them, the next one finds them as they were
            sys.setrecursionlimit(recursion_limit)
        del error
        encoded, table, shared = value if kind is None else (b"null", None, -1)
        if kind is not None and value is not None and value[2] >= 0:
            os.close(value[2])
        self._importer.unload()
        done = {
            "op": "done",
            "run": self._order["run"],
            "error_kind": kind,
            "error": message,
            "traceback": traceback,
            "wall_s": time.perf_counter() - started_s,
            "cpu_s": cpu_ns / 1e9,
            "peak_bytes": peak_bytes,
            "stdout_tail": self._printed.take(),
            "logs": self._context.logs,
            "logs_dropped": self._context.logs_dropped,
            "rows": self._context.rows if kind is None else [],
            "values": self._context.values if kind is None else {},
            "uploads": self._context.uploads if kind is None else [],
            "later": self._context.later if kind is None else [],
            "profile": [] if self._profile is None else self._profile.to_plain(self._importer.sources),
        }
        if table is not None:
            done[tensors.TABLE] = table
        head = json.dumps(done, ensure_ascii=False).encode("utf-8", "replace")
        return head[:-1] + b',"value":' + encoded + b"}", shared, peak_bytes

    def _guard(self) -> tuple[Any, BaseException | None, int, int, int]:
        """Run the task under guard: value, error, CPU ns, peak bytes, interrupts."""
        if self._profile is None:
            return _vm.guard(self._order["memory_bytes"], self._produce)
        set_recorder(self._profile)
        profiling.start(self._profile)
        try:
            return _vm.guard(self._order["memory_bytes"], self._produce)
        finally:
            profiling.stop()
            set_recorder(None)
            self._profile.close()

    def _produce(self) -> tuple[bytes, list[Any] | None, int]:
        """Load the bundle, call its entry, and encode what it returns. Runs under guard.

        Returns:
            The JSON, and table and memory of the tensors that it mentions.
        """
        value = self._call_entry(self._load_entry())
        parcel = tensors.Parcel()
        encoded = encode_json(value, "the returned value", parcel.leaf)
        self._context.count_output(len(encoded))
        if not parcel.views:
            return encoded, None, -1
        return encoded, parcel.table(), _vm.share(parcel.views)

    def _call_entry(self, entry: Callable[..., object]) -> object:
        """Call the device's half, or the cloud half with what it is asked."""
        plain = self._order["inputs"].get("request")
        if plain is None:
            return entry()
        request = Request(
            plain["payload"], bytes(plain.get("data", b"")), plain["device_id"], plain["version"]
        )
        answer = entry(request)
        if not isinstance(answer, dict):
            raise TaskError(f"the cloud half answered with {type(answer).__name__}, which is no dict")
        return answer

    def _load_entry(self) -> Callable[..., object]:
        module_name, _, function_name = self._order["entry"].partition(":")
        if not self._importer.has(module_name):
            raise TaskError(
                f"the bundle has no module {module_name!r}, which its entry {self._order['entry']!r} names"
            )
        module = self._importer.import_for_task(module_name)
        entry = getattr(module, function_name, None)
        if not callable(entry):
            raise TaskError(
                f"{module_name}.py has no function {function_name!r}, which the task's entry names"
            )
        return entry  # type: ignore[no-any-return]

    def _kind_of(self, error: BaseException | None, interrupts: int) -> str | None:
        """Classify how the run ended; the first rule that fits wins."""
        if interrupts:
            return "timeout"
        if self._context.overflowed:
            return "output"
        return next((kind for family, kind in _KINDS if isinstance(error, family)), None)

    def _describe(self, kind: str, error: BaseException | None) -> str:
        """One sentence on the error. Its ``__str__`` may be the task's, so it is called under guard."""
        if kind == "timeout":
            return "stopped: the run passed its wall-clock limit"
        if isinstance(error, MemoryError):
            return (
                f"MemoryError: the run asked for more than its {self._order['memory_bytes']} bytes of memory"
            )
        if error is None:  # the script caught the refusal, but what it produced is too much all the same
            return f"the run produced more than its {self._context.output_bytes} bytes of output"
        text, failure, *_ = _vm.guard(DESCRIBE_MEMORY_BYTES, lambda: f"{type(error).__name__}: {error}")
        return text[:ERROR_MAX_CHARS] if failure is None else "an exception that cannot be described"

    def _call_host(self, name: str, args: dict[str, Any]) -> Any:
        """Ask the agent and wait for its answer. Runs under guard; one exchange is never cut in two."""
        parcel, shared = tensors.Parcel(), -1
        what = f"the arguments of {name}"
        question = encode_json({"op": "call", "call": name, "args": args}, what, parcel.leaf)
        if parcel.views:
            table = encode_json(parcel.table(), what)
            question = question[:-1] + b',"' + tensors.TABLE.encode() + b'":' + table + b"}"
        if len(question) > CONTAINER_FRAME_MAX_BYTES:
            raise LimitExceeded(f"the arguments of {name} have {len(question)} bytes: ask for less at once")
        try:
            if parcel.views:
                shared = _vm.share(parcel.views)
            with nullcontext() if self._profile is None else self._profile.span("host", name):
                received = _vm.exchange(self._fd, question, shared, CONTAINER_FRAME_MAX_BYTES)
        finally:
            if shared >= 0:
                os.close(shared)
        if received is None:
            raise ConnectionLost("the agent is gone")
        answer = open_frame(*received)
        if "error" in answer:
            raise rebuild_error(answer["error"], answer["message"])
        return answer["value"]


_KINDS: tuple[tuple[type[BaseException], str], ...] = (
    (MemoryError, "memory"),
    (OutOfMemory, "memory"),
    (NotAllowed, "denied"),
    (ForbiddenImport, "denied"),
    (PermissionError, "denied"),
    (TaskError, "invalid"),
    (BaseException, "exception"),
)


def ask_image_service(fd: int, question: dict[str, Any]) -> dict[str, Any]:
    """Let the worker decode or encode; raises what it refuses with. Runs under guard."""
    received = _vm.exchange(fd, encode_json(question, "the question"), -1, CONTAINER_FRAME_MAX_BYTES)
    if received is None:
        raise ConnectionLost("the decoder of image files is gone")
    answer: dict[str, Any] = json.loads(received[0])
    if "error" in answer:
        raise rebuild_error(answer["error"], answer["message"])
    return answer


def rebuild_error(name: str, message: str) -> WalleError:
    """The error the agent refused with, as the same class, so that a task can catch it."""
    found = getattr(walle_shared.errors, name, None)
    if isinstance(found, type) and issubclass(found, WalleError):
        return found(message)
    return WalleError(message)


def task_traceback(traceback: TracebackType | None, bundle_dir: Path, sources: Container[str]) -> str:
    """The frames of the bundle's own code, innermost last, as Python prints them.

    Args:
        bundle_dir: where source lines are read, if the bundle has its source.
        sources: the bundle's own modules, by their paths in it.
    """
    frames: list[str] = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if code.co_filename in sources:
            where = f'  File "{code.co_filename}", line {traceback.tb_lineno}, in {code.co_name}\n'
            text = source_line(bundle_dir / code.co_filename, traceback.tb_lineno)
            frames.append(where + (f"    {text}\n" if text else ""))
        traceback = traceback.tb_next
    return "".join(frames[-TRACEBACK_MAX_FRAMES:])


def source_line(path: Path, number: int) -> str:
    """Line ``number`` of a script, without its indentation; empty where it cannot be read."""
    try:
        return path.read_text("utf-8", "replace").splitlines()[number - 1].strip()
    except (OSError, IndexError):
        return ""
