"""Which device gets what: the same pure decision on device and server.

``predicate`` parses and evaluates the condition of a release, ``hashing`` places a device on the line from 0
to 2^64, and ``policy`` decides from a compiled snapshot. Nothing here does I/O.
"""

from walle_shared.targeting.hashing import POSITIONS, SHARE_ONE, compile_share, in_share, position
from walle_shared.targeting.policy import Explanation, Policy, Release, Snapshot, Wanted
from walle_shared.targeting.predicate import Predicate, PredicateError, Profile, parse_predicate

__all__ = [
    "POSITIONS",
    "SHARE_ONE",
    "Explanation",
    "Policy",
    "Predicate",
    "PredicateError",
    "Profile",
    "Release",
    "Snapshot",
    "Wanted",
    "compile_share",
    "in_share",
    "parse_predicate",
    "position",
]
