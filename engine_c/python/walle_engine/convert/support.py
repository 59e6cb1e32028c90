"""Which operators the engine has, asked of the engine itself."""

from __future__ import annotations

from collections.abc import Iterable, Set

from walle_engine.convert.draft import Draft
from walle_shared.errors import UnsupportedError


def supported_ops() -> frozenset[str]:
    """Return the names in the engine's operator table."""
    from walle_engine import api

    return frozenset(op.name for op in api.ops())


def require_supported(draft: Draft, untranslated: Iterable[tuple[str, str]], supported: Set[str]) -> None:
    """Refuse a graph with anything the engine cannot run.

    Raises:
        UnsupportedError: naming every such operator and node at once; ``op`` and ``node`` name the first.
    """
    missing = [*untranslated, *((node.op, node.name) for node in draft.nodes if node.op not in supported)]
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
