"""What a bundle's scripts import and use, read from their text: nothing of them runs.

The author's `walle-agent task check` and the control plane's import ask here, so what passes at the desk
passes at the release. Rules, each with the line it is about:

1. Every script compiles, and the entry is a plain function without arguments.
2. From the entry on, through the bundle's own modules, only what :mod:`walle_container.imports` allows is
   imported. An import that catches its own ImportError is the author's fallback, and only a warning.
3. The parts of ``walle_task`` that are used are in the task's capabilities.
4. Tables, messages, parameters and models that are named by a literal exist, with the fields that are named.

A task's cloud half is held to the same, with its own entry, which takes the request, and its own grants.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal, get_args

import walle_task
from walle_container.imports import ONLY_FOR_TESTS, cure_for, is_allowed
from walle_shared.errors import TaskError
from walle_shared.manifest import (
    CLOUD_CAPABILITIES,
    CLOUD_FOLDER,
    CLOUD_SCRIPT,
    TASK_FILE,
    Capability,
    TaskFile,
    is_cloud,
)

OURS = "walle_task"
MODEL_SUFFIXES = (".wmodel", ".onnx")
MODEL_FOLDERS = ("model", CLOUD_FOLDER)
#: What a part of ``walle_task`` uses of others.
_IMPLIED: Mapping[str, tuple[str, ...]] = {"learn": ("model", "store", "tunnel")}
_CAPABILITIES: frozenset[str] = frozenset(get_args(Capability))
_CATCHES_IMPORT_ERROR = frozenset({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a task.

    Attributes:
        level: an error keeps the task from being released; a warning is the author's to judge.
        path: the file, in the bundle.
        line: the line, from 1; 0 where it is about the whole file.
        message: what is wrong, and what to do.
    """

    level: Literal["error", "warning"]
    path: str
    line: int
    message: str

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}" if self.line else self.path
        return f"{where}: {self.message}"


@dataclass(frozen=True, slots=True)
class _Module:
    """One script: its place in the bundle, its name to Python, its parsed text."""

    path: str
    name: str
    tree: ast.Module

    @property
    def package(self) -> str:
        """What relative imports start from."""
        return self.name if self.path.endswith("/__init__.py") else self.name.rpartition(".")[0]


@dataclass(frozen=True, slots=True)
class _Import:
    """One import: the module Python looks for, names taken from it, and whether failure is caught."""

    name: str
    names: tuple[str, ...]
    line: int
    caught: bool


@dataclass(frozen=True, slots=True)
class _Half:
    """One of the two programs of a task: what it has, where it begins, and what it may use."""

    files: Mapping[str, bytes]
    key: str
    entry: str
    takes: int
    grants: frozenset[str]

    @property
    def is_cloud(self) -> bool:
        """Whether the control plane runs it."""
        return self.key == "cloud.entry"


def check_scripts(files: Mapping[str, bytes], task: TaskFile) -> tuple[Problem, ...]:
    """Find what is wrong with a task's scripts, errors and warnings, by file and line.

    Args:
        files: the bundle, by path in it, with what belongs to the cloud half.
        task: its task file.
    """
    device = {path: data for path, data in files.items() if not is_cloud(path)}
    problems = _check_half(
        _Half(device, "task.entry", task.task.entry, 0, frozenset(task.task.capabilities)), task
    )
    problems += _check_learning(device, task)
    if task.cloud is None:
        for path in sorted(files.keys() - device.keys())[:1]:
            message = (
                f"is of a cloud half, but there is no [cloud] in {TASK_FILE}: add it, or rename the file"
            )
            problems.append(Problem("error", path, 0, message))
    else:
        if {CLOUD_SCRIPT, f"{CLOUD_FOLDER}/__init__.py"} <= files.keys():
            message = f"and {CLOUD_FOLDER}/__init__.py are the same module: remove one of them"
            problems.append(Problem("error", CLOUD_SCRIPT, 0, message))
        half = _Half(files, "cloud.entry", task.cloud.entry, 1, CLOUD_CAPABILITIES)
        problems += [problem for problem in _check_half(half, task) if problem not in problems]
    return tuple(sorted(problems, key=lambda problem: (problem.path, problem.line)))


def _check_half(half: _Half, task: TaskFile) -> list[Problem]:
    files = half.files
    problems: list[Problem] = []
    modules: dict[str, _Module] = {}
    for path in sorted(files):
        if path.endswith(".py"):
            parsed = _parse(path, files[path])
            if isinstance(parsed, Problem):
                problems.append(parsed)
            else:
                modules[parsed.name] = parsed
    broken = {_module_name(problem.path) for problem in problems}
    if half.entry:
        problems += _check_entry(modules, broken, half)
    reached = _reach(modules, broken, half.entry.partition(":")[0], problems)
    for name in sorted(modules.keys() - reached.keys()):
        if is_cloud(modules[name].path) == half.is_cloud:
            who = (
                "the cloud half never imports it"
                if half.is_cloud
                else "the task never imports it, and every device gets it"
            )
            problems.append(
                Problem("warning", modules[name].path, 0, f"{who}: remove it, or move it into tests")
            )
    problems += _check_uses([modules[name] for name in reached], half, task)
    return problems


def refuse_errors(problems: Iterable[Problem], where: str) -> None:
    """Raise the errors among ``problems``, if there are any.

    Raises:
        TaskError: naming each by file and line.
    """
    errors = [str(problem) for problem in problems if problem.level == "error"]
    if errors:
        raise TaskError(f"{where}: " + "; ".join(errors[:10]))


def _module_name(path: str) -> str:
    parts = PurePosixPath(path).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _parse(path: str, source: bytes) -> _Module | Problem:
    try:
        compile(source, path, "exec", dont_inherit=True)  # finds more than ast.parse does
        return _Module(path, _module_name(path), ast.parse(source, path))
    except SyntaxError as error:
        return Problem("error", path, error.lineno or 1, f"does not compile: {error.msg}")
    except (ValueError, RecursionError, OverflowError, MemoryError) as error:
        return Problem("error", path, 0, f"does not compile: {error}")


# The entry


def _check_entry(modules: Mapping[str, _Module], broken: set[str], half: _Half) -> Iterator[Problem]:
    name, _, function = half.entry.partition(":")
    if name in broken:
        return
    if name not in modules:
        yield Problem("error", TASK_FILE, 0, f"{half.key} is {half.entry!r}, but there is no {name}.py")
        return
    module = modules[name]
    for node in module.tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == function:
            if fault := _entry_fault(node, half.takes):
                yield Problem("error", module.path, node.lineno, f"the entry {function} {fault}")
            return
        if function in _bound_names(node):
            return
    defined = [node.name for node in module.tree.body if isinstance(node, ast.FunctionDef)]
    known = f"; it defines {', '.join(defined[:5])}" if defined else ""
    message = f"does not define {function}, which {half.key} {half.entry!r} names{known}"
    yield Problem("error", module.path, 0, message)


def _entry_fault(node: ast.FunctionDef | ast.AsyncFunctionDef, takes: int) -> str:
    if isinstance(node, ast.AsyncFunctionDef):
        return "is async: a run has one thread; write a plain function"
    arguments = node.args
    places = len(arguments.posonlyargs) + len(arguments.args)
    named = sum(default is None for default in arguments.kw_defaults)
    if named or places - len(arguments.defaults) > takes:
        if takes:
            return "is called with the request alone: have it take one argument"
        return "takes arguments, and is called without any: read what it needs from walle_task"
    if places < takes and arguments.vararg is None:
        return "is called with the request: have it take one argument"
    if any(isinstance(inner, ast.Yield | ast.YieldFrom) for inner in _own_nodes(node)):
        return "is a generator: return the value, and send the rest through tunnel or store"
    return ""


def _own_nodes(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """The nodes of a function, without those of functions inside it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))


def _bound_names(node: ast.stmt) -> set[str]:
    """Names that a statement of a module gives a value."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name for alias in node.names}
    return {
        inner.id
        for inner in ast.walk(node)
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)
    }


# Imports


def _reach(
    modules: Mapping[str, _Module], broken: set[str], entry: str, problems: list[Problem]
) -> dict[str, str]:
    """The bundle's modules that the entry imports, each with the way there; adds what may not be imported."""
    ways = {entry: ""} if entry in modules else {}
    waiting = deque(ways)
    own = modules.keys() | broken
    while waiting:
        module = modules[waiting.popleft()]
        for found in _imports_of(module):
            targets, fault = _resolve(found, own)
            if fault:
                level: Literal["error", "warning"] = "warning" if found.caught else "error"
                message = fault + (" (its ImportError is caught)" if found.caught else "")
                problems.append(Problem(level, module.path, found.line, message + ways[module.name]))
            for target in targets:
                if target in modules and target not in ways:
                    ways[target] = f" [{module.path}:{found.line} imports it]" + ways[module.name]
                    waiting.append(target)
    return ways


def _resolve(found: _Import, own: Iterable[str]) -> tuple[list[str], str]:
    """The bundle's modules that an import loads, and what is wrong with it."""
    if not found.name:
        return [], "a relative import works inside a package only: import the module by its name"
    own = frozenset(own)
    parts = found.name.split(".")
    if parts[0] in {name.partition(".")[0] for name in own}:
        if parts[0] in sys.stdlib_module_names or parts[0].startswith("walle_"):
            return [], f"the bundle's {parts[0]!r} has the name of another library: rename it"
        if found.name not in own and not any(name.startswith(found.name + ".") for name in own):
            return [], f"the bundle has no module {found.name!r}"
        loaded = [".".join(parts[: length + 1]) for length in range(len(parts))]
        loaded += [f"{found.name}.{name}" for name in found.names]
        return [name for name in loaded if name in own], ""
    if found.name == OURS or found.name.startswith(OURS + "."):
        return [], _fault_of_ours(found)
    if is_allowed(found.name):
        return [], ""
    return [], f"a task may not import {found.name!r}: {cure_for(found.name)}"


def _fault_of_ours(found: _Import) -> str:
    wanted = [found.name, *(f"{found.name}.{name}" for name in found.names if name != "*")]
    if found.name != OURS:
        wanted = wanted[:1]  # what a part of it has is for a type checker to say
    for name in wanted:
        if name in ONLY_FOR_TESTS:
            return f"a task may not import {name!r}: {cure_for(name)}"
        part = name.removeprefix(OURS).removeprefix(".")
        if part and not hasattr(walle_task, part) and importlib.util.find_spec(name) is None:
            return f"walle_task has no {part!r}; it has {', '.join(walle_task.__all__)}"
    return ""


def _imports_of(module: _Module) -> Iterator[_Import]:
    """Every import in a module, wherever it stands, but for those that only type checkers see."""
    waiting: list[tuple[ast.AST, bool]] = [(node, False) for node in module.tree.body]
    while waiting:
        node, caught = waiting.pop(0)
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield _Import(alias.name, (), node.lineno, caught)
            case ast.ImportFrom(names=names):
                base = _absolute(node, module.package)
                yield _Import(base, tuple(alias.name for alias in names), node.lineno, caught)
            case ast.If(test=test) if _is_type_checking(test):
                waiting[:0] = [(inner, caught) for inner in node.orelse]
            case ast.Try():
                catches = caught or any(map(_catches_import_error, node.handlers))
                rest = [*node.handlers, *node.orelse, *node.finalbody]
                waiting[:0] = [(inner, catches) for inner in node.body] + [(inner, caught) for inner in rest]
            case _:
                waiting[:0] = [(inner, caught) for inner in ast.iter_child_nodes(node)]


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if node.level == 0:
        return node.module or ""
    parts = package.split(".")
    base = parts[: len(parts) - (node.level - 1)]
    return ".".join([*base, node.module] if node.module else base)


def _is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _catches_import_error(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or ast.unparse(kind) in _CATCHES_IMPORT_ERROR for kind in kinds)


# Uses of walle_task


@dataclass(slots=True)
class _Names:
    """What names of a module stand for: ``store`` for ``walle_task.store``, for example."""

    known: dict[str, str] = field(default_factory=dict)

    def dotted(self, node: ast.expr) -> str:
        """``walle_task.store.table`` for an expression that means it; empty for others."""
        match node:
            case ast.Name(id=name):
                return self.known.get(name, "")
            case ast.Attribute(value=value, attr=attr):
                below = self.dotted(value)
                return f"{below}.{attr}" if below else ""
            case _:
                return ""


def _names_of(module: _Module) -> _Names:
    names, others = _Names(), set[str]()
    for node in ast.walk(module.tree):
        match node:
            case ast.Import():
                for alias in node.names:
                    if alias.name.partition(".")[0] == OURS:
                        names.known[alias.asname or OURS] = alias.name if alias.asname else OURS
            case ast.ImportFrom(level=0, module=str(base)) if base.partition(".")[0] == OURS:
                for alias in node.names:
                    names.known[alias.asname or alias.name] = f"{base}.{alias.name}"
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                others.add(name)
            case _:
                pass
    for name in others:  # it means something else somewhere: say nothing rather than something wrong
        names.known.pop(name, None)
    return names


def _check_uses(modules: Iterable[_Module], half: _Half, task: TaskFile) -> Iterator[Problem]:
    used: set[str] = set()
    for module in modules:
        names = _names_of(module)
        refused: set[str] = set()
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Name | ast.Attribute):
                part = _part_used(names.dotted(node))
                if part and part not in half.grants and part not in refused:
                    refused.add(part)
                    message = f"uses walle_task.{part}: {_cure_for_grant(part, half)}"
                    yield Problem("error", module.path, node.lineno, message)
                used |= {part, *_IMPLIED.get(part, ())}
            elif isinstance(node, ast.Call):
                for level, fault in _faults_of_call(node, names, half.files, task):
                    yield Problem(level, module.path, node.lineno, fault)
    for capability in sorted(half.grants - used) if not half.is_cloud else ():
        message = f"task.capabilities has {capability!r}, but nothing uses walle_task.{capability}"
        yield Problem("warning", TASK_FILE, 0, message)


def _cure_for_grant(part: str, half: _Half) -> str:
    if half.is_cloud:
        return f"a cloud half has none, only {', '.join(sorted(CLOUD_CAPABILITIES))} of them"
    return f"add {part!r} to task.capabilities in {TASK_FILE}"


def _check_learning(files: Mapping[str, bytes], task: TaskFile) -> Iterator[Problem]:
    """Of ``[learning]``: its model is there, and the task may do all that taking part takes."""
    if not task.learning.model:
        return
    for _, fault in _model_faults(task.learning.model, files):
        yield Problem("error", TASK_FILE, 0, f"learning.model: {fault}")
    for part in ("learn", *_IMPLIED["learn"]):
        if part not in task.task.capabilities:
            message = f"a task with [learning] needs {part!r} in task.capabilities"
            yield Problem("error", TASK_FILE, 0, message)


def _part_used(dotted: str) -> str:
    """``store`` for ``walle_task.store.table``; types, which need no grant, are left out."""
    parts = dotted.split(".")
    is_use = len(parts) == 3 and parts[0] == OURS and parts[1] in _CAPABILITIES and not parts[2][:1].isupper()
    return parts[1] if is_use else ""


type _Fault = tuple[Literal["error", "warning"], str]


def _faults_of_call(
    call: ast.Call, names: _Names, files: Mapping[str, bytes], task: TaskFile
) -> Iterator[_Fault]:
    first = call.args[0] if call.args else None
    name = first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None
    match names.dotted(call.func):
        case "walle_task.model.load" | "walle_task.model.train" if name is not None:
            yield from _model_faults(name, files)
        case "walle_task.learn.contribute" | "walle_task.learn.keep" if not task.learning.model:
            yield "error", f"the task learns nothing: add [learning] to {TASK_FILE}"
        case "walle_task.params.get" if name is not None and name not in task.params:
            if len(call.args) == 1 and not call.keywords:
                yield "warning", f"the parameter {name!r} is not in [params] of {TASK_FILE}: it is None"
        case "walle_task.store.table" if name is not None and name not in task.tables:
            yield "error", f"the table {name!r} is not declared: add [tables.{name}] to {TASK_FILE}"
        case "walle_task.streams.prepared" if name is not None and name not in {s.name for s in task.prepare}:
            yield "error", f"there is no stage {name!r}: add a [[prepare]] of that name to {TASK_FILE}"
        case "walle_task.tunnel.send" if name is not None:
            fields = call.args[1] if len(call.args) > 1 else None
            yield from _field_faults("uploads", name, fields, task.uploads)
        case "":
            yield from _put_faults(call, names, task)
        case _:
            pass


def _put_faults(call: ast.Call, names: _Names, task: TaskFile) -> Iterator[_Fault]:
    """Of ``store.table("reads").put({...})``; the table itself is judged where it is named."""
    match call.func:
        case ast.Attribute(attr="put", value=ast.Call(args=[ast.Constant(value=str(table))]) as inner):
            if names.dotted(inner.func) == "walle_task.store.table" and table in task.tables:
                yield from _field_faults("tables", table, call.args[0] if call.args else None, task.tables)
        case _:
            pass


def _model_faults(name: str, files: Mapping[str, bytes]) -> Iterator[_Fault]:
    if any(f"{folder}/{name}{suffix}" in files for folder in MODEL_FOLDERS for suffix in MODEL_SUFFIXES):
        return
    present = sorted({PurePosixPath(path).stem for path in files if path.endswith(MODEL_SUFFIXES)})
    yield "error", f"there is no model/{name}.onnx or .wmodel; the task has: {', '.join(present) or 'none'}"


def _field_faults(
    section: str, name: str, fields: ast.expr | None, declared: Mapping[str, Mapping[str, object]]
) -> Iterator[_Fault]:
    if name not in declared:
        yield "error", f"{name!r} is not declared: add [{section}.{name}] to {TASK_FILE}"
        return
    if isinstance(fields, ast.Dict):
        for key in fields.keys:
            if (
                isinstance(key, ast.Constant)
                and isinstance(key.value, str)
                and key.value not in declared[name]
            ):
                yield "error", f"{name}.{key.value} is not declared in [{section}.{name}] of {TASK_FILE}"
