from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from asynqueue._runner.messages import QUIT, Message
from asynqueue._workers.launch import SLOT_SECONDS, Launcher
from asynqueue._workers.processchannel import PipeChannel
from asynqueue.errors import WorkerDied
from asynqueue.tools.delay import Delay


class LauncherTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.launcher = Launcher(self.clock, limit=2)
        self.launched: list[int] = []
        self.launches = [self.makeLaunch(number) for number in range(5)]

    def makeLaunch(self, number: int) -> Callable[[], None]:
        return lambda: self.launched.append(number)

    def askAll(self) -> None:
        for launch in self.launches:
            self.launcher.ask(launch)

    def test_onlySoManyStartAtATime(self) -> None:
        self.askAll()
        self.assertEqual(self.launched, [0, 1])

    def test_oneThatIsReadyMakesRoomForTheNext(self) -> None:
        self.askAll()
        self.launcher.done(self.launches[1])
        self.assertEqual(self.launched, [0, 1, 2])
        self.launcher.done(self.launches[1])
        self.assertEqual(self.launched, [0, 1, 2])

    def test_oneThatIsSlowMakesRoomAfterAWhile(self) -> None:
        self.askAll()
        self.clock.advance(SLOT_SECONDS)
        self.assertEqual(self.launched, [0, 1, 2, 3])
        self.clock.advance(SLOT_SECONDS)
        self.assertEqual(self.launched, [0, 1, 2, 3, 4])

    def test_oneThatIsNotWantedAnyMoreIsNotStarted(self) -> None:
        self.askAll()
        self.assertTrue(self.launcher.isWaiting(self.launches[2]))
        self.launcher.done(self.launches[2])
        self.assertFalse(self.launcher.isWaiting(self.launches[2]))
        self.launcher.done(self.launches[0])
        self.assertEqual(self.launched, [0, 1, 3])

    def test_oneThatIsInAHurryGoesFirst(self) -> None:
        self.askAll()
        self.launcher.hurry(self.launches[4])
        self.launcher.hurry(self.launches[4])
        self.assertEqual(self.launched, [0, 1, 4])

    def test_afterAllAreReadyNoTimerIsLeft(self) -> None:
        self.askAll()
        for launch in self.launches:
            self.launcher.done(launch)
        self.assertEqual(self.launched, [0, 1, 2, 3, 4])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class Receiver:
    def __init__(self) -> None:
        self.reasons: list[Exception] = []

    def received(self, messages: list[Message]) -> None:
        raise AssertionError("there is nobody to send a message")

    def lost(self, reason: Exception) -> None:
        self.reasons.append(reason)


class QueuedChannelTests(SynchronousTestCase):
    """
    A channel whose process waits for its turn to be started.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.launcher = Launcher(self.clock, limit=1)
        self.launcher.ask(self.other)
        self.receiver = Receiver()
        delay = Delay(reactor=self.clock)
        self.channel = PipeChannel(self.clock, delay, launcher=self.launcher)
        self.channel.open(self.receiver)

    def other(self) -> None:
        pass

    def checkNothingWasStarted(self) -> None:
        self.clock.advance(0)
        self.launcher.done(self.other)
        self.assertEqual([type(reason) for reason in self.receiver.reasons], [WorkerDied])
        self.assertIsNone(self.channel.process)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_itHasNoProcessYet(self) -> None:
        self.assertEqual((self.channel.pid, self.channel.lastBegun), (None, 0))
        self.assertIsNone(self.channel.residentKilobytes())
        self.channel.nudge()
        self.channel.terminate()
        self.channel.kill()
        self.checkNothingWasStarted()

    def test_oneThatIsToldToQuitIsNotStarted(self) -> None:
        self.channel.send([(QUIT,)])
        self.checkNothingWasStarted()

    def test_killedTwiceItIsLostOnce(self) -> None:
        self.channel.kill()
        self.channel.kill()
        self.checkNothingWasStarted()
