"""
What every worker promises, as tests.
"""

# Trial's assertions carry no annotations.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import os
from typing import Any

from zope.interface.verify import verifyObject

from asynqueue._core.states import CANCELLED, FAILED, FINISHED
from asynqueue.interfaces import IWorker
from asynqueue.testing import far
from asynqueue.testing.contractcase import ContractCase


class WorkerContract(ContractCase):
    """
    What a queue needs of every provider of L{IWorker<asynqueue.interfaces.IWorker>}, as tests of
    yours::

        from asynqueue.testing import WorkerContract
        from twisted.trial.unittest import TestCase

        class MyWorkerTests(WorkerContract, TestCase):
            def makeWorker(self):
                return MyWorker()

    Override C{pump} if your worker does nothing by itself, because it has a clock of the test's,
    say; and C{makeHold} if it runs its tasks in the thread that gives them.

    C{run}'s result, C{stop}'s and what tasks end with are all that is looked at. The tasks call
    functions of L{asynqueue.testing.far}, which can be pickled by their names.

    What a worker promises besides is in other mixins, which contain this one:
    L{IteratingWorkerContract<asynqueue.testing.IteratingWorkerContract>} and
    L{FarWorkerContract<asynqueue.testing.FarWorkerContract>}.
    """

    # The six members ------------------------------------------------------------------------------

    async def test_itProvidesIWorker(self) -> None:
        worker = await self.start()
        self.assertTrue(
            IWorker.providedBy(worker), "a worker says that it is one: @implementer(IWorker)"
        )
        verifyObject(IWorker, worker)

    async def test_itsSeriesAreLists(self) -> None:
        worker, other = await self.start(), await self.start()
        self.assertIsInstance(worker.cQualified, list)
        self.assertIsInstance(worker.iQualified, list)
        self.assertEqual(
            worker.cQualified, other.cQualified, "cQualified is the same for the whole class"
        )

    async def test_noTwoWorkersShareTheirOwnSeries(self) -> None:
        worker, other = await self.start(), await self.start()
        worker.iQualified.append("just me")
        self.assertNotIn("just me", other.iQualified, "each worker has an iQualified of its own")

    async def test_itHasNoReasonToResign(self) -> None:
        worker = await self.start()
        resignations: list[str] = []
        worker.setResignator(lambda: resignations.append("resigned"))
        task, _ = self.give(worker, far.refuse)
        await self.ending(task)
        await self.wait(worker.stop())
        self.assertEqual(resignations, [], "a worker resigns only when it can work no more")

    # Running --------------------------------------------------------------------------------------

    async def test_theResultComesBack(self) -> None:
        worker = await self.start()
        task, _ = self.give(worker, far.add, 3, 4)
        self.assertEqual(await self.ending(task), 7, "the task ends with the function's result")
        self.assertEqual(task.state, FINISHED)

    async def test_keywordsReachTheFunction(self) -> None:
        worker = await self.start()
        task = self.owner.make(far.keywords, 1)
        task.kwargs = {"niceness": "mine"}
        task.start(worker, 0.0)
        worker.run(task)
        self.assertEqual(
            await self.ending(task),
            ((1,), {"niceness": "mine"}),
            "the function gets the arguments and the keywords of task.callTuple",
        )

    async def test_anExceptionComesBackWithItsType(self) -> None:
        worker = await self.start()
        task, _ = self.give(worker, far.refuse, "not this")
        error = await self.ending(task)
        self.assertIs(type(error), ValueError, "the task ends with what the function raised")
        self.assertEqual(str(error), "not this")
        self.assertEqual(task.state, FAILED)

    async def test_runTellsWhenItCanBeGivenAnother(self) -> None:
        worker = await self.start()
        for number in range(3):
            task, ready = self.give(worker, far.echo, number)
            await self.wait(ready)
            self.assertEqual(await self.ending(task), number)

    async def test_runDoesNotFailWithItsTask(self) -> None:
        worker = await self.start()
        task, ready = self.give(worker, far.refuse)
        await self.ending(task)
        failures: list[Any] = []
        await self.wait(ready.addErrback(failures.append))
        self.assertEqual(failures, [], "run's Deferred does not fail, whatever becomes of the task")
        await self.assertWorks(worker, "a task that failed")

    async def test_aLateResultIsDropped(self) -> None:
        worker = await self.start()
        task, ready, hold = await self.hold(worker)
        wasDone = task.isDone
        self.dropTask(worker, task)
        hold.release()
        failures: list[Any] = []
        await self.wait(ready.addErrback(failures.append))
        self.assertEqual(failures, [], "run's Deferred fires once, even if its task is cancelled")
        await self.assertWorks(worker, "a task that was cancelled underway")
        self.assertEqual(task.state, FINISHED if wasDone else CANCELLED)

    # Stopping -------------------------------------------------------------------------------------

    async def test_anIdleWorkerStops(self) -> None:
        worker = await self.start()
        await self.wait(worker.stop())

    async def test_stopWaitsForWhatWasGiven(self) -> None:
        worker = await self.start()
        events: list[str] = []
        task, _, hold = await self.hold(worker)
        task.d.addCallback(lambda _: events.append("done"))
        stopped = worker.stop().addCallback(lambda _: events.append("stopped"))
        hold.release()
        await self.wait(stopped)
        self.assertEqual(events, ["done", "stopped"], "a graceful stop is over after the task is")

    async def test_itCanBeStoppedTwice(self) -> None:
        worker = await self.start()
        self.give(worker, far.echo)
        first, second = worker.stop(), worker.stop()
        await self.wait(first)
        await self.wait(second)
        await self.wait(worker.stop())

    async def test_nothingIsRunAfterAStop(self) -> None:
        worker = await self.start()
        await self.wait(worker.stop())
        await self._assertRunsNothing(worker, "stop")

    async def test_anIdleWorkerCrashesWithNothingToGiveBack(self) -> None:
        worker = await self.start()
        task, ready = self.give(worker, far.echo)
        await self.ending(task)
        await self.wait(ready)
        self.assertEqual(worker.crash(), [], "a task that is done is not given back")
        self.assertEqual(worker.crash(), [], "crashing again does nothing")

    async def test_aCrashGivesBackWhatIsUnderway(self) -> None:
        worker = await self.start()
        task, _, _ = await self.hold(worker)
        isDone = task.isDone
        self.assertEqual(
            worker.crash(), [] if isDone else [task], "crash returns the tasks that are not ended"
        )
        self.assertEqual(worker.crash(), [], "a task is given back once")

    async def test_whatACrashGaveBackIsLeftAlone(self) -> None:
        worker = await self.start()
        task, ready, hold = await self.hold(worker)
        failures: list[Any] = []
        ready.addErrback(failures.append)
        state = task.state
        worker.crash()
        hold.release()
        await self.wait(worker.stop())
        # By now it may be with another worker.
        self.assertEqual(task.state, state, "a task that crash returned is not ended afterwards")
        self.assertEqual(failures, [], "run's Deferred does not fail on account of a crash")

    async def test_aCrashMayFollowAStop(self) -> None:
        worker = await self.start()
        task, _, hold = await self.hold(worker)
        isDone = task.isDone
        stopped = worker.stop()
        self.assertEqual(
            worker.crash(), [] if isDone else [task], "crash interrupts a graceful stop"
        )
        hold.release()
        await self.wait(stopped)

    async def test_itStopsAfterACrash(self) -> None:
        worker = await self.start()
        self.give(worker, far.echo)
        worker.crash()
        await self.wait(worker.stop())

    async def test_nothingIsRunAfterACrash(self) -> None:
        worker = await self.start()
        worker.crash()
        await self._assertRunsNothing(worker, "crash")

    async def _assertRunsNothing(self, worker: Any, what: str) -> None:
        path = os.path.join(self.scratchFolder(), "run")
        task, ready = self.give(worker, far.touch, path)
        [outcome] = await self.wait(ready.addBoth(lambda result: [result]))
        await self.wait(worker.stop())
        self.assertFalse(os.path.exists(path), f"a task that is given after {what} is not run")
        self.assertTrue(
            outcome is not None or task.state == FAILED,
            f"after {what}, run refuses a task: it raises an exception, or ends the task with one",
        )
