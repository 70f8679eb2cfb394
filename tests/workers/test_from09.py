"""
Workers that are used as those of AsynQueue 0.9 are, with no queue in between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from asynqueue import AsyncWorker
from asynqueue.base import TaskQueue
from asynqueue.errors import NotReadyError, StateError, WorkerDied, WorkerError
from asynqueue.iteration import Deferator, ListConsumer
from asynqueue.process import ProcessWorker
from asynqueue.testing import far
from asynqueue.testing.memory import MemoryChannel, MemoryWorker, act
from tests.support.cases import QueueCase, WorkerCase
from tests.support.processes import ProcessTestCase


class Old:
    """
    A task of AsynQueue 0.9's shape, and no more than that.
    """

    def __init__(self, function: Callable[..., Any], *args: Any, **kw: Any) -> None:
        self.callTuple = (function, list(args), kw)
        self.priority = 1.0
        self.told: list[Any] = []

    def callback(self, result: Any) -> None:
        self.told.append(result)


class BrokenOld(Old):
    def callback(self, result: Any) -> None:
        raise ZeroDivisionError


def itemsOf(deferator: Deferator) -> list[Any]:
    """
    @return: the items that have arrived.
    """
    items: list[Any] = []
    for d in deferator:
        d.addCallback(items.append)
    return items


class OldTaskTests(WorkerCase):
    """
    What a worker with a runner does, and the one in the main loop as well.
    """

    def start(self) -> Any:
        return self.makeWorker(isEmployed=False)

    def finish(self, worker: Any) -> None:
        worker.stepAll()

    def tell(self, *args: Any, **kw: Any) -> Any:
        """
        @return: what a task is told of its call.
        """
        worker, old = self.start(), Old(*args, **kw)
        done = worker.run(old)
        self.finish(worker)
        self.assertIsNone(self.successResultOf(done))
        [told] = old.told
        return told

    def test_aResult(self) -> None:
        self.assertEqual(self.tell(far.add, 1, 2), (b"r", 3))
        self.assertEqual(self.tell(far.keywords, 1, two=2), (b"r", ((1,), {"two": 2})))

    def test_anException(self) -> None:
        status, text = self.tell(far.refuse, "this")
        self.assertEqual(status, b"e")
        self.assertIn("ValueError", text)
        self.assertIn("refuse('this')", text)

    def test_items(self) -> None:
        status, deferator = self.tell(far.numbers, 3)
        self.assertEqual((status, itemsOf(deferator)), (b"i", [0, 1, 2]))
        status, deferator = self.tell(far.numbers, 0)
        self.assertEqual((status, len(deferator)), (b"i", 0))

    def test_itemsForAConsumer(self) -> None:
        consumer = ListConsumer()
        self.assertEqual(self.tell(far.numbers, 3, consumer=consumer), (b"i", consumer))
        self.assertEqual(self.successResultOf(consumer()), [0, 1, 2])

    def test_theWorkersOwnKeywordsDoNotReachTheFunction(self) -> None:
        told = self.tell(far.keywords, doNext=1, raw=None, consumer=None, niceness=5)
        self.assertEqual(told, (b"r", ((), {"niceness": 5})))

    def test_theCallTupleStaysAsItIs(self) -> None:
        old = Old(far.keywords, raw=True)
        worker = self.start()
        worker.run(old)
        self.finish(worker)
        self.assertEqual(old.callTuple, (far.keywords, [], {"raw": True}))

    def test_severalInTheirOrder(self) -> None:
        worker = self.start()
        told: list[Any] = []
        for number in range(5):
            old = Old(far.echo, number)
            old.told = told
            worker.run(old)
        self.finish(worker)
        self.assertEqual(told, [(b"r", number) for number in range(5)])

    def test_aCallbackThatRaisesIsLoggedAndHurtsNobodyElse(self) -> None:
        worker = self.start()
        bad, good = BrokenOld(far.echo, 1), Old(far.echo, 2)
        worker.run(bad)
        worker.run(good)
        self.finish(worker)
        self.assertEqual(good.told, [(b"r", 2)])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_aCrashReturnsTheTasksThemselves(self) -> None:
        worker = self.start()
        olds = [Old(far.echo, number) for number in range(3)]
        for old in olds:
            worker.run(old)
        self.assertEqual(worker.crash(), olds)
        self.assertEqual([old.told for old in olds], [[]] * 3)
        with self.assertRaises(StateError):
            worker.run(Old(far.echo))


class MainLoopTests(OldTaskTests):
    def start(self) -> Any:
        return AsyncWorker(reactor=self.clock)

    def finish(self, worker: Any) -> None:
        self.clock.pump([0] * 5)

    def test_whileItBelongsToAQueueItRunsThemBesides(self) -> None:
        worker = self.start()
        queue = TaskQueue(worker, reactor=self.clock)
        d, old = queue.call(far.echo, 1), Old(far.echo, 2)
        worker.run(old)
        self.finish(worker)
        self.assertEqual((self.successResultOf(d), old.told), (1, [(b"r", 2)]))
        done = queue.shutdown()
        self.finish(worker)
        self.successResultOf(done)


class RunnerTests(WorkerCase):
    def start(self) -> MemoryWorker:
        return self.makeWorker(isEmployed=False)

    def test_aDeathIsToldAsAnError(self) -> None:
        worker = self.start()
        worker.actions["die"] = worker.die
        dying, waiting = Old(act, "die"), Old(far.echo, 1)
        worker.run(dying)
        worker.run(waiting)
        worker.stepAll()
        [(status, text)] = dying.told
        self.assertEqual(status, b"e")
        self.assertIn("SIGKILL", text)
        self.clock.advance(0)
        worker.stepAll()
        self.assertEqual(waiting.told, [(b"r", 1)])

    def test_aWorkerThatGivesUpTellsAllThatWaits(self) -> None:
        def prepare(channel: MemoryChannel) -> None:
            channel.isStillborn = True

        worker = self.makeWorker(prepare, isEmployed=False, isReady=False, stepSeconds=0.0)
        olds = [Old(far.echo, number) for number in range(2)]
        for old in olds:
            worker.run(old)
        self.clock.pump([0.1] * 100)
        self.assertEqual([old.told[0][0] for old in olds], [b"e", b"e"])

    def test_itsTasksAreThoseThatHaveNotEnded(self) -> None:
        worker = self.start()
        first, second = Old(far.echo, 1), Old(far.numbers, 2)
        self.assertEqual(worker.tasks, [])
        worker.run(first)
        worker.run(second)
        self.assertEqual(worker.tasks, [first, second])
        worker.step()
        self.assertEqual(worker.tasks, [second])
        worker.stepAll()
        self.assertEqual(worker.tasks, [])

    def test_itsTasksWaitForTheNextRunner(self) -> None:
        worker = self.start()
        worker.die()
        worker.step()
        old = Old(far.echo, 1)
        worker.run(old)
        self.assertEqual(worker.tasks, [old])
        self.clock.advance(0)
        worker.stepAll()
        self.assertEqual((worker.tasks, old.told), ([], [(b"r", 1)]))


class QueueTests(QueueCase):
    """
    What a worker shows of the tasks that a queue has given it.
    """

    def setUp(self) -> None:
        super().setUp()
        self.worker = self.makeWorker(callStats=True)
        self.queue = self.makeQueue(self.worker)
        self.settle()

    def next(self, ID: int) -> Any:
        return self.resultOf(self.worker.do_next(ID))

    def test_itsTasksAreTheQueues(self) -> None:
        task = self.queue.submit(far.echo, 1)
        self.assertEqual(self.worker.tasks, [task])
        self.settle()
        self.assertEqual(self.worker.tasks, [])

    def test_aCancelledTaskIsNoneOfThem(self) -> None:
        task = self.queue.submit(far.echo, 1)
        task.d.addErrback(lambda _: None)
        task.cancel()
        self.assertEqual(self.worker.tasks, [])

    def test_aTaskOfTheOldShapeIsTheQueuesBusiness(self) -> None:
        old = Old(far.echo, 1)
        with self.assertRaises(WorkerError) as caught:
            self.worker.run(old)
        self.assertIn("queue", str(caught.exception))
        self.assertEqual(old.told, [])

    def test_theNextItemOfAnIterator(self) -> None:
        task = self.queue.submit(far.numbers, 3)
        deferator = self.resultOf(task.d)
        self.assertEqual([self.next(task.id) for _ in range(3)], [0, 1, 2])
        for _ in range(2):
            self.errorOf(self.worker.do_next(task.id), StopIteration)
        self.assertEqual(itemsOf(deferator), [])

    def test_theDeferatorHasTheRest(self) -> None:
        task = self.queue.submit(far.numbers, 3)
        deferator = self.resultOf(task.d)
        self.assertEqual(self.next(task.id), 0)
        self.assertEqual(itemsOf(deferator), [1, 2])

    def test_anIteratorsFailureComesAfterItsItems(self) -> None:
        task = self.queue.submit(far.numbersUntilRefused, 1)
        deferator = self.resultOf(task.d)
        self.assertEqual(self.next(task.id), 0)
        self.errorOf(self.worker.do_next(task.id), ValueError)
        deferator.stop()

    def test_anItemThatHasNotComeIsWaitedForByOneOnly(self) -> None:
        task = self.queue.submit(far.endless)
        deferator = self.resultOf(task.d)
        while deferator.source.items:
            deferator.source.take()
        first = self.worker.do_next(task.id)
        self.errorOf(self.worker.do_next(task.id), NotReadyError)
        self.settle()
        self.assertIsInstance(self.successResultOf(first), int)
        while deferator.source.items:
            deferator.source.take()
        cancelled = self.worker.do_next(task.id)
        cancelled.cancel()
        self.errorOf(cancelled, CancelledError)
        self.settle()
        self.assertIsInstance(self.next(task.id), int)
        deferator.stop()

    def test_itsProcessDiesMeanwhile(self) -> None:
        task = self.queue.submit(far.endless)
        deferator = self.resultOf(task.d)
        self.worker.die(losing=True)
        self.settle()
        items = 0
        while deferator.source.items:
            self.next(task.id)
            items += 1
        self.assertTrue(items)
        self.errorOf(self.worker.do_next(task.id), WorkerDied)

    def test_thereIsNoSuchIterator(self) -> None:
        task = self.queue.submit(far.echo, 1)
        self.resultOf(task.d)
        for ID in (task.id, 99, "iterator 1"):
            self.errorOf(self.worker.do_next(ID), StopIteration)

    def test_theEmptyTextStandsForTheTimes(self) -> None:
        self.resultOf(self.queue.call(far.echo, 1))
        [seconds] = self.resultOf(self.worker.do_next(""))
        self.assertIsInstance(seconds, float)
        [(_, ran)] = self.resultOf(self.worker.stats())
        self.assertEqual(ran, seconds)

    def test_withoutTimesThereAreNone(self) -> None:
        worker = MemoryWorker(reactor=Clock())
        self.assertEqual(self.successResultOf(worker.do_next("")), [])
        worker.crash()
        worker.step()


class ProcessTests(ProcessTestCase):
    async def test_aProcessRunsATaskOfTheOldShape(self) -> None:
        worker = ProcessWorker()
        self.addCleanup(worker.stop)
        old, items = Old(far.add, 1, 2), Old(far.numbers, 3)
        done: list[Deferred[None]] = [worker.run(old), worker.run(items)]
        self.assertEqual(worker.tasks, [old, items])
        for d in done:
            await d
        self.assertEqual(old.told, [(b"r", 3)])
        await self.until(lambda: bool(items.told))
        [(status, deferator)] = items.told
        self.assertEqual((status, [item async for item in deferator]), (b"i", [0, 1, 2]))
