"""Models nobody should write: valid ones spoilt at random, and graphs made up at random.

``python tests/fuzz/hostile_models.py convert|build --seed N --seconds S --rounds R --cases FOLDER`` tries one
after another: a model may be converted, prepared and run, or refused with a ``WalleError``; whatever else
comes of it ends the program. It limits its own memory and the time of each try, and writes every model to
``FOLDER`` before it tries it, so that one that crashes the process is there afterwards.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import math
import random
import resource
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.defs
import onnx.parser
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from walle_engine import api, wmodel
from walle_engine.convert import convert
from walle_engine.samples import random_array
from walle_shared.errors import WalleError

MEMORY_LIMIT_BYTES = 4 << 30
TRY_LIMIT_S = 60
RUN_MEMORY_BYTES = 1 << 26
RUN_MAX_TRIPS = 50
EXPORTS = Path(__file__).parents[1] / "conformance/models/torch"

NUMBERS = (
    -(2**63),
    -(2**31),
    -1000,
    -2,
    -1,
    0,
    1,
    2,
    3,
    5,
    7,
    100,
    2**20,
    2**31 - 1,
    2**40,
    2**62,
    2**63 - 1,
)
REALS = (math.nan, math.inf, -math.inf, -1.0, 0.0, 1e-30, 0.5, 3.0, 1e30)
NAMES = ("", "x", "y", "nothing", "a" * 300, "../../x", "\x00", "é", "walle.pad.0", "__metadata__")
PLACES = ("/etc/hostname", "../../../../etc/hostname", "nowhere.bin", "", ".", "/dev/zero", "module.onnx")

TEXTS = {
    "branches": """(bool c, float[N, 3] x) => (float[N, 3] y) { a = Relu(x)
        y = If (c) <then_branch = then () => (float[N, 3] t) { t = Neg(a) },
                    else_branch = other () => (float[N, 3] e) { e = Abs(a) }> }""",
    "loop": """(float[3] x) => (float[3] y, float[k, 3] z) {
        m = Constant <value_int = 4> () \n c = Cast <to = 9> (m)
        y, z = Loop (m, c, x) <body = body (int64 i, bool go, float[3] s)
            => (bool go2, float[3] s2, float[3] out)
            { go2 = Identity(go) \n s2 = Add(s, s) \n out = Neg(s) }> }""",
    "shapes": """(float[N, S, 16] x) => (float[a, b, c, d] y) { s = Shape(x)
        i = Constant <value_int = 0> () \n j = Constant <value_ints = [0]> ()
        n = Gather(s, i) \n n1 = Unsqueeze(n, j) \n k = Constant <value_ints = [-1, 4, 4]> ()
        to = Concat <axis = 0> (n1, k) \n r = Reshape(x, to) \n y = Transpose <perm = [0, 2, 1, 3]> (r) }""",
    "folded": """(float[4] x) => (float[2, 4] y) { a = Constant <value_ints = [2, 4]> ()
        b = ConstantOfShape <value = float[1] {2.0}> (a) \n c = Expand(b, a)
        r = Constant <value_ints = [1, 1]> () \n t = Tile(c, r) \n y = Add(x, t) }""",
    "data": """(float[4, 4] x) => (int64[2, n] y, float[m] u) { k = Constant <value_ints = [2]> ()
        v, i = TopK(x, k) \n u = Unique(v) \n s = SplitToSequence <axis = 0> (x)
        z = Constant <value_int = 1> () \n e = SequenceAt(s, z) \n y = NonZero(e) }""",
    "sampled": """(float[1, 2, 4, 4] x) => (float[1, 2, a, b] y) {
        n = Constant <value_ints = [1, 2, 6, 5]> () \n r = Resize <mode = "cubic"> (x, , , n)
        p = Constant <value_ints = [0, 0, 1, 1, 0, 0, 1, 1]> () \n q = Pad(r, p)
        s = Constant <value_ints = [0]> () \n e = Constant <value_ints = [9]> () \n t = Slice(q, s, e)
        y = MaxPool <kernel_shape = [2, 2], pads = [1, 1, 1, 1]> (t) }""",
    "attended": """(float[N, 2, S, 4] q, float[N, 2, T, 4] k, float[N, 2, T, 4] v, float[N, 1, 1, T] m)
        => (float[N, 2, S, 4] y) { t = Transpose <perm = [0, 1, 3, 2]> (k) \n s = MatMul(q, t)
        c = Constant <value_float = 0.5> () \n d = Mul(s, c) \n a = Add(d, m)
        w = Softmax(a) \n y = MatMul(w, v) }""",
    "function": """(float[N] x) => (float[N] y) { y = own.Twice(x) }
        <domain: "own", opset_import: ["" : 21]> Twice (a) => (b) { c = Add(a, a) \n b = Identity(c) }""",
}


def seeds() -> list[onnx.ModelProto]:
    """Valid models: each of ``TEXTS``, and small networks as PyTorch exports them."""
    header = '<ir_version: 10, opset_import: ["" : 21, "own" : 1]>'
    written = [onnx.parser.parse_model(f"{header} {name} {text}") for name, text in TEXTS.items()]
    return [*written, *(onnx.load(path) for path in sorted(EXPORTS.glob("*.onnx")))]


# ---- Spoiling a model


def spoil_bytes(rng: random.Random, data: bytes) -> bytes:
    """Change, insert, drop or copy a few bytes."""
    spoilt = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at, length = rng.randrange(len(spoilt)), rng.randint(1, 16)
        kind = rng.randrange(4)
        if kind == 0:
            spoilt[at] = rng.randrange(256)
        elif kind == 1:
            spoilt[at:at] = rng.randbytes(length)
        elif kind == 2:
            del spoilt[at : at + length]
        else:
            other = rng.randrange(len(spoilt))
            spoilt[at : at + length] = spoilt[other : other + length]
    return bytes(spoilt)


type Change = Callable[[random.Random, onnx.ModelProto], None]


def _graph(rng: random.Random, model: onnx.ModelProto) -> onnx.GraphProto:
    """The model's graph, or a body in it."""
    graphs = [model.graph]
    for node in model.graph.node:
        graphs += [attribute.g for attribute in node.attribute if attribute.type == AttributeProto.GRAPH]
    return rng.choice(graphs)


def _node(rng: random.Random, model: onnx.ModelProto) -> onnx.NodeProto:
    nodes = _graph(rng, model).node
    return rng.choice(nodes) if nodes else model.graph.node.add()


def _wire(rng: random.Random, model: onnx.ModelProto) -> None:
    """Let a node read or write another value: cycles, missing ones, doubled ones."""
    node = _node(rng, model)
    names = rng.choice((node.input, node.output))
    known = [name for other in model.graph.node for name in (*other.input, *other.output)]
    if names:
        names[rng.randrange(len(names))] = rng.choice((*known, *NAMES))
    if rng.random() < 0.3:
        names.append(rng.choice((*known, *NAMES)))


def _dim(rng: random.Random, model: onnx.ModelProto) -> None:
    """Spoil a dim of a value or of a constant."""
    graph = _graph(rng, model)
    infos = [*graph.input, *graph.output, *graph.value_info]
    shapes = [info.type.tensor_type.shape.dim for info in infos if info.type.tensor_type.shape.dim]
    if graph.initializer and (not shapes or rng.random() < 0.5):
        dims = rng.choice(graph.initializer).dims
        if dims:
            dims[rng.randrange(len(dims))] = rng.choice(NUMBERS)
    elif shapes:
        dim = rng.choice(rng.choice(shapes))
        if rng.random() < 0.3:
            dim.dim_param = rng.choice(("N", "S", *NAMES))
        else:
            dim.dim_value = rng.choice(NUMBERS)


def _number(rng: random.Random, model: onnx.ModelProto) -> None:
    """Put a number into a constant that a shape, an axis or a size may come from."""
    graph = _graph(rng, model)
    tensors = [tensor for tensor in graph.initializer if tensor.data_type == TensorProto.INT64]
    tensors += [a.t for node in graph.node for a in node.attribute if a.type == AttributeProto.TENSOR]
    if not tensors:
        return _attribute(rng, model)
    tensor = rng.choice(tensors)
    array = np.array(numpy_helper.to_array(tensor))
    if array.size and array.dtype.kind in "if":
        array.reshape(-1)[rng.randrange(array.size)] = rng.choice(
            NUMBERS if array.dtype.kind == "i" else REALS
        )
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return None


def _attribute(rng: random.Random, model: onnx.ModelProto) -> None:
    """Spoil an attribute: its value, its type, its name."""
    nodes = [node for node in _graph(rng, model).node if node.attribute]
    if not nodes:
        return
    node = rng.choice(nodes)
    attribute = rng.choice(node.attribute)
    name, kind = attribute.name, rng.randrange(6)
    if kind == 0:
        attribute.CopyFrom(helper.make_attribute(name, rng.choice(NUMBERS)))
    elif kind == 1:
        attribute.CopyFrom(helper.make_attribute(name, rng.choice(REALS)))
    elif kind == 2:
        numbers = [rng.choice(NUMBERS) for _ in range(rng.choice((1, 2, 4, 20)))]
        attribute.CopyFrom(helper.make_attribute(name, numbers))
    elif kind == 3:
        attribute.CopyFrom(helper.make_attribute(name, rng.choice(NAMES)))
    elif kind == 4:
        attribute.type = rng.randrange(15)
    else:
        attribute.name = rng.choice(("axis", "to", "perm", *NAMES))


def _operator(rng: random.Random, model: onnx.ModelProto) -> None:
    """Make a node another operator, or of another domain."""
    node = _node(rng, model)
    if rng.random() < 0.8:
        node.op_type = rng.choice(OPERATORS)
    else:
        node.domain = rng.choice(("own", "com.microsoft", "ai.onnx.ml", *NAMES))


def _nodes(rng: random.Random, model: onnx.ModelProto) -> None:
    """Drop, double or shuffle nodes."""
    nodes = _graph(rng, model).node
    if not nodes:
        return
    kind, at = rng.randrange(3), rng.randrange(len(nodes))
    if kind == 0:
        del nodes[at]
    elif kind == 1:
        nodes.append(nodes[at])
    else:
        shuffled = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        rng.shuffle(shuffled)
        del nodes[:]
        nodes.extend(shuffled)


def _opset(rng: random.Random, model: onnx.ModelProto) -> None:
    """Claim another version, or none, or the same domain twice."""
    if rng.random() < 0.3:
        model.opset_import.append(helper.make_opsetid("", rng.choice((1, 7, 13, 28))))
    elif model.opset_import:
        rng.choice(model.opset_import).version = rng.choice((*range(30), *NUMBERS))


def _tensor(rng: random.Random, model: onnx.ModelProto) -> None:
    """Spoil a constant: its type, its bytes, its name, where its data are."""
    initializers = _graph(rng, model).initializer
    if not initializers:
        return
    tensor, kind = rng.choice(initializers), rng.randrange(5)
    if kind == 0:
        tensor.data_type = rng.randrange(30)
    elif kind == 1:
        tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data) + 1)]
    elif kind == 2:
        tensor.name = rng.choice((*NAMES, *(other.name for other in initializers)))
    elif kind == 3:
        initializers.append(tensor)
    else:
        tensor.data_location = TensorProto.EXTERNAL
        tensor.ClearField("raw_data")
        entries = {
            "location": rng.choice(PLACES),
            "offset": rng.choice(NUMBERS),
            "length": rng.choice(NUMBERS),
        }
        for key in rng.sample(list(entries), rng.randint(1, 3)):
            tensor.external_data.add(key=key, value=str(entries[key]))


def _ends(rng: random.Random, model: onnx.ModelProto) -> None:
    """Spoil inputs and outputs: none, twice, of another name, kind or type."""
    graph = _graph(rng, model)
    infos, kind = rng.choice((graph.input, graph.output)), rng.randrange(5)
    if not infos or kind == 0:
        infos.add(name=rng.choice(NAMES))
    elif kind == 1:
        del infos[rng.randrange(len(infos))]
    elif kind == 2:
        infos.append(rng.choice(infos))
    elif kind == 3:
        rng.choice(infos).name = rng.choice(NAMES)
    else:
        rng.choice(infos).type.tensor_type.elem_type = rng.randrange(30)


def _deep(rng: random.Random, model: onnx.ModelProto) -> None:
    """Put bodies into bodies."""
    value = helper.make_tensor_value_info("deep", TensorProto.FLOAT, [1])
    constant = helper.make_node("Constant", [], ["deep"], value_floats=[1.0])
    yes = helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True)))
    end = helper.make_graph([constant], "end", [], [value])
    nodes = [constant]
    for level in range(rng.choice((2, 12, 25, 30))):  # protobuf itself allows some thirty
        body = helper.make_graph(nodes, f"level{level}", [], [value])
        nodes = [yes, helper.make_node("If", ["yes"], ["deep"], then_branch=body, else_branch=end)]
    model.graph.node.extend(nodes)
    model.graph.output.append(value)


DTYPES = ("F32", "F32", "F32", "F32", "I64", "BOOL", "U8", "F16", "STRING")
_DOMAINS = ("", "ai.onnx.ml")
OPERATORS = sorted({schema.name for schema in onnx.defs.get_all_schemas() if schema.domain in _DOMAINS})
CHANGES: Sequence[Change] = (
    _wire, _wire, _dim, _dim, _number, _number, _number, _attribute, _attribute, _attribute, _operator,
    _nodes, _opset, _tensor, _tensor, _ends, _deep,
)  # fmt: skip


def spoil(rng: random.Random, model: onnx.ModelProto) -> bytes:
    """A model with one to three changes; of its bytes, one time in four."""
    if rng.random() < 0.25:
        return spoil_bytes(rng, model.SerializeToString())
    spoilt = onnx.ModelProto()
    spoilt.CopyFrom(model)
    for _ in range(rng.randint(1, 3)):
        # What a change before has left may be too odd for this one.
        with contextlib.suppress(Exception):
            rng.choice(CHANGES)(rng, spoilt)
    return spoilt.SerializeToString()


# ---- Making up a graph


def random_graph(rng: random.Random) -> tuple[wmodel.Graph, dict[str, np.ndarray[Any, Any]]]:
    """Some nodes of any operators, mostly wired to what is there, with attributes of the right names."""
    array = np.random.default_rng(rng.getrandbits(32))
    ranks = (0, 1, 2, 2, 3, 3, 4, 4)
    shapes = (tuple(_likely(rng, (1, 2, 3, "N")) for _ in range(rng.choice(ranks))) for _ in range(3))
    inputs = [wmodel.Value(f"x{i}", rng.choice(DTYPES), shape) for i, shape in enumerate(shapes)]
    weights: dict[str, np.ndarray[Any, Any]] = {
        "w0": array.standard_normal((2, 3)).astype(np.float32),
        "w1": np.array([_likely(rng, (0, 1, 2, 3, -1)) for _ in range(rng.choice((1, 2, 4)))]),
        "w2": np.array(_likely(rng, (0, 1, 2))),
    }
    known = [*(value.name for value in inputs), *weights]
    nodes: list[wmodel.Node] = []
    infos = api.ops()
    for i in range(rng.randint(1, 8)):
        info = rng.choice(infos)
        count = rng.randint(info.min_inputs, max(info.min_inputs, min(info.max_inputs, info.min_inputs + 3)))
        read = tuple(rng.choice(known) if rng.random() < 0.98 else rng.choice(NAMES) for _ in range(count))
        made = tuple(f"v{i}.{j}" for j in range(rng.randint(1, min(info.max_outputs, 3) or 1)))
        nodes.append(
            wmodel.Node(
                info.name,
                f"n{i}" if rng.random() < 0.95 else rng.choice(NAMES),
                read,
                made,
                _attributes(rng, info.name),
            )
        )
        known += made
    outputs = tuple(wmodel.Value(name, "", None) for name in rng.sample(known, min(len(known), 2)))
    return wmodel.Graph("random", tuple(inputs), outputs, tuple(nodes)), weights


def _likely(rng: random.Random, usual: Sequence[Any]) -> Any:
    """A usual value, or, one time in twenty, one nobody would write."""
    return rng.choice(usual) if rng.random() < 0.95 else rng.choice(NUMBERS)


def _attributes(rng: random.Random, name: str) -> dict[str, wmodel.Attribute]:
    """Some of an operator's attributes, of their own types most of the time."""
    attributes: dict[str, wmodel.Attribute] = {}
    domain = next((domain for domain in _DOMAINS if onnx.defs.has(name, domain)), None)
    if domain is None:
        return attributes
    kinds = onnx.defs.OpSchema.AttrType
    for key, attribute in onnx.defs.get_schema(name, domain).attributes.items():
        if rng.random() < 0.7 and not attribute.required:
            continue
        values: dict[Any, Callable[[], wmodel.Attribute]] = {
            kinds.INT: lambda: _likely(rng, (0, 1, 2, -1)),
            kinds.FLOAT: lambda: rng.choice(REALS[3:]),
            kinds.STRING: lambda: rng.choice(("", "linear", "SAME_UPPER", "NOTSET", "ij,jk->ik", *NAMES)),
            kinds.INTS: lambda: [_likely(rng, (0, 1, 2)) for _ in range(rng.choice((0, 1, 2, 4)))],
            kinds.FLOATS: lambda: [rng.choice(REALS[3:]) for _ in range(rng.choice((0, 1, 2, 4)))],
            kinds.STRINGS: lambda: [rng.choice(NAMES) for _ in range(rng.choice((0, 1, 2)))],
            kinds.TENSOR: lambda: {"tensor": rng.choice(("w0", "w1", "nothing"))},
            kinds.GRAPH: lambda: random_graph(rng)[0],
        }
        kind = attribute.type if rng.random() < 0.98 else rng.choice(list(values))
        if kind in values:
            attributes[key] = values[kind]()
    return attributes


# ---- Trying


def try_run(model: api.Model, inputs: Sequence[wmodel.Value]) -> None:
    """Run a model on small random inputs under limits."""
    rng = np.random.default_rng(0)
    feeds = {
        value.name: [] if value.kind != "tensor" else random_array(_small(value), {}, 2, rng)
        for value in inputs
    }
    model.session(max_trips=RUN_MAX_TRIPS, memory_limit=RUN_MEMORY_BYTES).run(feeds)


def _small(value: wmodel.Value) -> wmodel.Value:
    """An input with dims that a test can afford; the engine refuses those that are not its own."""
    shape = tuple(d if isinstance(d, str) or 0 <= d <= 64 else 3 for d in value.shape or ())
    return wmodel.Value(value.name, value.dtype, shape)


def try_convert(data: bytes, folder: Path, optimise: bool) -> None:
    """Convert, load and run the bytes of an ONNX file."""
    source, target = folder / "case.onnx", folder / "case.wmodel"
    source.write_bytes(data)
    convert(source, target, check=False, optimise=optimise)
    try_run(api.load(target), wmodel.read(target).graph.inputs)


def try_build(graph: wmodel.Graph, weights: dict[str, np.ndarray[Any, Any]], folder: Path) -> None:
    """Load and run a graph."""
    stored = {name: wmodel.weight_from_array(array) for name, array in weights.items()}
    data = wmodel.to_bytes(graph, stored)
    (folder / "case.wmodel").write_bytes(data)
    try_run(api.load_bytes(data), graph.inputs)


def tries(mode: str, seed: int, folder: Path) -> Iterator[Callable[[], None]]:
    """Yield what to try, for ever."""
    models = seeds() if mode == "convert" else []
    for round_ in range(1 << 62):
        rng = random.Random(f"{seed}.{round_}")
        if mode == "convert":
            data, optimise = spoil(rng, rng.choice(models)), rng.random() < 0.7
            yield lambda data=data, optimise=optimise: try_convert(data, folder, optimise)  # type: ignore[misc]
        else:
            graph, weights = random_graph(rng)
            yield lambda graph=graph, weights=weights: try_build(graph, weights, folder)  # type: ignore[misc]


def main() -> int:
    """Try until rounds or seconds are over; 0 if nothing but results and typed errors came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mode", choices=["convert", "build"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=1 << 62)
    parser.add_argument("--seconds", type=float, default=math.inf)
    parser.add_argument("--cases", type=Path, required=True)
    args = parser.parse_args()
    args.cases.mkdir(parents=True, exist_ok=True)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    warnings.simplefilter("error")
    outcomes: Counter[str] = Counter()
    slowest_s, end = 0.0, time.monotonic() + args.seconds
    for round_, attempt in enumerate(tries(args.mode, args.seed, args.cases)):
        if round_ >= args.rounds or time.monotonic() >= end:
            break
        faulthandler.dump_traceback_later(TRY_LIMIT_S, exit=True)
        started = time.monotonic()
        try:
            attempt()
            outcomes["accepted"] += 1
        except WalleError as error:
            outcomes[type(error).__name__] += 1
        except BaseException:  # noqa: BLE001 - whatever else there is, it is a finding
            traceback.print_exc()
            print(f"round {round_} of seed {args.seed}: see {args.cases}", file=sys.stderr)
            return 3
        finally:
            faulthandler.cancel_dump_traceback_later()
        slowest_s = max(slowest_s, time.monotonic() - started)
    print(json.dumps({"outcomes": outcomes, "slowest_s": slowest_s, "peak_bytes": _peak_bytes()}))
    return 0


def _peak_bytes() -> int:
    """This program's own peak; what ``getrusage`` tells begins with that of who started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
    return int(peak) * 1024


if __name__ == "__main__":
    sys.exit(main())
