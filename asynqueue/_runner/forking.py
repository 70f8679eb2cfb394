"""
Processes that a task forks. A forked copy of a worker is no worker: it has nothing of the worker's
pipe, signal handlers, log and recorder, and it ends when the task's function ends in it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from asynqueue._runner.logs import LogForwarding
    from asynqueue._runner.pipes import FarPipe
    from asynqueue._runner.recorder import Recorder

ROOM = __name__.rpartition(".")[0]


def endCopy(error: BaseException | None = None) -> NoReturn:
    """
    End a forked copy in which a task's function has ended, as a program ends.

    The copy first waits for the threads that it has started, and writes what its streams hold.

    @param error: what the function raised. C{SystemExit} sets the exit code, any other exception
        is shown by C{sys.excepthook}.
    """
    code = 1
    try:
        code = _codeOf(error)
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    finally:
        os._exit(code)


def _codeOf(error: BaseException | None) -> int:
    if error is None:
        return 0
    if not isinstance(error, SystemExit):
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
    if error.code is None or isinstance(error.code, int):
        # The system keeps the last byte.
        return (error.code or 0) & 255
    if sys.stderr is not None:
        print(error.code, file=sys.stderr)  # noqa: T201
    return 1


def leaveInCopies(
    pipe: FarPipe, logs: LogForwarding, recorder: Recorder, close: Callable[[], object]
) -> None:
    """
    From now on, have each forked copy of this process leave everything that belongs to the worker.

    @param close: closes the file descriptors of the worker.
    """
    hasLeft = False
    masks: dict[int, set[signal.Signals] | set[int]] = {}

    def before() -> None:
        # A signal that comes before a copy has its own handlers would be lost.
        if not hasLeft:
            held = signal.pthread_sigmask(signal.SIG_BLOCK, _handled())
            masks[threading.get_ident()] = held

    def goOn() -> None:
        mask = masks.pop(threading.get_ident(), None)
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def left() -> None:
        nonlocal hasLeft
        # What a copy sets up is its own business, and its own copies have that, too.
        if not hasLeft:
            hasLeft = True
            _resetHandlers()
            pipe.leave(endCopy)
            logs.uninstall()
            recorder.leave()
            close()
        goOn()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=before, after_in_parent=goOn, after_in_child=left)


def _handled() -> list[int]:
    """
    Return the signals that the worker handles. A task may have set a handler of its own for some.
    """
    return [
        number
        for number in signal.valid_signals()
        if str(getattr(signal.getsignal(number), "__module__", "")).startswith(ROOM)
    ]


def _resetHandlers() -> None:
    """
    Give each signal that the worker handles its usual meaning.
    """
    for number in _handled():
        isInterrupt = number == signal.SIGINT
        signal.signal(number, signal.default_int_handler if isInterrupt else signal.SIG_DFL)
