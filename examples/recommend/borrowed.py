"""What this example takes from ``item_page_view``: its events, its feature, its encoder."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
ITEM_PAGE_VIEW = HERE.parent / "item_page_view"


def load(path: Path, name: str) -> ModuleType:
    """A script as a module of this name, loaded once."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses ask for it
    spec.loader.exec_module(module)
    return module


#: The generator of item-page visits.
pages = load(ITEM_PAGE_VIEW / "generate.py", "item_page_view_generate")
