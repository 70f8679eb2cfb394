"""
The cases.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.crashes import deeds


@dataclass(frozen=True)
class Case:
    """
    Something terrible that a task does.

    @ivar label: for the table, where it identifies the case.
    @ivar deed: the task's function.
    @ivar arguments: makes its arguments.
    @ivar ownError: the name of the type of the error that it raises, if it raises one that can come
        back as it is.
    @ivar timeout: in seconds, for pools that have such a thing; or C{None}.
    """

    label: str
    deed: Callable[..., Any]
    arguments: Callable[[], tuple[Any, ...]] = tuple
    ownError: str = ""
    timeout: float | None = None


CASES: Final[tuple[Case, ...]] = (
    Case("kills itself, SIGKILL", deeds.killSelf),
    Case("kills itself, SIGTERM", deeds.terminateSelf),
    Case("segmentation fault", deeds.segfault),
    Case("os._exit(0)", deeds.leave),
    Case("dies while sending its result", deeds.dieWhileSending),
    Case("dies after its result was sent", deeds.dieAfterwards),
    Case("dies, leaving a child", deeds.dieLeavingAChild),
    Case("closes every file descriptor", deeds.closeFiles),
    Case("hangs, ignores SIGTERM; timeout 1 s", deeds.hang, timeout=1.0),
    Case("sys.exit(1)", deeds.exitPolitely, ownError="SystemExit"),
    Case("KeyboardInterrupt", deeds.interrupt, ownError="KeyboardInterrupt"),
    Case("MemoryError", deeds.exhaust, ownError="MemoryError"),
    Case("argument cannot be pickled", deeds.take, lambda: (deeds.Unpicklable(),)),
    Case("argument raises when rebuilt", deeds.take, lambda: (deeds.Rebuilt(deeds.refuse),)),
    Case("argument kills when rebuilt", deeds.take, lambda: (deeds.Rebuilt(deeds.killSelf),)),
    Case("result cannot be pickled", deeds.returnUnpicklable),
    Case("result raises when rebuilt", deeds.returnRefusing),
    Case("result exits when rebuilt", deeds.returnExiting),
    Case("exception cannot be pickled", deeds.raiseUnpicklable),
    Case("exception cannot be rebuilt", deeds.raiseOneWay),
)
