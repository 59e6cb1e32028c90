"""Simulates a version before anybody gets it: its own recordings, in the container that devices have.

The program runs beside the server with nothing of its environment and none of its files but the task's; the
task's scripts run in the container's worker, behind its fences.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from walle_control.features.tasks.types import SimulationCell, SimulationFailure, SimulationResult
from walle_shared.errors import RemoteProtocolError
from walle_shared.manifest import BundleFile
from walle_shared.protocol.codec import decode
from walle_shared.protocol.messages import FileRef
from walle_shared.signing import file_ref
from walle_shared.trust.simulated import SimulatedCell, SimulationRecord

#: What the program inherits; no secret is ever among these.
_INHERITED: Final = (
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "PATH",
    "TZ",
    "WALLE_ENGINE_DISABLE",
    "WALLE_ENGINE_ISA",
)

_TAIL_CHARS: Final = 2_000


def simulate_with_agent(files: Mapping[str, bytes], timeout_s: float) -> SimulationResult:
    """Run ``walle-agent task simulate`` on a copy of a task. Blocks.

    Whatever becomes of the program is a result: a simulation that crashed has not passed.
    """
    with tempfile.TemporaryDirectory(prefix="walle-simulate-") as folder:
        root = Path(folder) / "task"
        for path, data in files.items():
            place = root / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        words = [sys.executable, "-m", "walle_agent", "task", "simulate", str(root), "--json"]
        environ = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        try:
            done = subprocess.run(
                words, cwd=folder, env=environ, capture_output=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired:
            return failed("timeout", f"the simulations did not end within {timeout_s:g} s")
    try:
        return decode(SimulationResult, done.stdout)
    except RemoteProtocolError:  # it ended with a complaint instead
        words_of_it = done.stderr.decode(errors="replace").strip()[-_TAIL_CHARS:]
        return failed("crashed", words_of_it or f"walle-agent ended with {done.returncode}")


def failed(kind: str, message: str) -> SimulationResult:
    """The result of a simulation that did not come to its cells."""
    failure = SimulationFailure(kind, message)
    return SimulationResult(
        passed=False, smoked=False, cells=(SimulationCell("", "", "", 0, 0.0, 0, (failure,)),)
    )


def record_of(
    manifest: FileRef, simulations: Mapping[str, bytes], result: SimulationResult
) -> SimulationRecord:
    """What an approval names of a simulation: the same whenever and wherever it is played alike."""
    refs = {path: file_ref(data) for path, data in simulations.items()}
    return SimulationRecord(
        manifest.sha256,
        "failed" if not result.passed else "smoked" if result.smoked else "passed",
        tuple(BundleFile(path, ref.sha256, ref.size_bytes) for path, ref in sorted(refs.items())),
        tuple(sorted(map(_without_measurements, result.cells), key=_place)),
    )


def result_of(record: SimulationRecord) -> SimulationResult:
    """A simulation's result as far as a record tells it."""
    cells = tuple(
        SimulationCell(
            cell.recording, cell.app_version, cell.profile, cell.runs, 0.0, 0,
            tuple(SimulationFailure(kind, "") for kind in cell.failures),
        )
        for cell in record.cells
    )  # fmt: skip
    return SimulationResult(record.outcome != "failed", record.outcome == "smoked", cells)


def _without_measurements(cell: SimulationCell) -> SimulatedCell:
    kinds = tuple(sorted({failure.kind for failure in cell.failures}))
    return SimulatedCell(cell.recording, cell.app_version, cell.profile, cell.runs, kinds)


def _place(cell: SimulatedCell) -> tuple[str, str, str]:
    return cell.recording, cell.app_version, cell.profile


def pack(files: Mapping[str, bytes]) -> bytes:
    """Files as one archive, the same for the same files."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(files):
            archive.writestr(zipfile.ZipInfo(path), files[path], zipfile.ZIP_DEFLATED)
    return target.getvalue()


def unpack(data: bytes) -> dict[str, bytes]:
    """What ``pack`` was given."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
