"""Whose question is worked on next: fair among releases, then among devices, and honest about time. Pure.

1. At most ``slots`` questions are worked on, and of each release at most its own number.
2. Of the releases that wait, the one that has had the least work so far comes next; a release that begins to
   wait has had as much as the others by then, so that nobody saves up. Of its devices, each has one turn.
3. A question that cannot be answered within its time, as far as that can be foreseen, is refused at once.
   What is foreseen rests on what answers of that release took lately; where none was worked out for a while,
   or ever, nothing is refused. So a release whose first answers were slow is not refused for ever.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final, Literal

#: How much the newest answer counts for what is foreseen, if it was slower than usual, and if faster: the
#: first ones load models.
_WEIGHT_SLOWER: Final = 0.2
_WEIGHT_FASTER: Final = 0.5
#: What answers took so long ago says nothing of the next.
FORGET_S: Final = 10.0

Refusal = Literal["deadline", "busy"]


@dataclass(eq=False, slots=True)
class Ticket:
    """A question in the queue.

    Attributes:
        line: whose it is: a release.
        device: who asks.
        expires_s: when its answer is of no use any more.
        workers: how many of its line may be worked on at once.
    """

    line: str
    device: str
    expires_s: float
    workers: int


@dataclass(slots=True)
class _Line:
    """The questions of one release."""

    waiting: OrderedDict[str, deque[Ticket]] = field(default_factory=OrderedDict)
    count: int = 0
    running: int = 0
    worked_s: float = 0.0
    usual_s: float = 0.0
    measured_s: float = 0.0

    @property
    def ahead_s(self) -> float:
        """The work that waits and half of that which goes on."""
        return (self.count + self.running / 2) * self.usual_s


class FairQueue:
    """Questions that wait.

    Args:
        slots: how many are worked on at once.
        waiting_max: how many may wait in all.
    """

    def __init__(self, slots: int, waiting_max: int) -> None:
        self._slots = slots
        self._waiting_max = waiting_max
        self._lines: dict[str, _Line] = {}
        self._floor_s = 0.0
        self.waiting = self.running = 0

    def foresee_s(self, ticket: Ticket, now_s: float) -> float:
        """In how many seconds its answer would be there."""
        line = self._lines.get(ticket.line)
        if line is None or now_s - line.measured_s > FORGET_S:
            return 0.0
        if self.running < self._slots and line.running < ticket.workers and not line.count:
            return line.usual_s
        active = [each for each in self._lines.values() if each.count or each.running]
        shared_s = min(line.ahead_s * max(len(active), 1), sum(each.ahead_s for each in active)) / self._slots
        return max(shared_s, line.ahead_s / ticket.workers) + line.usual_s

    def enter(self, ticket: Ticket, now_s: float) -> Refusal | None:
        """Take a question in, or say why not."""
        if now_s + self.foresee_s(ticket, now_s) >= ticket.expires_s:
            return "deadline"
        if self.waiting >= self._waiting_max:
            return "busy"
        line = self._lines.setdefault(ticket.line, _Line())
        if not line.count and not line.running:
            line.worked_s = max(line.worked_s, self._floor_s)
        line.waiting.setdefault(ticket.device, deque()).append(ticket)
        line.count += 1
        self.waiting += 1
        return None

    def leave(self, ticket: Ticket) -> None:
        """Forget a question that waits, unless it was passed over already."""
        line = self._lines[ticket.line]
        tickets = line.waiting.get(ticket.device)
        if tickets is not None and ticket in tickets:
            tickets.remove(ticket)
            self._took(line, ticket.device)

    def next(self, now_s: float) -> Ticket | None:
        """The question to begin with now; None if nothing may begin. It counts as worked on at once."""
        while self.running < self._slots:
            ready = [
                line
                for line in self._lines.values()
                if line.count and line.running < next(iter(line.waiting.values()))[0].workers
            ]
            if not ready:
                return None
            line = min(ready, key=lambda each: each.worked_s)
            device, tickets = next(iter(line.waiting.items()))
            ticket = tickets.popleft()
            self._took(line, device)
            if ticket.expires_s <= now_s:
                continue  # whoever asked is about to leave by itself
            line.running += 1
            self.running += 1
            self._floor_s = max(self._floor_s, line.worked_s)
            line.worked_s += line.usual_s
            return ticket
        return None

    def done(self, ticket: Ticket, now_s: float, took_s: float, *, counts: bool = True) -> None:
        """It was worked on for so long; without ``counts`` that says nothing of others."""
        line = self._lines[ticket.line]
        line.running -= 1
        self.running -= 1
        line.worked_s += took_s - line.usual_s
        if counts:
            weight = _WEIGHT_FASTER if took_s < line.usual_s else _WEIGHT_SLOWER
            line.usual_s = took_s if not line.usual_s else line.usual_s + weight * (took_s - line.usual_s)
            line.measured_s = now_s

    def _took(self, line: _Line, device: str) -> None:
        line.count -= 1
        self.waiting -= 1
        if line.waiting[device]:
            line.waiting.move_to_end(device)
        else:
            del line.waiting[device]
