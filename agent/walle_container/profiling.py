"""Where a run's time goes: a tree of calls, taken inside the slot by ``sys.monitoring``.

Every call of a Python function is entered and left exactly, so short runs need no luck with samples. Time in
C code counts for the Python function that called it, except three things that have nodes of their own: calls
of the host, runs of a model, and the engine's steps within one. A profiled call costs about 0.6 µs more
(fib(22), Zen 5, 2026-11), so a task of very many tiny calls looks worse than it is; loops without calls cost
nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Container
from pathlib import PurePath
from types import CodeType
from typing import Any

#: Nodes past this many are counted for those above them: recursion must not fill the frame.
NODES_MAX = 4_000

_TOOL_ID = sys.monitoring.PROFILER_ID
_NOT_KEPT = -1
_now_ns = time.perf_counter_ns


class CallTree:
    """Calls that are entered and left. Node 0 is the run itself; a key is a code object or (kind, name)."""

    def __init__(self) -> None:
        self._keys: list[object] = [("run", "run")]
        self._parents = [-1]
        self._calls = [1]
        self._total_ns = [0]
        self._children: list[dict[object, int]] = [{}]
        self._open: list[tuple[object, int, int]] = [(None, 0, _now_ns())]  # key, node, since

    def enter(self, key: object) -> None:
        """Go into a call of ``key``."""
        self._open.append((key, self._node(key), _now_ns()))

    def leave(self, key: object) -> None:
        """Come out of the innermost call of ``key``, and of whatever within it was not left."""
        if self._open[-1][0] is not key and not any(key is entry[0] for entry in self._open):
            return  # it was entered before the profile began
        while self._leave_innermost() is not key:
            pass

    def span(self, kind: str, name: str) -> Span:
        """Count the ``with`` block as one call."""
        return Span(self, (kind, name))

    def add(self, kind: str, name: str, total_ns: int) -> None:
        """Count one call that was timed elsewhere, below the one that is open now."""
        node = self._node((kind, name))
        if node != _NOT_KEPT:
            self._calls[node] += 1
            self._total_ns[node] += total_ns

    def close(self) -> None:
        """Come out of everything."""
        while self._open:
            self._leave_innermost()

    def to_plain(self, sources: Container[str]) -> list[list[Any]]:
        """The nodes as JSON: ``[parent, kind, name, place, calls, total_ns]``, parents first.

        Args:
            sources: paths in the bundle of its own modules; their functions are of kind ``task``.
        """
        columns = zip(self._parents, self._keys, self._calls, self._total_ns, strict=True)
        return [[parent, *_describe(key, sources), calls, ns] for parent, key, calls, ns in columns]

    def _leave_innermost(self) -> object:
        key, node, since_ns = self._open.pop()
        if node != _NOT_KEPT:
            self._total_ns[node] += _now_ns() - since_ns
            self._calls[node] += key is not None
        return key

    def _node(self, key: object) -> int:
        parent = self._open[-1][1]
        if parent == _NOT_KEPT:
            return _NOT_KEPT
        node = self._children[parent].get(key)
        if node is None:
            if len(self._keys) >= NODES_MAX:
                return _NOT_KEPT
            node = self._children[parent][key] = len(self._keys)
            self._keys.append(key)
            self._parents.append(parent)
            self._calls.append(0)
            self._total_ns.append(0)
            self._children.append({})
        return node


class Span:
    """One call that is no function's."""

    def __init__(self, tree: CallTree, key: tuple[str, str]) -> None:
        self._tree = tree
        self._key = key

    def __enter__(self) -> None:
        self._tree.enter(self._key)

    def __exit__(self, *_: object) -> None:
        self._tree.leave(self._key)


def _describe(key: object, sources: Container[str]) -> tuple[str, str, str]:
    """Kind, name and place of a node."""
    if isinstance(key, tuple):
        kind, name = key
        return kind, name, ""
    assert isinstance(key, CodeType)
    if key.co_filename in sources:
        return "task", key.co_qualname, f"{key.co_filename}:{key.co_firstlineno}"
    place = "/".join(PurePath(key.co_filename).parts[-2:])
    return "library", key.co_qualname, f"{place}:{key.co_firstlineno}"


def start(tree: CallTree) -> None:
    """Feed the tree with this interpreter's calls, from now on."""

    def enter(code: CodeType, _offset: int, _thrown: object = None) -> None:
        if code.co_filename != own_file:
            tree.enter(code)

    def leave(code: CodeType, _offset: int, _value: object) -> None:
        if code.co_filename != own_file:
            tree.leave(code)

    own_file = enter.__code__.co_filename

    monitoring = sys.monitoring
    events = monitoring.events
    monitoring.use_tool_id(_TOOL_ID, "walle")
    entering = (events.PY_START, events.PY_RESUME, events.PY_THROW)
    leaving = (events.PY_RETURN, events.PY_YIELD, events.PY_UNWIND)
    for event in entering:
        monitoring.register_callback(_TOOL_ID, event, enter)
    for event in leaving:
        monitoring.register_callback(_TOOL_ID, event, leave)
    monitoring.set_events(_TOOL_ID, sum((*entering, *leaving)))


def stop() -> None:
    """Feed it no more."""
    sys.monitoring.set_events(_TOOL_ID, 0)
    sys.monitoring.free_tool_id(_TOOL_ID)
