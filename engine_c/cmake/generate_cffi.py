"""Write the C source of the cffi binding: ``generate_cffi.py CDEF OUT``. Run by the build."""

import sys
from pathlib import Path

from cffi import FFI


def main(cdef: str, out: str) -> None:
    """Turn the declarations in file ``cdef`` into the binding ``out``."""
    ffi = FFI()
    ffi.cdef(Path(cdef).read_text(encoding="utf-8"))
    ffi.set_source("walle_engine._cffi", "#include <walle/engine.h>")
    ffi.emit_c_code(out)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
