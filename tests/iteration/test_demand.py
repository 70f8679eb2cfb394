from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterator
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from asynqueue._iteration.sources import (
    AsyncIteratorSource,
    CallSource,
    IteratorSource,
    SourceState,
)
from asynqueue.iteration import Deferator, isAsyncIterator


class IteratorTests(SynchronousTestCase):
    def test_advancesOnlyWhenWanted(self) -> None:
        iterator = iter([1, 2, 3])
        source = IteratorSource(iterator)
        assert list(source.items) == []
        source.want()
        assert list(source.items) == [1]
        source.want()
        assert list(source.items) == [1, 2]
        assert next(iterator) == 3

    def test_endsWithTheIterator(self) -> None:
        source = IteratorSource(iter([1]))
        source.want()
        assert not source.isOver
        source.want()
        source.want()
        assert source.state is SourceState.ENDED
        assert list(source.items) == [1]

    def test_failsWithTheIteratorsError(self) -> None:
        source = IteratorSource(1 // n for n in (1, 0))
        source.want()
        source.want()
        assert source.state is SourceState.FAILED
        assert source.failure is not None
        assert source.failure.check(ZeroDivisionError)

    def test_anItemThatIsADeferredIsWaitedFor(self) -> None:
        answers: list[Deferred[int]] = [Deferred(), Deferred()]
        source = IteratorSource(iter(answers))
        source.want()
        source.want()
        assert list(source.items) == []
        answers[0].callback(1)
        assert list(source.items) == [1]
        source.want()
        answers[1].errback(ValueError())
        assert source.state is SourceState.FAILED

    def test_anItemThatIsACoroutineIsWaitedFor(self) -> None:
        async def answer() -> int:
            return 1

        source = IteratorSource(answer() for _ in range(1))
        source.want()
        assert list(source.items) == [1]

    def test_stopClosesAGenerator(self) -> None:
        closed: list[bool] = []

        def generate() -> Generator[int, None, None]:
            try:
                yield 1
            finally:
                closed.append(True)

        source = IteratorSource(generate())
        source.want()
        source.stop()
        assert closed == [True]

    def test_stopLeavesAnyOtherIteratorAlone(self) -> None:
        class Closable(Iterator[int]):
            def __next__(self) -> int:
                return 1

            def close(self) -> None:
                raise AssertionError

        source = IteratorSource(Closable())
        source.want()
        source.stop()
        assert source.state is SourceState.STOPPED

    def test_stopFromWithinTheGeneratorIsTheEnd(self) -> None:
        def generate() -> Generator[int, None, None]:
            yield 1
            source.stop()
            yield 2

        source = IteratorSource(generate())
        source.want()
        source.want()
        assert source.state is SourceState.STOPPED
        assert list(source.items) == []

    def test_stopCancelsTheItemThatIsWaitedFor(self) -> None:
        answer: Deferred[int] = Deferred()
        source = IteratorSource(iter([answer]))
        source.want()
        source.stop()
        assert answer.called
        assert source.state is SourceState.STOPPED

    def test_stopFromWithinTheIteratorCancelsTheItemThatItGives(self) -> None:
        answer: Deferred[int] = Deferred()

        def generate() -> Generator[Deferred[int], None, None]:
            source.stop()
            yield answer

        source = IteratorSource(generate())
        source.want()
        assert answer.called


class CallTests(SynchronousTestCase):
    def test_moreLeftIsAPromise(self) -> None:
        answers = [(1, True, True), (2, True, False)]
        source = CallSource(lambda: answers.pop(0))
        source.want()
        assert source.promisesMore
        assert not source.isOver
        source.want()
        assert not source.promisesMore
        assert source.state is SourceState.ENDED
        assert list(source.items) == [1, 2]

    def test_nothingIsCalledAfterTheLast(self) -> None:
        calls: list[None] = []

        def getMore() -> tuple[int, bool, bool]:
            calls.append(None)
            return 1, True, False

        source = CallSource(getMore)
        source.listen(source.want)
        source.want()
        source.want()
        assert len(calls) == 1

    def test_whatIsNotValidIsNoItemButTheEnd(self) -> None:
        for moreLeft in (False, True):
            source = CallSource(lambda moreLeft=moreLeft: (1, False, moreLeft))
            source.want()
            assert source.state is SourceState.ENDED
            assert list(source.items) == []

    def test_anythingButAThreeTupleIsATypeErrorThatShowsIt(self) -> None:
        for wrong in (None, (1, True), "abc"):
            source = CallSource(lambda wrong=wrong: wrong)
            source.want()
            assert source.failure is not None
            assert source.failure.check(TypeError)
            assert repr(wrong) in str(source.failure.value)

    def test_oneCallAtATime(self) -> None:
        answers: list[Deferred[Any]] = []

        def getMore() -> Deferred[Any]:
            answers.append(Deferred())
            return answers[-1]

        source = CallSource(getMore)
        source.want()
        source.want()
        assert len(answers) == 1
        answers[0].callback((1, True, True))
        source.want()
        assert len(answers) == 2

    def test_itMayBeWantedAgainFromWithinTheArrival(self) -> None:
        answers: list[Deferred[Any]] = []

        def getMore() -> Deferred[Any]:
            answers.append(Deferred())
            return answers[-1]

        source = CallSource(getMore)
        source.listen(source.want)
        source.want()
        answers[0].callback((1, True, True))
        assert len(answers) == 2

    def test_stopCancelsTheCall(self) -> None:
        cancelled: list[Deferred[Any]] = []
        answer: Deferred[Any] = Deferred(cancelled.append)
        source = CallSource(lambda: answer)
        source.want()
        source.stop()
        assert cancelled == [answer]
        assert source.failure is None


class AsyncIteratorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.answers: list[Deferred[int]] = [Deferred(), Deferred()]
        self.closed: list[bool] = []

    async def generate(self) -> AsyncGenerator[int, None]:
        try:
            for answer in self.answers:
                yield await answer
        finally:
            self.closed.append(True)

    def test_isToldFromOthers(self) -> None:
        assert isAsyncIterator(self.generate())
        assert not isAsyncIterator(iter([1]))
        assert not isAsyncIterator(type(self.generate()))

    def test_eachItemIsWaitedForWhenWanted(self) -> None:
        source = AsyncIteratorSource(self.generate())
        source.want()
        source.want()
        assert list(source.items) == []
        self.answers[0].callback(1)
        assert list(source.items) == [1]
        source.want()
        self.answers[1].callback(2)
        assert list(source.items) == [1, 2]
        assert self.closed == []
        source.want()
        assert source.state is SourceState.ENDED
        assert self.closed == [True]

    def test_failsWithTheIteratorsError(self) -> None:
        source = AsyncIteratorSource(self.generate())
        source.want()
        self.answers[0].errback(ZeroDivisionError())
        assert source.failure is not None
        assert source.failure.check(ZeroDivisionError)

    def test_stopClosesAGeneratorThatWaits(self) -> None:
        source = AsyncIteratorSource(self.generate())
        source.want()
        source.stop()
        assert self.closed == [True]
        assert self.answers[0].called

    def test_stopClosesAGeneratorBetweenTwoItems(self) -> None:
        self.answers[0].callback(1)
        source = AsyncIteratorSource(self.generate())
        source.want()
        source.stop()
        assert self.closed == [True]

    def test_aGeneratorThatGoesOnWaitingIsClosedAfterThat(self) -> None:
        release: Deferred[None] = Deferred()

        async def stubborn() -> AsyncGenerator[int, None]:
            try:
                await Deferred()
            except CancelledError:
                await release
            yield 1
            self.fail("it was not closed")

        source = AsyncIteratorSource(stubborn())
        source.want()
        source.stop()
        release.callback(None)
        assert list(source.items) == []

    def test_anIteratorMayStopItsOwnSource(self) -> None:
        async def generate() -> AsyncGenerator[int, None]:
            try:
                source.stop()
                yield 1
            finally:
                self.closed.append(True)

        source = AsyncIteratorSource(generate())
        source.want()
        assert self.closed == [True]
        assert list(source.items) == []

    def test_anErrorAtClosingIsLogged(self) -> None:
        async def generate() -> AsyncGenerator[int, None]:
            try:
                yield 1
            finally:
                raise ZeroDivisionError

        source = AsyncIteratorSource(generate())
        source.want()
        source.stop()
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1

    def test_anIteratorNeedNotBeClosable(self) -> None:
        class Endless:
            def __aiter__(self) -> Endless:
                return self

            async def __anext__(self) -> int:
                return 1

        source = AsyncIteratorSource(Endless())
        source.want()
        source.stop()
        assert source.state is SourceState.STOPPED

    def test_aDeferatorTakesOne(self) -> None:
        deferator = Deferator(self.generate())
        waits = iter(deferator)
        self.answers[0].callback(1)
        self.answers[1].callback(2)
        assert [self.successResultOf(d) for d in waits] == [1, 2]
