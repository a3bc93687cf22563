"""Sphinx builds the site from the Markdown pages as code hosts show them; see the target `docs` of the Makefile."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

from sphinx.application import Sphinx

REPOSITORY = Path(__file__).resolve().parents[1]

project = "nnunetv2-promise"
author = "The nnunetv2-promise authors"
release = metadata.version("nnunetv2-promise")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]

# The repository's root is the source, so that links between README.md and the pages in docs/ hold as they are.
root_doc = "README"
include_patterns = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/**"]
exclude_patterns = ["docs/_templates", "docs/_extra"]

html_theme = "pydata_sphinx_theme"
html_title = f"{project} {release}"
html_copy_source = False
html_show_sourcelink = False
html_extra_path = ["_extra"]
templates_path = ["_templates"]
html_theme_options = {"navigation_with_keys": False, "show_toc_level": 2, "secondary_sidebar_items": ["page-toc"]}

myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_timeout = 1800
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True

autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

SITE_TREE = "\n```{toctree}\n:hidden:\n\ndocs/README\ndocs/api/index\nCONTRIBUTING\nCHANGELOG\n```\n"


def add_navigation(app: Sphinx, docname: str, source: list[str]) -> None:
    """Make the site's navigation of the index that readers on a code host see."""
    if docname == "README":
        source[0] += SITE_TREE
    if docname == "docs/README":
        source[0] = re.sub(r"(?m)^## (.+)\n((?:\n|- .*\n|  .*\n)+)", _with_tree, source[0])


def _with_tree(section: re.Match[str]) -> str:
    pages = re.findall(r"\]\(([^)#]+)\.(?:md|ipynb)\)", section[2])
    lines = ["```{toctree}", ":hidden:", f":caption: {section[1]}", "", *pages, "```"]
    return section[0].rstrip("\n") + "\n\n" + "\n".join(lines) + "\n\n"


def take_marks_literally(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Docstrings are written for readers of the code: outside of double backticks, * and | stand for themselves."""
    for number, line in enumerate(lines):
        parts = line.split("``")
        parts[::2] = [re.sub(r"(?<!\\)([*|])(?=\S)|(?<=\S)(?<!\\)([|])", r"\\\1\2", part) for part in parts[::2]]
        lines[number] = "``".join(parts)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", add_navigation)
    app.connect("autodoc-process-docstring", take_marks_literally, priority=400)
