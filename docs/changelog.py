"""
The page of changes. What is not released yet stands in fragments, from which C{towncrier} makes it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

ROOT = Path(__file__).parents[1]
START = ".. towncrier release notes start"
"""The line of the page behind which towncrier puts the news at a release."""


def draft(version: str) -> str:
    """
    @return: the news of the fragments, as towncrier writes them. The fragments stay.
    """
    command = [sys.executable, "-m", "towncrier", "build", "--draft", f"--version={version}"]
    done = subprocess.run(
        [*command, "--date=not released yet"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ExtensionError(f"towncrier: {done.stderr or done.stdout}")
    return done.stdout


def readSource(app: Sphinx, docname: str, content: list[str]) -> None:
    if docname == "changelog":
        content[0] = content[0].replace(START, draft(app.config.version))


def findOutdated(app: Sphinx, *_: object) -> list[str]:
    # Sphinx does not know the fragments as its sources.
    return ["changelog"]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", readSource)
    app.connect("env-get-outdated", findOutdated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
