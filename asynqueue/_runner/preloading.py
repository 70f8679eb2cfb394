"""
Load a program's modules in a fork server, before it forks worker processes.

The program's near side starts a server of C{multiprocessing} that imports this module, and says
with an environment variable what to load and where to report how that went. See
L{asynqueue._workers.preload}.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from multiprocessing import process, spawn
from pathlib import Path
from typing import Any, Final

from asynqueue.errors import textOf, typeName

VARIABLE: Final = "ASYNQUEUE_PRELOAD"
"""The environment variable that holds a JSON object: C{modules}, the names of modules; C{data},
what C{multiprocessing} prepares a process with, the main module's name or path included if that is
to be loaded; and C{report}, the path of the report."""


def preload(modules: list[str], data: dict[str, Any], report: Path) -> None:
    """
    Load modules, and report whether processes can be forked afterwards.

    The report is a JSON object: C{pid}, the server's process ID; C{refusal}, C{None} or why nothing
    is to be forked here; C{hasReactor}, whether a Twisted reactor was made, which no forked process
    may run.
    """
    refusal: str | None
    server = os.getpid()
    try:
        _load(modules, data)
        if os.getpid() != server:
            # A copy that a module has forked is no server.
            os._exit(0)
        refusal = _threads()
    except BaseException as error:
        refusal = f"{typeName(type(error))}: {textOf(error)}"
    os.register_at_fork(after_in_child=_reseed)
    found = {
        "pid": os.getpid(),
        "refusal": refusal,
        "hasReactor": "twisted.internet.reactor" in sys.modules,
    }
    unfinished = report.with_suffix(".new")
    unfinished.write_text(json.dumps(found))
    unfinished.rename(report)


def _load(modules: list[str], data: dict[str, Any]) -> None:
    current: Any = process.current_process()
    # A main module that starts processes when it is imported lacks its guard, and is told so.
    current._inheriting = True
    try:
        spawn.prepare(data)
        for name in modules:
            __import__(name)
    finally:
        del current._inheriting


def _threads() -> str | None:
    """
    Return a text if threads run here that no fork would take along.
    """
    others = [thread.name for thread in threading.enumerate()[1:]]
    if others:
        return f"a thread was started: {', '.join(others)}"
    tasks = Path("/proc/self/task")
    if not tasks.exists():
        return None
    # A library that heeds forks, as OpenBLAS does, ends its threads before one.
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    count = len(list(tasks.iterdir())) - 1
    return f"{count} threads of a library were started" if count else None


def _reseed() -> None:
    """
    In a process that was forked: give NumPy's global generator a state of its own. Python's
    C{random} module does so by itself.
    """
    random = sys.modules.get("numpy.random")
    if random is not None:
        random.seed()


def _main() -> None:
    order = os.environ.pop(VARIABLE, None)
    if order is None:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    parts = json.loads(order)
    preload(parts["modules"], parts["data"], Path(parts["report"]))


_main()
