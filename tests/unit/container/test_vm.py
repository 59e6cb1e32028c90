"""The extension by itself, in this process's own interpreter and in isolated ones."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator

import pytest

from walle_container import _vm, interpreters, locate
from walle_container.preload import PRELOADED


@pytest.fixture
def run() -> Iterator[int]:
    _vm.begin(5)
    yield 5
    _vm.end()


def test_guard_gives_value_or_error_and_figures(run: int):
    value, error, cpu_ns, peak_bytes, interrupts = _vm.guard(0, lambda: sum(range(50_000)))
    assert (value, error, interrupts) == (sum(range(50_000)), None, 0)
    assert cpu_ns > 0
    assert peak_bytes == 0
    value, error, *_ = _vm.guard(0, lambda: 1 // 0)
    assert value is None
    assert isinstance(error, ZeroDivisionError)


def test_guard_catches_what_is_no_exception_too(run: int):
    def leave() -> None:
        raise SystemExit

    assert isinstance(_vm.guard(0, leave)[1], SystemExit)


def test_guard_needs_a_run_and_begin_a_positive_number():
    with pytest.raises(RuntimeError, match="begin"):
        _vm.guard(0, int)
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="positive"):
            _vm.begin(wrong)


def test_wrong_arguments_are_type_errors(run: int):
    with pytest.raises(TypeError):
        _vm.guard(0)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        _vm.guard("much", int)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        _vm.interrupt(1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        _vm.begin("x")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        _vm.exchange(0, "text", -1, 1)  # type: ignore[arg-type]


def test_interrupting_nobody_is_false_and_oneself_is_refused(run: int):
    assert not _vm.interrupt(1_000_000, 1)
    assert not _vm.interrupt(0, run + 1)
    with pytest.raises(RuntimeError, match="itself"):
        _vm.interrupt(0, run)


def test_thread_cpu_time_rises():
    before_ns = _vm.thread_cpu_ns()
    sum(range(10_000))
    assert _vm.thread_cpu_ns() > before_ns


def test_frames_go_both_ways_whole():
    left, right = socket.socketpair()
    with left, right:
        big = bytes(range(256)) * 10_000
        sender = threading.Thread(target=_vm.send_frame, args=(left.fileno(), big))
        sender.start()
        assert _vm.receive_frame(right.fileno(), len(big)) == (big, -1)
        sender.join()
        _vm.send_frame(right.fileno(), b"answer")
        assert _vm.exchange(left.fileno(), b"question", -1, 100) == (b"answer", -1)
        assert _vm.receive_frame(right.fileno(), 100) == (b"question", -1)


def test_an_end_is_none_and_a_broken_frame_an_error():
    left, right = socket.socketpair()
    with left, right:
        with pytest.raises(ValueError, match="limit is 3"):
            _vm.exchange(left.fileno(), b"four", -1, 3)
        _vm.send_frame(left.fileno(), b"four")
        with pytest.raises(OSError, match="too long"):
            _vm.receive_frame(right.fileno(), 3)
    left, right = socket.socketpair()
    with right:
        left.close()
        assert _vm.receive_frame(right.fileno(), 10) is None
        with pytest.raises(BrokenPipeError):
            _vm.send_frame(right.fileno(), b"x")
    with pytest.raises(OSError, match="Bad file descriptor"):
        _vm.receive_frame(-1, 10)


def in_worker_process(script: str) -> str:
    """What ``script`` prints in a bare process that can import our packages, as a worker can."""
    opener = f"import runpy, sys; L = runpy.run_path({locate.__file__!r}); L['install'](sys.argv[1])\n"
    command = [sys.executable, "-SPs", "-c", opener + textwrap.dedent(script), locate.find_locations()]
    environment = {"PYTHONMALLOC": "pymalloc"} | {
        k: v for k, v in os.environ.items() if k == "LD_LIBRARY_PATH"
    }
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_quota_counts_small_and_large_blocks_and_their_release():
    printed = in_worker_process("""
        from walle_container import _vm
        _vm.install_quota(); _vm.install_quota()
        _vm.begin(1)
        M = 1 << 20
        print(type(_vm.guard(8 * M, lambda: bytearray(9 * M))[1]).__name__)
        print(_vm.guard(8 * M, lambda: len(bytearray(7 * M)))[:2])
        print([_vm.guard(8 * M, lambda: [len(bytearray(5 * M)) for _ in range(9)])[1]])
        print(type(_vm.guard(8 * M, lambda: [{} for _ in range(10**6)])[1]).__name__)
        print(_vm.guard(0, lambda: len(bytearray(50 * M)))[1])
        def grow():
            block = bytearray(M)
            for _ in range(6):
                block += bytes(M)
        print(_vm.guard(16 * M, grow)[1])
    """)
    assert printed.splitlines() == [
        "MemoryError",
        f"({7 << 20}, None)",
        "[None]",
        "MemoryError",
        "None",
        "None",
    ]


def test_no_interpreter_is_created_before_the_preload():
    printed = in_worker_process("""
        import sys
        from walle_container import worker
        from walle_container.preload import PRELOADED, is_preloaded, preload
        from walle_shared.errors import InternalError
        assert "datetime" not in sys.modules and not is_preloaded()
        try:
            worker.create_slot_interpreter()
        except InternalError as error:
            print(error.message.partition(":")[0])
        preload()
        print(worker.create_slot_interpreter() > 0, set(PRELOADED) <= sys.modules.keys())
    """)
    assert printed.splitlines() == ["a sub-interpreter would be created before preload()", "True True"]
    assert "datetime" in PRELOADED


def test_interpreters_are_isolated_and_failures_are_told():
    printed = in_worker_process("""
        from walle_container import interpreters, preload
        preload.preload()
        one = interpreters.create()
        print(interpreters.execute(one, "x = VALUE + 1", {"VALUE": 4}))
        print(interpreters.execute(one, "assert x == 5", {}))
        print("ZeroDivisionError" in interpreters.execute(one, "1 / 0", {}))
        print("fork not supported" in interpreters.execute(one, "import os; os.fork()", {}))
    """)
    assert printed.splitlines() == ["None", "None", "True", "True"]


@pytest.mark.parametrize("lacks", ["new_config", "exec", "create"])
def test_a_python_without_isolated_interpreters_is_refused(monkeypatch: pytest.MonkeyPatch, lacks: str):
    import _interpreters  # private, and only here

    monkeypatch.delattr(_interpreters, lacks)
    with pytest.raises(interpreters.InternalError, match=lacks):
        interpreters.create()


def test_long_turns_are_asked_for_by_a_thread_for_itself():
    def ask() -> None:
        taken.append(_vm.take_long_turns(5_000_000))

    taken: list[bool] = []
    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert taken == [os.sched_getscheduler(0) == os.SCHED_OTHER]
    with pytest.raises((TypeError, OverflowError)):
        _vm.take_long_turns(-1)
