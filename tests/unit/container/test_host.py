"""Runs on a real worker: what comes back, and the ways in which a task goes wrong without harm to others."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import trio

from walle_container import HostConfig, LogEntry, StoreWrite, TaskHost, TaskResult, TaskSpec, TunnelSend
from walle_container.imports import ALLOWED_STDLIB
from walle_shared.errors import (
    InternalError,
    LimitExceeded,
    LocalProtocolError,
    NotFound,
)

MakeSpec = Callable[..., TaskSpec]

# Round trip


async def test_a_run_returns_value_rows_uploads_logs_and_figures(
    host: TaskHost, make_spec: MakeSpec, inputs: dict[str, Any]
):
    spec = make_spec(
        """
        from walle_task import events, log, params, store, tunnel
        from helper import double

        def run():
            log.info("began", n=len(events.all()))
            print("hello")
            store.table("reads").put({"kind": events.last().kind})
            tunnel.send("digit", {"digit": double(params.get("half"))})
            return {"ok": True}
        """,
        files={"helper.py": "def double(x): return 2 * x\n"},
        params={"half": 4},
    )
    result = await host.run(spec, inputs)
    assert result.ok
    assert (result.error_kind, result.error, result.traceback) == (None, None, "")
    assert result.value == {"ok": True}
    assert result.rows == (StoreWrite("reads", {"kind": "click"}),)
    assert result.uploads == (TunnelSend("digit", {"digit": 8}),)
    assert result.logs == (LogEntry("info", "began", {"n": 1}),)
    assert result.stdout_tail == "hello\n"
    assert 0 < result.cpu_s <= result.wall_s < 5
    assert result.peak_bytes >= 0


async def test_no_value_is_none(host: TaskHost, make_spec: MakeSpec, inputs: dict[str, Any]):
    result = await host.run(make_spec("def run(): pass"), inputs)
    assert (result.ok, result.value) == (True, None)


async def test_each_run_has_a_fresh_namespace_and_the_present_files(
    host: TaskHost, make_spec: MakeSpec, inputs: dict[str, Any]
):
    spec = make_spec(
        """
        import state
        def run():
            state.calls.append(1)
            return len(state.calls)
        """,
        files={"state.py": "calls = []\n"},
    )
    assert [(await host.run(spec, inputs)).value for _ in range(4)] == [1, 1, 1, 1]
    (spec.bundle_dir / "main.py").write_text("def run(): return 'changed'\n", encoding="utf-8")
    assert (await host.run(spec, inputs)).value == "changed"


async def test_a_bundle_may_hold_packages_and_read_its_files(
    host: TaskHost, make_spec: MakeSpec, inputs: dict[str, Any]
):
    spec = make_spec(
        """
        from pack.inner import label
        def run(): return label()
        """,
        files={
            "pack/__init__.py": "",
            "pack/inner.py": "from . import names\ndef label(): return open(names.FILE).read()\n",
            "pack/names.py": "FILE = 'data/labels.txt'\n",
            "data/labels.txt": "zéro",
        },
    )
    assert (await host.run(spec, inputs)).value == "zéro"


# Host calls


async def test_host_calls_are_answered_and_reads_see_own_writes(
    host: TaskHost, make_spec: MakeSpec, inputs: dict[str, Any]
):
    asked = []

    async def rows(args: dict[str, Any]) -> list[dict[str, Any]]:
        asked.append(args)
        await trio.lowlevel.checkpoint()
        return [{"key": "a", "n": 1}]

    spec = make_spec("""
        from walle_task import store
        def run():
            reads = store.table("reads")
            reads.put({"key": "b", "n": 2})
            return reads.rows(limit=5)
    """)
    result = await host.run(spec, inputs, {"store.rows": rows})
    assert result.value == [{"key": "a", "n": 1}, {"key": "b", "n": 2}]
    assert asked == [{"table": "reads", "limit": 5, "where": {}}]


async def test_values_by_key_are_kept_over_the_host(
    host: TaskHost, make_spec: MakeSpec, inputs: dict[str, Any]
):
    async def get(args: dict[str, Any]) -> Any:
        return {"visits": 3}.get(args["key"])

    spec = make_spec("""
        from walle_task import store
        def run():
            store.put("visits", store.get("visits") + 1)
            return [store.get("visits"), store.get("other", "none")]
    """)
    result = await host.run(spec, inputs, {"store.get": get})
    assert result.value == [4, "none"]
    assert result.values == {"visits": 4}


READ_AND_CATCH = """
    from walle_shared.errors import NotAllowed, NotFound
    from walle_task import store
    def run():
        try:
            store.table("reads").rows()
        except NotFound as error:
            return str(error)
"""


async def test_a_refusal_reaches_the_task_as_its_class(
    host: TaskHost, make_spec: MakeSpec, inputs: dict[str, Any]
):
    async def rows(_args: dict[str, Any]) -> Any:
        raise NotFound("no table 'reads'")

    assert (
        await host.run(make_spec(READ_AND_CATCH), inputs, {"store.rows": rows})
    ).value == "no table 'reads'"
    assert "no function 'store.rows'" in (await host.run(make_spec(READ_AND_CATCH), inputs)).value


async def test_what_is_not_granted_is_denied(host: TaskHost, make_spec: MakeSpec, inputs: dict[str, Any]):
    async def never(_args: dict[str, Any]) -> Any:
        raise AssertionError("not granted, yet called")

    spec = make_spec(READ_AND_CATCH, capabilities=frozenset({"log"}))
    result = await host.run(spec, inputs, {"store.rows": never})
    assert result.error_kind == "denied"
    assert "'store'" in (result.error or "")


async def test_the_agent_refuses_what_a_task_asks_behind_the_kits_back(
    host: TaskHost, make_spec: MakeSpec, inputs: dict[str, Any]
):
    async def never(_args: dict[str, Any]) -> Any:
        raise AssertionError("not granted, yet called")

    script = """
        from walle_task.context import current
        def run():
            current().capabilities = frozenset({"store", "tunnel"})
            if %s:
                return current().ask("store.rows", {})
            current().add_row("reads", {"n": 1})
    """
    for asks in (True, False):
        spec = make_spec(script % asks, capabilities=frozenset())
        result = await host.run(spec, inputs, {"store.rows": never})
        assert (result.error_kind, result.rows) == ("denied", ())
        assert "not granted" in (result.error or "")


async def test_a_bug_in_a_host_function_is_raised_and_the_slot_goes_on(
    make_spec: MakeSpec, inputs: dict[str, Any]
):
    async def broken(_args: dict[str, Any]) -> Any:
        raise ZeroDivisionError

    async def not_json(_args: dict[str, Any]) -> Any:
        return object()

    async with TaskHost(HostConfig(slots=1)) as host:
        spec = make_spec("from walle_task import store\ndef run(): return store.table('a').rows()")
        with pytest.raises(ZeroDivisionError):
            await host.run(spec, inputs, {"store.rows": broken})
        with pytest.raises(LocalProtocolError, match="host function's answer"):
            await host.run(spec, inputs, {"store.rows": not_json})
        assert (await host.run(make_spec("def run(): return 1"), inputs)).value == 1
        assert host.statistics().workers_started == 1


# What tasks do wrong


@pytest.mark.parametrize(
    ("script", "kind", "message"),
    [
        ("def run(): return object()", "invalid", "returned value has type object"),
        ("def run(): return float('nan')", "invalid", "nan"),
        ("def run(): return [{'a': {1}}]", "invalid", r"[0]['a'] has type set"),
        ("async def run(): pass", "invalid", "coroutine"),
        ("x = 1", "invalid", "no function 'run'"),
        ("def run(): return 'x' * 100_000", "output", "output_bytes"),
        ("def run(): raise ValueError('no' * 9_000)", "exception", "ValueError: nono"),
        ("def run(): raise SystemExit(3)", "exception", "SystemExit: 3"),
        ("def run(: pass", "exception", "SyntaxError"),
        ("def run(): return run()", "exception", "RecursionError"),
        ("import os\ndef run(): pass", "denied", "may not import 'os'"),
        ("def run(): import numpy", "denied", "may not import 'numpy': NumPy cannot"),
        ("def run(): import importlib", "denied", "may not import 'importlib'"),
        ("def run(): return open('/etc/passwd').read()", "denied", "own bundle only"),
        ("def run(): open('new', 'w')", "denied", "only read files"),
        ("def run(): return bytearray(1 << 30)", "memory", "67108864 bytes of memory"),
        ("def run():\n x = 'a'\n while True: x += x", "memory", "bytes of memory"),
        ("def run():\n x = []\n while True: x.append({'a': 1})", "memory", "bytes of memory"),
    ],
)
async def test_wrong_tasks_fail_by_kind_and_the_slot_goes_on(
    make_spec: MakeSpec, inputs: dict[str, Any], script: str, kind: str, message: str
):
    async with TaskHost(HostConfig(slots=1)) as host:
        result = await host.run(make_spec(script), inputs)
        assert (result.ok, result.error_kind, result.value) == (False, kind, None)
        assert message in (result.error or "")
        assert len(result.error or "") <= 2_000
        assert (await host.run(make_spec("def run(): return 1"), inputs)).value == 1
        assert host.statistics().workers_started == 1


async def test_a_module_named_like_a_library_is_refused(
    host: TaskHost, make_spec: MakeSpec, inputs: dict[str, Any]
):
    spec = make_spec("import socket\ndef run(): pass", files={"socket.py": ""})
    result = await host.run(spec, inputs)
    assert (result.error_kind, "rename it" in (result.error or "")) == ("denied", True)


async def test_an_entry_module_that_is_missing_is_invalid(
    host: TaskHost, make_spec: MakeSpec, inputs: dict[str, Any]
):
    result = await host.run(make_spec("", entry="absent:run"), inputs)
    assert (result.error_kind, "no module 'absent'" in (result.error or "")) == ("invalid", True)


async def test_the_traceback_shows_the_tasks_own_lines_only(
    host: TaskHost, make_spec: MakeSpec, inputs: dict[str, Any]
):
    spec = make_spec(
        "import json\nfrom deep import fall\ndef run():\n    fall(json)\n",
        files={"deep.py": "def fall(json):\n    json.loads('{')  # here\n"},
    )
    result = await host.run(spec, inputs)
    assert result.error_kind == "exception"
    assert (result.error or "").startswith("JSONDecodeError: ")
    assert result.traceback == (
        '  File "main.py", line 4, in run\n    fall(json)\n'
        "  File \"deep.py\", line 2, in fall\n    json.loads('{')  # here\n"
    )


async def test_a_failed_run_leaves_no_rows_but_its_log(
    host: TaskHost, make_spec: MakeSpec, inputs: dict[str, Any]
):
    result = await host.run(
        make_spec("""
            from walle_task import log, store, tunnel
            def run():
                store.table("a").put({"n": 1})
                tunnel.send("m", {"n": 1})
                log.warning("about to fail")
                print("printed")
                return 1 / 0
        """),
        inputs,
    )
    assert (result.rows, result.uploads) == ((), ())
    assert result.logs == (LogEntry("warning", "about to fail", {}),)
    assert result.stdout_tail == "printed\n"


async def test_too_much_output_is_not_saved_by_catching_the_refusal(
    host: TaskHost, make_spec: MakeSpec, inputs: dict[str, Any]
):
    spec = make_spec(
        """
        from walle_task import store
        def run():
            try:
                for n in range(1_000):
                    store.table("a").put({"n": n})
            except Exception:
                pass
        """,
        output_bytes=1_000,
    )
    result = await host.run(spec, inputs)
    assert (result.error_kind, result.rows) == ("output", ())


async def test_printing_without_end_keeps_the_end(
    host: TaskHost, make_spec: MakeSpec, inputs: dict[str, Any]
):
    spec = make_spec("def run():\n    for n in range(20_000): print(n)\n    print('last \\ud800')\n")
    result = await host.run(spec, inputs)
    assert result.ok
    assert result.stdout_tail.endswith("19999\nlast ?\n")
    assert len(result.stdout_tail) <= 4_000


async def test_memory_is_given_back_and_the_quota_is_the_specs(
    host: TaskHost, make_spec: MakeSpec, inputs: dict[str, Any]
):
    take = "def run():\n    x = bytearray(20 << 20)\n    return len(x)\n"
    assert (await host.run(make_spec(take, memory_bytes=8 << 20), inputs)).error_kind == "memory"
    for _ in range(6):  # each time afresh: nothing of the last run counts
        result = await host.run(make_spec(take, memory_bytes=32 << 20), inputs)
        assert result.ok
        assert 20 << 20 <= result.peak_bytes <= 22 << 20


# Stopping

LOOPS = {
    "plain": "while True: pass",
    "sleep": "import time\n    time.sleep(1_000)",
    "swallow": "while True:\n        try:\n            while True: pass\n        except BaseException: pass",
    "nested swallow": (
        "while True:\n        try:\n            while True:\n                try:\n"
        "                    while True: pass\n                except BaseException: pass\n"
        "        except BaseException: pass"
    ),
    "hostile description": (
        "class Sly(Exception):\n        def __str__(self):\n            while True: pass\n    raise Sly"
    ),
    "hostile encoding": (
        "class Sly(dict):\n        def items(self):\n            while True: pass\n    return Sly(a=1)"
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS.keys())
async def test_endless_tasks_are_stopped_and_the_slot_goes_on(
    make_spec: MakeSpec, inputs: dict[str, Any], loop: str
):
    async with TaskHost(HostConfig(slots=1, grace_s=5.0)) as host:
        result = await host.run(make_spec(f"def run():\n    {loop}\n", wall_s=0.1), inputs)
        assert result.error_kind == "timeout"
        assert "limit of 0.1 s" in (result.error or "")
        assert result.wall_s >= 0.1
        assert (await host.run(make_spec("def run(): return 1"), inputs)).value == 1
        assert host.statistics().workers_started == 1


async def test_a_timeout_shows_where_the_task_was(
    host: TaskHost, make_spec: MakeSpec, inputs: dict[str, Any]
):
    result = await host.run(make_spec("def run():\n    while True:\n        x = 1\n", wall_s=0.05), inputs)
    assert 'File "main.py", line' in result.traceback


async def test_a_task_waiting_for_the_host_is_stopped(
    host: TaskHost, make_spec: MakeSpec, inputs: dict[str, Any]
):
    spec = make_spec("from walle_task import store\ndef run(): store.table('a').rows()", wall_s=0.05)

    async def never(_args: dict[str, Any]) -> Any:
        await trio.sleep_forever()

    assert (await host.run(spec, inputs, {"store.rows": never})).error_kind == "timeout"
    assert host.statistics().poisoned == 0


@pytest.mark.slow
async def test_cancelling_stops_the_task(make_spec: MakeSpec, inputs: dict[str, Any]):
    spec = make_spec("def run():\n    while True: pass\n", wall_s=100.0)
    async with TaskHost(HostConfig(slots=1, grace_s=5.0)) as host:
        with trio.move_on_after(0.1) as scope:
            await host.run(spec, inputs)
        assert scope.cancelled_caught
        assert host.statistics().running == 0
        with trio.fail_after(5):  # the only slot is free again
            assert (await host.run(make_spec("def run(): return 1"), inputs)).value == 1
        assert host.statistics().workers_started == 1


# Slots


@pytest.mark.slow
async def test_two_cpu_bound_tasks_overlap_and_a_third_waits(
    host: TaskHost, make_spec: MakeSpec, inputs: dict[str, Any]
):
    spec = make_spec("""
        import time
        def run():
            began = time.monotonic()
            x = 0
            while time.thread_time() < 10_000 and time.monotonic() - began < 0.2:
                x += 1
            return [began, time.monotonic()]
    """)
    spans: list[tuple[float, float]] = []

    async def one() -> None:
        began, ended = (await host.run(spec, inputs)).value
        spans.append((began, ended))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(one)
    first, second, third = sorted(spans)
    assert second[0] < first[1]
    assert third[0] >= min(first[1], second[1])


async def test_tasks_run_in_isolated_interpreters_of_another_process(
    host: TaskHost, make_spec: MakeSpec, inputs: dict[str, Any]
):
    spec = make_spec("""
        from walle_task import log
        def run():
            system = log.__builtins__["__import__"]("sys")
            os = log.__builtins__["__import__"]("os")
            heavy = [n for n in ("numpy", "orjson", "trio", "_cffi_backend") if n in system.modules]
            return [os.getpid(), heavy, "SECRET_TOKEN" in os.environ]
    """)
    pid, heavy, secret = (await host.run(spec, inputs)).value
    assert pid == host.statistics().worker_pid != os.getpid()
    assert (heavy, secret) == ([], False)


# Every module a task may import, and the corners of them that need more than plain Python.
USE_LIBRARY = """
    import collections, copy, dataclasses, datetime, decimal, enum, functools, math, random, re, secrets
    import statistics, time, urllib.parse, uuid, zoneinfo

    @dataclasses.dataclass(frozen=True, slots=True)
    class Point:
        x: int = 1

    class Colour(enum.Enum):
        RED = 1

    Pair = collections.namedtuple("Pair", "a b")

    @functools.lru_cache
    def cached(x):
        return x

    def run():
        time.sleep(0.001)
        exec("y = 1")
        day = datetime.datetime.strptime("2024-05-01 10:00", "%Y-%m-%d %H:%M")
        day = day.replace(tzinfo=zoneinfo.ZoneInfo("UTC"))
        return [
            Point().x, Colour.RED.name, Pair(1, 2).b, cached(3), copy.deepcopy({"a": [1]}), day.isoformat(),
            str(decimal.Decimal(1) / 8), statistics.mean([1, 3]), len(uuid.uuid4().hex),
            len(secrets.token_hex(4)),
            re.sub("a+", "b", "caat"), urllib.parse.quote("a b"), 0 <= random.random() < 1, math.isqrt(17),
        ]
"""


async def test_the_library_works_under_the_policy(
    host: TaskHost, make_spec: MakeSpec, inputs: dict[str, Any]
):
    result = await host.run(make_spec(USE_LIBRARY), inputs)
    assert result.error is None
    assert result.value == [
        *(1, "RED", 2, 3, {"a": [1]}, "2024-05-01T10:00:00+00:00", "0.125", 2, 32, 8, "cbt", "a%20b", True, 4)
    ]


async def test_every_allowed_module_can_be_imported_in_a_slot(
    host: TaskHost, make_spec: MakeSpec, inputs: dict[str, Any]
):
    script = (
        "".join(f"import {name}\n" for name in sorted(ALLOWED_STDLIB - {"__future__"})) + "def run(): pass\n"
    )
    result = await host.run(make_spec(script), inputs)
    assert result.error is None


@pytest.mark.parametrize(
    "deed",
    [
        "reach('os').system('true')",
        "reach('os').kill(1, 0)",
        "reach('os').remove('/nowhere')",
        "reach('os').chdir('/tmp')",
        "reach('os').putenv('A', 'b')",
        "reach('subprocess').run(['true'])",
        "reach('os').posix_spawn('/bin/true', ['true'], {})",
        "reach('socket').socket()",
        "reach('ctypes').CDLL(None)",
        "reach('sqlite3').connect('/tmp/x')",
        "reach('mmap').mmap(-1, 10)",
        "reach('resource').setrlimit(0, (1, 1))",
        "reach('_thread').start_new_thread(print, ())",
        "reach('io').open('/tmp/never', 'w')",
        "reach('gc').get_objects()",
        "reach('sys').settrace(None)",
        "run.__code__.replace(co_consts=())",
    ],
)
async def test_what_goes_round_the_import_rules_is_denied(
    host: TaskHost, make_spec: MakeSpec, inputs: dict[str, Any], deed: str
):
    script = f"from walle_task import log\nreach = log.__builtins__['__import__']\ndef run(): {deed}\n"
    result = await host.run(make_spec(script), inputs)
    assert result.error_kind == "denied"
    assert "PermissionError: a task may not do this: " in (result.error or "")


async def test_a_task_cannot_create_interpreters(host: TaskHost, make_spec: MakeSpec, inputs: dict[str, Any]):
    script = """
        from walle_task import log
        def run(): log.__builtins__["__import__"]("_interpreters").create()
    """
    result = await host.run(make_spec(script), inputs)
    assert "interpreter creation failed" in (result.error or "")
    assert (await host.run(make_spec("def run(): return 1"), inputs)).value == 1
    assert host.statistics().workers_started == 1


# The host itself


async def test_bad_orders_are_refused_before_they_start(
    host: TaskHost, make_spec: MakeSpec, inputs: dict[str, Any]
):
    with pytest.raises(LocalProtocolError, match="the run of t"):
        await host.run(make_spec(""), {"events": [object()]})
    with pytest.raises(LimitExceeded, match="match fewer events"):
        await host.run(make_spec(""), {"events": ["x" * (17 << 20)]})
    assert host.statistics().runs == 0


async def test_errors_of_the_callers_block_pass_as_they_are():
    with pytest.raises(KeyError):
        async with TaskHost(HostConfig(slots=1)):
            raise KeyError


async def test_a_worker_that_does_not_start_is_an_error_that_says_why(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("walle_container.locate.find_locations", lambda: "not json")
    with pytest.raises(InternalError, match="JSONDecodeError"):
        async with TaskHost():
            raise AssertionError("opened")


async def test_a_worker_is_replaced_after_its_share_of_runs(make_spec: MakeSpec, inputs: dict[str, Any]):
    spec = make_spec("def run(): return 1")
    async with TaskHost(HostConfig(slots=1, runs_per_worker=2)) as host:
        pids = []
        for _ in range(4):
            assert (await host.run(spec, inputs)).ok
            pids.append(host.statistics().worker_pid)
        statistics = host.statistics()
    assert (statistics.workers_started, statistics.workers_lost, statistics.runs) == (2, 0, 4)


async def test_statistics_and_memory(host: TaskHost, make_spec: MakeSpec, inputs: dict[str, Any]):
    await host.run(make_spec("def run(): pass"), inputs)
    statistics = host.statistics()
    assert (statistics.runs, statistics.running, statistics.workers_started) == (1, 0, 1)
    assert 5 << 20 < await host.measure_rss_bytes() < 200 << 20


async def test_closing_the_host_ends_the_worker(make_spec: MakeSpec, inputs: dict[str, Any]):
    async with TaskHost(HostConfig(slots=1)) as host:
        pid = host.statistics().worker_pid
        assert pid is not None
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_results_are_values():
    assert TaskResult(ok=True) == TaskResult(ok=True)
