"""The fixtures for tests of tasks, used as an author's test would use them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from walle_agent.author.create import create_task
from walle_shared.errors import NotAllowed
from walle_task import authoring
from walle_task.pytest_plugin import TaskRun, pytest_collect_file
from walle_task.testing import FakeHost

VISIT = {
    "visit_id": "v",
    "events": [{"seq": 1, "kind": "page_enter", "wall_ms": 1}, {"seq": 2, "kind": "click", "wall_ms": 31}],
}
DIGITS = Path(__file__).parents[3] / "examples/digit_reader/task"


@pytest.fixture
def task_folder(tmp_path: Path) -> authoring.TaskFolder:  # instead of the one above the test's file
    create_task(tmp_path / "visits", scenario="demo")
    return authoring.read_folder(tmp_path / "visits")


def write(task: authoring.TaskFolder, script: str) -> None:
    (task.root / "main.py").write_text(script)


def test_a_run_tells_what_it_did(task_run: Callable[..., TaskRun]):
    run = task_run(visit=VISIT, tables={"visits": [{"dwell_ms": 1, "clicks": 1}]})
    assert run.value == {"dwell_ms": 30, "clicks": 1}
    assert run.rows == [{"table": "visits", "row": run.value}]
    assert run.uploads[0]["fields"] == {"dwell_ms": 30, "clicks": 1, "glance": True, "visits_before": 1}
    assert run.logs[0]["message"] == "glance"


def test_every_run_loads_the_task_afresh_and_leaves_nothing(
    task_run: Callable[..., TaskRun], task_folder: authoring.TaskFolder
):
    (task_folder.root / "part.py").write_text("seen = []\n")
    write(task_folder, "import part\ndef run():\n    part.seen.append(1)\n    return len(part.seen)\n")
    assert [task_run().value, task_run().value] == [1, 1]
    assert "part" not in sys.modules
    assert str(task_folder.root) not in sys.path


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("tunnel.send('other', {})", r"add \[uploads\.other\] to task\.toml"),
        ("tunnel.send('visit', {'price': 1})", r"visit\.price is not declared"),
        ("store.table('visits').put({'price': 1})", r"visits\.price is not declared"),
        ("model.load('x')", "add 'model' to capabilities"),
    ],
)
def test_what_a_device_would_refuse_is_refused(
    task_run: Callable[..., TaskRun], task_folder: authoring.TaskFolder, line: str, words: str
):
    write(task_folder, f"from walle_task import model, store, tunnel\ndef run():\n    {line}\n")
    with pytest.raises(NotAllowed, match=words):
        task_run()


def test_the_host_alone_has_the_tasks_own_settings(
    fake_host: Callable[..., AbstractContextManager[FakeHost]],
):
    from walle_task import params, store

    with fake_host(params={"more": 2}) as host:
        assert params.all() == {"glance_below_ms": 1500, "more": 2}
        assert store.table("visits").rows() == []
        assert "model" not in host.context.capabilities


@pytest.mark.slow
def test_models_are_converted_for_tests(tmp_path: Path, request: pytest.FixtureRequest):
    shutil.copytree(DIGITS, tmp_path / "digits")
    task = authoring.read_folder(tmp_path / "digits")
    bundle = authoring.write_bundle(task, tmp_path / "bundle")
    assert sorted(path.name for path in (bundle / "model").iterdir()) == ["digits.wmodel"]
    kept = list((tmp_path / "digits/.walle").glob("*.wmodel"))
    stamp = kept[0].stat().st_mtime_ns
    authoring.write_bundle(task, tmp_path / "again")
    assert kept[0].stat().st_mtime_ns == stamp


def test_a_task_is_found_above_its_tests(
    task_folder: authoring.TaskFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "path", list(sys.path))
    root = task_folder.root
    assert authoring.find_root(root / "tests") == root
    assert authoring.find_root(tmp_path) is None
    pytest_collect_file(root / "tests/test_main.py")
    pytest_collect_file(tmp_path / "test_other.py")
    assert sys.path.count(str(root)) == 1


def test_declared_reads_stages_and_bounds_hold_in_tests_too(
    task_run: Callable[..., TaskRun], task_folder: authoring.TaskFolder
):
    toml = (task_folder.root / "task.toml").read_text()
    toml += """
[reads]
click = ["args.item"]
[bounds.visit]
clicks = { min = 0, max = 1 }
[[prepare]]
name = "per_item"
events = ["click"]
key_by = "args.item"
values = { n = "count()", paid = "sum(args.price)" }
"""
    write(
        task_folder,
        "from walle_task import events, streams, tunnel\n"
        "def run():\n"
        "    rows = streams.prepared('per_item')\n"
        "    tunnel.send('visit', {'clicks': len(rows)})\n"
        "    return [[row.key, row.values] for row in rows], [e.args for e in events.all()]\n",
    )
    definition = authoring.parse_task_text(toml.encode())
    object.__setattr__(task_folder, "definition", definition)
    lamp = {"kind": "click", "wall_ms": 1, "args": {"item": "lamp", "price": 3}}
    run = task_run(events=[lamp, {"kind": "scroll"}, lamp])
    assert run.value == ([["lamp", {"n": 2, "paid": 6}]], [{"item": "lamp"}, {"item": "lamp"}])
    with pytest.raises(NotAllowed, match=r"visit\.clicks is 2, not within \[bounds\.visit\]"):
        task_run(events=[lamp, {**lamp, "args": {"item": "desk"}}])


@pytest.fixture
def asking_folder(tmp_path: Path) -> authoring.TaskFolder:
    folder = tmp_path / "asker"
    create_task(folder, scenario="demo")
    text = (folder / "task.toml").read_text().replace('"log"]', '"log", "cloud"]')
    (folder / "task.toml").write_text(text + "\n[cloud]\n")
    (folder / "main.py").write_text(
        "from walle_task import cloud\n\n\ndef run():\n    try:\n"
        "        return cloud.ask({'n': 3}, data=b'xy')\n"
        "    except cloud.Unavailable as error:\n        return error.reason\n"
    )
    (folder / "cloud.py").write_text(
        "from walle_task import params\n\n\ndef answer(request):\n"
        "    return {'n': request.payload['n'] + len(request.data), 'below': params.get('glance_below_ms')}\n"
    )
    return authoring.read_folder(folder)


class TestCloudHalf:
    """A task with a cloud half of its own."""

    @pytest.fixture
    def task_folder(self, asking_folder: authoring.TaskFolder) -> authoring.TaskFolder:
        return asking_folder

    def test_the_tasks_own_cloud_half_answers(self, task_run: Callable[..., TaskRun]):
        run = task_run(visit=VISIT)
        assert run.value == {"n": 5, "below": 1500}
        assert len(run.asked) == 1
        assert "cloud" not in sys.modules

    def test_another_may_stand_in_or_none(self, task_run: Callable[..., TaskRun]):
        assert task_run(visit=VISIT, cloud=lambda request: {"n": 0}).value == {"n": 0}
        assert task_run(visit=VISIT, cloud=None).value == "offline"

    def test_its_files_are_not_in_the_bundle_of_devices(
        self, fake_host: Callable[..., AbstractContextManager[FakeHost]]
    ):
        with fake_host() as host:
            assert not (host.context.bundle_dir / "cloud.py").exists()
