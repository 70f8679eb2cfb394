"""
The pages of the API show what is public, where users import it, and all of it is documented.
"""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tests.docs.pages import DOCS
from tests.support.processes import ROOT

pytestmark = pytest.mark.timeout(180)

FACES = ("asynqueue", "asynqueue.tools", "asynqueue.testing")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("api")
    command = [
        *(sys.executable, "-m", "pydoctor", "--quiet", "--system-class=apisystem.ApiSystem"),
        *(f"--config={ROOT / 'pyproject.toml'}", f"--project-base-dir={ROOT}"),
        *(f"--html-output={folder}", str(ROOT / "asynqueue")),
    ]
    subprocess.run(command, cwd=DOCS, check=True, capture_output=True, timeout=170)
    return folder


def test_noNameIsUndocumented(api: Path) -> None:
    # Each name is a row of the table on its parent's page.
    undocumented = [
        (path.name, re.sub("<[^>]*>", "", row))
        for path in api.glob("asynqueue*.html")
        for row in re.findall("<tr class.*?</tr>", path.read_text(), re.DOTALL)
        if "Undocumented" in row and "fieldArg" not in row
    ]
    assert undocumented == []


def test_noPrivateModuleHasAPage(api: Path) -> None:
    assert [path.name for path in api.glob("*._*.html")] == []


@pytest.mark.parametrize("face", FACES)
def test_everyNameIsOnThePageOfWhereItIsImportedFrom(api: Path, face: str) -> None:
    page = (api / f"{face}.html").read_text()
    names = [name for name in import_module(face).__all__ if not name.startswith("__")]
    missing = [
        name
        for name in names
        if not (api / f"{face}.{name}.html").exists() and f'name="{face}.{name}"' not in page
    ]
    assert missing == []
