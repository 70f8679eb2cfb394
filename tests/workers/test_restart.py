"""
When a worker starts another runner, and when it gives up.
"""

from __future__ import annotations

import errno
from signal import SIGABRT, SIGSEGV
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from asynqueue._workers.restart import CRASH_TRIES, FIRST_DELAY, START_TRIES, RestartBackoff
from asynqueue.errors import WorkerDied, WorkerStartError
from asynqueue.tasks import LOST, READY, STOPPED
from asynqueue.testing import far
from asynqueue.testing.memory import MemoryChannel, MemoryWorker, act
from tests.support.cases import WorkerCase

NEVER_THERE = WorkerStartError("it was never there")


class HealingTests(SynchronousTestCase):
    def test_theFirstThreeLossesCostNoTimeAndLaterOnesEverMoreUpToASecond(self) -> None:
        backoff = RestartBackoff()
        delays = [backoff.delayAfterLoss(WorkerDied()) for _ in range(10)]
        self.assertEqual(delays, [0, 0, 0, 0.05, 0.1, 0.2, 0.4, 0.8, 1, 1])

    def test_aCallThatComesToItsEndForgivesAll(self) -> None:
        backoff = RestartBackoff()
        for _ in range(8):
            backoff.delayAfterLoss(WorkerDied())
        backoff.works()
        self.assertEqual(backoff.delayAfterLoss(WorkerDied()), 0)

    def test_itGivesUpAfterEightFalseStartsInARow(self) -> None:
        backoff = RestartBackoff()
        delays = [backoff.delayAfterLoss(NEVER_THERE) for _ in range(START_TRIES)]
        self.assertEqual(delays, [0.05, 0.1, 0.2, 0.4, 0.8, 1, 1, None])

    def test_aStartBetweenFalseStartsIsHope(self) -> None:
        backoff = RestartBackoff()
        hopeless = [NEVER_THERE] * (START_TRIES - 1)
        for reason in (*hopeless, WorkerDied(), *hopeless):
            self.assertIsNotNone(backoff.delayAfterLoss(reason))
        self.assertIsNone(backoff.delayAfterLoss(NEVER_THERE))

    def test_itWaitsForEverForWhatTheSystemLacks(self) -> None:
        for number in (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM):
            backoff = RestartBackoff()
            short = WorkerStartError("no")
            short.__cause__ = OSError(number, "too many open files")
            delays = [backoff.delayAfterLoss(short) for _ in range(100)]
            self.assertEqual(delays[:7], [0.05, 0.1, 0.2, 0.4, 0.8, 1, 1])
            self.assertEqual(set(delays[7:]), {1})
            self.assertEqual(backoff.outages, 100)
            self.assertEqual(backoff.delayAfterLoss(NEVER_THERE), 0.05, "that is another matter")

    def test_anErrorThatAnotherTryCannotMendIsNoShortage(self) -> None:
        backoff = RestartBackoff()
        refused = WorkerStartError("no")
        refused.__cause__ = OSError(errno.EACCES, "not executable")
        delays = [backoff.delayAfterLoss(refused) for _ in range(START_TRIES)]
        self.assertIsNone(delays[-1])

    def test_itNeverTiresOfRunnersThatStart(self) -> None:
        backoff = RestartBackoff()
        delays = [backoff.delayAfterLoss(WorkerDied()) for _ in range(3000)]
        self.assertEqual(delays[-1], 1)


class RestartTests(WorkerCase):
    def loseOne(self, worker: MemoryWorker) -> float:
        """
        Lose the present runner.

        @return: after how many seconds the next one is started.
        """
        worker.die()
        worker.step()
        [restart] = self.clock.getDelayedCalls()
        delay = restart.getTime() - self.clock.seconds()
        self.clock.advance(delay)
        worker.stepAll()
        self.assertEqual(worker.state, READY)
        return round(delay, 9)

    def test_theClockSaysWhen(self) -> None:
        worker = self.makeWorker()
        delays = [self.loseOne(worker) for _ in range(5)]
        self.assertEqual(delays, [0, 0, 0, 0.05, 0.1])
        self.assertEqual(len(self.listener.of("ready")), 6)

    def test_oneGoodCallStartsOver(self) -> None:
        worker = self.makeWorker()
        for _ in range(5):
            self.loseOne(worker)
        self.give(worker, far.refuse)
        worker.stepAll()
        self.assertEqual(self.loseOne(worker), 0)

    def test_aRunnerThatRefusesOnceIsTriedAgain(self) -> None:
        refusing = iter([False, True, False])
        worker = self.makeWorker(lambda channel: setattr(channel, "refuses", next(refusing)))
        worker.die()
        worker.step()
        self.clock.advance(0)
        self.clock.advance(FIRST_DELAY)
        worker.stepAll()
        self.assertEqual(len(worker.channels), 3)
        self.assertEqual(worker.state, READY)


class GivingUpTests(WorkerCase):
    def setUp(self) -> None:
        super().setUp()
        self.refuses = False

    def prepare(self, channel: MemoryChannel) -> None:
        channel.refuses = self.refuses

    def makeHopeless(self, **keywords: Any) -> MemoryWorker:
        """
        @return: a worker whose runner has died, and that gets no other.
        """
        worker = self.makeWorker(self.prepare, **keywords)
        self.refuses = True
        worker.die()
        return worker

    def exhaust(self, worker: MemoryWorker) -> None:
        """
        Let it try until it gives up.
        """
        worker.step()
        while self.clock.getDelayedCalls():
            self.clock.advance(0.1)
        self.assertEqual(len(worker.channels), 1 + START_TRIES)

    def test_itResigns(self) -> None:
        worker = self.makeHopeless(isEmployed=False)
        states: list[str] = []
        worker.setResignator(lambda: states.append(worker.state))
        self.exhaust(worker)
        self.assertEqual(states, [LOST])
        self.assertEqual(len(self.flushLoggedErrors()), 0)

    def test_itsListenerHearsOfIt(self) -> None:
        worker = self.makeHopeless()
        self.exhaust(worker)
        self.assertIsInstance(self.listener.of("gaveup")[-1], WorkerStartError)
        worker.crash()

    def test_aSignalBeforeTheHelloNeverMakesItGiveUp(self) -> None:
        backoff = RestartBackoff()
        killed = WorkerStartError("no")
        killed.__cause__ = WorkerDied(signal=9)
        delays = [backoff.delayAfterLoss(killed) for _ in range(100)]
        self.assertEqual(set(delays[7:]), {1})
        exited = WorkerStartError("no")
        exited.__cause__ = WorkerDied(exitCode=1)
        self.assertIsNone([backoff.delayAfterLoss(exited) for _ in range(START_TRIES)][-1])

    def test_aCrashBeforeTheHelloIsTriedForLongerThanAnExit(self) -> None:
        backoff = RestartBackoff()
        delays = [backoff.delayAfterLoss(self.crash(SIGSEGV)) for _ in range(CRASH_TRIES)]
        self.assertEqual([delay is None for delay in delays], [False] * (CRASH_TRIES - 1) + [True])

    def test_aRunnerThatGetsReadyStartsTheCountOfCrashesAnew(self) -> None:
        backoff = RestartBackoff()
        for _ in range(3):
            delays = [backoff.delayAfterLoss(self.crash(SIGABRT)) for _ in range(CRASH_TRIES - 1)]
            self.assertNotIn(None, delays)
            backoff.delayAfterLoss(WorkerDied(signal=SIGSEGV))

    def crash(self, number: int) -> WorkerStartError:
        """
        @return: why a runner was not ready.
        """
        crashed = WorkerStartError("no")
        crashed.__cause__ = WorkerDied(signal=number)
        return crashed

    def test_withNobodyToResignToItStops(self) -> None:
        worker = self.makeHopeless(isEmployed=False)
        self.exhaust(worker)
        self.assertEqual(worker.state, STOPPED)
        self.successResultOf(worker.stop())

    def test_aSelfEmployedOneFailsWhatItKept(self) -> None:
        worker = self.makeHopeless(isEmployed=False)
        task = self.give(worker, far.echo)
        self.exhaust(worker)
        self.assertEqual(worker.state, STOPPED)
        self.assertIsInstance(task.failure.value, WorkerStartError)


class SelfEmployedTests(WorkerCase):
    """
    A worker without a queue keeps the tasks that were not begun for its next runner.
    """

    def makeLost(self) -> MemoryWorker:
        worker = self.makeWorker(isEmployed=False)
        worker.die()
        worker.step()
        return worker

    def test_whatWasNotBegunIsRunByTheNextRunner(self) -> None:
        worker = self.makeWorker(isEmployed=False)
        tasks = self.giveMany(worker, (far.echo, 1), (far.echo, 2))
        worker.die()
        worker.step()
        late = self.give(worker, far.echo, 3)
        self.clock.advance(0)
        worker.stepAll()
        self.assertEqual([task.result for task in (*tasks, late)], [1, 2, 3])

    def test_aTaskBehindASlowOneIsRunToo(self) -> None:
        worker = self.makeWorker(isEmployed=False)
        worker.actions["dawdle"] = lambda: self.clock.advance(1)
        slow, quick = self.giveMany(worker, (act, "dawdle"), (far.echo, 1))
        worker.stepAll()
        self.assertTrue(slow.isDone)
        self.assertEqual(quick.result, 1)

    def test_whatWasCancelledMeanwhileIsNotRun(self) -> None:
        worker = self.makeLost()
        task = self.give(worker, far.echo)
        self.dropTask(worker, task)
        self.clock.advance(0)
        worker.stepAll()
        self.assertEqual(worker.channel.sent, [])

    def test_itDrainsWhatItKept(self) -> None:
        worker = self.makeLost()
        task = self.give(worker, far.echo, 1)
        self.clock.advance(0)
        stopped = worker.stop()
        worker.stepAll()
        self.assertEqual(task.result, 1)
        self.successResultOf(stopped)
        self.assertAtRest()

    def test_stoppingWithoutARunnerFailsWhatItKept(self) -> None:
        worker = self.makeLost()
        task = self.give(worker, far.echo)
        self.successResultOf(worker.stop())
        self.assertIsInstance(task.failure.value, WorkerDied)

    def test_deathWhileItDrainsFailsWhatWasNotBegun(self) -> None:
        worker = self.makeWorker(isEmployed=False)
        task = self.give(worker, far.echo)
        stopped = worker.stop()
        worker.die()
        worker.step()
        self.assertIsInstance(task.failure.value, WorkerDied)
        self.successResultOf(stopped)

    def test_stoppingOnHearingOfADeathFailsWhatWasNotBegun(self) -> None:
        worker = self.makeWorker(isEmployed=False)
        worker.actions["die"] = worker.die
        begun, unbegun = self.giveMany(worker, (act, "die"), (far.echo,))
        begun.d.addBoth(lambda _: worker.stop())
        worker.stepAll()
        self.assertEqual(worker.state, STOPPED)
        self.assertIsInstance(unbegun.failure.value, WorkerDied)

    def test_whatIsGivenUpUnbegunByARunnerThatEndsWhileItDrainsFails(self) -> None:
        worker = self.makeWorker(isEmployed=False)
        worker.actions["end"] = worker.channel.terminate
        running, unbegun = self.giveMany(worker, (act, "end"), (far.echo,))
        stopped = worker.stop()
        worker.stepAll()
        self.successResultOf(stopped)
        self.assertIsInstance(running.failure.value, WorkerDied)
        self.assertIsInstance(unbegun.failure.value, WorkerDied)

    def test_aCrashGivesBackWhatItKept(self) -> None:
        worker = self.makeLost()
        dropped = self.give(worker, far.echo)
        task = self.give(worker, far.echo)
        self.dropTask(worker, dropped)
        self.assertEqual(worker.crash(), [task])
        self.assertFalse(task.isDone)
