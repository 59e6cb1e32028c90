"""What sessions with ``search="measure"`` found of nodes: kept, so that each is timed once on a machine.

Keys and texts are the engine's (``we_measured_each``): a key says what the node is (operator, attributes,
shapes, precision, threads, ...), the text how long each way to run it took. The file lies beside the
calibration, and its name says for which processor, instruction set and engine version it holds.
"""

from __future__ import annotations

import base64
import threading
from pathlib import Path

from walle_engine import _native, kept
from walle_shared.errors import EngineError, StorageError

__all__ = ["file_path", "forget", "load", "load_once", "save", "save_new"]

_FORMAT = 1
MOST_BYTES = 4 << 20
MOST_NODES = 1024
_CURE = "'walle-engine calibrate --forget' removes it"

_lock = threading.Lock()
_loaded = False
_saved_count = 0


def file_path() -> Path | None:
    """Return where this machine's measurements are kept, ``None`` where there is no place for them."""
    return kept.file_path("measured")


def load() -> int:
    """Know what the file says; return of how many nodes.

    A file with anything wrong is left aside as a whole, with a warning.
    """
    path = file_path()
    try:
        nodes = _read(path) if path is not None else {}
        for key, text in nodes.items():
            _native.add_measured(key, text)
    except (ValueError, EngineError) as error:
        _native.forget_measured()
        assert path is not None
        kept.ignore(path, str(error), _CURE)
        return 0
    return len(nodes)


def _read(path: Path) -> dict[bytes, str]:
    document = kept.read(path, _FORMAT, MOST_BYTES)
    nodes = document.get("nodes") if document is not None else {}
    if not isinstance(nodes, dict) or len(nodes) > MOST_NODES:
        raise ValueError(f"it holds no measurements, or more than {MOST_NODES}")
    found = {}
    for key, text in nodes.items():
        if not isinstance(text, str) or "\0" in text:
            raise ValueError("a measurement is no text")
        found[base64.b64decode(key, validate=True)] = text
    return found


def load_once() -> None:
    """Load before the process's first session that measures, unless switched off."""
    global _loaded
    with _lock:
        if _loaded or kept.is_off():
            return
        _loaded = True
        load()


def save() -> Path | None:
    """Keep what is known, and what others kept meanwhile as far as there is room.

    Raises:
        StorageError: the file cannot be written.
    """
    path = file_path()
    if path is None:
        return None
    try:
        nodes = _read(path)
    except ValueError:  # it is replaced
        nodes = {}
    for key, text in _native.measured():
        nodes.pop(key, None)  # so that it counts as new
        nodes[key] = text
    kept.write(path, {"format": _FORMAT, "nodes": _newest(nodes)})
    return path


def _newest(nodes: dict[bytes, str]) -> dict[str, str]:
    """As many of the last as a file may hold."""
    room, chosen = MOST_BYTES // 2, []  # JSON escapes each line's end
    for key, text in list(reversed(nodes.items()))[:MOST_NODES]:
        room -= 2 * len(key) + len(text)
        if room < 0:
            break
        chosen.append((base64.b64encode(key).decode(), text))
    return dict(reversed(chosen))


def save_new() -> None:
    """Save if anything was measured since; a file that cannot be written is only worth a warning."""
    global _saved_count
    if kept.is_off() or _native.measured_count() == _saved_count:
        return
    with _lock:
        _saved_count = _native.measured_count()
        try:
            save()
        except StorageError as error:
            path = file_path()
            assert path is not None
            kept.ignore(path, str(error), "measurements hold for this process alone")


def forget() -> bool:
    """Know no measurements and remove the file; ``False`` where there was none."""
    _native.forget_measured()
    path = file_path()
    if path is None or not path.exists():
        return False
    path.unlink(missing_ok=True)
    return True
