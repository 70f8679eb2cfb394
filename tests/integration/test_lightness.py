"""
The modules that a new interpreter loads. A child process must start quickly.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import asynqueue

HEAVY = {"twisted", "zope", "psutil", "numpy", "incremental", "constantly"}

LIGHT = [
    "asynqueue",
    "asynqueue.errors",
    "asynqueue.tasks",
    "asynqueue._runner.callrunner",
    "asynqueue._runner.chunks",
    "asynqueue._runner.processmain",
]

SHOW = """
import sys
before = set(sys.modules)
import {module}
print(*sorted({{name.partition(".")[0] for name in set(sys.modules) - before}}))
"""


def loadedBy(module: str) -> set[str]:
    """
    @return: the packages that importing a module loads, beyond those that every interpreter has.
    """
    root = Path(asynqueue.__file__).parents[1]
    shown = subprocess.run(
        [sys.executable, "-c", SHOW.format(module=module)],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return set(shown.stdout.split())


@pytest.mark.parametrize("module", LIGHT)
def test_importingTheFarSideLoadsNothingThatHasToBeInstalled(module: str) -> None:
    loaded = loadedBy(module)
    assert "asynqueue" in loaded
    assert not loaded & HEAVY
    # multiprocessing gives the main module a second name.
    assert loaded <= {*sys.stdlib_module_names, "asynqueue", "__mp_main__"}


def test_theFarSideLoadsNoModuleThatTakesLongAndThatItDoesNotNeed() -> None:
    assert not loadedBy("asynqueue._runner.processmain") & {"asyncio", "dataclasses", "platform"}


def test_namesAreImportedOnlyWhenTheyAreAskedFor() -> None:
    assert "twisted" in loadedBy("asynqueue; asynqueue.TaskQueue")


def test_whatKeepsValuesInAProcessLoadsNothingThatHasToBeInstalled() -> None:
    assert not loadedBy("asynqueue; asynqueue.ProcessBase") & HEAVY
