"""Four eyes: which steps of a release another person must approve, and the requests that wait for one.

1. A scenario's rule names the steps: ``create`` (a release waits before any device has it) and ``full`` (it
   waits before its last stage).
2. Whoever asked for the step, and whoever created the release, cannot approve it, with whichever token.
3. A request lapses; asking again is a new one. A step has at most one open request.
4. Breaking the glass takes an admin and a reason, and is in the audit log under that name.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal, cast

import orjson

from walle_control.db.sql import Connection, Row
from walle_control.features.releases.types import (
    Approval,
    ApprovalRule,
    ApprovalState,
    ApprovalStep,
    ReleaseRow,
)
from walle_control.web.access import Permission
from walle_shared.errors import ConfigError, Conflict, NotAllowed
from walle_shared.ids import ReleaseId
from walle_shared.units import DAY_S

Decision = Literal["approved", "rejected", "glass_broken"]

#: Path, permission and meaning of the decisions about what a release waits for.
DECISIONS: Final[tuple[tuple[str, Permission, Decision], ...]] = (
    ("approve", "releases:approve", "approved"),
    ("reject", "releases:approve", "rejected"),
    ("break-glass", "releases:break_glass", "glass_broken"),
)

_VALID_MAX_S = 366 * DAY_S
_REASON_MIN = 10


def rule_of(db: Connection, scenario: str) -> ApprovalRule:
    """A scenario's rule; none was set: nothing needs approval."""
    row = db.execute("SELECT steps, valid_s FROM approval_rule WHERE scenario = ?", (scenario,)).fetchone()
    return ApprovalRule(tuple(orjson.loads(row["steps"])), row["valid_s"]) if row else ApprovalRule()


def set_rule(db: Connection, scenario: str, rule: ApprovalRule) -> None:
    """Set a scenario's rule; requests that are open stay open.

    Raises:
        ConfigError: the time makes no sense.
    """
    if not 60 <= rule.valid_s <= _VALID_MAX_S:
        raise ConfigError(f"valid_s must be within 60..{_VALID_MAX_S:.0f}")
    steps = orjson.dumps(sorted(set(rule.steps))).decode()
    db.execute(
        "INSERT INTO approval_rule (scenario, steps, valid_s) VALUES (?, ?, ?)"
        " ON CONFLICT (scenario) DO UPDATE SET steps = excluded.steps, valid_s = excluded.valid_s",
        (scenario, steps, rule.valid_s),
    )


def is_needed(db: Connection, scenario: str, step: ApprovalStep) -> bool:
    """Whether the step waits for another person."""
    return step in rule_of(db, scenario).steps


def ask(db: Connection, row: ReleaseRow, step: ApprovalStep, actor: str, now_ms: int) -> bool:
    """Ask for approval of a step, unless that was asked; whether it is a new request."""
    if open_request(db, row.id, now_ms) is not None:
        return False
    expires_ms = now_ms + round(rule_of(db, row.scenario).valid_s * 1000)
    db.execute(
        "INSERT INTO approval (release_id, scenario, step, state, asked_by, asked_ms, expires_ms, decided_by,"
        " decided_ms, reason) VALUES (?, ?, ?, 'open', ?, ?, ?, '', 0, '')",
        (row.id, row.scenario, step, actor, now_ms, expires_ms),
    )
    return True


def open_request(db: Connection, release_id: ReleaseId, now_ms: int) -> Approval | None:
    """The request of a release that waits for a decision."""
    newest = history(db, release_id, now_ms)[-1:]
    return newest[0] if newest and newest[0].state == "open" else None


def was_rejected(db: Connection, release_id: ReleaseId, step: ApprovalStep, now_ms: int) -> bool:
    """Whether the newest request for a step was turned down."""
    decided = [request.state for request in history(db, release_id, now_ms) if request.step == step]
    return decided[-1:] == ["rejected"]


def history(db: Connection, release_id: ReleaseId, now_ms: int) -> list[Approval]:
    """The requests of a release, oldest first."""
    rows = db.execute("SELECT * FROM approval WHERE release_id = ? ORDER BY id", (release_id,))
    return [_request(row, now_ms) for row in rows]


def waiting(db: Connection, now_ms: int) -> list[Approval]:
    """All requests that wait for a decision, oldest first."""
    rows = db.execute("SELECT * FROM approval WHERE state = 'open' AND expires_ms > ? ORDER BY id", (now_ms,))
    return [_request(row, now_ms) for row in rows]


def decide(
    db: Connection,
    row: ReleaseRow,
    decision: Decision,
    actor: str,
    creator: str,
    reason: str,
    now_ms: int,
) -> Approval:
    """Write down a decision about a release's open request.

    Raises:
        Conflict: nothing waits for one, or its time is over.
        NotAllowed: the actor asked for it or created the release.
        ConfigError: the glass is broken without a reason.
    """
    request = open_request(db, row.id, now_ms)
    if request is None:
        raise Conflict(
            f"release {row.id} waits for no approval; a request that lapsed is made anew by 'walle-control"
            " release resume' (pending) or 'promote'"
        )
    if decision == "glass_broken":
        if len(reason.strip()) < _REASON_MIN:
            raise ConfigError(f"breaking the glass takes a reason of at least {_REASON_MIN} characters")
    elif actor in (request.asked_by, creator):
        raise NotAllowed(
            f"{actor} asked for this or created the release: let another person with role approver decide",
            code="self_approval",
        )
    db.execute(
        "UPDATE approval SET state = ?, decided_by = ?, decided_ms = ?, reason = ? WHERE id = ?",
        (decision, actor, now_ms, reason, request.id),
    )
    return request


def _request(row: Row, now_ms: int) -> Approval:
    request = Approval(
        row["id"],
        ReleaseId(row["release_id"]),
        row["scenario"],
        cast(ApprovalStep, row["step"]),
        cast(ApprovalState, row["state"]),
        row["asked_by"],
        row["asked_ms"],
        row["expires_ms"],
        row["decided_by"],
        row["decided_ms"],
        row["reason"],
    )
    lapsed = request.state == "open" and request.expires_ms <= now_ms
    return replace(request, state="lapsed") if lapsed else request
