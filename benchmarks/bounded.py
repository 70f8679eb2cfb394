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
    The facts that a program told before it was over.

    @ivar facts: by name.
    @ivar isEnded: whether it ended by itself, before it had told everything and before the
        deadline.
    @ivar status: its exit status if it ended by itself.
    @ivar complaint: the end of its standard error.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    isEnded: bool = False
    status: int | None = None
    complaint: str = ""


class Teller:
    """
    The program's side. It writes facts to a file, where L{runTelling} reads them.
    """

    def __init__(self, folder: str) -> None:
        """
        @param folder: the folder that the program was given.
        """
        self._path = Path(folder, _FACTS)

    def tell(self, name: str, fact: Any) -> None:
        """
        @param fact: a value that JSON can express.
        """
        with self._path.open("a") as file:
            file.write(json.dumps({name: fact}) + "\n")


def runTelling(
    home: str, function: str, arguments: dict[str, Any], last: str, deadline: float
) -> Told:
    """
    Run a function in a new process. End the process, and all that it started, afterwards.

    @param home: the name of the function's module.
    @param arguments: its keyword arguments, except C{folder}, which is an empty folder to use.
    @param last: the name of the last fact. The run is over when it is told.
    @param deadline: seconds after which the run is over at the latest.
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
    Wait until the program has told the last fact, or has ended.

    @return: the exit status, or C{None} if the program did not end.
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
    End a program and its processes. Processes that clean up after the others end by themselves once
    they are alone, so they get some time to do so.
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
    Return the descendants of a session's leader, and the processes that it left in its session.
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
    @return: whether a process runs. A process that has ended leaves a trace until somebody asks for
        its status.
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
        # psutil knows when a process has ended and another one has its number.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
