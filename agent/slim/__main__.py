"""Build the stripped runtime of a device, its container image and its unit file: ``nox -s slim``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import slim_image
import slim_smoke
import slim_tree

MIB = 1 << 20


def main() -> None:
    """Build, print sizes by part, and try it out."""
    parser = argparse.ArgumentParser(prog="nox -s slim --", description=__doc__)
    parser.add_argument("--out", type=Path, default=slim_tree.ROOT / "build/slim", help="where (build/slim)")
    parser.add_argument("--no-smoke", action="store_true", help="build only")
    arguments = parser.parse_args()
    tree, root, layout = (arguments.out / name for name in ("tree", "root", "image"))
    subset = slim_tree.build_tree(tree)
    slim_image.build_root(tree, root)
    slim_image.write_layout(root, layout)
    parts = slim_tree.sizes(tree)
    parts["the C library, in the image"] = _size(root) - sum(parts.values())
    for name, size in sorted(parts.items(), key=lambda item: -item[1]):
        print(f"{size / MIB:8.2f} MiB  {name}")
    print(f"{sum(slim_tree.sizes(tree).values()) / MIB:8.2f} MiB  tree: {tree}")
    print(f"{_size(root) / MIB:8.2f} MiB  root file system: {root}")
    print(f"{_size(layout) / MIB:8.2f} MiB  image, compressed: {layout}")
    print(f"{len(subset.sources)} modules and {len(subset.extensions)} extensions of the standard library")
    (arguments.out / "sizes.json").write_text(json.dumps(parts, indent=2) + "\n")
    if not arguments.no_smoke:
        print("moved elsewhere, with an empty environment:")
        slim_smoke.smoke_tree(tree)
        print("as the whole file system of a container:")
        if not slim_smoke.smoke_root(root):
            print("  not tried: no right to make namespaces here")


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
