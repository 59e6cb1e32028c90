"""The cloud half: look again with larger models at a tick that the device is not sure of."""

import json
import time
from dataclasses import asdict
from typing import Any

import fusion
import senses

from walle_task import cv, matrix
from walle_task.cloud import Request


def answer(request: Request) -> dict[str, Any]:
    """Judge one tick anew.

    Args:
        request: the frame's JPEG and the spectrogram as data; in the payload, where the first ends, the
            tick's number and the senses of the ticks before it.
    """
    number = request.payload["tick"]
    size = request.payload["jpeg_bytes"]
    arrived = time.perf_counter()
    image = cv.imdecode(request.data[:size])  # in another thread, for which this one waits
    decode_s = time.perf_counter() - arrived
    began = time.thread_time()
    seen, _ = senses.sense(image, {"steps": spectrogram(request.data[size:])}, senses.CLOUD)
    now = {**asdict(seen), "by_cloud": True}
    history = {int(at): before for at, before in request.payload["history"].items()}
    score = fusion.fuse({**history, number: now}, number, "cloud_fusion")
    with open("cloud/gate.json") as file:  # noqa: PTH123  # tasks have no pathlib
        accept = json.load(file)["accept"]
    return {
        "score": score,
        "accepted": score >= accept,
        "item": seen.item,
        "senses": now,
        "cloud_ms": round((decode_s + time.thread_time() - began) * 1e3, 3),
    }


def spectrogram(data: bytes) -> Any:
    """What the device made bytes of, as the voice model takes it: ``[T, 1, bands]``."""
    levels = matrix.reshape(matrix.asarray(memoryview(data)), (-1, 1, 20))
    return matrix.astype(levels, matrix.float32) / 64 - 2
