"""What is wrong with a task's scripts, by file and line, without running them."""

from __future__ import annotations

from pathlib import Path

import pytest

from walle_container.scripts import Problem, check_scripts, refuse_errors
from walle_shared.errors import TaskError
from walle_shared.manifest import TASK_FILE, parse_task_file

ROOT = Path(__file__).parents[3]

TASK = """
[task]
scenario = "demo"
name = "t"
capabilities = ["events", "log"]
[[triggers]]
ids = ["event:a"]
[params]
known = 1
[tables.reads]
digit = "integer"
[uploads.read]
digit = "integer"
"""
GRANTS = '"events", "log"'
ALL_GRANTS = '"events", "model", "store", "tunnel", "params", "log"'
PLAIN = "from walle_task import events, log\ndef run():\n    log.info(str(events.all()))\n"


def check(main: str, *, toml: str = TASK, **files: str) -> list[str]:
    """Problems of a task of ``main.py`` and others, ``lib__inner`` for ``lib/inner.py``, as text."""
    named = {name.replace("__", "/") + ".py": text.encode() for name, text in files.items()}
    problems = check_scripts({"main.py": main.encode(), **named}, parse_task_file(toml))
    return [f"{problem.level[0]} {problem}" for problem in problems]


def granted(main: str, **files: str) -> list[str]:
    """The errors where everything is granted."""
    found = check(main, toml=TASK.replace(GRANTS, ALL_GRANTS), **files)
    return [text for text in found if text.startswith("e ")]


def test_a_task_without_fault():
    assert check(PLAIN) == []


@pytest.mark.parametrize("example", ["digit_reader", "item_page_view"])
def test_the_examples_are_without_fault(example: str):
    folder = ROOT / "examples" / example / "task"
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    assert check_scripts(files, parse_task_file(files[TASK_FILE].decode())) == ()


@pytest.mark.parametrize(
    ("main", "expected"),
    [
        ("def run(:\n", "e main.py:1: does not compile: "),
        ("def run():\n    return\n  x\n", "e main.py:3: does not compile: "),
        ("\0", "e main.py"),
        ("x = 1\n", "e main.py: does not define run, which task.entry 'main:run' names"),
        (
            "def go(): pass\n",
            "e main.py: does not define run, which task.entry 'main:run' names; it defines go",
        ),
        ("\nasync def run(): pass\n", "e main.py:2: the entry run is async"),
        ("def run(event): pass\n", "e main.py:1: the entry run takes arguments"),
        ("def run(*, event): pass\n", "e main.py:1: the entry run takes arguments"),
        ("def run():\n    yield 1\n", "e main.py:1: the entry run is a generator"),
    ],
)
def test_what_is_wrong_with_the_entry(main: str, expected: str):
    assert granted(main)[0].startswith(expected)


@pytest.mark.parametrize(
    "main",
    [
        "def run(x=1, *rest, y=2, **more): pass\n",
        "def run():\n    def inner():\n        yield 1\n    return list(inner())\n",
        "run = lambda: None\n",
        "from other import run\n",
        "if True:\n    run = print\n",
    ],
)
def test_entries_that_are_fine(main: str):
    assert granted(main, other="def run(): pass\n") == []


def test_a_missing_entry_module_is_named():
    toml = TASK.replace('name = "t"', 'name = "t"\nentry = "start:go"')
    assert "e task.toml: task.entry is 'start:go', but there is no start.py" in check(PLAIN, toml=toml)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("import numpy as np", "a task may not import 'numpy': NumPy cannot be loaded"),
        ("import os.path", "a task may not import 'os.path': a task has no operating system"),
        ("import sqlite3", "a task may not import 'sqlite3': use walle_task.store"),
        ("from concurrent.futures import Future", "a task may not import 'concurrent.futures'"),
        ("from urllib import parse", "a task may not import 'urllib'"),
        ("import pandas", "put a plain-Python 'pandas' into the bundle"),
        ("from walle_task import visits", "walle_task has no 'visits'; it has Event, Visit, clock"),
        ("import walle_task.nothing", "walle_task has no 'nothing'"),
        ("from walle_task.testing import fake_host", "it is for tests"),
        ("from walle_task import testing", "it is for tests"),
        ("import walle_container", "a task may not import 'walle_container'"),
        ("from . import x", "a relative import works inside a package only"),
        ("import lib.absent", "the bundle has no module 'lib.absent'"),
        ("import json2.deep", "a task may not import 'json2.deep'"),
    ],
)
def test_imports_that_are_refused(line: str, words: str):
    for main in (f"\n{line}\ndef run(): pass\n", f"def run():\n    {line}\n"):
        (found,) = granted(main, lib____init__="")
        assert found.startswith("e main.py:2: ")
        assert words in found


@pytest.mark.parametrize(
    "line",
    [
        "import json, math, collections.abc",
        "from urllib.parse import quote",
        "import urllib.parse",
        "from walle_task import *",
        "from walle_task.events import Event",
        "import walle_task.store",
        "from walle_shared.errors import NotFound",
        "import lib.inner",
        "from lib import inner",
        "from lib.inner import x",
        "import spaces.deep",
    ],
)
def test_imports_that_are_fine(line: str):
    files = {"lib____init__": "", "lib__inner": "x = 1", "spaces__deep____init__": ""}
    assert granted(f"{line}\ndef run(): pass\n", **files) == []


def test_an_import_is_followed_through_the_tasks_own_modules():
    found = granted(
        "from lib import inner\ndef run(): pass\n",
        lib____init__="",
        lib__inner="from .deep import x\n",
        lib__deep="\n\nimport socket\nx = 1\n",
    )
    assert found == [
        "e lib/deep.py:3: a task may not import 'socket': a task has no network; use walle_task.tunnel"
        " [lib/inner.py:1 imports it] [main.py:1 imports it]"
    ]


def test_modules_that_import_each_other_are_read_once():
    assert granted("import a\ndef run(): pass\n", a="import b", b="import a") == []


def test_a_module_nobody_imports_is_a_warning_whatever_it_imports():
    assert check(PLAIN, spare="import numpy") == [
        "w spare.py: the task never imports it, and every device gets it: remove it, or move it into tests"
    ]


@pytest.mark.parametrize("handler", ["except ImportError:", "except (KeyError, Exception):", "except:"])
def test_an_import_with_a_fallback_is_a_warning(handler: str):
    found = check(f"try:\n    import numpy\n{handler}\n    numpy = None\n" + PLAIN)
    assert len(found) == 1
    assert found[0].startswith("w main.py:2: a task may not import 'numpy'")
    assert granted("try:\n    import numpy\nexcept KeyError:\n    pass\ndef run(): pass\n")
    assert granted("try:\n    pass\nexcept ImportError:\n    import numpy\ndef run(): pass\n")


def test_imports_for_type_checkers_do_not_count():
    main = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy\n" + PLAIN
    assert check(main) == []
    assert check(main.replace("TYPE_CHECKING:", "TYPE_CHECKING:\n    pass\nelse:")) != []


@pytest.mark.parametrize("name", ["socket", "json"])
def test_a_module_with_a_librarys_name_is_refused(name: str):
    (found,) = granted(f"import {name}\ndef run(): pass\n", **{name: ""})
    assert found.startswith(f"e main.py:1: the bundle's '{name}' has the name of another library")


@pytest.mark.parametrize(
    ("main", "line"),
    [
        ("from walle_task import store\ndef run():\n    store.get('k')\n", 3),
        ("from walle_task import store as s\ndef run():\n    return s.put('k', 1)\n", 3),
        ("import walle_task\ndef run():\n    walle_task.store.get('k')\n", 3),
        ("import walle_task.store as s\ndef run():\n    s.get('k')\n", 3),
        ("from walle_task.store import get\ndef run():\n    get('k')\n", 3),
    ],
)
def test_a_capability_that_is_used_must_be_declared(main: str, line: int):
    expected = f"e main.py:{line}: uses walle_task.store: add 'store' to task.capabilities in task.toml"
    assert [text for text in check(main) if text[0] == "e"] == [expected]
    assert granted(main) == []


def test_types_need_no_capability_and_shadowed_names_are_not_judged():
    main = """
from walle_task import store
from walle_task.store import Table
def run(): pass
def f(store, x: Table): return store.get(x)
"""
    assert [text for text in check(main) if text[0] == "e"] == []


def test_a_capability_nobody_uses_is_a_warning():
    found = check("from walle_task import events\ndef run():\n    events.all()\n")
    assert found == ["w task.toml: task.capabilities has 'log', but nothing uses walle_task.log"]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("store.table('other')", "the table 'other' is not declared: add [tables.other] to task.toml"),
        ("store.table('reads').put({'digit': 1, 'x': 2})", "reads.x is not declared in [tables.reads]"),
        ("tunnel.send('other', {})", "'other' is not declared: add [uploads.other] to task.toml"),
        ("tunnel.send('read', {'x': 1})", "read.x is not declared in [uploads.read]"),
        ("model.load('absent')", "there is no model/absent.onnx or .wmodel; the task has: none"),
    ],
)
def test_what_is_named_must_exist(call: str, expected: str):
    main = f"from walle_task import model, params, store, tunnel\ndef run():\n    {call}\n"
    (found,) = granted(main)
    assert found.startswith(f"e main.py:3: {expected}")


@pytest.mark.parametrize(
    "call",
    [
        "store.table('reads').put({'digit': 1})",
        "store.table(name)",
        "tunnel.send('read', {'digit': 1, **more, key: 2})",
        "tunnel.send('read', fields)",
        "params.get('known')",
        "params.get('unknown', 3)",
        "other.send('x', {})",
    ],
)
def test_what_cannot_be_known_is_not_judged(call: str):
    found = check(
        f"from walle_task import params, store, tunnel\ndef run():\n    {call}\n",
        toml=TASK.replace(GRANTS, ALL_GRANTS),
    )
    assert [text for text in found if "main.py" in text] == []


def test_a_parameter_that_is_always_none_is_a_warning():
    found = check("from walle_task import params\ndef run():\n    params.get('x')\n", toml=TASK + "")
    assert "w main.py:3: the parameter 'x' is not in [params] of task.toml: it is None" in found


def test_all_errors_are_raised_at_once():
    problems = (
        Problem("error", "main.py", 3, "bad"),
        Problem("warning", "main.py", 4, "odd"),
        Problem("error", "task.toml", 0, "worse"),
    )
    with pytest.raises(TaskError, match=r"^tag 1: main\.py:3: bad; task\.toml: worse$"):
        refuse_errors(problems, "tag 1")
    refuse_errors(problems[1:2], "tag 1")


LEARNING_TOML = """
[task]
scenario = "demo"
name = "learner"
capabilities = [{capabilities}]
[[triggers]]
ids = ["event:walle.learning_round"]
[tables.samples]
x = "json"
{learning}
"""
LEARNER = b"from walle_task import learn\n\n\ndef run():\n    learn.contribute(list)\n"
LEARNING = '[learning]\nmodel = "net"\ntable = "samples"\n'


@pytest.mark.parametrize(
    ("capabilities", "learning", "files", "expected"),
    [
        ('"learn", "model", "store", "tunnel"', LEARNING, ("model/net.onnx",), ""),
        ('"learn", "model", "store", "tunnel"', LEARNING, (), "learning.model: there is no model/net"),
        ('"learn", "model", "store"', LEARNING, ("model/net.wmodel",), "needs 'tunnel' in task.capabilities"),
        ('"learn"', "", (), "add [learning] to task.toml"),
        ('"model", "store", "tunnel"', LEARNING, ("model/net.wmodel",), "add 'learn' to task.capabilities"),
    ],
)
def test_what_is_wrong_with_learning(
    capabilities: str, learning: str, files: tuple[str, ...], expected: str
) -> None:
    toml = LEARNING_TOML.format(capabilities=capabilities, learning=learning)
    bundle = {"main.py": LEARNER, **dict.fromkeys(files, b"")}
    errors = [p.message for p in check_scripts(bundle, parse_task_file(toml)) if p.level == "error"]
    assert any(expected in message for message in errors) if expected else errors == []
    warnings = [p.message for p in check_scripts(bundle, parse_task_file(toml)) if p.level == "warning"]
    assert not [message for message in warnings if "nothing uses" in message and "learn" in capabilities]
