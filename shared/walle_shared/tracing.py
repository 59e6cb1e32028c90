"""The context of a trace as it travels between programs: W3C ``traceparent``. Standard library only.

Every run, request and tunnel is part of a trace, whose ids its log lines carry on both sides. A device marks
the share that ``[run] trace_share`` says as sampled, and a control plane with tracing on keeps what became of
those. Source: https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import random
import re
import secrets
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

#: The header, and the member of a ``Record``'s ``extra``.
TRACEPARENT: Final = "traceparent"
#: Member of a ``Record``'s ``extra``: how long the run took, in whole milliseconds.
RUN_MS: Final = "run_ms"

# Higher versions must begin with what version 00 has; version ff is forbidden.
_FORM = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Which trace something belongs to, and which part of it came before; hex digits."""

    trace_id: str
    span_id: str
    sampled: bool = True

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    def child(self) -> TraceContext:
        """A new part of the same trace."""
        return TraceContext(self.trace_id, secrets.token_hex(8), self.sampled)


_current: ContextVar[TraceContext | None] = ContextVar("walle_trace", default=None)


def new_trace(share: float = 1.0) -> TraceContext:
    """A trace that begins here; a ``share`` of them is sampled."""
    return TraceContext(secrets.token_hex(16), secrets.token_hex(8), random.random() < share)


def current_trace() -> TraceContext | None:
    """What the running task works at, if anybody said."""
    return _current.get()


def enter_trace(trace: TraceContext) -> TraceContext:
    """Say that the running task, and those it starts, work at this from now on."""
    # Never reset: what is logged of a request after it failed belongs to it, and whoever goes on says so.
    _current.set(trace)
    return trace


def parse_traceparent(text: object) -> TraceContext | None:
    """What a peer says, if it says it rightly: a wrong one counts as none."""
    found = _FORM.fullmatch(text) if isinstance(text, str) and len(text) <= 512 else None
    if found is None or (found[1] == "00" and found[5]) or not int(found[2], 16) or not int(found[3], 16):
        return None
    return TraceContext(found[2], found[3], bool(int(found[4], 16) & 1))
