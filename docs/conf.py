"""
How Sphinx builds the documentation: C{make docs}.

It needs no network. pydoctor makes the pages of the API, from the sources, into C{api/} of the
same build.
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

# intersphinx is given one inventory only, of the pages that pydoctor has just made.
extensions = ["pydoctor.sphinx_ext.build_apidocs", "sphinx.ext.intersphinx"]
exclude_patterns = ["_build"]
nitpicky = True

html_theme = "alabaster"
html_theme_options = {
    "description": "One prioritised queue for a Twisted program's slow work",
    "fixed_sidebar": True,
}
html_show_sphinx = False
html_copy_source = False

# The extension turns all that pydoctor prints, which is its warnings, into Sphinx's own.
pydoctor_args = [
    "--system-class=apisystem.ApiSystem",
    "--project-name=asynqueue",
    f"--project-version={version}",
    "--project-url=../index.html",
    f"--config={ROOT / 'pyproject.toml'}",
    "--html-output={outdir}/api",
    f"--project-base-dir={ROOT}",
    str(ROOT / "asynqueue"),
    str(ROOT / "mcmandelbrot"),
]
pydoctor_url_path = "api"
