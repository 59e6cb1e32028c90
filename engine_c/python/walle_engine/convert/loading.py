"""From an ONNX file to a draft.

::

    read ─► check ─► inline local functions ─► infer types ─► upgrade old forms ─► expand ─► draft
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx.checker
import onnx.inliner
import onnx.shape_inference
from google.protobuf.message import DecodeError
from onnx import helper

from walle_engine import wmodel
from walle_engine.convert import ml
from walle_engine.convert.bert import read_bert
from walle_engine.convert.draft import Draft
from walle_engine.convert.drafting import Drafting
from walle_engine.convert.expansion import expand, state_defaults
from walle_engine.convert.scopes import Scope
from walle_engine.convert.support import Missing, supported_ops
from walle_engine.convert.upgrades import upgrade
from walle_shared.errors import ModelError, StorageError


@dataclass(frozen=True)
class Loaded:
    """A draft and what it was made from.

    Args:
        draft: the graph in our form.
        model: the original, local functions inlined.
        versions: its operator sets, by domain.
        untranslated: what has no form in our graphs.
    """

    draft: Draft
    model: onnx.ModelProto
    versions: Mapping[str, int]
    untranslated: tuple[Missing, ...]

    @property
    def opset(self) -> int:
        """The version of the default operator set; 0 where the model imports none."""
        return self.versions.get("ai.onnx", 0)


def load(path: Path, supported: Mapping[str, int] | None = None) -> Loaded:
    """Read an ONNX file, with external data beside it, or a folder with a BERT encoder.

    Args:
        path: the file or folder.
        supported: operators to leave as they are, with how many outputs; the engine's own if omitted.

    Raises:
        StorageError: if it cannot be read.
        ModelError: if it is not a valid ONNX model.
        UnsupportedError: if it holds an old form of an operator that has no new one.
    """
    return translate(_read(path), supported, str(path))


def translate(
    model: onnx.ModelProto, supported: Mapping[str, int] | None = None, origin: str = "the model"
) -> Loaded:
    """Turn a checked model in memory, external data included, into a draft.

    Args:
        model: left as it is.
        supported: as for ``load``.
        origin: what messages call it.

    Raises:
        ModelError: if its shapes or types contradict each other.
        UnsupportedError: as ``load``.
    """
    versions = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    opset = versions.get("ai.onnx", 0)
    known = supported_ops() if supported is None else supported
    inlined = onnx.inliner.inline_local_functions(model) if model.functions else _copy(model)
    state_defaults(inlined)
    try:
        typed = onnx.shape_inference.infer_shapes(inlined, check_type=True, strict_mode=True, data_prop=True)
        newest = onnx.shape_inference.infer_shapes(_with_our_opset(typed, opset), data_prop=True)
        expanded = expand(newest, lambda node: _is_known(node, known), wmodel.OPSET)
    except onnx.shape_inference.InferenceError as error:
        raise ModelError(f"{origin}: the shapes or types contradict each other: {error}") from error
    drafting = Drafting(expanded)
    return Loaded(drafting.draft(), inlined, versions, tuple(drafting.untranslated))


def _is_known(node: onnx.NodeProto, supported: Mapping[str, int]) -> bool:
    return node.op_type == "Constant" or len(node.output) <= supported.get(node.op_type, 0)


def _read(path: Path) -> onnx.ModelProto:
    if path.is_dir():
        return read_bert(path)
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model if _is_small(model) else path)
    except FileNotFoundError as error:
        raise StorageError(f"cannot read {error.filename or path}: no such file") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    except DecodeError as error:
        raise ModelError(f"{path} is not an ONNX model: export it again") from error
    except onnx.checker.ValidationError as error:
        raise ModelError(f"{path} is not a valid ONNX model: {error}") from error
    return model


def _is_small(model: onnx.ModelProto) -> bool:
    return bool(model.ByteSize() < onnx.checker.MAXIMUM_PROTOBUF)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _with_our_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The model with every operator in its newest form; the other domains' versions stay."""
    newest = _copy(model)
    nodes = upgrade(model.graph.node, opset or wmodel.OPSET, Scope.of(model))
    del newest.graph.node[:]
    newest.graph.node.extend(nodes)
    others = [entry for entry in newest.opset_import if entry.domain not in ("", "ai.onnx")]
    for entry in others:
        entry.version = max(entry.version, ml.VERSION) if entry.domain == ml.DOMAIN else entry.version
    del newest.opset_import[:]
    newest.opset_import.extend([helper.make_opsetid("", max(opset, wmodel.OPSET)), *others])
    return newest
