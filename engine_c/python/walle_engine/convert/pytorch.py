"""A PyTorch module by way of ``torch.onnx``; PyTorch is imported only when asked for."""

from __future__ import annotations

import importlib
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from walle_shared.errors import ConfigError, UnsupportedError

TWO_STEPS = (
    "or export it where you have PyTorch, torch.onnx.export(module, inputs, 'model.onnx', dynamo=True), and "
    "run 'walle-engine convert model.onnx'"
)


def export(
    module: Any,
    example_inputs: Sequence[Any] | Mapping[str, Any],
    path: Path,
    dynamic: Mapping[str, Mapping[int, str]] | None,
) -> None:
    """Write a module as an ONNX file; arguments and errors are those of ``from_torch``."""
    torch = _torch()
    by_name = isinstance(example_inputs, Mapping)
    with _evaluating(module):
        try:
            torch.onnx.export(
                module,
                () if by_name else tuple(example_inputs),
                str(path),
                kwargs=dict(example_inputs) if by_name else None,
                dynamo=True,
                dynamic_shapes=None if dynamic is None else {n: dict(axes) for n, axes in dynamic.items()},
                verbose=False,
            )
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"PyTorch's exporter needs {error.name}: pip install {error.name}, {TWO_STEPS}"
            ) from error
        except Exception as error:  # whatever a module raises when it is traced
            first = str(error).strip().partition("\n")[0]
            raise UnsupportedError(
                f"PyTorch cannot export the module ({type(error).__name__}: {first})"
            ) from error


def _torch() -> Any:
    try:
        return importlib.import_module("torch")
    except ModuleNotFoundError as error:
        raise ConfigError(f"PyTorch is not installed: pip install torch onnxscript, {TWO_STEPS}") from error


@contextmanager
def _evaluating(module: Any) -> Generator[None]:
    """Hold a module in evaluation mode; dropout and batch normalisation do something else in training."""
    modes = {part: part.training for part in module.modules()} if hasattr(module, "modules") else {}
    if modes:
        module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training
