from __future__ import annotations

import gc
from typing import Any

from twisted.internet.interfaces import IConsumer
from twisted.internet.testing import MemoryReactorClock
from twisted.python import threadable
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from asynqueue.errors import IterationStopped, NotReadyError
from asynqueue.iteration import Consumerator, isIterator
from tests.iteration.sides import PullSource, PushNotes, SidesCase


class StoppingReactor(MemoryReactorClock):
    """
    A reactor whose triggers can be fired, and are as strict as a real one's.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, Any] = {}
        self.added = 0

    def addSystemEventTrigger(  # type: ignore[override]
        self, phase: str, eventType: str, callable: Any, *args: Any, **kw: Any
    ) -> int:
        assert (phase, eventType, args, kw) == ("before", "shutdown", (), {})
        self.added += 1
        self.live[self.added] = callable
        return self.added

    def removeSystemEventTrigger(self, trigger: int) -> None:
        del self.live[trigger]

    def shutDown(self) -> None:
        while self.live:
            self.live.popitem()[1]()

    def callFromThread(self, function: Any, *args: Any) -> None:
        function(*args)


class ConsumeratorTests(SidesCase):
    def make(self, window: int = 4, reactor: Any = None) -> Consumerator:
        return Consumerator(window=window, reactor=reactor or self.clock)

    def fed(self, window: int = 4) -> tuple[Consumerator, PushNotes]:
        consumerator, producer = self.make(window), PushNotes()
        consumerator.registerProducer(producer, True)
        return consumerator, producer

    def test_isAConsumerAndAnIterator(self) -> None:
        consumerator = self.make()
        verifyObject(IConsumer, consumerator)
        assert isIterator(consumerator)
        assert iter(consumerator) is consumerator

    def test_iteratesOverWhatWasWrittenUntilTheProducerUnregisters(self) -> None:
        consumerator, _ = self.fed()
        consumerator.write(1)
        consumerator.write(None)
        consumerator.unregisterProducer()
        assert list(consumerator) == [1, None]
        assert list(consumerator) == []

    def test_producerCanBeGivenAtOnce(self) -> None:
        producer = PushNotes()
        consumerator = Consumerator(producer, 5, reactor=self.clock)
        assert consumerator.producer is producer
        assert consumerator.streaming

    def test_takesOneProducerAtATime(self) -> None:
        consumerator, _ = self.fed()
        self.assertRaises(RuntimeError, consumerator.registerProducer, PushNotes(), True)

    def test_pausesAPushProducerWhenFullAndResumesItWhenHalfIsTaken(self) -> None:
        consumerator, producer = self.fed(window=4)
        for item in range(3):
            consumerator.write(item)
        assert producer.notes == []
        consumerator.write(3)
        consumerator.write(4)
        assert producer.notes == ["pause"]
        next(consumerator), next(consumerator)
        assert producer.notes == ["pause"]
        next(consumerator)
        assert producer.notes == ["pause", "resume"]

    def test_aWindowOfOneAlternates(self) -> None:
        consumerator, producer = self.fed(window=1)
        for item in (1, 2):
            consumerator.write(item)
            assert next(consumerator) == item
        assert producer.notes == ["pause", "resume"] * 2

    def test_windowMustHaveRoom(self) -> None:
        self.assertRaises(ValueError, self.make, 0)

    def test_asksAPullProducerForAsManyAsThereIsRoomFor(self) -> None:
        consumerator = self.make(window=4)
        producer = PullSource(consumerator, iter(range(7)))
        consumerator.registerProducer(producer, False)
        assert producer.asked == 4
        assert [next(consumerator), next(consumerator)] == [0, 1]
        self.clock.advance(0)
        assert producer.asked == 6
        taken = [2, 3, 4, 5, 6]
        for item in taken:
            assert next(consumerator) == item
            self.clock.advance(0)
        assert list(consumerator) == []
        assert self.clock.getDelayedCalls() == []

    def test_aFastReaderDoesNotKeepAPullProducerFromTheReactor(self) -> None:
        consumerator = self.make(window=4)

        class Taken(PullSource):
            def resumeProducing(self) -> None:
                super().resumeProducing()
                next(consumerator)

        producer = Taken(consumerator, iter(range(100)))
        consumerator.registerProducer(producer, False)
        assert producer.asked == 4
        assert len(self.clock.getDelayedCalls()) == 1
        consumerator.stop()
        assert self.clock.getDelayedCalls() == []
        assert producer.stops == 1

    def test_aPullProducerThatTakesItsTimeIsAskedOnce(self) -> None:
        consumerator, asked = self.make(), list[None]()

        class Slow(PushNotes):
            def resumeProducing(self) -> None:
                asked.append(None)

        consumerator.registerProducer(Slow(), False)
        self.clock.advance(0)
        assert len(asked) == 1
        consumerator.write(1)
        assert len(asked) == 2
        consumerator.unregisterProducer()

    def test_iteratingInTheReactorsThreadRaisesWhereItWouldWait(self) -> None:
        consumerator, _ = self.fed()
        error = self.assertRaises(NotReadyError, next, consumerator)
        assert "in another thread" in str(error)
        consumerator.write(1)
        assert next(consumerator) == 1

    def test_beforeAnyReactorHasRunTheMainThreadCountsAsItsThread(self) -> None:
        threadable.ioThread = None
        self.assertRaises(NotReadyError, next, self.make())

    def test_stoppedInTheReactorsThreadItIteratesOverWhatIsThere(self) -> None:
        consumerator, producer = self.fed()
        consumerator.write(1)
        consumerator.stop()
        consumerator.write(2)
        assert producer.notes == ["stop"]
        assert consumerator.producer is None
        done = consumerator.deferUntilDone()
        assert next(consumerator) == 1
        self.assertNoResult(done)
        assert list(consumerator) == []
        assert self.successResultOf(done) is None

    def test_stoppedByTheIteratingSideItDropsWhatIsThere(self) -> None:
        consumerator, producer = self.fed()
        done = consumerator.deferUntilDone()
        consumerator.write(1)
        with self.otherThread():
            consumerator.stop()
            assert list(consumerator) == []
        assert producer.notes == ["stop"]
        assert self.successResultOf(done) is None

    def test_stoppingAgainHasNoEffect(self) -> None:
        consumerator, producer = self.fed()
        consumerator.stop()
        consumerator.stop()
        assert producer.notes == ["stop"]

    def test_aProducerThatComesTooLateIsStopped(self) -> None:
        consumerator, producer = self.make(), PushNotes()
        consumerator.stop()
        consumerator.registerProducer(producer, True)
        assert producer.notes == ["stop"]

    def test_aFailureIsRaisedOnceAfterTheItems(self) -> None:
        consumerator, producer = self.fed()
        done = consumerator.deferUntilDone()
        consumerator.write(1)
        consumerator.fail(Failure(ZeroDivisionError("mine")))
        assert producer.notes == ["stop"]
        assert next(consumerator) == 1
        self.assertNoResult(done)
        self.assertRaises(ZeroDivisionError, next, consumerator)
        assert list(consumerator) == []
        assert self.successResultOf(done) is None

    def test_droppedItStopsItsProducer(self) -> None:
        consumerator, producer = self.fed()
        done = consumerator.deferUntilDone()
        del consumerator
        gc.collect()
        assert producer.notes == ["stop"]
        assert self.successResultOf(done) is None

    def test_theReactorsEndRaisesAfterTheItems(self) -> None:
        reactor, producer = StoppingReactor(), PushNotes()
        consumerator = self.make(reactor=reactor)
        consumerator.registerProducer(producer, True)
        consumerator.write(1)
        reactor.shutDown()
        assert producer.notes == ["stop"]
        assert next(consumerator) == 1
        self.assertRaises(IterationStopped, next, consumerator)

    def test_leavesNothingWithTheReactor(self) -> None:
        reactor = StoppingReactor()
        ended, dropped, stopped = (self.make(reactor=reactor) for _ in range(3))
        assert len(reactor.live) == 1
        ended.unregisterProducer()
        assert list(ended) == []
        with self.otherThread():
            stopped.stop()
        del dropped
        gc.collect()
        assert reactor.live == {}

    def test_cancellingAWaitEndsOnlyThat(self) -> None:
        consumerator, producer = self.fed()
        first, second = consumerator.deferUntilDone(), consumerator.deferUntilDone()
        first.cancel()
        first.addErrback(lambda _: None)
        assert producer.notes == []
        consumerator.unregisterProducer()
        assert list(consumerator) == []
        assert self.successResultOf(second) is None
