"""Scripts of tasks that mean harm, and what lets them."""

from __future__ import annotations

import dis
import marshal

#: How a script reaches modules it may not import: the ``interp`` tier is no wall.
BYPASS = "from walle_task import log\nreach = log.__builtins__['__import__']\n"


def bypass(deed: str) -> str:
    """A script that returns the ``repr`` of an expression in which ``reach`` imports anything."""
    return f"{BYPASS}def run(): return repr({deed})\n"


def native_crash() -> str:
    """An expression that reads far outside of its process's memory: byte code that no compiler makes."""

    def template() -> int:
        return 1

    far = [byte for part in (0x7F, 0xFF, 0xFF) for byte in (dis.opmap["EXTENDED_ARG"], part)]
    code = bytes([dis.opmap["RESUME"], 0, *far, dis.opmap["LOAD_CONST"], 0xFF, dis.opmap["RETURN_VALUE"], 0])
    crafted = template.__code__.replace(co_code=code, co_linetable=b"")
    return f"exec(reach('marshal').loads({marshal.dumps(crafted)!r}))"


REGEX_BOMB = "import re\ndef run(): re.match(r'(a+)+$', 'a' * 60 + 'b')\n"
