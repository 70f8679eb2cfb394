"""
The killer. It is a separate process, so that it keeps its pace however busy the contender is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import psutil

from benchmarks.bounded import isAlive
from benchmarks.storms.ledger import Ledger

RECENT = 40
"""One of the processes in which so many runs began last is killed."""

_GLANCE = 0.001
_READY, _KILLS = "killer-ready", "kills"


class Killer:
    """
    The storm's side: starts the killer and says how far it got.
    """

    def __init__(self, folder: Path, ledger: Ledger, kills: int, tasks: int, seed: int) -> None:
        """
        Start it. It kills, at chosen moments, one of this program's processes that have lately
        begun a task.

        @param folder: the storm's.
        @param kills: how many processes to kill.
        @param tasks: how many tasks there are. All kills are due when three fifths have begun, so
            that a killer that is late finds some that run.
        @param seed: decides after which runs to kill, and whom.
        """
        self._kills = folder / _KILLS
        given = {"path": ledger.path, "kills": kills, "tasks": tasks, "seed": seed}
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.contender", __name__, "run"),
                json.dumps({**given, "folder": str(folder)}),
            ]
        )
        while not (folder / _READY).exists():
            if self._process.poll() is not None:
                raise RuntimeError("the killer did not start")
            time.sleep(_GLANCE)

    def stop(self) -> int:
        """
        Kill no more.

        @return: how many were killed.
        @raise RuntimeError: if the killer has failed.
        """
        self._process.kill()
        if self._process.wait() > 0:
            raise RuntimeError("the killer failed")
        return self._kills.stat().st_size if self._kills.exists() else 0


def run(path: str, kills: int, tasks: int, seed: int, folder: str) -> float:
    """
    The killer's side.

    @param path: of the ledger, which the storm has made. The other parameters are L{Killer}'s.
    @return: how many were killed.
    """
    random = Random(seed)
    ledger = Ledger(path)
    moments = sorted(random.sample(range(1, tasks * 3 // 5), kills))
    Path(folder, _READY).touch()
    with Path(folder, _KILLS).open("ab", buffering=0) as file:
        for moment in moments:
            while ledger.length() < moment or not _killOne(ledger, random):
                time.sleep(_GLANCE)
            file.write(b"k")
    return kills


def _killOne(ledger: Ledger, random: Random) -> bool:
    """
    Kill one of the latest, if there is one that lives.
    """
    candidates = ledger.latestProcesses(RECENT)
    random.shuffle(candidates)
    return any(_kill(pid) for pid in candidates)


def _kill(pid: int) -> bool:
    """
    Kill a process, if it lives and descends from the storm. The number of one that has ended may be
    a stranger's.
    """
    try:
        process = psutil.Process(pid)
        if not isAlive(process) or os.getppid() not in [each.pid for each in process.parents()]:
            return False
        process.kill()
    except psutil.NoSuchProcess:
        return False
    return True
