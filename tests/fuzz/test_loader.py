"""Hostile model files: whatever the bytes, the loader answers with a model or a typed error."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from walle_engine import api
from walle_shared.errors import EngineError, ModelError, UnsupportedError

_ROUNDS = 4000


def _graph() -> dict[str, Any]:
    return {
        "opset": 21,
        "name": "small",
        "producer": "test",
        "inputs": [{"name": "x", "dtype": "F32", "shape": ["N", 1, 6, 6]}],
        "outputs": [{"name": "y", "dtype": "F32", "shape": ["N", 3]}],
        "nodes": [
            {"op": "Conv", "name": "c", "inputs": ["x", "w", ""], "outputs": ["h"],
             "attrs": {"pads": [1, 1, 1, 1]}},
            {"op": "MaxPool", "name": "p", "inputs": ["h"], "outputs": ["q"],
             "attrs": {"kernel_shape": [2, 2], "strides": [2, 2]}},
            {"op": "Flatten", "name": "f", "inputs": ["q"], "outputs": ["r"], "attrs": {"axis": 1}},
            {"op": "LeakyRelu", "name": "l", "inputs": ["r"], "outputs": ["s"], "attrs": {"alpha": 0.1}},
            {"op": "MatMul", "name": "m", "inputs": ["s", "v"], "outputs": ["y"], "attrs": {}},
        ],
    }  # fmt: skip


def _weights() -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(3)
    return {
        "w": rng.standard_normal((2, 1, 3, 3)).astype(np.float32),
        "v": rng.standard_normal((18, 3)).astype(np.float32),
    }


def _body(read: str = "s") -> dict[str, Any]:
    """A loop body ``s -> s`` that reads one more name."""
    return {
        "name": "body",
        "inputs": [{"name": "i"}, {"name": "c"}, {"name": "s"}],
        "outputs": [{"name": "c2"}, {"name": "s2"}],
        "nodes": [
            {"op": "Identity", "name": "1", "inputs": ["c"], "outputs": ["c2"], "attrs": {}},
            {"op": "Add", "name": "2", "inputs": ["s", read], "outputs": ["s2"], "attrs": {}},
        ],
    }


def _loop(graph: dict[str, Any], body: dict[str, Any]) -> None:
    """Put a loop before the output."""
    graph["nodes"][-1]["outputs"] = ["before"]
    loop = {"op": "Loop", "name": "loop", "inputs": ["", "", "before"], "outputs": ["y"]}
    graph["nodes"].append({**loop, "attrs": {"body": {"graph": body}}})


def _nested(depth: int) -> dict[str, Any]:
    body = _body()
    for _ in range(depth):
        outer: dict[str, Any] = {**_body(), "nodes": _body()["nodes"][:1]}
        loop = {"op": "Loop", "name": "", "inputs": ["", "c", "s"], "outputs": ["s2"]}
        outer["nodes"].append({**loop, "attrs": {"body": {"graph": body}}})
        body = outer
    return body


def _header() -> tuple[dict[str, Any], bytes]:
    header: dict[str, Any] = {"__metadata__": {"walle.format": "1", "walle.graph": json.dumps(_graph())}}
    data = b""
    for i, (name, value) in enumerate(_weights().items()):
        raw = value.tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": value.shape,
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
        pad = -len(data) % 64
        if pad:
            header[f"walle.pad.{i}"] = {
                "dtype": "U8",
                "shape": [pad],
                "data_offsets": [len(data), len(data) + pad],
            }
            data += bytes(pad)
    return header, data


def _pack(header: dict[str, Any] | str, data: bytes) -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    text += b" " * (-(len(text) + 8) % 64)
    return struct.pack("<Q", len(text)) + text + data


def _valid() -> bytes:
    return _pack(*_header())


def _run(model: api.Model) -> None:
    session = model.session(max_trips=50, memory_limit=1 << 26)
    session.run({v.name: np.zeros([2 if isinstance(d, str) else d for d in v.shape or ()], np.float32)
                 for v in model.inputs})  # fmt: skip


def test_the_valid_file_loads_and_runs() -> None:
    model = api.load_bytes(_valid())
    assert model.outputs[0].shape == ("N", 3)
    x = np.arange(72, dtype=np.float32).reshape(2, 1, 6, 6)
    assert np.asarray(model.session().run({"x": x})["y"]).shape == (2, 3)


def test_every_truncation_is_refused() -> None:
    whole = _valid()
    for length in range(0, len(whole), 7):
        with pytest.raises(ModelError):
            api.load_bytes(whole[:length])


def _changed(change: Any) -> bytes:
    header, data = _header()
    graph = _graph()
    data = change(header, graph, data) or data
    header["__metadata__"]["walle.graph"] = json.dumps(graph)
    return _pack(header, data)


_LIES: dict[str, tuple[Any, type[EngineError]]] = {
    "offsets past the end": (lambda h, g, d: h["v"].update(data_offsets=[128, 1 << 40]), ModelError),
    "offsets backwards": (lambda h, g, d: h["v"].update(data_offsets=[128, 64]), ModelError),
    "negative offset": (lambda h, g, d: h["w"].update(data_offsets=[-64, 8]), ModelError),
    "overlap": (lambda h, g, d: h["v"].update(data_offsets=[64, 64 + 216]), ModelError),
    "hole": (lambda h, g, d: h.pop("walle.pad.0") and None, ModelError),
    "bytes after the end": (lambda h, g, d: d + b"\0" * 64, ModelError),
    "shape against bytes": (lambda h, g, d: h["v"].update(shape=[18, 4]), ModelError),
    "overflowing shape": (lambda h, g, d: h["v"].update(shape=[1 << 40, 1 << 40]), ModelError),
    "unknown dtype": (lambda h, g, d: h["v"].update(dtype="F8"), UnsupportedError),
    "rank 9": (lambda h, g, d: h["v"].update(shape=[1] * 9), ModelError),
    "fractional dim": (lambda h, g, d: h["v"].update(shape=[18.5, 3]), ModelError),
    "future format": (lambda h, g, d: h["__metadata__"].update({"walle.format": "2"}), UnsupportedError),
    "no metadata format": (lambda h, g, d: h["__metadata__"].pop("walle.format") and None, ModelError),
    "cycle": (lambda h, g, d: g["nodes"][0].update(inputs=["s", "w"]), ModelError),
    "name twice": (lambda h, g, d: g["nodes"][0].update(outputs=["q"]), ModelError),
    "unknown op": (lambda h, g, d: g["nodes"][0].update(op="Warp"), UnsupportedError),
    "undefined input": (lambda h, g, d: g["nodes"][4].update(inputs=["s", "nothing"]), ModelError),
    "undefined output": (lambda h, g, d: g["outputs"][0].update(name="nothing"), ModelError),
    "no outputs": (lambda h, g, d: g.update(outputs=[]), ModelError),
    "nodes no list": (lambda h, g, d: g.update(nodes={}), ModelError),
    "body without a name": (lambda h, g, d: g["nodes"][0]["attrs"].update(body={"graph": {}}), ModelError),
    "body no object": (lambda h, g, d: g["nodes"][0]["attrs"].update(body={"graph": 3}), ModelError),
    "body where none goes": (
        lambda h, g, d: g["nodes"][0]["attrs"].update(body={"graph": _body()}),
        UnsupportedError,
    ),
    "body without outputs": (lambda h, g, d: _loop(g, {**_body(), "outputs": []}), ModelError),
    "body that reads what is nowhere": (lambda h, g, d: _loop(g, _body("nothing")), ModelError),
    "body that reads what comes of it": (lambda h, g, d: _loop(g, _body("y")), ModelError),
    "bodies too deep": (lambda h, g, d: _loop(g, _nested(40)), ModelError),
    "unknown kind": (lambda h, g, d: g["inputs"][0].update(kind="map"), ModelError),
    "kind no text": (lambda h, g, d: g["inputs"][0].update(kind=7), ModelError),
    "mixed list": (lambda h, g, d: g["nodes"][0]["attrs"].update(pads=[1, "a"]), ModelError),
    "input of rank 9": (lambda h, g, d: g["inputs"][0].update(shape=[1] * 9), ModelError),
}


@pytest.mark.parametrize("lie", _LIES)
def test_lies_are_refused_with_the_right_error(lie: str) -> None:
    change, error = _LIES[lie]
    with pytest.raises(error):
        api.load_bytes(_changed(change))


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\0" * 7, struct.pack("<Q", 1 << 63) + b"{}", struct.pack("<Q", 56) + b"{" * 56,
        _pack("[" * 5000, b""), _pack('{"a":1,"a":2}', b""), _pack('{"a":"\\ud800"}', b""),
        _pack('{"a":1e}', b""),
        _pack('{"a":"\x01"}', b""), _pack("{} {}", b""), _pack('{"__metadata__":[]}', b""), _pack("01", b""),
    ],
)  # fmt: skip
def test_broken_headers_are_refused(raw: bytes) -> None:
    with pytest.raises(ModelError):
        api.load_bytes(raw)


def test_a_wrong_stated_output_is_found_when_preparing() -> None:
    model = api.load_bytes(_changed(lambda h, g, d: g["outputs"][0].update(shape=["N", 4])))
    with pytest.raises(ModelError, match="'y' has another type or shape"):
        _run(model)


def _with_a_loop() -> bytes:
    """A file whose graph ends in a loop of three passes, with sequences and shapes from data."""

    def change(header: Any, graph: dict[str, Any], data: bytes) -> None:
        _loop(graph, _body())
        graph["nodes"][-1]["inputs"] = ["trips", "", "before"]
        more = [
            {"op": "Constant", "name": "n", "inputs": [], "outputs": ["trips"], "attrs": {"value_int": 3}},
            {"op": "NonZero", "name": "z", "inputs": ["v"], "outputs": ["places"], "attrs": {}},
            {"op": "SplitToSequence", "name": "q", "inputs": ["places"], "outputs": ["parts"],
             "attrs": {"axis": 1}},
            {"op": "ConcatFromSequence", "name": "j", "inputs": ["parts"], "outputs": ["joined"],
             "attrs": {"axis": 1}},
            {"op": "Unique", "name": "u", "inputs": ["joined"], "outputs": ["kinds"], "attrs": {}},
        ]  # fmt: skip
        graph["nodes"] += more

    return _changed(change)


@pytest.mark.slow
@pytest.mark.parametrize("make", [_valid, _with_a_loop])
def test_random_mutations_never_crash(make: Callable[[], bytes]) -> None:
    rng = random.Random(11)
    whole = make()
    _run(api.load_bytes(whole))
    header_size = len(whole) - len(_header()[1])
    survived = 0
    for _ in range(_ROUNDS):
        mutant = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(header_size) if rng.random() < 0.9 else rng.randrange(len(mutant))
            kind = rng.randrange(3)
            if kind == 0:
                mutant[at] = rng.randrange(256)
            elif kind == 1:
                mutant[at : at + 1] = rng.choice([b"9", b"-", b"0", b"]", b'"', b"1e9"])[:1]
            else:
                other = rng.randrange(header_size)
                length = rng.randrange(1, 12)
                mutant[at : at + length] = mutant[other : other + length]
        try:
            _run(api.load_bytes(bytes(mutant)))
            survived += 1
        except EngineError:
            pass
    assert survived > _ROUNDS // 100  # weights and names may change freely, so some mutants are valid
