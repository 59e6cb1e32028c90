"""What training makes small: one number of a model's output and a target, an input of each batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from walle_engine import wmodel
from walle_engine.train.sheet import Sheet
from walle_shared.errors import ModelError


class Loss(Protocol):
    """A loss: inputs that it adds to the model's, and nodes from an output to one number."""

    @property
    def output(self) -> str:
        """The output that is looked at; ``""``: the model's first."""
        ...

    def inputs(self, output: wmodel.Value) -> tuple[wmodel.Value, ...]:
        """What a batch brings besides the model's inputs."""
        ...

    def nodes(self, sheet: Sheet, output: str) -> str:
        """Add nodes; return the value that is the loss."""
        ...


@dataclass(frozen=True)
class _OfTarget:
    """A loss of one output and a target of the same shape."""

    output: str = ""
    target: str = "target"

    def inputs(self, output: wmodel.Value) -> tuple[wmodel.Value, ...]:
        """Return what a batch brings besides the model\'s inputs."""
        return (wmodel.Value(self.target, output.dtype, output.shape),)


@dataclass(frozen=True)
class MeanSquaredError(_OfTarget):
    """The mean of ``(output - target)**2``."""

    def nodes(self, sheet: Sheet, output: str) -> str:
        """Add nodes; return the value that is the loss."""
        difference = sheet("Sub", output, self.target)
        return sheet("ReduceMean", sheet("Mul", difference, difference), keepdims=0)


@dataclass(frozen=True)
class BinaryCrossEntropy(_OfTarget):
    """The mean of ``-target * log p - (1 - target) * log(1 - p)`` with ``p = sigmoid(output)``."""

    def nodes(self, sheet: Sheet, output: str) -> str:
        """Add nodes; return the value that is the loss."""
        # -t log p - (1 - t) log(1 - p) = softplus(x) - t x, which cannot overflow
        loss = sheet("Sub", sheet("Softplus", output), sheet("Mul", self.target, output))
        return sheet("ReduceMean", loss, keepdims=0)


@dataclass(frozen=True)
class CrossEntropy(_OfTarget):
    """The mean of ``-log softmax(output)[target]``; ``[N, C, ...]`` against class numbers ``[N, ...]``."""

    def inputs(self, output: wmodel.Value) -> tuple[wmodel.Value, ...]:
        """Return what a batch brings besides the model\'s inputs."""
        shape = output.shape
        if shape is not None and len(shape) < 2:
            raise ModelError(
                f"output {output.name!r} has shape {list(shape)}: a cross entropy needs [N, classes, ...]"
            )
        return (wmodel.Value(self.target, "I64", None if shape is None else (*shape[:1], *shape[2:])),)

    def nodes(self, sheet: Sheet, output: str) -> str:
        """Add nodes; return the value that is the loss."""
        return sheet("SoftmaxCrossEntropyLoss", output, self.target, reduction="mean")


@dataclass(frozen=True)
class OwnLoss:
    """An output of the model that is the loss already."""

    output: str = ""

    def inputs(self, output: wmodel.Value) -> tuple[wmodel.Value, ...]:
        """Return what a batch brings besides the model\'s inputs."""
        del output
        return ()

    def nodes(self, sheet: Sheet, output: str) -> str:
        """Add nodes; return the value that is the loss."""
        del sheet
        return output
