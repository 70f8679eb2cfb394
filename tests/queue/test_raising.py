"""
The program's own workers, consumers, observers and arguments raise, whatever they like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer
from zope.interface import implementer

from asynqueue._iteration.delivery import deliver
from asynqueue._iteration.sources import makeSource
from asynqueue._queue.engine import IDLE
from asynqueue._workers.events import GivenBack, Logged
from asynqueue.errors import IterationStopped, QueueStopped, WorkerDetached, WorkerError
from asynqueue.iteration import ItemSource
from asynqueue.tasks import LOST
from asynqueue.testing import far
from asynqueue.testing.stepworker import StepWorker
from tests.queue.test_subscribe import LoadConsumer
from tests.support.cases import QueueCase

KINDS: tuple[type[BaseException], ...] = (
    RuntimeError,
    KeyboardInterrupt,
    SystemExit,
    GeneratorExit,
)


class Faulty(StepWorker):
    """
    Raises where it is told to.
    """

    def __init__(self, kind: type[BaseException], *where: str) -> None:
        super().__init__()
        self._kind = kind
        self._where = where

    def _mayRaise(self, where: str) -> None:
        if where in self._where:
            raise self._kind(where)

    def setResignator(self, callableObject: Callable[[], Any]) -> None:
        self._mayRaise("setResignator")
        super().setResignator(callableObject)

    def run(self, task: Any) -> Deferred[None]:
        self._mayRaise("run")
        return super().run(task)

    def cancel(self, task: Any) -> None:
        self._mayRaise("cancel")

    def stop(self) -> Deferred[None]:
        self._mayRaise("stop")
        return super().stop()

    def crash(self) -> list[Any]:
        self._mayRaise("crash")
        return super().crash()


class Forgetful(StepWorker):
    """
    Does not say which tasks it leaves.
    """

    def crash(self) -> Any:
        super().crash()


@implementer(IConsumer)
class FaultyConsumer:
    """
    Raises where it is told to.
    """

    def __init__(self, kind: type[BaseException], *where: str) -> None:
        self._kind = kind
        self._where = where
        self.producer: Any = None

    def _mayRaise(self, where: str) -> None:
        if where in self._where:
            raise self._kind(where)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._mayRaise("registerProducer")
        self.producer = producer
        if "pause" in self._where:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        self.producer = None
        self._mayRaise("unregisterProducer")

    def write(self, data: Any) -> None:
        self._mayRaise("write")


class RaisingCase(QueueCase):
    def assertLogged(self, kind: type[BaseException], times: int = 1) -> None:
        self.assertEqual(len(self.flushLoggedErrors(kind)), times, kind)

    def assertAtRest(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])


class WorkerTests(RaisingCase):
    def test_oneThatCannotBeCrashedFailsItsTasksAndHoldsUpNoShutdown(self) -> None:
        for kind in KINDS:
            queue = self.makeQueue(Faulty(kind, "crash"), StepWorker(), timeout=1.0)
            ds = [queue.call(far.echo, number) for number in range(3)]
            done = queue.shutdown()
            self.clock.advance(1.0)
            self.clock.advance(0.3)
            for d in ds[:2]:
                self.errorOf(d, WorkerDetached)
            self.errorOf(ds[2], QueueStopped)
            self.assertIsNone(self.resultOf(done))
            self.assertLogged(kind)
            self.assertAtRest()

    def test_whatItHadRunsElsewhereIfThatIsWanted(self) -> None:
        for kind in KINDS:
            faulty, sound = Faulty(kind, "crash"), StepWorker()
            queue = self.makeQueue(faulty)
            d = queue.call(far.echo, 1)
            queue.attachWorker(sound)
            left = queue.detachWorker(faulty, reassign=True, crash=True)
            self.assertEqual(self.resultOf(left), [])
            sound.step()
            self.assertEqual(self.resultOf(d), 1)
            self.assertLogged(kind)

    def test_oneThatForgetsWhatItHadLosesNothing(self) -> None:
        forgetful = Forgetful()
        queue = self.makeQueue(forgetful)
        task = queue.submit(far.echo, 1)
        left = queue.detachWorker(forgetful, crash=True)
        self.assertEqual(self.resultOf(left), [task])
        self.errorOf(task.d, WorkerDetached)
        self.assertLogged(TypeError)

    def test_oneThatCannotBeStoppedIsCrashed(self) -> None:
        for kind in KINDS:
            faulty = Faulty(kind, "stop")
            queue = self.makeQueue(faulty)
            task = queue.submit(far.echo, 1)
            left = queue.detachWorker(faulty)
            self.assertEqual(self.resultOf(left), [task])
            self.errorOf(task.d, WorkerDetached)
            self.assertEqual(faulty.state, "STOPPED")
            self.assertLogged(kind)

    def test_oneThatCanNeitherBeStoppedNorCrashedIsGoneAllTheSame(self) -> None:
        for kind in KINDS:
            queue = self.makeQueue(Faulty(kind, "stop", "crash"), StepWorker())
            d = queue.call(far.echo, 1)
            other = queue.call(far.echo, 2)
            # With something pending the workers are not let go.
            queue.workers()[1].step()
            self.assertEqual(self.resultOf(other), 2)
            left = queue.detachWorker(queue.workers()[0])
            self.assertEqual(len(self.resultOf(left)), 1)
            self.errorOf(d, WorkerDetached)
            self.assertIsNone(self.resultOf(queue.shutdown()))
            self.assertLogged(kind, 2)

    def test_oneThatCannotStopARunHoldsUpNoCancelling(self) -> None:
        for kind in KINDS:
            faulty = Faulty(kind, "cancel")
            queue = self.makeQueue(faulty)
            d = queue.call(far.echo, 1)
            d.cancel()
            self.errorOf(d, CancelledError)
            late = queue.call(far.echo, 1, timeout=1.0)
            faulty.finish()
            self.clock.advance(1.0)
            self.assertIsNotNone(self.failureResultOf(late))
            faulty.finish()
            self.assertEqual(queue.load, 0)
            self.assertLogged(kind, 2)

    def test_oneThatRefusesItsResignatorIsNotAttached(self) -> None:
        for kind in KINDS:
            faulty = Faulty(kind, "setResignator")
            queue = self.makeQueue()
            self.assertRaises(kind, queue.attachWorker, faulty)
            self.assertEqual((len(queue), queue.workers()), (0, []))
            d = queue.call(far.echo, 1)
            self.assertNoResult(d)
            queue.attachWorker(self.makeWorker())
            self.assertEqual(self.resultOf(d), 1)

    def test_oneThatTakesNoIDIsNotAttached(self) -> None:
        class Closed(StepWorker):
            ID = property()

        queue = self.makeQueue()
        self.assertRaises(AttributeError, queue.attachWorker, Closed())
        self.assertEqual((len(queue), queue.workers()), (0, []))
        self.assertIsNone(self.resultOf(queue.shutdown()))

    def test_atTheInterpretersEndEveryWorkerIsCrashedAndEveryCallTold(self) -> None:
        for kind in KINDS:
            faulty, sound = Faulty(kind, "cancel", "crash"), StepWorker()
            queue = self.makeQueue(faulty, sound)
            ds = [queue.call(far.echo, number) for number in range(4)]
            outcomes: list[Any] = []
            for d in ds:
                d.addBoth(outcomes.append)
            queue._engine.abort()
            self.assertEqual([failure.type for failure in outcomes], [CancelledError] * 4)
            self.assertEqual(sound.state, "STOPPED")
            self.assertLogged(kind, 2)
            self.queues.remove(queue)
            # There is no reactor any more.
            for call in self.clock.getDelayedCalls():
                call.cancel()

    def test_aTaskThatItsWorkerNeverEndedFailsWithTheShutdown(self) -> None:
        class Careless(StepWorker):
            """
            Is free again at once, and forgets the task.
            """

            def run(self, task: Any) -> Deferred[None]:
                done = super().run(task)
                self.task = None
                self._isFree()
                return done

        queue = self.makeQueue(Careless())
        d = queue.call(far.echo, 1)
        self.settle()
        self.assertNoResult(d)
        self.assertIsNone(self.resultOf(queue.shutdown()))
        self.errorOf(d, WorkerError)

    def test_severalWorkersThatAreLostAtTheDeadlineEnd(self) -> None:
        workers = [self.makeWorker(stepSeconds=None) for _ in range(4)]
        queue = self.makeQueue(StepWorker(), *workers, timeout=1.0)
        for worker in workers:
            worker.stepAll()
        ds = [queue.call(far.echo, number) for number in range(9)]
        states = []

        def die() -> None:
            for worker in workers:
                worker.die()
                worker.step()
                states.append(worker.state)

        self.clock.callLater(1.0, die)
        done = queue.shutdown()
        self.clock.advance(1.0)
        self.assertEqual(states, [LOST] * 4)
        for d in ds:
            self.errorOf(d, WorkerError, QueueStopped)
        self.assertIsNone(self.resultOf(done))
        self.assertAtRest()


class ConsumerTests(RaisingCase):
    def test_oneThatRefusesItsProducerFailsTheCall(self) -> None:
        for kind in KINDS:
            queue = self.makeQueue(self.makeWorker())
            d = queue.call(far.numbers, 3, consumer=FaultyConsumer(kind, "registerProducer"))
            self.errorOf(d, kind)
            self.assertEqual(self.resultOf(queue.call(far.echo, 1)), 1)
            self.assertEqual(queue.load, 0)

    def test_alsoIfTheGeneratorCannotBeClosed(self) -> None:
        def unending() -> Iterator[int]:
            try:
                yield 1
            finally:
                raise KeyboardInterrupt

        class Ended:
            """
            Keeps what a task is ended with.
            """

            def __init__(self, consumer: Any) -> None:
                self.options = self
                self.consumer = consumer
                self.failure: Any = None

            def errback(self, failure: Any) -> None:
                self.failure = failure

        iterator = unending()
        next(iterator)
        source: ItemSource = makeSource(iterator, (), {})
        task: Any = Ended(FaultyConsumer(SystemExit, "registerProducer"))
        deliver(task, source, self.clock)
        self.assertIs(task.failure.type, SystemExit)
        self.assertLogged(KeyboardInterrupt)

    def test_oneThatRefusesAnItemOrTheEndFailsTheCall(self) -> None:
        for kind in KINDS:
            for where in ("write", "unregisterProducer"):
                queue = self.makeQueue(self.makeWorker())
                consumer = FaultyConsumer(kind, where)
                self.errorOf(queue.call(far.numbers, 3, consumer=consumer), kind)
                self.assertIsNone(consumer.producer)
                self.assertIsNone(self.resultOf(queue.shutdown()))

    def test_aSubscriberThatRefusesTheEndHoldsUpNoShutdownAndNoOther(self) -> None:
        for kind in KINDS:
            queue = self.makeQueue(StepWorker())
            last = LoadConsumer()
            queue.subscribe(FaultyConsumer(kind, "unregisterProducer"))
            queue.subscribe(last)
            self.assertIsNone(self.resultOf(queue.shutdown()))
            self.assertIsNone(last.producer)
            self.assertLogged(kind)

    def test_aSubscriberThatRefusesItsProducerIsNotSubscribed(self) -> None:
        for kind in KINDS:
            queue = self.makeQueue(StepWorker())
            consumer = FaultyConsumer(kind, "registerProducer")
            self.assertRaises(kind, queue.subscribe, consumer)
            self.assertEqual(queue._engine.observers.observers, ())
            self.assertIsNone(self.resultOf(queue.shutdown()))

    def test_onePausedForEverHoldsUpNoCrashThoughItsGeneratorHasEnded(self) -> None:
        for howMany in (3, 200):
            worker = self.makeWorker()
            queue = self.makeQueue(worker)
            consumer = FaultyConsumer(RuntimeError, "pause")
            d = queue.call(far.numbers, howMany, consumer=consumer)
            self.settle()
            left = queue.detachWorker(worker, crash=True)
            self.assertEqual(self.resultOf(left), [])
            self.errorOf(d, IterationStopped)
            self.assertIsNone(consumer.producer)
            self.assertEqual(queue.load, 0)


class ObserverTests(RaisingCase):
    def test_oneThatRaisesIsLoggedAndNothingElse(self) -> None:
        for kind in KINDS:

            def observe(event: Any, kind: type[BaseException] = kind) -> None:
                raise kind

            queue = self.makeQueue(self.makeWorker())
            queue.addObserver(observe)
            self.assertEqual(self.resultOf(queue.call(far.echo, 1)), 1)
            self.assertIsNone(self.resultOf(queue.shutdown()))
            self.assertTrue(self.flushLoggedErrors(kind))

    def test_oneThatCannotBeComparedHoldsUpNoOther(self) -> None:
        for kind in KINDS:

            class Odd:
                def __call__(self, event: Any) -> None:
                    pass

                def __eq__(self, other: object, kind: type[BaseException] = kind) -> bool:
                    raise kind

                __hash__ = object.__hash__

            queue = self.makeQueue(self.makeWorker())
            seen: list[Any] = []
            queue.addObserver(seen.append)
            queue._engine.observers.observers = (Odd(), *queue._engine.observers.observers)
            self.assertEqual(self.resultOf(queue.call(far.echo, 1)), 1)
            self.assertIsNone(self.resultOf(queue.shutdown()))
            self.assertTrue(seen)


class EventTests(RaisingCase):
    def test_anEventThatMakesNoSenseSpoilsNoOther(self) -> None:
        class Nonsense:
            def __getattr__(self, name: str) -> Any:
                raise KeyboardInterrupt

        worker = self.makeWorker()
        queue = self.makeQueue(worker)
        self.settle()
        record = queue._engine.pool.find(worker)
        assert record is not None
        nonsense: Any = Nonsense()
        queue._engine.handle(record, [GivenBack([nonsense])])
        queue._engine.handle(record, [Logged(None, nonsense)])
        self.assertIs(queue._engine._phase, IDLE)
        self.assertEqual(self.resultOf(queue.call(far.echo, 1)), 1)
        self.assertTrue(self.flushLoggedErrors(KeyboardInterrupt))

    def test_aSeriesThatCannotBeHashedAgainLeavesTheBooksOpen(self) -> None:
        class Fickle:
            fails = False

            def __hash__(self) -> int:
                if self.fails:
                    raise KeyboardInterrupt
                return 1

            def __eq__(self, other: object) -> bool:
                return self is other

        series = Fickle()
        worker = StepWorker([series])
        queue = self.makeQueue(worker)
        d = queue.call(far.echo, 1, series=series)
        series.fails = True
        worker.step()
        series.fails = False
        self.assertIs(queue._engine._phase, IDLE)
        self.assertEqual(self.resultOf(d), 1)
        again = queue.call(far.echo, 2)
        worker.step()
        self.assertEqual(self.resultOf(again), 2)
        self.flushLoggedErrors(KeyboardInterrupt)


class ArgumentTests(RaisingCase):
    def test_anArgumentThatCannotBePickledFailsItsCallAlone(self) -> None:
        for kind in KINDS:

            class Unwilling:
                def __reduce__(self, kind: type[BaseException] = kind) -> Any:
                    raise kind

            worker = self.makeWorker(stepSeconds=None)
            queue = self.makeQueue(worker)
            waits = queue.call(far.echo, 1)
            d = queue.call(far.echo, Unwilling())
            self.assertIsNotNone(self.failureResultOf(d))
            worker.stepAll()
            d = queue.call(far.echo, Unwilling())
            self.assertIsNotNone(self.failureResultOf(d))
            worker.stepAll()
            self.assertEqual(self.resultOf(waits), 1)

    def test_anIterableThatRaisesFailsItsMapAfterTheItemsBefore(self) -> None:
        for kind in KINDS:

            def items(kind: type[BaseException] = kind) -> Iterator[int]:
                yield 1
                yield 2
                raise kind

            queue = self.makeQueue(self.makeWorker())
            results = queue.map(far.echo, items(), chunksize=1, window=1)
            seen: list[int] = []
            outcome: list[Any] = []

            async def take(results: Any = results, seen: list[int] = seen) -> None:
                async for item in results:
                    seen.append(item)

            d = Deferred.fromCoroutine(take())
            d.addBoth(outcome.append)
            self.settle()
            self.assertEqual(seen, [1, 2])
            self.assertTrue(outcome and outcome[0].value is not None, kind)
