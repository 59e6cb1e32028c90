"""Rows of the task's tables: buffered writes, and reads that see them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from walle_shared.errors import LimitExceeded, NotAllowed, NotFound, TaskError
from walle_shared.limits import TASK_ROW_MAX_BYTES
from walle_task import store
from walle_task.testing import fake_host

STORED = {"reads": [{"key": "a", "n": 1}, {"key": "b", "n": 2}, {"key": "a", "n": 3}]}


def test_put_is_buffered_in_order():
    with fake_host() as host:
        store.table("reads").put({"n": 1})
        store.table("other").put({"n": 2})
    assert host.rows == [{"table": "reads", "row": {"n": 1}}, {"table": "other", "row": {"n": 2}}]


def test_a_row_is_fixed_when_it_is_put():
    row = {"values": [1]}
    with fake_host() as host:
        store.table("reads").put(row)
        row["values"].append(2)
    assert host.rows[0]["row"] == {"values": [1]}


def test_rows_are_the_newest_oldest_first():
    with fake_host(tables=STORED):
        assert [row["n"] for row in store.table("reads").rows()] == [1, 2, 3]
        assert [row["n"] for row in store.table("reads").rows(limit=2)] == [2, 3]
        assert [row["n"] for row in store.table("reads").rows(where={"key": "a"})] == [1, 3]


def test_reads_see_the_runs_own_writes_after_what_is_stored():
    with fake_host(tables=STORED):
        reads = store.table("reads")
        reads.put({"key": "a", "n": 4})
        reads.put({"key": "c", "n": 5})
        assert reads.get("a") == {"key": "a", "n": 4}
        assert [row["n"] for row in reads.rows(limit=3)] == [3, 4, 5]
        assert [row["n"] for row in reads.rows(where={"key": "a"}, limit=2)] == [3, 4]


def test_changing_a_read_row_does_not_change_the_buffer():
    with fake_host() as host:
        store.table("reads").put({"n": 1})
        store.table("reads").rows()[0]["n"] = 99
    assert host.rows[0]["row"] == {"n": 1}


def test_get_by_any_column_and_missing_is_none():
    with fake_host(tables=STORED):
        assert store.table("reads").get(2, column="n") == {"key": "b", "n": 2}
        assert store.table("reads").get("zzz") is None


def test_unknown_table_limit_and_type_are_refused_by_name():
    with fake_host(tables=STORED):
        with pytest.raises(NotFound, match=r"\[tables\.nope\]"):
            store.table("nope").rows()
        with pytest.raises(TaskError, match="limit"):
            store.table("reads").rows(limit=0)
        with pytest.raises(TaskError, match="must be a dict"):
            store.table("reads").put([1])  # type: ignore[arg-type]
        with pytest.raises(TaskError, match=r"\['x'\] has type object"):
            store.table("reads").put({"x": object()})


def test_a_row_too_large_is_refused():
    with fake_host() as host, pytest.raises(LimitExceeded, match="split it"):
        store.table("reads").put({"x": "y" * TASK_ROW_MAX_BYTES})
    assert host.rows == []


def test_without_the_capability_nothing_is_read_or_written():
    with fake_host(capabilities=frozenset({"store.rows"}), tables=STORED) as host:
        assert store.table("reads").rows()
        with pytest.raises(NotAllowed, match=r"store\.put"):
            store.table("reads").put({"n": 1})
    assert host.rows == []


def test_values_by_key_are_buffered_and_read_back():
    with fake_host(values={"a": 1, "b": 2}) as host:
        assert (store.get("a"), store.get("absent"), store.get("absent", 5)) == (1, None, 5)
        store.put("a", [3])
        store.put("b", None)
        assert (store.get("a"), store.get("b", "gone")) == ([3], "gone")
    assert host.values == {"a": [3], "b": None}


@pytest.mark.parametrize("key", ["", "k" * 129, 5])
def test_keys_are_short_texts(key: object):
    with fake_host() as host, pytest.raises(TaskError, match="key of the store"):
        store.put(key, 1)  # type: ignore[arg-type]
    assert host.values == {}


def test_values_need_the_capability():
    with fake_host(capabilities=frozenset()):
        with pytest.raises(NotAllowed, match=r"store\.get"):
            store.get("a")
        with pytest.raises(NotAllowed, match=r"store\.put"):
            store.put("a", 1)


@dataclass
class Read:
    key: str
    n: int
    score: float | None = 0.5


def test_rows_may_be_of_a_dataclass():
    with fake_host(tables=STORED) as host:
        reads = store.table("reads", Read)
        reads.put(Read("d", 4))
        assert reads.rows(limit=2) == [Read("a", 3), Read("d", 4)]
        found = reads.get("b")
        assert found == Read("b", 2, 0.5)
    assert host.rows == [{"table": "reads", "row": {"key": "d", "n": 4, "score": 0.5}}]


def test_a_row_of_before_that_does_not_fit_is_named():
    tables = {"reads": [{"key": "a", "n": None}, {"key": "b", "n": 2, "gone": 1, "score": None}]}
    with fake_host(tables=tables):
        assert store.table("reads", Read).rows(limit=1) == [Read("b", 2, 0.5)]
        with pytest.raises(TaskError, match=r"table reads: n: expected an integer, got None"):
            store.table("reads", Read).rows()
        with pytest.raises(TaskError, match="dicts or a dataclass"):
            store.table("reads", int)


def test_values_are_of_the_type_that_is_asked_for():
    with fake_host(values={"n": 3, "read": {"key": "a", "n": 1}}):
        assert store.get("n", 0, of=int) == 3
        assert store.get("m", 0, of=int) == 0
        assert store.get("read", Read("", 0), of=Read) == Read("a", 1)
        with pytest.raises(TaskError, match=r"store value 'n': expected a string, got 3"):
            store.get("n", "", of=str)
