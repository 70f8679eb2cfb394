"""
Queues as services of Twisted: they are made at the start and drained at the stop.
"""

from __future__ import annotations

import signal
from typing import Any

from twisted.application.service import Application, IService, MultiService
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from asynqueue import ResizableDispatchQueue, TaskQueue
from asynqueue.errors import JobNotDispatched, QueueStopped, WorkerError
from asynqueue.service import QueueService
from asynqueue.testing import StepWorker
from tests.support.endingreactor import EndingClock


class ServiceCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = EndingClock()
        self.clock.handleSignals(self)
        self.worker = StepWorker()

    def makeService(self, drainTimeout: float | None = 5.0) -> QueueService[TaskQueue]:
        service = QueueService(
            TaskQueue, self.worker, drainTimeout=drainTimeout, reactor=self.clock
        )
        service.reactor = self.clock
        return service

    def stopReactor(self, service: Any, number: int | None = None) -> Deferred[None]:
        """
        Stop as C{twistd} does, which has registered this after the services were started.
        """
        self.clock.addSystemEventTrigger("before", "shutdown", service.stopService)
        return self.clock.stop(number)


class TaskQueueTests(ServiceCase):
    def test_theQueueIsMadeAtTheStart(self) -> None:
        service = self.makeService()
        error = self.assertRaises(QueueStopped, lambda: service.queue)
        self.assertIn("not started", str(error))
        service.startService()
        d = service.queue.call(len, "abc")
        self.worker.step()
        self.assertEqual(self.successResultOf(d), 3)
        self.successResultOf(service.stopService())
        self.assertEqual(self.clock.triggers, [])

    def test_aServiceOfAnApplicationStartsAndStopsWithIt(self) -> None:
        application = Application("mails")
        service = self.makeService()
        service.setServiceParent(application)
        IService(application).startService()
        self.assertTrue(service.queue.isRunning())
        self.successResultOf(IService(application).stopService())
        self.assertFalse(service.queue.isRunning())

    def test_theStopWaitsForWhatIsUnderwayAndRefusesWhatWaits(self) -> None:
        service = self.makeService()
        service.startService()
        underway, waiting = service.queue.call(len, "abc"), service.queue.call(len, "abc")
        stopped = service.stopService()
        self.failureResultOf(waiting, QueueStopped)
        self.assertRaises(QueueStopped, service.queue.call, len)
        self.assertNoResult(stopped)
        self.worker.step()
        self.assertEqual(self.successResultOf(underway), 3)
        self.assertIsNone(self.successResultOf(stopped))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_afterTheDrainTimeoutWhatIsUnderwayIsEnded(self) -> None:
        service = self.makeService(drainTimeout=3)
        service.startService()
        underway = service.queue.call(len, "abc")
        stopped = service.stopService()
        self.clock.advance(2.9)
        self.assertNoResult(stopped)
        self.clock.advance(0.1)
        self.failureResultOf(underway, WorkerError)
        self.successResultOf(stopped)

    def test_withoutADrainTimeoutThereIsNoLimit(self) -> None:
        service = self.makeService(drainTimeout=None)
        service.startService()
        underway, waiting = service.queue.call(len, "abc"), service.queue.call(len, "abc")
        stopped = service.stopService()
        self.failureResultOf(waiting, QueueStopped)
        self.clock.advance(1e6)
        self.assertNoResult(stopped)
        self.worker.step()
        self.assertEqual(self.successResultOf(underway), 3)
        self.successResultOf(stopped)

    def test_aSignalStopsTheReactorWhenTheServiceHasDrained(self) -> None:
        service = self.makeService()
        service.startService()
        underway = service.queue.call(len, "abc")
        stopped = self.stopReactor(service, signal.SIGTERM)
        self.assertNoResult(stopped)
        self.worker.step()
        self.assertEqual(self.successResultOf(underway), 3)
        self.successResultOf(stopped)

    def test_aSecondSignalEndsWhatIsUnderway(self) -> None:
        for number in (signal.SIGTERM, None):
            self.setUp()
            service = self.makeService()
            service.startService()
            underway = service.queue.call(len, "abc")
            if number is None:
                # The service stops first, and then the reactor.
                service.stopService()
            stopped = self.stopReactor(service, number)
            self.assertNoResult(stopped)
            signal.raise_signal(signal.SIGINT)
            self.failureResultOf(underway, WorkerError)
            self.successResultOf(stopped)
            self.assertEqual(self.clock.heard, [])

    def test_theFirstSignalDuringAStopIsTheReactors(self) -> None:
        service = self.makeService()
        service.startService()
        underway = service.queue.call(len, "abc")
        stopped = service.stopService()
        signal.raise_signal(signal.SIGTERM)
        self.assertEqual(self.clock.heard, [signal.SIGTERM])
        self.assertNoResult(stopped)
        over = self.stopReactor(service, signal.SIGTERM)
        self.assertNoResult(over)
        signal.raise_signal(signal.SIGTERM)
        self.failureResultOf(underway, WorkerError)
        self.successResultOf(stopped)
        self.successResultOf(over)

    def test_aServiceThatIsStartedAgainHasANewQueue(self) -> None:
        service = QueueService(lambda: TaskQueue(StepWorker(), reactor=self.clock))
        service.reactor = self.clock
        queues = []
        for _ in range(2):
            service.startService()
            queues.append(service.queue)
            self.successResultOf(service.stopService())
        self.assertIsNot(*queues)
        self.assertEqual([queue.isRunning() for queue in queues], [False, False])

    def test_stoppingTwiceOrBeforeTheStartIsHarmless(self) -> None:
        service = self.makeService()
        self.assertIsNone(self.successResultOf(service.stopService()))
        service.startService()
        service.queue.call(len, "abc")
        stops = [service.stopService(), service.stopService()]
        self.worker.step()
        for stopped in stops:
            self.assertIsNone(self.successResultOf(stopped))

    def test_aQueueThatTheProgramHasShutDownIsNotWaitedFor(self) -> None:
        service = self.makeService()
        service.startService()
        self.successResultOf(service.queue.shutdown())
        self.assertIsNone(self.successResultOf(service.stopService()))


class DispatchQueueTests(ServiceCase):
    def test_jobsUnderwayEndAndJobsThatWaitAreLeft(self) -> None:
        calls: list[Deferred[Any]] = []

        def send(number: str) -> Deferred[Any]:
            calls.append(Deferred())
            return calls[-1]

        services = MultiService()
        service = QueueService(ResizableDispatchQueue, send, width=1, reactor=self.clock)
        service.reactor = self.clock
        service.setServiceParent(services)
        services.startService()
        underway, waiting = service.queue.put("a"), service.queue.put("b")
        self.clock.advance(0)
        stopped = services.stopService()
        self.clock.advance(0)
        self.failureResultOf(waiting, JobNotDispatched)
        self.assertNoResult(stopped)
        calls[0].callback("sent")
        self.clock.advance(0)
        self.assertEqual(self.successResultOf(underway).result, "sent")
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])
