"""
How Sphinx builds the documentation: C{make docs}.

It needs no network. The extension C{apipages} has pydoctor make the pages of the API from the
sources.
"""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(DOCS), str(ROOT)]

from asynqueue import __version__  # noqa: E402 - the path is set above

project = "asynqueue"
author = "the asynqueue team"
copyright = f"2026, {author}"
version = release = __version__

extensions = ["apipages", "changelog", "sphinx_copybutton"]
exclude_patterns = ["_build", "apitemplates"]
nitpicky = True

html_theme = "furo"
html_title = f"asynqueue {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False

# The output of an example is no text to copy, and neither is a shell's prompt.
copybutton_selector = "div.highlight-python pre, div.highlight-default pre, div.highlight-ini pre"
