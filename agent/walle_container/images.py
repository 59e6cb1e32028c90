"""Image files for the slots of a worker: decoded in its main interpreter, handed over by reference.

Decoders are C libraries that refuse isolated interpreters, so they cannot run in a slot; and they read
what strangers made, so they do not run in the agent. Each slot has a channel of its own to a thread here.
Pillow is imported with the first image, or before the process is fenced.
"""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

from walle_container import _vm
from walle_shared.errors import OutOfMemory, TaskError, WalleError
from walle_shared.limits import CONTAINER_FRAME_MAX_BYTES


def open_channel() -> tuple[int, int]:
    """The two ends of a slot's channel: the worker's, and the slot's."""
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


def prepare() -> None:
    """Import what decodes, where it is installed: a fenced process can open no more libraries."""
    try:
        from walle_task.cv import _pillow

        _pillow.load()
    except (ImportError, TaskError):
        return  # the task that asks is told


def start(fd: int) -> None:
    """Answer what comes over a channel, in a thread of its own, until the process ends."""
    threading.Thread(target=_serve, args=(fd,), daemon=True).start()


def _serve(fd: int) -> None:
    while (received := _vm.receive_frame(fd, CONTAINER_FRAME_MAX_BYTES)) is not None:
        _vm.send_frame(fd, json.dumps(_answer(json.loads(received[0]))).encode())


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    from walle_task.cv import _pillow  # takes memory, and most tasks read no images

    try:
        return _pillow.answer(question)
    except MemoryError:
        return {"error": OutOfMemory.__name__, "message": "there is no memory for the pixels of this image"}
    except WalleError as error:
        return {"error": type(error).__name__, "message": error.message}
    except Exception as error:  # noqa: BLE001  # a decoder's failure is the run's, not the worker's
        return {
            "error": TaskError.__name__,
            "message": f"the image cannot be read: {type(error).__name__}: {error}",
        }
