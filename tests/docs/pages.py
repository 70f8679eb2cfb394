"""
The pages, read by docutils alone: quickly, and without a build by Sphinx.
"""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from docutils.core import publish_doctree
from docutils.parsers.rst import Directive, directives, roles
from docutils.utils import Reporter
from sphinx.util.docutils import docutils_namespace

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.rst", *sorted(DOCS.glob("*.rst")))


class _Ignored(Directive):
    """
    A directive of Sphinx, or of these pages' own extensions. C{make docs} checks what it names.
    """

    has_content = True
    optional_arguments = 1
    final_argument_whitespace = True
    option_spec = {  # noqa: RUF012 - so does docutils declare it
        "caption": directives.unchanged,
        "glob": directives.flag,
        "maxdepth": directives.nonnegative_int,
    }

    def run(self) -> list[nodes.Node]:
        return []


def readPage(page: Path) -> nodes.document:
    """
    Parse a page that may hold Sphinx's C{toctree}, C{guide} and C{doc}.

    @raise docutils.utils.SystemMessage: The page is no valid reStructuredText.
    """
    strictly = {
        "halt_level": Reporter.WARNING_LEVEL,
        "syntax_highlight": "none",
    }
    text = page.read_text(encoding="utf-8")
    # What is registered here is forgotten at the end.
    with docutils_namespace():
        for name in ("toctree", "guide"):
            directives.register_directive(name, _Ignored)
        roles.register_generic_role("doc", nodes.literal)
        return publish_doctree(text, source_path=str(page), settings_overrides=strictly)
