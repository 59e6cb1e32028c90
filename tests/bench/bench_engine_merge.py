"""What each kind of raster merging saves on three networks: bytes moved, and time per run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from measuring import interleave
from reporting import Row
from walle_engine import api
from walle_shared.units import format_bytes

sys.path.append(str(Path(__file__).parents[1] / "support"))
from walle_support.networks import NETWORKS, Network

#: From nothing merged to everything; each is compared with the first.
KINDS: Mapping[str, Mapping[str, Any]] = {
    "none": {"merge": False},
    "views alone": {"vertical": False, "horizontal": False},
    "views, horizontal": {"vertical": False},
    "views, vertical": {"horizontal": False},
    "all": {},
}


#: The networks that move much: channel shuffles, heads of attention, gathered embeddings.
MOVING = ("shufflenet_v2", "bert_mini", "din")


def run() -> list[Row]:
    """Measure every network under every kind, one thread."""
    return [row for name in MOVING for row in _compare(name, NETWORKS[name]())]


def _compare(name: str, network: Network) -> list[Row]:
    model = network.load()
    sessions = {kind: model.session(**settings) for kind, settings in KINDS.items()}
    samples = interleave({kind: _runner(session, network) for kind, session in sessions.items()})
    unmerged_s = samples["none"].median_s
    rows = []
    for kind, sample in samples.items():
        low, high = sample.span_s
        after = sessions[kind].explain()["merging"]["after"]
        saved = f"{1 - sample.median_s / unmerged_s:.0%} saved; " if kind != "none" else ""
        note = f"{saved}{after['rasters']} rasters move {format_bytes(after['bytes'])}"
        rows.append(
            Row("engine-merge", f"{name}: {kind}", sample.median_s * 1e3, "ms", low * 1e3, high * 1e3, note)
        )
    return rows


def _runner(session: api.Session, network: Network) -> Callable[[], object]:
    return lambda: session.run(network.inputs)
