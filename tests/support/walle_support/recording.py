"""A pytest plugin that writes every run of a session as a case for ``run_cases``, which needs no Python.

``WALLE_RECORD=folder pytest -p walle_support.recording tests/conformance``. A case holds the model, the
inputs and what came out here; so that this is what the plain kernels compute, record under
``WALLE_ENGINE_ISA=ref``.

::

    "WCASE1\\n\\0" | text: precision | u64 + bytes: .wmodel | u32: inputs, then outputs, each:
    text: name | i32: place in we_dtype | i32: rank | i64 * rank: dims | bytes, row-major

A text is a u32 and that many bytes; all numbers are little-endian. What is no plain tensor (text, sequences,
control flow) and what is larger than a megabyte is left out.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from walle_engine import api, wmodel
from walle_engine.tensor import Tensor
from walle_shared.errors import ModelError

MAGIC = b"WCASE1\n\0"
CASE_MAX_BYTES = 1 << 20
_DTYPES = [line.split("(")[1].split(",")[0] for line in
           (Path(__file__).parents[3] / "engine_c/include/walle/dtype.inc").read_text().splitlines()
           if line.startswith("WE_DTYPE_ROW(")]  # fmt: skip
_RANDOM = ("Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
           "RandomUniformLike")  # fmt: skip
_PLAIN = {"F32", "F64", "I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64", "BOOL"}


class _Graph:
    """What a builder was told."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.inputs: list[wmodel.Value] = []
        self.nodes: list[wmodel.Node] = []
        self.weights: dict[str, wmodel.Weight] = {}
        self.complete = True

    def to_bytes(self, outputs: Sequence[api.ValueInfo]) -> bytes:
        values = tuple(wmodel.Value(value.name, value.dtype, None) for value in outputs)
        graph = wmodel.Graph(self.name, tuple(self.inputs), values, tuple(self.nodes))
        return wmodel.to_bytes(graph, self.weights)


def _wrap(owner: Any, name: str, after: Callable[..., None]) -> None:
    """Call ``after(result, *arguments)`` behind a method or function."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        after(result, *args, **kwargs)
        return result

    setattr(owner, name, wrapped)


def _attribute(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("@"):
        return {"tensor": value[1:]}
    if isinstance(value, api.GraphBuilder):
        raise _LeftOut
    return value


class _LeftOut(Exception):
    """A case that this file format has no words for."""


def _made(_result: None, builder: Any, name: str = "") -> None:
    builder._recorded = _Graph(name)


def _input(
    _result: None, builder: Any, name: str, dtype: str = "", shape: Any = None, *, kind: str = "tensor"
) -> None:
    shape = None if shape is None else tuple(shape)
    builder._recorded.inputs.append(wmodel.Value(name, dtype, shape, kind))


def _weight(_result: None, builder: Any, name: str, value: Any, dtype: str = "F32") -> None:
    if not isinstance(value, np.ndarray | np.generic):
        value = np.asarray(value, wmodel.numpy_dtype(dtype))
    builder._recorded.weights[name] = wmodel.weight_from_array(
        np.ascontiguousarray(value).reshape(value.shape)
    )


def _node(
    _result: None, builder: Any, op: str, inputs: Any, outputs: Any, *, name: str = "", **attrs: Any
) -> None:
    try:
        told = {key: _attribute(value) for key, value in attrs.items()}
    except _LeftOut:
        builder._recorded.complete = False
        return
    builder._recorded.nodes.append(wmodel.Node(op, name, tuple(inputs), tuple(outputs), told))


def _finished(model: api.Model, builder: Any) -> None:
    recorded = builder._recorded
    if recorded.complete:
        with contextlib.suppress(ModelError):  # an attribute that the file cannot hold
            model._recorded = recorded.to_bytes(model.outputs)  # type: ignore[attr-defined]


def _loaded(model: Any, path: Any) -> None:
    model._recorded = Path(os.fsdecode(path)).read_bytes()


def _loaded_bytes(model: Any, data: bytes) -> None:
    model._recorded = data


def _session(session: Any, _model: api.Model, **settings: Any) -> None:
    if not (session.is_module or settings.get("max_trips") or settings.get("memory_limit")):
        session._precision = settings.get("precision", "high")


def _ran(outputs: Mapping[str, Any], session: Any, inputs: Mapping[str, object]) -> None:
    model: bytes | None = getattr(session.model, "_recorded", None)
    precision: str | None = getattr(session, "_precision", None)
    if model is None or precision is None or len(model) > CASE_MAX_BYTES:
        return
    if _has(model, _RANDOM) or (precision != "highest" and _has(model, ("Conv",)) and _has(model, ("Clip",))):
        return  # by chance, or cut off: then what was allowed cannot be told from the outputs
    if all(_has(model, (name,)) for name in ("QuantizeLinear", "DequantizeLinear")):
        return  # a layer on bytes may be a quantum off its parts, and prices say which of them runs
    try:
        given = [_tensor(value.name, inputs[value.name], value.dtype) for value in session.model.inputs]
        came = [_tensor(name, value, "") for name, value in outputs.items()]
    except _LeftOut:
        return
    case = b"".join([MAGIC, _text(precision), struct.pack("<Q", len(model)), model,
                     struct.pack("<I", len(given)), *given, struct.pack("<I", len(came)), *came])  # fmt: skip
    if len(case) <= 2 * CASE_MAX_BYTES:
        name = hashlib.sha256(case).hexdigest()[:16]
        (Path(os.environ["WALLE_RECORD"]) / f"{name}.case").write_bytes(case)


def _text(text: str) -> bytes:
    return struct.pack("<I", len(text.encode())) + text.encode()


def _has(model: bytes, ops: tuple[str, ...]) -> bool:
    return any(f'\\"op\\":\\"{op}\\"'.encode() in model for op in ops)


def _tensor(name: str, value: Any, dtype: str) -> bytes:
    if (value.dtype if isinstance(value, Tensor) else dtype or "F32") not in _PLAIN:
        raise _LeftOut
    try:
        array = np.asarray(value, wmodel.numpy_dtype(dtype) if dtype else None)
    except TypeError:  # it speaks DLPack and nothing else
        raise _LeftOut from None
    found = wmodel.dtype_name(array.dtype) if array.dtype.kind in "fiub" else ""
    if found not in _PLAIN:
        raise _LeftOut
    head = struct.pack(f"<ii{array.ndim}q", _DTYPES.index(found), array.ndim, *array.shape)
    return _text(name) + head + array.tobytes()


def pytest_configure() -> None:
    """Listen to the engine from here on."""
    Path(os.environ["WALLE_RECORD"]).mkdir(parents=True, exist_ok=True)
    builder = {
        "__init__": _made,
        "input": _input,
        "weight": _weight,
        "node": _node,
        "finish": _finished,
    }
    for name, after in builder.items():
        _wrap(api.GraphBuilder, name, after)
    _wrap(api, "load", _loaded)
    _wrap(api, "load_bytes", _loaded_bytes)
    _wrap(api.Model, "session", _session)
    _wrap(api.Session, "run", _ran)
