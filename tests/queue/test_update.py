"""
Updates: calls that every worker runs, now, later and after each replacement.
"""

from __future__ import annotations

from signal import SIGABRT, SIGKILL, SIGSEGV
from typing import Any

from asynqueue import Event, TaskQueue
from asynqueue._observers import LEFT, STARTED
from asynqueue._runner.messages import RECALL
from asynqueue.errors import (
    CallNotPicklable,
    ConnectionLost,
    WorkerDetached,
    WorkerDied,
    WorkerError,
)
from asynqueue.testing import far
from asynqueue.testing.memory import MemoryChannel, MemoryWorker, act
from asynqueue.testing.stepworker import InlineWorker, StepWorker
from tests.support.cases import QueueCase


class UpdateCase(QueueCase):
    def setUp(self) -> None:
        super().setUp()
        self.ran: list[Any] = []

    def makeNoting(self, name: Any = None, **keywords: Any) -> MemoryWorker:
        """
        @return: a worker that notes what C{act("note", text)} is given, with its name.
        """
        worker = self.makeWorker(**keywords)
        worker.actions["note"] = lambda text: self.ran.append((name, text))
        return worker


class FarUpdateTests(UpdateCase):
    def test_everyPresentWorkerRunsIt(self) -> None:
        queue = self.makeQueue(self.makeNoting(1), self.makeNoting(2))
        self.settle()
        self.assertEqual(self.resultOf(queue.update(act, "note", "x")), [None, None])
        self.assertEqual(self.ran, [(1, "x"), (2, "x")])

    def test_resultsComeInTheOrderOfTheWorkers(self) -> None:
        queue = self.makeQueue(StepWorker(), self.makeWorker(), StepWorker())
        d = queue.update(far.keywords, 1, two=3)
        self.settle()
        queue.workers()[2].finish("c")
        queue.workers()[0].finish("a")
        self.assertEqual(self.resultOf(d), ["a", ((1,), {"two": 3}), "c"])

    def test_withoutWorkersItIsDoneAtOnce(self) -> None:
        queue = self.makeQueue()
        self.assertEqual(self.resultOf(queue.update(act, "note", "x")), [])
        queue.attachWorker(self.makeNoting())
        self.settle()
        self.assertEqual(self.ran, [(None, "x")])

    def test_aWorkerThatIsNotReadyRunsItAsSoonAsItIs(self) -> None:
        worker = self.makeNoting(stepSeconds=None)
        queue = self.makeQueue(worker)
        d = queue.update(act, "note", "x")
        self.settle()
        self.assertNoResult(d)
        worker.stepAll()
        self.assertEqual(self.resultOf(d), [None])
        self.assertEqual(self.ran, [(None, "x")])

    def test_aLaterWorkerRunsAllInOrderAndBeforeAnyTask(self) -> None:
        queue = self.makeQueue()
        task = queue.call(act, "note", "task")
        for text in "abc":
            queue.update(act, "note", text)
        queue.attachWorker(self.makeNoting())
        self.resultOf(task)
        self.assertEqual([text for _, text in self.ran], ["a", "b", "c", "task"])

    def test_aReplacedRunnerRunsAllInOrderAndBeforeAnyTask(self) -> None:
        worker = self.makeNoting()
        queue = self.makeQueue(worker)
        for text in "abc":
            self.resultOf(queue.update(act, "note", text))
        self.ran.clear()
        worker.die()
        task = queue.call(act, "note", "task")
        self.resultOf(task)
        self.assertEqual([text for _, text in self.ran], ["a", "b", "c", "task"])

    def test_whatWasUpdatedWhileItWasLostIsRunOnce(self) -> None:
        worker = self.makeNoting(stepSeconds=None)
        queue = self.makeQueue(worker)
        worker.stepAll()
        worker.die()
        worker.step()
        ds = [queue.update(act, "note", text) for text in "ab"]
        ds.append(queue.update(act, "note", "c", ephemeral=True))
        self.settle()
        worker.stepAll()
        self.assertEqual([self.resultOf(d) for d in ds], [[None]] * 3)
        self.assertEqual(sorted(text for _, text in self.ran), ["a", "b", "c"])

    def test_anUpdateThatWasNotBegunIsRunByTheNextRunner(self) -> None:
        worker = self.makeNoting(stepSeconds=None)
        queue = self.makeQueue(worker)
        worker.stepAll()
        ds = [queue.update(act, "note", "a"), queue.update(act, "note", "b", ephemeral=True)]
        worker.die()
        worker.step()
        self.settle()
        worker.stepAll()
        self.assertEqual([self.resultOf(d) for d in ds], [[None]] * 2)
        self.assertEqual([text for _, text in self.ran], ["a", "b"])

    def test_oneThatTakesItsRunnerWithItFailsOnce(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = self.makeQueue(worker)
        worker.stepAll()
        worker.actions["die"] = worker.die
        d = queue.update(act, "die")
        worker.stepAll()
        self.errorOf(d, WorkerDied)
        worker.actions["die"] = lambda: self.ran.append("again")
        self.settle()
        worker.stepAll()
        self.assertEqual(self.ran, ["again"])

    def test_updatesDoNotCountAsTasks(self) -> None:
        worker = self.makeNoting(stepSeconds=None)
        queue = self.makeQueue(worker)
        worker.stepAll()
        queue.update(act, "note", "x")
        task = queue.submit(far.echo)
        self.assertEqual(task.state, "UNDERWAY")
        worker.stepAll()
        self.assertEqual(task.state, "FINISHED")

    def test_anEphemeralOneIsForThePresentWorkersOnly(self) -> None:
        worker = self.makeNoting(1)
        queue = self.makeQueue(worker)
        self.settle()
        self.resultOf(queue.update(act, "note", "x", ephemeral=True))
        worker.die()
        self.settle()
        queue.attachWorker(self.makeNoting(2))
        self.settle()
        self.assertEqual(self.ran, [(1, "x")])

    def test_theOptionsOfACallAreTheFunctionsHere(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        d = queue.update(far.keywords, niceness=99, series=[], timeout=-1)
        self.assertEqual(self.resultOf(d), [((), {"niceness": 99, "series": [], "timeout": -1})])

    def test_aConsumerIsRefused(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        self.assertRaises(ValueError, queue.update, far.numbers, 3, consumer=None)


class DetachedMeanwhileTests(UpdateCase):
    def test_anUpdateFailsThatAWorkerHasNotBegunWhenAnObserverDetachesIt(self) -> None:
        for crash in (False, True):
            worker = self.makeWorker(stepSeconds=None)
            queue = self.makeQueue(worker)
            done = queue.update(far.echo, 1)

            def detach(event: Event, queue: TaskQueue = queue, crash: bool = crash) -> None:
                if event.kind == STARTED:
                    queue.detachWorker(event.worker, crash=crash)

            queue.addObserver(detach)
            worker.stepAll()
            self.errorOf(done, WorkerDetached)
            self.assertEqual(self.flushLoggedErrors(), [])


class FailureTests(UpdateCase):
    def test_theFirstFailureComesWhenAllAreDone(self) -> None:
        workers = [StepWorker(), StepWorker(), StepWorker()]
        queue = self.makeQueue(*workers)
        d = queue.update(far.echo)
        workers[2].fail(KeyError())
        workers[1].fail(ValueError())
        self.assertNoResult(d)
        workers[0].finish()
        self.errorOf(d, ValueError)

    def test_laterFailuresAreLogged(self) -> None:
        queue = self.makeQueue()
        self.resultOf(queue.update(far.refuse, "later"))
        queue.attachWorker(self.makeWorker())
        self.settle()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.resultOf(queue.call(far.echo, 1)), 1)

    def test_oneThatCannotBePickledFails(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        self.settle()
        self.errorOf(queue.update(far.echo, lambda: None, ephemeral=True), CallNotPicklable)
        self.assertEqual(self.resultOf(queue.call(far.echo, 1)), 1)

    def test_aWorkerThatLeavesBeforeItRanFailsIt(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = self.makeQueue(worker)
        d = queue.update(far.echo)
        queue.detachWorker(worker)
        error = self.errorOf(d, WorkerDetached)
        self.assertIn("before it could run an update", str(error))

    def test_aWorkerThatLeavesWhileItRunsCompletesIt(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = self.makeQueue(worker)
        worker.stepAll()
        d = queue.update(far.echo, 1)
        queue.detachWorker(worker)
        worker.stepAll()
        self.assertEqual(self.resultOf(d), [1])

    def test_aWorkerThatLeavesAndDiesBeforeItRanFailsIt(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = self.makeQueue(worker)
        worker.stepAll()
        d = queue.update(far.echo, 1)
        queue.detachWorker(worker)
        worker.die()
        worker.step()
        self.errorOf(d, WorkerDetached)

    def test_aCrashedWorkerFailsIt(self) -> None:
        for worker in (self.makeWorker(stepSeconds=None), StepWorker()):
            queue = self.makeQueue(worker)
            worker.step()
            d = queue.update(far.echo, 1)
            queue.detachWorker(worker, crash=True, reassign=True)
            self.errorOf(d, WorkerDetached)
            worker.step()

    def test_aWorkerThatGivesUpFailsIt(self) -> None:
        def prepare(channel: MemoryChannel) -> None:
            channel.isStillborn = True

        queue = self.makeQueue(self.makeWorker(prepare=prepare))
        d = queue.update(far.echo)
        self.clock.pump([0.1] * 50)
        self.errorOf(d, WorkerDetached)


class DeadlyUpdateTests(UpdateCase):
    """
    Updates that take the runner with them.
    """

    def setUp(self) -> None:
        super().setUp()
        self.events: list[Event] = []

    def makeMortal(self, exitCode: int | None = None, signal: int | None = None) -> MemoryWorker:
        """
        @return: a worker whose runner dies of C{act("die")}.
        """
        worker = self.makeNoting()

        def die() -> None:
            self.ran.append("death")
            worker.channel.die(exitCode, signal)

        worker.actions["die"] = die
        return worker

    def makeWatched(self, *workers: MemoryWorker) -> TaskQueue:
        queue = self.makeQueue(*workers)
        queue.addObserver(self.events.append)
        self.settle()
        return queue

    def reasons(self) -> list[BaseException | None]:
        """
        @return: why workers have left for good.
        """
        return [event.reason for event in self.events if event.kind == LEFT]

    def wait(self) -> None:
        self.clock.pump([0.1] * 300)

    def test_afterFiveExitsInARowTheWorkerGivesUpAndSaysForWhichUpdate(self) -> None:
        queue = self.makeWatched(self.makeMortal(exitCode=3))
        waiting = queue.call(far.echo, "waiting")
        self.resultOf(waiting)
        d = queue.update(act, "die")
        waiting = queue.call(far.echo, "waiting")
        self.wait()
        self.errorOf(d, WorkerDied)
        self.assertEqual(self.ran, ["death"] * 5)
        error = self.errorOf(waiting, WorkerError)
        self.assertEqual(type(error), WorkerError)
        self.assertIn("5 times in a row", str(error))
        self.assertIn("act('die')", str(error))
        self.assertIn("exit code 3", str(error))
        self.assertIsInstance(error.__cause__, WorkerDied)
        self.assertEqual(self.reasons(), [error])
        self.assertIs(self.errorOf(queue.call(far.echo, 1)), error)

    def test_aCrashIsTheUpdatesFaultAsWell(self) -> None:
        worker = self.makeNoting()
        signals = iter((SIGSEGV, SIGABRT, SIGKILL) * 3)

        def crash() -> None:
            worker.channel.die(signal=next(signals))

        worker.actions["crash"] = crash
        queue = self.makeWatched(worker)
        d = queue.update(act, "crash")
        self.wait()
        self.errorOf(d, WorkerDied)
        [reason] = self.reasons()
        self.assertIn("7 times", str(reason))

    def test_killsMayComeFromOutsideSoItTriesForLonger(self) -> None:
        queue = self.makeWatched(self.makeMortal(signal=9))
        d = queue.update(act, "die")
        waiting = queue.call(far.echo, "waiting")
        self.wait()
        self.errorOf(d, WorkerDied)
        self.assertEqual(self.ran, ["death"] * 20)
        self.assertIn("20 times", str(self.errorOf(waiting, WorkerError)))

    def test_theDeathsAreLoggedOnceAndNotEachTime(self) -> None:
        queue = self.makeQueue()
        self.resultOf(queue.update(act, "die"))
        queue.attachWorker(self.makeMortal(exitCode=1))
        self.wait()
        self.assertEqual(self.ran, ["death"] * 5)
        self.assertEqual(len(self.flushLoggedErrors(WorkerDied)), 1)

    def test_successInBetweenStartsTheCountAnew(self) -> None:
        worker = self.makeMortal(exitCode=1)
        queue = self.makeWatched(worker)
        die = worker.actions["die"]

        def dieFourTimes() -> None:
            if len(self.ran) % 5 < 4:
                die()
            else:
                self.ran.append("success")

        worker.actions["die"] = dieFourTimes
        d = queue.update(act, "die")
        self.wait()
        self.errorOf(d, WorkerDied)
        for _ in range(3):
            worker.die()
            self.wait()
        self.assertEqual(self.ran, (["death"] * 4 + ["success"]) * 4)
        self.assertEqual(self.reasons(), [])
        self.assertEqual(self.resultOf(queue.call(far.echo, 1)), 1)
        self.assertEqual(len(self.flushLoggedErrors(WorkerDied)), 3)

    def test_anExceptionInBetweenStartsTheCountAnewToo(self) -> None:
        worker = self.makeMortal(exitCode=1)
        queue = self.makeWatched(worker)
        die = worker.actions["die"]

        def dieOrRaise() -> None:
            if len(self.ran) == 4:
                self.ran.append("exception")
                raise ValueError
            die()

        worker.actions["die"] = dieOrRaise
        self.errorOf(queue.update(act, "die"), WorkerDied)
        self.wait()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.reasons(), [])
        self.assertEqual(self.resultOf(queue.call(far.echo, 1)), 1)

    def test_whatOtherUpdatesAndCallsDoDoesNotMatter(self) -> None:
        worker = self.makeMortal(exitCode=1)
        queue = self.makeWatched(worker)
        before = queue.update(act, "note", "before")
        deadly = queue.update(act, "die")
        after = queue.update(act, "note", "after")
        call = queue.call(act, "note", "call")
        self.wait()
        self.resultOf(before)
        self.errorOf(deadly, WorkerDied)
        self.errorOf(after, WorkerDetached)
        self.errorOf(call, WorkerError)
        self.assertEqual(self.ran, [(None, "before"), "death"] * 5)

    def test_deathsAreCountedForEachWorker(self) -> None:
        mortal, sound = self.makeMortal(exitCode=1), self.makeNoting("sound")
        sound.actions["die"] = lambda: None
        queue = self.makeWatched(mortal, sound)
        d = queue.update(act, "die")
        calls = [queue.call(act, "note", number) for number in range(20)]
        self.wait()
        self.errorOf(d, WorkerDied)
        for call in calls:
            self.resultOf(call)
        self.assertEqual(queue.workers(), [sound])
        self.assertEqual(len(self.reasons()), 1)

    def test_aWorkerThatIsAttachedLaterTriesForItself(self) -> None:
        queue = self.makeWatched(self.makeMortal(exitCode=1))
        d = queue.update(act, "die")
        self.wait()
        self.errorOf(d, WorkerDied)
        queue.attachWorker(self.makeMortal(exitCode=1))
        call = queue.call(far.echo, 1)
        self.assertNoResult(call)
        self.wait()
        self.errorOf(call, WorkerError)
        self.assertEqual(self.ran, ["death"] * 10)
        sound = self.makeNoting()
        sound.actions["die"] = lambda: None
        queue.attachWorker(sound)
        self.assertEqual(self.resultOf(queue.call(far.echo, 1)), 1)
        self.assertEqual(len(self.flushLoggedErrors(WorkerDied)), 1)

    def test_aDeathBeforeTheUpdateBeginsDoesNotCount(self) -> None:
        worker = self.makeNoting(stepSeconds=None)
        queue = self.makeWatched(worker)
        worker.stepAll()
        d = queue.update(act, "note", "x")
        for _ in range(30):
            worker.channel.die(exitCode=1)
            worker.step()
            self.clock.pump([1.0, 1.0])
            # It says hello, and is sent the update.
            worker.channel.deliver()
        self.assertNoResult(d)
        worker.stepAll()
        self.resultOf(d)
        self.assertEqual(self.reasons(), [])

    def test_aLostConnectionIsNotTheUpdatesFault(self) -> None:
        worker = self.makeNoting()
        lost = ConnectionLost("tcp:example.org:1", "the cable was cut")

        def cut() -> None:
            if len(self.ran) < 30:
                self.ran.append("cut")
                worker.channel.die()

        worker.actions["cut"] = cut
        queue = self.makeWatched(worker)
        hear = worker._supervisor.lost
        self.patch(worker._supervisor, "lost", lambda _: hear(lost))
        self.errorOf(queue.update(act, "cut"), ConnectionLost)
        self.wait()
        self.assertEqual(self.ran, ["cut"] * 30)
        self.assertEqual(self.resultOf(queue.call(far.echo, 1)), 1)
        self.assertEqual(len(self.flushLoggedErrors(ConnectionLost)), 29)

    def test_anEphemeralOneCostsOneRunner(self) -> None:
        queue = self.makeWatched(self.makeMortal(exitCode=1))
        for _ in range(7):
            self.errorOf(queue.update(act, "die", ephemeral=True), WorkerDied)
            self.wait()
        self.assertEqual(self.reasons(), [])
        self.assertEqual(self.resultOf(queue.call(far.echo, 1)), 1)

    def test_oneAfterTheOtherEachGivesUpAndTheUpdateComesToItsEnd(self) -> None:
        queue = self.makeWatched(*(self.makeMortal(exitCode=1) for _ in range(2)))
        d = queue.update(act, "die", sequential=True)
        self.wait()
        self.errorOf(d, WorkerDied)
        self.assertEqual(self.ran, ["death"] * 10)
        self.assertEqual(queue.workers(), [])

    def test_shutdownInTheMiddleEndsIt(self) -> None:
        queue = self.makeWatched(self.makeMortal(signal=9))
        d = queue.update(act, "die")
        call = queue.call(far.echo, 1)
        self.clock.pump([0.01] * 20)
        done = queue.shutdown()
        self.errorOf(d, WorkerDied)
        self.wait()
        self.resultOf(done)
        self.errorOf(call, WorkerError)


class RecallTests(UpdateCase):
    def test_anUpdateThatWasRecalledIsRunAfterAllAndBeforeAnyTask(self) -> None:
        worker = self.makeNoting()
        worker.actions["dawdle"] = lambda: self.clock.pump([0.01] * 20)
        queue = self.makeQueue(worker)
        slow = queue.update(act, "dawdle")
        quick = queue.update(act, "note", "update")
        call = queue.call(act, "note", "task")
        self.clock.pump([0.01] * 100)
        self.assertIn((RECALL,), worker.channel.sent)
        for d in (slow, quick, call):
            self.resultOf(d)
        self.assertEqual(self.ran, [(None, "update"), (None, "task")])


class SequentialTests(UpdateCase):
    def makeThree(self) -> tuple[TaskQueue, list[StepWorker]]:
        workers = [StepWorker() for _ in range(3)]
        return self.makeQueue(*workers), workers

    def test_oneWorkerRunsItAfterTheOther(self) -> None:
        queue, workers = self.makeThree()
        d = queue.update(far.echo, sequential=True)
        for number, worker in enumerate(workers):
            self.assertEqual(
                [worker.task is not None for worker in workers], [n == number for n in range(3)]
            )
            worker.finish(number)
        self.assertEqual(self.resultOf(d), [0, 1, 2])

    def test_afterAFailureTheOthersStillRunIt(self) -> None:
        queue, workers = self.makeThree()
        d = queue.update(far.echo, sequential=True)
        workers[0].fail(ValueError())
        workers[1].fail(KeyError())
        self.assertNoResult(d)
        workers[2].finish()
        self.errorOf(d, ValueError)

    def test_aWorkerThatHasLeftMeanwhileFailsIt(self) -> None:
        queue, workers = self.makeThree()
        d = queue.update(far.echo, sequential=True)
        self.resultOf(queue.detachWorker(workers[1]))
        workers[0].finish()
        workers[2].finish()
        self.errorOf(d, WorkerDetached)

    def test_aWorkerThatComesMeanwhileRunsItOnce(self) -> None:
        queue, workers = self.makeThree()
        d = queue.update(far.echo, sequential=True)
        late = StepWorker()
        queue.attachWorker(late)
        late.step()
        for worker in workers:
            worker.step()
        self.resultOf(d)
        self.assertEqual(len(late.past), 1)


class SequentialDeathTests(UpdateCase):
    def makeThree(self) -> tuple[TaskQueue, list[MemoryWorker]]:
        workers = [self.makeNoting(number, stepSeconds=None) for number in range(3)]
        queue = self.makeQueue(*workers)
        for worker in workers:
            worker.stepAll()
        return queue, workers

    def test_oneThatIsDeadAtItsTurnRunsItWhenItIsReplaced(self) -> None:
        queue, workers = self.makeThree()
        d = queue.update(act, "note", "x", sequential=True)
        workers[1].die()
        workers[1].step()
        workers[0].stepAll()
        workers[2].stepAll()
        self.assertEqual(self.ran, [(0, "x")])
        self.settle()
        workers[1].stepAll()
        self.assertEqual(self.ran, [(0, "x"), (1, "x")])
        workers[2].stepAll()
        self.assertEqual(self.resultOf(d), [None] * 3)
        self.assertEqual(self.ran, [(0, "x"), (1, "x"), (2, "x")])

    def test_oneThatIsReplacedBeforeItsTurnAwaitsIt(self) -> None:
        queue, workers = self.makeThree()
        d = queue.update(act, "note", "x", sequential=True)
        workers[2].die()
        workers[2].step()
        self.settle()
        workers[2].stepAll()
        self.assertEqual(self.ran, [])
        for worker in workers:
            worker.stepAll()
        self.assertEqual(self.resultOf(d), [None] * 3)
        self.assertEqual(self.ran, [(0, "x"), (1, "x"), (2, "x")])

    def test_oneThatIsReplacedAfterwardsRunsItOnceMore(self) -> None:
        queue, workers = self.makeThree()
        queue.update(act, "note", "x", sequential=True)
        for worker in workers:
            worker.stepAll()
        workers[1].die()
        workers[1].step()
        self.settle()
        workers[1].stepAll()
        self.assertEqual(self.ran[3:], [(1, "x")])


class SixMemberTests(UpdateCase):
    def test_aLaterWorkerRunsAllOneByOneAndBeforeAnyTask(self) -> None:
        queue = self.makeQueue()
        for text in "abc":
            queue.update(far.echo, text)
        queue.call(far.echo, "task")
        worker = StepWorker()
        ready = queue.attachWorker(worker)
        for _ in "abc":
            self.assertNoResult(ready)
            worker.step()
        self.assertEqual(self.resultOf(ready), 1)
        worker.step()
        self.assertEqual([task.args[0] for task in worker.past], ["a", "b", "c", "task"])

    def test_anUpdateThatComesWhileItRunsOthersIsNotForgotten(self) -> None:
        queue = self.makeQueue()
        queue.update(far.echo, "a")
        worker = StepWorker()
        ready = queue.attachWorker(worker)
        d = queue.update(far.echo, "b")
        other = queue.update(far.echo, "c", ephemeral=True)
        self.assertNoResult(ready)
        while worker.step():
            pass
        self.assertEqual((self.resultOf(d), self.resultOf(other)), (["b"], ["c"]))
        self.assertEqual(self.resultOf(ready), 1)

    def test_aBusyWorkerIsGivenItWhenItIsFree(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        task = queue.call(far.echo, "task")
        waiting = queue.call(far.echo, "waiting")
        ds = [queue.update(far.echo, text) for text in "ab"]
        while worker.step():
            pass
        self.assertEqual(self.resultOf(task), "task")
        self.assertEqual([self.resultOf(d) for d in ds], [["a"], ["b"]])
        self.assertEqual(self.resultOf(waiting), "waiting")

    def test_manyThatWaitForABusyWorkerDoNotGoEverDeeper(self) -> None:
        class Slow(InlineWorker):
            def step(self) -> bool:
                return self.past[-1].args != ("slow",) and super().step()

        worker = Slow()
        queue = self.makeQueue(worker)
        queue.call(far.echo, "slow")
        ds = [queue.update(far.echo, n, ephemeral=True) for n in range(2000)]
        self.assertEqual(len(worker.past), 1)
        worker.finish()
        self.assertEqual(self.resultOf(ds[-1]), [1999])

    def test_noTaskComesWhileItRunsOne(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        d = queue.update(far.echo, "update")
        task = queue.submit(far.echo, "task")
        worker.step()
        self.assertEqual(self.resultOf(d), ["update"])
        worker.step()
        self.assertEqual(task.result, "task")

    def test_whatABusyWorkerWasNotGivenYetIsNotLostWithIt(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        task = queue.submit(far.echo, "task")
        d = queue.update(far.echo, "update")
        other = StepWorker()
        queue.detachWorker(worker, crash=True, reassign=True)
        self.errorOf(d, WorkerDetached)
        queue.attachWorker(other)
        while other.step():
            pass
        self.assertEqual(task.result, "task")

    def test_aDetachedWorkerCompletesWhatItWasGiven(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        task = queue.submit(far.echo, "task")
        d = queue.update(far.echo, "update")
        left = queue.detachWorker(worker)
        while worker.step():
            pass
        self.assertEqual(task.result, "task")
        self.assertEqual(self.resultOf(left), [])
        # The worker did not get the update before it was detached.
        self.errorOf(d, WorkerDetached)
