"""From a task's source files to its bundle: checks the scripts, converts the models, adds bytecode. Blocks.

The same source gives the same bundle, byte for byte, given a converter that does.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from walle_container.scripts import check_scripts, refuse_errors
from walle_control.features.tasks import bytecode
from walle_control.features.tasks.types import ModelConverter, TaskSource
from walle_shared.errors import ConfigError, EngineError, NotAllowed, TaskError
from walle_shared.ids import TaskVersion
from walle_shared.manifest import (
    CLOUD_FOLDER,
    OWN_FOLDER,
    TASK_FILE,
    BundleFile,
    CloudBundle,
    CloudRef,
    Manifest,
    PythonSection,
    TaskFile,
    check_manifest,
    is_cloud,
    parse_task_file,
)
from walle_shared.privacy import complaints
from walle_shared.protocol.codec import canonical
from walle_shared.schema import EventSchema
from walle_shared.signing import file_ref

_MODEL_FOLDERS = ("model/", f"{CLOUD_FOLDER}/")
_SOURCE_SUFFIX = ".onnx"
_MODEL_SUFFIX = ".wmodel"


@dataclass(frozen=True, slots=True)
class Built:
    """A version as it is kept: what devices get, and what the cloud half has besides."""

    manifest: Manifest
    files: Mapping[str, bytes]
    cloud: bytes
    cloud_files: Mapping[str, bytes]


def build(
    source: TaskSource,
    task: str,
    version: TaskVersion,
    convert: ModelConverter,
    schema: EventSchema | None = None,
) -> Built:
    """Build the manifest and the files it names, and the cloud half's own, which it names by one digest.

    Raises:
        ConfigError: ``task.toml`` is missing or wrong.
        NotAllowed: by the classes of ``schema``, what the task sends may hold what must stay on devices.
        TaskError: a script does not compile or does what a device refuses, two files collide, or there is no
            interpreter for a Python version that the task asks for.
        EngineError: a model is broken or cannot be converted; names the file.
    """
    definition = definition_of(source, task)
    bytecode.check_none_compiled(source.files, source.tag)
    _check_own_is_free(source)
    refuse_errors(check_scripts(source.files, definition), source.tag)
    refuse_leaks(definition, schema, source.tag)
    converted = convert_models(source.files, convert)
    check_models(source.files)
    on_devices = {path: data for path, data in converted.items() if not is_cloud(path)}
    files, marks = bytecode.add_bytecode(on_devices, definition.python)
    cloud, cloud_files = _build_cloud(converted) if definition.cloud is not None else (b"", {})
    manifest = Manifest(version, source.commit, definition, _list(files), marks, _cloud_ref(cloud))
    return Built(check_manifest(manifest), files, cloud, cloud_files)


def _build_cloud(converted: Mapping[str, bytes]) -> tuple[bytes, dict[str, bytes]]:
    """The list of the cloud half's own files, and these; the control plane's Python runs them."""
    own = {path: data for path, data in converted.items() if is_cloud(path)}
    files, _ = bytecode.add_bytecode(own, PythonSection())
    return canonical(CloudBundle(_list(files))), files


def _cloud_ref(cloud: bytes) -> CloudRef | None:
    if not cloud:
        return None
    ref = file_ref(cloud)
    return CloudRef(ref.sha256, ref.size_bytes)


def _list(files: Mapping[str, bytes]) -> tuple[BundleFile, ...]:
    return tuple(_listed(path, files[path]) for path in sorted(files))


def _check_own_is_free(source: TaskSource) -> None:
    """Below ``own/`` lie the files that each device has of its own."""
    for path in source.files:
        if path == OWN_FOLDER or path.startswith(f"{OWN_FOLDER}/"):
            raise TaskError(
                f"{path} at tag {source.tag}: own/ is for files of single devices ('walle-control exclusive')"
            )


def refuse_leaks(definition: TaskFile, schema: EventSchema | None, tag: str) -> None:
    """Refuse a task whose uploads may hold what is local.

    Raises:
        NotAllowed: naming the fields, and what to declare.
    """
    found = [f"{key}: {message}" for key, message in complaints(definition, schema)]
    if found:
        raise NotAllowed(f"{TASK_FILE} at tag {tag}: " + "; ".join(found[:5]))


def check_models(files: Mapping[str, bytes]) -> None:
    """Load every model that is in the engine's format already.

    Raises:
        EngineError: naming the model that is broken, or that the engine cannot run.
    """
    for path in sorted(files):
        if path.startswith(_MODEL_FOLDERS) and path.endswith(_MODEL_SUFFIX):
            from walle_engine.api import load_bytes  # on first use: it brings the C engine

            try:
                load_bytes(files[path])
            except EngineError as error:
                raise _naming(path, error) from error


def convert_models(files: Mapping[str, bytes], convert: ModelConverter) -> dict[str, bytes]:
    """Replace every ``model/*.onnx`` and ``cloud/*.onnx`` by its ``.wmodel``; the rest stays as it is.

    Raises:
        EngineError: naming the model that cannot be converted.
        TaskError: the converted file's name is taken.
    """
    built = {path: data for path, data in files.items() if not _is_source_model(path)}
    for path in sorted(files.keys() - built.keys()):
        target = str(PurePosixPath(path).with_suffix(_MODEL_SUFFIX))
        if target in built:
            raise TaskError(f"{path} would be converted to {target}, which exists: remove one of them")
        built[target] = _convert_one(path, files[path], convert)
    return built


def _is_source_model(path: str) -> bool:
    return path.startswith(_MODEL_FOLDERS) and path.endswith(_SOURCE_SUFFIX)


def _convert_one(path: str, data: bytes, convert: ModelConverter) -> bytes:
    with tempfile.TemporaryDirectory(prefix="walle-convert-") as folder:
        onnx_path = Path(folder) / "model.onnx"
        wmodel_path = Path(folder) / "model.wmodel"
        onnx_path.write_bytes(data)
        try:
            convert(onnx_path, wmodel_path)
        except EngineError as error:
            raise _naming(path, error) from error
        return wmodel_path.read_bytes()


def _naming(path: str, error: EngineError) -> EngineError:
    return type(error)(f"{path}: {error.message}", status=error.status, op=error.op, node=error.node)


def definition_of(source: TaskSource, task: str) -> TaskFile:
    """The parsed ``task.toml`` of a source.

    Raises:
        ConfigError: missing, wrong, or of another task than ``task``.
    """
    where = f"{TASK_FILE} at tag {source.tag}"
    if TASK_FILE not in source.files:
        raise ConfigError(
            f"{where} is missing (files there: {_some(source.files)}): add it, or name the task's --folder"
        )
    try:
        definition = parse_task_file(source.files[TASK_FILE].decode(), where)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where}: not UTF-8: {error}") from None
    if definition.task.name != task:
        raise ConfigError(
            f"{where}: task.name is {definition.task.name!r}, but {task!r} was asked for: correct one of them"
        )
    return definition


def _listed(path: str, data: bytes) -> BundleFile:
    ref = file_ref(data)
    return BundleFile(path, ref.sha256, ref.size_bytes)


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:5]) + (", ..." if len(ordered) > 5 else "")
