"""Write the pages of this folder from the tables in the code: ``python docs/reference/generate.py``."""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from starlette.routing import WebSocketRoute

from walle_agent import app as _agent  # with all the errors of the agent  # noqa: F401
from walle_agent import cli as agent_cli
from walle_control import setup
from walle_control.app import create_app
from walle_control.cli.main import build_parser as control_parser
from walle_control.config import ControlConfig
from walle_control.db.store import Store
from walle_control.metrics import METRICS
from walle_control.web.auth import Door
from walle_control.web.openapi import operations
from walle_control.web.problems import status_of_kind
from walle_engine import api
from walle_engine import cli as engine_cli
from walle_shared.clock import SystemClock
from walle_shared.errors import CURES, SPECIAL_CODES, WalleError
from walle_shared.protocol.version import DEVICE_API, STATIC_ROOT

HERE = Path(__file__).parent
CONFIGS = HERE.parents[1] / "configs"
NOTE = "<!-- Written by docs/reference/generate.py from the code; a test keeps it so. -->"

#: The packages whose errors are listed.
_ROOMS = {"walle_agent", "walle_container", "walle_control", "walle_engine", "walle_shared", "walle_task"}

#: Who may use the routes below a prefix; the first row that fits counts.
DOORS = (
    (f"{DEVICE_API}/enrol", "anyone with an enrolment token"),
    (f"{DEVICE_API}/renew", "a device, by its key"),
    (f"{DEVICE_API}/time", "anyone: the answer is signed"),
    (DEVICE_API, "a device, by its credential"),
    (STATIC_ROOT, "anyone: everything there is signed or named by its digest"),
    ("/", "anyone"),
)


def pages() -> dict[str, str]:
    """Every page of this folder: file name to text."""
    return {"ops.md": ops_page(), "http.md": http_page(), "cli.md": cli_page(), "metrics.md": metrics_page(),
            "errors.md": errors_page(), "settings.md": settings_page()}  # fmt: skip


# Operators of other domains than the default one, as the addresses of their pages say it.
_DOMAINS = {
    **dict.fromkeys(("LabelEncoder", "TreeEnsemble"), "aionnxml"),
    **dict.fromkeys(("Adagrad", "Adam", "Momentum"), "aionnxpreviewtraining"),
}

_RUNTIME = "https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md"
#: Not of ONNX's: where they are explained.
_ELSEWHERE = {
    **dict.fromkeys(
        ("ConvFilterGradient", "MaxPoolGradient"), "../decisions/0031-gradients-of-native-operators.md"
    ),
    **{
        op: f"{_RUNTIME}#com.microsoft.{op}"
        for op in ("MatMulNBits", "QLinearAdd", "QLinearGlobalAveragePool")
    },
}


def _link(op: str) -> str:
    page = f"https://onnx.ai/onnx/operators/onnx_{_DOMAINS.get(op, '')}_{op}.html"
    return f"[{op}]({_ELSEWHERE.get(op, page)})"


def ops_page() -> str:
    """The op table: class, rule and what each back end does with an operator."""
    ops = [op for op in sorted(api.ops(), key=lambda op: op.name) if op.op_class != "RASTER"]
    backends = sorted({"cpu"}.union(*(op.claims.split(",") for op in ops if op.claims)))
    rows = (
        (
            _link(op.name),
            op.op_class.lower(),
            _range(op.min_inputs, op.max_inputs),
            _range(op.min_outputs, op.max_outputs),
            f"`{op.rule}`",
            *(_runs_as(op, backend) for backend in backends),
            op.tolerance if op.tolerance == "exact" else f"{op.tolerance} {op.tolerance_value:g}",
        )
        for op in ops
    )
    head = ("operator", "class", "inputs", "outputs", "rule", *backends, "tolerance")
    return _page(
        "Operators",
        "Names, inputs and attributes are ONNX's (default domain), unless a name leads to another page.\n"
        "The class says what an operator becomes:\n"
        "`atomic` one command with a kernel, `transform` regions of a raster, `composite` atomics and\n"
        "regions by its rule `we_rule_<rule>` in `engine_c/src/geometry/`. A back end may claim one,\n"
        "and then runs whichever costs less. Tolerances are against a float64 answer: `ulp` counts units in\n"
        "the last place of float32; `bound` is relative to the largest magnitude summed, times 2⁻²⁴ √k for\n"
        "k terms.",
        _table(head, rows),
    )


#: How a back end runs an operator of a class, where it makes no claim.
_RUNS_AS = {"ATOMIC": "kernel", "TRANSFORM": "regions", "COMPOSITE": "rule"}


def _runs_as(op: api.OpInfo, backend: str) -> str:
    way = _RUNS_AS.get(op.op_class, "host")
    return f"claim or {way}" if backend in op.claims.split(",") else way


def http_page() -> str:
    """The route table of the control plane."""
    rows = ((method, f"`{path}`", who, text) for path, method, who, text in sorted(_routes()))
    return _page(
        "HTTP",
        "`/openapi.json` (or `walle-control openapi`) describes every message. Every error has a `Problem`\n"
        "as its body. Operators need the permission that is named, in the scenario concerned:\n"
        "[Operators](../guide/operators.md).",
        _table(("method", "path", "who", "what it does"), rows),
    )


def metrics_page() -> str:
    """What Prometheus may ask of the control plane."""
    rows = ((f"`{m.name}`", m.kind, ", ".join(m.labels) or "-", m.doc) for m in METRICS)
    return _page(
        "Metrics",
        "What `GET /metrics` of `walle-control serve` tells Prometheus, besides the usual `process_...` of\n"
        "the operating system. [Monitoring](../guide/monitoring.md) says how to ask, and what to look at.",
        _table(("metric", "kind", "labels", "what it is"), rows),
    )


def cli_page() -> str:
    """Every command of the three programs."""
    parts = []
    for parser in parsers():
        rows = ((f"`{command.prog}`", command.description or "") for command in commands(parser))
        parts.append(
            f"## {parser.prog}\n\n{parser.description}\n\n" + _table(("command", "what it does"), rows)
        )
    return _page("Commands", "Each has `--help` with an example.", "\n".join(parts))


def parsers() -> tuple[argparse.ArgumentParser, ...]:
    """The command lines of the three programs."""
    return agent_cli.build_parser(), control_parser(), engine_cli.build_parser()


def commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Every command below a parser that has no commands of its own."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for group in groups:
        for command in group.choices.values():
            yield from commands(command)
    if not groups:
        yield parser


def _routes() -> list[tuple[str, str, str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        setup.init(Path(folder), SystemClock())
        store = Store.open(Path(folder))
        try:
            app = create_app(ControlConfig(), clock=SystemClock(), store=store)
        finally:
            store.close()
    tunnels = [
        (route.path, "WebSocket", _who(route.path, None), "Takes features in, each exactly once.")
        for route in app.routes
        if isinstance(route, WebSocketRoute)
    ]
    return tunnels + [
        (o.path, o.method, _who(o.path, o.door), o.summary.replace("``", "`")) for o in operations(app.routes)
    ]


def errors_page() -> str:
    """The error tree, and the codes that are not a class's own."""
    rows = (
        (
            f"`{kind.code}`",
            f"{'· ' * (len(kind.__mro__) - len(WalleError.__mro__))}{kind.__name__}",
            str(status_of_kind(kind)),
            "yes" if kind.retryable else "no",
            (kind.__doc__ or "").split("\n")[0].rstrip("."),
            *_cure(kind.code),
        )
        for kind in _by_code(error_tree(WalleError))
    )
    special = ((f"`{code}`", CURES[code].says, *_cure(code)) for code in sorted(SPECIAL_CODES))
    return _page(
        "Errors",
        "Everything raised on purpose is one of these. The type says who has to act, `code` stays the\n"
        "same over releases (it is in HTTP bodies, reports and logs), and the message names the\n"
        "thing, the reason and, where an operator or an author acts, the next step. What `nobody` acts\n"
        "on heals by itself. Programs end with 2 for `config` and with 1 otherwise.",
        _table(("code", "class", "HTTP", "retried", "what it says", "who acts", "next step"), rows)
        + "\n## Codes within a family\n\n"
        + _table(("code", "what it says", "who acts", "next step"), special),
    )


def _cure(code: str) -> tuple[str, str]:
    """Who acts on a code, and how, for a table."""
    return CURES[code].who, re.sub(r"'([^']+)'", r"`\1`", CURES[code].step)


def _by_code(kinds: Iterable[type[WalleError]]) -> Iterable[type[WalleError]]:
    """One class for each code, the first: what inherits a code, or shares it, is no other error."""
    first: dict[str, type[WalleError]] = {}
    for kind in kinds:
        first.setdefault(kind.code, kind)
    return first.values()


def error_tree(kind: type[WalleError]) -> list[type[WalleError]]:
    """A family of errors, parents first: those that both sides share as they are written, then the others."""
    children = [child for child in kind.__subclasses__() if child.__module__.split(".")[0] in _ROOMS]
    shared = [child for child in children if child.__module__ == WalleError.__module__]
    others = sorted((child for child in children if child not in shared), key=lambda child: child.__name__)
    return [kind, *(each for child in (*shared, *others) for each in error_tree(child))]


def settings_page() -> str:
    """The settings files, which explain every key."""
    files = "\n".join(
        f"## {name}\n\n```toml\n{(CONFIGS / name).read_text()}```\n"
        for name in ("agent.toml", "control.toml")
    )
    return _page(
        "Settings",
        "Every key of both programs with its default. The environment wins over the file (`[link] poll_s`\n"
        "of the agent is `WALLE_AGENT_LINK__POLL_S`, `[server] port` of the control plane\n"
        "`WALLE_CONTROL_SERVER__PORT`), flags win over both.",
        files,
    )


def _who(path: str, door: object) -> str:
    if isinstance(door, Door):
        return f"an operator with `{door.permission}`"
    return next(who for prefix, who in DOORS if path.startswith(prefix))


def _range(least: int, most: int) -> str:
    return str(least) if least == most else f"{least}..{most}" if most < 1024 else f"{least} or more"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)


def _page(title: str, text: str, body: str) -> str:
    return f"# {title}\n\n{NOTE}\n\n{text}\n\n{body}"


if __name__ == "__main__":
    for name, text in pages().items():
        (HERE / name).write_text(text)
