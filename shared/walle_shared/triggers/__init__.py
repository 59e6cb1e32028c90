"""The trigger language (extended profile): text form, builder and compiler. Pure, no I/O.

``parse`` reads the text, ``str`` of its result writes it back, ``compile_trigger`` checks it and expands it
to the paths that a matcher puts into its trie. ``syntax`` holds the grammar.
"""

from walle_shared.triggers.builder import Builder, enter, event, exit_, kind, page, step
from walle_shared.triggers.compiler import Compiled, Edge, Path, compile_trigger
from walle_shared.triggers.parser import TriggerError, parse
from walle_shared.triggers.syntax import Atom, Predicate, Sequence, Step

__all__ = [
    "Atom",
    "Builder",
    "Compiled",
    "Edge",
    "Path",
    "Predicate",
    "Sequence",
    "Step",
    "TriggerError",
    "compile_trigger",
    "enter",
    "event",
    "exit_",
    "kind",
    "page",
    "parse",
    "step",
]
