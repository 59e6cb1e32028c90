"""The engines there are to compare with, and which interpreter has them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from walle_engine.bench.driver import ENGINES, Contestant

__all__ = ["INTERPRETERS", "PEERS", "Peer", "find_modules", "interpreters", "resolve"]

#: Names further interpreters that have engines, separated by colons.
INTERPRETERS = "WALLE_BENCH_PEERS"


@dataclass(frozen=True, slots=True)
class Peer:
    """An engine to compare with.

    Args:
        name: in tables.
        module: what must be importable.
        engine: its file.
        settings: what that file understands.
        full: whether it computes in float32.
        isa_variable: the environment variable that caps its instruction set, and its values for our names.
    """

    name: str
    module: str
    engine: Path
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    full: bool = True
    isa_variable: str = ""
    isa_values: Mapping[str, str] = field(default_factory=dict[str, str])


#: Source: oneDNN, "CPU dispatcher control".
ONEDNN_ISA = {"avx2": "AVX2", "avx512": "AVX512_CORE", "avx512vnni": "AVX512_CORE_VNNI"}

PEERS = (
    Peer("ONNX Runtime", "onnxruntime", ENGINES / "onnxruntime.py"),
    Peer(
        "OpenVINO f32", "openvino", ENGINES / "openvino.py", {"precision": "f32"},
        isa_variable="ONEDNN_MAX_CPU_ISA", isa_values=ONEDNN_ISA,
    ),
    Peer(
        "OpenVINO", "openvino", ENGINES / "openvino.py", {"precision": ""}, full=False,
        isa_variable="ONEDNN_MAX_CPU_ISA", isa_values=ONEDNN_ISA,
    ),
)  # fmt: skip


_FIND = """
import importlib.util, json, sys
print(json.dumps([module for module in sys.argv[1:] if importlib.util.find_spec(module)]))
"""


def interpreters(extra: Iterable[str] = ()) -> list[str]:
    """This interpreter, those of the environment, and ``extra`` ones."""
    named = os.environ.get(INTERPRETERS, "").split(os.pathsep)
    return list(dict.fromkeys([sys.executable, *filter(None, named), *extra]))


def find_modules(modules: Iterable[str], pythons: Iterable[str]) -> dict[str, str]:
    """Return for each module the first interpreter that could import it; those that none has are left out."""
    wanted = sorted(set(modules))
    found: dict[str, str] = {}
    for python in pythons:
        try:
            done = subprocess.run(
                [python, "-P", "-c", _FIND, *wanted], capture_output=True, timeout=60, check=True
            )
        except (OSError, subprocess.SubprocessError):
            continue
        for module in json.loads(done.stdout):
            found.setdefault(module, python)
    return found


def resolve(
    peers: Sequence[Peer], pythons: Sequence[str], isa: str | None = None
) -> tuple[list[Contestant], dict[str, str]]:
    """Turn the peers that some interpreter has into contestants; the second result is why others are missing.

    Args:
        peers: those wanted.
        pythons: where to look, best first.
        isa: cap of the instruction set, by our name; a peer that cannot be capped is missing then.
    """
    where = find_modules((peer.module for peer in peers), pythons)
    contestants, missing = [], {}
    for peer in peers:
        environment: dict[str, str] = {}
        if peer.module not in where:
            missing[peer.name] = (
                f"no interpreter has the module {peer.module} ({INTERPRETERS} names more of them)"
            )
            continue
        if isa is not None:
            if isa not in peer.isa_values:
                missing[peer.name] = f"has no way to be capped to {isa}"
                continue
            environment[peer.isa_variable] = peer.isa_values[isa]
        contestants.append(Contestant(peer.name, peer.engine, peer.settings, where[peer.module], environment))
    return contestants, missing
