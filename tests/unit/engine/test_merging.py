"""Merging on whole networks: same results whichever way, fewer bytes moved, and the figures that say so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from walle_support.networks import Network, small

_NETWORKS = dict(small())
_KINDS: dict[str, dict[str, Any]] = {
    "none": {"merge": False},
    "views": {"vertical": False, "horizontal": False, "verify": True},
    "vertical": {"horizontal": False, "verify": True},
    "horizontal": {"vertical": False, "verify": True},
    "all": {"verify": True},
}


def _run(network: Network, **settings: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    session = network.model.session(**settings)
    outputs = {name: np.asarray(value) for name, value in session.run(network.inputs).items()}
    merging: dict[str, Any] = session.explain()["merging"]
    return outputs, merging


@pytest.mark.slow
@pytest.mark.parametrize("network", _NETWORKS.values(), ids=list(_NETWORKS))
def test_a_network_computes_the_same_however_its_rasters_are_merged(network: Network) -> None:
    want, before = _run(network, **_KINDS["none"])
    assert before["before"] == before["after"]
    rasters, moved = {}, {}
    for kind, settings in _KINDS.items():
        got, merging = _run(network, **settings)
        for name, value in got.items():
            np.testing.assert_array_equal(value, want[name])
        assert merging["before"] == before["before"]
        rasters[kind], moved[kind] = merging["after"]["rasters"], merging["after"]["bytes"]
    assert rasters["all"] <= rasters["vertical"] <= rasters["views"] < rasters["none"]
    assert rasters["horizontal"] <= rasters["views"]
    assert moved["all"] <= moved["vertical"] <= moved["views"] < moved["none"]


def test_vertical_and_horizontal_merging_are_counted() -> None:
    _, merging = _run(_NETWORKS["ShuffleNet V2"])
    assert merging["composed"] > 0
    assert merging["aliases"] > 0
    _, merging = _run(_NETWORKS["DIN"])
    assert merging["shared"] > 0
