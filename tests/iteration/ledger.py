"""
What several of these tests use.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue.iteration import Deferator, ItemSource

MANY = 5_000
"""Five times Python's limit for the depth of recursion."""


class Ledger(ItemSource):
    """
    A source that keeps what its hooks were told.
    """

    def __init__(self, *items: Any) -> None:
        super().__init__()
        self.wanted = 0
        self.reports: list[tuple[int, int]] = []
        self.stops = 0
        if items:
            self.add(items)

    def want(self) -> None:
        self.wanted += 1

    def consumed(self, count: int, cost: int) -> None:
        self.reports.append((count, cost))

    def stopped(self) -> None:
        self.stops += 1


def ended(*items: Any) -> Ledger:
    source = Ledger(*items)
    source.end()
    return source


def failureOf(error: BaseException) -> Failure:
    return Failure(error)


def outcomesOf(d: Deferred[Any]) -> list[Any]:
    """
    @return: a list that gets the outcome of a Deferred: its result, or the exception itself.
    """
    outcomes: list[Any] = []
    d.addCallbacks(outcomes.append, lambda failure: outcomes.append(failure.value))
    return outcomes


def takeAll(deferator: Deferator) -> list[Any]:
    """
    @return: the items that are there, and then the exception that ends them, if one does.
    """
    taken: list[Any] = []
    while True:
        d = Deferred.fromCoroutine(deferator.__anext__())
        outcomes = outcomesOf(d)
        if not outcomes:
            d.cancel()
            return taken
        if isinstance(outcomes[0], StopAsyncIteration):
            return taken
        taken += outcomes
        if isinstance(outcomes[0], BaseException):
            return taken


def depth() -> int:
    """
    @return: how deep the stack is.
    """
    frame, count = sys._getframe(), 0
    while frame.f_back is not None:
        frame, count = frame.f_back, count + 1
    return count


@implementer(IConsumer)
class Notebook:
    """
    A consumer that notes everything, and does what C{reaction} does after each write.
    """

    def __init__(self, reaction: Callable[[Any], object] | None = None) -> None:
        self.producer: Any = None
        self.notes: list[Any] = []
        self.reaction = reaction

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer
        self.notes.append(("register", streaming))

    def unregisterProducer(self) -> None:
        self.producer = None
        self.notes.append("unregister")

    def write(self, data: Any) -> None:
        self.notes.append(data)
        if self.reaction is not None:
            self.reaction(data)

    @property
    def items(self) -> list[Any]:
        return [note for note in self.notes if isinstance(note, int)]
