"""
The states of a worker, move by move.
"""

from __future__ import annotations

from typing import Any

from asynqueue._runner.messages import QUIT
from asynqueue._workers.restart import FIRST_DELAY
from asynqueue.errors import StateError, WorkerDied, WorkerStartError
from asynqueue.tasks import DRAINING, LOST, PENDING, READY, STARTING, STOPPED
from asynqueue.testing import far
from asynqueue.testing.memory import OVER, MemoryChannel, MemoryWorker, act
from tests.support.cases import WorkerCase


def beStillborn(channel: MemoryChannel) -> None:
    channel.isStillborn = True


def beMute(channel: MemoryChannel) -> None:
    channel.isMute = True


class StartTests(WorkerCase):
    def test_itStartsWithoutARunner(self) -> None:
        worker = self.makeWorker(isReady=False)
        self.assertEqual(worker.state, STARTING)
        self.assertEqual(self.listener.notes, [])

    def test_helloMakesItReady(self) -> None:
        worker = self.makeWorker(isReady=False)
        worker.step()
        self.assertEqual(worker.state, READY)
        self.assertEqual(self.listener.notes, [("ready", None)])

    def test_whoEmploysAReadyWorkerHearsSoAtOnce(self) -> None:
        worker = self.makeWorker(isEmployed=False)
        worker.setListener(self.listener)
        self.assertEqual(self.listener.notes, [("ready", None)])

    def test_tasksGivenBeforeTheHelloAreRun(self) -> None:
        worker = self.makeWorker(isReady=False)
        task = self.give(worker, far.echo, 1)
        worker.stepAll()
        self.assertEqual(task.result, 1)

    def test_aFirstRunnerThatRefusesIsTriedAgain(self) -> None:
        refusing = iter([True, False])
        worker = self.makeWorker(
            lambda channel: setattr(channel, "refuses", next(refusing)), isReady=False
        )
        task = self.give(worker, far.echo, 1)
        self.clock.advance(0)
        self.assertEqual(worker.state, LOST)
        self.clock.advance(FIRST_DELAY)
        worker.stepAll()
        self.assertEqual(worker.state, READY)
        self.assertEqual(self.listener.of("givenBack"), [[task]])

    def test_aWorkerCanBeStoppedBeforeItsFirstRunnerRefuses(self) -> None:
        worker = self.makeWorker(lambda channel: setattr(channel, "refuses", True), isReady=False)
        stopped = worker.stop()
        self.clock.advance(0)
        self.successResultOf(stopped)
        self.assertEqual(worker.state, STOPPED)

    def test_aWorkerCanBeCrashedBeforeItsFirstRunnerRefuses(self) -> None:
        worker = self.makeWorker(lambda channel: setattr(channel, "refuses", True), isReady=False)
        task = self.give(worker, far.echo, 1)
        self.assertEqual(worker.crash(), [task])
        stopped = worker.stop()
        self.clock.advance(0)
        self.successResultOf(stopped)

    def test_aRunnerThatDiesBeforeItsHelloIsLost(self) -> None:
        worker = self.makeWorker(beStillborn)
        self.assertEqual(worker.state, LOST)
        [reason] = self.listener.of("lost")
        self.assertIsInstance(reason, WorkerStartError)

    def test_itsReprTellsItsState(self) -> None:
        worker = self.makeWorker()
        self.assertEqual(repr(worker), f"<MemoryWorker {worker.channel.pid}: READY>")

    def test_itsReprTellsThatItIsBusy(self) -> None:
        worker = self.makeWorker()
        pid = worker.channel.pid
        self.give(worker, far.echo, 1)
        self.assertEqual(repr(worker), f"<MemoryWorker {pid}: BUSY with 1 task>")
        self.give(worker, far.echo, 2)
        self.assertEqual(repr(worker), f"<MemoryWorker {pid}: BUSY with 2 tasks>")
        worker.stop()
        self.assertEqual(repr(worker), f"<MemoryWorker {pid}: DRAINING with 2 tasks>")
        worker.stepAll()


class LossTests(WorkerCase):
    def test_deathMakesItLostUntilItRestarts(self) -> None:
        worker = self.makeWorker()
        worker.die()
        self.assertEqual(worker.state, READY)
        worker.step()
        self.assertEqual(worker.state, LOST)
        self.clock.advance(0)
        self.assertEqual(worker.state, STARTING)
        worker.step()
        self.assertEqual(worker.state, READY)
        self.assertEqual(len(worker.channels), 2)

    def test_theEmployerHearsWhy(self) -> None:
        worker = self.makeWorker()
        worker.channel.resident = 4321
        worker.die(signal=11)
        worker.step()
        [reason] = self.listener.of("lost")
        self.assertIsInstance(reason, WorkerDied)
        self.assertEqual(
            (reason.pid, reason.exitCode, reason.signal, reason.residentKilobytes),
            (worker.channel.pid, None, 11, 4321),
        )

    def test_tasksGivenWhileItIsLostComeBack(self) -> None:
        worker = self.makeWorker()
        worker.die()
        worker.step()
        task = self.give(worker, far.echo)
        self.assertEqual(self.listener.of("givenBack"), [[task]])

    def test_everythingThatIsKnownIsSaidBeforeAnyDeferredFires(self) -> None:
        worker = self.makeWorker()
        known: list[int] = []
        tasks = self.giveMany(worker, (far.echo, 1), (far.echo, 2))
        for task in tasks:
            task.d.addCallback(lambda _: known.append(len(self.listener.of("released"))))
        worker.channel.advance()
        worker.step()
        self.assertEqual(known, [2, 2])


class StopTests(WorkerCase):
    def test_anIdleRunnerIsToldToQuit(self) -> None:
        worker = self.makeWorker()
        stopped = worker.stop()
        self.assertEqual(worker.state, DRAINING)
        self.assertEqual(worker.channel.sent, [(QUIT,)])
        self.assertNoResult(stopped)
        worker.stepAll()
        self.assertEqual(worker.state, STOPPED)
        self.assertIsNone(self.successResultOf(stopped))
        self.assertAtRest()

    def test_itDrainsBeforeItQuits(self) -> None:
        worker = self.makeWorker()
        first, second = self.giveMany(worker, (far.echo, 1), (far.echo, 2))
        stopped = worker.stop()
        worker.step()
        self.assertEqual((worker.state, first.result, second.state), (DRAINING, 1, "UNDERWAY"))
        self.assertNotIn((QUIT,), worker.channel.sent)
        worker.stepAll()
        self.assertEqual((worker.state, second.result), (STOPPED, 2))
        self.successResultOf(stopped)

    def test_itTakesNothingWhileItDrains(self) -> None:
        worker = self.makeWorker()
        worker.stop()
        task = self.owner.make(far.echo)
        error = self.assertRaises(StateError, worker.runMany, [task])
        self.assertEqual((error.subject, error.state, error.event), (worker, DRAINING, "run"))
        self.assertRaises(StateError, worker.run, task)
        self.assertEqual(task.state, PENDING)

    def test_aStartingWorkerDrainsToo(self) -> None:
        worker = self.makeWorker(isReady=False)
        task = self.give(worker, far.echo, 1)
        stopped = worker.stop()
        self.assertEqual(worker.state, DRAINING)
        worker.stepAll()
        self.assertEqual((worker.state, task.result), (STOPPED, 1))
        self.assertEqual(self.listener.of("ready"), [])
        self.successResultOf(stopped)
        self.assertAtRest()

    def test_aLostWorkerStopsAtOnce(self) -> None:
        worker = self.makeWorker()
        worker.die()
        worker.step()
        stopped = worker.stop()
        self.assertEqual(worker.state, STOPPED)
        self.successResultOf(stopped)
        self.assertAtRest()
        self.assertEqual(len(worker.channels), 1)

    def test_aRunnerThatWillNotQuitIsKilled(self) -> None:
        worker = self.makeWorker()
        stopped = worker.stop()
        # It is not stepped, so it receives nothing.
        self.clock.advance(4.99)
        self.assertEqual(worker.channel.signals, [])
        self.clock.advance(0.01)
        self.assertEqual(worker.channel.signals, [("kill", 5.0)])
        worker.step()
        self.successResultOf(stopped)
        self.assertEqual(worker.state, STOPPED)

    def test_aRunnerThatNeverSpokeIsKilledToo(self) -> None:
        worker = self.makeWorker(beMute)
        stopped = worker.stop()
        self.clock.advance(5)
        worker.step()
        self.successResultOf(stopped)
        self.assertAtRest()

    def test_deathWhileDrainingIsTheEnd(self) -> None:
        worker = self.makeWorker()
        worker.actions["die"] = worker.die
        begun, unbegun = self.giveMany(worker, (act, "die"), (far.echo,))
        stopped = worker.stop()
        worker.stepAll()
        self.assertEqual(worker.state, STOPPED)
        self.assertIsInstance(begun.failure.value, WorkerDied)
        self.assertEqual(self.listener.of("givenBack"), [[unbegun]])
        self.successResultOf(stopped)
        self.assertAtRest()

    def test_everyStopIsAnswered(self) -> None:
        worker = self.makeWorker()
        stops = [worker.stop(), worker.stop()]
        worker.stepAll()
        for stopped in [*stops, worker.stop()]:
            self.assertIsNone(self.successResultOf(stopped))


class CrashTests(WorkerCase):
    def check(self, worker: MemoryWorker, *unfinished: Any) -> None:
        """
        Crash it, and see that nothing is left.
        """
        self.assertEqual(worker.crash(), list(unfinished))
        self.assertEqual(worker.state, STOPPED)
        self.assertEqual(worker.crash(), [])
        stopped = worker.stop()
        if worker.channel.state != OVER:
            self.assertNoResult(stopped)
        worker.stepAll()
        self.assertIsNone(self.successResultOf(stopped))
        self.assertAtRest()

    def test_fromStarting(self) -> None:
        worker = self.makeWorker(isReady=False)
        self.check(worker, self.give(worker, far.echo))

    def test_fromReady(self) -> None:
        worker = self.makeWorker()
        tasks = self.giveMany(worker, (far.echo,), (far.echo,))
        self.check(worker, *tasks)

    def test_fromDraining(self) -> None:
        worker = self.makeWorker()
        task = self.give(worker, far.echo)
        stopped = worker.stop()
        self.check(worker, task)
        self.successResultOf(stopped)

    def test_fromLost(self) -> None:
        worker = self.makeWorker()
        worker.die()
        worker.step()
        self.check(worker)

    def test_itKillsTheRunnerAndHearsNothingMoreOfIt(self) -> None:
        worker = self.makeWorker()
        task = self.give(worker, far.echo)
        worker.channel.advance()
        worker.crash()
        self.assertEqual(worker.channel.signals, [("kill", 0.0)])
        worker.stepAll()
        self.assertFalse(task.isDone)
        self.assertEqual(len(worker.channels), 1)

    def test_whatIsDoneIsNotGivenBack(self) -> None:
        worker = self.makeWorker()
        dropped, task = self.giveMany(worker, (far.echo,), (far.echo,))
        self.dropTask(worker, dropped)
        self.check(worker, task)

    def test_runIsAnsweredForACancelledTaskToo(self) -> None:
        worker = self.makeWorker()
        tasks = [self.owner.make(far.echo), self.owner.make(far.echo)]
        for task in tasks:
            task.start(worker, 0.0)
        runs = [worker.run(task) for task in tasks]
        self.dropTask(worker, tasks[1])
        self.assertEqual(worker.crash(), tasks[:1])
        for run in runs:
            self.assertIsNone(self.successResultOf(run))

    def test_cancellingAfterwardsDoesNothing(self) -> None:
        worker = self.makeWorker()
        task = self.give(worker, far.echo)
        worker.crash()
        self.dropTask(worker, task)
        worker.stepAll()
        self.assertAtRest()

    def test_aCrashWithinACallbackEndsEverything(self) -> None:
        worker = self.makeWorker()
        first, second = self.giveMany(worker, (far.echo,), (far.echo,))
        left: list[Any] = []
        first.d.addCallback(lambda _: left.extend(worker.crash()))
        worker.channel.advance()
        worker.channel.advance()
        worker.stepAll()
        self.assertEqual(left, [])
        self.assertTrue(second.isDone, "its result had arrived")
        self.assertAtRest()

    def test_aCrashWhileADrainingWorkerDiesEndsEverything(self) -> None:
        worker = self.makeWorker()
        worker.actions["die"] = worker.die
        begun, unbegun = self.giveMany(worker, (act, "die"), (far.echo,))
        begun.d.addBoth(lambda _: worker.crash())
        stopped = worker.stop()
        worker.stepAll()
        self.successResultOf(stopped)
        self.assertEqual(worker.state, STOPPED)
        self.assertEqual(self.listener.of("givenBack"), [[unbegun]])
        self.assertAtRest()

    def test_aStopWhileItDiesEndsEverything(self) -> None:
        worker = self.makeWorker()
        worker.actions["die"] = worker.die
        begun = self.give(worker, act, "die")
        stops: list[Any] = []
        begun.d.addBoth(lambda _: stops.append(worker.stop()))
        worker.stepAll()
        self.successResultOf(stops[0])
        self.assertEqual(worker.state, STOPPED)
        self.assertAtRest()
