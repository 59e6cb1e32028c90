"""A learning round as ``walle_task.testing`` opens one: what the agent would say, of the bundle's model."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from walle_shared.learning import (
    UPDATE_RECORD,
    LearningSection,
    Parameter,
    RoundTerms,
    encoded_bytes,
    policy_of,
    vector_size,
)
from walle_shared.records import from_plain, to_plain


def make_policy(learning: Mapping[str, Any]) -> dict[str, Any]:
    """What a script is told of its ``[learning]``."""
    return policy_of(from_plain(LearningSection, learning), consents=True)


def make_offer(policy: Mapping[str, Any], terms: Mapping[str, Any], bundle_dir: Path) -> dict[str, Any]:
    """What a script is told of a round that begins with the bundle's model."""
    said = from_plain(RoundTerms, terms)
    parameters_of = importlib.import_module("walle_engine.train.trainer").parameters_of
    path = bundle_dir / "model" / f"{policy['model']}.wmodel"
    found = parameters_of(path, policy["trainable"] or None)
    parameters = tuple(Parameter(name, tuple(weight.shape)) for name, weight in found.items())
    weights = b"".join(bytes(weight.data) for weight in found.values())
    return {
        "plan": "fake",
        "number": 1,
        "record": UPDATE_RECORD,
        "policy": policy,
        "terms": to_plain(said),
        "parameters": [[each.name, list(each.shape)] for each in parameters],
        "size_bytes": encoded_bytes(vector_size(parameters), said.encoding),
        "weights": memoryview(weights).cast("f"),
    }
