"""What the server does with model files: which weights are learnt, new files, how good they are. Blocks.

The engine is loaded on first use, as for conversions: most control planes never learn.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from walle_control.features.learning.updates import Vector, to_bytes
from walle_shared.errors import ConfigError, EngineError
from walle_shared.learning import LearningSection, Loss, Parameter
from walle_shared.limits import LEARNING_HOLDOUT_MAX_BYTES, LEARNING_MODEL_MAX_BYTES

_TARGET = "target"
_SLICE = 256


@dataclass(frozen=True, slots=True)
class Score:
    """How a model does on held-out data; ``accuracy`` only where there are classes."""

    loss: float
    accuracy: float | None


def read_parameters(model: Path, section: LearningSection) -> tuple[tuple[Parameter, ...], Vector]:
    """The weights of a model file that are learnt, and their values as one vector.

    Raises:
        ModelError: it has none of these names.
        ConfigError: they are not float32, or too many.
    """
    from walle_engine.train.trainer import parameters_of  # see above

    found = parameters_of(model, section.trainable or None)
    wrong = next((name for name, weight in found.items() if weight.dtype != "F32"), None)
    if wrong is not None:
        raise ConfigError(f"weight {wrong!r} is {found[wrong].dtype}: only float32 is learnt together")
    parameters = tuple(Parameter(name, tuple(weight.shape)) for name, weight in found.items())
    values = [np.frombuffer(weight.data, "<f4") for weight in found.values()]
    vector = np.concatenate(values).astype(np.float32)
    if vector.nbytes > LEARNING_MODEL_MAX_BYTES:
        raise ConfigError(
            f"{vector.nbytes} bytes of weights are over the limit of {LEARNING_MODEL_MAX_BYTES}:"
            ' learn fewer by trainable = ["..."] in [learning]'
        )
    return parameters, vector


def write_model(base: Path, parameters: tuple[Parameter, ...], weights: Vector) -> bytes:
    """The ``.wmodel`` file with learnt weights."""
    from walle_engine.train.trainer import with_weights  # see above

    values, at = dict[str, bytes](), 0
    for each in parameters:
        size = math.prod(each.shape)
        values[each.name] = to_bytes(weights[at : at + size])
        at += size
    return with_weights(base, values)


def read_holdout(data: bytes) -> dict[str, Any]:
    """Held-out data: an ``.npz`` with the model's inputs by name, and ``target``.

    Raises:
        ConfigError: it is none, too large, or its arrays differ in length.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            total = sum(member.file_size for member in archive.infolist())
        if total > LEARNING_HOLDOUT_MAX_BYTES:
            raise ConfigError(
                f"the held-out data has {total} bytes, over the limit of {LEARNING_HOLDOUT_MAX_BYTES}"
            )
        with np.load(io.BytesIO(data), allow_pickle=False) as loaded:
            arrays = {name: loaded[name] for name in loaded.files}
    except (zipfile.BadZipFile, ValueError, OSError, KeyError, EOFError) as error:
        raise ConfigError(f"the held-out data is no .npz file of numbers: {error}") from None
    if _TARGET not in arrays or len(arrays) < 2:
        raise ConfigError(f"the held-out data needs the model's inputs by name, and {_TARGET!r}")
    if any(not array.ndim for array in arrays.values()):
        raise ConfigError("the arrays of the held-out data need an item per row")
    if len({len(array) for array in arrays.values()}) != 1 or not len(arrays[_TARGET]):
        raise ConfigError("the arrays of the held-out data must have equally many rows, and some")
    return arrays


def score(model: bytes, holdout: Mapping[str, Any], loss: Loss) -> Score:
    """Run a model on held-out data.

    Raises:
        EngineError: it does not take these inputs.
        ConfigError: what it answers does not fit the targets.
    """
    from walle_engine import api  # see above

    session = api.load_bytes(model).session()
    target = np.asarray(holdout[_TARGET])
    answers = []
    for at in range(0, len(target), _SLICE):
        inputs = {name: array[at : at + _SLICE] for name, array in holdout.items() if name != _TARGET}
        answers.append(np.asarray(next(iter(session.run(inputs).values())), np.float64))
    answer = np.concatenate(answers)
    try:
        return _SCORES[loss](answer, target)
    except (IndexError, ValueError, TypeError) as error:
        raise ConfigError(f"the model's answer {answer.shape} does not fit the targets: {error}") from None


def check_holdout(model: bytes, holdout: Mapping[str, Any], loss: Loss) -> Score:
    """Score the model that a plan starts from, so that data which does not fit is refused there and then.

    Raises:
        ConfigError: it does not fit.
    """
    try:
        return score(model, holdout, loss)
    except EngineError as error:
        raise ConfigError(f"the held-out data does not fit the model: {error.message}") from None


def _classes(answer: Any, target: Any) -> Score:
    """Scores ``[N, classes]`` before any softmax, against numbers ``[N]``."""
    labels = target.astype(np.int64)
    shifted = answer - answer.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    loss = -np.take_along_axis(logs, labels[:, None], axis=1).mean()
    return Score(float(loss), float((answer.argmax(axis=1) == labels).mean()))


def _yes_or_no(answer: Any, target: Any) -> Score:
    wanted = target.reshape(answer.shape)
    loss = np.logaddexp(0.0, answer) - answer * wanted
    return Score(float(loss.mean()), float(((answer > 0) == (wanted > 0.5)).mean()))


def _numbers(answer: Any, target: Any) -> Score:
    return Score(float(((answer - target.reshape(answer.shape)) ** 2).mean()), None)


_SCORES = {"cross_entropy": _classes, "binary_cross_entropy": _yes_or_no, "mean_squared_error": _numbers}
