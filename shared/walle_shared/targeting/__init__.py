"""Which device gets what: the same pure decision on device and server.

``predicate`` parses and evaluates the condition of a release, ``hashing`` places a device on the line from 0
to 2^64, ``ramp`` and ``schedule`` say when a release begins, and ``policy`` decides from a compiled snapshot.
Nothing here does I/O.
"""

from walle_shared.targeting.hashing import (
    POSITIONS,
    SHARE_ONE,
    compile_position,
    compile_share,
    in_share,
    position,
)
from walle_shared.targeting.idset import IdSet
from walle_shared.targeting.policy import (
    Explanation,
    Holdout,
    Moment,
    Personal,
    Policy,
    Release,
    Segment,
    Snapshot,
    Wanted,
    by_reference,
    holdouts_of,
)
from walle_shared.targeting.predicate import Predicate, PredicateError, Profile, parse_predicate
from walle_shared.targeting.ramp import Ramp
from walle_shared.targeting.schedule import Schedule, parse_windows, zone_of

__all__ = [
    "POSITIONS",
    "SHARE_ONE",
    "Explanation",
    "Holdout",
    "IdSet",
    "Moment",
    "Personal",
    "Policy",
    "Predicate",
    "PredicateError",
    "Profile",
    "Ramp",
    "Release",
    "Schedule",
    "Segment",
    "Snapshot",
    "Wanted",
    "by_reference",
    "compile_position",
    "compile_share",
    "holdouts_of",
    "in_share",
    "parse_predicate",
    "parse_windows",
    "position",
    "zone_of",
]
