from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from asynqueue._runner.exceptions import TaskInterrupted
from asynqueue._runner.messages import CANCEL, Message
from asynqueue._runner.processmain import NUDGE, _heedSignals


class StandInPipe:
    """
    A pipe that does not stand being used while it is used.

    @ivar duringRead: what is done in the midst of each reading, in turn.
    @ivar duringLook: what is done when a look has found nothing, in turn.
    """

    def __init__(self) -> None:
        self.isClosed = self.isPosting = False
        self.heldBack: list[int] = []
        self.messages: list[Message] = []
        self.duringRead: list[Callable[[], object]] = []
        self.duringLook: list[Callable[[], object]] = []
        self.reads = 0
        self._isInUse = False

    def hasInput(self) -> bool:
        """
        Whether there are messages.
        """
        assert not self._isInUse
        self._isInUse = True
        found = bool(self.messages)
        if not found and self.duringLook:
            self.duringLook.pop(0)()
        self._isInUse = False
        return found

    def read(self) -> list[Message]:
        """
        Take them, do something, and return them.
        """
        assert not self._isInUse
        self._isInUse = True
        self.reads += 1
        messages, self.messages = self.messages, []
        if self.duringRead:
            self.duringRead.pop(0)()
        self._isInUse = False
        return messages

    def holdsBack(self, number: int) -> bool:
        """
        Note a signal that comes in the middle of a message.
        """
        if self.isPosting:
            self.heldBack.append(number)
        return self.isPosting


class StandInService:
    """
    Counts how often it is woken.
    """

    def __init__(self) -> None:
        self.wakes = 0

    def wake(self) -> None:
        """
        Count.
        """
        self.wakes += 1


class StandInRunner:
    """
    Notes what it receives, and interrupts what is not wanted.
    """

    def __init__(self) -> None:
        self.running: int | None = 1
        self.received: list[Message] = []
        self.isTerminated = self.wasNudged = False
        self.look: Any = None

    def receive(self, messages: list[Message]) -> None:
        """
        Note them.
        """
        self.received += messages

    def interrupt(self) -> None:
        """
        End the task, if it was cancelled.
        """
        if (CANCEL, self.running) in self.received:
            raise TaskInterrupted

    def terminate(self) -> None:
        """
        Note it.
        """
        self.isTerminated = True


class SignalTests(SynchronousTestCase):
    """
    The child's reactions to a nudge and to signals.
    """

    def setUp(self) -> None:
        assert NUDGE is not None
        self.nudge = NUDGE
        for number in (NUDGE, signal.SIGTERM):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        standIns: list[Any] = [StandInPipe(), StandInRunner(), StandInService()]
        self.pipe, self.runner, self.service = standIns
        _heedSignals(*standIns)

    def raiseSignal(self, *messages: Message) -> None:
        """
        Say something, and nudge.
        """
        self.pipe.messages += messages
        signal.raise_signal(self.nudge)

    def test_aRunningTaskIsInterruptedForItsMessages(self) -> None:
        self.raiseSignal((7,))
        self.assertEqual(self.runner.received, [(7,)])

    def test_aTaskThatIsNotWantedIsEnded(self) -> None:
        self.assertRaises(TaskInterrupted, self.raiseSignal, (CANCEL, 1))

    def test_betweenTasksTheLoopReadsForItself(self) -> None:
        self.runner.running = None
        self.raiseSignal((7,))
        self.assertEqual(self.pipe.reads, 0)

    def test_aNudgeThatComesTooEarlyIsHeededByTheNextTask(self) -> None:
        self.runner.running = None
        self.raiseSignal((CANCEL, 1))
        self.assertTrue(self.runner.wasNudged)
        self.runner.running = 1
        self.assertRaises(TaskInterrupted, self.runner.look)

    def test_aNudgeWhileReadingDoesNotReadInBetween(self) -> None:
        self.pipe.duringRead = [lambda: self.raiseSignal((8,)), lambda: self.raiseSignal((9,))]
        self.raiseSignal((7,))
        self.assertEqual(self.runner.received, [(7,), (8,), (9,)])
        self.assertEqual(self.pipe.reads, 3)

    def test_aNudgeAfterTheLastLookIsNotLost(self) -> None:
        self.pipe.duringLook = [lambda: self.raiseSignal((8,))]
        self.raiseSignal((7,))
        self.assertEqual(self.runner.received, [(7,), (8,)])

    def test_whatANudgeWhileReadingCancelsIsEnded(self) -> None:
        self.pipe.duringRead = [lambda: self.raiseSignal((CANCEL, 1))]
        self.assertRaises(TaskInterrupted, self.raiseSignal, (7,))

    def test_afterAnInterruptionTheNextNudgeIsHeeded(self) -> None:
        self.assertRaises(TaskInterrupted, self.raiseSignal, (CANCEL, 1))
        self.runner.running = 2
        self.raiseSignal((7,))
        self.assertEqual(self.runner.received[-1], (7,))

    def test_aClosedPipeIsNotReadForEver(self) -> None:
        def close() -> None:
            self.pipe.isClosed = True
            self.pipe.messages = [(0,)]

        self.pipe.duringRead = [close]
        self.raiseSignal((7,))
        self.assertEqual(self.pipe.reads, 1)

    def test_sigtermEndsTheRunner(self) -> None:
        signal.raise_signal(signal.SIGTERM)
        self.assertTrue(self.runner.isTerminated)
        self.assertEqual(self.service.wakes, 1)

    def test_aSignalInTheMiddleOfAMessageIsHeldBack(self) -> None:
        self.pipe.isPosting = True
        self.raiseSignal((7,))
        signal.raise_signal(signal.SIGTERM)
        self.assertEqual(self.pipe.heldBack, [self.nudge, signal.SIGTERM])
        self.assertEqual(self.runner.received, [])
        self.assertFalse(self.runner.isTerminated)
