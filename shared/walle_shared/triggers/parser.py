"""Text to tree. Errors carry the column, and show the text with a mark below the place."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace

from walle_shared.errors import ConfigError
from walle_shared.triggers.syntax import ANY, KINDS, Atom, Operator, Predicate, Sequence, Step, Value

TEXT_MAX = 2_000
#: A time over this is a slip of the pen, and would keep the log from being trimmed.
TIME_MAX_MS = 24 * 3_600_000

_TOKEN = re.compile(
    r'\s*(?:(?P<text>"(?:[^"\\\x00-\x1f]|\\.)*")|(?P<number>-?[0-9]+(?:\.[0-9]+)?)'
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*(?:[.\-](?!>)[A-Za-z0-9_]+)*)"
    r"|(?P<sign>~>|->|<=|>=|!=|[!~?{},()|*\[\]=<>])|(?P<end>$))"
)
_PAGE = re.compile(r"[A-Za-z0-9_.\-]{1,128}")
_ARGUMENT = re.compile(r"\s*([^()\s]{1,200})\s*\)")
_UNITS = {"ms": 1, "s": 1_000, "min": 60_000, "h": 3_600_000}
_SPACES = {
    "enter": ("page:", ".enter"),
    "exit": ("page:", ".exit"),
    "page": ("page:", ""),
    "event": ("event:", ""),
    "kind": ("kind:", ""),
}
_CLAUSES = ("within", "gap", "per", "once", "every")
_SIGNS: dict[str, Operator] = {"=": "=", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


class TriggerError(ConfigError):
    """A trigger's text is wrong.

    Attributes:
        column: where, from 0; None if no single place is to blame.
    """

    def __init__(self, why: str, text: str = "", column: int | None = None) -> None:
        if column is not None:
            why = f"{why} (column {column + 1})\n  {text}\n  {' ' * column}^"
        super().__init__(why)
        self.column = column


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int


def parse(text: str) -> Sequence:
    """Read a trigger; ``compile_trigger`` checks what it means.

    Raises:
        TriggerError: with the column and what was expected there.
    """
    if len(text) > TEXT_MAX:
        raise TriggerError(f"a trigger of {len(text)} characters is over the limit of {TEXT_MAX}")
    return _Parser(" ".join(text.split("\n"))).trigger()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._previous_end = 0
        self._at = self._scan(0)

    def trigger(self) -> Sequence:
        self._expect("on")
        steps = [self._step()]
        absent: tuple[Atom, ...] = ()
        while not self._at_clause():
            absent = self._negations()
            if self._at_clause():
                break
            steps.append(self._linked(absent))
            absent = ()
        return self._clauses(Sequence(tuple(steps), absent))

    def _linked(self, absent: tuple[Atom, ...]) -> Step:
        relaxed = self._accept("~>")
        if absent and not relaxed:
            raise self._error("a negation needs '~>' and a step behind it, or 'within' at the end")
        if not relaxed:
            self._accept("->")
        return replace(self._step(), relaxed=relaxed, absent=absent)

    def _negations(self) -> tuple[Atom, ...]:
        atoms: list[Atom] = []
        while self._accept("!"):
            self._accept("~")
            atoms += self._choice()
        return tuple(atoms)

    def _step(self) -> Step:
        choices = self._choice()
        if self._accept("?"):
            return Step(choices, 0, 1)
        if not self._accept("{"):
            if self._at.text in ("*", "+") and self._at.start == self._previous_end:
                raise self._error("repetition without an end is not possible: say {1,8} or write ' *' apart")
            return Step(choices)
        low = high = self._count()
        if self._accept(","):
            high = self._count()
        self._expect("}")
        return Step(choices, low, high)

    def _choice(self) -> tuple[Atom, ...]:
        if not self._accept("("):
            return (self._atom(),)
        atoms = [self._atom()]
        while self._accept("|"):
            atoms.append(self._atom())
        self._expect(")")
        return tuple(dict.fromkeys(atoms))

    def _atom(self) -> Atom:
        if self._accept("*"):
            return Atom(ANY, self._predicates())
        token = self._take("name", "a step such as enter(item), click or *")
        if self._at.text != "(" or self._at.start != token.end:
            space = "kind:" if token.text in KINDS else "event:"
            return Atom(space + token.text, self._predicates())
        if token.text not in _SPACES:
            raise self._error(
                f"{token.text!r} takes no argument; enter, exit, page, event and kind do", token
            )
        before, behind = _SPACES[token.text]
        inside = self._at
        name = self._argument()
        if not _PAGE.fullmatch(name):
            raise self._error(f"{name!r} is not a name of letters, digits, '_', '-' or '.'", inside)
        if token.text == "kind" and name not in KINDS:
            raise self._error(f"no event kind {name!r}; there are {', '.join(sorted(KINDS))}", inside)
        if before == "page:" and name.endswith((".enter", ".exit")):
            raise self._error(f"page {name!r} must not end in .enter or .exit: say enter(...)", inside)
        return Atom(before + name + behind, self._predicates())

    def _argument(self) -> str:
        """A name in brackets, read raw: page and event ids may begin with digits or signs."""
        found = _ARGUMENT.match(self._text, self._at.end)
        if found is None:
            raise self._error("expected one name and ')'")
        self._previous_end = found.end()
        self._at = self._scan(found.end())
        return found[1]

    def _predicates(self) -> tuple[Predicate, ...]:
        if not self._accept("["):
            return ()
        tests = [self._predicate()]
        while self._accept(","):
            tests.append(self._predicate())
        self._expect("]")
        return tuple(tests)

    def _predicate(self) -> Predicate:
        name = self._take("name", "an argument's name").text
        if self._accept("exists"):
            return Predicate(name, "exists")
        if self._accept("in"):
            self._expect("(")
            values = [self._value()]
            while self._accept(","):
                values.append(self._value())
            self._expect(")")
            return Predicate(name, "in", tuple(values))
        if self._accept("startswith"):
            token = self._at
            value = self._value()
            if not isinstance(value, str):
                raise self._error("startswith needs a text in quotes", token)
            return Predicate(name, "startswith", value)
        if self._at.text not in _SIGNS:
            raise self._error("expected =, !=, <, <=, >, >=, in, startswith or exists")
        return Predicate(name, _SIGNS[self._next().text], self._value())

    def _value(self) -> Value:
        token = self._next()
        if token.kind in ("text", "number") or token.text in ("true", "false"):
            try:
                value: Value = json.loads(token.text)
            except ValueError:
                raise self._error("not a value as JSON writes it", token) from None
            return value
        raise self._error('expected a value: "text" in quotes, a number, true or false', token)

    def _clauses(self, sequence: Sequence) -> Sequence:
        seen: set[str] = set()
        while self._at.kind != "end":
            token = self._next()
            name = "once" if token.text == "every" else token.text
            if name not in _CLAUSES:
                raise self._error(f"expected one of {', '.join(_CLAUSES)}", token)
            if name in seen:
                raise self._error(f"{token.text!r} is said twice or contradicts", token)
            seen.add(name)
            match token.text:
                case "within":
                    sequence = replace(sequence, within_ms=self._time())
                case "gap":
                    sequence = replace(sequence, gap_ms=self._time())
                case "per":
                    sequence = replace(sequence, per=self._per())
                case word:
                    sequence = replace(sequence, every=word == "every")
        return sequence

    def _time(self) -> int:
        token = self._at
        count = self._count()
        unit = self._next()
        if unit.text not in _UNITS:
            raise self._error("expected ms, s, min or h", unit)
        if not 0 < count * _UNITS[unit.text] <= TIME_MAX_MS:
            raise self._error("a time must be over 0 and at most 24h", token)
        return count * _UNITS[unit.text]

    def _per(self) -> str:
        token = self._take("name", "device, visit or arg(name)")
        if token.text in ("device", "visit"):
            return token.text
        if token.text != "arg" or self._at.text != "(":
            raise self._error("expected device, visit or arg(name)", token)
        self._next()
        name = self._take("name", "an argument's name").text
        self._expect(")")
        return f"arg({name})"

    def _count(self) -> int:
        token = self._take("number", "a whole number")
        if not token.text.isdigit() or len(token.text) > 9:
            raise self._error("expected a whole number", token)
        return int(token.text)

    def _at_clause(self) -> bool:
        return self._at.kind == "end" or self._at.text in _CLAUSES

    def _scan(self, start: int) -> _Token:
        found = _TOKEN.match(self._text, start)
        if found is None:
            start += len(self._text[start:]) - len(self._text[start:].lstrip())
            raise TriggerError(f"unexpected {self._text[start]!r}", self._text, start)
        kind = str(found.lastgroup)
        return _Token(kind, found[kind], found.start(kind), found.end(kind))

    def _next(self) -> _Token:
        token = self._at
        self._previous_end = token.end
        self._at = self._scan(token.end)
        return token

    def _accept(self, text: str) -> bool:
        if self._at.kind not in ("sign", "name") or self._at.text != text:
            return False
        self._next()
        return True

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            raise self._error(f"expected {text!r}")

    def _take(self, kind: str, what: str) -> _Token:
        if self._at.kind != kind:
            raise self._error(f"expected {what}")
        return self._next()

    def _error(self, why: str, token: _Token | None = None) -> TriggerError:
        return TriggerError(why, self._text, (token or self._at).start)
