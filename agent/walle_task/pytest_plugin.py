"""Fixtures for the tests of tasks, in any pytest where walle is installed.

::

    def test_reads_a_digit(task_run):
        run = task_run(events=[{"kind": "custom", "event_id": "digit_scanned", "args": {"pixels": [0] * 64}}])
        assert run.uploads == [{"name": "digit_read", "fields": {"digit": 0}}]

The task is the one whose folder, with its task.toml, the test lies in or below.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import pytest

from walle_shared.errors import NotAllowed
from walle_shared.manifest import CLOUD_CAPABILITIES, TaskFile
from walle_shared.privacy import narrow_inputs
from walle_task import authoring, context, testing
from walle_task.authoring import TaskFolder
from walle_task.cloud import Request
from walle_task.events import Event, Visit
from walle_task.preparing import Stage
from walle_task.testing import CloudHalf, FakeHost

__all__ = ["TaskRun", "fake_host", "task_folder", "task_run"]

_MODELS = pytest.StashKey[dict[tuple[Path, bool], Path]]()


class TaskRun(FakeHost):
    """A run that has ended: what it returned, beside all it did.

    Attributes:
        value: what the entry returned.
    """

    def __init__(self, host: FakeHost, value: Any) -> None:
        super().__init__(host.context, host.asked)
        self.value = value


@pytest.fixture
def task_folder(request: pytest.FixtureRequest) -> TaskFolder:
    """The task that the test is of: its folder, its files and its task file."""
    root = authoring.find_root(request.path.parent)
    if root is None:
        pytest.fail(f"{request.path} lies in no task's folder: there is no task.toml above it", pytrace=False)
    return authoring.read_folder(root)


@pytest.fixture
def fake_host(
    task_folder: TaskFolder, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., AbstractContextManager[FakeHost]]:
    """``walle_task.testing.fake_host`` with the task's own parameters, tables, grants, limits and models.

    What the task asks its cloud half is answered by its own cloud.py; ``cloud=None``: the device is offline.
    """

    @contextmanager
    def make(**given: Any) -> Generator[FakeHost]:
        definition = task_folder.definition
        _declare_inputs(definition, given)
        given["params"] = {**definition.params, **(given.get("params") or {})}
        given["tables"] = dict.fromkeys(definition.tables, ()) | dict(given.get("tables") or {})
        given.setdefault("capabilities", frozenset[str](definition.task.capabilities))
        given.setdefault("output_bytes", definition.limits.output_bytes)
        if "bundle_dir" not in given:
            given["bundle_dir"] = _bundle(request.config, task_folder, tmp_path_factory)
        if definition.cloud is not None and "cloud" not in given:
            given["cloud"] = _own_half(request.config, task_folder, tmp_path_factory)
        with testing.fake_host(**given) as host:
            yield host

    return make


def _declare_inputs(definition: TaskFile, given: dict[str, Any]) -> None:
    """Show only what the task declares to read, and work out the rows of its stages, as a device would.

    Rows of stages over the log are the test's to give.
    """
    events = [_completed(number, event) for number, event in enumerate(given.get("events") or (), 1)]
    made = {spec.name: Stage(spec).rows(events) if spec.over == "run" else [] for spec in definition.prepare}
    given["prepared"] = {**made, **(given.get("prepared") or {})}
    if definition.reads is None:
        return
    visit = given.get("visit")
    plain = None if visit is None else {**asdict(Visit("")), **_plain(visit)}
    if plain is not None:
        plain["events"] = [asdict(_completed(n, event)) for n, event in enumerate(plain["events"], 1)]
    inputs = {"events": [asdict(event) for event in events], "visit": plain}
    given.update(narrow_inputs(inputs, definition.reads, None))


def _completed(number: int, event: Event | Mapping[str, Any]) -> Event:
    plain: dict[str, Any] = {"seq": number, **_plain(event)}
    return Event(**{**plain, "event_id": plain.get("event_id") or plain["kind"]})


def _plain(value: Event | Visit | Mapping[str, Any]) -> dict[str, Any]:
    return asdict(value) if isinstance(value, Event | Visit) else dict(value)


def _bundle(
    config: pytest.Config, task: TaskFolder, temporary: pytest.TempPathFactory, *, cloud: bool = False
) -> Path:
    """The task, or its cloud half, unpacked with its models converted, once in a session."""
    known = config.stash.setdefault(_MODELS, {})
    if (task.root, cloud) not in known:
        folder = temporary.mktemp("bundle")
        known[task.root, cloud] = authoring.write_bundle(task, folder, cloud=cloud)
    return known[task.root, cloud]


def _own_half(config: pytest.Config, task: TaskFolder, temporary: pytest.TempPathFactory) -> CloudHalf:
    """The task's own cloud half, in this process."""
    assert task.definition.cloud is not None
    module, _, function = task.definition.cloud.entry.partition(":")

    def refuse(name: str, args: dict[str, Any]) -> Any:
        raise NotAllowed(f"a cloud half has no {name}, as of {sorted(args)}")

    def answer(request: Request) -> dict[str, Any]:
        asking = context.current()
        own = context.RunContext(
            inputs={},
            params=dict(task.definition.params),
            bundle_dir=_bundle(config, task, temporary, cloud=True),
            capabilities=CLOUD_CAPABILITIES,
            call=refuse,
        )
        context.set_current(own)
        try:
            return cast("dict[str, Any]", getattr(importlib.import_module(module), function)(request))
        finally:
            context.set_current(asking)

    return answer


@pytest.fixture
def task_run(
    task_folder: TaskFolder, fake_host: Callable[..., AbstractContextManager[FakeHost]]
) -> Callable[..., TaskRun]:
    """Run the task's entry once and tell what it did; arguments as those of ``walle_task.testing.fake_host``.

    It runs in this process, where a debugger works. What it puts and sends is held against task.toml, as on a
    device, which refuses what is not declared.
    """

    def run(
        *,
        events: Sequence[Event | Mapping[str, Any]] | None = None,
        visit: Visit | Mapping[str, Any] | None = None,
        **given: Any,
    ) -> TaskRun:
        if events is None:
            events = () if visit is None else visit.events if isinstance(visit, Visit) else visit["events"]
        module, _, function = task_folder.definition.task.entry.partition(":")
        with _own_modules(task_folder.root), fake_host(events=events, visit=visit, **given) as host:
            value = getattr(importlib.import_module(module), function)()
        _check_declared(task_folder, host)
        return TaskRun(host, value)

    return run


@contextmanager
def _own_modules(root: Path) -> Iterator[None]:
    """Have the task's modules importable, fresh, and gone afterwards."""
    before = dict(sys.modules)
    _forget_modules(root)
    sys.path.insert(0, str(root))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(root))
        _forget_modules(root)
        sys.modules.update({name: module for name, module in before.items() if _is_below(module, root)})


def _forget_modules(root: Path) -> None:
    for name, module in list(sys.modules.items()):
        if _is_below(module, root):
            del sys.modules[name]


def _is_below(module: object, root: Path) -> bool:
    """Whether a module is of the task itself; its tests are not."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or not Path(file).is_relative_to(root):
        return False
    return Path(file).relative_to(root).parts[0] != "tests"


def _check_declared(task: TaskFolder, host: FakeHost) -> None:
    """Refuse what a device would refuse: what task.toml does not declare, and values beyond their bounds."""
    rows = [("tables", write["table"], write["row"], task.definition.tables) for write in host.rows]
    sent = [("uploads", sent["name"], sent["fields"], task.definition.uploads) for sent in host.uploads]
    for section, name, fields, declared in (*rows, *sent):
        if name not in declared:
            raise NotAllowed(f"{name!r} is not declared: add [{section}.{name}] to task.toml")
        if strangers := sorted(fields.keys() - declared[name].keys()):
            raise NotAllowed(
                f"{name}.{strangers[0]} is not declared in [{section}.{name}] of task.toml: add it there"
            )
        for field, bound in task.definition.bounds.get(name, {}).items() if section == "uploads" else ():
            if fields.get(field) is not None and not bound.holds(fields[field]):
                raise NotAllowed(
                    f"{name}.{field} is {fields[field]!r:.60}, not within [bounds.{name}]: clamp it, or"
                    " correct the bounds"
                )


def pytest_collect_file(file_path: Path) -> None:
    """Let tests import their task's modules by name, as the task itself does."""
    root = authoring.find_root(file_path.parent)
    if root is not None and str(root) not in sys.path:
        sys.path.append(str(root))
