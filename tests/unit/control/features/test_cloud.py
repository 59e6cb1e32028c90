"""Who comes next, what it may cost, and when a cloud half is left alone."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from walle_control.features.cloud import store
from walle_control.features.cloud.breaker import FAILURES, FIRST_S, LONGEST_S, Breaker
from walle_control.features.cloud.budget import Budgets
from walle_control.features.cloud.queue import FORGET_S, FairQueue, Ticket
from walle_shared.manifest import CloudSection
from walle_shared.protocol.asks import Push
from walle_shared.protocol.tunnel import Record

# The queue


def ticket(line: str = "r1", device: str = "d1", expires_s: float = 1e9, workers: int = 8) -> Ticket:
    return Ticket(line, device, expires_s, workers)


def test_no_more_begin_than_there_are_slots_nor_than_a_release_has_workers():
    queue = FairQueue(3, 100)
    for line, workers in (("a", 1), ("a", 1), ("b", 8)):
        assert queue.enter(ticket(line, workers=workers), 0.0) is None
    begun = [queue.next(0.0), queue.next(0.0), queue.next(0.0)]
    assert [each.line if each else None for each in begun] == ["a", "b", None]
    assert (queue.running, queue.waiting) == (2, 1)
    assert begun[0] is not None
    queue.done(begun[0], 0.0, 1.0)
    last = queue.next(0.0)
    assert last is not None
    assert last.line == "a"


def test_a_flood_of_one_release_or_device_does_not_hold_up_the_others():
    queue = FairQueue(1, 1_000)
    for number in range(50):
        queue.enter(ticket("flood", f"d{number}"), 0.0)
        queue.enter(ticket("crowd", "loud"), 0.0)
    queue.enter(ticket("quiet", "q"), 0.0)
    queue.enter(ticket("crowd", "soft"), 0.0)
    order = []
    for _ in range(6):
        each = queue.next(0.0)
        assert each is not None
        order.append((each.line, each.device))
        queue.done(each, 0.0, 0.1)
    assert ("quiet", "q") in order[:3]
    assert ("crowd", "soft") in order


def test_releases_get_equal_time_and_not_equal_numbers():
    queue, took, worked = FairQueue(1, 1_000), {"slow": 0.5, "fast": 0.1}, Counter[str]()
    for line in took:
        for _ in range(100):
            queue.enter(ticket(line), 0.0)
    for _ in range(60):
        each = queue.next(0.0)
        assert each is not None
        worked[each.line] += 1
        queue.done(each, 0.0, took[each.line])
    assert worked["fast"] == pytest.approx(5 * worked["slow"], rel=0.2)


def test_what_cannot_be_answered_in_time_is_refused_at_once():
    queue = FairQueue(1, 100)
    assert queue.enter(ticket(), 0.0) is None
    first = queue.next(0.0)
    assert first is not None
    queue.done(first, 0.0, 1.0)
    assert queue.enter(ticket(expires_s=0.9), 0.0) == "deadline"
    assert queue.enter(ticket(expires_s=1.1), 0.0) is None
    assert queue.enter(ticket(expires_s=1.9), 0.0) == "deadline"  # one is before it
    assert queue.enter(ticket(expires_s=2.1), 0.0) is None


def test_slow_beginnings_are_forgotten():
    queue = FairQueue(1, 100)
    assert queue.enter(ticket(), 0.0) is None
    first = queue.next(0.0)
    assert first is not None
    queue.done(first, 60.0, 60.0)  # its model had to be loaded
    assert queue.enter(ticket(expires_s=62.0), 60.0) == "deadline"
    now_s = 60.0 + FORGET_S + 0.1
    assert queue.enter(ticket(expires_s=now_s + 2.0), now_s) is None
    again = queue.next(now_s)
    assert again is not None
    queue.done(again, now_s, 0.1)
    for _ in range(8):
        assert queue.enter(ticket(expires_s=now_s + 40.0), now_s) is None
        each = queue.next(now_s)
        assert each is not None
        queue.done(each, now_s, 0.1)
    assert queue.enter(ticket(expires_s=now_s + 1.0), now_s) is None


def test_a_full_queue_is_busy_and_late_ones_are_passed_over():
    queue = FairQueue(1, 2)
    late, good = ticket(expires_s=5.0), ticket(expires_s=50.0)
    assert [queue.enter(each, 0.0) for each in (late, good, ticket())] == [None, None, "busy"]
    assert queue.next(6.0) is good
    queue.leave(late)  # passed over already
    assert (queue.waiting, queue.running) == (0, 1)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["enter", "next", "done", "leave"]),
            st.sampled_from("abc"),
            st.sampled_from("xyz"),
        ),
        max_size=80,
    )
)
def test_counts_hold_whatever_happens(steps: list[tuple[str, str, str]]):
    queue = FairQueue(2, 10)
    waiting: list[Ticket] = []
    running: list[Ticket] = []
    for what, line, device in steps:
        if what == "enter":
            each = ticket(line, device, workers=1)
            if queue.enter(each, 0.0) is None:
                waiting.append(each)
        elif what == "next":
            if (begun := queue.next(0.0)) is not None:
                waiting.remove(begun)
                running.append(begun)
            else:
                free = {each.line for each in waiting} - {each.line for each in running}
                assert not free or len(running) == 2
        elif what == "done" and running:
            queue.done(running.pop(0), 0.0, 0.5)
        elif what == "leave" and waiting:
            queue.leave(waiting.pop())
        assert (queue.waiting, queue.running) == (len(waiting), len(running))
        assert len({each.line for each in running}) == len(running) <= 2


# The breaker


def test_a_breaker_opens_tries_once_and_waits_longer_each_time():
    breaker = Breaker()
    for _ in range(FAILURES - 1):
        breaker.failed(0.0)
    assert breaker.lets(0.0)
    breaker.failed(0.0)
    pause_s = FIRST_S
    now_s = 0.0
    while pause_s < LONGEST_S:
        assert not breaker.lets(now_s + pause_s - 0.01)
        now_s += pause_s
        assert breaker.lets(now_s)
        assert not breaker.lets(now_s)  # the one is still out
        breaker.failed(now_s)
        pause_s = min(2 * pause_s, LONGEST_S)
    now_s += LONGEST_S
    assert breaker.lets(now_s)
    breaker.unknown()
    assert breaker.lets(now_s)
    breaker.succeeded()
    assert breaker.lets(now_s)
    assert not breaker.is_open


def test_successes_between_keep_a_breaker_closed():
    breaker = Breaker()
    for _ in range(3 * FAILURES):
        breaker.failed(0.0)
        breaker.succeeded()
    assert breaker.lets(0.0)


# Budgets


async def test_workers_never_give_out_more_than_there_is(database, clock):
    section = CloudSection(asks_per_device_hour=20)
    workers = [Budgets(database, clock) for _ in range(3)]
    taken = 0
    for number in range(60):
        taken += await workers[number % 3].take_ask("r1", "d1", section)
    assert taken == 20
    assert await workers[0].take_ask("r1", "d2", section)
    assert await workers[0].take_ask("r2", "d1", section)
    clock.advance(3_600)
    assert await workers[1].take_ask("r1", "d1", section)


@pytest.mark.parametrize(("limit", "allowed"), [(20, 20), (600, 60)])
async def test_questions_that_come_at_once_share_what_is_fetched(database, clock, limit, allowed):
    budgets, section = Budgets(database, clock), CloudSection(asks_per_device_hour=limit)
    answers = []

    async def ask():
        answers.append(await budgets.take_ask("r1", "d1", section))

    async with trio.open_nursery() as nursery:
        for _ in range(60):
            nursery.start_soon(ask)
    assert sum(answers) == allowed


async def test_many_at_once_take_no_more_shares_than_they_need(database, clock):
    section = CloudSection(asks_per_device_hour=80)
    budgets = Budgets(database, clock)
    taken: list[bool] = []

    async def take() -> None:
        taken.append(await budgets.take_ask("r1", "d1", section))

    async with trio.open_nursery() as nursery:
        for _ in range(25):
            nursery.start_soon(take)
    assert taken == [True] * 25
    (row,) = database.read_sync(lambda db: db.execute("SELECT used FROM cloud_budget").fetchall())
    assert row["used"] == 30  # three shares of ten


async def test_what_a_device_leaves_behind_another_worker_may_give_it(database, clock):
    section = CloudSection(asks_per_device_hour=8)
    first, second = Budgets(database, clock), Budgets(database, clock)
    section = CloudSection(asks_per_device_hour=80)  # shares of ten
    assert await first.take_ask("r1", "d1", section)
    await first.give_back("d1")
    taken = 0
    for _ in range(100):
        taken += await second.take_ask("r1", "d1", section)
    assert taken == 79


async def test_processor_time_is_shared_and_ends(database, clock):
    section = CloudSection(seconds_per_hour=4.0)
    first, second = Budgets(database, clock), Budgets(database, clock)
    spent = 0.0
    for budgets in (first, second) * 20:
        if await budgets.has_time("r1", section):
            budgets.spend_time("r1", 0.4)
            spent += 0.4
    assert 4.0 <= spent <= 4.0 + 2 * 0.4  # the last of each worker may pass the end
    assert not await first.has_time("r1", section)
    assert await first.has_time("r1", CloudSection(seconds_per_hour=0.0))
    clock.advance(3_600)
    assert await second.has_time("r1", section)


async def test_refusals_cost_no_writes(database, clock):
    section = CloudSection(asks_per_device_hour=2)
    budgets = Budgets(database, clock)
    while await budgets.take_ask("r1", "d1", section):
        pass
    database.write_sync(lambda db: db.execute("DELETE FROM cloud_budget"))
    assert not await budgets.take_ask("r1", "d1", section)  # it would be, were the database asked


# What can wait


def record(number: int) -> Record:
    return Record("demo", "greeter", "1.0.0", "r1", "walle.ask", number, {})


def test_questions_and_answers_of_a_device_are_bounded(database):
    def fill(db):
        for number in range(store.LATER_MAX + 3):
            store.keep_later(
                db, "d1", f"inc:REALTIME:{number}", record(number), b'{"payload": {}, "data": ""}'
            )
        return store.next_later(db, 0, 10_000), store.next_push(db, "d1")

    waiting, (_, push) = database.write_sync(fill)
    assert len(waiting) == store.LATER_MAX
    assert push == Push(f"inc:REALTIME:{store.LATER_MAX}", "demo", "greeter", reason="busy")

    def push_many(db):
        for number in range(store.PUSHES_MAX + 50):
            store.put_push(db, "d2", Push(str(number), "demo", "greeter", {}))
        return store.next_push(db, "d2"), store.count_later(db)

    (_, oldest), (later, pushes) = database.write_sync(push_many)
    assert oldest.ask == "50"
    assert (later, pushes) == (store.LATER_MAX, 3 + store.PUSHES_MAX)
    assert set(database.read_sync(store.awaited)) == {"d1", "d2"}
