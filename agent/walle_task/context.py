"""The run a task script is part of: what it was given, what it has produced, and whom it may ask.

``events``, ``store`` and their neighbours are thin faces of the one :class:`RunContext` that is current. The
container makes one for each run, :mod:`walle_task.testing` makes one for each test. Invariants:

1. What a run writes or sends stays in the context; whoever made the context commits it if the run ends well.
2. Everything a run produces counts against ``output_bytes``. Past it the run is lost, whatever the script
   catches.
3. Logs are capped by dropping, because a chatty task is no reason to lose its result.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from walle_shared.errors import LimitExceeded, NotAllowed, TaskError
from walle_shared.limits import TASK_OUTPUT_MAX_BYTES, TASK_ROW_MAX_BYTES

if TYPE_CHECKING:
    from random import Random

    from walle_task.events import Event, Visit

type Json = dict[str, Any] | list[Any] | str | int | float | bool | None
type HostCall = Callable[[str, dict[str, Any]], Any]

KEY_MAX_CHARS = 128
LOG_MAX_ENTRIES = 200
LOG_MESSAGE_MAX_CHARS = 2_000
LOG_FIELDS_MAX_BYTES = 4_000


def is_granted(name: str, capabilities: frozenset[str]) -> bool:
    """Whether ``capabilities`` allow the host function ``name``: by its full name or by its family.

    ``store`` grants ``store.get``, ``store.rows`` and ``store.put``; ``store.get`` grants that one alone.
    """
    return name in capabilities or name.partition(".")[0] in capabilities


@dataclass(frozen=True, slots=True)
class Simulation:
    """What makes a simulated run repeat itself: the seed of its chance, and when it begins."""

    seed: int
    wall_ms: int
    mono_ns: int


class RunContext:
    """One run: its inputs, its buffered outputs, and the way to ask the host.

    Args:
        inputs: ``{"events": [...], "visit": {...} | None, "trigger": {...}}``, as they come from the
            pipeline; a simulated run has ``"simulation": {"seed", "wall_ms", "mono_ns"}`` too.
        params: the task's parameters.
        bundle_dir: the unpacked bundle.
        capabilities: names of granted host functions or families.
        call: asks the host synchronously; raises what the host refuses with.
        output_bytes: the most the run may produce in all, as JSON.
    """

    def __init__(
        self,
        *,
        inputs: dict[str, Any],
        params: dict[str, Any],
        bundle_dir: Path,
        capabilities: frozenset[str],
        call: HostCall,
        output_bytes: int = TASK_OUTPUT_MAX_BYTES,
    ) -> None:
        self.inputs = inputs
        self.params = params
        self.bundle_dir = bundle_dir
        self.capabilities = capabilities
        self.output_bytes = output_bytes
        self.rows: list[dict[str, Any]] = []
        self.values: dict[str, Any] = {}
        self.uploads: list[dict[str, Any]] = []
        self.later: list[dict[str, Any]] = []
        self.logs: list[dict[str, Any]] = []
        self.logs_dropped = 0
        self.produced_bytes = 0
        self.overflowed = False
        self.events_cache: tuple[Event, ...] | None = None
        self.visit_cache: Visit | None = None
        simulation = inputs.get("simulation")
        self.simulation = None if simulation is None else Simulation(**simulation)
        self.clock_readings = 0
        self.generator: Random | None = None
        self._call = call

    def check_granted(self, name: str) -> None:
        """Refuse what the task's manifest did not ask for.

        Raises:
            NotAllowed: naming the capability and where to grant it.
        """
        if not is_granted(name, self.capabilities):
            family = name.partition(".")[0]
            raise NotAllowed(f"the task may not use {name}: add {family!r} to capabilities in its task.toml")

    def ask(self, name: str, args: dict[str, Any]) -> Any:
        """Call the host function ``name``.

        Raises:
            NotAllowed: it is not granted.
            WalleError: the host refused or failed.
        """
        self.check_granted(name)
        return self._call(name, args)

    def count_output(self, size_bytes: int) -> None:
        """Charge what the run produces.

        Raises:
            LimitExceeded: the run has produced too much; it will not count as a success any more.
        """
        self.produced_bytes += size_bytes
        if self.produced_bytes > self.output_bytes:
            self.overflowed = True
            raise LimitExceeded(
                f"the run produced {self.produced_bytes} bytes; its limit is {self.output_bytes}: "
                "return, store and send less, or raise output_bytes in task.toml"
            )

    def add_row(self, table: str, row: dict[str, Any]) -> None:
        """Buffer one row for the store."""
        self.check_granted("store.put")
        self.rows.append({"table": table, "row": self._owned(row, f"the row for table {table!r}")})

    def set_value(self, key: str, value: Any) -> None:
        """Buffer what is to be kept under ``key``; None forgets it."""
        self.check_granted("store.put")
        if not isinstance(key, str) or not 0 < len(key) <= KEY_MAX_CHARS:
            raise TaskError(
                f"a key of the store is a text of 1 to {KEY_MAX_CHARS} characters, not {key!r:.80}"
            )
        self.values[key] = self._owned({key: value}, "the store's value")[key]

    def add_upload(self, name: str, fields: dict[str, Any]) -> None:
        """Buffer one message for the tunnel."""
        self.check_granted("tunnel.send")
        self.uploads.append({"name": name, "fields": self._owned(fields, f"the message {name!r}")})

    def add_later(self, payload: dict[str, Any], data: bytes) -> None:
        """Buffer one question whose answer may come whenever it comes."""
        self.check_granted("cloud.ask_later")
        text = base64.b64encode(data).decode()
        self.count_output(len(text))
        self.later.append({"payload": self._owned(payload, "the question's payload"), "data": text})

    def add_log(self, level: str, message: str, fields: dict[str, Any]) -> None:
        """Keep one line of log; past :data:`LOG_MAX_ENTRIES` lines they are only counted."""
        if len(self.logs) >= LOG_MAX_ENTRIES:
            self.logs_dropped += 1
            return
        self.logs.append(
            {"level": level, "message": str(message)[:LOG_MESSAGE_MAX_CHARS], "fields": _loggable(fields)}
        )

    def _owned(self, value: dict[str, Any], what: str) -> dict[str, Any]:
        """A copy of ``value`` as JSON keeps it, charged to the run; the script cannot change it any more."""
        if not isinstance(value, dict):
            raise TaskError(f"{what} must be a dict, not {type(value).__name__}")
        encoded = encode_json(value, what)
        if len(encoded) > TASK_ROW_MAX_BYTES:
            raise LimitExceeded(
                f"{what} has {len(encoded)} bytes; the limit is {TASK_ROW_MAX_BYTES}: split it"
            )
        self.count_output(len(encoded))
        owned: dict[str, Any] = json.loads(encoded)
        return owned


def _loggable(fields: dict[str, Any]) -> dict[str, Any]:
    """``fields`` as JSON keeps them; what JSON cannot hold, or is too long, as text."""
    try:
        encoded = encode_json(fields, "the fields")
    except TaskError:
        encoded = json.dumps({name: repr(value) for name, value in fields.items()}).encode()
    if len(encoded) > LOG_FIELDS_MAX_BYTES:
        return {"cut": encoded[:LOG_FIELDS_MAX_BYTES].decode("utf-8", "replace")}
    kept: dict[str, Any] = json.loads(encoded)
    return kept


_current: RunContext | None = None


def current() -> RunContext:
    """The run that is going on.

    Raises:
        TaskError: there is none, as when a script is imported without a host.
    """
    if _current is None:
        raise TaskError("no run is going on: in a test use `with walle_task.testing.fake_host(...):`")
    return _current


def set_current(context: RunContext | None) -> None:
    """Make ``context`` the run that is going on; None ends it. For hosts, not for tasks."""
    global _current
    _current = context


type ImageService = Callable[[dict[str, Any]], dict[str, Any]]

_image_service: ImageService | None = None


def image_service() -> ImageService | None:
    """What decodes image files here; None in plain Python, where Pillow is called directly."""
    return _image_service


def set_image_service(service: ImageService | None) -> None:
    """Let ``service`` decode image files. For hosts, not for tasks."""
    global _image_service
    _image_service = service


JSON_MAX_DEPTH = 64


def encode_json(value: object, what: str, default: Callable[[object], object] | None = None) -> bytes:
    """Encode ``value`` as UTF-8 JSON that any strict reader accepts.

    Args:
        value: None, bool, int, float, str, and lists, tuples and string-keyed dicts of them; no NaN, no
            infinity.
        what: names the value in errors.
        default: stands in for parts that are none of these, or raises TypeError.

    Raises:
        TaskError: it is something else; the message names the first wrong part.
    """
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=default)
        if text.count("[") + text.count("{") > JSON_MAX_DEPTH:
            _check_json(value, what, 0, default)
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        _check_json(value, what, 0, default)
        raise TaskError(f"{what} cannot be written as JSON: {error}") from error


def _check_json(
    value: object, path: str, depth: int, default: Callable[[object], object] | None = None
) -> None:
    """Find the part of ``value`` that strict JSON cannot hold, and name it."""
    if depth > JSON_MAX_DEPTH:
        raise TaskError(f"{path[:80]} is nested deeper than {JSON_MAX_DEPTH} levels, or contains itself")
    match value:
        case None | bool() | int():
            return
        case float():
            if value != value or value in (float("inf"), float("-inf")):
                raise TaskError(f"{path} is {value}, which JSON cannot hold: send None, or clamp it")
        case str():
            _check_text(value, path)
        case list() | tuple():
            for index, item in enumerate(value):
                _check_json(item, f"{path}[{index}]", depth + 1, default)
        case dict():
            for key, item in value.items():
                if not isinstance(key, (str, int, float)) and key is not None:
                    raise TaskError(f"{path} has the key {key!r}; JSON keys are strings")
                _check_json(item, f"{path}[{key!r}]", depth + 1, default)
        case _ if default is not None and _is_taken(default, value):
            return
        case _:
            hint = ": use .tolist()" if hasattr(value, "tolist") else ""
            raise TaskError(f"{path} has type {type(value).__name__}, which JSON cannot hold{hint}")


def _is_taken(default: Callable[[object], object], value: object) -> bool:
    try:
        default(value)
    except TypeError:
        return False
    return True


def _check_text(value: str, path: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise TaskError(f"{path} is text with a lone surrogate, which UTF-8 cannot hold") from error
