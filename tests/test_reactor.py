from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from asynqueue._reactor import (
    ImmediateExecutor,
    ReactorInbox,
    ReactorSteps,
    ReactorTurns,
    SerialThread,
    callEach,
    serialExecutor,
    turnsOf,
)


@implementer(IReactorFromThreads)
class LazyReactor:
    """
    Has its calls made when the test says so.
    """

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []

    def callFromThread(self, callable: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self.calls.append(lambda: callable(*args, **kwargs))


class ReactorTurnsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.turns = ReactorTurns(self.clock)
        self.called: list[int] = []

    def do(self, number: int, seconds: float) -> None:
        def function() -> None:
            self.clock.rightNow += seconds
            self.called.append(number)

        self.turns.do(function)

    def test_functionsThatTakeNoTimeAreCalledAtOnce(self) -> None:
        for number in range(1000):
            self.do(number, 0.0)
        self.assertEqual(self.called, list(range(1000)))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_aTurnBeginsNoMoreThanItHasTimeFor(self) -> None:
        turns: deque[Callable[[], object]] = deque()
        self.patch(self.clock, "callLater", lambda _, function: turns.append(function))
        for number in range(10):
            self.do(number, 0.009 / 2)
        done = [len(self.called)]
        while turns:
            turns.popleft()()
            done.append(len(self.called))
        self.assertEqual(done, [3, 6, 9, 10])
        self.assertEqual(self.called, list(range(10)))

    def test_aLongPauseBeginsAnew(self) -> None:
        self.do(0, 1.0)
        self.clock.advance(1.0)
        self.do(1, 1.0)
        self.assertEqual(self.called, [0, 1])

    def test_aFunctionThatRaisesLaterIsLoggedAndTheOthersAreCalled(self) -> None:
        self.do(0, 1.0)
        self.turns.do(lambda: 1 // 0)
        self.do(2, 0.0)
        self.clock.advance(0)
        self.assertEqual(self.called, [0, 2])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_whatIsAskedForMeanwhileComesAfterTheOthers(self) -> None:
        self.do(0, 1.0)
        self.turns.do(lambda: self.do(3, 0.0))
        self.do(1, 0.0)
        self.clock.advance(0)
        self.assertEqual(self.called, [0, 1, 3])

    def test_aReactorHasOneThatDiesWithIt(self) -> None:
        self.assertIs(turnsOf(self.clock), turnsOf(self.clock))
        self.assertIsNot(turnsOf(self.clock), turnsOf(Clock()))


class ReactorStepsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.over = 0
        self.steps = ReactorSteps(self.clock, self.count)
        self.done: list[str] = []

    def count(self) -> None:
        self.over += 1

    def do(self, letters: str, seconds: float = 0.004) -> Iterator[None]:
        for letter in letters:
            self.clock.rightNow += seconds
            self.done.append(letter)
            yield

    def test_stepsThatTakeNoTimeAreDoneAtOnce(self) -> None:
        self.steps.add(self.do("ab" * 1000, 0.0))
        self.assertEqual((len(self.done), self.over, bool(self.steps)), (2000, 1, False))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_aTurnDoesNoMoreThanItHasTimeFor(self) -> None:
        turns: deque[Callable[[], object]] = deque()
        self.patch(self.clock, "callLater", lambda _, function: turns.append(function))
        self.steps.add(self.do("abcdefg"))
        done = ["".join(self.done)]
        while turns:
            turns.popleft()()
            done.append("".join(self.done))
        self.assertEqual(done, ["abc", "abcdef", "abcdefg"])
        self.assertEqual(self.over, 1)

    def test_soManyAreDoneAtOnceHoweverLongThatTakes(self) -> None:
        self.steps.add(self.do("abcdefg"), least=5)
        self.assertEqual("".join(self.done), "abcde")
        self.steps.finish()

    def test_whatComesMeanwhileWaits(self) -> None:
        self.steps.add(self.do("abcde"))
        self.steps.add(self.do("12"), least=2)
        self.steps.finish()
        self.assertEqual("".join(self.done), "abcde12")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_finishingFromWithinAStepDoesNothing(self) -> None:
        def steps() -> Iterator[None]:
            self.steps.finish()
            self.steps.add(self.do("b"))
            self.done.append("a")
            yield

        self.steps.add(steps())
        self.assertEqual("".join(self.done), "ab")

    def test_afterAStepThatRaisesItGoesOn(self) -> None:
        def steps() -> Iterator[None]:
            yield
            raise ValueError("no")

        self.steps.add(self.do("abc"))
        self.steps.add(steps())
        self.steps.add(self.do("d"))
        with self.assertRaises(ValueError):
            self.clock.advance(0)
        self.clock.advance(0)
        self.assertEqual("".join(self.done), "abcd")
        self.assertEqual(self.over, 1)


class ReactorInboxTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = LazyReactor()
        self.batches: list[list[int]] = []
        self.inbox: ReactorInbox[int] = ReactorInbox(self.reactor, self.batches.append)

    def test_theReactorIsWokenOnceForWhatIsPutBeforeItComes(self) -> None:
        for number in range(3):
            self.inbox.put(number)
        self.assertEqual((len(self.reactor.calls), self.batches), (1, []))
        self.reactor.calls.pop()()
        self.assertEqual(self.batches, [[0, 1, 2]])
        self.inbox.put(3)
        self.assertEqual(len(self.reactor.calls), 1)

    def test_whatIsPutMeanwhileWaitsForTheNextTurn(self) -> None:
        self.inbox = ReactorInbox(self.reactor, self._putAgain)
        self.inbox.put(0)
        self.reactor.calls.pop(0)()
        self.assertEqual((self.batches, len(self.reactor.calls)), ([[0]], 1))
        self.reactor.calls.pop(0)()
        self.assertEqual(self.batches, [[0], [1]])

    def _putAgain(self, batch: list[int]) -> None:
        self.batches.append(batch)
        if batch[0] == 0:
            self.inbox.put(1)

    def test_nothingIsLostAndEachThreadsOrderIsKept(self) -> None:
        def putMany(thread: int) -> None:
            for number in range(5000):
                self.inbox.put(10_000 * thread + number)

        threads = [threading.Thread(target=putMany, args=(thread,)) for thread in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads) or self.reactor.calls:
            if self.reactor.calls:
                self.reactor.calls.pop(0)()
        things = [thing for batch in self.batches for thing in batch]
        self.assertEqual(len(things), 20_000)
        for number in range(4):
            own = [thing for thing in things if thing // 10_000 == number]
            self.assertEqual(own, sorted(own))

    def test_aClockHasItsThingsAtOnce(self) -> None:
        inbox: ReactorInbox[int] = ReactorInbox(Clock(), self.batches.append)
        inbox.put(1)
        self.assertEqual(self.batches, [[1]])

    def test_aFunctionThatRaisesDoesNotKeepTheOthersFromBeingCalled(self) -> None:
        called: list[int] = []
        callEach([lambda: 1 // 0, lambda: called.append(1)])
        self.assertEqual(called, [1])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class SerialThreadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = LazyReactor()
        self.thread = SerialThread(self.reactor, "test", LookupError)
        self.addCleanup(self.thread.close)

    def test_itCallsInOrderInOneThread(self) -> None:
        idents: list[tuple[int, int]] = []
        for number in range(100):
            self.thread.call(str, lambda n: idents.append((n, threading.get_ident())), number)
        self.thread.wait(lambda: None)
        self.assertEqual([number for number, _ in idents], list(range(100)))
        self.assertEqual(len({ident for _, ident in idents}), 1)
        self.assertNotEqual(idents[0][1], threading.get_ident())

    def test_waitingGivesTheResultOrRaisesTheError(self) -> None:
        self.assertEqual(self.thread.wait(divmod, 7, 2), (3, 1))
        self.assertRaises(ZeroDivisionError, self.thread.wait, divmod, 7, 0)

    def test_aForkedProcessIsRefused(self) -> None:
        self.patch(os, "getpid", lambda: -1)
        told: list[Any] = []
        self.thread.call(told.append, str)
        self.assertIsInstance(told[0].value, LookupError)
        self.assertIn("which was forked from it", str(told[0].value))
        self.assertRaises(LookupError, self.thread.wait, str)

    def test_aClockGetsAnExecutorWithoutAThread(self) -> None:
        executor = serialExecutor(Clock(), "test")
        self.assertIsInstance(executor, ImmediateExecutor)
        told: list[Any] = []
        executor.call(told.append, divmod, 7, 0)
        self.assertIsInstance(told[0], Failure)
        thread = serialExecutor(self.reactor, "test")
        self.addCleanup(thread.close)
        self.assertIsInstance(thread, SerialThread)


class HurryTests(SynchronousTestCase):
    """
    The thread of a store, when the reactor has had its last turn.
    """

    def test_whatIsUnderwayIsWaitedForAndToldOnce(self) -> None:
        reactor = LazyReactor()
        aside = SerialThread(reactor, "test")
        go, told = threading.Event(), []

        def first() -> str:
            go.wait(20)
            return "first"

        def broken() -> None:
            raise ZeroDivisionError

        def done(result: Any) -> None:
            told.append(result)
            if len(told) == 1:
                aside.call(told.append, str, "from within")

        aside.call(done, first)
        aside.call(done, broken)
        go.set()
        self.assertEqual(told, [])
        aside.hurry()
        self.assertEqual((told[0], told[1].type), ("first", ZeroDivisionError))
        self.assertEqual(told[2:], ["from within"])
        aside.call(told.append, str, "now")
        self.assertEqual(told[3:], ["now"])
        aside.close()
        aside.hurry()
        for call in reactor.calls:
            call()
        self.assertEqual(len(told), 4)
