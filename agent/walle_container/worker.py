"""The worker process: one control thread, and two threads per slot: one with its own interpreter runs tasks,
one interrupts them.

Started by :mod:`walle_container.process` through :mod:`walle_container.locate`. It holds no key, opens no
socket and no database; all it has are the channels it inherits. It ends when the agent closes the control
channel, however the agent ends. Invariants:

1. Preload, then quota and policy, then interpreters, then (in the ``process`` tier) fences, then threads: in
   that order. Threads inherit fences; the interpreters' creation needs what the fences refuse.
2. The control thread never waits for a slot: that slot's interrupter does.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import resource
import signal
import sys
import threading
import time
from typing import Any

from walle_container import _vm, fences, images, interpreters, locate
from walle_container.preload import is_preloaded, preload
from walle_shared.errors import InternalError
from walle_shared.limits import CONTAINER_FRAME_MAX_BYTES
from walle_shared.units import MIB

# Deep recursion in C needs room: with 256 KiB it is a segmentation fault, with 8 MiB a RecursionError.
THREAD_STACK_BYTES = 8 * MIB

INTERRUPT_FIRST_PAUSE_S = 0.0005
INTERRUPT_MAX_PAUSE_S = 0.005

EXIT_SLOT_FAILED = 70

_SLOT_SCRIPT = """
import importlib.util
spec = importlib.util.spec_from_file_location("walle_locate", LOCATE)
locate = importlib.util.module_from_spec(spec)
spec.loader.exec_module(locate)
locate.install(LOCATIONS)
from walle_container.guest import serve
serve(FD, IMAGES_FD, ENCLOSURE)
"""


def main(settings_json: str, *, locations: str) -> None:
    """Run the worker; does not return.

    Args:
        settings_json: ``{"control_fd": 3, "slot_fds": [4, 5], "fences": ["seccomp"], "own": null}``; in the
            ``process`` tier ``own`` is ``{"root": "/bundle", "memory_bytes": 1000}``.
        locations: a :func:`walle_container.locate.find_locations` text.
    """
    settings = json.loads(settings_json)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the agent, which then closes the channel
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    preload()
    _vm.install_quota()
    _vm.install_policy()
    load_engine()
    threading.stack_size(THREAD_STACK_BYTES)
    created = [create_slot_interpreter() for _ in settings["slot_fds"]]
    memory = ResidentMemory()
    image_channels = [images.open_channel() for _ in created]  # no socket can be made behind the fences
    library = fences.find_library(json.loads(locations))
    enclosure = {"fences": settings["fences"], "library": library}
    if (own := settings["own"]) is not None:
        images.prepare()
        fences.fence_process(settings["fences"], [*library, own["root"]], own["memory_bytes"])
        enclosure["fences"] = []  # the slot's thread is born inside
    orders = [start_interrupter(interpreter_id) for interpreter_id in created]
    slots = zip(created, settings["slot_fds"], image_channels, strict=True)
    for interpreter_id, fd, (ours, theirs) in slots:
        images.start(ours)
        shared = {
            "LOCATE": locate.__file__,
            "LOCATIONS": locations,
            "FD": fd,
            "IMAGES_FD": theirs,
            "ENCLOSURE": json.dumps(enclosure),
        }
        threading.Thread(target=run_slot, args=(interpreter_id, shared), daemon=True).start()
    serve_control(settings["control_fd"], orders, memory)
    os._exit(0)  # slots may be busy; there is nothing to flush


def load_engine() -> None:
    """Load the tensor engine, if it is installed: charge its memory to the runs that take it, and let it read
    what it knows of this machine while it may.
    """
    try:
        engine = importlib.import_module("walle_engine._native")
    except ImportError:
        return  # a task that asks for a model is told so
    engine.set_memory_account(_vm.memory_account())
    importlib.import_module("walle_engine.calibration").load_once()


def create_slot_interpreter() -> int:
    """Create one slot's interpreter.

    Raises:
        InternalError: the preload rule was broken.
    """
    if not is_preloaded():
        raise InternalError(
            "a sub-interpreter would be created before preload(): refused, it aborts the process later"
        )
    return interpreters.create()


def run_slot(interpreter_id: int, shared: dict[str, Any]) -> None:
    """Serve one slot until its channel closes; a failure of the slot itself ends the process."""
    failure = interpreters.execute(interpreter_id, _SLOT_SCRIPT, shared)
    if failure is not None:
        sys.stderr.write(f"slot {interpreter_id} failed: {failure}\n")
        sys.stderr.flush()
        os._exit(EXIT_SLOT_FAILED)


def serve_control(fd: int, orders: list[queue.SimpleQueue[int]], memory: ResidentMemory) -> None:
    """Obey the agent until it closes the control channel."""
    while (received := _vm.receive_frame(fd, CONTAINER_FRAME_MAX_BYTES)) is not None:
        order: dict[str, Any] = json.loads(received[0])
        if order["op"] == "interrupt":
            orders[order["slot"]].put(order["run"])
        elif order["op"] == "stats":
            _vm.send_frame(fd, json.dumps({"op": "stats", "rss_bytes": memory.size_bytes()}).encode())
        else:
            raise InternalError(f"the agent sent the unknown order {order['op']!r}")


def start_interrupter(interpreter_id: int) -> queue.SimpleQueue[int]:
    """Start the thread that interrupts one slot's runs; return where it takes their numbers from.

    It exists from the start, since a fenced worker's limits may leave it no thread to start later.
    """
    runs: queue.SimpleQueue[int] = queue.SimpleQueue()

    def interrupt_all() -> None:
        while True:
            interrupt_until_done(interpreter_id, runs.get())

    threading.Thread(target=interrupt_all, daemon=True).start()
    return runs


def interrupt_until_done(interpreter_id: int, run: int) -> None:
    """Interrupt ``run`` again and again until it is over: a script may swallow what is raised in it."""
    pause_s = INTERRUPT_FIRST_PAUSE_S
    while _vm.interrupt(interpreter_id, run):
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, INTERRUPT_MAX_PAUSE_S)


class ResidentMemory:
    """This process's resident memory; asks the system in a way that works behind fences too."""

    def __init__(self) -> None:
        self._fd = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)

    def size_bytes(self) -> int:
        """Its size now."""
        return int(os.pread(self._fd, 200, 0).split()[1]) * resource.getpagesize()
