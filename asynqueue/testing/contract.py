"""
The promises of every worker, as a test case, and calls that are underway for as long as a test
wants.
"""

# Trial's assertions carry no annotations.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import os
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from asynqueue._core.states import CANCELLED, FAILED, FINISHED
from asynqueue._queue.queuedtask import QueuedTask
from asynqueue.interfaces import IWorker
from asynqueue.testing import far
from asynqueue.testing.owner import TaskOwner
from asynqueue.tools.delay import Delay

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase
else:
    # A class that derives from a contract derives from a TestCase as well.
    TestCase = object

_T = TypeVar("_T")

PATIENCE = 20.0
"""After how many seconds a held call gives up, if the test does not release it."""


class Hold:
    """
    An ordinary call. If the test steps the worker by hand, the call is underway until the test
    does so. If the worker runs a task before its C{run} returns, the call is never underway.

    @ivar function: the function to call.
    @ivar args: its positional arguments.
    """

    def __init__(self) -> None:
        self.function: Callable[..., Any] = far.echo
        self.args: tuple[Any, ...] = ()

    async def begun(self, task: QueuedTask) -> None:
        """
        Wait until the call is underway.

        @param task: the call's task.
        """

    def release(self) -> None:
        """
        Let the call end.
        """


class FileHold(Hold):
    """
    A call of a function that blocks until a certain file exists, for 20 seconds at most. Use it for
    workers that live in real time and do not run their tasks in this thread.
    """

    def __init__(self, folder: str, reactor: IReactorTime | None = None) -> None:
        """
        @param folder: the path of a folder that is not used for anything else.
        @param reactor: the reactor to wait with. Default: the global reactor.
        """
        self._reactor = reactor
        self._begun = os.path.join(folder, "begun")
        self._released = os.path.join(folder, "released")
        self.function = far.blockUntil
        self.args = (self._begun, self._released, PATIENCE)

    async def begun(self, task: QueuedTask) -> None:
        """
        Wait until the function is running.

        @raise AssertionError: if it is not running after 20 seconds.
        """
        delay = Delay(timeout=PATIENCE, reactor=self._reactor)
        await delay.untilEvent(lambda: task.isDone or os.path.exists(self._begun))
        if not os.path.exists(self._begun):
            raise AssertionError(f"{task} was not begun by its worker within {PATIENCE} seconds")

    def release(self) -> None:
        far.touch(self._released)


class DeferredHold(Hold):
    """
    A call of a function that returns a Deferred. Use it for workers that run their tasks in the
    reactor's thread.
    """

    def __init__(self) -> None:
        self._done: Deferred[None] = Deferred()
        self.function = lambda: self._done
        self.args = ()

    def release(self) -> None:
        """
        Fire the Deferred, unless the worker has cancelled it.
        """
        if not self._done.called:
            self._done.callback(None)


class ContractCase(TestCase):
    """
    A mixin for a test case about workers.

    @cvar timeout: how long a test may take, in seconds.
    """

    timeout = 30.0

    def makeWorker(self) -> Any:
        """
        Make the worker to test. Override this.

        @return: a new worker, or a Deferred that fires with one. It is crashed and stopped after
            the test.
        """
        raise NotImplementedError("override makeWorker() so that it returns a new worker")

    def pump(self) -> None:
        """
        Do everything that can be done at this moment. Override this if the worker has a clock of
        the test's. By default, for a worker that lives in real time, this does nothing.
        """

    def makeHold(self) -> Hold:
        """
        Make a call that is underway until it is released. Override this if the worker runs its
        tasks in this thread: return a L{DeferredHold<asynqueue.testing.DeferredHold>} if they may
        return a Deferred, and a L{Hold<asynqueue.testing.Hold>} otherwise.

        @return: the call. Default: a L{FileHold<asynqueue.testing.FileHold>}.
        """
        return FileHold(self.scratchFolder())

    # Steps of the tests ---------------------------------------------------------------------------

    def setUp(self) -> None:
        self.owner = TaskOwner(Clock())

    async def start(self) -> Any:
        """
        @return: the worker to test, ready for tasks.
        """
        worker = await maybeDeferred(self.makeWorker)
        self.addCleanup(self._stop, worker)
        return worker

    def give(
        self, worker: IWorker, function: Callable[..., object], *args: object, **options: Any
    ) -> tuple[QueuedTask, Deferred[None]]:
        """
        Run a task.

        @return: the task, and what C{run} returned.
        """
        task = self.owner.make(function, *args, **options)
        task.start(worker, 0.0)
        ready = maybeDeferred(worker.run, task)
        # Trial would report a failure that this test does not look at in some later test.
        self.addCleanup(_ignoreFailure, ready)
        return task, ready

    async def hold(self, worker: IWorker) -> tuple[QueuedTask, Deferred[None], Hold]:
        """
        Run a task that is held. It is released after the test, if not before.

        @return: the task, what C{run} returned, and the hold.
        """
        hold = self.makeHold()
        self.addCleanup(hold.release)
        task, ready = self.give(worker, hold.function, *hold.args)
        await hold.begun(task)
        return task, ready, hold

    def dropTask(self, worker: IWorker, task: QueuedTask) -> None:
        """
        Cancel a task, and tell the worker if it has a method C{cancel}, as a queue does.
        """
        task.cancel()
        cancel = getattr(worker, "cancel", None)
        if cancel is not None:
            cancel(task)

    async def wait(self, d: Deferred[_T]) -> _T:
        """
        L{pump}, then wait for a Deferred.
        """
        self.pump()
        return await d

    async def ending(self, task: QueuedTask) -> Any:
        """
        Wait until a task is done.

        @return: its result, or its exception.
        """
        done = task.whenDone().addErrback(lambda failure: failure.value)
        return await self.wait(done)

    async def assertWorks(self, worker: IWorker, what: str) -> None:
        """
        Have a worker run one more task.

        @param what: what happened to the worker before, for the message.
        """
        task, ready = self.give(worker, far.add, 20, 3)
        self.assertEqual(await self.ending(task), 23, f"a worker goes on after {what}")
        await self.wait(ready)

    def scratchFolder(self) -> str:
        """
        @return: the path of a new folder for this test.
        """
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return folder.name

    def _stop(self, worker: IWorker) -> Deferred[Any]:
        worker.crash()
        stopped = maybeDeferred(worker.stop)
        self.pump()
        return stopped


def _ignoreFailure(d: Deferred[None]) -> None:
    d.addErrback(lambda _: None)


class WorkerContract(ContractCase):
    """
    Tests what a queue needs of every provider of L{IWorker<asynqueue.interfaces.IWorker>}::

        from asynqueue.testing import WorkerContract
        from twisted.trial.unittest import TestCase

        class MyWorkerTests(WorkerContract, TestCase):
            def makeWorker(self):
                return MyWorker()

    Override C{pump} if your worker does nothing by itself, as when it has a clock of the test's.
    Override C{makeHold} if your worker runs its tasks in the thread that calls C{run}.

    The tests look at the Deferreds of C{run} and C{stop}, at what C{crash} returns, and at the ends
    of tasks. The tasks call functions of L{asynqueue.testing.far}, which can be pickled by name.

    Other mixins contain this one, and test what some workers promise beyond it:
    L{IteratingWorkerContract<asynqueue.testing.IteratingWorkerContract>} and
    L{FarWorkerContract<asynqueue.testing.FarWorkerContract>}.
    """

    # The six members ------------------------------------------------------------------------------

    async def test_itProvidesIWorker(self) -> None:
        worker = await self.start()
        self.assertTrue(
            IWorker.providedBy(worker),
            "the worker's class needs the decorator @implementer(IWorker)",
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
        failures: list[object] = []
        await self.wait(ready.addErrback(failures.append))
        self.assertEqual(failures, [], "run's Deferred does not fail, whatever becomes of the task")
        await self.assertWorks(worker, "a task that failed")

    async def test_aLateResultIsDropped(self) -> None:
        worker = await self.start()
        task, ready, hold = await self.hold(worker)
        wasDone = task.isDone
        self.dropTask(worker, task)
        hold.release()
        failures: list[object] = []
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
        failures: list[object] = []
        ready.addErrback(failures.append)
        state = task.state
        worker.crash()
        hold.release()
        await self.wait(worker.stop())
        # By now another worker may have the task.
        self.assertEqual(task.state, state, "a task that crash returned is not ended afterwards")
        self.assertEqual(failures, [], "run's Deferred does not fail because of a crash")

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

    async def _assertRunsNothing(self, worker: IWorker, what: str) -> None:
        path = os.path.join(self.scratchFolder(), "run")
        task, ready = self.give(worker, far.touch, path)
        [outcome] = await self.wait(ready.addBoth(lambda result: [result]))
        await self.wait(worker.stop())
        self.assertFalse(os.path.exists(path), f"a task that is given after {what} is not run")
        self.assertTrue(
            outcome is not None or task.state == FAILED,
            f"after {what}, run refuses a task: it raises an exception, or ends the task with one",
        )
