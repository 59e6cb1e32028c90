"""What no profile says of itself: membership in sets, and what only the server knows."""

from __future__ import annotations

from functools import partial

from walle_control.db.files import FileStore
from walle_control.db.sql import Connection
from walle_control.features.audiences import read_model
from walle_control.features.audiences.read_model import Audiences
from walle_shared.ids import DeviceId
from walle_shared.targeting import IdSet, Predicate, Profile, idset


def is_in(files: FileStore, asked: IdSet, member: str) -> bool:
    """Whether an id is in a set, as a device would find out. Blocks.

    Raises:
        LengthOrHashError: a file is damaged.
    """
    digest = idset.member_digest(asked.salt, member)
    shard = idset.shard_of(files.read("ids", asked.index), digest)
    return shard is not None and idset.contains(files.read("ids", shard), digest)


def applies(
    db: Connection,
    files: FileStore,
    known: Audiences,
    predicate: Predicate,
    device_id: DeviceId,
    profile: Profile,
) -> bool:
    """Whether a predicate matches a device, with all that the server knows of it. Blocks."""
    full = read_model.full_profile(db, device_id, profile)
    questions = {question: known.sets[question.set_name] for question in predicate.sets}
    answers = idset.answer_sets(questions, device_id, full, partial(is_in, files))
    return predicate.test({**full, **answers})
