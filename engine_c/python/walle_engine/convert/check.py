"""Does the converted model compute what the original does? Ask ONNX Runtime and compare.

Inputs are random with a fixed seed. Symbolic dims take the size the caller states, else 1 in the first sample
and 3 in the second, so that a batch frozen by mistake shows. Floating outputs may differ by ``Tolerance``;
integers and booleans must be equal. Where outputs differ, both graphs run again with every shared value as an
output, and the first that differs names the node to look at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx.version_converter

from walle_engine import wmodel
from walle_engine.convert.draft import Array, Draft
from walle_engine.samples import Sample, samples
from walle_shared.errors import ModelError

if TYPE_CHECKING:
    import onnxruntime


# Distance of 1.0 to the next number, for each floating type.
_ROUNDING_STEPS = {"F64": 2.0**-52, "F32": 2.0**-23, "F16": 2.0**-10, "BF16": 2.0**-7}
HALF_WIDTH_STEPS = 4

# The author's file, or the same model at a newer opset where ONNX Runtime is too young for the file.
type Original = Path | onnx.ModelProto


@dataclass(frozen=True)
class Tolerance:
    """Largest allowed difference: ``absolute + relative * max |expected|`` over each tensor.

    Types of half width are allowed ``HALF_WIDTH_STEPS`` rounding steps of the largest value instead.

    Source: some tens of float32 layers summed in another order stay within 1e-5 of the largest value; ten
    times that separates rounding from a wrong result.
    """

    absolute: float = 1e-5
    relative: float = 1e-4

    def allows(self, expected: Array, actual: Array) -> bool:
        """Whether ``actual`` may stand for ``expected``."""
        if expected.shape != actual.shape:
            return False
        dtype = wmodel.dtype_name(actual.dtype)
        if dtype not in _ROUNDING_STEPS:
            return bool(np.array_equal(expected, actual))
        relative = max(self.relative, HALF_WIDTH_STEPS * _ROUNDING_STEPS[dtype])
        a, b = expected.astype(np.float64), actual.astype(np.float64)
        finite = np.isfinite(a)
        if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
            return False
        largest = float(np.abs(a[finite]).max(initial=0.0))
        return bool(np.all(np.abs(a[finite] - b[finite]) <= self.absolute + relative * largest))


@dataclass(frozen=True)
class CheckResult:
    """What was compared: number of samples and the largest absolute difference of a floating output."""

    samples: int
    max_abs_error: float
    tolerance: Tolerance


_OPSET_OF_OLD_MODELS = 21


def newer(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model too old for ONNX Runtime at an opset it runs.

    Raises:
        ModelError: if ONNX's version converter cannot do that.
    """
    try:
        return onnx.version_converter.convert_version(model, _OPSET_OF_OLD_MODELS)
    # The version converter is C++ and raises whatever its assertions become; all mean the same to the author.
    except RuntimeError as error:
        raise ModelError(
            f"the model is too old for ONNX Runtime: convert it without the check ({_one_line(error)})"
        ) from error


def check(
    original: Original,
    draft: Draft,
    scratch: Path,
    *,
    tolerance: Tolerance,
    sizes: Mapping[str, int],
    seed: int,
) -> CheckResult:
    """Compare the model already written to ``scratch`` with its original.

    Args:
        original: what to compare with.
        draft: what ``scratch`` was written from.
        scratch: the file; spoilt where results differ, since the graph with every value exposed goes there.
        tolerance: how far floating results may differ.
        sizes: sizes of symbolic dims by name.
        seed: of the random inputs.

    Raises:
        ModelError: naming the first node whose output differs.
    """
    reference = _reference_session(original)
    names = [value.name for value in draft.outputs]
    worst = 0.0
    count = 0
    for sample in samples(draft.inputs, sizes, seed):
        expected = _run_reference(reference, names, sample)
        actual = run_engine(scratch, sample)
        for name in names:
            if not tolerance.allows(expected[name], actual[name]):
                _raise_difference(original, draft, scratch, sample, tolerance, name)
            worst = max(worst, _largest_difference(expected[name], actual[name]))
        count += 1
    return CheckResult(count, worst, tolerance)


def run_engine(path: Path, sample: Sample) -> dict[str, Array]:
    """Run a model file on our engine."""
    from walle_engine import api

    outputs = api.load(path).session().run(sample)
    # The view gives back their type to elements that have no buffer format of their own (BF16).
    return {name: np.asarray(value).view(wmodel.numpy_dtype(value.dtype)) for name, value in outputs.items()}


def _largest_difference(expected: Array, actual: Array) -> float:
    a, b = expected.astype(np.float64), actual.astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    return float(np.abs(a[finite] - b[finite]).max(initial=0.0))


def _reference_session(original: Original) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    # As written, so that what is compared is the author's graph and every intermediate value still exists.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = str(original) if isinstance(original, Path) else original.SerializeToString()
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
        raise ModelError(f"ONNX Runtime cannot load the original: {_one_line(error)}") from error


def _run_reference(
    session: onnxruntime.InferenceSession, names: Sequence[str], sample: Sample
) -> dict[str, Array]:
    try:
        results = session.run(list(names), dict(sample))
    except Exception as error:  # as above
        raise ModelError(
            f"ONNX Runtime cannot run the original on random inputs: {_one_line(error)}. State sizes "
            "that fit with sizes= (--dim NAME=SIZE), or convert without the check"
        ) from error
    return dict(zip(names, (np.asarray(result) for result in results), strict=True))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _raise_difference(
    original: Original, draft: Draft, scratch: Path, sample: Sample, tolerance: Tolerance, output: str
) -> None:
    """Find the first node whose result differs, and raise."""
    node = _first_difference(original, draft, scratch, sample, tolerance)
    if node is None:
        raise ModelError(
            f"output {output!r} differs from ONNX Runtime's, but no single node does", node=output
        )
    raise ModelError(
        f"output {output!r} differs from ONNX Runtime's; the first node to differ is {node.op} "
        f"{node.name!r}: nothing was written, please report this model",
        op=node.op,
        node=node.name,
    )


def _first_difference(
    original: Original, draft: Draft, scratch: Path, sample: Sample, tolerance: Tolerance
) -> wmodel.Node | None:
    model = onnx.load(original) if isinstance(original, Path) else original
    shared = _shared_values(model, draft)
    if not shared:
        return None
    listed = {info.name for info in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in shared if name not in listed)
    expected = _run_reference(_reference_session(model), list(shared), sample)
    exposed = draft.with_outputs([_value_like(draft, name, expected[name]) for name in shared])
    wmodel.write_in_place(scratch, exposed.to_graph(), exposed.weights_to_store())
    actual = run_engine(scratch, sample)
    return next(
        (node for name, node in shared.items() if not tolerance.allows(expected[name], actual[name])), None
    )


def _shared_values(model: onnx.ModelProto, draft: Draft) -> dict[str, wmodel.Node]:
    """Values that both graphs compute, in our order, with our node."""
    theirs = {name for node in model.graph.node for name in node.output}
    return {name: node for name, node in draft.producers().items() if name in theirs}


def _value_like(draft: Draft, name: str, result: Array) -> wmodel.Value:
    known = draft.values.get(name) or next((value for value in draft.outputs if value.name == name), None)
    return known or wmodel.Value(name, wmodel.dtype_name(result.dtype), result.shape)
