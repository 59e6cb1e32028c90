"""Every operator that runs outside of programs, in small graphs, against the meaning ONNX gives it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from walle_engine import api
from walle_shared.errors import EngineError

Array = np.ndarray[Any, Any]
Build = Callable[[api.GraphBuilder], None]


def _f(*values: float) -> Array:
    return np.array(values, np.float32)


def _i(*values: int) -> Array:
    return np.array(values, np.int64)


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, list) else value and value.tolist()


@dataclass(frozen=True)
class Case:
    """``op`` of ``inputs`` gives ``expected``: nested lists, ``None`` for an optional without a value."""

    op: str
    inputs: Sequence[Any]
    expected: Sequence[Any]
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.op}-{'-'.join(f'{k}={v}' for k, v in self.attrs.items() if isinstance(v, (int, str)))}"


_DTYPES = {"float32": "F32", "float64": "F64", "int32": "I32", "int64": "I64", "bool": "BOOL", "uint8": "U8"}


def _declare(builder: api.GraphBuilder, name: str, value: Any) -> None:
    if value is None:
        builder.input(name, kind="optional")
    elif isinstance(value, list):
        builder.input(name, kind="sequence")
    elif value.dtype.kind in "OU":
        builder.input(name, "STRING", value.shape)
    else:
        builder.input(name, _DTYPES[str(value.dtype)], value.shape)


def _run(case: Case, attrs: Mapping[str, Any], **settings: Any) -> list[Any]:
    builder = api.GraphBuilder(case.op)
    names = ["" if value is ... else f"x{i}" for i, value in enumerate(case.inputs)]
    given = {name: value for name, value in zip(names, case.inputs, strict=True) if name}
    for name, value in given.items():
        _declare(builder, name, value)
    outputs = [f"y{i}" for i in range(len(case.expected))]
    arrays = {name: value for name, value in attrs.items() if isinstance(value, np.ndarray)}
    for name, value in arrays.items():
        builder.weight(name, value)
    given_attrs = {**attrs, **{name: f"@{name}" for name in arrays}}
    builder.node(case.op, names, outputs, name="node", **given_attrs)
    for name in outputs:
        builder.output(name)
    results = builder.finish().session(**settings).run(given)
    return [_plain(results[name]) for name in outputs]


def _body(
    inputs: Sequence[str], nodes: Sequence[tuple[str, list[str], list[str]]], outputs: Sequence[str]
) -> Build:
    def build(body: api.GraphBuilder) -> None:
        for name in inputs:
            body.input(name)
        for op, reads, writes in nodes:
            body.node(op, reads, writes, name=f"{op}.{writes[0]}")
        for name in outputs:
            body.output(name)

    return build


def _texts(*texts: str) -> Array:
    return np.array(texts, object)


_ADDING = _body(
    ["i", "c", "s"],
    [("Add", ["s", "s"], ["d"]), ("Identity", ["c"], ["c2"]), ("Neg", ["d"], ["n"])],
    ["c2", "d", "n"],
)
_SUMMING = _body(["s", "x"], [("Add", ["s", "x"], ["t"]), ("Identity", ["t"], ["u"])], ["t", "u"])
_BOXES = np.array([[[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, 10, 1, 11], [0, 0, 1, 1]]], np.float32)
_SCORES = np.array([[[0.9, 0.75, 0.6, 0.95]]], np.float32)
_GRAMS = {
    "min_gram_length": 1,
    "max_gram_length": 2,
    "ngram_counts": [0, 2],
    "ngram_indexes": [0, 1, 3],
    "pool_int64s": [5, 6, 5, 6],
}

_CASES = [
    Case("NonZero", [np.array([[1, 0], [1, 1]])], [[[0, 1, 1], [0, 0, 1]]]),
    Case("NonZero", [_f(0, 0)], [[[]]]),
    Case("NonMaxSuppression", [_BOXES, _SCORES, _i(3), _f(0.5)], [[[0, 0, 3], [0, 0, 2]]]),
    Case("NonMaxSuppression", [_BOXES, _SCORES, _i(3), _f(0.5), _f(0.7)], [[[0, 0, 3]]]),
    Case("NonMaxSuppression", [_BOXES, _SCORES], [[]]),
    Case("Unique", [_f(3, 1, 3, 2)], [[1, 2, 3], [1, 3, 0], [2, 0, 2, 1], [1, 1, 2]]),
    Case("Unique", [_i(3, 1, 3, 2)], [[3, 1, 2], [0, 1, 3], [0, 1, 0, 2], [2, 1, 1]], {"sorted": 0}),
    Case("Unique", [np.array([[1, 2, 1], [0, 5, 0]])], [[[1, 2], [0, 5]]], {"axis": 1}),
    Case("Compress", [np.arange(6).reshape(3, 2), np.array([False, True, True])], [[[2, 3], [4, 5]]],
         {"axis": 0}),
    Case("Compress", [np.arange(6).reshape(3, 2), np.array([False, True, True])], [[1, 2]]),
    Case("SequenceConstruct", [_f(1), _f(2, 3)], [[[1], [2, 3]]]),
    Case("SequenceEmpty", [], [[]], {"dtype": "F32"}),
    Case("SequenceInsert", [[_f(1), _f(2)], _f(3), _i(1).reshape(())], [[[1], [3], [2]]]),
    Case("SequenceInsert", [[_f(1)], _f(3)], [[[1], [3]]]),
    Case("SequenceErase", [[_f(1), _f(2)], _i(-2).reshape(())], [[[2]]]),
    Case("SequenceErase", [[_f(1), _f(2)]], [[[1]]]),
    Case("SequenceAt", [[_f(1), _f(2)], _i(-1).reshape(())], [[2]]),
    Case("SequenceLength", [[_f(1), _f(2)]], [2]),
    Case("SplitToSequence", [np.arange(5)], [[[0], [1], [2], [3], [4]]]),
    Case("SplitToSequence", [np.arange(4).reshape(2, 2)], [[[0, 2], [1, 3]]], {"axis": 1, "keepdims": 0}),
    Case("SplitToSequence", [np.arange(5), _i(2).reshape(())], [[[0, 1], [2, 3], [4]]]),
    Case("SplitToSequence", [np.arange(4).reshape(2, 2), _i(0, 2)], [[[[], []], [[0, 1], [2, 3]]]],
         {"axis": 1}),
    Case("ConcatFromSequence", [[_f(1), _f(2, 3)]], [[1, 2, 3]], {"axis": 0}),
    Case("ConcatFromSequence", [[_f(1, 2), _f(3, 4)]], [[[1, 3], [2, 4]]], {"axis": -1, "new_axis": 1}),
    Case("Optional", [_f(1)], [[1]]),
    Case("Optional", [], [None]),
    Case("OptionalGetElement", [_f(1)], [[1]]),
    Case("OptionalHasElement", [None], [False]),
    Case("OptionalHasElement", [[_f(1)]], [True]),
    Case("Identity", [[_f(1)]], [[[1]]]),
    Case("StringConcat", [_texts("a", "ß"), _texts("-")], [["a-", "ß-"]]),
    Case("StringSplit", [_texts("a.b", "", "a..b.c")],
         [[["a", "b", ""], ["", "", ""], ["a", "", "b.c"]], [2, 1, 3]],
         {"delimiter": ".", "maxsplit": 2}),
    Case("StringSplit", [_texts(" a  b ", "")], [[["a", "b"], ["", ""]], [2, 0]]),
    Case("StringNormalizer", [_texts("a", "Of", "b")], [["A", "B"]],
         {"case_change_action": "UPPER", "stopwords": ["of"]}),
    Case("StringNormalizer", [_texts("x")], [[""]], {"stopwords": ["x"], "is_case_sensitive": 1}),
    Case("RegexFullMatch", [_texts("ab", "abab", "ba", "")], [[True, True, False, True]],
         {"pattern": "(ab)*"}),
    Case("TfIdfVectorizer", [_i(5, 5, 6, 7)], [[2, 1, 0, 1]], {**_GRAMS, "mode": "TF"}),
    Case("TfIdfVectorizer", [_i(5, 5, 6, 7)], [[2, 3, 0, 4]],
         {**_GRAMS, "mode": "IDF", "weights": [2.0, 3.0, 4.0]}),
    Case("TfIdfVectorizer", [_i(5, 5, 6, 7)], [[2, 1, 0, 2]],
         {**_GRAMS, "mode": "TFIDF", "max_skip_count": 1, "weights": [1.0, 1.0, 1.0]}),
    Case("LabelEncoder", [_texts("b", "q", "a")], [[2, 9, 1]],
         {"keys_strings": ["a", "b"], "values_tensor": _i(1, 2), "default_tensor": _i(9)}),
    Case("LabelEncoder", [_f(0.5, 3, np.nan)], [["y", "_Unused", "z"]],
         {"keys_tensor": _f(1, 0.5, np.nan), "values_strings": ["x", "y", "z"]}),
    Case("LabelEncoder", [np.array([[4], [4]])], [[["?"], ["?"]]],
         {"keys_tensor": _i(), "values_strings": [], "default_string": "?"}),
    Case("Equal", [_texts("a", "b"), _texts("b")], [[False, True]]),
    Case("Cast", [_texts("1.5", "-2")], [[1.5, -2]], {"to": "F32"}),
    Case("Cast", [_f(0.1, 1, 1e10)], [["0.1", "1.0", "1e+10"]], {"to": "STRING"}),
    Case("Cast", [np.array([True, False])], [["True", "False"]], {"to": "STRING"}),
    Case("Constant", [], [["a", "b"]], {"value_strings": ["a", "b"]}),
    Case("Loop", [_i(2).reshape(()), ..., _f(1)], [[4], [[-2], [-4]]], {"body": _ADDING}),
    Case("Loop", [_i(9).reshape(()), np.array(False), _f(1)], [[1], []], {"body": _ADDING}),
    Case("Scan", [_f(0), np.arange(3, dtype="f").reshape(3, 1)], [[3], [[0], [1], [3]]],
         {"body": _SUMMING, "num_scan_inputs": 1}),
    Case("Scan", [_f(0), np.arange(3, dtype="f").reshape(1, 3)], [[3], [[3, 3, 2]]],
         {"body": _SUMMING, "num_scan_inputs": 1, "scan_input_axes": [1], "scan_output_axes": [1],
          "scan_input_directions": [1], "scan_output_directions": [1]}),
    Case("SequenceMap", [[_f(1), _f(2, 3)], _f(10)], [[[11], [12, 13]]],
         {"body": _body(["a", "b"], [("Add", ["a", "b"], ["c"])], ["c"])}),
]  # fmt: skip


def _ready(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes, with bodies built."""
    ready = {}
    for name, value in attrs.items():
        if callable(value):
            body = api.GraphBuilder(name)
            value(body)
            value = body
        ready[name] = value
    return ready


@pytest.mark.parametrize("case", _CASES, ids=str)
def test_gives_what_onnx_says(case: Case) -> None:
    expected = [_rounded(value) for value in case.expected]
    for settings in ({}, {"merge": False, "fuse": False, "reuse": False}, {"search": "reference"}):
        assert [_rounded(value) for value in _run(case, _ready(case.attrs), **settings)] == expected


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, 6) if isinstance(value, float) else value


@pytest.mark.parametrize("condition", [True, False])
def test_a_branch_reads_the_graph_round_it(condition: bool) -> None:
    builder = api.GraphBuilder("if")
    builder.input("c", "BOOL", ())
    builder.input("x", "F32", (2,))
    yes, no = api.GraphBuilder("yes"), api.GraphBuilder("no")
    yes.node("Neg", ["x"], ["y"])
    no.node("Add", ["x", "x"], ["y"])
    for branch in (yes, no):
        branch.output("y")
    builder.node("If", ["c"], ["z"], then_branch=yes, else_branch=no)
    builder.output("z")
    result = builder.finish().session().run({"c": np.array(condition), "x": _f(1, 2)})
    assert result["z"].tolist() == ([-1, -2] if condition else [2, 4])


def test_every_operator_outside_of_programs_has_a_case() -> None:
    outside = {op.name for op in api.ops() if op.rule == "none" and op.op_class in ("HOST", "CONTROL")}
    assert outside == {case.op for case in _CASES if case.op in outside} | {"If"}  # which is tested above


_PATTERNS = [
    ("a.c", ["abc", "aßc"], ["a\nc", "abcd"]),
    ("[a-c]+[^0-9]?", ["abc", "a-"], ["ab1", ""]),
    (r"\d{2,3}", ["12", "123"], ["1", "1234"]),
    (r"\w+@(x|yy)\.com", ["me@x.com", "a_b@yy.com"], ["@x.com", "me@z.com", "me@xxcom"]),
    (r"(\W|^)[\w.\-]{0,5}(\W|$)", ["", "a-b", "!a.b!"], ["abcdefg"]),
    ("(?:ab|a)(bc|c)??", ["ab", "abc", "abbc", "a", "ac"], ["b"]),
    (r"\bfoo\b.*", ["foo", "foo bar"], ["food"]),
    ("(a*)*b", ["b", "aab"], ["a" * 5000]),
    ("x{,2}", ["x{,2}"], ["xx"]),
    ("", [""], ["a"]),
    (r"[\]\-\\]", ["]", "-", "\\"], ["a"]),
    (r"\D\S\B\s", ["a! "], ["a 1"]),
]


@pytest.mark.parametrize(("pattern", "fits", "misses"), _PATTERNS)
def test_patterns_match_whole_texts(pattern: str, fits: list[str], misses: list[str]) -> None:
    case = Case("RegexFullMatch", [_texts(*fits, *misses)], [...])
    assert _run(case, {"pattern": pattern}) == [[True] * len(fits) + [False] * len(misses)]


_UNKNOWN = [
    "(", "a)", "[a", "*", "(?P<x>a)", r"\p{L}", "((((a{999}){999}){999}){999})", "(" * 100 + ")" * 100,
    "a{5,2}",
    "[b-a]", "[[:alpha:]]", "a\\",
]  # fmt: skip


@pytest.mark.parametrize("pattern", _UNKNOWN)
def test_patterns_not_understood_are_refused(pattern: str) -> None:
    with pytest.raises(EngineError, match="pattern"):
        _run(Case("RegexFullMatch", [_texts("a")], [...]), {"pattern": pattern})
