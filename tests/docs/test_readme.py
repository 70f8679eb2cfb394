"""
Every Python example in the README runs as it stands, and prints what the README says it prints.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from docutils import nodes
from docutils.core import publish_doctree
from docutils.utils import Reporter

ROOT = Path(__file__).parents[2]
README = ROOT / "README.rst"

#: Seconds for one example: fewer than for one test, so that an example that hangs is named.
PATIENCE = 50


@dataclass(frozen=True)
class Example:
    """
    One block of Python, and the output that the block after it shows, if that is marked as text.
    """

    script: str
    output: str | None


def findExamples(text: str) -> Iterator[Example]:
    """
    Find each C{code-block:: python}, with the C{code-block:: text} that stands right after it.

    @raise docutils.utils.SystemMessage: The text is no valid reStructuredText.
    """
    strictly = {
        "halt_level": Reporter.WARNING_LEVEL,
        "syntax_highlight": "none",
        "file_insertion_enabled": False,
    }
    document = publish_doctree(text, source_path=str(README), settings_overrides=strictly)
    for block in document.findall(nodes.literal_block):
        if "python" in block["classes"]:
            output = None
            following = block.next_node(descend=False, siblings=True)
            if isinstance(following, nodes.literal_block) and "text" in following["classes"]:
                output = following.astext()
            yield Example(block.astext(), output)


EXAMPLES = list(findExamples(README.read_text(encoding="utf-8")))


def test_readmeShowsAnExample() -> None:
    assert EXAMPLES, "README.rst has no block that is marked `.. code-block:: python`"


@pytest.mark.parametrize("example", EXAMPLES, ids=count(1))
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
