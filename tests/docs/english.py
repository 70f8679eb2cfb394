"""
The sentences of the pages and of the public docstrings, and those that are hard to read.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes

from tests.docs.pages import PAGES, ROOT, readPage

#: A sentence that begins like this keeps its subject to the end.
INVERTED = re.compile(r"^(What|Who|Whoever|Whatever|One that|Those)\b[^?]*$")

ENDS = re.compile(r"(?<=[.!?:])\s+(?=[A-Z`@C])|\n\s*\n|\n(?=\s*[-@])")


def sentencesOf(text: str) -> Iterator[str]:
    for part in ENDS.split(text):
        sentence = " ".join(re.sub(r"^\s*(-|@\w+( \w+)?:)\s*", "", part).split())
        if sentence.count(" ") > 1:
            yield sentence


def pageSentences() -> Iterator[tuple[str, str]]:
    """
    @return: for each sentence of the pages, the page's name and the sentence. Code is left out.
    """
    for page in PAGES:
        if page.stem == "changelog":
            continue
        for node in readPage(page).findall(nodes.paragraph):
            for sentence in sentencesOf(node.astext()):
                yield page.stem, sentence


def docstringSentences(package: Path = ROOT / "asynqueue") -> Iterator[tuple[str, str]]:
    """
    @return: for each sentence of the docstrings, the file's name and the sentence.
    """
    for path in sorted(package.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        texts = [
            node.value.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ]
        for text in texts:
            for sentence in sentencesOf(text):
                yield str(path.relative_to(ROOT)), sentence
