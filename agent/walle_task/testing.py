"""Run a task in a test or a notebook, without device or container.

::

    from walle_task.testing import fake_host
    import main

    def test_reads_a_digit():
        with fake_host(events=[{"seq": 1, "kind": "page_exit"}], bundle_dir="task") as host:
            main.run()
        assert host.uploads == [{"name": "digit", "fields": {"digit": 7}}]
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from walle_shared.errors import NotFound, TaskError
from walle_shared.limits import TASK_OUTPUT_MAX_BYTES
from walle_task.cloud import ASK, Request, Unavailable
from walle_task.context import RunContext, encode_json, set_current
from walle_task.events import Event, Visit
from walle_task.inbox import READ

__all__ = ["ALL_CAPABILITIES", "CloudHalf", "FakeHost", "fake_host"]

#: Stands in for the cloud half: as ``answer`` of cloud.py, or raises ``cloud.Unavailable``.
type CloudHalf = Callable[[Request], dict[str, Any]]

#: When a run begins whose events have no time: the first of January 2026, in UTC.
SOME_TIME_MS = 1_767_225_600_000

ALL_CAPABILITIES = frozenset(
    {"cloud", "events", "inbox", "learn", "log", "model", "params", "store", "tunnel"}
)


class FakeHost:
    """What the task under test did.

    Attributes:
        context: the run; its buffers fill as the task works.
        asked: what the task asked its cloud half, oldest first.
    """

    def __init__(self, context: RunContext, asked: Sequence[Request] = ()) -> None:
        self.context = context
        self.asked = asked

    @property
    def rows(self) -> list[dict[str, Any]]:
        """``{"table", "row"}`` of everything put into a table."""
        return self.context.rows

    @property
    def values(self) -> dict[str, Any]:
        """Everything put into the store by key; None where it was forgotten."""
        return self.context.values

    @property
    def uploads(self) -> list[dict[str, Any]]:
        """``{"name", "fields"}`` of everything sent."""
        return self.context.uploads

    @property
    def later(self) -> list[dict[str, Any]]:
        """``{"payload", "data"}`` of every question that may be answered later; the data as base64."""
        return self.context.later

    @property
    def logs(self) -> list[dict[str, Any]]:
        """``{"level", "message", "fields"}`` of everything logged."""
        return self.context.logs


@contextmanager
def fake_host(
    *,
    events: Sequence[Event | Mapping[str, Any]] = (),
    visit: Visit | Mapping[str, Any] | None = None,
    trigger: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
    tables: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    values: Mapping[str, Any] | None = None,
    prepared: Mapping[str, Sequence[Sequence[Any]]] | None = None,
    cloud: CloudHalf | None = None,
    inbox: Mapping[str, bytes] | None = None,
    bundle_dir: str | Path = ".",
    capabilities: frozenset[str] = ALL_CAPABILITIES,
    output_bytes: int = TASK_OUTPUT_MAX_BYTES,
    seed: int = 0,
    wall_ms: int | None = None,
    learning: Mapping[str, Any] | None = None,
    learning_round: Mapping[str, Any] | None = None,
) -> Generator[FakeHost]:
    """Be the host of everything in the ``with`` block.

    Args:
        events: the matched slice; one without ``seq`` is numbered by its place, from 1.
        visit: the triggering visit.
        trigger: what fired the run.
        params: the task's parameters.
        tables: rows that are in the store already, by table, oldest first. Once given, other tables do not
            exist.
        values: what is in the store already, by key.
        prepared: rows of the task's ``[[prepare]]`` stages, ``(key, start_ms, end_ms, values)``, by stage.
        cloud: answers what the task asks its cloud half; without it the device is offline.
        inbox: what the app has left for tasks, by name.
        bundle_dir: where the task's folder is; models are in its ``model`` folder.
        capabilities: what the task may use.
        output_bytes: the most it may produce.
        seed: what ``walle_task.random`` begins with.
        wall_ms: when the run begins for ``walle_task.clock``; by default at the time of the last event.
        learning: the ``[learning]`` table of task.toml, for ``walle_task.learn``.
        learning_round: an open round: the terms that differ from the usual, ``{}`` for none. It begins with
            the weights of the bundle's model.
    """
    numbered = [{"seq": number, **_plain(event)} for number, event in enumerate(events, 1)]
    asked: list[Request] = []
    stored, answer = _Stored(tables, values), _CloudAnswers(cloud, asked)
    taught = None if learning is None else _LearningAnswers(learning, learning_round, Path(bundle_dir))

    def call(name: str, args: dict[str, Any]) -> Any:
        if name == READ:
            return _left((inbox or {}).get(args["name"]), args["name"])
        if name == ASK:
            return answer(args)
        return taught(name) if taught is not None and name in _LEARNING else stored(name, args)

    context = RunContext(
        inputs={
            "events": numbered,
            "visit": None if visit is None else _plain(visit),
            "trigger": dict(trigger or {}),
            "prepared": {name: [list(row) for row in rows] for name, rows in (prepared or {}).items()},
            "simulation": simulation(numbered, seed, wall_ms),
        },
        params=dict(params or {}),
        bundle_dir=Path(bundle_dir),
        capabilities=capabilities,
        call=call,
        output_bytes=output_bytes,
    )
    set_current(context)
    try:
        yield FakeHost(context, asked)
    finally:
        set_current(None)


def simulation(events: Sequence[Mapping[str, Any]], seed: int, wall_ms: int | None = None) -> dict[str, int]:
    """What a simulated run with these events is told of chance and time."""
    last = events[-1] if events else {}
    began_ms = last.get("wall_ms") if wall_ms is None else wall_ms
    return {"seed": seed, "wall_ms": began_ms or SOME_TIME_MS, "mono_ns": last.get("mono_ns") or 0}


class _CloudAnswers:
    """Answers ``cloud.ask`` by a function; what both say is what JSON keeps of it, as on the way."""

    def __init__(self, half: CloudHalf | None, asked: list[Request]) -> None:
        self._half = half
        self._asked = asked

    def __call__(self, args: dict[str, Any]) -> list[dict[str, Any]]:
        return [self._answer(question) for question in args["questions"]]

    def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        payload = json.loads(encode_json(question["payload"], "the question's payload"))
        request = Request(payload, bytes(question.get("data", b"")))
        self._asked.append(request)
        if self._half is None:
            return {"reason": "offline", "message": "this host has no cloud half: give fake_host(cloud=...)"}
        try:
            answer = self._half(request)
        except Unavailable as error:
            return {"reason": error.reason, "message": error.message}
        if not isinstance(answer, dict):
            raise TaskError(f"the cloud half answered with {type(answer).__name__}, which is no dict")
        return {"answer": json.loads(encode_json(answer, "the cloud half's answer"))}


def _left(data: bytes | None, name: str) -> bytes:
    if data is None:
        raise NotFound(f"the inbox has no file {name!r}: give fake_host(inbox=...)")
    return data


_LEARNING = ("learn.policy", "learn.round")


class _LearningAnswers:
    """Answers what concerns learning, by a ``[learning]`` table and the terms of a round."""

    def __init__(
        self, learning: Mapping[str, Any], learning_round: Mapping[str, Any] | None, bundle_dir: Path
    ) -> None:
        self._learning = learning
        self._round = learning_round
        self._bundle_dir = bundle_dir

    def __call__(self, name: str) -> Any:
        from walle_task._fake_round import make_offer, make_policy  # only here: it needs the engine

        policy = make_policy(self._learning)
        if name == "learn.policy":
            return policy
        return None if self._round is None else make_offer(policy, self._round, self._bundle_dir)


class _Stored:
    """Answers ``store.rows`` and ``store.get`` from memory, as the agent answers them from its database."""

    def __init__(
        self, tables: Mapping[str, Sequence[Mapping[str, Any]]] | None, values: Mapping[str, Any] | None
    ) -> None:
        self._tables = tables
        self._values = values or {}

    def __call__(self, name: str, args: dict[str, Any]) -> Any:
        if name == "store.rows":
            return self._rows(args["table"], args["limit"], args["where"])
        if name == "store.get":
            return self._values.get(args["key"])
        raise NotFound(f"the host has no function {name!r}")

    def _rows(self, table: str, limit: int, where: dict[str, Any]) -> list[dict[str, Any]]:
        if self._tables is not None and table not in self._tables:
            raise NotFound(f"no table {table!r}: declare [tables.{table}] in task.toml")
        rows = [dict(row) for row in (self._tables or {}).get(table, ())]
        return [row for row in rows if where.items() <= row.items()][-limit:]


def _plain(value: Event | Visit | Mapping[str, Any]) -> dict[str, Any]:
    return asdict(value) if isinstance(value, (Event, Visit)) else dict(value)
