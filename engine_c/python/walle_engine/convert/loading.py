"""From an ONNX file to a draft.

::

    read ─► check ─► inline local functions ─► infer types ─► upgrade old forms ─► expand ─► draft
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx.checker
import onnx.inliner
import onnx.shape_inference
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from onnx import helper

from walle_engine import wmodel
from walle_engine.convert import ml
from walle_engine.convert.bert import read_bert
from walle_engine.convert.draft import Draft
from walle_engine.convert.drafting import Drafting
from walle_engine.convert.expansion import expand, state_defaults
from walle_engine.convert.inference import forget_negative_sizes, infer
from walle_engine.convert.scopes import Scope
from walle_engine.convert.support import Missing, supported_ops
from walle_engine.convert.upgrades import upgrade
from walle_shared.errors import ModelError, OutOfMemory, StorageError, WalleError


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
    with _judged(origin):
        _require_text(model)
        inlined = onnx.inliner.inline_local_functions(model) if model.functions else _copy(model)
        state_defaults(inlined)
        forget_negative_sizes(inlined)
        typed = infer(inlined, strict=True)
        newest = infer(_with_our_opset(typed, opset))
        expanded = expand(newest, lambda node: _is_known(node, known), wmodel.OPSET)
    drafting = Drafting(expanded)
    return Loaded(drafting.draft(), inlined, versions, tuple(drafting.untranslated))


@contextmanager
def _judged(origin: str) -> Generator[None]:
    """Say of a model what onnx says of it.

    Its checks are C++ behind bindings: besides their own exceptions, what is malformed comes back as those of
    text decoding, of protobuf, and of its assertions.
    """
    try:
        yield
    except WalleError:
        raise
    except FileNotFoundError as error:
        raise StorageError(f"cannot read {error.filename or origin}: no such file") from error
    except OSError as error:
        raise StorageError(f"cannot read {origin}: {error.strerror or error}") from error
    except DecodeError as error:
        raise ModelError(f"{origin} is not an ONNX model: export it again") from error
    except onnx.shape_inference.InferenceError as error:
        raise ModelError(f"{origin}: the shapes or types contradict each other: {error}") from error
    except MemoryError as error:
        raise OutOfMemory(f"{origin} wants more memory than there is: its sizes may be wrong") from error
    except Exception as error:  # see above
        raise ModelError(f"{origin} is not a valid ONNX model: {error}") from error


def _items(value: Any) -> list[Any]:
    return list(value) if isinstance(value, Iterable) else [value]


def _require_text(message: Message) -> None:
    """Refuse names that are no text, which protobuf hands on as bytes.

    Raises:
        ModelError: naming the kind of the first.
    """
    for field, value in message.ListFields():
        several: list[Any] = [value] if isinstance(value, (str, bytes, Message)) else _items(value)
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in several:
                _require_text(inner)
        elif field.type == FieldDescriptor.TYPE_STRING and any(isinstance(text, bytes) for text in several):
            raise ModelError(f"the model is damaged: a {field.name} is no text: export it again")


def _is_known(node: onnx.NodeProto, supported: Mapping[str, int]) -> bool:
    return node.op_type == "Constant" or len(node.output) <= supported.get(node.op_type, 0)


def _read(path: Path) -> onnx.ModelProto:
    if path.is_dir():
        return read_bert(path)
    with _judged(str(path)):
        model = onnx.load(path)
        onnx.checker.check_model(model if _is_small(model) else path)
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
