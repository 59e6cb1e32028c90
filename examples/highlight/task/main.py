"""One tick of a livestream: sense, fuse, decide; ask the cloud where unsure; tell highlights that ended."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from statistics import median
from typing import Any

import fusion
import senses
import spans

from walle_task import cloud, cv, events, inbox, log, matrix, params, store, tunnel

type Row = dict[str, Any]

#: How far back the rows of a stream are read: the longest highlight that is told whole, and a little more.
LOOK_BACK = 80
PARTS = ("detector", "recogniser", "face", "voice", "fusion")


def run() -> dict[str, object]:
    """Deal with a tick, or with the end of a stream."""
    event = events.last()
    assert event is not None  # every trigger is an event
    return end(**event.args) if event.event_id == "stream_end" else tick(**event.args)


def tick(stream: str, tick: int, frame: str, sound: str) -> dict[str, object]:
    """Decide whether this tick is part of a highlight.

    Args:
        stream: which stream.
        tick: its number.
        frame, sound: names of files of the inbox: a JPEG, and 16-bit samples.
    """
    jpeg, samples = inbox.read(frame), inbox.read(sound)
    rows = known(stream)
    row = decide({at: row["senses"] for at, row in rows.items()}, tick, jpeg, samples)
    store.table("ticks").put({"stream": stream, "tick": tick, **row})
    rows[tick] = row
    tell(stream, rows, tick - spans.LAG)
    return {"tick": tick, "score": row["score"], "accepted": row["accepted"], "by": row["by"]}


def decide(history: dict[int, Row], number: int, jpeg: memoryview, samples: memoryview) -> Row:
    """The row of a tick: what was sensed, and what was decided by whom.

    Args:
        history: senses by number of tick, of the ticks before.
        number: of this tick.
        jpeg: the frame's file.
        samples: of the sound.
    """
    watch = Stopwatch()
    image = cv.imdecode(jpeg)
    levels = matrix.astype(matrix.asarray(samples.cast("h")), matrix.float32)
    wave = matrix.reshape(levels / 32768, (1, -1))
    watch.lap("decode")
    seen, heard = senses.sense(image, {"sound": wave}, senses.DEVICE, watch.lap)
    now = asdict(seen)
    score = fusion.fuse({**history, number: now}, number, "fusion")
    watch.lap("fusion")
    with open("gate.json") as file:  # noqa: PTH123  # tasks have no pathlib
        gate = json.load(file)
    choice = {"device": "device", "cloud": "ask"}.get(params.get("mode", "gate")) or cloud.gate(
        score, accept=gate["accept"], reject=gate["reject"]
    )
    row = {
        "senses": now,
        "score": score,
        "accepted": score >= (gate["offline"] if choice in ("ask", "device") else gate["accept"]),
        "item": seen.item,
        "by": "offline" if choice == "ask" else "gate",
        "asked": choice == "ask",
        "ms": watch.laps,
        "cloud_ms": 0.0,
        "up_bytes": 0,
    }
    return row | ask(history, number, jpeg, heard) if choice == "ask" else row


def ask(history: Mapping[int, Row], number: int, jpeg: memoryview, heard: Any) -> Row:
    """What the cloud makes of it; nothing where it cannot be asked, so that the device's own word stands."""
    payload = {"tick": number, "jpeg_bytes": jpeg.nbytes, "history": recent(history, number)}
    data = bytes(jpeg) + quantised(heard)
    try:
        answer = cloud.ask(payload, data=data, timeout_s=params.get("ask_timeout_s", 2.0))
    except cloud.Unavailable as error:
        log.info("cloud_unavailable", reason=error.reason)
        return {}
    told = {name: answer[name] for name in ("score", "accepted", "item", "cloud_ms")}
    if params.get("mode", "gate") == "cloud":  # then the cloud's senses are all there are
        told["senses"] = answer["senses"]
    return told | {"by": "cloud", "up_bytes": len(data) + len(json.dumps(payload, separators=(",", ":")))}


def recent(history: Mapping[int, Row], number: int) -> dict[str, Row]:
    """The senses of the ticks that fusion looks at, as the cloud half takes them."""
    return {str(at): history[at] for at in range(number - fusion.WINDOW, number) if at in history}


def quantised(steps: Any) -> bytes:
    """A spectrogram as bytes: a tenth of what the sound itself takes."""
    scaled = matrix.clip(matrix.round((matrix.asarray(steps) + 2) * 64), 0, 255)
    return bytes(matrix.astype(scaled, matrix.uint8))


def known(stream: str) -> dict[int, Row]:
    """The rows of a stream that there are, by number of tick."""
    rows = store.table("ticks").rows(limit=LOOK_BACK, where={"stream": stream})
    return {row["tick"]: row for row in rows}


def tell(stream: str, rows: Mapping[int, Row], number: int) -> None:
    """Send the highlight that ended at this tick, if one did."""
    found = spans.ended(rows, number)
    if found:
        tunnel.send("highlight", {"stream": stream, **found})


def end(stream: str, ticks: int) -> dict[str, object]:
    """The stream is over: tell what has not been told, and sum up.

    Args:
        stream: which stream.
        ticks: how many it had.
    """
    rows = known(stream)
    for number in range(ticks - spans.LAG, ticks + spans.GAP + 1):
        tell(stream, rows, number)
    every = store.table("ticks").rows(limit=1_000, where={"stream": stream})
    laps = {f"{part}_ms": median(row["ms"][part] for row in every) if every else 0.0 for part in PARTS}
    summary = {
        "stream": stream,
        "ticks": len(every),
        "asked": sum(row["asked"] for row in every),
        "accepted_by_cloud": sum(row["by"] == "cloud" and row["accepted"] for row in every),
        "offline": sum(row["by"] == "offline" for row in every),
        "up_bytes": sum(row["up_bytes"] for row in every),
        "cloud_ms": sum(row["cloud_ms"] for row in every),
        **laps,
        "tick_ms": median(sum(row["ms"].values()) for row in every) if every else 0.0,
    }
    tunnel.send("stream_summary", summary)
    return summary


class Stopwatch:
    """Times parts that follow each other."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, name: str) -> None:
        """What has passed since the part before is this part's."""
        now = time.perf_counter()
        self.laps[name] = round((now - self._since) * 1e3, 3)
        self._since = now
