"""
Small things that programs for AsynQueue 0.9 do.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from asynqueue import errors
from asynqueue.iteration import Deferator, Delay, IterationProducer, ListConsumer, deferToDelay
from asynqueue.threads import Consumerator, Filerator, OrderedItemProducer
from asynqueue.util import DeferredLock


class ErrorTests(SynchronousTestCase):
    def test_oldNamesCatchTheErrorsOfToday(self) -> None:
        self.assertTrue(issubclass(errors.TaskTimeout, errors.TimeoutError))
        self.assertTrue(issubclass(errors.TimeoutError, TimeoutError))
        self.assertTrue(issubclass(errors.WorkerDied, errors.ProcessError))
        self.assertTrue(issubclass(errors.WorkerError, errors.ThreadError))


class KeywordTests(SynchronousTestCase):
    def test_aDelayIsCalledSo(self) -> None:
        clock = Clock()
        waits = [Delay(reactor=clock)(delay=2), deferToDelay(delay=2, reactor=clock)]
        clock.advance(1)
        self.assertEqual([d.called for d in waits], [False, False])
        clock.advance(1)
        self.assertEqual([d.called for d in waits], [True, True])

    def test_anEventCheckerIsCalledSo(self) -> None:
        d = Delay(reactor=Clock()).untilEvent(eventChecker=lambda: True)
        self.assertTrue(self.successResultOf(d))

    def test_aProducersDeferatorIsCalledSo(self) -> None:
        deferator, consumer = Deferator(iter("ab")), ListConsumer()
        producer = IterationProducer(dr=deferator, consumer=consumer, reactor=Clock())
        self.assertIs(producer.dr, deferator)
        producer.run()
        self.assertEqual(self.successResultOf(consumer()), ["a", "b"])


class LockTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.lock = DeferredLock()

    def test_itSaysWhetherItIsHeld(self) -> None:
        self.assertFalse(self.lock.locked)
        self.lock.acquire()
        self.assertTrue(self.lock.locked)
        stopped = self.lock.stop()
        self.assertTrue(self.lock.locked)
        self.lock.release()
        self.assertFalse(self.lock.locked)
        self.successResultOf(stopped)

    def test_aFunctionRunsInItsTurn(self) -> None:
        first: Deferred[str] = Deferred()
        called: list[Any] = []

        def second(*args: Any, **kw: Any) -> str:
            called.append((args, kw))
            return "second"

        results = [self.lock.run(lambda: first), self.lock.run(second, 1, two=2)]
        self.assertEqual((called, self.lock.locked), ([], True))
        first.callback("first")
        self.assertEqual([self.successResultOf(d) for d in results], ["first", "second"])
        self.assertEqual((called, self.lock.locked), ([((1,), {"two": 2})], False))

    def test_aFailureGivesTheTurnUpToo(self) -> None:
        self.failureResultOf(self.lock.run(divmod, 1, 0), ZeroDivisionError)
        self.assertFalse(self.lock.locked)

    def test_cancellingBeforeItsTurnCallsNothing(self) -> None:
        self.lock.acquire()
        called: list[int] = []
        d = self.lock.run(called.append, 1)
        d.cancel()
        self.failureResultOf(d, CancelledError)
        self.lock.release()
        self.assertEqual((called, self.lock.locked), ([], False))

    def test_cancellingInItsTurnCancelsWhatItWaitsFor(self) -> None:
        inner: Deferred[None] = Deferred()
        d = self.lock.run(lambda: inner)
        d.cancel()
        self.failureResultOf(d, CancelledError)
        self.assertEqual((inner.called, self.lock.locked), (True, False))


class EmptyTests(SynchronousTestCase):
    def test_anEmptyIterationIsFalseAndHasNoItems(self) -> None:
        for empty in (Deferator(None), Deferator("nothing", lambda: (None, False, False))):
            # The second has to ask first.
            list(empty)
            self.assertEqual((bool(empty), len(empty), empty.moreLeft), (False, 0, False))

    def test_oneThatHasItemsIsTrueUntilTheyAreTaken(self) -> None:
        deferator = Deferator(iter("ab"))
        self.assertTrue(deferator)
        self.assertRaises(TypeError, len, deferator)
        seen = []
        for d in deferator:
            seen.append((self.successResultOf(d), deferator.moreLeft))
        self.assertEqual(seen, [("a", True), ("b", False)])
        self.assertEqual((bool(deferator), len(deferator)), (False, 0))

    def test_aFailureIsSomethingLeft(self) -> None:
        def broken() -> Any:
            yield 1
            raise ZeroDivisionError

        deferator = Deferator(broken())
        self.assertEqual(self.successResultOf(next(deferator)), 1)
        self.assertTrue(deferator.moreLeft)
        self.failureResultOf(next(deferator), ZeroDivisionError)
        self.assertFalse(deferator.moreLeft)

    def test_oneThatWasStoppedIsFalse(self) -> None:
        deferator = Deferator(iter("ab"))
        deferator.stop()
        self.assertFalse(deferator)


class ShutdownTests(SynchronousTestCase):
    def test_aConsumeratorStopsItsProducer(self) -> None:
        consumerator = Consumerator(reactor=Clock())
        producer = IterationProducer(Deferator(iter(range(100))), consumerator, Clock())
        done = producer.run()
        self.assertIsNone(self.successResultOf(consumerator.shutdown()))
        self.successResultOf(done)
        self.assertEqual(list(consumerator), [])
        self.assertIsNone(self.successResultOf(consumerator.shutdown()))

    def test_aFileratorHasNoReaderAnyMore(self) -> None:
        filerator = Filerator(reactor=Clock())
        filerator.write("a")
        self.assertIsNone(self.successResultOf(filerator.shutdown()))
        self.assertEqual(list(filerator), [])
        self.assertRaises(BrokenPipeError, filerator.write, "b")

    def test_anOrderedItemProducerCancelsWhatIsUnderway(self) -> None:
        items: list[Any] = []
        producer = OrderedItemProducer(consumer=items.append, reactor=Clock())
        waiting: Deferred[Any] = Deferred()
        first, second = (producer.produceItem(lambda d=d: d) for d in (succeed(1), waiting))
        self.assertIsNotNone(self.successResultOf(producer.shutdown()))
        self.assertEqual((items, self.successResultOf(first)), ([1], 1))
        self.assertIsNone(self.successResultOf(second))
        self.assertTrue(waiting.called)

    def test_oneThatWasNotStartedIsOverAtOnce(self) -> None:
        producer = OrderedItemProducer(reactor=Clock())
        self.assertIsNone(self.successResultOf(producer.shutdown()))
