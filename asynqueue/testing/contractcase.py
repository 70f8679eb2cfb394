"""
What contracts are written with.
"""

# Trial's assertions carry no annotations.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from asynqueue._queue.queuedtask import QueuedTask
from asynqueue.testing import far
from asynqueue.testing.hold import FileHold, Hold
from asynqueue.testing.owner import TaskOwner

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase
else:
    # Whoever derives from a contract brings it along.
    TestCase = object

_T = TypeVar("_T")


class ContractCase(TestCase):
    """
    A mixin for a test case about workers.

    @cvar timeout: how long a test may take, in seconds.
    """

    timeout = 30.0

    def makeWorker(self) -> Any:
        """
        @return: a new worker, or a Deferred of one. It is crashed and stopped after the test.
        """
        raise NotImplementedError("say what worker is to be tested")

    def pump(self) -> None:
        """
        Have everything done that can be done. Nothing, for a worker that lives in real time.
        """

    def makeHold(self) -> Hold:
        """
        @return: a call that is underway until it is released. By default a function that blocks. A
            worker that runs its tasks in this thread needs another one:
            L{DeferredHold<asynqueue.testing.DeferredHold>} if they may return a Deferred,
            otherwise L{Hold<asynqueue.testing.Hold>}.
        """
        return FileHold(self.scratchFolder())

    # What the tests are written with --------------------------------------------------------------

    def setUp(self) -> None:
        self.owner = TaskOwner(Clock())

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
        task = self.owner.make(function, *args, **options)
        task.start(worker, 0.0)
        ready = maybeDeferred(worker.run, task)
        # A failure that this test does not look at is not to be reported as some other test's.
        self.addCleanup(_ignoreFailure, ready)
        return task, ready

    async def hold(self, worker: Any) -> tuple[QueuedTask, Deferred[None], Hold]:
        """
        Run a task that is held. It is released after the test, if not before.

        @return: the task, what C{run} returned, and what releases it.
        """
        hold = self.makeHold()
        self.addCleanup(hold.release)
        task, ready = self.give(worker, hold.function, *hold.args)
        await hold.begun(task)
        return task, ready, hold

    def dropTask(self, worker: Any, task: QueuedTask) -> None:
        """
        Cancel a task, and tell the worker if it wants to know, as a queue does.
        """
        task.cancel()
        cancel = getattr(worker, "cancel", None)
        if cancel is not None:
            cancel(task)

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

    async def assertWorks(self, worker: Any, what: str) -> None:
        """
        Have a worker run one more task.

        @param what: what it is to get over, for people.
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

    def _retire(self, worker: Any) -> Deferred[Any]:
        worker.crash()
        stopped = maybeDeferred(worker.stop)
        self.pump()
        return stopped


def _ignoreFailure(d: Deferred[None]) -> None:
    d.addErrback(lambda _: None)
