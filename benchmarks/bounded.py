"""
Programs that may hang, end or leave processes behind, run with a deadline.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

_ROOT = Path(__file__).parents[1]
_GLANCE = 0.02
_TRACKERS_PATIENCE = 2.0
_FACTS = "facts"


@dataclass
class Told:
    """
    What a program told before it was over.

    @ivar facts: by name.
    @ivar isEnded: whether it ended, rather than being stopped by the deadline or with all told.
    @ivar status: its exit status then.
    @ivar complaint: the end of what it wrote to its standard error.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    isEnded: bool = False
    status: int | None = None
    complaint: str = ""


class Teller:
    """
    The program's side: writes facts down where L{runTelling} reads them.
    """

    def __init__(self, folder: str) -> None:
        """
        @param folder: the one that the program was given.
        """
        self._path = Path(folder, _FACTS)

    def tell(self, name: str, fact: Any) -> None:
        """
        @param fact: something that JSON can say.
        """
        with self._path.open("a") as file:
            file.write(json.dumps({name: fact}) + "\n")


def runTelling(
    home: str, function: str, arguments: dict[str, Any], last: str, deadline: float
) -> Told:
    """
    Run a function in a process of its own, and end that with all that it started.

    @param home: the name of the module that the function is in.
    @param arguments: its keyword arguments, besides C{folder}, an empty folder to use.
    @param last: the name of the fact with which it is over.
    @param deadline: after how many seconds it is over at the latest.
    """
    with (
        TemporaryDirectory(prefix="benchmark-") as folder,
        Path(folder, "errors").open("wb") as errors,
    ):
        given = json.dumps({**arguments, "folder": folder})
        command = [sys.executable, "-m", "benchmarks.contender", home, function, given]
        process = subprocess.Popen(
            command,
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        try:
            status = _await(process, folder, last, deadline)
        finally:
            _endAll(process)
        complaint = Path(folder, "errors").read_text(errors="replace")[-3000:]
        return Told(_factsIn(folder), status is not None, status, complaint)


def _await(process: subprocess.Popen[bytes], folder: str, last: str, deadline: float) -> int | None:
    """
    The exit status, if the program ended first.
    """
    limit = time.monotonic() + deadline
    while time.monotonic() < limit:
        status = process.poll()
        if last in _factsIn(folder):
            return None
        if status is not None:
            return status
        time.sleep(_GLANCE)
    return None


def _factsIn(folder: str) -> dict[str, Any]:
    path = Path(folder, _FACTS)
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    facts: dict[str, Any] = {}
    for line in lines:
        if line.endswith("\n"):
            facts.update(json.loads(line))
    return facts


def _endAll(process: subprocess.Popen[bytes]) -> None:
    """
    End a program and its processes. Those that clean up behind the others end by themselves once
    they are alone, and are given the time to.
    """
    started = _startedBy(process.pid)
    process.kill()
    process.wait()
    trackers = [each for each in started if _isTracker(each)]
    _kill([each for each in started if each not in trackers])
    limit = time.monotonic() + _TRACKERS_PATIENCE
    while any(map(isAlive, trackers)) and time.monotonic() < limit:
        time.sleep(_GLANCE)
    _kill(trackers + _startedBy(process.pid))


def _startedBy(pid: int) -> list[psutil.Process]:
    """
    What descends from a session's leader, and what it has left behind in its session.
    """
    started = {each for each in psutil.process_iter() if _sessionOf(each.pid) == pid}
    with contextlib.suppress(psutil.NoSuchProcess):
        started.update(psutil.Process(pid).children(recursive=True))
    return [each for each in started if each.pid != pid]


def _sessionOf(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def isAlive(process: psutil.Process) -> bool:
    """
    @return: whether a process runs. Of what has ended there may be a trace for long, if nobody asks
        for its status.
    """
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _isTracker(process: psutil.Process) -> bool:
    try:
        return "resource_tracker" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        # Of those that have ended, psutil knows that their number may be another's by now.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
