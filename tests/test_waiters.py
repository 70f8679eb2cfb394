from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from asynqueue._waiters import OneShotObserverList, Waiters


class WaitersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.waiters: Waiters[Any] = Waiters()
        self.heard: list[tuple[str, Any]] = []

    def wait(self, name: str, condition: Any = None) -> Deferred[Any]:
        d = self.waiters.add(condition)
        d.addBoth(lambda result: self.heard.append((name, result)))
        return d

    def test_allFireInTheOrderOfAsking(self) -> None:
        self.wait("a")
        self.wait("b")
        self.assertEqual(self.waiters.fire(1), 2)
        self.assertEqual(self.heard, [("a", 1), ("b", 1)])
        self.assertEqual((len(self.waiters), self.waiters.fire(2)), (0, 0))

    def test_oneThatIsAddedByACallbackGoesOnWaiting(self) -> None:
        def askAgain(_: object) -> None:
            self.wait("later")

        self.waiters.add().addCallback(askAgain)
        self.waiters.fire(1)
        self.assertEqual((self.heard, len(self.waiters)), ([], 1))

    def test_cancellingEndsOnlyThatWait(self) -> None:
        first, second = self.wait("a"), self.wait("b")
        first.addErrback(lambda _: None)
        first.cancel()
        self.assertEqual(list(self.waiters.deferreds), [second])
        self.assertIsInstance(self.heard.pop()[1].value, CancelledError)
        self.waiters.fire(1)
        self.assertEqual(self.heard, [("b", 1)])

    def test_oneThatACallbackCancelsIsNotFired(self) -> None:
        first, second = self.waiters.add(), self.waiters.add()
        first.addCallback(lambda _: second.cancel())
        self.assertEqual(self.waiters.fire(1), 1)
        self.failureResultOf(second, CancelledError)

    def test_aConditionIsLookedAtWhenItsTurnComes(self) -> None:
        count = 1

        def putAnother(_: Any) -> None:
            nonlocal count
            count += 1

        self.waiters.add(2).addCallback(putAnother)
        self.wait("second", 2)
        self.wait("third", 3)
        self.waiters.fireWhere(lambda limit: count < limit, True)
        self.assertEqual((self.heard, len(self.waiters)), ([("third", True)], 1))

    def test_theFirstCanBeTakenOut(self) -> None:
        first, _ = self.wait("a"), self.wait("b")
        self.assertIs(self.waiters.take(), first)
        self.assertEqual(len(self.waiters), 1)
        # It is the taker's to fire, and may still be cancelled.
        first.addErrback(lambda _: None)
        first.cancel()

    def test_oneIsFiredOnlyOnce(self) -> None:
        d = self.wait("a")
        self.assertTrue(self.waiters.fireOne(d, 1))
        self.assertFalse(self.waiters.fireOne(d, 2))
        self.assertEqual(self.heard, [("a", 1)])


class OneShotObserverListTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.observers: OneShotObserverList[Any] = OneShotObserverList()

    def test_everybodyGetsTheResultBeforeAndAfter(self) -> None:
        before = [self.observers.whenFired(), self.observers.whenFired()]
        self.observers.fire(1)
        self.assertEqual([self.successResultOf(d) for d in before], [1, 1])
        self.assertEqual(self.successResultOf(self.observers.whenFired()), 1)

    def test_onlyTheFirstResultCounts(self) -> None:
        self.observers.fire(1)
        self.observers.fire(2)
        self.assertEqual(self.successResultOf(self.observers.whenFired()), 1)

    def test_aFailureThatNobodyAsksForIsLogged(self) -> None:
        self.observers.fire(Failure(ZeroDivisionError()))
        del self.observers
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_aFailureThatSomebodyAsksForIsNot(self) -> None:
        self.observers.fire(Failure(ZeroDivisionError()))
        for _ in range(2):
            self.failureResultOf(self.observers.whenFired(), ZeroDivisionError)
        del self.observers
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_cancellingEndsOnlyThatWait(self) -> None:
        first, second = self.observers.whenFired(), self.observers.whenFired()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.observers.fire(1)
        self.assertEqual(self.successResultOf(second), 1)
