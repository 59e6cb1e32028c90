"""The models of the task's bundle, run by Walle's own engine."""

from __future__ import annotations

import importlib
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, cast

from walle_shared.errors import EngineError, NotFound, TaskError
from walle_shared.ids import check_name
from walle_task.context import RunContext, current

__all__ = ["Model", "TensorLike", "load"]

MODEL_FOLDER = "model"
MODEL_SUFFIX = ".wmodel"

# How many models stay mapped between runs of one slot. A slot serves a handful of tasks, most with one model.
KEPT_MODELS = 8


class TensorLike(Protocol):
    """What a model answers with: a buffer (``memoryview(tensor)``) with shape, dtype and ``tolist()``."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes, outermost first."""
        ...

    @property
    def dtype(self) -> str:
        """Element type, such as ``"F32"``."""
        ...

    def tolist(self) -> Any:
        """Nested lists of numbers, or one number where there are no dimensions."""
        ...


class _Session(Protocol):
    def run(self, inputs: Mapping[str, object]) -> dict[str, TensorLike]: ...
    def profile_start(self) -> None: ...
    def profile_stop(self) -> list[tuple[str, str, float]]: ...


class Recorder(Protocol):
    """Told what models take, while a run is profiled."""

    def span(self, kind: str, name: str, /) -> AbstractContextManager[None]:
        """Count the ``with`` block as one run of a model."""
        ...

    def add(self, kind: str, name: str, total_ns: int, /) -> None:
        """Count one step of the engine."""
        ...


_recorder: Recorder | None = None


def set_recorder(recorder: Recorder | None) -> None:
    """Have models tell ``recorder`` what they take; None ends it. For hosts, not for tasks."""
    global _recorder
    _recorder = recorder


class Model:
    """A loaded model with one prepared session."""

    def __init__(self, name: str, native: Any) -> None:
        self.name = name
        self._native = native
        self._session: _Session | None = None

    @property
    def inputs(self) -> tuple[tuple[str, str, tuple[int | str, ...]], ...]:
        """Name, dtype and shape of each input; a text in a shape is a free size."""
        return cast("tuple[tuple[str, str, tuple[int | str, ...]], ...]", self._native.inputs)

    @property
    def outputs(self) -> tuple[tuple[str, str, tuple[int | str, ...]], ...]:
        """Name, dtype and shape of each output."""
        return cast("tuple[tuple[str, str, tuple[int | str, ...]], ...]", self._native.outputs)

    def run(self, inputs: Mapping[str, object]) -> dict[str, TensorLike]:
        """Run the model.

        Args:
            inputs: input name to a buffer, a tensor, or nested lists of numbers or texts.

        Returns:
            Output name to tensor; they are the caller's.

        Raises:
            EngineError: an input is missing or has a wrong shape, or the engine failed.
        """
        if self._session is None:
            self._session = cast("_Session", self._native.session(threads=1))
        if _recorder is not None:
            return self._run_recorded(self._session, inputs, _recorder)
        return self._session.run(inputs)

    def _run_recorded(
        self, session: _Session, inputs: Mapping[str, object], recorder: Recorder
    ) -> dict[str, TensorLike]:
        with recorder.span("model", self.name):
            session.profile_start()
            try:
                return session.run(inputs)
            finally:
                for op, candidate, seconds in session.profile_stop():
                    recorder.add("engine", f"{op} {candidate}".strip(), round(seconds * 1e9))


_loaded: OrderedDict[tuple[str, int, int], Model] = OrderedDict()


def load(name: str) -> Model:
    """Load ``model/<name>.wmodel`` of the bundle; cheap from the second time on.

    Raises:
        ConfigError: ``name`` is not a plain name; folders and dots are not allowed.
        NotFound: the bundle has no such model; the message lists those it has.
        ModelError: the file is broken.
        UnsupportedError: the engine cannot run it.
        TaskError: there is no engine here.
    """
    context = current()
    context.check_granted("model.load")
    path = _model_path(context, name)
    status = path.stat()
    key = (str(path), status.st_mtime_ns, status.st_size)
    model = _loaded.get(key)
    if model is None:
        model = _loaded[key] = Model(name, _open(path))
    _loaded.move_to_end(key)
    while len(_loaded) > KEPT_MODELS:
        _loaded.popitem(last=False)
    return model


def _model_path(context: RunContext, name: str) -> Path:
    folder = context.bundle_dir / MODEL_FOLDER
    path = folder / (check_name(name, "model name") + MODEL_SUFFIX)
    if not path.is_file():
        present = ", ".join(sorted(file.stem for file in folder.glob(f"*{MODEL_SUFFIX}"))) or "none"
        raise NotFound(f"the bundle has no model {name!r} in its {MODEL_FOLDER} folder; it has: {present}")
    return path


def _open(path: Path) -> Any:
    engine = _engine()
    try:
        return engine.Model(str(path))
    except EngineError as error:
        named = f"{MODEL_FOLDER}/{path.name}: {error.message}"
        raise type(error)(named, status=error.status, op=error.op, node=error.node) from None


def _engine() -> Any:
    try:
        return importlib.import_module("walle_engine._native")
    except ImportError as error:
        raise TaskError(f"the tensor engine cannot be loaded here: {error}") from error
