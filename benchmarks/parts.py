"""
Parts of the contenders' programs: a reactor that runs a coroutine, counters of results, and the
heap and the threads of a usual program.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Coroutine
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from twisted.python.failure import Failure
from zope.interface import implementer

from benchmarks.tasks import echo

if TYPE_CHECKING:
    # The peers' programs import this module, too.
    from asynqueue import TaskQueue


def runInReactor(work: Callable[[], Coroutine[Deferred[Any], Any, float]]) -> float:
    """
    Run the reactor until a coroutine is done. A process can do this once.

    @return: the coroutine's result.
    @raise Exception: the coroutine's exception.
    """
    from twisted.internet import reactor

    installed: Any = reactor
    outcomes: list[Any] = []

    def begin() -> None:
        done = Deferred.fromCoroutine(work())
        done.addBoth(outcomes.append).addCallback(lambda _: installed.stop())

    installed.callWhenRunning(begin)
    installed.run()
    (outcome,) = outcomes
    if isinstance(outcome, Failure):
        outcome.raiseException()
    return float(outcome)


class Counter:
    """
    Counts results, and calls a function when all are there.

    The results must be the integers below their number, in any order. So a result that is wrong, or
    comes twice, is noticed.
    """

    def __init__(self, expected: int, complete: Callable[[], Any]) -> None:
        """
        @param expected: how many results are expected.
        @param complete: a function to call when all of them have come.
        """
        self.expected = expected
        self._complete = complete
        self.count = 0
        self._sum = 0

    def add(self, result: int) -> None:
        """
        Count a result.
        """
        self._sum += result
        self.count += 1
        if self.count == self.expected:
            self._complete()

    def check(self) -> None:
        """
        @raise ValueError: if a result is missing or wrong.
        """
        if self.count != self.expected or self._sum != sum(range(self.expected)):
            raise ValueError(f"of {self.expected} results came {self.count}, sum {self._sum}")


async def callAtOnce(queue: TaskQueue, calls: int) -> float:
    """
    Put calls of L{echo} into a queue, all at once.

    @return: calls a second, from the first one put until the last Deferred fired.
    """
    over: Deferred[None] = Deferred()
    counter = Counter(calls, lambda: over.callback(None))
    started = perf_counter()
    for number in range(calls):
        queue.call(echo, number).addCallbacks(counter.add, over.errback)
    await over
    seconds = perf_counter() - started
    counter.check()
    return calls / seconds


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
        Never pause the producer.
        """

    def unregisterProducer(self) -> None:
        """
        Do nothing.
        """


# A usual program ----------------------------------------------------------------------------------
#
# The process of a benchmark is barer than any program. A heap of objects makes each full collection
# of garbage dearer, and threads compete for the interpreter's lock.

OBJECTS: Final = 300_000
THREADS: Final = 4
REST: Final = 0.01
"""Seconds that a thread sleeps between two bits of work."""

_kept: list[Any] = []


def becomeUsual() -> None:
    """
    Fill the heap with objects that the garbage collector looks at, import NumPy, and start some
    threads, which last as long as the process.
    """
    import numpy as np

    _kept.append(np.zeros(1000))
    _kept.append([{"number": number} for number in range(OBJECTS)])
    for _ in range(THREADS):
        threading.Thread(target=_workAndRest, daemon=True).start()


def _workAndRest() -> None:
    while True:
        sum(range(100))
        time.sleep(REST)
