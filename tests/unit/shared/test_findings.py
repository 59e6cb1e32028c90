"""A doctor's findings read as a list for people, and count as one verdict."""

from __future__ import annotations

from walle_shared.findings import all_well, fine, note, tell, wrong


def test_cures_stand_below_what_they_cure_and_the_last_line_counts() -> None:
    shown = tell(
        [fine("disk", "3 GiB free"), note("clock", "off by 9 s", "set it"), wrong("trust", "bad", "renew")]
    )
    assert shown.splitlines() == [
        "ok     disk   3 GiB free",
        "!      clock  off by 9 s",
        "              -> set it",
        "WRONG  trust  bad",
        "              -> renew",
        "",
        "3 looked at: 1 wrong, 1 to know",
    ]


def test_only_what_is_wrong_makes_it_unwell() -> None:
    assert all_well([fine("disk", "free"), note("clock", "off", "set it")])
    assert not all_well([wrong("trust", "bad", "renew")])
    assert all_well([])
