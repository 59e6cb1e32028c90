"""The converter: an ONNX file or a BERT encoder in, a checked ``.wmodel`` file out.

::

  load ─► fold what is known ─► rewrite ─► supported? ─► write aside ─► loads? ─► same answers? ─► rename

Needs the ``convert`` extra (NumPy, onnx, onnxruntime); a device has none of them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from walle_engine import wmodel
from walle_engine.convert import pytorch
from walle_engine.convert.check import CheckResult, Tolerance, newer
from walle_engine.convert.check import check as _check
from walle_engine.convert.folding import fold_constants
from walle_engine.convert.loading import Loaded, load, translate
from walle_engine.convert.rewrites import rewrite
from walle_engine.convert.shape_arithmetic import fold_shapes
from walle_engine.convert.support import require_loadable, require_supported, supported_ops
from walle_shared.errors import StorageError

if TYPE_CHECKING:
    import onnx

    from walle_engine.convert.draft import Draft

__all__ = ["CheckResult", "ConversionReport", "Tolerance", "convert", "from_torch", "translate_model"]


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion did.

    Args:
        path: the file written.
        opset: the original's operator set.
        nodes_before: operators in the original (constants not counted).
        nodes_after: operators in the result.
        nodes_folded: operators computed at conversion.
        rewrites: how often each rewrite was applied.
        size_bytes: size of the file.
        check: the comparison with ONNX Runtime; None if it was switched off.
    """

    path: Path
    opset: int
    nodes_before: int
    nodes_after: int
    nodes_folded: int
    rewrites: Mapping[str, int]
    size_bytes: int
    check: CheckResult | None


ONNX_RUNTIME_OLDEST_OPSET = 7  # Source: ONNX Runtime's compatibility page

_NO_SIZES: Mapping[str, int] = {}


def convert(
    source: Path | str,
    wmodel_path: Path | str,
    *,
    check: bool = True,
    optimise: bool = True,
    tolerance: Tolerance | None = None,
    sizes: Mapping[str, int] = _NO_SIZES,
    seed: int = 0,
) -> ConversionReport:
    """Convert a model, and write it only if it computes what the original computes.

    Args:
        source: the ONNX file, external data beside it; or a folder with ``config.json`` and
            ``model.safetensors`` of a BERT encoder.
        wmodel_path: the file to write; replaced atomically.
        check: compare with ONNX Runtime on random inputs.
        optimise: compute now what does not depend on inputs, and rewrite what has a shorter form; without it
            the graph stays as its author wrote it.
        tolerance: how far floating results may differ; ``Tolerance()`` where omitted.
        sizes: sizes of symbolic dims for the check, by name.
        seed: of the random inputs.

    Raises:
        StorageError: if a file cannot be read or written, or both are the same.
        ModelError: if the model is invalid, or its results differ; ``node`` names the first node that does.
        UnsupportedError: naming every operator the engine does not have, or the first node that uses one in
            a way the engine does not have.
    """
    source, wmodel_path = Path(source), Path(wmodel_path)
    if wmodel_path.exists() and source.exists() and wmodel_path.samefile(source):
        raise StorageError(f"the result would overwrite the original {source}: name another file")
    supported = supported_ops()
    loaded = load(source, supported)
    draft = loaded.draft
    nodes_before = len(draft.nodes) + len(loaded.untranslated)
    folded, rewrites = _optimised(draft) if optimise else (0, {})
    draft.prune()
    require_supported(draft, loaded.untranslated, supported, loaded.versions)
    result: CheckResult | None = None
    with wmodel.staged_file(wmodel_path) as staged:
        graph, weights = draft.to_graph(), draft.weights_to_store()
        wmodel.write_in_place(staged, graph, weights)
        require_loadable(staged)
        if check:
            original = _original(source, loaded)
            result = _check(
                original, draft, staged, tolerance=tolerance or Tolerance(), sizes=sizes, seed=seed
            )
        size_bytes = staged.stat().st_size
    return ConversionReport(
        path=wmodel_path,
        opset=loaded.opset,
        nodes_before=nodes_before,
        nodes_after=len(draft.nodes),
        nodes_folded=folded,
        rewrites=rewrites,
        size_bytes=size_bytes,
        check=result,
    )


def from_torch(
    module: Any,
    example_inputs: Sequence[Any] | Mapping[str, Any],
    path: Path | str,
    *,
    dynamic: Mapping[str, Mapping[int, str]] | None = None,
    check: bool = True,
    optimise: bool = True,
    tolerance: Tolerance | None = None,
    sizes: Mapping[str, int] = _NO_SIZES,
    seed: int = 0,
) -> ConversionReport:
    """Convert a PyTorch module: export it with ``torch.onnx``, then convert what comes out.

    Args:
        module: an ``nn.Module``, exported as in evaluation, or a ``torch.export.ExportedProgram``.
        example_inputs: tensors to call it with, in order or by name; shapes and types become the model's.
        path: the file to write; replaced atomically.
        dynamic: by parameter of ``forward``, the axes that may differ from the example's, each with a name:
            ``{"x": {0: "batch"}}``.
        check: as for ``convert``, and so are the others.
        optimise: as there.
        tolerance: as there.
        sizes: as there.
        seed: as there.

    Raises:
        ConfigError: if PyTorch, or what its exporter needs, is not installed.
        UnsupportedError: if PyTorch cannot export the module, or as for ``convert``.
        ModelError: as for ``convert``.
        StorageError: as for ``convert``.
    """
    with tempfile.TemporaryDirectory(prefix="walle-") as folder:
        exported = Path(folder) / "module.onnx"
        pytorch.export(module, example_inputs, exported, dynamic)
        return convert(
            exported, path, check=check, optimise=optimise, tolerance=tolerance, sizes=sizes, seed=seed
        )


def _original(source: Path, loaded: Loaded) -> Path | onnx.ModelProto:
    """What ONNX Runtime is asked about: the author's own file wherever there is one that it reads."""
    if loaded.opset < ONNX_RUNTIME_OLDEST_OPSET:
        return newer(loaded.model)
    return loaded.model if source.is_dir() else source


def _optimised(draft: Draft) -> tuple[int, dict[str, int]]:
    """Fold, then rewrite; returns how many nodes were folded, and how often each rewrite was applied."""
    folded = fold_constants(draft)
    while now := fold_shapes(draft):
        folded += now + fold_constants(draft)
    return folded, rewrite(draft)


def translate_model(model: onnx.ModelProto) -> Draft:
    """Bring a model in memory into the engine's form, and compute nothing: no folding, no check.

    Args:
        model: a model that ``onnx.checker`` accepts, its external data loaded.

    Raises:
        ModelError: if its shapes or types contradict each other.
        UnsupportedError: naming every operator the engine does not have.
    """
    supported = supported_ops()
    loaded = translate(model, supported)
    loaded.draft.prune()
    require_supported(loaded.draft, loaded.untranslated, supported, loaded.versions)
    return loaded.draft
