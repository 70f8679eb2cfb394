"""
How a queue ends with its program.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import threading
import weakref
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from zope.interface import provider

from asynqueue import AsyncWorker, TaskQueue, _lifecycle
from asynqueue._lifecycle import SecondSignal, exitSignal
from asynqueue.errors import IterationStopped, QueueStopped, WorkerError
from asynqueue.tasks import CANCELLED, STOPPED
from asynqueue.testing import far
from asynqueue.testing.stepworker import StepWorker
from tests.iteration.ledger import Notebook
from tests.support.cases import QueueCase
from tests.support.endingreactor import HANDLED, EndingClock


def handlers() -> list[Any]:
    return [signal.getsignal(number) for number in HANDLED]


class EndingCase(QueueCase):
    """
    A test case in which the clock's handlers, like a reactor's, replace those of Python.
    """

    clock: EndingClock

    def setUp(self) -> None:
        super().setUp()
        self.clock = EndingClock()
        self.clock.handleSignals(self)
        # The functions that the interpreter calls at its end.
        self.atExit: list[Any] = []
        self.patch(atexit, "register", self.atExit.append)
        self.patch(atexit, "unregister", self.forget)
        self.events: list[LogEvent] = []

        @provider(ILogObserver)
        def note(event: LogEvent) -> None:
            if event["log_namespace"].startswith(_lifecycle.__name__):
                self.events.append(event)

        globalLogPublisher.addObserver(note)
        self.addCleanup(globalLogPublisher.removeObserver, note)

    def forget(self, function: Any) -> None:
        if function in self.atExit:
            self.atExit.remove(function)

    def makeEnding(self, *workers: Any, drainTimeout: float | None = 5.0) -> TaskQueue:
        queue = TaskQueue(*workers, drainTimeout=drainTimeout, reactor=self.clock)
        self.queues.append(queue)
        return queue


class DrainTests(EndingCase):
    def test_whatWaitsIsRefusedAtOnce(self) -> None:
        worker = StepWorker()
        queue = self.makeEnding(worker)
        running = queue.call(far.echo, 1)
        waiting = [queue.call(far.echo), queue.call(far.echo, series="nobody's")]
        stopped = self.clock.stop(signal.SIGTERM)
        for d in waiting:
            self.assertIn("asked to end by SIGTERM", str(self.failureResultOf(d).value))
            self.assertNoResult(running)
        self.assertRaises(QueueStopped, queue.call, far.echo)
        self.assertNoResult(stopped)
        worker.step()
        self.assertEqual(self.successResultOf(running), 1)
        self.settle()
        self.successResultOf(stopped)
        self.assertEqual(worker.state, STOPPED)
        self.assertEqual(len(worker.past), 1)

    def test_theReactorWaitsForTheWorkers(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        self.makeEnding(worker)
        worker.stepAll()
        stopped = self.clock.stop(signal.SIGINT)
        self.settle()
        self.assertNoResult(stopped)
        worker.step()
        self.settle()
        self.successResultOf(stopped)

    def test_withNothingToWaitForItIsOverAtOnce(self) -> None:
        self.makeEnding(StepWorker())
        before = handlers()
        self.successResultOf(self.clock.stop(signal.SIGINT))
        self.assertEqual(handlers(), before)
        self.assertEqual(self.events, [])

    def test_whatIsGivenBackIsNotBegunAgain(self) -> None:
        worker, other = self.makeWorker(stepSeconds=None), StepWorker()
        queue = self.makeEnding(worker, other)
        worker.stepAll()
        queue.call(far.echo)
        d = queue.options(idempotent=True).call(far.echo)
        [mine] = [task for task in queue._engine.underway if task.worker is worker]
        self.assertIs(mine.d, d)
        other.step()
        stopped = self.clock.stop(signal.SIGINT)
        worker.die()
        worker.step()
        self.assertIn("SIGINT", str(self.errorOf(d, QueueStopped)))
        self.assertEqual(len(other.past), 1)
        self.clock.pump([0.1] * 20)
        self.successResultOf(stopped)

    def test_afterTheDeadlineWhatIsUnderwayFails(self) -> None:
        worker, other = self.makeWorker(stepSeconds=None), StepWorker()
        queue = self.makeEnding(worker, other, drainTimeout=3)
        worker.stepAll()
        running = [queue.call(far.echo), queue.call(far.echo)]
        stopped = self.clock.stop(signal.SIGTERM)
        self.clock.advance(2.99)
        for d in running:
            self.assertNoResult(d)
        self.clock.advance(0.01)
        for d in running:
            text = str(self.failureResultOf(d, WorkerError).value)
            self.assertIn("asked to end by SIGTERM, and 3 seconds have passed since", text)
        self.assertNoResult(stopped)
        worker.step()
        self.settle()
        self.successResultOf(stopped)
        self.assertEqual((worker.state, other.state), (STOPPED, STOPPED))

    def test_withoutTimeNothingIsWaitedFor(self) -> None:
        queue = self.makeEnding(StepWorker(), drainTimeout=0)
        d = queue.call(far.echo)
        stopped = self.clock.stop(signal.SIGTERM)
        self.errorOf(d, WorkerError)
        self.successResultOf(stopped)

    def test_withEndlessTimeEverythingIs(self) -> None:
        worker = StepWorker()
        queue = self.makeEnding(worker, drainTimeout=float("inf"))
        d = queue.call(far.echo, 1)
        stopped = self.clock.stop(signal.SIGTERM)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(1e9)
        self.assertNoResult(stopped)
        worker.step()
        self.assertEqual(self.resultOf(d), 1)
        self.successResultOf(stopped)

    def test_theTimeIsChecked(self) -> None:
        for wrong in (-1, float("nan")):
            self.assertRaises(ValueError, self.makeEnding, drainTimeout=wrong)

    def test_aQueueMayLeaveSignalsToOthers(self) -> None:
        worker = StepWorker()
        queue = self.makeEnding(worker, drainTimeout=None)
        self.clock.addSystemEventTrigger("before", "shutdown", queue.shutdown)
        running, waiting = queue.call(far.echo, 1), queue.call(far.echo, 2)
        stopped = self.clock.stop(signal.SIGINT)
        self.clock.advance(100)
        worker.step()
        worker.step()
        self.assertEqual((self.resultOf(running), self.resultOf(waiting)), (1, 2))
        self.successResultOf(stopped)

    def test_aShutdownThatHasBegunBecomesADrain(self) -> None:
        worker = StepWorker()
        queue = self.makeEnding(worker)
        running, waiting = queue.call(far.echo, 1), queue.call(far.echo, 2)
        done = queue.shutdown()
        stopped = self.clock.stop(signal.SIGINT)
        self.errorOf(waiting, QueueStopped)
        worker.step()
        self.assertEqual(self.resultOf(running), 1)
        self.successResultOf(done)
        self.successResultOf(stopped)

    def test_aCallbackMayShutDown(self) -> None:
        worker = StepWorker()
        queue = self.makeEnding(worker)
        running, waiting = queue.call(far.echo), queue.call(far.echo)
        done: list[Deferred[None]] = []
        waiting.addErrback(lambda _: done.append(queue.shutdown()))
        stopped = self.clock.stop(signal.SIGINT)
        worker.step()
        self.resultOf(running)
        self.successResultOf(done[0])
        self.successResultOf(stopped)

    def test_oneLineIsLogged(self) -> None:
        worker = StepWorker()
        queue = self.makeEnding(worker)
        queue.call(far.echo)
        self.clock.stop(signal.SIGTERM)
        [event] = self.events
        self.assertEqual(event["log_level"], LogLevel.info)
        self.assertEqual((event["count"], event["seconds"]), (1, 5.0))
        self.assertIn("second signal", event["log_format"])
        worker.step()


class StreamTests(EndingCase):
    """
    An iteration that is underway may end as well.
    """

    def test_oneThatSomebodyHasIsWaitedFor(self) -> None:
        queue = self.makeEnding(self.makeWorker())
        deferator = self.resultOf(queue.call(iter, range(3), raw=False))
        stopped = self.clock.stop(signal.SIGINT)
        self.settle()
        self.assertNoResult(stopped)
        items = [self.resultOf(Deferred.fromCoroutine(anext(deferator))) for _ in range(3)]
        self.assertNoResult(stopped)
        last = Deferred.fromCoroutine(anext(deferator))
        self.assertEqual(items, [0, 1, 2])
        self.errorOf(last, StopAsyncIteration)
        self.successResultOf(stopped)

    def test_oneThatBeginsMeanwhileIsWaitedFor(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = self.makeEnding(worker)
        worker.stepAll()
        d = queue.call(far.endless)
        stopped = self.clock.stop(signal.SIGINT)
        for _ in range(5):
            worker.step()
            self.settle()
        deferator = self.successResultOf(d)
        self.assertNoResult(stopped)
        deferator.stop()
        for _ in range(5):
            self.settle()
            worker.step()
        self.settle()
        self.successResultOf(stopped)

    def test_oneThatFeedsAConsumerIsWaitedFor(self) -> None:
        async def slowly() -> Any:
            for number in range(3):
                await tick
                yield number

        tick: Deferred[None] = Deferred()
        consumer = Notebook()
        queue = self.makeEnding(AsyncWorker(reactor=self.clock))
        d = queue.call(slowly, consumer=consumer)
        self.settle()
        stopped = self.clock.stop(signal.SIGINT)
        self.settle()
        self.assertNoResult(stopped)
        tick.callback(None)
        self.assertIs(self.resultOf(d), consumer)
        self.settle()
        self.successResultOf(stopped)

    def test_oneWithoutEndIsEndedAtTheDeadline(self) -> None:
        queue = self.makeEnding(self.makeWorker())
        deferator = self.resultOf(queue.call(far.endless))
        stopped = self.clock.stop(signal.SIGINT)
        self.clock.advance(4.99)
        self.assertNoResult(stopped)
        self.clock.advance(0.01)
        self.settle()
        self.successResultOf(stopped)
        self.assertIsInstance(deferator.source.failure.value, IterationStopped)

    def test_oneThatNobodyHasIsNot(self) -> None:
        queue = self.makeEnding(self.makeWorker())
        self.resultOf(queue.call(far.endless))
        gc.collect()
        stopped = self.clock.stop(signal.SIGINT)
        self.settle()
        self.successResultOf(stopped)


class SecondSignalTests(EndingCase):
    def test_itEndsWhatIsUnderwayAtOnce(self) -> None:
        queue = self.makeEnding(StepWorker())
        d = queue.call(far.echo)
        before = handlers()
        stopped = self.clock.stop(signal.SIGINT)
        self.assertNoResult(stopped)
        signal.raise_signal(signal.SIGTERM)
        error = self.errorOf(d, WorkerError)
        self.assertIn("asked to end by SIGINT, and then by SIGTERM to end at once", str(error))
        self.successResultOf(stopped)
        self.assertEqual(self.clock.heard, [], "the reactor cannot stop twice")
        self.assertEqual(handlers(), before)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_aThirdChangesNothing(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = self.makeEnding(worker)
        worker.stepAll()
        d = queue.call(far.echo)
        stopped = self.clock.stop(signal.SIGINT)
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
        self.errorOf(d, WorkerError)
        self.assertNoResult(stopped)
        worker.step()
        self.settle()
        self.successResultOf(stopped)

    def test_itEndsAllQueues(self) -> None:
        before = handlers()
        queues = [self.makeEnding(StepWorker()) for _ in range(3)]
        ds = [queue.call(far.echo) for queue in queues]
        stopped = self.clock.stop(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        for d in ds:
            self.errorOf(d, WorkerError)
        self.successResultOf(stopped)
        self.assertEqual(handlers(), before)

    def test_theHandlersAreRestoredInWhateverOrderTheQueuesEnd(self) -> None:
        for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2), (0, 2, 1)):
            self.clock = EndingClock()
            workers = [StepWorker() for _ in range(3)]
            for worker in workers:
                self.makeEnding(worker).call(far.echo)
            before = handlers()
            stopped = self.clock.stop(signal.SIGINT)
            for number in order:
                self.assertNoResult(stopped)
                self.assertNotEqual(handlers(), before)
                workers[number].step()
                self.settle()
            self.successResultOf(stopped)
            self.assertEqual(handlers(), before)

    def test_aHandlerOfTheProgramsHearsToo(self) -> None:
        heard: list[int] = []
        signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
        queue = self.makeEnding(StepWorker())
        d = queue.call(far.echo)
        self.clock.stop(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        self.errorOf(d, WorkerError)
        self.assertEqual(heard, [signal.SIGINT])

    def test_aSignalThatIsIgnoredStaysSo(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        worker = StepWorker()
        queue = self.makeEnding(worker)
        d = queue.call(far.echo)
        self.clock.stop(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        self.settle()
        self.assertNoResult(d)
        self.assertEqual(signal.getsignal(signal.SIGINT), signal.SIG_IGN)
        worker.step()
        self.assertIsNone(self.resultOf(d))

    def test_neitherPythonsHandlerNorTheSystemsIsCalled(self) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for number in HANDLED:
            self.clock = EndingClock()
            d = self.makeEnding(StepWorker()).call(far.echo)
            self.clock.stop(signal.SIGTERM)
            signal.raise_signal(number)
            self.errorOf(d, WorkerError)

    def test_whoeverHasKeptTheHandlerCallsThroughIt(self) -> None:
        heard: list[int] = []
        second = SecondSignal(self.clock, heard.append)
        second.install()
        kept: Any = signal.getsignal(signal.SIGINT)

        def theirs(number: int, frame: object) -> None:
            heard.append(-number)
            kept(number, frame)

        signal.signal(signal.SIGINT, theirs)
        second.uninstall()
        signal.raise_signal(signal.SIGINT)
        self.assertEqual((heard, self.clock.heard), ([-signal.SIGINT], [signal.SIGINT]))

    def test_onlyTheMainThreadListens(self) -> None:
        before = handlers()
        second = SecondSignal(self.clock, lambda number: None)
        thread = threading.Thread(target=second.install)
        thread.start()
        thread.join()
        self.assertEqual(handlers(), before)
        second.uninstall()
        self.assertEqual(handlers(), before)


class ReactorStopTests(EndingCase):
    """
    The reactor is stopped, and not by a signal.
    """

    def test_nothingIsWaitedForAndEveryDeferredFires(self) -> None:
        waiting: Deferred[None] = Deferred()
        queue = self.makeEnding(AsyncWorker(reactor=self.clock))
        running = queue.call(lambda: waiting)
        self.settle()
        pending = [queue.call(far.echo), queue.call(far.echo, series="nobody's")]
        self.successResultOf(self.clock.stop())
        text = str(self.failureResultOf(running, WorkerError).value)
        self.assertIn("the reactor has stopped", text)
        for d in pending:
            self.failureResultOf(d, QueueStopped)
        self.assertTrue(waiting.called, "it was cancelled")

    def test_theWorkersCleanUpFirst(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = self.makeEnding(worker)
        worker.stepAll()
        ds = [queue.call(far.echo) for _ in range(3)]
        self.successResultOf(self.clock.stop())
        for d in ds:
            self.assertIn(
                "the reactor is stopping", str(self.failureResultOf(d, WorkerError).value)
            )
        self.assertEqual(worker.state, STOPPED)

    def test_whoeverShutsItDownIsWaitedFor(self) -> None:
        worker = StepWorker()
        queue = self.makeEnding(worker)
        self.clock.addSystemEventTrigger("before", "shutdown", queue.shutdown)
        ds = [queue.call(far.echo, 1), queue.call(far.echo, 2)]
        stopped = self.clock.stop()
        worker.step()
        worker.step()
        self.assertEqual([self.resultOf(d) for d in ds], [1, 2])
        self.successResultOf(stopped)

    def test_aClockWithoutTriggersDoes(self) -> None:
        self.assertIsNone(exitSignal(object()))
        queue = self.makeQueue(StepWorker())
        queue.call(far.echo)


class InterpreterTests(EndingCase):
    """
    The interpreter ends.
    """

    def end(self) -> None:
        while self.atExit:
            self.atExit.pop()()

    def test_tasksAreCancelled(self) -> None:
        worker, other = StepWorker(), self.makeWorker(stepSeconds=None)
        queue = self.makeEnding(worker, other)
        other.stepAll()
        tasks = [queue.submit(far.echo) for _ in range(5)]
        outcomes: list[Any] = []
        for task in tasks[:4]:
            task.d.addBoth(lambda failure: outcomes.append(failure.type))
        self.end()
        self.assertEqual({task.state for task in tasks}, {CANCELLED})
        self.assertEqual(outcomes, [CancelledError] * 4)
        self.assertEqual((worker.state, other.state), (STOPPED, STOPPED))
        self.assertEqual(len(worker.past), 1, "none has begun since")
        self.assertRaises(QueueStopped, queue.call, far.echo)
        del tasks, task
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])
        self.forgetQueues()

    def test_nobodyHearsOfWorkersThatWereNotReady(self) -> None:
        queue = self.makeEnding()
        queue.attachWorker(self.makeWorker(stepSeconds=None))
        queue.call(far.echo)
        self.end()
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])
        self.forgetQueues()

    def test_iterationsOfConsumersAreCancelled(self) -> None:
        queue = self.makeEnding(self.makeWorker())
        consumer = Notebook(lambda _: consumer.producer.pauseProducing())
        task = queue.options(consumer=consumer).submit(far.endless)
        self.settle()
        self.end()
        self.assertEqual(task.state, CANCELLED)
        self.forgetQueues()

    def test_oneThatCannotBeCancelledHoldsUpNoOther(self) -> None:
        class Broken(StepWorker):
            def cancel(self, task: Any) -> None:
                raise ZeroDivisionError

        queue = self.makeEnding(Broken())
        tasks = [queue.submit(far.echo) for _ in range(2)]
        self.end()
        self.assertEqual([task.state for task in tasks], [CANCELLED, CANCELLED])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.forgetQueues()

    def test_aForkedProcessEndsNothing(self) -> None:
        worker = StepWorker()
        queue = self.makeEnding(worker)
        d = queue.call(far.echo)
        pid = os.getpid()
        self.patch(os, "getpid", lambda: pid + 1)
        self.end()
        self.assertNoResult(d)
        worker.step()

    def test_aQueueThatWasShutDownIsForgotten(self) -> None:
        queue = self.makeEnding(StepWorker())
        self.assertEqual((len(self.clock.triggers), len(self.atExit)), (1, 1))
        self.resultOf(queue.shutdown())
        self.assertEqual((self.clock.triggers, self.atExit), ([], []))

    def test_aQueueThatHasDrainedIsForgotten(self) -> None:
        worker = StepWorker()
        queue = self.makeEnding(worker)
        queue.call(far.echo)
        self.clock.stop(signal.SIGINT)
        worker.step()
        self.settle()
        self.assertEqual((self.clock.triggers, self.atExit), ([], []))

    def test_aQueueThatNobodyHasIsForgotten(self) -> None:
        with pytest.warns(ResourceWarning):
            queue = weakref.ref(TaskQueue(StepWorker(), reactor=self.clock))
            gc.collect()
        self.assertIsNone(queue())
        self.settle()
        self.assertEqual((self.clock.triggers, self.atExit), ([], []))

    def forgetQueues(self) -> None:
        # They begin nothing after that, not even a shutdown.
        self.queues.clear()
        for call in list(self.clock.getDelayedCalls()):
            call.cancel()
