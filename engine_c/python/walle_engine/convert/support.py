"""Which operators the engine has, asked of the engine itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from walle_engine.convert.draft import Draft
from walle_shared.errors import UnsupportedError


def supported_ops() -> dict[str, int]:
    """Return the engine's operators by name, with how many outputs it computes at most."""
    from walle_engine import api

    return {op.name: op.max_outputs for op in api.ops() if op.op_class != "RASTER"}  # the raster is internal


def require_supported(
    draft: Draft, untranslated: Iterable[tuple[str, str]], supported: Mapping[str, int]
) -> None:
    """Refuse a graph with anything the engine cannot run.

    Raises:
        UnsupportedError: naming every such operator and node at once; ``op`` and ``node`` name the first.
    """
    missing = [
        *untranslated,
        *((node.op, node.name) for node in draft.nodes if len(node.outputs) > supported.get(node.op, 0)),
    ]
    if not missing:
        return
    by_op: dict[str, list[str]] = {}
    for op, node in missing:
        by_op.setdefault(op, []).append(node)
    what = "; ".join(f"{op} ({', '.join(nodes)})" for op, nodes in by_op.items())
    raise UnsupportedError(
        f"the engine cannot run {len(missing)} of the model's nodes: {what}. Replace these "
        "operators in the model; 'walle-engine coverage' lists those the engine has",
        op=missing[0][0],
        node=missing[0][1],
    )


def require_loadable(path: Path) -> None:
    """Let the engine's own verifier judge what the operator table cannot say.

    Raises:
        UnsupportedError: naming the first node used in a way the engine does not have.
        ModelError: naming the first node that is wrong.
    """
    from walle_engine import api

    api.load(path)
