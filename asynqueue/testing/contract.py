"""
What every worker promises, as tests.

A provider's test case derives from one of the two mixins and from C{twisted.trial}'s C{TestCase},
and says with L{WorkerContract.makeWorker} what is to be tested.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface.verify import verifyClass, verifyObject

from asynqueue.errors import StateError
from asynqueue.interfaces import IWorker
from asynqueue.queue.queued import QueuedTask
from asynqueue.tasks.states import FAILED, FINISHED, UNDERWAY
from asynqueue.testing import far
from asynqueue.testing.keeper import Keeper

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase
else:
    TestCase = object

_T = TypeVar("_T")


class WorkerContract(TestCase):
    """
    What every provider of C{IWorker} promises.

    @cvar timeout: how long a test may take, in seconds.
    """

    timeout = 30.0

    def makeWorker(self) -> Any:
        """
        @return: a new worker, or a Deferred of one. It is crashed after the test.
        """
        raise NotImplementedError

    def pump(self) -> None:
        """
        Have everything done that can be done. Nothing, for a worker that lives in real time.
        """

    # What the tests are written with
    # -----------------------------------------------------------------------------

    def setUp(self) -> None:
        self.keeper = Keeper(Clock())

    async def start(self) -> Any:
        """
        @return: the worker to test, ready for tasks.
        """
        worker = await maybeDeferred(self.makeWorker)
        self.addCleanup(self._retire, worker)
        return worker

    def give(
        self, worker: Any, function: Callable[..., Any], *args: Any, **options: Any
    ) -> tuple[QueuedTask, Deferred[None]]:
        """
        Run a task.

        @return: the task, and what C{run} returned.
        """
        task = self.keeper.make(function, *args, **options)
        task.start(worker, 0.0)
        return task, maybeDeferred(worker.run, task)

    async def wait(self, d: Deferred[_T]) -> _T:
        """
        Wait for a Deferred, and pump.
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

    def _retire(self, worker: Any) -> Deferred[Any]:
        worker.crash()
        stopped = maybeDeferred(worker.stop)
        self.pump()
        return stopped

    # The six members
    # ---------------------------------------------------------------------------------------------

    async def test_itProvidesIWorker(self) -> None:
        worker = await self.start()
        verifyObject(IWorker, worker)
        verifyClass(IWorker, type(worker))

    async def test_itsSeriesAreLists(self) -> None:
        worker = await self.start()
        assert isinstance(worker.cQualified, list)
        assert isinstance(worker.iQualified, list)
        assert worker.cQualified is type(worker).cQualified

    async def test_noTwoWorkersShareTheirOwnSeries(self) -> None:
        worker, other = await self.start(), await self.start()
        worker.iQualified.append("just me")
        assert "just me" not in other.iQualified

    async def test_itTakesAResignator(self) -> None:
        worker = await self.start()
        worker.setResignator(lambda: self.fail("it has no reason to resign"))

    # Running
    # ----------------------------------------------------------------------------------------------

    async def test_theResultComesBack(self) -> None:
        worker = await self.start()
        task, _ = self.give(worker, far.add, 3, 4)
        assert await self.ending(task) == 7
        assert task.state == FINISHED

    async def test_keywordsReachTheFunction(self) -> None:
        worker = await self.start()
        task = self.keeper.make(far.keywords, 1)
        task.kwargs = {"niceness": "mine"}
        task.start(worker, 0.0)
        worker.run(task)
        assert await self.ending(task) == ((1,), {"niceness": "mine"})

    async def test_anExceptionComesBackWithItsType(self) -> None:
        worker = await self.start()
        task, _ = self.give(worker, far.refuse, "not this")
        error = await self.ending(task)
        assert type(error) is ValueError
        assert str(error) == "not this"
        assert task.state == FAILED

    async def test_runTellsWhenItCanBeGivenAnother(self) -> None:
        worker = await self.start()
        for number in range(3):
            task, ready = self.give(worker, far.echo, number)
            await self.wait(ready)
            assert await self.ending(task) == number

    async def test_runDoesNotFailWithItsTask(self) -> None:
        worker = await self.start()
        task, ready = self.give(worker, far.refuse)
        await self.ending(task)
        await self.wait(ready)

    # Stopping
    # ---------------------------------------------------------------------------------------------

    async def test_anIdleWorkerStops(self) -> None:
        worker = await self.start()
        await self.wait(worker.stop())

    async def test_stopWaitsForWhatWasGiven(self) -> None:
        worker = await self.start()
        events: list[str] = []
        task, _ = self.give(worker, far.add, 1, 2)
        task.d.addCallback(lambda _: events.append("done"))
        stopped = worker.stop().addCallback(lambda _: events.append("stopped"))
        await self.wait(stopped)
        assert events == ["done", "stopped"]
        assert task.result == 3

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
        task, ready = self.give(worker, far.echo)
        error = await self.wait(ready.addErrback(_exceptionOf))
        assert isinstance(error, StateError)
        assert task.state == UNDERWAY

    async def test_anIdleWorkerCrashesWithNothingToGiveBack(self) -> None:
        worker = await self.start()
        assert worker.crash() == []
        assert worker.crash() == []

    async def test_aCrashGivesBackWhatIsUnfinished(self) -> None:
        worker = await self.start()
        done, _ = self.give(worker, far.echo)
        await self.ending(done)
        task, ready = self.give(worker, far.echo)
        assert worker.crash() == [task]
        await self.wait(ready)
        assert task.state == UNDERWAY

    async def test_itStopsAfterACrash(self) -> None:
        worker = await self.start()
        self.give(worker, far.echo)
        worker.crash()
        await self.wait(worker.stop())

    async def test_nothingIsRunAfterACrash(self) -> None:
        worker = await self.start()
        worker.crash()
        _, ready = self.give(worker, far.echo)
        assert isinstance(await self.wait(ready.addErrback(_exceptionOf)), StateError)


def _exceptionOf(failure: Failure) -> Any:
    return failure.value
