"""Published vectors: an implementation of the hash in any language must give these positions."""

import json
from pathlib import Path

import pytest

from walle_shared.targeting import SHARE_ONE, in_share, position

VECTORS = json.loads((Path(__file__).parent / "targeting_vectors.json").read_text())


@pytest.mark.parametrize("vector", VECTORS["positions"], ids=lambda v: f"{v['salt']}-{v['unit']}")
def test_positions(vector: dict[str, str]) -> None:
    assert position(vector["salt"], vector["unit"]) == int(vector["position"])


@pytest.mark.parametrize("vector", VECTORS["positions"], ids=lambda v: f"{v['salt']}-{v['unit']}")
def test_a_device_enters_at_its_position(vector: dict[str, str]) -> None:
    enters = int(vector["position"]) * SHARE_ONE // 2**64
    assert not in_share(vector["salt"], vector["unit"], enters)
    assert in_share(vector["salt"], vector["unit"], enters + 1)
