"""
Calls that are underway for as long as a test wants them to be.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from asynqueue.testing import far
from asynqueue.tools.delay import Delay

PATIENCE = 20.0
"""For how many seconds a call is held that nobody releases."""


class Hold:
    """
    An ordinary call. It is underway as long as nobody steps the worker, if that is stepped by hand;
    and never, with a worker that has run a task before its C{run} returns.

    @ivar function: what to call.
    @ivar args: its arguments.
    """

    def __init__(self) -> None:
        self.function: Callable[..., Any] = far.echo
        self.args: tuple[Any, ...] = ()

    async def begun(self, task: Any) -> None:
        """
        Wait until the call is underway.

        @param task: the call's task.
        """

    def release(self) -> None:
        """
        Let the call end.
        """


class FileHold(Hold):
    """
    A function that blocks until there is a certain file, for at most L{PATIENCE} seconds: for
    workers that live in real time and do not run their tasks in this thread.
    """

    def __init__(self, folder: str) -> None:
        """
        @param folder: the path of a folder that is not used for anything else.
        """
        self._begun = os.path.join(folder, "begun")
        self._released = os.path.join(folder, "released")
        self.function = far.blockUntil
        self.args = (self._begun, self._released, PATIENCE)

    async def begun(self, task: Any) -> None:
        """
        Wait until the function is running.

        @raise AssertionError: if it never does.
        """
        delay = Delay(timeout=PATIENCE)
        await delay.untilEvent(lambda: task.isDone or os.path.exists(self._begun))
        if not os.path.exists(self._begun):
            raise AssertionError(f"{task} is not being run by its worker")

    def release(self) -> None:
        """
        Make the file.
        """
        far.touch(self._released)


class DeferredHold(Hold):
    """
    A function that returns a Deferred, for workers that run their tasks in the reactor's thread.
    """

    def __init__(self) -> None:
        self._done: Deferred[None] = Deferred()
        self.function = lambda: self._done
        self.args = ()

    def release(self) -> None:
        """
        Fire the Deferred, unless the worker has cancelled it.
        """
        if not self._done.called:
            self._done.callback(None)
