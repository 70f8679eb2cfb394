"""
Streams of items: credit, pauses, and all ways to end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.interfaces import IConsumer, IReactorFromThreads
from twisted.internet.task import Clock
from zope.interface import implementer

from asynqueue import QueuedTask
from asynqueue._iteration.patience import IDLE_SECONDS
from asynqueue._runner.messages import CANCEL, CREDIT_ITEMS, GRANT
from asynqueue.errors import (
    ImplementationError,
    IterationStopped,
    ResultNotPicklable,
    ResultNotRebuilt,
    WorkerDied,
)
from asynqueue.iteration import ListConsumer
from asynqueue.tasks import DRAINING, STOPPED
from asynqueue.testing import far
from asynqueue.testing.memory import MemoryWorker, act
from tests.iteration.ledger import takeAll
from tests.support.cases import WorkerCase


@implementer(IConsumer)
class Reader:
    """
    A consumer that pauses after some items.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.items: list[Any] = []
        self.producer: Any = None

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: Any) -> None:
        self.items.append(data)
        if len(self.items) == self.most:
            self.producer.pauseProducing()


def ticking(count: int) -> Iterator[int]:
    for number in range(count):
        act("tick")
        yield number


def large(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield bytes(1 << 20)


def refuseAtOnce() -> Iterator[int]:
    raise ValueError("not even one")
    yield 0


def untilClosed(name: str) -> Iterator[int]:
    try:
        yield from far.endless()
    finally:
        act(name)


class StreamCase(WorkerCase):
    def setUp(self) -> None:
        super().setUp()
        self.ticks = 0
        self.closings = 0

    def makeStreaming(
        self, function: Any, *args: Any, **options: Any
    ) -> tuple[MemoryWorker, QueuedTask]:
        """
        Have a new worker run an iterator for as long as there is credit.
        """
        worker = self.makeWorker()
        worker.actions["tick"] = self.tick
        worker.actions["close"] = self.close
        task = self.give(worker, function, *args, **options)
        worker.stepAll()
        return worker, task

    def tick(self) -> None:
        self.ticks += 1

    def close(self) -> None:
        self.closings += 1

    def waiting(self, task: QueuedTask) -> int:
        """
        How many items lie on the near side.
        """
        return len(task.result.source.items)


class CreditTests(StreamCase):
    def test_aGeneratorStopsWhereNobodyTakesItsItems(self) -> None:
        worker, task = self.makeStreaming(ticking, 10**9)
        self.assertEqual(self.ticks, CREDIT_ITEMS)
        self.assertEqual(self.waiting(task), CREDIT_ITEMS)
        self.assertFalse(worker.channel.hasWork)

    def test_itGoesOnByAsMuchAsWasTaken(self) -> None:
        worker, task = self.makeStreaming(ticking, 10**9)
        for _ in range(3):
            self.assertEqual(len(takeAll(task.result)), CREDIT_ITEMS)
            worker.stepAll()
            self.assertEqual(self.waiting(task), CREDIT_ITEMS)
        self.assertEqual(self.ticks, 4 * CREDIT_ITEMS)

    def test_creditIsGrantedAgainOnceABatchIsTaken(self) -> None:
        worker, task = self.makeStreaming(ticking, 10**9)
        source = task.result.source
        for _ in range(2047):
            source.take()
        self.assertNotEqual(worker.channel.sent[-1][0], GRANT)
        source.take()
        grant, number, items, size = worker.channel.sent[-1]
        self.assertEqual((grant, number, items), (GRANT, 1, 2048))
        self.assertGreater(size, 2048)

    def test_largeItemsUseUpTheCreditInBytes(self) -> None:
        worker, task = self.makeStreaming(large, 1000)
        self.assertLessEqual(self.waiting(task), 5)
        self.assertGreaterEqual(self.waiting(task), 4)
        self.assertFalse(worker.channel.hasWork)
        takeAll(task.result)
        worker.stepAll()
        self.assertGreaterEqual(self.waiting(task), 4)

    def test_aPausedConsumerStopsTheGenerator(self) -> None:
        reader = Reader(100)
        worker, task = self.makeStreaming(ticking, 40_000, consumer=reader)
        self.assertEqual(len(reader.items), 100)
        self.assertEqual(self.ticks, CREDIT_ITEMS)
        reader.producer.resumeProducing()
        worker.stepAll()
        self.assertEqual(reader.items, list(range(40_000)))
        self.assertIs(task.result, reader)

    def test_noCreditIsGrantedForAStreamThatIsOver(self) -> None:
        worker, task = self.makeStreaming(far.numbers, 5)
        self.assertEqual(takeAll(task.result), [0, 1, 2, 3, 4])
        self.assertNotIn(GRANT, [message[0] for message in worker.channel.sent])

    def test_aStreamWithoutCreditDoesNotHoldUpCalls(self) -> None:
        worker, _ = self.makeStreaming(ticking, 10**9)
        task = self.give(worker, far.echo, 1)
        worker.stepAll()
        self.assertEqual(task.result, 1)


class EndTests(StreamCase):
    def test_aStreamIsATaskOnlyUntilItBegins(self) -> None:
        _, task = self.makeStreaming(far.endless)
        self.assertEqual(self.listener.of("released"), [task])

    def test_stoppingEarlyClosesTheGenerator(self) -> None:
        worker, task = self.makeStreaming(untilClosed, "close")
        task.result.stop()
        self.assertEqual(self.closings, 0)
        worker.stepAll()
        self.assertEqual(self.closings, 1)
        self.assertFalse(worker.channel.runner.hasStreams)

    def test_whatArrivesAfterwardsIsDropped(self) -> None:
        worker = self.makeWorker()
        task = self.give(worker, far.endless)
        worker.step()
        deferator = task.result
        worker.channel.advance()
        deferator.stop()
        worker.stepAll()
        self.assertEqual(takeAll(deferator), [])
        self.assertIs(self.successResultOf(deferator.d), False)

    def test_droppingTheDeferatorClosesTheGenerator(self) -> None:
        worker = self.makeWorker()
        worker.actions["close"] = self.close
        worker.run(self.owner.make(untilClosed, "close"))
        worker.stepAll()
        self.assertEqual(self.closings, 1)

    def test_droppingItInAnotherThreadDisturbsNothing(self) -> None:
        @implementer(IReactorFromThreads)
        class ThreadedClock(Clock):
            def callFromThread(
                self, callable: Callable[..., Any], *args: object, **kwargs: object
            ) -> None:
                self.callLater(0, callable, *args, **kwargs)

        self.clock = ThreadedClock()
        worker, task = self.makeStreaming(untilClosed, "close")
        task.outcome = None
        sent = len(worker.channel.sent)
        task.d.addCallback(lambda _: None)
        self.assertEqual(len(worker.channel.sent), sent)
        self.clock.advance(0)
        self.assertEqual(worker.channel.sent[sent:], [(CANCEL, 1)])
        worker.stepAll()
        self.assertEqual(self.closings, 1)

    def test_aFailureComesAfterTheItems(self) -> None:
        _, task = self.makeStreaming(far.numbersUntilRefused, 3)
        [*items, error] = takeAll(task.result)
        self.assertEqual(items, [0, 1, 2])
        self.assertIsInstance(error, ValueError)
        self.assertIn("numbersUntilRefused", str(error.__cause__))

    def test_aFailureBeforeTheFirstItemIsTheTasks(self) -> None:
        _, task = self.makeStreaming(refuseAtOnce)
        self.assertIsInstance(task.failure.value, ValueError)

    def test_anItemThatCannotBePickledComesAfterTheItems(self) -> None:
        worker, task = self.makeStreaming(far.lambdas, 3)
        [*items, error] = takeAll(task.result)
        self.assertEqual(items, [0, 1, 2])
        self.assertIsInstance(error, ResultNotPicklable)
        self.assertFalse(worker.channel.runner.hasStreams)

    def test_anItemThatCannotBeRebuiltComesAfterTheItems(self) -> None:
        worker, task = self.makeStreaming(far.bombs, 3)
        [*items, error] = takeAll(task.result)
        self.assertEqual(items, [0, 1, 2])
        self.assertIsInstance(error, ResultNotRebuilt)
        self.assertIn("ValueError: bang", str(error))
        self.assertFalse(worker.channel.runner.hasStreams)

    def test_anItemThatCanBeRebuiltTheSecondTimeIsAnItem(self) -> None:
        Moody.refusals = 1
        _, task = self.makeStreaming(moody)
        self.assertEqual([type(item) for item in takeAll(task.result)], [Moody])

    def test_aConsumerHearsOfAFailure(self) -> None:
        reader = Reader(100)
        _, task = self.makeStreaming(far.numbersUntilRefused, 3, consumer=reader)
        self.assertEqual(reader.items, [0, 1, 2])
        self.assertIsNone(reader.producer)
        self.assertIsInstance(task.failure.value, ValueError)

    def test_aConsumerThatRaisesEndsTheGenerator(self) -> None:
        class Refusing(Reader):
            def write(self, data: Any) -> None:
                super().write(data)
                raise KeyError(data)

        reader = Refusing(100)
        worker, task = self.makeStreaming(untilClosed, "close", consumer=reader)
        self.assertIsInstance(task.failure.value, KeyError)
        self.assertEqual(reader.items, [0])
        self.assertEqual(self.closings, 1)
        other = self.give(worker, far.echo, 1)
        worker.stepAll()
        self.assertEqual(other.result, 1)

    def test_whatIsNoConsumerFailsTheTaskAndEndsTheGenerator(self) -> None:
        _, task = self.makeStreaming(untilClosed, "close", consumer=object())
        self.assertIsInstance(task.failure.value, ImplementationError)
        self.assertEqual(self.closings, 1)

    def test_aConsumerWithoutAnIteratorIsNotNeeded(self) -> None:
        consumer = ListConsumer()
        _, task = self.makeStreaming(far.echo, 1, consumer=consumer)
        self.assertEqual(task.result, 1)
        self.assertIsNone(consumer.producer)


class InterruptionTests(StreamCase):
    def test_aDeathComesAfterTheItems(self) -> None:
        worker, task = self.makeStreaming(far.endless)
        worker.die()
        worker.step()
        [*items, error] = takeAll(task.result)
        self.assertEqual(items, list(range(CREDIT_ITEMS)))
        self.assertIsInstance(error, WorkerDied)

    def test_aDeathBeforeTheFirstItemIsTheTasks(self) -> None:
        worker = self.makeWorker()
        worker.actions["tick"] = worker.die
        task = self.give(worker, ticking, 5)
        worker.stepAll()
        self.assertIsInstance(task.failure.value, WorkerDied)

    def test_aDeathTakesOnlyStreamsAndTheRunningCall(self) -> None:
        worker, task = self.makeStreaming(far.endless)
        worker.actions["die"] = worker.die
        fatal, waiting = self.giveMany(worker, (act, "die"), (far.echo,))
        worker.stepAll()
        self.assertIsInstance(takeAll(task.result)[-1], WorkerDied)
        self.assertIsInstance(fatal.failure.value, WorkerDied)
        self.assertEqual(self.listener.of("givenBack"), [[waiting]])

    def test_aCrashComesAfterTheItems(self) -> None:
        worker, task = self.makeStreaming(far.endless)
        self.assertEqual(worker.crash(), [])
        [*items, error] = takeAll(task.result)
        self.assertEqual(len(items), CREDIT_ITEMS)
        self.assertIsInstance(error, IterationStopped)

    def test_aStopComesAfterTheItemsAndClosesTheGenerator(self) -> None:
        worker, task = self.makeStreaming(untilClosed, "close")
        stopped = worker.stop()
        self.assertEqual(worker.state, DRAINING)
        worker.stepAll()
        [*items, error] = takeAll(task.result)
        self.assertEqual(len(items), CREDIT_ITEMS)
        self.assertIsInstance(error, IterationStopped)
        self.assertEqual(self.closings, 1)
        self.successResultOf(stopped)
        self.assertEqual(worker.state, STOPPED)
        self.assertAtRest()

    def test_aStopWaitsForTheFirstItem(self) -> None:
        worker = self.makeWorker()
        task = self.give(worker, far.numbers, 3)
        worker.channel.advance()
        del worker.channel._incoming[1:]
        worker.channel.deliver()
        stopped = worker.stop()
        self.assertFalse(task.isDone)
        self.assertNoResult(stopped)

    def test_aStreamThatBeginsDuringAStopIsEndedIfNobodyTakesFromIt(self) -> None:
        worker = self.makeWorker()
        worker.actions["close"] = self.close
        task = self.give(worker, untilClosed, "close")
        stopped = worker.stop()
        worker.stepAll()
        self.assertIsInstance(takeAll(task.result)[-1], IterationStopped)
        self.assertEqual(self.closings, 1)
        self.successResultOf(stopped)

    def test_aStreamThatBeginsDuringAStopGoesOnIfSomebodyTakesFromIt(self) -> None:
        worker = self.makeWorker()
        reader = Reader(-1)
        task = self.give(worker, far.numbers, 10 * CREDIT_ITEMS, consumer=reader)
        stopped = worker.stop()
        worker.stepAll()
        self.assertEqual(reader.items, list(range(10 * CREDIT_ITEMS)))
        self.assertIs(task.result, reader)
        self.successResultOf(stopped)

    def test_aConsumerThatPausesForTooLongHearsOfAStop(self) -> None:
        reader = Reader(10)
        worker = self.makeWorker()
        task = self.give(worker, far.endless, consumer=reader)
        worker.stepAll()
        worker.stop()
        worker.stepAll()
        self.assertIsNotNone(reader.producer)
        for _ in range(8):
            self.clock.advance(IDLE_SECONDS / 4)
        self.assertIsNone(reader.producer)
        self.assertIsInstance(task.failure.value, IterationStopped)
        worker.stepAll()
        self.assertAtRest()

    def test_aCallThatYieldsWhenItIsNotWantedAnyMoreIsClosed(self) -> None:
        worker = self.makeWorker()
        worker.actions["close"] = self.close
        task = self.give(worker, untilClosed, "close")
        worker.channel.advance()
        self.dropTask(worker, task)
        worker.stepAll()
        self.assertFalse(worker.channel.runner.hasStreams)
        self.assertEqual(self.closings, 1)

    def test_itsConsumerGetsNothing(self) -> None:
        worker = self.makeWorker()
        reader = Reader(10)
        task = self.give(worker, far.endless, consumer=reader)
        worker.channel.advance()
        self.dropTask(worker, task)
        worker.stepAll()
        self.assertEqual(reader.items, [])


class Moody:
    """
    A value whose first attempts at unpickling fail.
    """

    refusals = 0

    def __setstate__(self, state: Any) -> None:
        if Moody.refusals:
            Moody.refusals -= 1
            raise ValueError("not now")

    def __getstate__(self) -> Any:
        return 1


def moody() -> Iterator[Moody]:
    yield Moody()
