"""The condition of a release: a small typed language over a device's profile.

::

    group == "beta" and app_version >= "7.2"
    os in ("linux", "android") and memory_mb >= 2000 and not (model == "X1")
    exists(region) and region startswith "eu-"

Operators ``== != < <= > >= in startswith``, ``exists(name)``, ``and or not`` and parentheses; values are
strings, numbers, ``true``, ``false``. Names ending in ``version`` compare as versions (``7.10`` after
``7.9``). The empty text and ``true`` match every device. A comparison with an attribute that the profile
lacks, or that has another type, is false; so is its ``not``-free negation ``!=``: nobody is selected by what
is not known of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from walle_shared.errors import ConfigError
from walle_shared.limits import PREDICATE_MAX_CHARS, PREDICATE_MAX_DEPTH

Scalar = str | int | float | bool
Profile = Mapping[str, Scalar]
Test = Callable[[Profile], bool]


class PredicateError(ConfigError):
    """The text is not a predicate; the message shows where, ``column`` counts from 0."""

    code = "predicate"

    def __init__(self, problem: str, text: str, column: int) -> None:
        line = text.replace("\n", " ").replace("\t", " ")
        super().__init__(f"{problem}\n  {line}\n  {' ' * column}^")
        self.problem = problem
        self.column = column


@dataclass(frozen=True, slots=True)
class Predicate:
    """A parsed predicate: its text, the attributes it reads, and the test itself."""

    text: str
    attributes: frozenset[str]
    test: Test

    def __call__(self, profile: Profile) -> bool:
        """Whether the profile matches."""
        return self.test(profile)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    column: int


_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\["\\])*")|(?P<number>-?\d+(?:\.\d+)?)(?![\w.])|(?P<name>[A-Za-z_][A-Za-z0-9_.]*)"""
    r"""|(?P<operator>==|!=|<=|>=|<|>|\(|\)|,))"""
)
_COMPARISONS: Final = ("==", "!=", "<", "<=", ">", ">=")
_KEYWORDS: Final = frozenset({"and", "or", "not", "in", "true", "false", "exists", "startswith"})


def parse_predicate(text: str) -> Predicate:
    """Parse a predicate.

    Raises:
        PredicateError: pointing at the first character that does not fit.
    """
    if len(text) > PREDICATE_MAX_CHARS:
        raise PredicateError(f"a predicate may have at most {PREDICATE_MAX_CHARS} characters", text[:80], 0)
    parser = _Parser(text)
    test = parser.parse()
    return Predicate(text, frozenset(parser.attributes), test)


def version_key(text: str) -> tuple[tuple[int, int | str], ...]:
    """Order versions: numbers by value, words after a dash before the bare version (``1.0-rc`` < ``1.0``)."""
    core, _, suffix = text.partition("-")
    key: list[tuple[int, int | str]] = [_part_key(part) for part in core.split(".")]
    while len(key) > 1 and key[-1] == (1, 0):
        key.pop()  # 1.0 equals 1.0.0
    key.append((0, suffix) if suffix else (0, "\U0010ffff"))
    return tuple(key)


def _part_key(part: str) -> tuple[int, int | str]:
    return (1, int(part)) if part.isdecimal() and len(part) < 20 else (2, part)


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    end = len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            column = at + len(text[at:]) - len(text[at:].lstrip())
            raise PredicateError(f"cannot read {text[column]!r}", text, column)
        tokens.append(_Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
        at = match.end()
    tokens.append(_Token("end", "the end", end))
    return tokens


class _Parser:
    """Recursive descent; each method returns the test of what it read."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._at = 0
        self._depth = 0
        self.attributes: set[str] = set()

    def parse(self) -> Test:
        if self._now.kind == "end":
            return lambda profile: True
        test = self._or()
        if self._now.kind != "end":
            raise self._error(f"expected 'and', 'or' or the end, found {self._now.text!r}")
        return test

    @property
    def _now(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._now
        self._at += 1
        return token

    def _accept(self, text: str) -> bool:
        if self._now.text == text and self._now.kind in ("name", "operator"):
            self._at += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            raise self._error(f"expected {text!r}, found {self._now.text!r}")

    def _error(self, problem: str) -> PredicateError:
        return PredicateError(problem, self._text, self._now.column)

    def _or(self) -> Test:
        tests = [self._and()]
        while self._accept("or"):
            tests.append(self._and())
        return tests[0] if len(tests) == 1 else lambda profile: any(test(profile) for test in tests)

    def _and(self) -> Test:
        tests = [self._not()]
        while self._accept("and"):
            tests.append(self._not())
        return tests[0] if len(tests) == 1 else lambda profile: all(test(profile) for test in tests)

    def _not(self) -> Test:
        self._depth += 1
        if self._depth > PREDICATE_MAX_DEPTH:
            raise self._error(f"nested deeper than {PREDICATE_MAX_DEPTH}")
        try:
            if self._accept("not"):
                test = self._not()
                return lambda profile: not test(profile)
            return self._primary()
        finally:
            self._depth -= 1

    def _primary(self) -> Test:
        if self._accept("("):
            test = self._or()
            self._expect(")")
            return test
        if self._accept("true"):
            return lambda profile: True
        if self._accept("false"):
            return lambda profile: False
        if self._accept("exists"):
            self._expect("(")
            name = self._attribute()
            self._expect(")")
            return lambda profile: name in profile
        return self._comparison()

    def _comparison(self) -> Test:
        name = self._attribute()
        operator = self._now
        if self._accept("in"):
            return _membership(name, self._list(name))
        if self._accept("startswith"):
            value = self._value(name)
            if not isinstance(value, str):
                raise PredicateError("startswith needs a string", self._text, operator.column)
            return _prefix(name, value)
        if operator.text not in _COMPARISONS:
            raise self._error(f"expected a comparison after {name!r}, found {operator.text!r}")
        self._take()
        value = self._value(name)
        if isinstance(value, bool) and operator.text not in ("==", "!="):
            raise PredicateError("true and false have no order", self._text, operator.column)
        return _compare(name, operator.text, value)

    def _attribute(self) -> str:
        token = self._now
        if token.kind != "name" or token.text in _KEYWORDS:
            raise self._error(f"expected an attribute name, found {token.text!r}")
        self.attributes.add(self._take().text)
        return token.text

    def _value(self, name: str) -> Scalar:
        token = self._now
        if token.kind == "string":
            self._take()
            return re.sub(r"\\(.)", r"\1", token.text[1:-1])
        if token.kind == "number":
            if name.endswith("version"):
                raise self._error(f'write the version in quotes: {name} >= "{token.text}"')
            self._take()
            return float(token.text) if "." in token.text else int(token.text)
        if token.text in ("true", "false") and token.kind == "name":
            return self._take().text == "true"
        raise self._error(f"expected a value (text goes in double quotes), found {token.text!r}")

    def _list(self, name: str) -> list[Scalar]:
        self._expect("(")
        values = [self._value(name)]
        while self._accept(","):
            values.append(self._value(name))
        self._expect(")")
        return values


def _same_type(actual: Scalar | None, value: Scalar) -> bool:
    if isinstance(value, bool) or isinstance(actual, bool):
        return isinstance(actual, bool) and isinstance(value, bool)
    if isinstance(value, str):
        return isinstance(actual, str)
    return isinstance(actual, int | float)


def _compare(name: str, operator: str, value: Scalar) -> Test:
    is_version = name.endswith("version") and isinstance(value, str)
    bound = version_key(str(value)) if is_version else value
    decide = _ORDER[operator]

    def test(profile: Profile) -> bool:
        actual = profile.get(name)
        if not _same_type(actual, value):
            return False
        return decide(version_key(str(actual)) if is_version else actual, bound)

    return test


_ORDER: Final[dict[str, Callable[[object, object], bool]]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,  # type: ignore[operator]  # _same_type has made them comparable
    "<=": lambda a, b: a <= b,  # type: ignore[operator]
    ">": lambda a, b: a > b,  # type: ignore[operator]
    ">=": lambda a, b: a >= b,  # type: ignore[operator]
}


def _membership(name: str, values: list[Scalar]) -> Test:
    tests = [_compare(name, "==", value) for value in values]
    return lambda profile: any(test(profile) for test in tests)


def _prefix(name: str, prefix: str) -> Test:
    def test(profile: Profile) -> bool:
        actual = profile.get(name)
        return isinstance(actual, str) and actual.startswith(prefix)

    return test
