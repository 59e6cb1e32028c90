"""The engine as an ONNX back end: ``onnx.backend.base`` asks, the C engine answers.

::

    from walle_engine import onnx_backend

    outputs = onnx_backend.run_model(onnx.load("model.onnx"), [pixels])

The model is brought into the engine's form without computing anything in Python: each node of it runs in C.
Needs the ``convert`` extra.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.checker
import onnx.defs
import onnx.shape_inference
from onnx import helper
from onnx.backend.base import Backend, BackendRep

from walle_engine import api, wmodel
from walle_engine.convert import translate_model
from walle_engine.tensor import Tensor, TextTensor
from walle_shared.errors import ConfigError, ModelError

__all__ = ["WalleBackend", "WalleRep", "is_compatible", "prepare", "run_model", "run_node", "supports_device"]


class WalleRep(BackendRep):
    """A model prepared for repeated runs. Made by ``WalleBackend.prepare``."""

    def __init__(self, session: api.Session) -> None:
        self._session = session
        self._names = tuple(value.name for value in session.model.inputs)

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Run once.

        Args:
            inputs: values in the order of the graph's inputs (initializers not counted), or by name.
            kwargs: none are known.

        Returns:
            The outputs in the graph's order, as NumPy arrays (lists of them for sequences).

        Raises:
            ConfigError: for an unknown setting.
            EngineError: as ``Session.run``, and for a wrong number of inputs.
        """
        _refuse_settings(kwargs)
        named = inputs if isinstance(inputs, Mapping) else self._by_name(inputs)
        outputs = self._session.run({name: _for_engine(value) for name, value in named.items()})
        return tuple(_from_engine(value) for value in outputs.values())

    def _by_name(self, inputs: Sequence[Any]) -> dict[str, Any]:
        if len(inputs) != len(self._names):
            raise ModelError(f"{len(inputs)} inputs were given, the model has {len(self._names)}")
        return dict(zip(self._names, inputs, strict=True))


def _for_engine(value: Any) -> Any:
    """Elements that are not NumPy's own (bfloat16, float8) go as unsigned integers of their width."""
    if isinstance(value, (list, tuple)):
        return [_for_engine(item) for item in value]
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if isinstance(value, np.ndarray) and value.dtype.isbuiltin == 2:
        return value.view(f"u{value.dtype.itemsize}")
    return value


def _from_engine(value: Any) -> Any:
    if isinstance(value, TextTensor):
        return np.asarray(value)
    if isinstance(value, Tensor):
        return np.asarray(value).view(wmodel.numpy_dtype(value.dtype))
    if isinstance(value, (list, tuple)):
        return [_from_engine(item) for item in value]
    return value


def _refuse_settings(kwargs: Mapping[str, Any]) -> None:
    if kwargs:
        raise ConfigError(f"unknown settings of the back end: {', '.join(kwargs)}")


class WalleBackend(Backend):
    """``onnx.backend.base.Backend`` over the Walle engine."""

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether ``prepare`` would take the model."""
        from walle_shared.errors import EngineError

        try:
            cls.prepare(model, device, **kwargs)
        except (EngineError, ConfigError):
            return False
        return True

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> WalleRep:
        """Translate a model and make a session for it.

        Args:
            model: external data must have been loaded.
            device: ``"CPU"``.
            kwargs: settings of ``Model.session``.

        Raises:
            ConfigError: for an unknown device or setting.
            ModelError: if the model is invalid.
            UnsupportedError: if the engine lacks something it needs.
        """
        if not cls.supports_device(device):
            raise ConfigError(f"device {device!r} is unknown: use 'CPU'")
        try:
            onnx.checker.check_model(model)
        except onnx.checker.ValidationError as error:
            raise ModelError(f"the model is not valid ONNX: {error}") from error
        draft = translate_model(model)
        loaded = api.load_bytes(wmodel.to_bytes(draft.to_graph(), draft.weights_to_store()))
        try:
            return WalleRep(loaded.session(**kwargs))
        except TypeError as error:
            raise ConfigError(f"unknown setting of a session: {error}") from error

    @classmethod
    def run_model(
        cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any
    ) -> tuple[Any, ...]:
        """Prepare and run once; arguments and errors are those of the two."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[Any, tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Run one operator.

        Args:
            node: its omitted inputs have no value in ``inputs``.
            inputs: arrays in the node's order, or by name.
            device: ``"CPU"``.
            outputs_info: dtype and shape of each output; inferred where omitted.
            kwargs: ``opset_version``, and settings of ``Model.session``.

        Raises:
            ConfigError: for an unknown device or setting.
            ModelError: if the node is invalid.
            UnsupportedError: if the engine lacks it.
        """
        opset = kwargs.pop("opset_version", onnx.defs.onnx_opset_version())
        names = list(dict.fromkeys(name for name in node.input if name))
        values = inputs if isinstance(inputs, Mapping) else dict(zip(names, inputs, strict=False))
        arrays = {name: np.asarray(values[name]) for name in names if name in values}
        known = [_value_info(name, array.dtype, array.shape) for name, array in arrays.items()]
        imports = [helper.make_opsetid(node.domain, opset)]
        outputs = _infer(node, known, imports) if outputs_info is None else _stated(node, outputs_info)
        model = helper.make_model(
            helper.make_graph([node], node.op_type, known, outputs), opset_imports=imports
        )
        return cls.run_model(model, arrays, device, **kwargs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether models run there: the CPU."""
        return device.partition(":")[0] == "CPU"


def _value_info(name: str, dtype: Any, shape: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)


def _stated(node: onnx.NodeProto, infos: Sequence[tuple[Any, tuple[int, ...]]]) -> list[onnx.ValueInfoProto]:
    names = [name for name in node.output if name]
    return [_value_info(name, *info) for name, info in zip(names, infos, strict=True)]


def _infer(
    node: onnx.NodeProto, inputs: Sequence[onnx.ValueInfoProto], imports: Sequence[onnx.OperatorSetIdProto]
) -> list[onnx.ValueInfoProto]:
    try:
        schema = onnx.defs.get_schema(node.op_type, imports[0].version, node.domain)
        types = onnx.shape_inference.infer_node_outputs(
            schema, node, {info.name: info.type for info in inputs}, opset_imports=list(imports)
        )
    except (onnx.defs.SchemaError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"the node is not valid ONNX: {error}", op=node.op_type, node=node.name) from error
    return [helper.make_value_info(name, types[name]) for name in node.output if name in types]


is_compatible = WalleBackend.is_compatible
prepare = WalleBackend.prepare
run_model = WalleBackend.run_model
run_node = WalleBackend.run_node
supports_device = WalleBackend.supports_device
