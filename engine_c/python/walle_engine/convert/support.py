"""Which operators the engine has, asked of the engine itself, and what a model wants beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx.defs

from walle_engine.convert.draft import Draft
from walle_engine.convert.scopes import DOMAINS
from walle_shared.errors import UnsupportedError

NAMES_SHOWN = 8  # of the nodes of one kind; a list of hundreds helps nobody

#: What to do about operators of domains that exporters are known to use.
DOMAIN_HINTS = {
    "com.microsoft": "ONNX Runtime's own, made by its optimiser: convert the model from before that",
    "com.microsoft.nchwc": "ONNX Runtime's own, made by its optimiser: convert the model from before that",
    "org.pytorch.aten": "PyTorch found no ONNX form of it: export with a newer opset, or replace the layer",
    "pkg.onnxscript.torch_lib": "its definition is missing from the file: export again with it inlined",
}


@dataclass(frozen=True)
class Missing:
    """One thing in a model that the engine has no form for.

    Args:
        what: the operator, or what else it is.
        node: the node's name, or the value's.
        domain: the operator's domain, "" for ONNX's own.
        hint: what to do about it.
    """

    what: str
    node: str
    domain: str = ""
    hint: str = ""


def supported_ops() -> dict[str, int]:
    """Return the engine's operators by name, with how many outputs it computes at most."""
    from walle_engine import api

    return {op.name: op.max_outputs for op in api.ops() if op.op_class != "RASTER"}  # the raster is internal


def require_supported(
    draft: Draft, untranslated: Iterable[Missing], supported: Mapping[str, int], versions: Mapping[str, int]
) -> None:
    """Refuse a graph with anything the engine cannot run.

    Args:
        draft: the graph.
        untranslated: what found no place in it.
        supported: the engine's operators, with how many outputs.
        versions: the model's operator sets, by domain.

    Raises:
        UnsupportedError: listing everything, a line for each kind; ``op`` and ``node`` name the first.
    """
    missing = [*untranslated, *_unknown(draft, supported)]
    if not missing:
        return
    kinds: dict[tuple[str, str, str], list[str]] = {}
    for one in missing:
        kinds.setdefault((one.domain, one.what, one.hint), []).append(one.node)
    lines = (_line(*kind, nodes, versions) for kind, nodes in kinds.items())
    raise UnsupportedError(
        "\n  - ".join((f"the engine cannot run {len(missing)} of the model's nodes:", *lines)),
        op=_full_name(missing[0].domain, missing[0].what),
        node=missing[0].node,
    )


def _unknown(draft: Draft, supported: Mapping[str, int]) -> Iterable[Missing]:
    for node in draft.nodes:
        known = supported.get(node.op, 0)
        if len(node.outputs) > known:
            domain = next((name for name in DOMAINS if onnx.defs.has(node.op, name)), "")
            hint = (
                f"only the first {known} of its outputs are computed: do without the others"
                if known
                else "the engine has none such ('walle-engine coverage' lists those it has): replace it"
            )
            yield Missing(node.op, node.name, domain, hint)


def _line(domain: str, what: str, hint: str, nodes: list[str], versions: Mapping[str, int]) -> str:
    version = versions.get(domain or "ai.onnx", versions.get(domain))
    since = f", opset {version}" if version else ""
    names = ", ".join(nodes[:NAMES_SHOWN])
    more = f" and {len(nodes) - NAMES_SHOWN} more" if len(nodes) > NAMES_SHOWN else ""
    count = f"{len(nodes)} node{'s' if len(nodes) > 1 else ''}"
    return f"{_full_name(domain, what)} (domain {domain or 'ai.onnx'}{since}), {count}: {names}{more}; {hint}"


def _full_name(domain: str, what: str) -> str:
    return f"{domain}.{what}" if domain not in DOMAINS else what


def foreign(domain: str, op: str, node: str) -> Missing:
    """What to say of an operator of somebody else's domain."""
    hint = DOMAIN_HINTS.get(domain, "known to its author alone: replace it by operators of ONNX's own")
    return Missing(op, node, domain, hint)


def require_loadable(path: Path) -> None:
    """Let the engine's own verifier judge what the operator table cannot say.

    Raises:
        UnsupportedError: naming the first node used in a way the engine does not have.
        ModelError: naming the first node that is wrong.
    """
    from walle_engine import api

    api.load(path)
