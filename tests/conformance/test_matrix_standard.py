"""How much of the Python array API standard (2024.12) ``walle_task.matrix`` has, chapter by chapter.

``pytest -s tests/conformance/test_matrix_standard.py`` prints the table.
"""

from __future__ import annotations

import inspect
from typing import Any

import array_api_strict as strict
import pytest

from walle_task import matrix

STRICTS_OWN = {
    "__version__",
    "ArrayAPIStrictFlags",
    "Device",
    "get_array_api_strict_flags",
    "reset_array_api_strict_flags",
    "set_array_api_strict_flags",
}
LATER_VERSIONS = {"isin"}
NAMES = sorted(set(strict.__all__) - STRICTS_OWN - LATER_VERSIONS - {"fft", "linalg"})
EXTENSIONS = {"linalg": strict.linalg.__all__, "fft": strict.fft.__all__}
# Written by hand, like the standard: what arrays have besides operators.
ATTRIBUTES = ("T", "device", "dtype", "mT", "ndim", "shape", "size")
METHODS = [
    f"__{name}__"
    for name in (
        "abs",
        "add",
        "and",
        "array_namespace",
        "bool",
        "complex",
        "dlpack",
        "dlpack_device",
        "eq",
        "float",
        "floordiv",
        "ge",
        "getitem",
        "gt",
        "index",
        "int",
        "invert",
        "le",
        "lshift",
        "lt",
        "matmul",
        "mod",
        "mul",
        "ne",
        "neg",
        "or",
        "pos",
        "pow",
        "rshift",
        "setitem",
        "sub",
        "truediv",
        "xor",
        "iadd",
        "iand",
        "ifloordiv",
        "ilshift",
        "imatmul",
        "imod",
        "imul",
        "ior",
        "ipow",
        "irshift",
        "isub",
        "itruediv",
        "ixor",
        "radd",
        "rand",
        "rfloordiv",
        "rlshift",
        "rmatmul",
        "rmod",
        "rmul",
        "ror",
        "rpow",
        "rrshift",
        "rsub",
        "rtruediv",
        "rxor",
    )
]


def test_the_main_namespace_is_whole():
    missing = {name for name in NAMES if not hasattr(matrix, name)}
    print(f"\nmain namespace: {len(NAMES) - len(missing)} of {len(NAMES)} names")
    assert not missing


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_extensions(extension: str):
    names = EXTENSIONS[extension]
    module = getattr(matrix, extension, None)
    present = [name for name in names if hasattr(module, name)]
    print(f"\n{extension}: {len(present)} of {len(names)} names")
    assert present == list(names)


def test_arrays_have_all_attributes_and_methods():
    x = matrix.asarray([[1, 2]])
    wanted = [*ATTRIBUTES, *METHODS, "to_device"]
    missing = [name for name in wanted if not hasattr(x, name)]
    print(f"\narrays: {len(wanted) - len(missing)} of {len(wanted)} attributes, operators and methods")
    assert not missing
    assert x.__array_namespace__(api_version="2024.12") is matrix
    with pytest.raises(ValueError, match=r"2024\.12 is"):
        x.__array_namespace__(api_version="1999.01")
    assert matrix.__array_api_version__ == "2024.12"


def _parameters(function: Any) -> dict[str, Any] | None:
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return None


@pytest.mark.parametrize("name", [name for name in NAMES if inspect.isfunction(getattr(strict, name, None))])
def test_arguments_are_named_as_in_the_standard(name: str):
    ours = _parameters(getattr(matrix, name, None))
    if ours is None:
        pytest.skip("not there, or without a signature to look at")
    theirs = inspect.signature(getattr(strict, name)).parameters
    by_name = [
        key for key, one in theirs.items() if one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD)
    ]
    assert [key for key in by_name if key not in ours] == []


def test_what_the_library_says_of_itself():
    info = matrix.__array_namespace_info__()
    theirs = strict.__array_namespace_info__()
    assert info.capabilities()["max dimensions"] == matrix.zeros((1,) * 8).ndim
    assert info.default_device() in info.devices()
    assert set(info.default_dtypes()) == set(theirs.default_dtypes())
    for kind in (None, "bool", "integral", ("real floating", "complex floating"), "numeric"):
        assert set(info.dtypes(kind=kind)) == set(theirs.dtypes(kind=kind))
    x = matrix.asarray([1.0])
    assert x.to_device("cpu") is x
    with pytest.raises(ValueError, match="no device"):
        x.to_device("gpu")
