"""
The walks of one call, one batch and one durable put: the counts agree, and they do not grow.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from benchmarks.walk import WALKED

ROOT = Path(__file__).parents[2]

# The most functions, files, and functions in other threads that a walk may have. The design asks
# for 45 functions in 10 files for the call. Lower a ceiling whenever a walk gets shorter.
CEILINGS = {
    "call": (39, 10, 0),
    "batch": (52, 9, 0),
    "put": (30, 11, 8),
}


@cache
def walked(name: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.walk", name, "--json"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("name", WALKED)
def test_theTotalIsThatOfTheFilesAndOfTheParts(name: str) -> None:
    told = walked(name)
    assert told["functions"] == sum(told["byFile"].values())
    assert told["files"] == len(told["byFile"])
    near = [part for part in told["parts"] if not part["isApart"]]
    assert told["functions"] == sum(sum(part["byFile"].values()) for part in near)


@pytest.mark.parametrize("name", WALKED)
def test_theRouteShowsEachFunctionThatIsCounted(name: str) -> None:
    for part in walked(name)["parts"]:
        ours = [line for line in part["route"] if not line.lstrip().startswith(("(", "["))]
        assert len(ours) == sum(part["byFile"].values())


def test_theCallHasAPartBeforeItReturnsAndOneForItsResult() -> None:
    parts = walked("call")["parts"]
    assert len(parts) == 2
    assert all(part["byFile"] for part in parts)


def test_thePutEntersFunctionsInTheStoresThread() -> None:
    assert walked("put")["threadFunctions"] > 0


@pytest.mark.parametrize("name", WALKED)
def test_theWalkIsNoLongerThanItsCeiling(name: str) -> None:
    told = walked(name)
    counts = (told["functions"], told["files"], told["threadFunctions"])
    pairs = zip(counts, CEILINGS[name], strict=True)
    assert all(count <= ceiling for count, ceiling in pairs), counts
