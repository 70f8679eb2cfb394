"""
What tasks and jobs have in common: a lifecycle, and its times.
"""

from __future__ import annotations

from typing import Any

from asynqueue.tasks.heap import Place
from asynqueue.tasks.states import PENDING, TASK, nextState


class Record:
    """
    Something that waits for its turn, is underway, and comes to an end::

                         giveBack
                      +-------------+
                      v             |
        put ---> PENDING --start--> UNDERWAY --finish--> FINISHED
                   |  |               |  |
                   |  +-----fail------+--|-------------> FAILED
                   +-------cancel--------+-------------> CANCELLED

    It knows no reactor, queue or worker: whoever calls its methods says what time it is, in seconds
    of that caller's clock.

    @ivar id: a number that is unique within its queue, in the order of putting.
    @ivar priority: its place among those that wait, lower first.
    @ivar state: one of the words in the picture.
    @ivar attempts: how many times it was begun.
    @ivar queuedTime: when it was put.
    @ivar startTime: when it was begun, the last time, or C{None}.
    @ivar stopTime: when it was done, one way or the other, or C{None}.
    @ivar result: what came of it, once it is FINISHED.
    @ivar failure: why it is FAILED or CANCELLED, or C{None}.
    @ivar place: for the heap in which it waits.
    """

    __slots__ = (
        "attempts",
        "failure",
        "id",
        "place",
        "priority",
        "queuedTime",
        "result",
        "startTime",
        "state",
        "stopTime",
    )

    priority: Any

    def __init__(self, id: int, priority: float | None, now: float) -> None:
        self.id = id
        self.priority = priority
        self.queuedTime = now
        self.state: str = PENDING
        self.place: Place | None = None
        self.attempts = 0
        self.startTime: float | None = None
        self.stopTime: float | None = None
        self.result: Any = None
        self.failure: Any = None

    @property
    def isDone(self) -> bool:
        """
        C{True} once it is FINISHED, FAILED or CANCELLED.
        """
        return not TASK[self.state]

    def begin(self, now: float) -> None:
        """
        It is underway.

        @raise StateError: unless it is PENDING.
        """
        self.state = nextState(TASK, self.state, "start", self)
        self.startTime = now
        self.attempts += 1

    def waitAgain(self) -> None:
        """
        It is not underway any more, and not done either.

        @raise StateError: unless it is UNDERWAY.
        """
        self.state = nextState(TASK, self.state, "giveBack", self)

    def finish(self, result: Any, now: float) -> None:
        """
        @raise StateError: unless it is UNDERWAY.
        """
        self.state = nextState(TASK, self.state, "finish", self)
        self.stopTime = now
        self.result = result

    def fail(self, failure: Any, now: float) -> None:
        """
        @raise StateError: if it is done.
        """
        self.state = nextState(TASK, self.state, "fail", self)
        self.stopTime = now
        self.failure = failure

    def giveUp(self, failure: Any, now: float) -> None:
        """
        @raise StateError: if it is done.
        """
        self.state = nextState(TASK, self.state, "cancel", self)
        self.stopTime = now
        self.failure = failure
