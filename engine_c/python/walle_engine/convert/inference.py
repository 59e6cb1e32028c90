"""Shape inference by onnx, kept away from the models that make it run wild."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx.shape_inference

from walle_engine.convert.scopes import Scope, graphs

# To follow whole numbers, onnx makes an object of every element of every vector that may be a shape: some 100
# bytes each, whatever the file's size. No shape is this long; a second of sound is.
FOLLOWED_MAX_ELEMENTS = 1 << 16


def infer(model: onnx.ModelProto, *, strict: bool = False) -> onnx.ModelProto:
    """Return the model with the types and shapes of its values.

    Args:
        model: left as it is.
        strict: refuse contradictions, where otherwise what contradicts stays unknown.

    Raises:
        InferenceError: if ``strict`` and the shapes or types contradict each other.
    """
    plain = onnx.shape_inference.infer_shapes(model, check_type=strict, strict_mode=strict)
    if not _may_follow(plain):
        return plain
    # Never strict: whole numbers may wrap, which onnx calls a contradiction when it follows them.
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def forget_negative_sizes(model: onnx.ModelProto) -> None:
    """Make every declared size below zero an unknown one, in place.

    Some exporters write -1 for a size they do not know. onnx 1.23 takes it for a length, and an assertion of
    its C++ then ends the process.
    """
    for graph in graphs(model.graph):
        for info in (*graph.input, *graph.output, *graph.value_info):
            for shape in _shapes(info.type):
                for dim in shape.dim:
                    if dim.dim_value < 0:
                        dim.Clear()


def _shapes(kind: onnx.TypeProto) -> Iterator[onnx.TensorShapeProto]:
    """Yield the shapes a type declares, those of the elements of sequences and optionals included."""
    match kind.WhichOneof("value"):
        case "tensor_type":
            yield kind.tensor_type.shape
        case "sparse_tensor_type":
            yield kind.sparse_tensor_type.shape
        case "sequence_type":
            yield from _shapes(kind.sequence_type.elem_type)
        case "optional_type":
            yield from _shapes(kind.optional_type.elem_type)
        case "map_type":
            yield from _shapes(kind.map_type.value_type)
        case _:  # opaque, or not stated
            pass


def _may_follow(model: onnx.ModelProto) -> bool:
    """Whether no vector, nor what it may be sized by, is too long to follow element by element."""
    scope = Scope.of(model)
    shapes = (scope.dims(name) or () for name in scope.types if scope.types[name].HasField("tensor_type"))
    return all(
        (dim or 0) <= (FOLLOWED_MAX_ELEMENTS if len(dims) < 2 else 1 << 31) for dims in shapes for dim in dims
    )
