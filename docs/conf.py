"""How ``nox -s docs`` builds the documentation: these same Markdown files, with every warning an error."""

from __future__ import annotations

import sys
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
for room in ("agent", "control", "shared", "engine_c/python"):
    sys.path.insert(0, str(ROOT / room))

project = "Walle"
root_doc = "docs/index"
include_patterns = [
    "README.md",
    "docs/*.md",
    "docs/*/*.md",
    "docs/*/*/*.md",
    "*/README.md",
    "agent/walle_agent/streams/README.md",
    "examples/*/README.md",
]
exclude_patterns = ["docs/news/*", "build/**", ".venv/**", ".nox/**", ".pytest_cache/**"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
nitpicky = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": False}
autodoc_mock_imports = ["walle_engine._native", "walle_container._fence", "walle_container._vm"]
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "Walle"
html_extra_path = ["site"]  # the page at the top, which leads to docs/index.html
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("doctree-read", _name_folders)


def _name_folders(app: Sphinx, doctree: nodes.document) -> None:
    """A link to a folder of the repository stays as its name: a page cannot show it."""
    page = Path(app.env.doc2path(app.env.docname))
    for reference in list(doctree.findall(pending_xref)):
        target = (page.parent / reference["reftarget"]).resolve()
        if reference["reftype"] == "myst" and target.is_dir() and target.is_relative_to(ROOT):
            reference.replace_self(nodes.literal("", str(target.relative_to(ROOT))))
