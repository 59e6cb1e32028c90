"""The Walle tensor engine: load a ``.wmodel``, make a session, run it.

::

    import walle_engine as we

    session = we.load("digits.wmodel").session(threads=2)
    outputs = session.run({"image": pixels})  # name -> Tensor; numpy.asarray(tensor) makes no copy

Importing this package is cheap: nothing native is loaded before the first of these names is used. The binding
behind them (``_cffi``) refuses isolated sub-interpreters; what runs there uses ``walle_engine._native``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from walle_engine.api import GraphBuilder, Model, Session, coverage, isa, load, ops
    from walle_engine.tensor import Tensor

__version__ = "0.1.0"

__all__ = ["GraphBuilder", "Model", "Session", "Tensor", "coverage", "isa", "load", "ops"]

_HOMES = {**dict.fromkeys(__all__, "walle_engine.api"), "Tensor": "walle_engine.tensor"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'walle_engine' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
