"""Make the task's folder: what is in ``task``, and what it takes from the example ``item_page_view``.

    python examples/recommend/build.py build/recommend
    walle-agent task check build/recommend

A task is one folder; so what two tasks share is put into both when they are built.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from borrowed import HERE, ITEM_PAGE_VIEW

#: Files of item_page_view's task, by the name that they have here.
BORROWED = {"main.py": "item_page.py", "steps.py": "steps.py", "model/encoder.onnx": "model/encoder.onnx"}
#: Where the tables and uploads begin in its task.toml.
DECLARATIONS = "[tables.features]"


def build(target: Path) -> Path:
    """Write the task's folder; the target may be there already."""
    shutil.copytree(
        HERE / "task", target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".walle")
    )
    theirs = ITEM_PAGE_VIEW / "task"
    for source, name in BORROWED.items():
        shutil.copyfile(theirs / source, target / name)
    _, start, declared = (theirs / "task.toml").read_text().partition(DECLARATIONS)
    own = (HERE / "task" / "task.toml").read_text()
    (target / "task.toml").write_text(own + start + declared)
    return target


def main() -> None:
    """Build it where the command line says."""
    parser = argparse.ArgumentParser(description="Make the folder of the task.")
    parser.add_argument("target", type=Path)
    print(build(parser.parse_args().target))


if __name__ == "__main__":
    main()
