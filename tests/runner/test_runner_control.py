from __future__ import annotations

import gc
import signal
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from asynqueue._runner.callrunner import CallRunner
from asynqueue._runner.codecs import DIRECT
from asynqueue._runner.exceptions import TaskInterrupted
from asynqueue._runner.messages import CALL, CANCEL, ENDED, RAISED, RECALL, RETURNED, Message
from tests.runner.stage import StageTestCase


def double(number: int) -> int:
    return number * 2


class ControlTestCase(StageTestCase):
    def callSome(self, *ids: int) -> None:
        for id in ids:
            self.stage.call(id, double, id)

    def callThat(self, id: int, *steps: Callable[[], object]) -> None:
        """
        Have a call run that does these things, as if a signal came while it is running.
        """

        def work() -> str:
            for step in steps:
                step()
            return "done"

        self.stage.call(id, work)


class CancelTests(ControlTestCase):
    def test_callThatDidNotBeginIsGivenBackAndNeverBegins(self) -> None:
        self.callSome(1, 2, 3)
        self.stage.cancel(2)
        assert self.stage.taken() == [("UNBEGUN", [2])]
        assert self.stage.run() == [
            ("begin", 1),
            ("RETURNED", 1, 2),
            ("begin", 3),
            ("RETURNED", 3, 6),
        ]

    def test_cancellingWhatIsOverOrUnknownSaysNothing(self) -> None:
        self.callSome(1)
        self.stage.run()
        self.stage.cancel(1)
        self.stage.cancel(99)
        assert self.stage.run() == []

    def test_cancellingTwiceIsAnsweredOnce(self) -> None:
        self.callSome(1)
        self.stage.cancel(1)
        self.stage.cancel(1)
        assert self.stage.run() == [("UNBEGUN", [1])]

    def test_runningCallIsInterrupted(self) -> None:
        self.callThat(1, lambda: self.stage.cancel(1), self.runner.interrupt)
        self.callSome(2)
        _, event, *rest = self.stage.run()
        self.raised(event, 1, TaskInterrupted)
        assert rest == [("begin", 2), ("RETURNED", 2, 4)]

    def test_whatItDoesToCleanUpIsNotInterruptedAgain(self) -> None:
        cleaned: list[str] = []

        def cleanUp() -> None:
            try:
                self.stage.cancel(1)
                self.runner.interrupt()
            finally:
                self.stage.cancel(1)
                self.runner.interrupt()
                cleaned.append("all")

        self.callThat(1, cleanUp)
        self.raised(self.stage.run()[1], 1, TaskInterrupted)
        assert cleaned == ["all"]

    def test_runningCallThatIsNotInterruptedEndsAsItLikes(self) -> None:
        self.callThat(1, lambda: self.stage.cancel(1))
        assert self.stage.run() == [("begin", 1), ("RETURNED", 1, "done")]

    def test_cancellationOfACallThatIsOverInterruptsNoLaterOne(self) -> None:
        self.callThat(1, lambda: self.stage.cancel(1))
        self.callThat(2, self.runner.interrupt)
        assert [event[2] for event in self.stage.run()[1::2]] == ["done"] * 2
        # Not even one of the same number.
        self.callThat(1, self.runner.interrupt)
        assert self.stage.run()[-1] == ("RETURNED", 1, "done")

    def test_runningCallIsNotInterruptedForAnothersSake(self) -> None:
        self.callThat(1, lambda: self.stage.cancel(2), self.runner.interrupt)
        self.callSome(2, 3)
        assert self.stage.run() == [
            ("begin", 1),
            ("UNBEGUN", [2]),
            ("RETURNED", 1, "done"),
            ("begin", 3),
            ("RETURNED", 3, 6),
        ]

    def test_oneCancellationInterruptsOnce(self) -> None:
        def work() -> str:
            self.stage.cancel(1)
            try:
                self.runner.interrupt()
            except TaskInterrupted:
                self.runner.interrupt()
                return "went on"
            return "was not interrupted"

        self.stage.call(1, work)
        assert self.stage.run()[-1] == ("RETURNED", 1, "went on")

    def test_interruptWithoutACancellationDoesNothing(self) -> None:
        self.runner.interrupt()
        self.callThat(1, self.runner.interrupt)
        assert self.stage.run()[-1] == ("RETURNED", 1, "done")

    def test_interruptionIsNoExceptionThatATaskWouldHandle(self) -> None:
        assert not issubclass(TaskInterrupted, Exception)


class RecallTests(ControlTestCase):
    def test_everyCallThatDidNotBeginIsGivenBackInOrder(self) -> None:
        self.callSome(3, 1, 2)
        self.stage.recall()
        assert self.stage.run() == [("UNBEGUN", [3, 1, 2])]

    def test_withNothingToGiveBackNothingIsSaid(self) -> None:
        self.stage.recall()
        assert self.stage.run() == []

    def test_runningCallGoesOn(self) -> None:
        self.callThat(1, self.stage.recall, self.runner.interrupt)
        self.callSome(2, 3)
        assert self.stage.run() == [
            ("begin", 1),
            ("UNBEGUN", [2, 3]),
            ("RETURNED", 1, "done"),
        ]

    def test_streamsGoOn(self) -> None:
        self.stage.call(1, lambda: iter("ab"))
        self.runner.step()
        self.stage.recall()
        self.stage.run()
        assert self.stage.items(1) == ["a", "b"]

    def test_whatWasGivenBackMayComeAgain(self) -> None:
        self.callSome(1)
        self.stage.recall()
        self.callSome(1)
        assert self.stage.run() == [("UNBEGUN", [1]), ("begin", 1), ("RETURNED", 1, 2)]

    def test_callsThatComeAfterwardsRun(self) -> None:
        self.callSome(1)
        self.stage.recall()
        self.callSome(2)
        assert self.stage.run()[-1] == ("RETURNED", 2, 4)


class QuitTests(ControlTestCase):
    def test_givesBackWhatDidNotBeginAndEnds(self) -> None:
        self.callSome(1, 2)
        assert not self.runner.ended
        self.stage.quit()
        assert self.runner.ended
        self.runner.close()
        assert self.stage.run() == [("UNBEGUN", [1, 2])]

    def test_runningCallIsAnsweredFirst(self) -> None:
        self.callThat(1, self.stage.quit, self.runner.interrupt)
        self.callSome(2)
        self.runner.step()
        self.runner.close()
        assert self.runner.ended
        assert self.stage.run() == [("begin", 1), ("UNBEGUN", [2]), ("RETURNED", 1, "done")]

    def test_callThatComesTooLateIsGivenBack(self) -> None:
        self.stage.quit()
        self.callSome(1)
        self.runner.close()
        assert self.stage.run() == [("UNBEGUN", [1])]

    def test_streamsAreClosedInTheEnd(self) -> None:
        closed = []

        def generate() -> Any:
            try:
                while True:
                    yield 1
            finally:
                closed.append(True)

        self.stage.call(1, generate)
        self.runner.step()
        self.stage.taken()
        self.stage.quit()
        self.runner.close()
        assert (self.stage.run(), closed) == ([("ENDED", 1)], [True])
        assert not self.runner.hasStreams


class TerminateTests(ControlTestCase):
    def test_endsTheRunningCallAndThenEverything(self) -> None:
        self.callThat(1, self.runner.terminate)
        self.callSome(2)
        self.runner.step()
        assert self.runner.ended
        self.runner.close()
        assert self.stage.run() == [("begin", 1), ("UNBEGUN", [2])]

    def test_whatEndedItselfInTheMeantimeIsAnswered(self) -> None:
        def resist() -> None:
            with self.assertRaises(TaskInterrupted):
                self.runner.terminate()

        self.callThat(1, resist)
        assert self.stage.run() == [("begin", 1), ("RETURNED", 1, "done")]

    def test_whenNothingRunsItOnlyEnds(self) -> None:
        self.callSome(1)
        self.runner.terminate()
        assert self.runner.ended
        self.runner.close()
        assert self.stage.run() == [("UNBEGUN", [1])]

    def test_endsTheGeneratorThatRuns(self) -> None:
        closed = []

        def generate() -> Any:
            try:
                yield 1
                self.runner.terminate()
                yield 2
            finally:
                closed.append(True)

        self.stage.call(1, generate)
        events = self.stage.run()
        assert events == [("begin", 1), ("STREAMING", 1), ("ITEMS", 1, [1])]
        assert (self.runner.ended, closed) == (True, [True])

    def test_aStreamThatIsOpenDoesNotLookAsIfItHadComeToItsEnd(self) -> None:
        closed = []

        def generate() -> Any:
            try:
                yield from range(1_000_000)
            finally:
                closed.append(True)

        self.stage.call(1, generate)
        self.stage.run()
        self.runner.terminate()
        self.runner.close()
        assert (self.stage.taken(), closed) == ([], [True])


class ReceivingTests(ControlTestCase):
    def test_severalMessagesAtOnceAreTakenInTheirOrder(self) -> None:
        self.callSome(1, 2)
        self.runner.receive([(CANCEL, 1), (RECALL,)])
        assert self.stage.run() == [("UNBEGUN", [1]), ("UNBEGUN", [2])]

    def test_callsThatComeWhileOneIsRunningRunLater(self) -> None:
        self.callThat(1, lambda: self.callSome(2))
        assert self.stage.run() == [
            ("begin", 1),
            ("RETURNED", 1, "done"),
            ("begin", 2),
            ("RETURNED", 2, 4),
        ]


class NudgeTests(ControlTestCase):
    def test_oneThatCameWhileTheCallWasRebuiltIsHeededAsItBegins(self) -> None:
        ran: list[int] = []

        def look() -> None:
            self.stage.cancel(1)
            self.runner.interrupt()

        self.runner.look = look
        self.runner.wasNudged = True
        self.stage.call(1, ran.append, 1)
        self.stage.call(2, ran.append, 2)
        _, failure, *_ = self.stage.run()
        self.raised(failure, 1, TaskInterrupted)
        assert ran == [2]
        assert not self.runner.wasNudged


class StormTests(SynchronousTestCase):
    """
    A signal's handler that cancels whatever is running, as often as it can.
    """

    COUNT = 5000

    def setUp(self) -> None:
        self.messages: list[Message] = []
        self.runner = CallRunner(self.messages.append, codec=DIRECT)
        self.addCleanup(signal.signal, signal.SIGALRM, signal.getsignal(signal.SIGALRM))
        signal.signal(signal.SIGALRM, self._cancel)
        self.addCleanup(signal.setitimer, signal.ITIMER_REAL, 0)
        # What a callback of the collector raises is only printed.
        gc.disable()
        self.addCleanup(gc.enable)
        signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.00005)

    def _cancel(self, number: int, frame: Any) -> None:
        running = self.runner.running
        if running is not None:
            self.runner.receive([(CANCEL, running)])
            self.runner.interrupt()

    def work(self, function: Any, *args: Any) -> None:
        for id in range(self.COUNT):
            self.runner.receive([(CALL, id, function, (args, {}), None, None)])
            while self.runner.hasWork:
                self.runner.step()
        signal.setitimer(signal.ITIMER_REAL, 0)

    def test_anInterruptionAtAnyInstantEndsOnlyItsCall(self) -> None:
        self.work(sorted, list(range(50)))
        self.assertEqual([message[1] for message in self.messages], list(range(self.COUNT)))
        self.assertEqual({message[0] for message in self.messages}, {RETURNED, RAISED})

    def test_anInterruptionAtAnyInstantEndsOnlyItsStream(self) -> None:
        self.work(iter, [1, 2, 3])
        ends = [message[1] for message in self.messages if message[0] in (ENDED, RAISED)]
        self.assertEqual(ends, list(range(self.COUNT)))
