from collections.abc import Mapping

import pytest

from walle_shared.errors import RemoteProtocolError
from walle_shared.ids import DeviceId, ReleaseId, ScenarioName, Sha256, TaskName, TaskVersion
from walle_shared.protocol.messages import FileRef
from walle_shared.targeting import SHARE_ONE, Policy, Release, Snapshot
from walle_shared.targeting.predicate import Scalar

DEVICE = DeviceId("d-1")
KEY = (ScenarioName("demo"), TaskName("t"))
BETA: Mapping[str, Scalar] = {"group": "beta"}
STABLE: Mapping[str, Scalar] = {"group": "stable"}


def release(
    version: str,
    rank: int,
    *,
    predicate: str = "",
    share: int = SHARE_ONE,
    salt: str = "s",
    control: int = 0,
    voters: int = SHARE_ONE,
) -> Release:
    return Release(
        ReleaseId(f"r{rank}"),
        KEY[0],
        KEY[1],
        TaskVersion(version),
        FileRef(Sha256(f"{rank:064d}"), 10),
        predicate,
        share,
        salt,
        rank,
        control,
        voters,
    )


def versions(profile: Mapping[str, Scalar], *releases: Release) -> list[str]:
    return [w.version for w in Policy(Snapshot(1, releases)).decide(DEVICE, profile).values()]


def test_the_newest_release_that_applies_wins() -> None:
    old, new = release("1.0", 1), release("2.0", 2, predicate='group == "beta"')
    assert versions(BETA, old, new) == ["2.0"]
    assert versions(STABLE, new, old) == ["1.0"]


def test_a_release_taken_out_lets_its_devices_fall_back() -> None:
    old = release("1.0", 1)
    assert versions(BETA, old, release("2.0", 2)) == ["2.0"]
    assert versions(BETA, old) == ["1.0"]


def test_nothing_applies_means_not_wanted() -> None:
    assert versions(STABLE, release("2.0", 2, predicate='group == "beta"')) == []
    assert versions(BETA, release("2.0", 2, share=0)) == []


def test_a_device_that_is_held_back_keeps_what_was_before_and_says_what_it_is_compared_with() -> None:
    policy = Policy(Snapshot(1, (release("1.0", 1), release("2.0", 2, control=SHARE_ONE))))
    (wanted,) = policy.decide(DEVICE, BETA).values()
    assert (wanted.version, wanted.votes, wanted.control_of) == ("1.0", True, "r2")
    assert policy.explain(DEVICE, BETA)[0].reason == "held back, to be compared with (control arm)"


def test_without_a_version_before_it_a_device_that_is_held_back_has_nothing() -> None:
    assert versions(BETA, release("2.0", 2, control=SHARE_ONE)) == []


def test_only_voters_are_compared() -> None:
    releases = release("1.0", 1, voters=0), release("2.0", 2, control=SHARE_ONE, voters=0)
    (wanted,) = Policy(Snapshot(1, releases)).decide(DEVICE, BETA).values()
    assert (wanted.votes, wanted.control_of) == (False, "")


def test_every_release_explains_itself() -> None:
    policy = Policy(
        Snapshot(
            1,
            (
                release("1.0", 1),
                release("2.0", 2),
                release("3.0", 3, share=0),
                release("4.0", 4, predicate='region == "eu"'),
            ),
        )
    )
    reasons = {e.release_id: e.reason for e in policy.explain(DEVICE, BETA)}
    assert reasons == {
        "r4": "predicate does not match (profile has no region)",
        "r3": "outside the share of 0.0000%",
        "r2": "chosen",
        "r1": "a newer release of the task applies",
    }


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (release("1.0", 1, share=SHARE_ONE + 1), "share"),
        (release("1.0", 1, share=-1), "share"),
        (release("1.0", 1, salt=""), "salt"),
        (release("1.0", 1, salt="x" * 49), "salt"),
        (release("1.0", 1, control=SHARE_ONE + 1), "control"),
        (release("1.0", 1, voters=-1), "voters"),
        (release("1.0", 1, predicate="group ="), "cannot read"),
    ],
)
def test_a_malformed_release_is_refused_whole(bad: Release, complaint: str) -> None:
    with pytest.raises(RemoteProtocolError, match=f"(?s)release r1.*{complaint}"):
        Policy(Snapshot(1, (bad,)))
