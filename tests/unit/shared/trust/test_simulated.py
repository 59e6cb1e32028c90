"""What approvals say of simulations, as it is written and as devices read it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walle_shared.errors import TrustError
from walle_shared.ids import Sha256
from walle_shared.protocol.messages import FileRef
from walle_shared.trust.simulated import SimulationMark, custom_of, mark_in

MARK = SimulationMark("passed", 4, FileRef(Sha256("ab" * 32), 200))

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_a_mark_comes_back() -> None:
    assert mark_in(custom_of(MARK)) == MARK
    assert custom_of(None) == {}
    assert (mark_in(None), mark_in({}), mark_in({"else": 1})) == (None, None, None)


def test_what_later_programs_say_besides_is_kept() -> None:
    custom = custom_of(MARK)
    custom["simulation"]["by"] = "somebody"
    found = mark_in(custom)
    assert found is not None
    assert found.extra == {"by": "somebody"}
    assert custom_of(found) == custom


@pytest.mark.parametrize("broken", [{"outcome": "splendid"}, {"cells": "4"}, {"record": None}])
def test_a_mark_that_makes_no_sense_is_refused(broken: dict[str, Any]) -> None:
    custom = custom_of(MARK)
    with pytest.raises(TrustError, match="what an approval says of simulations"):
        mark_in({"simulation": {**custom["simulation"], **broken}})


@given(_json)
def test_any_json_is_understood_or_refused(value: Any) -> None:
    for custom in (value, {"simulation": value}):
        try:
            mark = mark_in(custom)
        except TrustError:
            continue
        assert mark is None or isinstance(mark, SimulationMark)
