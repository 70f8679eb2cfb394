"""
How a task queue ends with its program.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from asynqueue.deferreds.endings import Endings
from asynqueue.queue.machinery import Machinery
from asynqueue.queue.shutdown import Shutdown
from asynqueue.tasks.states import QUEUE, nextState


class EndingQueue(Machinery):
    """
    A queue that shuts down, and does so when its program ends, if nobody has shut it down before.

    @ivar drainTimeout: for how many seconds calls that are underway may go on after a signal that
        asks the program to end. C{None}: signals are left to others, who shut the queue down.
    """

    log = Logger()

    _endings: Endings

    def _endWithProgram(self, drainTimeout: float | None) -> None:
        """
        @raise ValueError: if the time is negative or not a number.
        """
        self.drainTimeout = drainTimeout
        self._endings = Endings(self, self._reactor)

    def _beginShutdown(self, timeout: float | None) -> Shutdown:
        if self._shutdown is None:
            self._state = nextState(QUEUE, self._state, "shutdown", self)
            self._shutdown = Shutdown(
                self._scheduler,
                self._roster,
                self._reactor,
                timeout,
                self._refuse,
                self._wakeSoon,
            )
        return self._shutdown

    def _stop(self) -> None:
        self._endings.forget()
        super()._stop()

    def _countUnderway(self) -> int:
        return len(self._underway)

    def _drain(self, why: str) -> Deferred[None]:
        shutdown = self._beginShutdown(None)
        shutdown.drain(why, list(self._iterations))
        done = shutdown.whenDone()
        self.wake()
        return done

    def _cut(self, why: str) -> Deferred[None]:
        shutdown = self._beginShutdown(None)
        done = shutdown.whenDone()
        shutdown.cut(why)
        self.wake()
        return done

    def _endNow(self, why: str) -> None:
        self._drain(why)
        self._cut(why)

    def _giveUp(self) -> None:
        # Never taken back: from here on nothing is begun.
        self.begin()
        self._beginShutdown(None)
        for task in [*self._scheduler, *self._underway]:
            d = task.d
            try:
                task.cancel()
            except Exception:
                # A worker of the program's own has failed, and the others are to hear all the same.
                self.log.failure("{task} could not be cancelled", task=task)
            # There is nobody left to handle it.
            d.addErrback(lambda _: None)
        self._roster.killAll()
