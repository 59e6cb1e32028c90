"""The worker process: one control thread, and a thread with its own interpreter per slot.

Started by :mod:`walle_container.process` through :mod:`walle_container.locate`. It holds no key, opens no
socket and no database; all it has are the channels it inherits. It ends when the agent closes the control
channel, however the agent ends. Invariants:

1. Preload, then quota and policy, then interpreters, then threads: in that order.
2. The control thread never waits for a slot: interrupts run in helper threads.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from walle_container import _vm, images, interpreters, locate
from walle_container.preload import is_preloaded, preload
from walle_shared.errors import InternalError
from walle_shared.limits import CONTAINER_FRAME_MAX_BYTES
from walle_shared.units import KIB, MIB

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
serve(FD, IMAGES_FD)
"""


def main(settings_json: str, *, locations: str) -> None:
    """Run the worker; does not return.

    Args:
        settings_json: ``{"control_fd": 3, "slot_fds": [4, 5]}``.
        locations: a :func:`walle_container.locate.find_locations` text.
    """
    settings = json.loads(settings_json)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the agent, which then closes the channel
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    preload()
    _vm.install_quota()
    _vm.install_policy()
    threading.stack_size(THREAD_STACK_BYTES)
    created = [create_slot_interpreter() for _ in settings["slot_fds"]]
    for interpreter_id, fd in zip(created, settings["slot_fds"], strict=True):
        ours, theirs = images.open_channel()
        images.start(ours)
        threading.Thread(target=run_slot, args=(interpreter_id, fd, theirs, locations), daemon=True).start()
    serve_control(settings["control_fd"], created)
    os._exit(0)  # slots may be busy; there is nothing to flush


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


def run_slot(interpreter_id: int, fd: int, images_fd: int, locations: str) -> None:
    """Serve one slot until its channel closes; a failure of the slot itself ends the process."""
    shared = {"LOCATE": locate.__file__, "LOCATIONS": locations, "FD": fd, "IMAGES_FD": images_fd}
    failure = interpreters.execute(interpreter_id, _SLOT_SCRIPT, shared)
    if failure is not None:
        sys.stderr.write(f"slot {interpreter_id} failed: {failure}\n")
        sys.stderr.flush()
        os._exit(EXIT_SLOT_FAILED)


def serve_control(fd: int, created: list[int]) -> None:
    """Obey the agent until it closes the control channel."""
    while (frame := _vm.receive_frame(fd, CONTAINER_FRAME_MAX_BYTES)) is not None:
        order: dict[str, Any] = json.loads(frame)
        if order["op"] == "interrupt":
            target = (created[order["slot"]], order["run"])
            threading.Thread(target=interrupt_until_done, args=target, daemon=True).start()
        elif order["op"] == "stats":
            _vm.send_frame(fd, json.dumps({"op": "stats", "rss_bytes": resident_bytes()}).encode())
        else:
            raise InternalError(f"the agent sent the unknown order {order['op']!r}")


def interrupt_until_done(interpreter_id: int, run: int) -> None:
    """Interrupt ``run`` again and again until it is over: a script may swallow what is raised in it."""
    pause_s = INTERRUPT_FIRST_PAUSE_S
    while _vm.interrupt(interpreter_id, run):
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, INTERRUPT_MAX_PAUSE_S)


def resident_bytes() -> int:
    """Resident memory of this process."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * KIB
    return 0
