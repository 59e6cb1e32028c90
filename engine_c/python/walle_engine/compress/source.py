"""Models as compression works on them, and back: to files, to sessions, to ONNX."""

from __future__ import annotations

import tempfile
from pathlib import Path

from walle_engine import api, wmodel
from walle_engine.compress.packing import packed
from walle_engine.convert.draft import Draft

type Source = Draft | Path | str


def read_draft(source: Source) -> Draft:
    """Return a model as a draft; an ONNX file's as the converter optimises it.

    Raises:
        ModelError: if it is malformed.
        StorageError: if it cannot be read.
        UnsupportedError: if it holds what the engine does not run.
    """
    if isinstance(source, Draft):
        return source.with_outputs(source.outputs)
    path = Path(source)
    if path.suffix != ".onnx":
        return _read(path)
    from walle_engine.convert import convert

    with tempfile.TemporaryDirectory(prefix="walle-") as folder:
        converted = Path(folder) / "model.wmodel"
        convert(path, converted, check=False)
        return _read(converted)


def _read(path: Path) -> Draft:
    file = wmodel.read(path)
    api.load(path)  # whose verifier knows what nodes must have; what follows believes it
    graph = file.graph
    weights = {name: file.array(name) for name in file.weights}
    return Draft(
        graph.name, graph.producer, list(graph.inputs), list(graph.outputs), list(graph.nodes), weights
    )


def to_bytes(draft: Draft) -> bytes:
    """Return the ``.wmodel`` file."""
    stored = packed(draft)
    return wmodel.to_bytes(stored.to_graph(), stored.weights_to_store())


def to_model(draft: Draft) -> api.Model:
    """Return the model, to be run.

    Raises:
        EngineError: what the engine says of it.
    """
    return api.load_bytes(to_bytes(draft))


def write(draft: Draft, path: Path) -> None:
    """Write the ``.wmodel`` file.

    Raises:
        StorageError: if it cannot be written.
    """
    stored = packed(draft)
    wmodel.write(path, stored.to_graph(), stored.weights_to_store())


def watching(draft: Draft, names: list[str]) -> api.Model:
    """Return a model of the same graph that hands out values by name, whatever they are."""
    watched = draft.with_outputs([wmodel.Value(name, "", None) for name in names])
    watched.prune()
    return to_model(watched)
