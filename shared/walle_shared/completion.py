"""``completion``: a command of every program that prints what a shell needs to complete its words."""

from __future__ import annotations

import argparse
from typing import Any

from walle_shared.errors import ConfigError

#: Those that shtab writes for.
SHELLS = ("bash", "zsh", "tcsh")

_HOW = (
    "{program} completion bash  > ~/.local/share/bash-completion/completions/{program}",
    "{program} completion zsh   > FOLDER/_{program}, FOLDER being one of $fpath",
    "{program} completion tcsh  > FILE, and 'source FILE' in ~/.tcshrc",
)


def add_completion(
    commands: argparse._SubParsersAction[Any], parser: argparse.ArgumentParser
) -> argparse.ArgumentParser:
    """Add the command to a whole command line; it sets ``shell``, and nothing of what to do."""
    text = "print what makes a shell complete commands and options"
    how = "\n".join("  " + line.format(program=parser.prog) for line in _HOW)
    command: argparse.ArgumentParser = commands.add_parser(
        "completion",
        help=text,
        description=text,
        epilog=f"examples:\n{how}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("shell", choices=SHELLS)
    return command


def script_of(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script for a shell.

    Raises:
        ConfigError: shtab is not installed.
    """
    try:
        import shtab
    except ImportError:
        raise ConfigError("completion needs shtab: pip install shtab") from None
    return str(shtab.complete(parser, shell=shell))
