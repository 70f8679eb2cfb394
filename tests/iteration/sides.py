"""
Both sides of a blocking iterator in one thread, stepped by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.interfaces import IPullProducer, IPushProducer
from twisted.internet.task import Clock
from twisted.python import threadable
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer


class SidesCase(SynchronousTestCase):
    """
    Tests in what counts as the reactor's thread, except within L{otherThread}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.patch(threadable, "ioThread", threadable.getThreadID())

    @contextmanager
    def otherThread(self) -> Iterator[None]:
        state: Any = threadable
        here, state.ioThread = state.ioThread, -1
        try:
            yield
        finally:
            state.ioThread = here


@implementer(IPushProducer)
class PushNotes:
    """
    A push producer that notes what it is told.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []

    def pauseProducing(self) -> None:
        self.notes.append("pause")

    def resumeProducing(self) -> None:
        self.notes.append("resume")

    def stopProducing(self) -> None:
        self.notes.append("stop")


@implementer(IPullProducer)
class PullSource:
    """
    A pull producer that writes each item when it is asked, and then unregisters.
    """

    def __init__(self, consumer: Any, items: Iterator[Any]) -> None:
        self.consumer = consumer
        self.items = items
        self.asked = 0
        self.stops = 0

    def resumeProducing(self) -> None:
        self.asked += 1
        for item in self.items:
            self.consumer.write(item)
            return
        self.consumer.unregisterProducer()

    def stopProducing(self) -> None:
        self.stops += 1


class StepPool:
    """
    A thread pool whose calls are run when the test says so.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[[bool, Any], object], Callable[[], Any]]] = []

    def callInThreadWithCallback(
        self, onResult: Callable[[bool, Any], object], function: Callable[[], Any]
    ) -> None:
        self.calls.append((onResult, function))
