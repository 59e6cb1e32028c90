"""The trials of all releases, kept in step with the stored votes. Safe to use from several threads."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from walle_control.db.sql import Connection
from walle_control.features.rollouts import store
from walle_control.features.rollouts.guard import GuardSettings, RolloutPlan, Verdict
from walle_control.features.rollouts.trial import Trial
from walle_shared.ids import ReleaseId

#: Trials kept in memory; others are made again from their votes when asked for.
_TRIALS_MAX = 256


@dataclass(frozen=True, slots=True)
class Tried:
    """A release as its trial sees it; ``staged_ms`` is when it came to ``stage``."""

    id: ReleaseId
    guard: GuardSettings
    plan: RolloutPlan
    stage: int
    staged_ms: int

    @property
    def is_last_stage(self) -> bool:
        """Whether nobody is held back any more."""
        return self.stage == len(self.plan.stages) - 1


@dataclass(slots=True)
class _Entry:
    trial: Trial
    last_vote: int = 0


class TrialBook:
    """Judges releases by what the database holds of their votes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[ReleaseId, _Entry] = {}

    def judge(self, db: Connection, tried: Tried, now_ms: int) -> Verdict:
        """The verdict on a release as of now. Blocks for the votes that came since the last one."""
        with self._lock:
            entry = self._entries.pop(tried.id, None) or _Entry(Trial(tried.guard))
            self._entries[tried.id] = entry  # the newest used is the last
            if len(self._entries) > _TRIALS_MAX:
                del self._entries[next(iter(self._entries))]
            self._catch_up(db, tried, entry, now_ms)
            return entry.trial.judge(tried.plan.stages[tried.stage].min_devices)

    def _catch_up(self, db: Connection, tried: Tried, entry: _Entry, now_ms: int) -> None:
        ends_comparing = tried.is_last_stage and tried.plan.control > 0
        for number, vote in store.votes_after(db, tried.id, entry.last_vote):
            if ends_comparing and vote.at_ms >= tried.staged_ms:
                entry.trial.stop_comparing()
            entry.trial.take(vote)
            entry.last_vote = number
        if ends_comparing:
            entry.trial.stop_comparing()
        entry.trial.advance(now_ms)
