"""The loop's inside: one call per batch."""

from __future__ import annotations

import struct
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from walle_engine import wmodel
from walle_engine.train import program
from walle_engine.train.codes import Codes, Range, moved
from walle_engine.train.losses import Loss
from walle_engine.train.optimizers import Optimizer
from walle_engine.train.schedules import Schedule, constant
from walle_engine.train.sheet import FORMATS, PREFIX, positive
from walle_shared.errors import ModelError

if TYPE_CHECKING:
    from walle_engine import api

_RANGE = f"{PREFIX}range/"
_RANGE_FORM = struct.Struct("<2d")

type Loader = Callable[[bytes], Any]
"""Makes a model of what a file holds, with ``session(threads=, precision=)``."""


class Trainer:
    """A model under training.

    Args:
        source: a ``.wmodel`` file, or an ``.onnx`` file (which takes the ``convert`` extra).
        loss: what is to become small.
        optimizer: how parameters move.
        trainable: names of weights, or patterns like ``"layer4.*"``. Omitted: all that stand where operators
            have what is learnt (filters, matrices, biases, embeddings, scales of normalisation).
        schedule: factor of the optimiser's rate, from the number of steps done.
        clip_norm: shorten the gradients together where they are longer than this.
        clip_value: limit each number of the gradients to this.
        batch_statistics: let batch normalisation go by the batch and keep running statistics; without, by
            those that the model has.
        dropout: let ``Dropout`` drop with its ratio; without, it keeps all.
        seed: of what is dropped, in each step something else. The same seed drops the same.
        codes: round weights and values as a quantised model will, and keep watch of ranges, see
            :class:`walle_engine.compress.FineTuning`.
        threads: of the session.
        precision: of products, see :meth:`walle_engine.api.Model.session`.
        search: how it is chosen what runs each node, see there.
        load: makes models, instead of :func:`walle_engine.api.load_bytes`, which isolated interpreters do not
            have; ``search`` is then the model's own affair.

    Attributes:
        count: how many steps there were.
        trained: names of the parameters.
        ranges: smallest and largest number of each range of ``codes``, as they are now.

    Raises:
        ModelError: the model has no such output or weight, or holds something between a parameter and the
            loss that has no gradient; this one names operator and node, with the first step.
        StorageError: the file cannot be read.
    """

    def __init__(
        self,
        source: str | PathLike[str],
        loss: Loss,
        optimizer: Optimizer,
        *,
        trainable: Sequence[str] | None = None,
        schedule: Schedule = constant,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        batch_statistics: bool = True,
        dropout: bool = True,
        seed: int = 0,
        codes: Codes | None = None,
        threads: int = 1,
        precision: api.Precision = "high",
        search: api.Search = "model",
        load: Loader | None = None,
    ) -> None:
        for name, limit in (("clip_norm", clip_norm), ("clip_value", clip_value)):
            if limit is not None:
                positive(name, limit)
        self._graph, self._weights = _read(Path(source))
        self._optimizer, self._schedule, self._codes = optimizer, schedule, codes
        kept = {name: weight for name, weight in self._weights.items() if not name.startswith(PREFIX)}
        self.trained = program.choose(self._graph, kept, trainable)
        self._program = program.build(
            self._graph, kept, loss, optimizer, self.trained,
            clip_norm=clip_norm, clip_value=clip_value, batch_statistics=batch_statistics,
            dropout=dropout, seed=seed, codes=codes,
        )  # fmt: skip
        self._dtype = kept[self.trained[0]].dtype
        changed = self._program.changes
        self._values: dict[str, Any] = {
            name: _buffer(self._weights[name] if name in self._weights else self._zeros(name, kept))
            for name in changed
        }
        self.ranges: dict[str, Range] = {
            of: _kept_range(self._weights.get(f"{_RANGE}{of}"), range_)
            for of, range_ in (codes.ranges if codes else {}).items()
        }
        count = self._weights.get(program.COUNT)
        self.count = int.from_bytes(count.data, "little") if count else 0
        self._weights = {name: weight for name, weight in kept.items() if name not in changed}
        data = wmodel.to_bytes(self._program.graph, {**self._weights, **self._program.constants})
        self._load = load or _load_bytes
        options: dict[str, Any] = {} if load else {"search": search}
        self._session = self._load(data).session(threads=threads, precision=precision, **options)

    def _zeros(self, state: str, weights: Mapping[str, wmodel.Weight]) -> wmodel.Weight:
        like = weights[self._program.states[state]]
        return wmodel.Weight(like.dtype, like.shape, bytes(memoryview(like.data).nbytes))

    def step(self, batch: Mapping[str, object]) -> float:
        """Train on one batch.

        Args:
            batch: the model's inputs, and what the loss adds to them (``target``).

        Returns:
            The loss before the step.

        Raises:
            EngineError: an input is missing, unknown, or of the wrong type or shape.
            ModelError: there is no gradient; names operator and node.

        Blocks: for the time of the step, with the GIL released.
        """
        numbers = self._optimizer.numbers(self.count + 1, self._optimizer.rate * self._schedule(self.count))
        fed = {self._program.numbers[name]: _number(value, self._dtype) for name, value in numbers.items()}
        fed |= self._range_numbers()
        count = memoryview(self.count.to_bytes(8, sys.byteorder)).cast("q", ())
        results = self._session.run({**batch, **self._values, **fed, program.COUNT: count})
        self._values = {name: results[fresh] for name, fresh in self._program.changes.items()}
        self._watch(results)
        self.count += 1
        return float(results[program.LOSS].tolist())

    def _range_numbers(self) -> dict[str, memoryview[float]]:
        if self._codes is None:
            return {}
        return {
            name: _number(value, self._dtype)
            for of, scalars in self._program.ranges.items()
            for name, value in scalars.numbers(self.ranges[of], self._codes.bits).items()
        }

    def _watch(self, results: Mapping[str, Any]) -> None:
        """Let ranges follow what the batch had."""
        if self._codes is None:
            return
        for of, scalars in self._program.ranges.items():
            least, most = (
                [float(results[name].tolist()) for name in names] for names in (scalars.least, scalars.most)
            )
            self.ranges[of] = moved(self.ranges[of], least, most, self._codes.momentum)

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters as they are now, by name: buffers that NumPy reads without a copy."""
        return {name: self._values[name] for name in self.trained}

    @property
    def statistics(self) -> dict[str, Any]:
        """Running statistics of batch normalisation as they are now, by name."""
        kept = {*self.trained, *self._program.states}
        return {name: value for name, value in self._values.items() if name not in kept}

    def model(self) -> api.Model:
        """Return the model as it is now, to be run; where ``load`` was given, what that makes."""
        model: api.Model = self._load(wmodel.to_bytes(self._graph, self._stored()))
        return model

    @property
    def changed_bytes(self) -> int:
        """How many :meth:`checkpoint` has in all."""
        values = sum(memoryview(value).nbytes for value in self._values.values())
        return values + len(self.ranges) * _RANGE_FORM.size

    def checkpoint(self) -> dict[str, bytes]:
        """Return all that steps change, by name: parameters, running statistics, what the optimiser keeps."""
        return {name: bytes(self._weight(name).data) for name in self._values} | self._range_data()

    def restore(self, checkpoint: Mapping[str, bytes], count: int) -> None:
        """Go on from a checkpoint that a trainer like this one made after ``count`` steps.

        Raises:
            ModelError: it is of another model, other parameters or another optimiser.
        """
        sizes = {name: memoryview(value).nbytes for name, value in self._values.items()}
        sizes |= {f"{_RANGE}{of}": _RANGE_FORM.size for of in self.ranges}
        if sizes != {name: len(data) for name, data in checkpoint.items()}:
            raise ModelError("the checkpoint is of another model, other parameters or another optimizer")
        self._values = {
            name: _buffer(wmodel.Weight(self._dtype, memoryview(value).shape or (), checkpoint[name]))
            for name, value in self._values.items()
        }
        for of in self.ranges:
            low, high = _RANGE_FORM.unpack(checkpoint[f"{_RANGE}{of}"])
            self.ranges[of] = low, high
        self.count = count

    def _range_data(self) -> dict[str, bytes]:
        return {f"{_RANGE}{of}": _RANGE_FORM.pack(*range_) for of, range_ in self.ranges.items()}

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model as it is now, with all that training needs to go on from here.

        A ``Trainer`` of that file with the same optimiser and parameters continues: counted steps and what
        the optimiser keeps are weights of the file that no operator reads.

        Raises:
            StorageError: the file cannot be written.
        """
        count = wmodel.Weight("I64", (), self.count.to_bytes(8, "little"))
        states = {name: self._weight(name) for name in self._program.states}
        ranges = {name: wmodel.Weight("F64", (2,), data) for name, data in self._range_data().items()}
        wmodel.write(Path(path), self._graph, {**self._stored(), **states, **ranges, program.COUNT: count})

    def _stored(self) -> dict[str, wmodel.Weight]:
        changed = {name: self._weight(name) for name in self._values if name not in self._program.states}
        return {**self._weights, **changed}

    def _weight(self, name: str) -> wmodel.Weight:
        view = memoryview(self._values[name])
        shape = view.shape or ()
        return wmodel.Weight(self._dtype, shape, view.cast("B") if view.nbytes else b"")


def _kept_range(kept: wmodel.Weight | None, first: Range) -> Range:
    if kept is None or memoryview(kept.data).nbytes != _RANGE_FORM.size:
        return first
    low, high = _RANGE_FORM.unpack(kept.data)
    return low, high


def _load_bytes(data: bytes) -> api.Model:
    from walle_engine import api  # only here: isolated interpreters do not have it

    return api.load_bytes(data)


def with_weights(source: Path, values: Mapping[str, bytes]) -> bytes:
    """Return a ``.wmodel`` file with other values of some weights; names that it does not have are left out.

    Raises:
        ModelError: a value has another size than the weight.
    """
    graph, weights = _read_model(source)
    for name in values.keys() & weights.keys():
        weight = weights[name]
        if len(values[name]) != memoryview(weight.data).nbytes:
            raise ModelError(f"weight {name!r} has another size in the checkpoint")
        weights[name] = wmodel.Weight(weight.dtype, weight.shape, values[name])
    return wmodel.to_bytes(graph, weights)


def parameters_of(source: Path, trainable: Sequence[str] | None) -> dict[str, wmodel.Weight]:
    """Return the weights of a file that a :class:`Trainer` with this ``trainable`` would train, in order.

    Raises:
        ModelError: it has no such weight.
        StorageError: the file cannot be read.
    """
    graph, weights = _read_model(source)
    kept = {name: weight for name, weight in weights.items() if not name.startswith(PREFIX)}
    return {name: kept[name] for name in program.choose(graph, kept, trainable)}


def _read(source: Path) -> tuple[wmodel.Graph, dict[str, wmodel.Weight]]:
    """Graph and weights of a model file; an ONNX file's as its author wrote it."""
    if source.suffix != ".onnx":
        return _read_model(source)
    from walle_engine.convert import convert

    with tempfile.TemporaryDirectory(prefix="walle-") as folder:
        converted = Path(folder) / "model.wmodel"
        convert(source, converted, check=False, optimise=False)
        return _read_model(converted)


def _read_model(path: Path) -> tuple[wmodel.Graph, dict[str, wmodel.Weight]]:
    model = wmodel.read(path)
    data = memoryview(path.read_bytes())
    weights = {
        name: wmodel.Weight(info.dtype, info.shape, data[info.offset : info.offset + info.size_bytes])
        for name, info in model.weights.items()
    }
    return model.graph, weights


def _buffer(weight: wmodel.Weight) -> memoryview[float]:
    view = memoryview(weight.data).cast("B")
    if not view.nbytes:
        raise ModelError("a parameter without elements cannot be trained")
    return view.cast(FORMATS[weight.dtype], weight.shape)


def _number(value: float, dtype: str) -> memoryview[float]:
    code = FORMATS[dtype]
    return memoryview(struct.pack(f"<{code}", value)).cast(code, ())
