"""Numbers between agent and task: shared memory that is checked, the same in both tiers."""

from __future__ import annotations

import contextlib
import os
import struct
from array import array
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walle_container import HostConfig, TaskHost, TaskSpec, _vm, messages, tensors
from walle_shared.errors import LocalProtocolError, RemoteProtocolError

MakeSpec = Callable[..., TaskSpec]


def count_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # paths are not wanted


@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(tensors.FORMATS)),
            st.lists(st.integers(1, 4), max_size=4),
            st.integers(0, 255),
        ),
        max_size=5,
    )
)
def test_blocks_arrive_as_they_were(blocks: list[tuple[str, list[int], int]]):
    parcel = tensors.Parcel()
    sent = []
    for letter, shape, fill in blocks:
        size = struct.calcsize(letter)
        for dim in shape:
            size *= dim
        view = memoryview(bytes([fill]) * size).cast(letter, shape)
        sent.append(view)
        assert parcel.leaf(view) == {tensors.LEAF: len(sent) - 1}
    found = tensors.unpack(parcel.table(), _vm.share(parcel.views))
    assert [(v.format, v.shape, v.tobytes()) for v in found] == [
        (v.format, v.shape, v.tobytes()) for v in sent
    ]
    assert all(view.readonly for view in found)


def test_what_is_not_dense_is_made_so_and_what_is_empty_arrives_flat():
    strided = memoryview(array("i", range(10)))[::3]
    empty = memoryview(b"").cast("f")
    found = tensors.unpack([["i", [4]], ["f", [3, 0]], ["b", [1]]], _vm.share([strided, empty, b"\x05"]))
    assert [view.tolist() for view in found] == [[0, 3, 6, 9], [], [5]]


@pytest.mark.parametrize("value", ["text", 5, None, object(), memoryview(b"ab").cast("c")])
def test_what_is_no_buffer_of_numbers_is_refused(value: object):
    with pytest.raises(TypeError, match="neither JSON nor a buffer"):
        tensors.Parcel().leaf(value)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ([["f", [3]]], "larger than the memory"),  # 64 bytes are there, but the second block begins there
        ([["b", [1]], ["b", [1]]], "larger than the memory"),
        ([["f", [1 << 40, 1 << 40]]], "larger than the memory"),
        ([["f", [-1]]], "something else than sizes"),
        ([["f", [True]]], "something else than sizes"),
        ([["f", ["2"]]], "something else than sizes"),
        ([["f", [1] * 9]], "too long"),
        ([["f", 1]], "no list"),
        ([["P", [1]]], "not one of numbers"),
        ([["ff", [1]]], "not one of numbers"),
        ([[1, [1]]], "not one of numbers"),
        ([["f"]], "not format and shape"),
        ([5], "not format and shape"),
        ({}, "no list"),
        ([["b", [1]]] * 2_000, "too long"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_and_the_memory_let_go(table: Any, words: str):
    before = count_descriptors()
    padding = [["b", [60]]] if words == "larger than the memory" and len(table) == 1 else []
    with pytest.raises(ValueError, match=words):
        tensors.unpack([*padding, *table] if padding else table, _vm.share([bytes(60)]))
    assert count_descriptors() == before


def test_memory_that_could_still_change_is_refused():
    before = count_descriptors()
    for seals in (False, True):
        fd = os.memfd_create("x", os.MFD_ALLOW_SEALING if seals else 0)
        os.write(fd, bytes(64))
        with pytest.raises(ValueError, match="sealed"):
            _vm.map_shared(fd)
    for fd in (os.open("/dev/zero", os.O_RDONLY), -1, 10_000):
        with pytest.raises(ValueError, match="sealed"):
            _vm.map_shared(fd)
    with pytest.raises(ValueError, match="without memory"):
        tensors.unpack([], -1)
    assert count_descriptors() == before


def test_shared_memory_cannot_be_written_by_whoever_made_it():
    fd = _vm.share([b"abc"])
    with pytest.raises(PermissionError):
        os.write(fd, b"x")
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 1)
    assert bytes(memoryview(_vm.map_shared(fd))[:3]) == b"abc"


def test_a_hostile_frame_takes_no_descriptor_with_it():
    before = count_descriptors()
    for frame in (
        b"not json",
        b"[]",
        b'{"op": "ready"}',
        b'{"op": "call", "call": "a", "args": {}}',
        b'{"op": "call", "call": "a", "args": {}, "tensors": [["f", [99]]]}',
        b'{"op": "call", "call": "a", "args": {}, "tensors": 1}',
        b'{"op": "nonsense", "tensors": []}',
    ):
        with contextlib.suppress(RemoteProtocolError):
            messages.parse_guest_frame(frame, _vm.share([b"abc"]))
        assert count_descriptors() == before


def test_a_leaf_that_names_no_block_stays_what_it_is():
    views = tensors.unpack([["b", [1]]], _vm.share([b"\x01"]))
    odd = [{"$tensor": 1}, {"$tensor": -1}, {"$tensor": True}, {"$tensor": 0, "more": 1}, {"$tensor": "0"}]
    assert tensors.restore(odd, views) == odd


def test_a_value_that_is_neither_is_named():
    with pytest.raises(LocalProtocolError, match="a host function's answer"):
        messages.encode_answer({"a": [memoryview(b"ab"), object()]})


ECHO = """
    from array import array
    from walle_task import events
    from walle_task.context import current
    def run():
        image = events.last().args["image"]
        answer = current().ask("store.double", {"half": image, "deep": [{"other": array("d", [0.5])}]})
        return {"image": image, "kinds": [image.format, list(image.shape), image.tolist()],
                "doubled": answer["doubled"], "sum": sum(answer["doubled"].tolist()), "plain": [1, "two"]}
"""


@pytest.mark.parametrize("tier", ["interp", "process"])
async def test_tensors_go_in_out_and_through_host_functions(make_spec: MakeSpec, tier: str):
    image = memoryview(array("f", [1, 2, 3, 4, 5, 6])).cast("B").cast("f", (2, 3))
    asked = []

    async def double(args: dict[str, Any]) -> dict[str, Any]:
        asked.append((args["half"].tolist(), args["deep"][0]["other"].tolist()))
        return {"doubled": array("f", [2 * x for row in args["half"].tolist() for x in row])}

    inputs = {"events": [{"seq": 1, "kind": "custom", "args": {"image": image}}]}
    async with TaskHost(HostConfig(slots=1)) as host:
        spec = make_spec(ECHO, tier=tier)
        first = await host.run(spec, inputs, {"store.double": double})
        before = count_descriptors()
        for _ in range(20):
            result = await host.run(spec, inputs, {"store.double": double})
            assert result.error is None
        assert count_descriptors() == before
        left = (await host.run(make_spec(LEFT, tier=tier), inputs)).value
    assert first.value["image"].tolist() == image.tolist()
    assert first.value["kinds"] == ["f", [2, 3], image.tolist()]
    assert first.value["doubled"].tolist() == [2, 4, 6, 8, 10, 12]
    assert (first.value["sum"], first.value["plain"]) == (42, [1, "two"])
    assert asked[0] == (image.tolist(), [0.5])
    assert left < 40  # descriptors of the worker: none of the twenty runs has left one


LEFT = """
    from walle_task import log
    def run():
        os = log.__builtins__["__import__"]("os")
        def is_open(fd):
            try:
                return bool(os.fstat(fd))
            except OSError:
                return False
        return max(fd for fd in range(64) if is_open(fd))
"""


async def test_returned_tensors_are_bounded_by_the_runs_memory(make_spec: MakeSpec, inputs: dict[str, Any]):
    script = "def run():\n    x = bytearray(%d)\n    return [x] * %d\n"
    async with TaskHost(HostConfig(slots=1)) as host:
        ok = await host.run(make_spec(script % (6 << 20, 1), memory_bytes=16 << 20), inputs)
        assert ok.value[0].nbytes == 6 << 20
        much = await host.run(make_spec(script % (6 << 20, 3), memory_bytes=16 << 20), inputs)
        assert much.error_kind == "memory"
        assert (await host.run(make_spec("def run(): return 1"), inputs)).value == 1


async def test_a_failed_run_keeps_no_tensors(make_spec: MakeSpec, inputs: dict[str, Any]):
    script = "def run(): return [bytearray(10), 'x' * 100_000]\n"
    async with TaskHost(HostConfig(slots=1)) as host:
        result = await host.run(make_spec(script), inputs)
        assert (result.error_kind, result.value) == ("output", None)
        nested = await host.run(make_spec("def run(): return [[{1}], bytearray(3)]\n"), inputs)
        assert nested.error_kind == "invalid"
        assert "[0][0] has type set" in (nested.error or "")
