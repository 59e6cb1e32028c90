"""The ``.wmodel`` file: a safetensors container whose metadata holds the graph.

::

    u64 LE header length N | JSON header, padded with spaces | data
                             (8 + N) % 64 == 0                each tensor at a multiple of 64

- Any safetensors reader can list the weights. The format allows no holes, so the gaps that alignment leaves
  are covered by ``U8`` entries named ``walle.pad.<i>``; every other entry is a weight a node may name as an
  input.
- ``__metadata__`` has ``walle.format`` and ``walle.graph`` (JSON in a string, see :class:`Graph`).
- A file appears whole or not at all: written beside its target, synced, then renamed.

This module writes files and reads them for inspection and tests. The engine has its own reader in C.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from walle_shared.errors import ModelError, StorageError

if TYPE_CHECKING:
    from collections.abc import Buffer

    import numpy as np

__all__ = [
    "DTYPE_BYTES",
    "Graph",
    "Node",
    "Value",
    "Weight",
    "WeightInfo",
    "WModel",
    "dtype_name",
    "numpy_dtype",
    "read",
    "staged_file",
    "to_bytes",
    "weight_from_array",
    "write",
    "write_in_place",
]

FORMAT_VERSION = "1"
OPSET = 28
ALIGNMENT_BYTES = 64
HEADER_MAX_BYTES = 64 * 1024 * 1024
PAD_PREFIX = "walle.pad."

# safetensors' names (or in their manner), with NumPy's beside them; bfloat16 and what follows bool are
# ml_dtypes'.
_NUMPY_NAMES = {
    "F32": "float32",
    "F64": "float64",
    "F16": "float16",
    "BF16": "bfloat16",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "U8": "uint8",
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "BOOL": "bool",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "F4_E2M1": "float4_e2m1fn",
    "I4": "int4",
    "U4": "uint4",
    "I2": "int2",
    "U2": "uint2",
}
_DTYPE_OF_NUMPY = {numpy_name: dtype for dtype, numpy_name in _NUMPY_NAMES.items()}
DTYPE_BYTES = {
    "F32": 4,
    "F64": 8,
    "F16": 2,
    "BF16": 2,
    "I8": 1,
    "I16": 2,
    "I32": 4,
    "I64": 8,
    "U8": 1,
    "U16": 2,
    "U32": 4,
    "U64": 8,
    "BOOL": 1,
    # Types that only store take a byte per element, those of fewer bits too.
    "F8_E4M3": 1,
    "F8_E4M3FNUZ": 1,
    "F8_E5M2": 1,
    "F8_E5M2FNUZ": 1,
    "F8_E8M0": 1,
    "F4_E2M1": 1,
    "I4": 1,
    "U4": 1,
    "I2": 1,
    "U2": 1,
}

type Dim = int | str
type Attribute = (
    int
    | float
    | str
    | Sequence[int]
    | Sequence[float]
    | Sequence[str]
    | Mapping[str, str]
    | Mapping[str, Any]
    | "Graph"
)


@dataclass(frozen=True)
class Value:
    """A graph input or output.

    Args:
        name: its name.
        dtype: element type (of a sequence's items too); ``""`` where unknown.
        shape: sizes and names of symbolic dims; None where the rank is unknown, and for other kinds.
        kind: ``"tensor"``, ``"sequence"`` or ``"optional"``.
    """

    name: str
    dtype: str
    shape: tuple[Dim, ...] | None
    kind: str = "tensor"


@dataclass(frozen=True)
class Node:
    """One operator: ONNX's name, input order and attribute names. ``""`` is an omitted input or output."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """What a model computes. Weights are named by nodes and live beside the graph."""

    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    producer: str = ""
    opset: int = OPSET

    def to_json(self) -> str:
        """Return the canonical JSON text.

        Raises:
            ModelError: if an attribute is not finite (JSON has no such number).
        """
        document = {"opset": self.opset, "producer": self.producer, **_graph_to_json(self)}
        try:
            return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        except ValueError:
            raise ModelError(
                f"graph {self.name!r} has an attribute that is not a finite number: pass it as a tensor input"
            ) from None

    @classmethod
    def from_json(cls, text: str) -> Graph:
        """Parse what :meth:`to_json` wrote.

        Raises:
            ModelError: naming the part that is missing or of the wrong kind.
        """
        try:
            document = json.loads(text)
            return cls(
                name=_expect(document["name"], str),
                producer=_expect(document.get("producer", ""), str),
                opset=_expect(document["opset"], int),
                **_parts_from_json(document),
            )
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ModelError(f"the model's graph is malformed ({type(error).__name__}: {error})") from error


@dataclass(frozen=True)
class Weight:
    """A tensor to be written: dense, row-major, little-endian bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: Buffer


@dataclass(frozen=True)
class WeightInfo:
    """Where a tensor lies in a file; ``offset`` counts bytes from the start of the file."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int


@dataclass(frozen=True)
class WModel:
    """What a file holds: its graph and where its weights are."""

    path: Path
    graph: Graph
    weights: Mapping[str, WeightInfo]
    size_bytes: int

    def array(self, name: str) -> np.ndarray[Any, Any]:
        """Read one weight as a NumPy array.

        Raises:
            ModelError: if there is no weight of that name.
        """
        import numpy as np

        if name not in self.weights:
            raise ModelError(
                f"{self.path} has no weight {name!r}: its weights are {', '.join(self.weights) or 'none'}"
            )
        info = self.weights[name]
        with self.path.open("rb") as file:
            file.seek(info.offset)
            return np.frombuffer(file.read(info.size_bytes), numpy_dtype(info.dtype)).reshape(info.shape)


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """Return the NumPy type of a dtype name."""
    import numpy as np

    name = _NUMPY_NAMES[dtype]
    if hasattr(np, name):
        return np.dtype(name)
    import ml_dtypes

    foreign: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    return foreign


def dtype_name(dtype: np.dtype[Any]) -> str:
    """Return the dtype name of a NumPy type.

    Raises:
        ModelError: if the type has no place in the format.
    """
    name = _DTYPE_OF_NUMPY.get(dtype.name)
    if name is None:
        raise ModelError(
            f"a tensor of type {dtype.name} cannot be stored: use one of {', '.join(DTYPE_BYTES)}"
        )
    return name


def weight_from_array(array: np.ndarray[Any, Any]) -> Weight:
    """Turn a NumPy array into a weight (copied only where it is not dense and little-endian).

    Raises:
        ModelError: if the element type has no place in the format.
    """
    import numpy as np

    dtype = dtype_name(array.dtype)
    dense = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return Weight(dtype, array.shape, dense.view(np.uint8).data if dense.size else b"")


def write(path: Path | str, graph: Graph, weights: Mapping[str, Weight]) -> None:
    """Write a model file atomically.

    Raises:
        ModelError: if a weight's name is reserved or its size is not that of its shape.
        StorageError: if the file cannot be written; nothing is left behind.
    """
    with staged_file(Path(path)) as staged:
        write_in_place(staged, graph, weights)


def write_in_place(path: Path, graph: Graph, weights: Mapping[str, Weight]) -> None:
    """Write a model into an existing or new file, without the atomic step of :func:`write`."""
    chunks = _encode(graph, weights)
    try:
        with path.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
    except OSError as error:
        raise _storage_error("write", path, error) from error


def to_bytes(graph: Graph, weights: Mapping[str, Weight]) -> bytes:
    """Return what :func:`write` would put into the file.

    Raises:
        ModelError: as :func:`write`.
    """
    return b"".join(_encode(graph, weights))


def _encode(graph: Graph, weights: Mapping[str, Weight]) -> list[Buffer]:
    """The file in pieces; weights are not copied."""
    header: dict[str, Any] = {
        "__metadata__": {"walle.format": FORMAT_VERSION, "walle.graph": graph.to_json()}
    }
    end = 0
    chunks: list[Buffer] = []
    for name, weight in weights.items():
        size = _check_weight(name, weight)
        if gap := -end % ALIGNMENT_BYTES:
            header[f"{PAD_PREFIX}{len(chunks)}"] = _entry("U8", (gap,), end, end + gap)
            chunks.append(bytes(gap))
            end += gap
        header[name] = _entry(weight.dtype, weight.shape, end, end + size)
        chunks.append(weight.data)
        end += size
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT_BYTES)
    if len(text) > HEADER_MAX_BYTES:
        raise ModelError(f"the graph takes {len(text)} bytes; at most {HEADER_MAX_BYTES} are allowed")
    return [len(text).to_bytes(8, "little"), text, *chunks]


@contextlib.contextmanager
def staged_file(path: Path) -> Generator[Path]:
    """Give an empty temporary file beside ``path``; on success sync and rename it there, else remove it.

    Raises:
        StorageError: if the file system refuses.
    """
    staged = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        os.close(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    except OSError as error:
        raise _storage_error("write", path, error) from error
    try:
        yield staged
        try:
            _sync(staged, os.O_RDWR)
            staged.replace(path)
            _sync(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise _storage_error("write", path, error) from error
    finally:
        staged.unlink(missing_ok=True)


def read(path: Path | str) -> WModel:
    """Read graph and weight table of a model file, checking every claim of its header.

    Raises:
        ModelError: if the file is truncated, malformed, or of an unknown format version.
        StorageError: if the file cannot be read.
    """
    path = Path(path)
    text, data_start, file_bytes = _read_header(path, "a .wmodel file: convert the model again")
    try:
        header = json.loads(text)
        metadata = header.pop("__metadata__")
        if metadata["walle.format"] != FORMAT_VERSION:
            raise ModelError(
                f"{path} has format version {metadata['walle.format']!r}, this program reads "
                f"{FORMAT_VERSION!r}: convert the model again"
            )
        graph = Graph.from_json(_expect(metadata["walle.graph"], str))
        infos = {name: _info_from_json(entry, data_start) for name, entry in header.items()}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path} has a malformed header ({type(error).__name__}: {error})") from error
    _check_layout(path, infos, data_start, file_bytes)
    weights = {name: info for name, info in infos.items() if not name.startswith(PAD_PREFIX)}
    return WModel(path, graph, weights, file_bytes)


def read_table(path: Path) -> dict[str, WeightInfo]:
    """Read the weight table of any safetensors file, checking every claim of its header.

    Raises:
        ModelError: if the file is truncated or malformed.
        StorageError: if the file cannot be read.
    """
    text, data_start, file_bytes = _read_header(path, "a safetensors file: download it again")
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        infos = {name: _info_from_json(entry, data_start) for name, entry in header.items()}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path} has a malformed header ({type(error).__name__}: {error})") from error
    for name, info in infos.items():
        if info.offset + info.size_bytes > file_bytes:
            raise ModelError(f"{path} ends before its weight {name!r} does: download it again")
    return infos


def _read_header(path: Path, what: str) -> tuple[bytes, int, int]:
    """The text of a safetensors header, where the data begin, and the file's size."""
    try:
        with path.open("rb") as file:
            file_bytes = os.fstat(file.fileno()).st_size
            prefix = file.read(8)
            header_bytes = int.from_bytes(prefix, "little")
            if len(prefix) < 8 or header_bytes > min(file_bytes - 8, HEADER_MAX_BYTES):
                raise ModelError(f"{path} is truncated or not {what}")
            return file.read(header_bytes), 8 + header_bytes, file_bytes
    except OSError as error:
        raise _storage_error("read", path, error) from error


def _expect[T](value: object, kind: type[T]) -> T:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"expected {kind.__name__}, found {type(value).__name__}")
    return value


def _graph_to_json(graph: Graph) -> dict[str, Any]:
    """A graph, or a body, as the loader wants it."""
    return {
        "name": graph.name,
        "inputs": [_value_to_json(value) for value in graph.inputs],
        "outputs": [_value_to_json(value) for value in graph.outputs],
        "nodes": [
            {
                "op": node.op,
                "name": node.name,
                "inputs": list(node.inputs),
                "outputs": list(node.outputs),
                "attrs": {name: _attribute_to_json(value) for name, value in node.attrs.items()},
            }
            for node in graph.nodes
        ],
    }


def _value_to_json(value: Value) -> dict[str, Any]:
    shape = None if value.shape is None else list(value.shape)
    document = {"name": value.name, "dtype": value.dtype or None, "shape": shape}
    return document if value.kind == "tensor" else {**document, "kind": value.kind}


def _attribute_to_json(value: Attribute) -> Any:
    return {"graph": _graph_to_json(value)} if isinstance(value, Graph) else value


def _parts_from_json(document: Any) -> dict[str, Any]:
    return {
        "inputs": tuple(_value_from_json(value) for value in document["inputs"]),
        "outputs": tuple(_value_from_json(value) for value in document["outputs"]),
        "nodes": tuple(_node_from_json(node) for node in document["nodes"]),
    }


def _value_from_json(document: Any) -> Value:
    shape = document["shape"]
    if shape is not None:
        shape = tuple(d if isinstance(d, str) else _expect(d, int) for d in _expect(shape, list))
    dtype = document["dtype"]
    kind = _expect(document.get("kind", "tensor"), str)
    return Value(_expect(document["name"], str), "" if dtype is None else _expect(dtype, str), shape, kind)


def _node_from_json(document: Any) -> Node:
    attributes = _expect(document.get("attrs", {}), dict)
    return Node(
        op=_expect(document["op"], str),
        name=_expect(document["name"], str),
        inputs=tuple(_expect(name, str) for name in document["inputs"]),
        outputs=tuple(_expect(name, str) for name in document["outputs"]),
        attrs={name: _attribute_from_json(value) for name, value in attributes.items()},
    )


def _attribute_from_json(value: Any) -> Attribute:
    if isinstance(value, dict) and "graph" in value:
        body = value["graph"]
        return Graph(name=_expect(body["name"], str), **_parts_from_json(body))
    attribute: Attribute = value
    return attribute


def _info_from_json(document: Any, data_start: int) -> WeightInfo:
    begin, end = (_expect(offset, int) for offset in document["data_offsets"])
    shape = tuple(_expect(dim, int) for dim in document["shape"])
    dtype = _expect(document["dtype"], str)
    if begin < 0 or any(dim < 0 for dim in shape):
        raise ValueError("negative offset or dim")
    if end - begin != math.prod(shape) * DTYPE_BYTES[dtype]:
        raise ValueError(f"{end - begin} bytes for {dtype} of shape {list(shape)}")
    return WeightInfo(dtype, shape, data_start + begin, end - begin)


def _check_layout(path: Path, infos: Mapping[str, WeightInfo], data_start: int, file_bytes: int) -> None:
    position = data_start
    for name, info in sorted(infos.items(), key=lambda item: (item[1].offset, item[1].size_bytes)):
        if info.offset != position:
            raise ModelError(
                f"{path}: weight {name!r} overlaps another or leaves a hole: convert the model again"
            )
        if info.offset % ALIGNMENT_BYTES and not name.startswith(PAD_PREFIX):
            raise ModelError(f"{path}: weight {name!r} is not aligned to {ALIGNMENT_BYTES} bytes")
        position += info.size_bytes
    if position != file_bytes:
        raise ModelError(
            f"{path} holds {file_bytes} bytes where its header promises {position}: fetch it again"
        )


def _check_weight(name: str, weight: Weight) -> int:
    if name == "__metadata__" or name.startswith(PAD_PREFIX) or not name:
        raise ModelError(f"weight name {name!r} is reserved: rename it in the model")
    size = math.prod(weight.shape) * DTYPE_BYTES[weight.dtype]
    if memoryview(weight.data).nbytes != size:
        raise ModelError(
            f"weight {name!r} has {memoryview(weight.data).nbytes} bytes where its shape needs {size}"
        )
    return size


def _entry(dtype: str, shape: tuple[int, ...], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def _storage_error(verb: str, path: Path, error: OSError) -> StorageError:
    return StorageError(f"cannot {verb} {path}: {error.strerror or error}")


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
