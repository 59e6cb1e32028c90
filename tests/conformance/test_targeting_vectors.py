"""Published vectors: whoever decides about releases, in whatever language, must come to these answers.

The control plane and the agent share one implementation; the vectors hold it to what devices in the field do
already.
"""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from walle_shared.ids import DeviceId, ReleaseId
from walle_shared.records import from_plain
from walle_shared.signing import file_ref
from walle_shared.targeting import (
    SHARE_ONE,
    Moment,
    Policy,
    Ramp,
    Snapshot,
    idset,
    in_share,
    parse_predicate,
    parse_windows,
    position,
    zone_of,
)
from walle_shared.targeting.predicate import version_key

VECTORS = json.loads((Path(__file__).parent / "targeting_vectors.json").read_text())
POLICY = Policy(from_plain(Snapshot, VECTORS["snapshot"]))

Vector = dict[str, Any]


def test_each_kind_of_vector_is_explained_and_there() -> None:
    assert VECTORS.keys() - {"about", "snapshot", "reached"} == VECTORS["about"].keys()
    assert all(VECTORS[name] for name in VECTORS["about"])


@pytest.mark.parametrize("vector", VECTORS["positions"], ids=lambda v: f"{v['salt']}-{v['unit']}")
def test_positions(vector: Vector) -> None:
    assert position(vector["salt"], vector["unit"]) == int(vector["position"])
    enters = int(vector["position"]) * SHARE_ONE // 2**64
    assert not in_share(vector["salt"], vector["unit"], enters)
    assert in_share(vector["salt"], vector["unit"], enters + 1)


def test_versions() -> None:
    keys = [{version_key(text) for text in row} for row in VECTORS["versions"]]
    assert all(len(row) == 1 for row in keys)
    assert all(max(low) < min(high) for low, high in itertools.pairwise(keys))


@pytest.mark.parametrize("vector", VECTORS["predicates"], ids=lambda v: v["predicate"][:40])
def test_predicates(vector: Vector) -> None:
    assert parse_predicate(vector["predicate"])(vector["profile"]) == vector["matches"]


@pytest.mark.parametrize("vector", [*VECTORS["ramps"], *VECTORS["reached"]])
def test_ramps(vector: Vector) -> None:
    ramp = Ramp(vector["from_share"], vector["start_ms"], vector["end_ms"])
    if "now_ms" in vector:
        assert ramp.share_at(vector["now_ms"], vector["share"]) == vector["share_now"]
    else:
        assert ramp.enters_ms(int(vector["position"]), vector["share"]) == vector["enters_ms"]


@pytest.mark.parametrize("vector", VECTORS["windows"], ids=lambda v: f"{v['windows']}-{v['timezone']}")
def test_windows(vector: Vector) -> None:
    schedule = parse_windows(vector["windows"])
    assert schedule is not None
    assert schedule.opens_ms(vector["at_ms"], zone_of(vector["timezone"])) == vector["opens_ms"]


@pytest.mark.parametrize("vector", VECTORS["members"], ids=lambda v: f"{v['member']}-{v['bits']}")
def test_members(vector: Vector) -> None:
    digest = idset.member_digest(vector["salt"], vector["member"])
    assert digest.hex() == vector["digest"]
    shards = [f"shard {number}".encode() for number in range(1 << vector["bits"])]
    index = idset.index_of([file_ref(shard) for shard in shards])
    assert idset.shard_of(index, digest) == file_ref(shards[vector["shard"]])


@pytest.mark.parametrize("vector", VECTORS["decisions"])
def test_decisions(vector: Vector) -> None:
    has, permits = (frozenset(ReleaseId(each) for each in vector[name]) for name in ("has", "permits"))
    moment = Moment(vector["now_ms"], has=has, permits=permits)
    wanted = POLICY.decide(DeviceId(vector["device"]), vector["profile"], moment).get(("s", "t"))  # type: ignore[call-overload]  # plain names
    assert wanted is not None
    assert (wanted.release_id, wanted.votes, wanted.control_of) == (
        vector["release"],
        vector["votes"],
        vector["control_of"],
    )
