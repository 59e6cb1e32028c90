from typing import Any

# Made by the build from the public C header; api.py gives everything a type.
ffi: Any
lib: Any
