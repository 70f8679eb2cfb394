from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import asynqueue.testing
from tests.support.processes import ROOT
from tests.test_package import homesOf, typeCheckersImports

MODULES = sorted((ROOT / "asynqueue" / "testing").glob("*.py"))

APART = ("__init__", "plugin")
"""The modules that a test does not import by itself: the plugin is pytest's."""

HOMES = homesOf(asynqueue.testing)


@pytest.mark.parametrize("name", HOMES)
def test_everyNameIsThatOfItsHome(name: str) -> None:
    home = import_module(HOMES[name])
    assert getattr(asynqueue.testing, name) is getattr(home, name)


def test_whatIsListedIsWhatHasAHome() -> None:
    assert asynqueue.testing.__all__ == sorted(HOMES)
    assert typeCheckersImports(asynqueue.testing) == HOMES


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_nothingDependsOnAssertStatements(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]


def test_neitherPytestNorAReactorIsImported() -> None:
    names = ", ".join(
        f"asynqueue.testing.{path.stem}" for path in MODULES if path.stem not in APART
    )
    script = f"""
import sys, {names}
from asynqueue.testing import *
sys.exit(sorted({{"pytest", "_pytest", "tests", "twisted.internet.reactor"}} & {{*sys.modules}}))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == "[]"
