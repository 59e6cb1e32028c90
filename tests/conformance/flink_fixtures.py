"""Have Apache Flink's MATCH_RECOGNIZE say once when triggers fire, for ``test_flink.py``.

Two systems that were written apart from another seldom make the same mistake. What Flink said is kept in
``flink.json.xz``; only a change to the streams or the patterns below needs a new run, a few minutes of it. It
needs Java 17 and an environment of its own, because Flink supports neither our Python nor our libraries::

    python3.10 -m venv /tmp/flink && /tmp/flink/bin/pip install "setuptools<70" apache-flink==1.18.1
    PATH=/tmp/flink/bin:$PATH python tests/conformance/flink_fixtures.py

(Flink's own processes start the first ``python`` of PATH.) What must be right for the comparison:

- Rows come sorted by time over all streams: the watermark silently drops rows behind it. The first pattern
  counts single events, so that a dropped row is an error here.
- Flink's ``WITHIN`` is exclusive, ours inclusive. Times here are whole half seconds, so 3.001 s in its text
  say what 3 s say in ours.
- ``AFTER MATCH SKIP TO NEXT ROW`` tries a match from every row: our ``every``. Flink reports each start that
  reaches an end, we the latest. ``PAST LAST ROW`` is our ``once``; there only the ends are compared, since
  Flink then reports the earliest start.
- "Followed by" is a reluctant ``X*?`` between the steps: of anything, or of anything but what a negation
  names. Flink tries again with a later event where the steps behind fail; we do not (skip till next). That
  shows only where a strict step or a ``gap`` is behind; there X is anything but the step's own event.
- Alternatives, repeats and optional steps that can end at several events are the union of several patterns in
  Flink, which reports one end per start. We write them out, and each way through ends by itself.
"""

from __future__ import annotations

import csv
import importlib
import json
import lzma
import os
import random
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
KEPT = HERE / "flink.json.xz"

SEED = 6
STREAMS = 150
EVENTS = 40

#: One event: event id, milliseconds since the stream began, visit, argument ``n``.
Seen = tuple[str, int, str, int]


@dataclass(frozen=True)
class Pattern:
    """One question to both.

    Attributes:
        trigger: in our words.
        texts: in Flink's; what any of them finds counts.
        within_s: Flink's time limit.
        per: column that Flink partitions the streams by, beside the stream.
        once: matches do not overlap.
        define: conditions of letters, beside those of ``LETTERS``; one that is in neither is any event.
    """

    trigger: str
    texts: tuple[str, ...]
    within_s: float | None = None
    per: str | None = None
    once: bool = False
    define: dict[str, str] = field(default_factory=dict)


LETTERS = {
    "A": "A.e = 'a'",
    "A2": "A2.e = 'a'",
    "B": "B.e = 'b'",
    "B2": "B2.e = 'b'",
    "C": "C.e = 'c'",
    "D": "D.e = 'd'",
}

PATTERNS = {
    "single": Pattern("on a every", ("A",)),
    "strict": Pattern("on a b c every", ("A B C",)),
    "strict, same twice": Pattern("on a a b every", ("A A2 B",)),
    "strict, once": Pattern("on a a", ("A A2",), once=True),
    "strict, in time": Pattern("on a b c within 2s every", ("A B C",), within_s=2),
    "followed by": Pattern("on a ~> b ~> c within 1h every", ("A X*? B Y*? C",)),
    "followed by, same twice": Pattern("on a ~> a ~> b within 1h every", ("A X*? A2 Y*? B",)),
    "followed by, once": Pattern("on a ~> b within 1h", ("A X*? B",), once=True),
    "followed by, in time": Pattern("on a ~> b ~> c within 5s every", ("A X*? B Y*? C",), within_s=5),
    "followed by, in time, once": Pattern("on a ~> b within 3s", ("A X*? B",), within_s=3, once=True),
    "strict, then followed by": Pattern("on a b ~> c within 1h every", ("A B X*? C",)),
    "followed by, then strict": Pattern(
        "on a ~> b c within 1h every", ("A X*? B C",), define={"X": "X.e <> 'b'"}
    ),
    "negation": Pattern("on a !c ~> b within 1h every", ("A X*? B",), define={"X": "X.e <> 'c'"}),
    "negation of two": Pattern(
        "on a !(c|d) ~> b ~> a within 6s every",
        ("A X*? B Y*? A2",),
        within_s=6,
        define={"X": "X.e <> 'c' AND X.e <> 'd'"},
    ),
    "negation with a test": Pattern(
        "on a !c[n >= 1] ~> b within 1h every",
        ("A X*? B",),
        define={"X": "X.e <> 'c' OR X.n < 1"},
    ),
    "optional": Pattern("on a b? c every", ("A B? C",)),
    "optional, followed by": Pattern("on a ~> b? ~> c within 1h every", ("A X*? C", "A X*? B Y*? C")),
    "optional, at the end": Pattern("on a b c? every", ("A B", "A B C")),
    "repeated twice": Pattern("on a b{2} c every", ("A B{2} C",)),
    "repeated one to three times": Pattern("on a b{1,3} c every", ("A B{1,3} C",)),
    "repeated, followed by": Pattern(
        "on a ~> b{1,2} ~> c within 1h every", ("A X*? B Y*? C", "A X*? B Y*? B2 Z*? C")
    ),
    "alternatives": Pattern(
        "on (a|b) ~> (c|d) within 4s every",
        ("A X*? C", "A X*? D", "B X*? C", "B X*? D"),
        within_s=4,
    ),
    "any event": Pattern("on a * c every", ("A X C",)),
    "tests on arguments": Pattern(
        "on a[n >= 1] ~> b[n = 0] within 1h every",
        ("P X*? Q",),
        define={"P": "P.e = 'a' AND P.n >= 1", "Q": "Q.e = 'b' AND Q.n = 0"},
    ),
    "gap": Pattern(
        "on a ~> b ~> c within 1h gap 2s every",
        ("A X*? P Y*? Q",),
        define={
            "P": "P.e = 'b' AND P.t - A.t <= 2000",
            "Q": "Q.e = 'c' AND Q.t - P.t <= 2000",
            "X": "X.e <> 'b'",
            "Y": "Y.e <> 'c'",
        },
    ),
    "per visit, strict": Pattern("on a b per visit every", ("A B",), per="v"),
    "per visit, followed by": Pattern(
        "on a ~> b ~> c within 9s per visit every", ("A X*? B Y*? C",), within_s=9, per="v"
    ),
    "per argument": Pattern(
        "on a !c ~> b within 1h per arg(n) every", ("A X*? B",), per="n", define={"X": "X.e <> 'c'"}
    ),
    "per argument, once": Pattern("on a ~> b within 1h per arg(n)", ("A X*? B",), per="n", once=True),
}


def make_streams() -> list[list[Seen]]:
    """Random streams; no two events of one stream come at the same time."""
    chance = random.Random(SEED)
    streams: list[list[Seen]] = []
    for _ in range(STREAMS):
        now_ms = 0
        stream: list[Seen] = []
        for _ in range(EVENTS):
            now_ms += 500 * chance.randint(1, 4)
            name = chance.choices("abcd", (3, 3, 2, 1))[0]
            stream.append((name, now_ms, chance.choice("vw"), chance.randint(0, 2)))
        streams.append(stream)
    return streams


def query(pattern: Pattern, text: str) -> str:
    """One of a pattern's texts as a query for (stream, number of first and of last event)."""
    letters = re.findall(r"[A-Z]\d?", text)
    conditions = LETTERS | pattern.define
    define = ", ".join(
        f"{name} AS {conditions[name]}" for name in dict.fromkeys(letters) if name in conditions
    )
    within = f"WITHIN INTERVAL '{pattern.within_s + 0.001:.3f}' SECOND" if pattern.within_s else ""
    return f"""
        SELECT p, first_seq, last_seq FROM seen MATCH_RECOGNIZE (
            PARTITION BY p{f", {pattern.per}" if pattern.per else ""} ORDER BY ts
            MEASURES FIRST({letters[0]}.seq) AS first_seq, LAST({letters[-1]}.seq) AS last_seq
            ONE ROW PER MATCH AFTER MATCH SKIP {"PAST LAST" if pattern.once else "TO NEXT"} ROW
            PATTERN ({text}) {within} DEFINE {define})"""


def write_rows(streams: list[list[Seen]], path: Path) -> None:
    """All events of all streams, sorted by time."""
    rows = [
        (at, p, seq, name, visit, n)
        for p, stream in enumerate(streams)
        for seq, (name, at, visit, n) in enumerate(stream, 1)
    ]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        for at, p, seq, name, visit, n in sorted(rows):
            stamp = f"2026-01-01 00:{at // 60_000:02d}:{at // 1_000 % 60:02d}.{at % 1_000:03d}"
            writer.writerow((p, seq, name, at, visit, n, stamp))


def open_flink(rows: Path) -> Any:
    """Flink in this process's own Java machine, with the table ``seen``."""
    table: Any = importlib.import_module("pyflink.table")
    flink = table.TableEnvironment.create(table.EnvironmentSettings.in_streaming_mode())
    flink.get_config().set("parallelism.default", "1")
    flink.execute_sql(
        "CREATE TABLE seen (p INT, seq INT, e STRING, t INT, v STRING, n INT, ts TIMESTAMP(3),"
        " WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)"
        f" WITH ('connector' = 'filesystem', 'path' = '{rows}', 'format' = 'csv')"
    )
    return flink


def ask(flink: Any, pattern: Pattern) -> list[list[int]]:
    """(stream, latest start, end) of what Flink finds, in order; without the start where it is ``once``."""
    starts: dict[tuple[int, int], int] = {}
    for text in pattern.texts:
        with flink.execute_sql(query(pattern, text)).collect() as found:
            for p, first, last in found:
                starts[p, last] = max(first, starts.get((p, last), 0))
    if pattern.once:
        return [[p, last] for p, last in sorted(starts)]
    return [[p, first, last] for (p, last), first in sorted(starts.items())]


def main() -> None:
    """Ask Flink everything and keep what it says."""
    os.environ["TZ"] = "UTC"
    streams = make_streams()
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "seen.csv"
        write_rows(streams, rows)
        flink = open_flink(rows)
        fires = {}
        for name, pattern in PATTERNS.items():
            fires[name] = ask(flink, pattern)
            print(f"{name}: {len(fires[name])} fires", flush=True)
    singles = sum(seen[0] == "a" for stream in streams for seen in stream)
    if len(fires["single"]) != singles:
        raise SystemExit(f"Flink saw {len(fires['single'])} of {singles} events: rows were dropped")
    asked = {name: {"trigger": pattern.trigger, "fires": fires[name]} for name, pattern in PATTERNS.items()}
    kept = {"made_by": "apache-flink 1.18.1, Java 17", "streams": streams, "patterns": asked}
    KEPT.write_bytes(lzma.compress(json.dumps(kept, separators=(",", ":")).encode(), preset=9))
    print(f"{KEPT.name}: {KEPT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
