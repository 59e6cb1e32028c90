"""The models of the task's bundle, run by Walle's own engine, and trained on what the device has seen."""

from __future__ import annotations

import importlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from walle_shared.errors import EngineError, NotFound, TaskError
from walle_shared.ids import check_name
from walle_task.context import RunContext, current

if TYPE_CHECKING:
    from walle_task._training import LossName, OptimizerName

__all__ = ["Model", "TensorLike", "Trained", "load", "train"]

MODEL_FOLDER = "model"
#: Where models lie; those of ``cloud`` (``manifest.CLOUD_FOLDER``) are on no device.
_FOLDERS = (MODEL_FOLDER, "cloud")
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


def load(name: str, *, checkpoint: str | None = None) -> Model:
    """Load ``model/<name>.wmodel`` of the bundle, in a cloud half ``cloud/<name>.wmodel`` too; cheap from the
    second time on.

    Args:
        name: of the file, without its ending.
        checkpoint: the key under which :func:`train` kept what it learnt; the model is the bundle's where
            nothing is there, or only what was learnt of another file.

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
    return _load_file(name, path) if checkpoint is None else _load_trained(name, path, checkpoint)


def _load_trained(name: str, path: Path, checkpoint: str) -> Model:
    from walle_task import _training  # here: most tasks do not train

    kept = _training.Checkpoint(checkpoint, path).read()
    if kept is None:
        return _load_file(name, path)
    with_weights = importlib.import_module("walle_engine.train.trainer").with_weights
    return Model(name, _engine().Model.from_bytes(with_weights(path, kept[0])))


@dataclass(frozen=True, slots=True)
class Trained:
    """What training came to.

    Attributes:
        model: as it is now.
        losses: before each step of this run.
        steps: how many there were in all, those of earlier runs included.
    """

    model: Model
    losses: tuple[float, ...]
    steps: int


def train(
    name: str,
    batches: Iterable[Mapping[str, object]],
    *,
    steps: int,
    seconds: float,
    loss: LossName = "cross_entropy",
    optimizer: OptimizerName = "adam",
    rate: float = 1e-3,
    trainable: Sequence[str] | None = None,
    seed: int = 0,
    checkpoint: str | None = None,
) -> Trained:
    """Train ``model/<name>.wmodel`` of the bundle, by default going on from where an earlier run ended.

    It ends with the first of ``batches``, ``steps`` and ``seconds`` that is used up. Time and memory are the
    run's own: a step that passes ``limits.wall_s`` or ``limits.memory_bytes`` ends the run, and nothing is
    kept.

    Args:
        name: of the file, without its ending.
        batches: what each step is fed: the model's inputs by name, and ``target``.
        steps: the most steps of this run.
        seconds: after which no step begins.
        loss: what is to become small.
        optimizer: how parameters move.
        rate: the learning rate.
        trainable: names of weights, or patterns like ``"fc.*"``; omitted: all that are usually learnt.
        seed: of what ``Dropout`` drops.
        checkpoint: a key of the store: what was learnt is kept there if the run ends well, and gone on from.
            Omitted: it is gone with the run.

    Raises:
        NotAllowed: ``model`` is not granted, or with a checkpoint ``store``.
        NotFound: the bundle has no such model.
        ModelError: the model has no such weight, no gradient, or the checkpoint is of other weights.
        EngineError: a batch lacks an input, or has one of a wrong shape.
        LimitExceeded: the checkpoint would be more than the run may produce; nothing was trained.
        TaskError: a limit, the loss or the optimiser makes no sense, or there is no engine here.
    """
    from walle_task import _training  # here: most tasks do not train

    context = current()
    context.check_granted("model.train")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1 or not 0 < seconds < float("inf"):
        raise TaskError(
            f"training is limited to {steps!r} steps and {seconds!r} seconds: both must be positive"
        )
    path = _model_path(context, name)
    from_bytes = cast("Callable[[bytes], Any]", _engine().Model.from_bytes)
    trainer = _training.make_trainer(
        path, from_bytes, loss=loss, optimizer=optimizer, rate=rate, trainable=trainable, seed=seed
    )
    kept = None if checkpoint is None else _training.Checkpoint(checkpoint, path)
    if kept is not None:
        context.check_granted("store.put")
        _training.check_fits(context, trainer)
        found = kept.read()
        if found is not None:
            trainer.restore(*found)
    losses = _training.run_steps(trainer, batches, steps, seconds)
    if kept is not None and losses:
        kept.write(trainer.checkpoint(), trainer.count)
    return Trained(Model(name, trainer.model()), tuple(losses), trainer.count)


def _load_file(name: str, path: Path) -> Model:
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
    file = check_name(name, "model name") + MODEL_SUFFIX
    folders = [context.bundle_dir / folder for folder in _FOLDERS]
    for folder in folders:
        if (folder / file).is_file():
            return folder / file
    present = sorted(path.stem for folder in folders for path in folder.glob(f"*{MODEL_SUFFIX}"))
    raise NotFound(
        f"the bundle has no model {name!r} in its {MODEL_FOLDER} folder; "
        f"it has: {', '.join(present) or 'none'}"
    )


def _open(path: Path) -> Any:
    engine = _engine()
    try:
        return engine.Model(str(path))
    except EngineError as error:
        named = f"{path.parent.name}/{path.name}: {error.message}"
        raise type(error)(named, status=error.status, op=error.op, node=error.node) from None


def _engine() -> Any:
    try:
        return importlib.import_module("walle_engine._native")
    except ImportError as error:
        raise TaskError(f"the tensor engine cannot be loaded here: {error}") from error
