"""The condition of a release: a small typed language over a device's profile.

::

    group == "beta" and app_version >= "7.2"
    os in ("linux", "android") and memory_mb >= 2000 and not (model == "X1")
    exists(region) and region startswith "eu-"

    app_version in "7.2".."7.9" and model matches "X-[12]*" and enrolled_date < "2026-03-01"
    device in set("friends") or (segment("testers") and tier not in ("free", "trial"))

Operators ``== != < <= > >= startswith endswith contains matches``, ``in`` and ``not in`` with a list or a
range (both ends belong to it), ``has(name)`` (or ``exists``), ``and or not`` and parentheses; values are
strings, numbers, ``true``, ``false``. ``matches`` takes ``*``, ``?`` and ``[abc]``. Names ending in
``version`` compare as versions (``7.10`` after ``7.9``, ``7.9-rc.2`` before ``7.9``), names ending in ``_at``
or ``date`` as times (ISO 8601, UTC unless it says otherwise; in a profile also milliseconds since 1970). The
empty text and ``true`` match every device. A comparison with an attribute that the profile lacks, or that has
another type, is false; so are ``!=`` and ``not in``: nobody is selected by what is not known of them.

``segment("name")`` stands for a predicate kept elsewhere, its newest version or, as ``"name@3"``, that one.
``NAME in set("name")`` asks whether an attribute, or ``device`` for the device's id, is in a set of ids, and
``told("id")`` whether the server said that a release applies. Neither can be seen in a profile: whoever
evaluates a predicate puts the answers there (``Predicate.sets``, ``set_answer``, ``told_answer``).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from walle_shared.errors import ConfigError
from walle_shared.limits import (
    PREDICATE_MAX_CHARS,
    PREDICATE_MAX_DEPTH,
    SEGMENTS_MAX_DEPTH,
    SEGMENTS_MAX_WEIGHT,
)

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


#: What an attribute is compared as.
Kind = Literal["string", "number", "boolean", "version", "time"]


@dataclass(frozen=True, slots=True)
class Use:
    """An attribute that a predicate's own text reads, as what (``None``: as whatever it is), and where."""

    name: str
    kind: Kind | None
    column: int


@dataclass(frozen=True, slots=True, order=True)
class SetQuestion:
    """Whether an attribute (``DEVICE``: the device's id) is in a set of ids."""

    attribute: str
    set_name: str


@dataclass(frozen=True, slots=True)
class Predicate:
    """A parsed predicate: its text, what it reads of a profile, what it refers to, and the test itself.

    ``attributes``, ``sets`` and ``segments`` include those of the segments it refers to; ``uses`` does not.
    ``weight`` is how many predicates it consists of.
    """

    text: str
    attributes: frozenset[str]
    test: Test
    uses: tuple[Use, ...] = ()
    sets: frozenset[SetQuestion] = frozenset()
    segments: frozenset[str] = frozenset()
    weight: int = 1

    def __call__(self, profile: Profile) -> bool:
        """Whether the profile matches."""
        return self.test(profile)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    column: int


_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\["\\])*")|(?P<number>-?\d+(?:\.\d+)?)(?!\w|\.(?!\.))"""
    r"""|(?P<name>[A-Za-z_][A-Za-z0-9_.]*)|(?P<operator>==|!=|<=|>=|<|>|\.\.|\(|\)|,))"""
)
_COMPARISONS: Final = ("==", "!=", "<", "<=", ">", ">=")
_TEXT_TESTS: Final[dict[str, Callable[[str], Callable[[str], bool]]]] = {
    "startswith": lambda value: lambda actual: actual.startswith(value),
    "endswith": lambda value: lambda actual: actual.endswith(value),
    "contains": lambda value: lambda actual: value in actual,
    "matches": lambda value: _glob(value),
}
#: What may follow a name, what joins two conditions, and what one may begin with besides a name.
OPERATORS: Final = (*_COMPARISONS, "in", "not in", *_TEXT_TESTS)
JOINS: Final = ("and", "or")
STARTS: Final = ("not", "has")
_KEYWORDS: Final = frozenset({"and", "or", "not", "in", "true", "false", "exists", "has", *_TEXT_TESTS})

#: The attribute that stands for the device's id, in ``device in set("...")``.
DEVICE: Final = "device"

#: Segments by the names that predicates may use, ``name`` and ``name@version``, with their predicates.
Segments = Mapping[str, str]


def parse_predicate(text: str, segments: Segments | None = None) -> Predicate:
    """Parse a predicate.

    Raises:
        PredicateError: pointing at the first character that does not fit.
    """
    return _parse(text, segments or {}, ())


def _parse(text: str, segments: Segments, within: tuple[str, ...]) -> Predicate:
    if len(text) > PREDICATE_MAX_CHARS:
        raise PredicateError(f"a predicate may have at most {PREDICATE_MAX_CHARS} characters", text[:80], 0)
    parser = _Parser(text, segments, within)
    test = parser.parse()
    return Predicate(
        text,
        frozenset(parser.attributes),
        test,
        tuple(parser.uses),
        frozenset(parser.sets),
        frozenset(parser.segments),
        parser.weight,
    )


def set_answer(question: SetQuestion) -> str:
    """Under which name a profile answers the question, with ``True`` or ``False``."""
    return f"{question.attribute} in set {question.set_name}"


def told_answer(release_id: str) -> str:
    """Under which name a profile says that the server told of a release."""
    return f"told {release_id}"


VersionKey = tuple[tuple[tuple[int, int | str], ...], tuple[tuple[int, int | str], ...]]

#: What a version without a suffix ends with: after every suffix.
_RELEASED: Final = ((3, ""),)


def version_key(text: str) -> VersionKey:
    """Order versions: numbers by value, what follows a dash before the bare version (``1.0-rc`` < ``1.0``).

    As semantic versioning has it: ``1.0-rc.2`` < ``1.0-rc.10``, and what follows a plus does not count. Other
    than there, any number of parts will do, and ``1.0`` equals ``1.0.0``.
    """
    core, _, suffix = text.partition("+")[0].partition("-")
    key = [_part_key(part) for part in core.split(".")]
    while len(key) > 1 and key[-1] == (1, 0):
        key.pop()
    return tuple(key), tuple(map(_part_key, suffix.split("."))) if suffix else _RELEASED


def _part_key(part: str) -> tuple[int, int | str]:
    return (1, int(part)) if part.isdecimal() and len(part) < 20 else (2, part)


def time_key(value: object) -> float | None:
    """Order times: seconds since 1970 of an ISO 8601 text or of milliseconds; ``None`` for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if not isinstance(value, str):
        return value / 1000
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _is_time(name: str) -> bool:
    return name.endswith(("_at", "date"))


def kind_by_name(name: str) -> Literal["version", "time"] | None:
    """What an attribute's name says that it is."""
    return "time" if _is_time(name) else "version" if name.endswith("version") else None


def _glob(pattern: str) -> Callable[[str], bool]:
    # fnmatch's translation holds atomic groups: no pattern makes it try a text more than once.
    matches = re.compile(fnmatch.translate(pattern)).match
    return lambda actual: matches(actual) is not None


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

    def __init__(self, text: str, known: Segments, within: tuple[str, ...]) -> None:
        self._text = text
        self._known = known
        self._within = within
        self._tokens = _tokens(text)
        self._at = 0
        self._depth = 0
        self.attributes: set[str] = set()
        self.uses: list[Use] = []
        self.sets: set[SetQuestion] = set()
        self.segments: set[str] = set()
        self.weight = 1

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
        return _any_of(tests)

    def _and(self) -> Test:
        tests = [self._not()]
        while self._accept("and"):
            tests.append(self._not())
        return _all_of(tests)

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
        if self._accept("exists") or self._accept("has"):
            self._expect("(")
            name, column = self._attribute()
            self._read(name, None, column)
            self._expect(")")
            return lambda profile: name in profile
        if self._calls("segment"):
            return self._segment()
        if self._calls("told"):
            return self._answer(told_answer(self._argument()))
        return self._comparison()

    def _calls(self, name: str) -> bool:
        """Whether a call of a function comes now. Its name may be an attribute's, too."""
        following = self._tokens[min(self._at + 1, len(self._tokens) - 1)]
        return self._now.kind == "name" and self._now.text == name and following.text == "("

    def _argument(self) -> str:
        """A call's only argument, a text in quotes."""
        self._take()
        self._expect("(")
        if self._now.kind != "string":
            raise self._error(f"expected a name in double quotes, found {self._now.text!r}")
        text = _unquoted(self._take().text)
        self._expect(")")
        return text

    def _answer(self, name: str, expected: bool = True) -> Test:
        self.attributes.add(name)
        return lambda profile: profile.get(name) is expected

    def _segment(self) -> Test:
        column = self._now.column
        name = self._argument()
        if name in self._within:
            way = " -> ".join((*self._within, name))
            raise PredicateError(f"segment {name!r} contains itself: {way}", self._text, column)
        if len(self._within) >= SEGMENTS_MAX_DEPTH:
            raise PredicateError(f"segments nested deeper than {SEGMENTS_MAX_DEPTH}", self._text, column)
        if name not in self._known:
            raise PredicateError(f"no segment {name!r} is known", self._text, column)
        try:
            inner = _parse(self._known[name], self._known, (*self._within, name))
        except PredicateError as error:
            raise PredicateError(f"segment {name!r}: {error}", self._text, column) from None
        self.attributes |= inner.attributes
        self.sets |= inner.sets
        self.segments |= {name, *inner.segments}
        self.weight += inner.weight
        if self.weight > SEGMENTS_MAX_WEIGHT:
            raise PredicateError(f"over {SEGMENTS_MAX_WEIGHT} segments in all", self._text, column)
        return inner.test

    def _comparison(self) -> Test:
        name, column = self._attribute()
        operator = self._now
        if self._accept("in"):
            return self._membership(name, column)
        if self._accept("not"):
            self._expect("in")
            return self._membership(name, column, without=True)
        if operator.kind == "name" and operator.text in _TEXT_TESTS:
            self._take()
            value = self._value(name)
            if not isinstance(value, str):
                raise PredicateError(f"{operator.text} needs a string", self._text, operator.column)
            self._read(name, "string", column)
            return _text_test(name, _TEXT_TESTS[operator.text](value))
        if operator.text not in _COMPARISONS:
            raise self._error(f"expected a comparison after {name!r}, found {operator.text!r}")
        self._take()
        value = self._value(name)
        self._read(name, _kind_of(name, value), column)
        if isinstance(value, bool) and operator.text not in ("==", "!="):
            raise PredicateError("true and false have no order", self._text, operator.column)
        return _compare(name, operator.text, value)

    def _membership(self, name: str, column: int, *, without: bool = False) -> Test:
        """What follows ``in`` or ``not in``: a set, a list or a range. Both are false of the unknown."""
        if self._calls("set"):
            return self._in_set(SetQuestion(name, self._argument()), column, is_in=not without)
        if name == DEVICE and self._calls("segment"):
            inner = self._segment()
            return (lambda profile: not inner(profile)) if without else inner
        if self._now.text == "(":
            values = self._list(name)
            kind = _kind_of(name, values[0])
            tests = [_compare(name, "==", value) for value in values]
            inside = _any_of(tests)
        else:
            low, high = self._range(name)
            kind = _kind_of(name, low)
            inside = _all_of([_compare(name, ">=", low), _compare(name, "<=", high)])
        self._read(name, kind, column)
        if not without:
            return inside
        return lambda profile: is_kind(profile.get(name), kind) and not inside(profile)

    def _in_set(self, question: SetQuestion, column: int, *, is_in: bool) -> Test:
        if question.attribute != DEVICE:
            self.uses.append(Use(question.attribute, "string", column))
        self.sets.add(question)
        return self._answer(set_answer(question), is_in)

    def _range(self, name: str) -> tuple[Scalar, Scalar]:
        start = self._now
        low = self._value(name)
        if not self._accept(".."):
            problem = f"expected '(' for a list, or a range such as 1..5, found {start.text!r}"
            raise PredicateError(problem, self._text, start.column)
        at = self._now.column
        high = self._value(name)
        if isinstance(low, bool) or not _same_type(high, low):
            raise PredicateError("a range needs two numbers or two strings", self._text, at)
        if not _ORDER["<="](_key(name, low), _key(name, high)):
            raise PredicateError("the range is empty: its end lies before its beginning", self._text, at)
        return low, high

    def _read(self, name: str, kind: Kind | None, column: int) -> None:
        if name == DEVICE:
            raise PredicateError('a device is asked for by device in set("name")', self._text, column)
        self.attributes.add(name)
        self.uses.append(Use(name, kind, column))

    def _attribute(self) -> tuple[str, int]:
        token = self._now
        if token.kind != "name" or token.text in _KEYWORDS:
            raise self._error(f"expected an attribute name, found {token.text!r}")
        self._take()
        return token.text, token.column

    def _value(self, name: str) -> Scalar:
        token = self._now
        if token.kind == "string":
            value = _unquoted(token.text)
            if _is_time(name) and time_key(value) is None:
                raise self._error(f'{name} is compared with a time, such as {name} < "2026-03-01T12:00Z"')
            self._take()
            return value
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


def _any_of(tests: list[Test]) -> Test:
    return tests[0] if len(tests) == 1 else lambda profile: any(test(profile) for test in tests)


def _all_of(tests: list[Test]) -> Test:
    return tests[0] if len(tests) == 1 else lambda profile: all(test(profile) for test in tests)


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])


def _kind_of(name: str, value: Scalar) -> Kind:
    """What a comparison of this attribute with this value makes of it."""
    if isinstance(value, bool):
        return "boolean"
    if _is_time(name):
        return "time"
    if isinstance(value, str):
        return "version" if name.endswith("version") else "string"
    return "number"


def is_kind(actual: Scalar | None, kind: Kind) -> bool:
    """Whether an attribute's value can be compared as what it is compared as."""
    match kind:
        case "boolean":
            return isinstance(actual, bool)
        case "number":
            return isinstance(actual, int | float) and not isinstance(actual, bool)
        case "time":
            return time_key(actual) is not None
        case _:
            return isinstance(actual, str)


def _key(name: str, value: Scalar) -> object:
    """What values of an attribute are ordered by."""
    match _kind_of(name, value):
        case "version":
            return version_key(str(value))
        case "time":
            return time_key(value)
        case _:
            return value


def _same_type(actual: Scalar | None, value: Scalar) -> bool:
    if isinstance(value, bool) or isinstance(actual, bool):
        return isinstance(actual, bool) and isinstance(value, bool)
    if isinstance(value, str):
        return isinstance(actual, str)
    return isinstance(actual, int | float)


def _compare(name: str, operator: str, value: Scalar) -> Test:
    decide = _ORDER[operator]
    bound = _key(name, value)
    if _is_time(name) and not isinstance(value, bool):
        return _compare_time(name, decide, bound)
    is_version = _kind_of(name, value) == "version"

    def test(profile: Profile) -> bool:
        actual = profile.get(name)
        if not _same_type(actual, value):
            return False
        return decide(version_key(str(actual)) if is_version else actual, bound)

    return test


def _compare_time(name: str, decide: Callable[[object, object], bool], bound: object) -> Test:
    def test(profile: Profile) -> bool:
        actual = time_key(profile.get(name))
        return actual is not None and decide(actual, bound)

    return test


def _text_test(name: str, fits: Callable[[str], bool]) -> Test:
    def test(profile: Profile) -> bool:
        actual = profile.get(name)
        return isinstance(actual, str) and fits(actual)

    return test


_ORDER: Final[dict[str, Callable[[object, object], bool]]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,  # type: ignore[operator]  # _same_type has made them comparable
    "<=": lambda a, b: a <= b,  # type: ignore[operator]
    ">": lambda a, b: a > b,  # type: ignore[operator]
    ">=": lambda a, b: a >= b,  # type: ignore[operator]
}
