"""Preprocessing: operators that prepare features."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from walle_engine.convert.ml.making import Making


def array_feature_extractor(making: Making) -> None:
    """Entries of the last axis, by number."""
    numbers = making.emit("Reshape", making.node.input[1], making.constant([-1], np.int64))
    making.finish(making.emit("Gather", making.rows(), numbers, axis=-1))


def binarizer(making: Making) -> None:
    """1 above the threshold, else 0."""
    element = making.element_type()
    bound = making.constant(making.attribute("threshold", 0.0), helper.tensor_dtype_to_np_dtype(element))
    above = making.emit("Greater", making.node.input[0], bound)
    making.finish(making.emit("Cast", above, to=element))


def feature_vectorizer(making: Making) -> None:
    """Columns of all inputs beside each other."""
    widths = making.attribute("inputdimensions", [])
    if len(widths) != len(making.node.input):
        raise making.wrong("'inputdimensions' must have one entry per input")
    parts = [
        _columns(making, index, name, width)
        for index, (name, width) in enumerate(zip(making.node.input, widths, strict=True))
    ]
    making.finish(making.emit("Concat", *parts, axis=1))


def _columns(making: Making, index: int, name: str, width: int) -> str:
    """The first columns of an input, with zeros for those it lacks."""
    part = making.floats(name, making.element_type(index))
    if making.rank(index) == 1:
        part = making.emit("Reshape", part, making.constant([1, -1], np.int64))
    wide = making.emit("Pad", part, making.constant([0, 0, 0, width], np.int64))
    bounds = (making.constant([value], np.int64) for value in (0, width, 1))
    return making.emit("Slice", wide, *bounds)


def imputer(making: Making) -> None:
    """Other values in place of one that stands for "missing"; NaN stands for every NaN."""
    x = making.node.input[0]
    whole = making.element_type() in (TensorProto.INT64, TensorProto.INT32)
    kind = helper.tensor_dtype_to_np_dtype(making.element_type())
    values = making.attribute("imputed_value_int64s" if whole else "imputed_value_floats", [])
    if not values:
        raise making.wrong("it has no values of the input's type to put in")
    replaced = making.attribute("replaced_value_int64" if whole else "replaced_value_float", 0)
    if not whole and np.isnan(replaced):
        missing = making.emit("IsNaN", x)
    else:
        missing = making.emit("Equal", x, making.constant(replaced, kind))
    making.finish(making.emit("Where", missing, making.constant(values, kind), x))


def normalizer(making: Making) -> None:
    """Rows divided by their largest entry, or their L1 or L2 norm; rows of zeros stay."""
    norm = making.attribute("norm", "MAX")
    reduction = {"MAX": "ReduceMax", "L1": "ReduceL1", "L2": "ReduceL2"}.get(norm)
    if reduction is None:
        raise making.wrong(f"the norm {norm!r} is unknown")
    x = making.floats(making.node.input[0], making.element_type())
    size = making.emit(reduction, x, making.constant([-1], np.int64))
    is_zero = making.emit("Equal", size, making.constant(0, np.float32))
    making.finish(making.emit("Div", x, making.emit("Where", is_zero, making.constant(1, np.float32), size)))


def one_hot_encoder(making: Making) -> None:
    """A row of zeros with a one where the category is. An unknown category is an error if ``zeros`` is 0."""
    texts = making.attribute("cats_strings", [])
    categories = (
        making.constant(texts, object) if texts else making.constant(making.array("cats_int64s", np.int64))
    )
    x = making.node.input[0]
    if not texts and making.element_type() != TensorProto.INT64:
        x = making.emit("Cast", x, to=TensorProto.INT64)
    spread = making.emit("Unsqueeze", x, making.constant([-1], np.int64))
    found = making.emit("Equal", spread, categories)
    if making.attribute("zeros", 1):
        making.finish(making.emit("Cast", found, to=TensorProto.FLOAT))
        return
    count = len(texts or making.array("cats_int64s", np.int64))
    backwards = making.constant(np.arange(count, 0, -1, dtype=np.int64))
    hits = making.emit("Mul", making.emit("Cast", found, to=TensorProto.INT64), backwards)
    # Nothing found leaves `count`, a place outside the table, which Gather refuses.
    farthest = making.emit("ReduceMax", hits, making.constant([-1], np.int64), keepdims=0)
    place = making.emit("Sub", making.constant(count, np.int64), farthest)
    making.finish(making.emit("Gather", making.constant(np.eye(count, dtype=np.float32)), place))


def scaler(making: Making) -> None:
    """(x - offset) * scale, per column or overall."""
    x = making.floats(making.node.input[0], making.element_type())
    offset, scale = making.array("offset"), making.array("scale")
    if len(offset) != len(scale) or len(scale) == 0:
        raise making.wrong("'offset' and 'scale' must have one length")
    making.finish(making.emit("Mul", making.emit("Sub", x, making.constant(offset)), making.constant(scale)))
