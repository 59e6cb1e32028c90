"""The parts of the guest that need no slot."""

from __future__ import annotations

import time

import pytest

from walle_container.guest import SLEEP_SLICE_S, TailWriter, rebuild_error, sleep_in_slices
from walle_shared.errors import NotAllowed, WalleError


def test_the_tail_writer_keeps_the_end():
    writer = TailWriter(5)
    assert writer.write("abc") == 3
    assert writer.write("defgh") == 5
    writer.flush()
    assert not writer.isatty()
    assert writer.take() == "defgh"
    assert writer.take() == ""
    writer.write("x" * 1_000)
    writer.write("yz")
    assert writer.take() == "xxxyz"


def test_sleep_sleeps_at_least_as_long_and_refuses_the_past():
    began_s = time.monotonic()
    sleep_in_slices(2.5 * SLEEP_SLICE_S)
    assert time.monotonic() - began_s >= 2.5 * SLEEP_SLICE_S
    sleep_in_slices(0)
    with pytest.raises(ValueError, match="non-negative"):
        sleep_in_slices(-1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NotAllowed", NotAllowed),
        ("Unheard", WalleError),
        ("annotations", WalleError),
        ("ClassVar", WalleError),
    ],
)
def test_errors_are_rebuilt_as_their_class_if_they_are_ours(name: str, expected: type[WalleError]):
    error = rebuild_error(name, "message")
    assert type(error) is expected
    assert error.message == "message"
