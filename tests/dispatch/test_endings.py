"""
How a dispatch queue ends with its program.
"""

from __future__ import annotations

import atexit
import gc
import signal
import threading
import weakref
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from asynqueue import ResizableDispatchQueue, Retry, TaskQueue
from asynqueue._dispatch.stores import WAITING
from asynqueue.errors import (
    IterationStopped,
    JobNotDispatched,
    QueueStopped,
    StoreLocked,
    WorkerDied,
    WorkerError,
)
from asynqueue.rdq import JobCancelled
from asynqueue.tasks import CANCELLED, FAILED, FINISHED, PENDING, UNDERWAY
from asynqueue.testing import far
from asynqueue.testing.stepworker import StepWorker
from tests.dispatch.cases import CountingClock
from tests.dispatch.stored import DurableCase, SteppedAside
from tests.support.endingreactor import EndingClock


class CountingEndingClock(EndingClock, CountingClock):
    """
    Both.
    """


class EndingCase(DurableCase):
    clock: CountingEndingClock

    def setUp(self) -> None:
        super().setUp()
        self.clock = CountingEndingClock()
        self.clock.handleSignals(self)

    def isClosed(self) -> bool:
        try:
            self.store.open()
        except StoreLocked:
            return False
        return True


class DrainTests(EndingCase):
    """
    The reactor stops because of a signal.
    """

    def test_whatIsUnderwayMayEndAndWhatWaitsIsNotBegun(self) -> None:
        queue = self.makeQueue(width=2)
        jobs = self.putAll(queue, "abc")
        self.settle()
        stopped = self.clock.stop(signal.SIGTERM)
        self.assertNoResult(stopped)
        self.errorOf(jobs[2].watch(), JobNotDispatched)
        self.assertRaises(QueueStopped, queue.put, "d")
        self.held.finish("a")
        self.settle()
        self.assertNoResult(stopped)
        self.held.fail("b", ZeroDivisionError())
        self.successResultOf(stopped)
        self.assertStates(jobs, FINISHED, FAILED, PENDING)
        self.assertEqual(self.held.begun, ["a", "b"])

    def test_inAStoreWhatWaitsStaysAndTheStoreIsClosed(self) -> None:
        queue = self.makeDurable(width=1)
        [first, second] = self.putAll(queue, "ab")
        self.settle()
        stopped = self.clock.stop(signal.SIGTERM)
        self.assertFalse(self.isClosed())
        self.held.finish("a")
        self.successResultOf(stopped)
        self.assertTrue(self.isClosed())
        self.assertEqual(self.rows(), [('"b"', "waiting", 0)])
        self.assertStates([first, second], FINISHED, PENDING)

    def test_anEndThatIsBeingWrittenIsWaitedFor(self) -> None:
        self.aside = SteppedAside()
        queue = self.makeDurable(width=1)
        [job] = self.putAll(queue, "a")
        self.settle()
        self.aside.stepAll()
        self.held.finish("a")
        stopped = self.clock.stop(signal.SIGTERM)
        self.assertNoResult(stopped)
        self.aside.stepAll()
        self.successResultOf(stopped)
        self.assertStates([job], FINISHED)
        self.assertEqual(self.rows(), [])

    def test_itsOwnErrorBuriesAJobAsEver(self) -> None:
        queue = self.makeDurable(width=1)
        self.putAll(queue, "a")
        self.settle()
        self.clock.stop(signal.SIGTERM)
        self.held.fail("a", ZeroDivisionError())
        self.assertEqual(self.rows(), [('"a"', "dead", 1)])

    def test_oneThatIsToBeTriedAgainIsLeftForTheNextRun(self) -> None:
        queue = self.makeDurable(width=1, retry=Retry(3, delays=float))
        self.putAll(queue, "a")
        self.settle()
        stopped = self.clock.stop(signal.SIGTERM)
        self.held.fail("a", ZeroDivisionError())
        self.successResultOf(stopped)
        self.assertEqual(self.rows(), [('"a"', "waiting", 1)])

    def test_whatEndsWithTheProgramIsNotTheJobsFault(self) -> None:
        for error in (
            QueueStopped("x"),
            WorkerError("x"),
            WorkerDied(1, None, 15),
            IterationStopped("x"),
            CancelledError(),
        ):
            queue = self.makeDurable(width=1)
            [job] = self.putAll(queue, "a")
            self.settle()
            stopped = self.clock.stop(signal.SIGTERM)
            self.held.fail("a", error)
            self.successResultOf(stopped)
            self.assertEqual(self.rows(), [('"a"', "waiting", 1)])
            failure = self.errorOf(job.watch(), JobNotDispatched)
            self.assertIs(failure.__cause__, error)
            self.crash()
            self.clock = CountingEndingClock()
            self.store = type(self.store)()

    def test_beforeTheQueueHasHeardOfItToo(self) -> None:
        queue = self.makeDurable(width=1)
        self.putAll(queue, "ab")
        self.settle()
        self.clock._exitSignal = signal.SIGTERM
        # Systemd has sent it to the worker processes as well.
        self.held.fail("a", WorkerDied(1, None, 15))
        self.assertEqual({row.state for row in self.store.content()}, {WAITING})
        self.successResultOf(self.clock.stop(signal.SIGTERM))
        self.assertEqual({row.state for row in self.store.content()}, {WAITING})

    def test_withoutAStoreItFailsWithThat(self) -> None:
        queue = self.makeQueue(width=1)
        [job] = self.putAll(queue, "a")
        self.settle()
        self.clock.stop(signal.SIGTERM)
        self.held.fail("a", WorkerError("x"))
        self.assertIs(type(self.errorOf(job.watch())), WorkerError)

    def test_atOtherTimesItIsTheJobsFault(self) -> None:
        queue = self.makeDurable(width=1)
        self.putAll(queue, "a")
        self.settle()
        self.held.fail("a", WorkerError("x"))
        self.assertEqual(self.rows(), [('"a"', "dead", 1)])

    def test_whatHasNotBegunIsNotBegunAnyMore(self) -> None:
        self.aside = SteppedAside()
        queue = self.makeDurable(width=1)
        [job] = self.putAll(queue, "a")
        self.settle()
        self.aside.step()
        stopped = self.clock.stop(signal.SIGTERM)
        self.errorOf(job.watch(), JobNotDispatched)
        self.aside.stepAll()
        self.successResultOf(stopped)
        self.assertEqual(self.held.begun, [])
        self.assertEqual(self.rows(), [('"a"', "waiting", 1)])

    def test_norIsWhatItsRateHolds(self) -> None:
        self.aside = SteppedAside()
        queue = self.makeDurable(width=2, rate=1, per=100.0)
        self.putAll(queue, "ab")
        self.settle()
        self.clock.advance(100)
        # Both were taken from the line; the beginning of the first was written late.
        self.clock.advance(50)
        self.aside.stepAll()
        underway = len(queue.underway())
        stopped = self.clock.stop(signal.SIGTERM)
        for name in list(self.held.begun):
            self.held.finish(name)
        self.settle()
        self.aside.stepAll()
        self.settle()
        self.successResultOf(stopped)
        self.assertEqual(underway, 2)
        self.assertEqual(self.held.begun, ["a"])
        self.assertEqual([row[1] for row in self.rows()], ["waiting"])

    def test_atTheDeadlineWhatIsUnderwayIsLeft(self) -> None:
        queue = self.makeDurable(width=2, drainTimeout=3)
        jobs = self.putAll(queue, "ab")
        self.settle()
        stopped = self.clock.stop(signal.SIGTERM)
        self.clock.advance(2.99)
        self.assertNoResult(stopped)
        self.clock.advance(0.01)
        self.successResultOf(stopped)
        self.assertEqual(self.held.cancelled, ["a", "b"])
        self.assertStates(jobs, CANCELLED, CANCELLED)
        self.assertEqual([row[1] for row in self.rows()], ["waiting", "waiting"])
        self.assertTrue(self.isClosed())

    def test_aSecondSignalEndsItAtOnce(self) -> None:
        queue = self.makeDurable(width=1)
        [job] = self.putAll(queue, "a")
        self.settle()
        stopped = self.clock.stop(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        self.errorOf(job.watch(), JobCancelled)
        self.successResultOf(stopped)
        self.assertEqual(self.rows(), [('"a"', "waiting", 1)])

    def test_aFunctionThatIgnoresItHoldsNothingUp(self) -> None:
        forever: Deferred[None] = Deferred()

        async def stubborn(jobarg: str) -> str:
            try:
                await Deferred()
            except CancelledError:
                await forever
            return "too late"

        queue = self.makeDurable(stubborn, width=1)
        [job] = self.putAll(queue, "a")
        self.settle()
        stopped = self.clock.stop(signal.SIGTERM)
        self.clock.advance(5)
        self.successResultOf(stopped)
        self.assertTrue(self.isClosed())
        forever.callback(None)
        self.assertEqual(self.rows(), [('"a"', "waiting", 1)])
        self.assertStates([job], CANCELLED)

    def test_aQueueMayLeaveSignalsToOthers(self) -> None:
        queue = self.makeDurable(width=1, drainTimeout=None)
        [job] = self.putAll(queue, "a")
        self.clock.addSystemEventTrigger("before", "shutdown", queue.stop)
        self.settle()
        stopped = self.clock.stop(signal.SIGTERM)
        self.clock.advance(100)
        self.assertNoResult(stopped)
        self.held.finish("a")
        self.successResultOf(stopped)
        self.assertStates([job], FINISHED)

    def test_theTimeIsCheckedBeforeTheStoreIsOpened(self) -> None:
        self.assertRaises(ValueError, self.makeDurable, drainTimeout=-1)
        self.assertTrue(self.isClosed())


class TaskQueueTests(EndingCase):
    """
    The jobs run through a queue of tasks, which is drained as well.
    """

    def setUp(self) -> None:
        super().setUp()
        self.worker = StepWorker()

    def makeTasks(self) -> TaskQueue:
        return TaskQueue(self.worker, reactor=self.clock)

    def makeBoth(self, areTasksFirst: bool) -> ResizableDispatchQueue:
        if areTasksFirst:
            return self.makeDurable(far.echo, width=3, queue=self.makeTasks())
        tasks: list[TaskQueue] = []

        def send(jobarg: str) -> Deferred[Any]:
            return tasks[0].call(far.echo, jobarg)

        queue = self.makeDurable(send, width=3)
        tasks.append(self.makeTasks())
        return queue

    def test_whatItRefusesStaysInTheStore(self) -> None:
        for areTasksFirst in (True, False):
            queue = self.makeBoth(areTasksFirst)
            jobs = self.putAll(queue, "abcd")
            self.settle()
            self.assertEqual(queue.size(), (3, 1))
            stopped = self.clock.stop(signal.SIGTERM)
            self.worker.step()
            self.settle()
            self.successResultOf(stopped)
            self.assertStates(jobs, FINISHED, PENDING, PENDING, PENDING)
            rows = [('"b"', "waiting", 1), ('"c"', "waiting", 1), ('"d"', "waiting", 0)]
            self.assertEqual(self.rows(), rows)
            self.startAnew()

    def test_whatItsWorkersDoNotFinishDoesToo(self) -> None:
        for areTasksFirst in (True, False):
            self.putAll(self.makeBoth(areTasksFirst), "ab")
            self.settle()
            stopped = self.clock.stop(signal.SIGTERM)
            self.clock.advance(5)
            self.successResultOf(stopped)
            self.assertEqual(self.rows(), [('"a"', "waiting", 1), ('"b"', "waiting", 1)])
            self.startAnew()

    def test_withoutASignalTheyDoToo(self) -> None:
        for areTasksFirst in (True, False):
            jobs = self.putAll(self.makeBoth(areTasksFirst), "abcd")
            self.settle()
            self.successResultOf(self.clock.stop())
            self.assertEqual([job.state for job in jobs].count(UNDERWAY), 0)
            self.assertEqual([row[1] for row in self.rows()], ["waiting"] * 4)
            self.assertTrue(self.isClosed())
            self.startAnew()

    def startAnew(self) -> None:
        self.crash()
        self.clock = CountingEndingClock()
        self.store = type(self.store)()
        self.worker = StepWorker()


class ReactorStopTests(EndingCase):
    """
    The reactor is stopped, and not by a signal.
    """

    def test_everyDeferredFiresAndTheStoreIsClosed(self) -> None:
        self.aside = SteppedAside()
        queue = self.makeDurable(width=2)
        jobs = self.putAll(queue, "abcd")
        self.settle()
        self.aside.stepAll()
        self.held.finish("a")
        # The end of the first is being written, and so is the beginning of the third.
        self.settle()
        self.assertEqual(len(self.aside.calls), 1)
        self.successResultOf(self.clock.stop())
        self.assertStates(jobs, FINISHED, CANCELLED, CANCELLED, PENDING)
        self.assertEqual(self.held.begun, ["a", "b"])
        self.assertEqual([row[:2] for row in self.rows()], [(f'"{x}"', "waiting") for x in "bcd"])
        self.assertTrue(self.aside.isClosed)
        self.assertTrue(self.isClosed())

    def test_whoeverStopsItIsWaitedFor(self) -> None:
        queue = self.makeDurable(width=1)
        [job] = self.putAll(queue, "a")
        self.clock.addSystemEventTrigger("before", "shutdown", queue.stop)
        self.settle()
        stopped = self.clock.stop()
        self.assertNoResult(stopped)
        self.held.finish("a")
        self.successResultOf(stopped)
        self.assertStates([job], FINISHED)

    def test_oneWithoutAStoreEndsToo(self) -> None:
        jobs = self.putAll(self.makeQueue(width=1), "ab")
        self.settle()
        self.successResultOf(self.clock.stop())
        self.assertStates(jobs, CANCELLED, PENDING)


class InterpreterTests(EndingCase):
    """
    The interpreter ends, and the reactor does not run.
    """

    def setUp(self) -> None:
        super().setUp()
        # Queues that earlier tests have dropped would be ended, too.
        gc.collect()
        self.atExit: set[Callable[[], object]] = set()
        self.patch(atexit, "register", self.atExit.add)

    def end(self, queue: ResizableDispatchQueue) -> None:
        for function in self.atExit:
            function()

    def test_jobsAreGivenUpAndNobodyComplains(self) -> None:
        queue = self.makeQueue(width=1, size=2)
        jobs = [queue.put(name).job for name in "abc"[:2]]
        heard: list[Any] = []
        jobs[0].watch().addErrback(heard.append)
        queue.whenReady()
        self.settle()
        queue.put("c")
        queue.whenReady()
        self.end(queue)
        self.assertStates(jobs, CANCELLED, PENDING)
        self.assertEqual(len(heard), 1)
        del jobs, heard
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_inAStoreTheyWait(self) -> None:
        self.aside = SteppedAside()
        queue = self.makeDurable(width=1)
        self.putAll(queue, "ab")
        self.settle()
        self.aside.stepAll()
        self.end(queue)
        self.assertEqual([row[1] for row in self.rows()], ["waiting", "waiting"])
        self.assertTrue(self.isClosed())

    def test_aTaskQueueThatGoesFirstTakesNoneAlong(self) -> None:
        queue = self.makeDurable(width=1)
        self.putAll(queue, "a")
        self.settle()
        ended = threading.Thread()
        self.patch(threading, "main_thread", lambda: ended)
        self.held.fail("a", CancelledError())
        self.assertEqual(self.rows(), [('"a"', "waiting", 1)])

    def test_aQueueThatWasStoppedIsForgotten(self) -> None:
        queue = self.makeDurable(width=1)
        self.assertEqual(len(self.clock.triggers), 1)
        self.successResultOf(queue.stop())
        self.assertEqual(self.clock.triggers, [])

    def test_aQueueThatNobodyHasIsForgotten(self) -> None:
        queue = weakref.ref(ResizableDispatchQueue(far.echo, reactor=self.clock))
        gc.collect()
        self.assertIsNone(queue())
        self.assertEqual(self.clock.triggers, [])
