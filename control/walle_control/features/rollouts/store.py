"""Rows of the rollouts feature: one vote of a kind per device, release and arm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from walle_control.db.sql import Connection, insert_rows
from walle_control.features.rollouts.trial import Arm, Vote, VoteKind
from walle_shared.ids import DeviceId, ReleaseId


def insert_votes(db: Connection, votes: Sequence[tuple[ReleaseId, Vote]]) -> None:
    """Add votes in their order; of a kind, a device's first counts."""
    insert_rows(
        db,
        "INSERT INTO vote (release_id, device_id, arm, kind, at_ms, duration_ms, peak_bytes)",
        [
            (release_id, vote.device_id, vote.arm, vote.kind, vote.at_ms, vote.duration_ms, vote.peak_bytes)
            for release_id, vote in votes
        ],
        "ON CONFLICT DO NOTHING",
    )


def votes_after(db: Connection, release_id: ReleaseId, after: int) -> Iterator[tuple[int, Vote]]:
    """The votes of a release with a number over ``after``, with their numbers, in the order of arrival."""
    rows = db.execute(
        "SELECT id, device_id, arm, kind, at_ms, duration_ms, peak_bytes FROM vote"
        " WHERE release_id = ? AND id > ? ORDER BY id",
        (release_id, after),
    )
    for number, device_id, arm, kind, *measured in rows:
        yield number, Vote(DeviceId(device_id), cast(Arm, arm), cast(VoteKind, kind), *measured)
