"""What a simulated device makes of the push stream."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from walle_control.fleet.device import take_events

TEXT = (
    b'retry: 2000\nevent: epoch\nid: 7\ndata: {"epoch":7}\n\n:\n\nevent: goodbye\ndata: {"retry_s":2.0}\n\n'
)


@given(st.lists(st.integers(0, len(TEXT)), max_size=6).map(sorted))
def test_events_are_the_same_however_they_are_cut(cuts):
    found, rest = [], b""
    for start, end in zip([0, *cuts], [*cuts, len(TEXT)], strict=True):
        events, rest = take_events(rest + TEXT[start:end])
        found += events
    assert found == [("epoch", b'{"epoch":7}'), ("goodbye", b'{"retry_s":2.0}')]
    assert rest == b""
