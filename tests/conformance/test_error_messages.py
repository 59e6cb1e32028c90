"""The messages of errors as a set: each names the thing and the reason, and the next step if somebody acts.

What can be checked of the words themselves is checked here; whether they are true, tests of each error do.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from walle_shared.errors import CURES, SPECIAL_CODES, ConfigError, WalleError
from walle_support.loading import load_script

ROOT = Path(__file__).parents[2]
reference = load_script(ROOT / "docs/reference/generate.py", "reference_pages")
KINDS: dict[str, type[WalleError]] = {kind.__name__: kind for kind in reference.error_tree(WalleError)}
COMMANDS = {command.prog for parser in reference.parsers() for command in reference.commands(parser)}

#: Whose messages must end in what to do, or in the rule that was broken: operators read them.
_ACTED_ON = {"config", "not_found", "conflict", "not_allowed", "unauthenticated"}
_VERB = (
    r"(?:add|allow|ask|begin|bring|change|chmod|choose|clamp|convert|correct|declare|end|enrol|export|forget|give|import"
    r"|install|keep|let|load|lower|log|look|make|mark|move|name|plan|pull|put|read|remove|rename|repair|report|restart"
    r"|restore|resume|run|say|seal|see|set|show|shorten|sign|split|start|stop|take|try|turn|use|wait|write)"
)
_JOINING = r"(?:a|an|another|by|if|is|it|its|no|on|only|or|others|that|the|then|there|to|what|with)"
_STEP = re.compile(
    rf"(?:[:;,(] |^)(?:{_JOINING} )*{_VERB}\b"
    r"|'(?:walle-|git |trust |task )|pip install|\binstead\b"
    # A rule that was broken says what to do as well.
    r"|\b(?:must|needs?|at most|at least|within|only|over the limit|not like|takes?|may|known:|choose from)\b"
)


@dataclass(frozen=True)
class Raised:
    """A place that raises one of our errors; ``{}`` stands for what the message is filled with."""

    where: str
    kind: str
    message: str
    code: str


def _words(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(str(value.value) if isinstance(value, ast.Constant) else "{}" for value in values)
        case ast.BinOp(left=left, right=right):
            return _words(left) + _words(right)
        case _:
            return "{}"


def _raised() -> Iterator[Raised]:
    for room in ("agent", "control", "shared", "engine_c/python"):
        for path in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                    kind = ast.unparse(node.exc.func).rpartition(".")[2]
                    if kind in KINDS:
                        codes = [k.value for k in node.exc.keywords if k.arg == "code"]
                        code = str(codes[0].value) if codes and isinstance(codes[0], ast.Constant) else ""
                        where = f"{path.relative_to(ROOT)}:{node.lineno}"
                        yield Raised(where, kind, _words(node.exc.args[0]), code or KINDS[kind].code)


RAISED = tuple(_raised())


def test_they_are_found() -> None:
    assert len(RAISED) > 800
    assert {"ConfigError", "TaskError", "Unauthenticated", "ModelError"} <= {each.kind for each in RAISED}


def test_every_code_has_a_cure_and_every_cure_a_code() -> None:
    codes = {kind.code for kind in KINDS.values()}
    assert codes | SPECIAL_CODES == CURES.keys()
    assert codes.isdisjoint(SPECIAL_CODES)


def _strange_commands(text: str) -> list[str]:
    """Commands in quotes that there are not: their words up to the first that is an argument."""
    found = re.findall(r"'(walle-(?:agent|control|engine)(?: [a-z][a-z-]+)*)", text)
    return [
        command
        for command in found
        if not any(
            f"{known} ".startswith(f"{command} ") or command.startswith(f"{known} ") for known in COMMANDS
        )
    ]


def test_the_cures_are_steps_and_name_commands_that_there_are() -> None:
    for code, cure in CURES.items():
        assert len(cure.step.split()) >= 3, code
        assert not cure.step.endswith("."), code
        assert _strange_commands(cure.step) == [], code


def test_a_message_is_a_sentence_without_a_full_stop() -> None:
    bare = [each for each in RAISED if "{}" not in each.message and len(each.message.split()) < 3]
    assert bare == []
    odd = [each for each in RAISED if re.search(r"\w[.!]$|\n$|^[A-Z][a-z]+ed |  |: :", each.message)]
    assert odd == []


def test_the_commands_in_messages_are_there() -> None:
    strange = {each.where: found for each in RAISED if (found := _strange_commands(each.message))}
    assert strange == {}


def test_what_an_operator_acts_on_says_what_to_do() -> None:
    acted_on = [each for each in RAISED if each.code in _ACTED_ON or each.code in SPECIAL_CODES]
    # What is filled in at its end says it itself: the words of another error, or a rule.
    lacking = {each.where: each.message for each in acted_on if not _says_what_to_do(each.message)}
    assert lacking == {}


def _says_what_to_do(message: str) -> bool:
    return _STEP.search(message) is not None or message.endswith("{}")


@pytest.mark.parametrize("program", ["walle_agent.cli", "walle_control.cli.main", "walle_engine.cli"])
def test_a_program_says_it_in_one_line_and_no_traceback(
    program: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module(program)
    for kind in KINDS.values():
        error = kind.__new__(kind)
        Exception.__init__(error, "thing 7 cannot be read: give another")

        def fail(_arguments: argparse.Namespace, error: WalleError = error) -> int:
            raise error

        arguments = argparse.Namespace(command=fail, handler=fail)
        parser = SimpleNamespace(parse_args=lambda _, arguments=arguments: arguments)
        monkeypatch.setattr(module, "build_parser", lambda parser=parser: parser)
        assert module.main([]) == (2 if issubclass(kind, ConfigError) else 1)
        said = capsys.readouterr()
        assert said.out == ""
        assert re.fullmatch(r"walle-\w+: (error: )?thing 7 cannot be read: give another\n", said.err), kind
