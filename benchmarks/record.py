"""
The record of a run: every figure, and where it was measured.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from benchmarks.measure import Measure, Row
from benchmarks.oldpeer import REQUIREMENTS
from benchmarks.rounds import Rounds

LATEST = Path(__file__).with_name("results") / "latest.json"

_PEERS = ("joblib", "loky", "pebble", "huey", "persist-queue", "Pyro5", "distributed")
_PACKAGES = ("asynqueue", "twisted", "zope.interface", "psutil", *_PEERS, "numpy", "numba")


def describeRun() -> dict[str, Any]:
    """
    @return: the machine, the interpreter and the versions, as of now.
    """
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": {
            "platform": platform.platform(),
            "processor": _processor(),
            "processors": os.cpu_count(),
            "memoryBytes": psutil.virtual_memory().total,
            "loadAverages": psutil.getloadavg(),
        },
        "python": {
            "version": sys.version,
            "implementation": platform.python_implementation(),
            "isGilEnabled": getattr(sys, "_is_gil_enabled", lambda: True)(),
        },
        "versions": {**{name: _version(name) for name in _PACKAGES}, "peer": REQUIREMENTS[0]},
    }


def describeRounds(measure: Measure, rounds: Rounds) -> dict[str, Any]:
    """
    @return: all that a measure gave.
    """
    return {
        "contenders": [
            {
                "name": contender.name,
                "function": contender.function.__qualname__,
                "arguments": contender.chosen(rounds.isQuick),
            }
            for contender in rounds.figures
        ],
        "rows": [_describeRow(row, rounds) for row in measure.rows],
    }


def _describeRow(row: Row, rounds: Rounds) -> dict[str, Any]:
    return {
        "label": row.label,
        "unit": row.unit,
        "ours": row.ours.name,
        "figures": rounds.figures[row.ours],
        "peer": None if row.peer is None else row.peer.name,
        "peersFigures": [] if row.peer is None else rounds.figures[row.peer],
        "missing": None if row.peer is None else rounds.missing.get(row.peer),
        "ratios": rounds.ratios(row),
        "target": None if row.target is None else asdict(row.target),
        "isMet": rounds.isMet(row),
    }


def save(record: dict[str, Any]) -> None:
    """
    Write the record to L{LATEST}.
    """
    LATEST.parent.mkdir(exist_ok=True)
    LATEST.write_text(json.dumps(record, indent=1) + "\n")


def loadLatest() -> dict[str, Any]:
    """
    Read the record from L{LATEST}.
    """
    record: dict[str, Any] = json.loads(LATEST.read_text())
    return record


def withMeasuredAgain(
    latest: dict[str, Any], run: dict[str, Any], order: Sequence[str]
) -> dict[str, Any]:
    """
    Put what was measured again into a record of an earlier run. The record says so.

    @param latest: the record of the earlier run.
    @param run: that of the run in which something was measured again.
    @param order: the names of all measures, in their order.
    @return: the record.
    """
    measures = {**latest["measures"], **run["measures"]}
    comparisons = {**latest["comparisons"], **run["comparisons"]}
    names = [*run["measures"], *run["comparisons"]]
    again = {name: run[name] for name in ("commit", "started", "rounds")}
    return {
        **latest,
        "measures": {name: measures[name] for name in order if name in measures},
        "comparisons": comparisons,
        "broken": [name for name in latest["broken"] if name not in names] + run["broken"],
        "again": [*latest.get("again", []), {**again, "names": names}],
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(
            command, cwd=LATEST.parents[2], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _processor() -> str:
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
