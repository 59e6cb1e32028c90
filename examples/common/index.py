"""Write ``index.html`` into a folder of report pages, with a link to each: ``python index.py FOLDER``."""

from __future__ import annotations

import re
import sys
from html import unescape
from pathlib import Path

from page import Page

NAME = "index.html"
NOTE = "Each page says of itself what of it is SYNTHETIC, and where its figures were measured."


def write(folder: Path) -> Path:
    """Write the index; a page is called what its title is."""
    made = Page("Walle: the applications", NOTE)
    for page in sorted(folder.glob("*.html")):
        if page.name != NAME:
            found = re.search(r"<title>(.*?)</title>", page.read_text(encoding="utf-8"))
            made.link(unescape(found[1]) if found else page.stem, page.name)
    made.write(folder / NAME)
    return folder / NAME


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
