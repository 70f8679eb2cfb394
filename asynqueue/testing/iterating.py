"""
The promises of workers that stream the items of iterators, as a test case.
"""

# Trial's assertions carry no annotations.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from zope.interface import implementer

from asynqueue._iteration.deferator import Deferator
from asynqueue.errors import IterationStopped
from asynqueue.interfaces import IWorker
from asynqueue.testing import far
from asynqueue.testing.contract import WorkerContract
from asynqueue.tools.consumers import ListConsumer

MANY = 50_000
"""A number of items that is larger than the credit of any worker."""


@implementer(IConsumer)
class PausingConsumer:
    """
    A consumer that pauses its producer at the first item.

    @ivar items: the items that were written.
    @ivar producer: the registered producer, or C{None}.
    """

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.producer: Any = None

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: Any) -> None:
        self.items.append(data)
        if len(self.items) == 1:
            self.producer.pauseProducing()


class IteratingWorkerContract(WorkerContract):
    """
    Tests L{WorkerContract<asynqueue.testing.WorkerContract>}, and that a worker streams the items
    of an iterator which a function returns: as a L{Deferator<asynqueue.iteration.Deferator>}, or
    into the call's consumer. Such a worker can be given its next task as soon as the iteration has
    begun::

        class MyWorkerTests(IteratingWorkerContract, TestCase):
            def makeWorker(self):
                return MyWorker()
    """

    async def items(self, deferator: Deferator, count: int) -> list[Any]:
        """
        Take so many items.
        """
        taken: list[Any] = []
        while len(taken) < count:
            taken.append(await self.wait(Deferred.fromCoroutine(deferator.__anext__())))
        return taken

    async def iterate(
        self, worker: IWorker, function: Callable[..., object], *args: object
    ) -> tuple[Deferator, Deferred[None]]:
        """
        Run a task that returns an iterator.

        @return: the Deferator that the task ends with, and what C{run} returned.
        """
        task, ready = self.give(worker, function, *args)
        deferator = await self.ending(task)
        self.assertIsInstance(deferator, Deferator, "an iterator comes back as a Deferator")
        return deferator, ready

    async def keepBusy(self, worker: IWorker, until: Callable[[], object]) -> None:
        """
        Have a worker run other tasks until a condition is true.
        """
        for _ in range(1000):
            if until():
                return
            task, ready = self.give(worker, far.echo)
            await self.ending(task)
            await self.wait(ready)
        self.fail("the iteration has not reached its goal after a thousand other tasks")

    # Items ----------------------------------------------------------------------------------------

    async def test_anIteratorBecomesADeferator(self) -> None:
        worker = await self.start()
        deferator, _ = await self.iterate(worker, far.numbers, 5)
        self.assertEqual(await self.items(deferator, 5), [0, 1, 2, 3, 4])
        with self.assertRaises(StopAsyncIteration):
            await self.items(deferator, 1)

    async def test_moreItemsThanAnyCreditArriveInOrder(self) -> None:
        worker = await self.start()
        consumer = ListConsumer()
        task, _ = self.give(worker, far.numbers, MANY, consumer=consumer)
        self.assertIs(
            await self.ending(task), consumer, "an iteration into a consumer ends with the consumer"
        )
        items = await self.wait(consumer())
        self.assertTrue(items == list(range(MANY)), "every item arrives, in order")

    async def test_anEmptyIteratorIsStillOne(self) -> None:
        worker = await self.start()
        deferator, _ = await self.iterate(worker, far.numbers, 0)
        with self.assertRaises(StopAsyncIteration):
            await self.items(deferator, 1)

    async def test_anIterationsFailureComesAfterItsItems(self) -> None:
        worker = await self.start()
        deferator, _ = await self.iterate(worker, far.numbersUntilRefused, 3)
        self.assertEqual(await self.items(deferator, 3), [0, 1, 2])
        with self.assertRaises(ValueError):
            await self.items(deferator, 1)

    async def test_anIterationsFailureIsToldAfterTheConsumerHasItsItems(self) -> None:
        worker = await self.start()
        consumer = ListConsumer()
        task, _ = self.give(worker, far.numbersUntilRefused, 3, consumer=consumer)
        self.assertIsInstance(await self.ending(task), ValueError)
        self.assertEqual(await self.wait(consumer()), [0, 1, 2])

    async def test_aRawIteratorComesBackAsItIs(self) -> None:
        worker = await self.start()
        task, _ = self.give(worker, far.echo, iter([1, 2]), raw=True)
        result = await self.ending(task)
        self.assertFalse(
            isinstance(result, Deferator), "with raw, an iterator is a result like any other"
        )
        self.assertEqual(list(result), [1, 2])

    # Several at once ------------------------------------------------------------------------------

    async def test_severalStreamsAndCallsShareAWorker(self) -> None:
        worker = await self.start()
        deferators = []
        for _ in range(2):
            deferator, ready = await self.iterate(worker, far.endless)
            await self.wait(ready)
            deferators.append(deferator)
        await self.assertWorks(worker, "an iteration that has begun")
        for deferator in deferators:
            self.assertEqual(await self.items(deferator, 3), [0, 1, 2])
            deferator.stop()

    async def test_aPausedConsumerStopsTheGenerator(self) -> None:
        worker = await self.start()
        path = os.path.join(self.scratchFolder(), "tally")
        consumer = PausingConsumer()
        task, ready = self.give(worker, far.tallied, path, MANY, consumer=consumer)
        await self.wait(ready)
        await self.keepBusy(worker, lambda: consumer.items)
        sizes = [-1]

        def isStill() -> bool:
            sizes.append(os.path.getsize(path))
            return sizes[-1] == sizes[-2]

        await self.keepBusy(worker, isStill)
        self.assertLess(
            sizes[-1], MANY, "while its consumer pauses, a generator runs ahead by a bounded number"
        )
        self.assertEqual(consumer.items, [0], "nothing is written to a consumer that pauses")
        consumer.producer.resumeProducing()
        await self.ending(task)
        self.assertTrue(consumer.items == list(range(MANY)), "then every item arrives, in order")

    # The end --------------------------------------------------------------------------------------

    async def test_stoppingEarlyClosesTheGenerator(self) -> None:
        worker = await self.start()
        path = os.path.join(self.scratchFolder(), "closed")
        deferator, _ = await self.iterate(worker, far.endlessUntilClosed, path)
        self.assertEqual(await self.items(deferator, 1), [0])
        deferator.stop()
        await self.wait(worker.stop())
        self.assertTrue(os.path.exists(path), "when the taker stops, the generator is closed")

    async def test_stopEndsAnIterationThatNobodyTakesFrom(self) -> None:
        worker = await self.start()
        path = os.path.join(self.scratchFolder(), "closed")
        deferator, ready = await self.iterate(worker, far.endlessUntilClosed, path)
        await self.wait(ready)
        await self.wait(worker.stop())
        await self._assertIsStopped(deferator)
        self.assertTrue(os.path.exists(path), "when the worker stops, the generator is closed")

    async def test_stopLetsAnIterationGoOnThatSomebodyTakesFrom(self) -> None:
        worker = await self.start()
        deferator, _ = await self.iterate(worker, far.numbers, MANY)
        self.assertEqual(await self.items(deferator, 1), [0])
        stopped = worker.stop()
        rest = await self.items(deferator, MANY - 1)
        self.assertTrue(rest == list(range(1, MANY)), "after the stop, every item still arrives")
        with self.assertRaises(StopAsyncIteration):
            await self.items(deferator, 1)
        await self.wait(stopped)

    async def test_stopLetsAnIterationGoOnIntoAConsumer(self) -> None:
        worker = await self.start()
        consumer = PausingConsumer()
        task, ready = self.give(worker, far.numbers, MANY, consumer=consumer)
        await self.wait(ready)
        await self.keepBusy(worker, lambda: consumer.items)
        stopped = worker.stop()
        if consumer.producer is not None:
            consumer.producer.resumeProducing()
        self.assertIs(await self.ending(task), consumer, "the call goes on to its end")
        self.assertTrue(consumer.items == list(range(MANY)), "the consumer gets every item")
        self.assertIsNone(consumer.producer, "the consumer is told that there is no more to come")
        await self.wait(stopped)

    async def test_aCrashEndsAnIterationIntoAPausedConsumer(self) -> None:
        worker = await self.start()
        consumer = PausingConsumer()
        task, ready = self.give(worker, far.endless, consumer=consumer)
        await self.wait(ready)
        await self.keepBusy(worker, lambda: consumer.items)
        worker.crash()
        error = await self.ending(task)
        self.assertIsInstance(error, IterationStopped, "the call is told that it was stopped")
        self.assertIsNone(consumer.producer, "the consumer is told that there is no more to come")

    async def test_aCrashEndsAnIteration(self) -> None:
        worker = await self.start()
        deferator, ready = await self.iterate(worker, far.endless)
        await self.wait(ready)
        self.assertEqual(worker.crash(), [], "a task that ended with a Deferator is not given back")
        await self._assertIsStopped(deferator)

    async def _assertIsStopped(self, deferator: Deferator) -> None:
        taken: list[Any] = []
        with self.assertRaises(IterationStopped):
            while True:
                taken += await self.items(deferator, 1)
        self.assertTrue(taken == list(range(len(taken))), "what arrived before the end is in order")
