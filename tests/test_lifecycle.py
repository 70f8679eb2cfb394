"""
Who hears of the end of a program, and in what order.
"""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from asynqueue import _lifecycle
from asynqueue._lifecycle import Ending, StopCall
from tests.support.endingreactor import EndingClock


class Subject:
    """
    Something that notes what it is told, and is over when the test says so.
    """

    def __init__(
        self, case: LifecycleCase, name: str, reactor: Any, drainTimeout: float | None = 5.0
    ) -> None:
        self.drainTimeout = drainTimeout
        self.done: Deferred[None] = Deferred()
        self.isBroken = False

        def told(verb: str, result: Any = None) -> Callable[..., Any]:
            def tell(why: str = "") -> Any:
                case.told.append(f"{verb} {name}")
                if self.isBroken:
                    raise ZeroDivisionError
                return result

            return tell

        self.ending = Ending(
            reactor,
            self,
            lambda: 1,
            told("drain", self.done),
            told("cut", self.done),
            told("end", None),
            told("abort", None),
        )

    def finish(self) -> None:
        self.ending.forget()
        self.done.callback(None)


class LifecycleCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.told: list[str] = []
        self.atExit: list[Any] = []
        self.patch(_lifecycle, "_programs", {})
        self.patch(atexit, "register", self.atExit.append)
        self.patch(atexit, "unregister", self.unregister)
        self.clock = EndingClock()
        self.clock.handleSignals(self)

    def unregister(self, function: Any) -> None:
        self.atExit[:] = [one for one in self.atExit if one is not function]

    def tell(self, text: str) -> Callable[[], None]:
        return lambda: self.told.append(text)


class OrderTests(LifecycleCase):
    def test_onlyOneTriggerAndOneExitFunctionAreRegistered(self) -> None:
        subjects = [Subject(self, name, self.clock) for name in "abc"]
        calls = [StopCall(self.clock, phase, list) for phase in ("before", "during")]
        self.assertEqual((len(self.clock.triggers), len(self.atExit)), (1, 1))
        registered: list[Any] = [*(subject.ending for subject in subjects), *calls]
        for each in registered:
            self.assertEqual(len(self.clock.triggers), 1)
            each.forget()
        self.assertEqual((self.clock.triggers, self.atExit), ([], []))

    def test_aSignal(self) -> None:
        first, second = Subject(self, "a", self.clock), Subject(self, "b", self.clock)
        manual = Subject(self, "c", self.clock, drainTimeout=None)
        StopCall(self.clock, "during", self.tell("during"))
        StopCall(self.clock, "before", self.tell("before"))
        stopped = self.clock.stop(signal.SIGTERM)
        self.assertEqual(self.told, ["before", "drain a", "drain b"])
        first.finish()
        self.assertNoResult(stopped)
        second.finish()
        self.successResultOf(stopped)
        self.assertEqual(self.told[3:], ["during", "end c"])
        manual.ending.forget()

    def test_theDeadlineAndASecondSignalCutOnce(self) -> None:
        soon = Subject(self, "a", self.clock, drainTimeout=1)
        later = Subject(self, "b", self.clock, drainTimeout=2)
        stopped = self.clock.stop(signal.SIGTERM)
        self.told.clear()
        self.clock.advance(1)
        self.assertEqual(self.told, ["cut a"])
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        self.clock.advance(5)
        self.assertEqual(self.told, ["cut a", "cut b"])
        soon.finish()
        later.finish()
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_theReactorsStopWithoutASignal(self) -> None:
        subject = Subject(self, "a", self.clock)
        StopCall(self.clock, "during", self.tell("during"))
        self.clock.addSystemEventTrigger("before", "shutdown", self.tell("the program's"))
        self.assertFalse(subject.ending.hasBegun)
        self.successResultOf(self.clock.stop())
        self.assertEqual(self.told, ["the program's", "during", "end a"])
        self.assertTrue(subject.ending.hasBegun)

    def test_theInterpretersEnd(self) -> None:
        kept = [Subject(self, name, self.clock) for name in "ab"]
        [function] = self.atExit
        function()
        function()
        self.assertEqual((len(kept), self.told), (2, ["abort a", "abort b"]))

    def test_aForkedProcessEndsNothingOfItsParents(self) -> None:
        kept = Subject(self, "a", self.clock)
        pid = os.getpid()
        self.patch(os, "getpid", lambda: pid + 1)
        own = Subject(self, "b", self.clock)
        self.atExit[0]()
        self.assertEqual((kept.isBroken, own.isBroken, self.told), (False, False, ["abort b"]))

    def test_oneThatIsRegisteredInTheMiddleIsToldToo(self) -> None:
        late: list[Subject] = []
        StopCall(self.clock, "before", lambda: late.append(Subject(self, "a", self.clock)))
        self.clock.addSystemEventTrigger(
            "before", "shutdown", lambda: late.append(Subject(self, "b", self.clock))
        )
        self.successResultOf(self.clock.stop())
        self.assertEqual(self.told, ["end a", "end b"])


class SeveralTests(LifecycleCase):
    def test_eachReactorEndsItsOwn(self) -> None:
        other = EndingClock()
        mine, theirs = Subject(self, "a", self.clock), Subject(self, "b", other)
        self.assertEqual(len(self.atExit), 1)
        stopped = self.clock.stop(signal.SIGTERM)
        self.assertEqual(self.told, ["drain a"])
        self.assertFalse(theirs.ending.hasBegun)
        mine.finish()
        self.successResultOf(stopped)
        self.assertEqual(len(self.atExit), 1)
        self.successResultOf(other.stop())
        self.assertEqual(self.told, ["drain a", "end b"])

    def test_aClockWithoutTriggersHearsOfTheInterpreter(self) -> None:
        kept = Subject(self, "a", Clock())
        self.atExit[0]()
        self.assertEqual((kept.isBroken, self.told), (False, ["abort a"]))

    def test_nothingIsKeptForAClockThatNeverTells(self) -> None:
        StopCall(Clock(), "during", self.fail)
        self.assertEqual(_lifecycle._programs, {})

    def test_whateverOneRaisesTheOthersAreTold(self) -> None:
        subjects = [Subject(self, name, self.clock) for name in "ab"]
        subjects[0].isBroken = True
        StopCall(self.clock, "before", lambda: 1 // 0)
        stopped = self.clock.stop(signal.SIGTERM)
        self.assertEqual(self.told, ["drain a", "drain b"])
        self.assertNoResult(stopped)
        subjects[1].finish()
        self.successResultOf(stopped)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_soItIsAfterTheLastTurnAndAtTheInterpretersEnd(self) -> None:
        subjects = [Subject(self, name, self.clock) for name in "ab"]
        subjects[0].isBroken = True
        StopCall(self.clock, "during", lambda: 1 // 0)
        self.successResultOf(self.clock.stop())
        self.atExit[0]()
        self.assertEqual(self.told, ["end a", "end b", "abort a", "abort b"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 3)
