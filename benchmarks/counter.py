"""
Counting what comes back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IConsumer
from zope.interface import implementer


class Counter:
    """
    Counts results, and calls something when all are there.

    The results are to be the integers below their number, in whatever order, so that one that is
    wrong or comes twice does not pass for another.
    """

    def __init__(self, expected: int, complete: Callable[[], Any]) -> None:
        """
        @param expected: how many results are to come.
        @param complete: is called when they have.
        """
        self.expected = expected
        self._complete = complete
        self.count = 0
        self._sum = 0

    def add(self, result: int) -> None:
        """
        A result came.
        """
        self._sum += result
        self.count += 1
        if self.count == self.expected:
            self._complete()

    def check(self) -> None:
        """
        @raise ValueError: unless all came, and rightly.
        """
        if self.count != self.expected or self._sum != sum(range(self.expected)):
            raise ValueError(f"of {self.expected} results came {self.count}, sum {self._sum}")


@implementer(IConsumer)
class CountingConsumer:
    """
    A consumer that counts the items.
    """

    def __init__(self, expected: int) -> None:
        self.counter = Counter(expected, lambda: None)
        self.write: Any = self.counter.add

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        The producer is never paused.
        """

    def unregisterProducer(self) -> None:
        """
        That was all.
        """
