from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from asynqueue.errors import ImplementationError, NotReadyError, StateError
from asynqueue.iteration import Deferator, ItemSource, IterationProducer
from tests.iteration.ledger import Ledger, Notebook, ended, failureOf


class ProducerTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.consumer = Notebook()

    def produce(self, source: ItemSource, reaction: Callable[[Any], object] | None = None) -> None:
        self.consumer.reaction = reaction
        self.deferator = Deferator(source)
        self.producer = IterationProducer(self.deferator, self.consumer, self.clock)
        assert self.consumer.notes == [("register", True)]
        self.consumer.notes.clear()


class RunTests(ProducerTestCase):
    def test_isAPushProducer(self) -> None:
        verifyObject(IPushProducer, IterationProducer(Deferator(None), reactor=self.clock))

    def test_itemsAreWrittenInOrderAndThenTheConsumerIsTheResult(self) -> None:
        self.produce(ended(1, 2, 3))
        assert self.successResultOf(self.producer.run()) is self.consumer
        assert self.consumer.notes == [1, 2, 3, "unregister"]
        assert self.successResultOf(self.deferator.d) is True
        assert self.deferator.source.listener is None

    def test_itemsAreWrittenAsSoonAsTheyArrive(self) -> None:
        source = Ledger(1)
        self.produce(source)
        d = self.producer.run()
        assert self.consumer.notes == [1]
        source.add([2, 3])
        assert self.consumer.notes == [1, 2, 3]
        self.assertNoResult(d)
        source.end()
        assert self.successResultOf(d) is self.consumer

    def test_anEmptyIterationIsUnregisteredToo(self) -> None:
        self.produce(ended())
        assert self.successResultOf(self.producer.run()) is self.consumer
        assert self.consumer.notes == ["unregister"]

    def test_aSourceOnDemandIsAskedUntilItsEnd(self) -> None:
        self.deferator = Deferator(iter(range(50)))
        self.producer = IterationProducer(self.deferator, self.consumer, self.clock)
        self.successResultOf(self.producer.run())
        assert self.consumer.items == list(range(50))

    def test_whatTheLoopLeftOverIsWritten(self) -> None:
        source = Ledger(1, 2)
        self.produce(source)
        next(self.deferator)
        waiting = next(self.deferator)
        self.failureResultOf(self.producer.run(), NotReadyError)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.producer.run()
        assert self.consumer.notes == [2]

    def test_writtenItemsGiveCreditBack(self) -> None:
        source = Ledger()
        self.produce(source)
        self.producer.run()
        source.add(range(3), 10)
        source.add(range(40), 20)
        assert source.reports == [(3, 10), (40, 20)]

    def test_itRunsOnce(self) -> None:
        self.produce(Ledger())
        self.producer.run()
        self.failureResultOf(self.producer.run(), StateError)
        self.producer.stopProducing()
        self.failureResultOf(self.producer.run(), StateError)

    def test_withoutAConsumerItDoesNotRun(self) -> None:
        producer = IterationProducer(Deferator(ended(1)), reactor=self.clock)
        self.failureResultOf(producer.run(), StateError)
        producer.registerConsumer(self.consumer)
        assert self.successResultOf(producer.run()) is self.consumer

    def test_untilDoneFiresHoweverItEnds(self) -> None:
        for end in (ItemSource.end, ItemSource.stop, lambda s: s.fail(failureOf(OSError()))):
            source, self.consumer = Ledger(), Notebook()
            self.produce(source)
            first, second = self.producer.deferUntilDone(), self.producer.deferUntilDone()
            second.cancel()
            self.failureResultOf(second, CancelledError)
            self.producer.run().addErrback(lambda failure: failure.trap(OSError))
            self.assertNoResult(first)
            end(source)
            assert self.successResultOf(first) is self.consumer
            assert self.successResultOf(self.producer.deferUntilDone()) is self.consumer

    def test_reprTellsItsState(self) -> None:
        self.produce(ended(1))
        assert repr(self.producer).startswith("<IterationProducer, NEW, of <Deferator of Ledger")


class ArgumentTests(ProducerTestCase):
    def test_anythingButADeferatorIsATypeError(self) -> None:
        others: list[Any] = [None, iter([]), ItemSource()]
        for other in others:
            with self.assertRaises(TypeError):
                IterationProducer(other, reactor=self.clock)

    def test_anythingButAConsumerIsAnImplementationError(self) -> None:
        producer = IterationProducer(Deferator(None), reactor=self.clock)
        for register in (
            producer.registerConsumer,
            lambda consumer: IterationProducer(Deferator(None), consumer, self.clock),
        ):
            with self.assertRaises(ImplementationError):
                register(object())

    def test_consumerMayHaveRegisteredTheProducerBefore(self) -> None:
        class Strict(Notebook):
            def registerProducer(self, producer: Any, streaming: bool) -> None:
                if self.producer is not None:
                    raise RuntimeError
                super().registerProducer(producer, streaming)

        consumer = Strict()
        producer = IterationProducer(Deferator(ended(1)), reactor=self.clock)
        consumer.registerProducer(producer, True)
        producer.registerConsumer(consumer)
        assert producer.consumer is consumer
        with self.assertRaises(RuntimeError):
            IterationProducer(Deferator(ended(1)), consumer, self.clock)


class FailureTests(ProducerTestCase):
    def test_failureOfTheSourceComesAfterItsItems(self) -> None:
        source = Ledger(1)
        self.produce(source)
        d = self.producer.run()
        source.fail(failureOf(ValueError()))
        self.failureResultOf(d, ValueError)
        assert self.consumer.notes == [1, "unregister"]
        assert self.successResultOf(self.deferator.d) is False

    def test_consumerThatRaisesStopsTheSource(self) -> None:
        source = Ledger()
        self.produce(source, lambda item: 1 // (2 - item))
        d = self.producer.run()
        source.add([1, 2, 3])
        self.failureResultOf(d, ZeroDivisionError)
        assert self.consumer.notes == [1, 2, "unregister"]
        assert source.stops == 1
        assert self.successResultOf(self.deferator.d) is False

    def test_unregisteringThatRaisesIsAFailure(self) -> None:
        class Bad(Notebook):
            def unregisterProducer(self) -> None:
                raise KeyError

        for error in (None, ValueError):
            self.consumer = Bad()
            source = Ledger()
            self.produce(source)
            d = self.producer.run()
            source.fail(failureOf(error())) if error else source.end()
            self.failureResultOf(d, error or KeyError)

    def test_generatorThatRaisesWhenClosedIsAFailure(self) -> None:
        def generate() -> Generator[int, None, None]:
            try:
                yield 1
                yield 2
            finally:
                raise KeyError("closing")

        for reaction, context in (
            (lambda item: self.producer.stopProducing(), type(None)),
            (lambda item: 1 // 0, ZeroDivisionError),
        ):
            self.consumer = Notebook(reaction)
            self.producer = IterationProducer(Deferator(generate()), self.consumer, self.clock)
            failure = self.failureResultOf(self.producer.run(), KeyError)
            error = failure.value.__context__
            assert isinstance(error, context | GeneratorExit)
            assert self.consumer.items == [1]


class PauseTests(ProducerTestCase):
    def test_nothingIsTakenWhilePaused(self) -> None:
        source = Ledger()
        self.produce(source, lambda item: self.producer.pauseProducing())
        self.producer.run()
        wanted = source.wanted
        source.add([1, 2, 3])
        assert (self.consumer.notes, list(source.items)) == ([1], [2, 3])
        source.add([4])
        assert (self.consumer.notes, list(source.items)) == ([1], [2, 3, 4])
        assert source.reports == []
        assert source.wanted == wanted
        self.producer.resumeProducing()
        assert (self.consumer.notes, list(source.items)) == ([1, 2], [3, 4])

    def test_pauseBeforeTheRunHolds(self) -> None:
        self.produce(ended(1))
        self.producer.pauseProducing()
        d = self.producer.run()
        assert self.consumer.notes == []
        self.producer.resumeProducing()
        assert self.successResultOf(d) is self.consumer
        assert self.consumer.notes == [1, "unregister"]

    def test_resumeBeforeTheRunDoesNotRun(self) -> None:
        self.produce(ended(1))
        self.producer.pauseProducing()
        self.producer.resumeProducing()
        assert self.consumer.notes == []
        self.producer.run()
        assert self.consumer.notes == [1, "unregister"]

    def test_resumeFromWithinAWriteKeepsTheOrder(self) -> None:
        def reaction(item: int) -> None:
            self.producer.pauseProducing()
            self.producer.resumeProducing()

        self.produce(ended(1, 2, 3), reaction)
        self.successResultOf(self.producer.run())
        assert self.consumer.notes == [1, 2, 3, "unregister"]

    def test_pauseAndResumeAreHarmlessAtAnyTime(self) -> None:
        self.produce(ended(1))
        self.successResultOf(self.producer.run())
        self.producer.pauseProducing()
        self.producer.resumeProducing()
        assert self.consumer.notes == [1, "unregister"]

    def test_endIsHeardWhilePausedOnceNothingIsLeftToWrite(self) -> None:
        for end in (ItemSource.end, ItemSource.stop, lambda s: s.fail(failureOf(OSError()))):
            source, self.consumer = Ledger(), Notebook()
            self.produce(source)
            d = self.producer.run().addErrback(lambda failure: failure.trap(OSError))
            self.producer.pauseProducing()
            end(source)
            self.successResultOf(d)
            assert self.consumer.notes == ["unregister"]

    def test_endWaitsForTheItemsBeforeIt(self) -> None:
        source = Ledger()
        self.produce(source)
        d = self.producer.run()
        self.producer.pauseProducing()
        source.add([1])
        source.fail(failureOf(ValueError()))
        self.assertNoResult(d)
        self.producer.resumeProducing()
        self.failureResultOf(d, ValueError)
        assert self.consumer.notes == [1, "unregister"]

    def test_stopOfTheDeferatorIsHeardWhilePaused(self) -> None:
        self.produce(Ledger(1, 2), lambda item: self.producer.pauseProducing())
        d = self.producer.run()
        self.deferator.stop()
        assert self.successResultOf(d) is self.consumer
        assert self.consumer.notes == [1, "unregister"]

    @given(
        st.lists(
            st.sampled_from(["add", "pause", "resume", "turn", "end"]) | st.integers(1, 3),
            max_size=30,
        )
    )
    def test_everyItemIsWrittenOnceAndInOrderWhateverComesBetween(
        self, steps: list[str | int]
    ) -> None:
        self.setUp()
        source, arrived, isPaused = Ledger(), 0, False
        pauses: list[int] = []

        def reaction(item: int) -> None:
            assert not isPaused
            if item in pauses:
                self.producer.pauseProducing()
                self.clock.callLater(1, self.producer.resumeProducing)

        self.produce(source, reaction)
        d = self.producer.run()
        for step in steps:
            if step == "add" and not source.isOver:
                source.add(range(arrived, arrived + 3))
                arrived += 3
            elif step == "pause":
                self.producer.pauseProducing()
                isPaused = True
            elif step == "resume":
                isPaused = False
                self.producer.resumeProducing()
            elif step == "turn" and not isPaused:
                self.clock.advance(1)
            elif step == "end":
                source.end()
            elif isinstance(step, int):
                pauses.append(arrived + step)
        isPaused = False
        self.producer.resumeProducing()
        source.end()
        self.clock.pump([1] * (arrived + 1))
        assert self.successResultOf(d) is self.consumer
        assert self.consumer.notes == [*range(arrived), "unregister"]


class StopTests(ProducerTestCase):
    def test_stopProducingStopsTheSource(self) -> None:
        source = Ledger(1)
        self.produce(source)
        d = self.producer.run()
        self.producer.stopProducing()
        self.producer.stopProducing()
        assert self.successResultOf(d) is self.consumer
        assert self.consumer.notes == [1, "unregister"]
        assert source.stops == 1
        assert self.successResultOf(self.deferator.d) is False

    def test_stopFromWithinAWriteIsTheLast(self) -> None:
        source = Ledger(1, 2, 3)
        self.produce(source, lambda item: self.producer.stopProducing())
        assert self.successResultOf(self.producer.run()) is self.consumer
        assert self.consumer.notes == [1, "unregister"]

    def test_stopOfTheDeferatorFromWithinAWriteIsTheLast(self) -> None:
        source = Ledger(1, 2, 3)
        self.produce(source, lambda item: self.deferator.stop())
        assert self.successResultOf(self.producer.run()) is self.consumer
        assert self.consumer.notes == [1, "unregister"]
        assert source.stops == 1

    def test_stopBeforeTheRun(self) -> None:
        source = Ledger(1, 2)
        self.produce(source)
        self.producer.stopProducing()
        assert self.consumer.notes == []
        assert self.successResultOf(self.producer.run()) is self.consumer
        assert self.consumer.notes == ["unregister"]

    def test_stopFromWithinUnregisteringDoesNotTurnTheEndIntoAStop(self) -> None:
        class Cautious(Notebook):
            def unregisterProducer(self) -> None:
                self.producer.stopProducing()
                super().unregisterProducer()

        self.consumer = Cautious()
        self.produce(ended(1))
        self.successResultOf(self.producer.run())
        assert self.successResultOf(self.deferator.d) is True

    def test_cancellingTheRunStopsTheSource(self) -> None:
        source = Ledger(1)
        self.produce(source)
        d = self.producer.run()
        d.cancel()
        self.failureResultOf(d, CancelledError)
        assert self.consumer.notes == [1, "unregister"]
        assert source.stops == 1

    def test_cancellingTheRunFromWithinAWriteStopsTheSource(self) -> None:
        source, runs = Ledger(), list[Deferred[Any]]()
        self.produce(source, lambda item: runs[0].cancel())
        runs.append(self.producer.run())
        source.add([1, 2])
        self.failureResultOf(runs[0], CancelledError)
        assert self.consumer.notes == [1, "unregister"]
        assert source.stops == 1


class TurnTests(ProducerTestCase):
    def takeTurn(self) -> None:
        """
        Have the reactor do what is due, but not what this makes due at once.
        """
        assert len(self.clock.calls) == 1
        call = self.clock.calls.pop()
        assert call.getTime() == self.clock.seconds()
        call.called = 1
        call.func(*call.args, **call.kw)

    def setUp(self) -> None:
        super().setUp()
        # Each write takes 1 ms.
        self.slow = lambda item: setattr(self.clock, "rightNow", self.clock.rightNow + 0.001)

    def test_reactorGetsATurnAfterTenMillisecondsOfWriting(self) -> None:
        self.produce(ended(*range(100)), self.slow)
        d = self.producer.run()
        counts = []
        while not d.called:
            counts.append(len(self.consumer.notes))
            self.takeTurn()
        assert counts == [16, 32, 48, 64, 80, 96]
        assert self.consumer.items == list(range(100))

    def test_aSlowIteratorIsLookedAtItemByItem(self) -> None:
        def generate() -> Generator[int, None, None]:
            for item in range(8):
                self.clock.rightNow += 0.006
                yield item

        self.producer = IterationProducer(Deferator(generate()), self.consumer, self.clock)
        self.producer.run()
        assert self.consumer.items == [0, 1]
        self.takeTurn()
        assert self.consumer.items == [0, 1, 2, 3]

    def test_aFastConsumerGetsAllInOneTurn(self) -> None:
        self.produce(ended(*range(1000)))
        self.successResultOf(self.producer.run())
        assert self.clock.getDelayedCalls() == []

    def test_nothingIsWrittenBeforeTheTurnIsOver(self) -> None:
        source = Ledger(*range(20))
        self.produce(source, self.slow)
        self.producer.run()
        source.add([20])
        self.producer.pauseProducing()
        self.producer.resumeProducing()
        assert self.consumer.items == list(range(16))
        self.clock.advance(0)
        assert self.consumer.items == list(range(21))

    def test_pauseDuringTheTurnHolds(self) -> None:
        self.produce(ended(*range(20)), self.slow)
        d = self.producer.run()
        self.producer.pauseProducing()
        self.clock.advance(0)
        assert len(self.consumer.notes) == 16
        self.producer.resumeProducing()
        assert self.successResultOf(d) is self.consumer

    def test_stopDuringTheTurnLeavesNoDelayedCall(self) -> None:
        self.produce(ended(*range(20)), self.slow)
        d = self.producer.run()
        self.producer.stopProducing()
        assert self.successResultOf(d) is self.consumer
        assert self.clock.getDelayedCalls() == []
