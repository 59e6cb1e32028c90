"""Operators that replace elements by a table: all become ``LabelEncoder`` with its table in one form.

Keys and values are ``*_strings`` or ``*_tensor``, the fallback ``default_string`` or ``default_tensor``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, numpy_helper

from walle_engine.convert.ml.making import Making

_LISTS = {"strings": object, "int64s": np.int64, "floats": np.float32}
UNUSED = "_Unused"


def label_encoder(making: Making) -> None:
    """Keys to values; the first version of it has one list of texts, whose places are the other side."""
    classes = making.attribute("classes_strings")
    if classes is not None:
        _between(making, classes, list(range(len(classes))))
        return
    values = _table(making, "values")
    _encode(making, _table(making, "keys"), values, _fallback(making, values))


def category_mapper(making: Making) -> None:
    """Texts to integers or back, whichever the input is not."""
    _between(making, making.attribute("cats_strings", []), making.attribute("cats_int64s", []))


def _between(making: Making, texts: list[str], numbers: list[int]) -> None:
    if len(texts) != len(numbers):
        raise making.wrong("as many texts as numbers are required")
    names, places = np.array(texts, object), np.array(numbers, np.int64)
    if making.element_type() == TensorProto.STRING:
        _encode(making, names, places, np.array(making.attribute("default_int64", -1), np.int64))
    else:
        _encode(making, places, names, np.array(making.attribute("default_string", UNUSED), object))


def _table(making: Making, side: str) -> Any:
    tensor = making.attribute(f"{side}_tensor")
    given = [(making.attribute(f"{side}_{kind}"), dtype) for kind, dtype in _LISTS.items()]
    lists = [np.array(value, dtype) for value, dtype in given if value is not None]
    if tensor is not None:
        array = numpy_helper.to_array(tensor).reshape(-1)
        lists.append(_texts(array) if array.dtype.kind in "OSU" else array)
    if len(lists) != 1:
        raise making.wrong(f"exactly one of the attributes '{side}_*' is required")
    return lists[0]


def _fallback(making: Making, values: Any) -> Any:
    tensor = making.attribute("default_tensor")
    if tensor is not None:
        array = numpy_helper.to_array(tensor).reshape(-1)
        if array.size != 1:
            raise making.wrong("'default_tensor' must hold one element")
        return _texts(array)[0] if array.dtype.kind in "OSU" else array[0]
    if values.dtype.kind == "O":
        return making.attribute("default_string", UNUSED)
    name, fallback = ("default_float", -0.0) if values.dtype.kind == "f" else ("default_int64", -1)
    return np.array(making.attribute(name, fallback), values.dtype)


def _texts(array: Any) -> Any:
    return np.array([i.decode("utf-8", "replace") if isinstance(i, bytes) else i for i in array], object)


def _encode(making: Making, keys: Any, values: Any, fallback: Any) -> None:
    if len(keys) != len(values):
        raise making.wrong(f"it has {len(keys)} keys for {len(values)} values")
    attributes: dict[str, Any] = {}
    for side, array in (("keys", keys), ("values", values)):
        if array.dtype.kind == "O":
            attributes[f"{side}_strings"] = list(array)
        else:
            attributes[f"{side}_tensor"] = numpy_helper.from_array(array)
    if values.dtype.kind == "O":
        attributes["default_string"] = str(fallback)
    else:
        attributes["default_tensor"] = numpy_helper.from_array(np.array(fallback, values.dtype))
    making.finish(making.emit("LabelEncoder", making.node.input[0], domain="ai.onnx.ml", **attributes))
