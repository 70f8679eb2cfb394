"""
Every Python example in the README and the pages runs as it stands, and prints what they say.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from docutils import nodes

from tests.docs.pages import PAGES, ROOT, readPage

#: Seconds for one example: fewer than for one test, so that an example that hangs is named.
PATIENCE = 50


@dataclass(frozen=True)
class Example:
    """
    One block of Python, and the output that the block after it shows, if that is marked as text.
    """

    page: Path
    number: int
    script: str
    output: str | None

    def __str__(self) -> str:
        return f"{self.page.stem}-{self.number}"


def findExamples(page: Path) -> Iterator[Example]:
    """
    Find each C{code-block:: python}, with the C{code-block:: text} that stands right after it. The
    cells of notebooks are no programs.

    @raise docutils.utils.SystemMessage: The page is no valid reStructuredText.
    """
    number = 0
    for block in readPage(page).findall(nodes.literal_block):
        if "python" in block["classes"] and "cell" not in block["classes"]:
            output = None
            following = block.next_node(descend=False, siblings=True)
            if isinstance(following, nodes.literal_block) and "text" in following["classes"]:
                output = following.astext()
            number += 1
            yield Example(page, number, block.astext(), output)


#: Packages that nothing else here needs, and that bring some fifty others. An example that imports
#: one of them is run where it is installed.
OPTIONAL = ("ipyparallel", "parsl")


def isInstalled(example: Example) -> bool:
    """
    Whether this environment has the optional packages that an example imports.
    """
    return all(
        importlib.util.find_spec(package) is not None
        for package in OPTIONAL
        if f"from {package}" in example.script
    )


EXAMPLES = [example for page in PAGES for example in findExamples(page) if isInstalled(example)]


@pytest.mark.parametrize(
    "name", ["README", "getting-started", "from-asynqueue-0.9", "from-concurrent-futures"]
)
def test_pageShowsAnExample(name: str) -> None:
    assert any(example.page.stem == name for example in EXAMPLES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pageNamesNoPrivateModule(page: Path) -> None:
    # The page on the design is about the rooms of the code, which are private.
    text = page.read_text(encoding="utf-8")
    assert page.stem == "design" or "asynqueue._" not in text


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_exampleRunsAndPrintsWhatItShows(example: Example, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(example.script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, script.name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    if example.output is not None:
        assert done.stdout.rstrip() == example.output.rstrip()
