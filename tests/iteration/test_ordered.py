from __future__ import annotations

import gc
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from asynqueue.errors import ImplementationError, StateError
from asynqueue.iteration import Consumerator, OrderedItemProducer
from tests.iteration.ledger import MANY, Notebook, depth, outcomesOf
from tests.iteration.sides import SidesCase, StepPool


@given(st.permutations(range(8)), st.booleans())
@settings(max_examples=50)
def test_itemsComeInTheOrderAskedFor(order: list[int], isSlow: bool) -> None:
    handed: list[int] = []
    handing: list[Deferred[None]] = []

    def take(item: int) -> Deferred[None]:
        handed.append(item)
        handing.append(Deferred() if isSlow else succeed(None))
        return handing[-1]

    producer = OrderedItemProducer(consumer=take, reactor=Clock())
    answers: list[Deferred[int]] = [Deferred() for _ in order]
    results = [outcomesOf(producer.produceItem(lambda d=d: d)) for d in answers]
    stopped = outcomesOf(producer.stop())
    for number in order:
        answers[number].callback(number)
    for number in range(len(order)) if isSlow else ():
        assert handed == list(range(number + 1))
        assert results[number] == []
        handing[number].callback(None)
    assert handed == sorted(order)
    assert results == [[number] for number in sorted(order)]
    assert stopped == [take]


class ConsumerTests(SidesCase):
    """
    With a consumer in the reactor's thread.
    """

    def setUp(self) -> None:
        super().setUp()
        self.got: list[Any] = []

    def make(self, consumer: Any = None) -> OrderedItemProducer:
        return OrderedItemProducer(consumer=consumer or self.got.append, reactor=self.clock)

    def ask(self, producer: OrderedItemProducer) -> tuple[Deferred[Any], list[Any]]:
        answer: Deferred[Any] = Deferred()
        return answer, outcomesOf(producer.produceItem(lambda: answer))

    def test_isAPushProducer(self) -> None:
        verifyObject(IPushProducer, self.make())

    def test_anIConsumerIsWrittenToAndLeft(self) -> None:
        notebook = Notebook()
        producer = self.make(notebook)
        assert notebook.producer is producer
        producer.produceItem(lambda: 1)
        assert self.successResultOf(producer.stop()) is notebook
        assert notebook.notes == [("register", True), 1, "unregister"]

    def test_anIConsumerCanPauseAndStop(self) -> None:
        notebook = Notebook(lambda item: notebook.producer.pauseProducing())
        producer = self.make(notebook)
        first, second, third = (outcomesOf(producer.produceItem(lambda n=n: n)) for n in (1, 2, 3))
        assert (first, second, third) == ([1], [], [])
        producer.resumeProducing()
        assert (second, third) == ([2], [])
        producer.stopProducing()
        assert third == [None]
        assert notebook.items == [1, 2]
        assert notebook.notes[-1] == "unregister"

    def test_anythingElseIsRefused(self) -> None:
        self.assertRaises(ImplementationError, self.make, "nothing")

    def test_aCoroutineIsWaitedForOnBothSides(self) -> None:
        async def render() -> int:
            return 1

        async def take(item: int) -> None:
            self.got.append(item)

        producer = self.make(take)
        assert self.successResultOf(producer.produceItem(render)) == 1
        assert self.got == [1]

    def test_itsArgumentsReachTheFunction(self) -> None:
        producer = self.make()
        producer.produceItem(lambda *args, **kw: (args, kw), 1, fp=2)
        assert self.got == [((1,), {"fp": 2})]

    def test_aFailureTakesItsTurnAndEndsTheRest(self) -> None:
        producer = self.make()
        first, one = self.ask(producer)
        second, two = self.ask(producer)
        third, three = self.ask(producer)
        _, four = self.ask(producer)
        third.callback(3)
        second.errback(ZeroDivisionError())
        assert not producer.isProducing
        assert self.successResultOf(producer.produceItem(self.fail)) is None
        assert (one, two, three, four) == ([], [], [], [])
        first.callback(1)
        assert (one, two, three, four) == ([1], [None], [None], [None])
        assert self.got == [1]
        self.failureResultOf(producer.stop(), ZeroDivisionError)
        self.failureResultOf(producer.stop(), ZeroDivisionError)

    def test_callsUnderwayAreCancelledAfterAFailure(self) -> None:
        producer, cancelled = self.make(), list[Any]()
        answer: Deferred[Any] = Deferred(cancelled.append)
        failed, _ = self.ask(producer)
        producer.produceItem(lambda: answer)
        failed.errback(ZeroDivisionError())
        assert cancelled == [answer]
        self.failureResultOf(producer.stop(), ZeroDivisionError)

    def test_aFailedConsumerEndsTheRest(self) -> None:
        def take(item: int) -> None:
            raise ZeroDivisionError

        producer = self.make(take)
        first, one = self.ask(producer)
        _, two = self.ask(producer)
        first.callback(1)
        assert (one, two) == ([None], [None])
        self.failureResultOf(producer.stop(), ZeroDivisionError)

    def test_aFailureNobodyAsksForIsLogged(self) -> None:
        producer = self.make()
        producer.produceItem(lambda: 1 // 0)
        del producer
        gc.collect()
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1

    def test_stoppingAgainGivesTheSame(self) -> None:
        producer = self.make()
        answer, _ = self.ask(producer)
        first, second = outcomesOf(producer.stop()), outcomesOf(producer.stop())
        assert (first, second) == ([], [])
        answer.callback(1)
        assert first == second == outcomesOf(producer.stop()) == [producer._consumer]

    def test_nothingIsAskedForAfterStop(self) -> None:
        producer = self.make()
        producer.stop()
        assert self.successResultOf(producer.produceItem(self.fail)) is None

    def test_cancellingAnItemCancelsItsCall(self) -> None:
        producer, cancelled = self.make(), list[Any]()
        answer: Deferred[Any] = Deferred(cancelled.append)
        producer.produceItem(lambda: answer).addErrback(lambda _: None).cancel()
        assert cancelled == [answer]
        self.failureResultOf(producer.stop(), CancelledError)

    def test_cancellingAWaitForTheEndEndsOnlyThat(self) -> None:
        producer = self.make()
        answer, one = self.ask(producer)
        d = producer.stop()
        d.cancel()
        self.failureResultOf(d, CancelledError)
        answer.callback(1)
        assert one == [1]
        assert producer.stop().called

    def test_manyWaitingItemsAreHandedOnWithoutDeepRecursion(self) -> None:
        depths: set[int] = set()
        producer = self.make(lambda item: depths.add(depth()))
        first, _ = self.ask(producer)
        last = [producer.produceItem(lambda: 1) for _ in range(MANY)][-1]
        first.callback(0)
        assert self.successResultOf(last) == 1
        assert len(depths) == 1

    def test_aConsumerNeedsNoStart(self) -> None:
        self.failureResultOf(self.make().start(self.fail), StateError)


class FunctionTests(SidesCase):
    """
    With a blocking function, in a thread that is stepped.
    """

    def setUp(self) -> None:
        super().setUp()
        self.pool = StepPool()
        self.producer = OrderedItemProducer(threadPool=self.pool, window=2, reactor=self.clock)

    def runFunction(self) -> None:
        """
        Run the function from its start to its end.
        """
        onResult, run = self.pool.calls.pop()
        with self.otherThread():
            onResult(True, run())

    def test_theFunctionGetsTheItemsAndItsResultIsTheOutcome(self) -> None:
        def join(i: Consumerator, separator: str, end: str = "") -> str:
            assert i is self.producer.i
            return separator.join(i) + end

        started = outcomesOf(self.producer.start(join, "-", end="."))
        first: Deferred[str] = Deferred()
        self.producer.produceItem(lambda: first)
        self.producer.produceItem(lambda: "b")
        stopped = self.producer.stop()
        assert started == []
        first.callback("a")
        self.runFunction()
        assert started == [None]
        assert self.successResultOf(stopped) == "a-b."
        assert self.successResultOf(self.producer.stop()) == "a-b."

    def test_itemsWaitForAStart(self) -> None:
        one = outcomesOf(self.producer.produceItem(lambda: 1))
        assert one == []
        self.producer.start(list)
        stopped = self.producer.stop()
        self.runFunction()
        assert one == [1]
        assert self.successResultOf(stopped) == [1]

    def test_itemsWaitWhileTheBufferIsFull(self) -> None:
        self.producer.start(list)
        results = [outcomesOf(self.producer.produceItem(lambda n=n: n)) for n in range(4)]
        assert results == [[0], [1], [], []]
        assert self.producer.i is not None
        next(self.producer.i)
        assert results == [[0], [1], [2], []]
        stopped = self.producer.stop()
        self.runFunction()
        assert self.successResultOf(stopped) == [1, 2, 3]

    def test_aFunctionThatReturnsEarlyEndsTheRest(self) -> None:
        self.producer.start(next)
        cancelled: list[Any] = []
        underway: Deferred[Any] = Deferred(cancelled.append)
        self.producer.produceItem(lambda: 1)
        waiting = outcomesOf(self.producer.produceItem(lambda: underway))
        self.runFunction()
        assert (waiting, cancelled) == ([None], [underway])
        assert self.successResultOf(self.producer.produceItem(self.fail)) is None
        assert self.successResultOf(self.producer.stop()) == 1

    def test_aFailedFunctionEndsTheRest(self) -> None:
        self.producer.start(list)
        waiting = outcomesOf(self.producer.produceItem(Deferred))
        self.pool.calls.pop()[0](False, Failure(ZeroDivisionError()))
        assert waiting == [None]
        self.failureResultOf(self.producer.stop(), ZeroDivisionError)

    def test_aFailedItemIsRaisedInTheIteratorAndIsTheOutcome(self) -> None:
        raised: list[BaseException] = []

        def collect(i: Consumerator) -> list[Any]:
            items: list[Any] = []
            try:
                items.extend(i)
            except ZeroDivisionError as error:
                raised.append(error)
            return items

        self.producer.start(collect)
        self.producer.produceItem(lambda: 1)
        self.producer.produceItem(lambda: 1 // 0)
        stopped = self.producer.stop()
        self.assertNoResult(stopped)
        self.runFunction()
        assert len(raised) == 1
        self.failureResultOf(stopped, ZeroDivisionError)

    def test_theFunctionMayStopTheIteration(self) -> None:
        def first(i: Consumerator) -> Any:
            item = next(i)
            i.stop()
            return item

        self.producer.start(first)
        self.producer.produceItem(lambda: 1)
        waiting = outcomesOf(self.producer.produceItem(Deferred))
        self.runFunction()
        assert waiting == [None]
        assert self.successResultOf(self.producer.stop()) == 1

    def test_neverStartedItEndsWithNone(self) -> None:
        waiting = outcomesOf(self.producer.produceItem(lambda: 1))
        assert self.successResultOf(self.producer.stop()) is None
        assert waiting == [None]
        self.failureResultOf(self.producer.start(list), StateError)

    def test_startsOnce(self) -> None:
        self.producer.start(list)
        self.failureResultOf(self.producer.start(list), StateError)
        self.producer.stop()
        self.runFunction()

    def test_noThreadIsAFailure(self) -> None:
        def refuse(*args: Any) -> None:
            raise RuntimeError("can't start new thread")

        self.patch(self.pool, "callInThreadWithCallback", refuse)
        self.failureResultOf(self.producer.start(list), RuntimeError)
        self.failureResultOf(self.producer.stop(), RuntimeError)
