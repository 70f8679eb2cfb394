"""
A dispatch queue's observers get every event of every job once and in order, and its jobs know how
far they have come.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import Any

from twisted.internet.defer import Deferred

from asynqueue import AsyncWorker, Event, LoggingObserver, Retry, TaskQueue, report
from asynqueue.errors import QueueStopped, StoreError
from asynqueue.rdq import Job, ResizableDispatchQueue
from asynqueue.testing.stepworker import StepWorker
from tests.dispatch.cases import DispatchCase, firings
from tests.dispatch.stored import DurableCase, SteppedAside


class Heard:
    """
    An observer that gathers the events.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def kinds(self, jobarg: object = None) -> list[str]:
        return [
            event.kind
            for event in self.events
            if jobarg is None or (event.job is not None and event.job.jobarg == jobarg)
        ]

    def take(self) -> list[str]:
        """
        @return: the kinds of the events since the last call.
        """
        kinds = self.kinds()
        self.events.clear()
        return kinds


class EventTests(DispatchCase):
    def setUp(self) -> None:
        super().setUp()
        self.heard = Heard()

    def observed(self, width: int = 1, **keywords: Any) -> ResizableDispatchQueue:
        return self.makeQueue(width=width, observers=[self.heard], **keywords)

    def test_aJobIsQueuedStartedAndFinished(self) -> None:
        queue = self.observed()
        job = self.silenced(queue.put("a")).job
        assert self.heard.take() == ["QUEUED"]
        self.clock.advance(1)
        assert self.heard.kinds() == ["STARTED"]
        self.clock.advance(2)
        self.held.finish("a")
        started, finished = self.heard.events
        assert (started.kind, finished.kind) == ("STARTED", "FINISHED")
        assert (started.time, finished.time) == (1, 3)
        for event in self.heard.events:
            assert event.job is job
            assert (event.task, event.worker, event.reason) == (None, None, None)

    def test_anAttemptThatFailsIsRetriedAndTheLastOneFails(self) -> None:
        queue = self.observed(retry=Retry(2, delays=lambda attempts: 5.0))
        d = queue.put("a")
        self.settle()
        first, last = ValueError("first"), ValueError("last")
        self.held.fail("a", first)
        assert self.heard.kinds() == ["QUEUED", "STARTED", "RETRYING"]
        assert self.heard.events[-1].reason is first
        self.clock.advance(5)
        self.held.fail("a", last)
        assert self.heard.kinds()[3:] == ["STARTED", "FAILED"]
        assert self.heard.events[-1].reason is last
        self.failureResultOf(d, ValueError)

    def test_jobsThatWaitAndThatAreUnderwayAreCancelled(self) -> None:
        queue = self.observed()
        underway, waiting, cleared = self.putAll(queue, "abc")
        self.settle()
        underway.cancel()
        waiting.cancel()
        queue.clearQueue()
        self.settle()
        assert self.heard.kinds("a") == ["QUEUED", "STARTED", "CANCELLED"]
        assert self.heard.kinds("b") == ["QUEUED", "CANCELLED"]
        assert self.heard.kinds("c") == ["QUEUED", "CANCELLED"]
        assert self.heard.events[-1].reason is cleared.failure.value

    def test_stopLeavesWhatWaitsAndCancelsWhatIsUnderwayIfAsked(self) -> None:
        queue = self.observed()
        self.putAll(queue, "ab")
        self.settle()
        queue.stop(cancelUnderway=True)
        assert self.heard.kinds("a") == ["QUEUED", "STARTED", "CANCELLED"]
        assert self.heard.kinds("b") == ["QUEUED"]

    def test_eventsComeBeforeTheDeferredsAndWithTheQueueUpToDate(self) -> None:
        order: list[Any] = []
        queue = self.makeQueue(width=1)

        def observe(event: Event) -> None:
            assert event.job is not None
            order.append((event.kind, event.job.state, queue.size()))

        queue.addObserver(observe)
        queue.put("a").addCallback(lambda job: order.append("fired"))
        self.settle()
        self.held.finish("a")
        assert order == [
            ("QUEUED", "PENDING", (0, 1)),
            ("STARTED", "UNDERWAY", (1, 0)),
            ("FINISHED", "FINISHED", (0, 0)),
            "fired",
        ]

    def test_theFunctionIsCalledAfterStarted(self) -> None:
        queue = self.observed()
        begun: list[list[Any]] = []
        queue.addObserver(lambda event: begun.append([*self.held.begun]))
        self.putAll(queue, "a")
        self.settle()
        assert begun == [[], []]
        assert self.held.begun == ["a"]

    def test_anObserverMayCancelTheJobThatIsAboutToBegin(self) -> None:
        queue = self.observed()
        queue.addObserver(self.on("STARTED", Job.cancel))
        d = queue.put("a")
        fired = firings(d)
        self.settle()
        assert self.heard.kinds() == ["QUEUED", "STARTED", "CANCELLED"]
        assert (self.held.begun, queue.size(), len(fired)) == ([], (0, 0), 1)

    def test_anObserverMayCancelTheJobThatIsToBeTriedAgain(self) -> None:
        queue = self.observed(retry=Retry(5))
        queue.addObserver(self.on("RETRYING", Job.cancel))
        fired = firings(queue.put("a"))
        self.settle()
        self.held.fail("a", ValueError())
        self.clock.advance(100)
        assert self.heard.kinds() == ["QUEUED", "STARTED", "RETRYING", "CANCELLED"]
        assert (queue.size(), len(fired)) == ((0, 0), 1)

    def test_anObserverMayCancelTheJobThatIsBeingPut(self) -> None:
        queue = self.observed()
        queue.addObserver(self.on("QUEUED", Job.cancel))
        fired = firings(queue.put("a"))
        self.settle()
        assert self.heard.kinds() == ["QUEUED", "CANCELLED"]
        assert (self.held.begun, len(fired)) == ([], 1)

    def test_anObserverMayPutAndStop(self) -> None:
        queue = self.observed()
        queue.addObserver(self.on("FINISHED", lambda job: self.putAll(queue, "b")))
        queue.addObserver(self.on("FINISHED", lambda job: queue.stop()))
        self.putAll(queue, "a")
        self.settle()
        self.held.finish("a")
        assert self.heard.kinds("a") == ["QUEUED", "STARTED", "FINISHED"]
        assert self.heard.kinds() == ["QUEUED", "STARTED", "FINISHED", "QUEUED"]
        assert queue.stopped

    def on(self, kind: str, act: Callable[[Job], object]) -> Callable[[Event], None]:
        def observe(event: Event) -> None:
            if event.kind == kind and event.job is not None:
                act(event.job)

        return observe

    def test_oneThatRaisesHarmsNothing(self) -> None:
        queue = self.makeQueue(width=1)

        def fail(event: Event) -> None:
            raise KeyError(event.kind)

        queue.addObserver(fail)
        queue.addObserver(self.heard)
        d = queue.put("a")
        self.settle()
        self.held.finish("a")
        assert self.successResultOf(d).result == "a!"
        assert self.heard.kinds() == ["QUEUED", "STARTED", "FINISHED"]
        raised = [failure.value.args[0] for failure in self.flushLoggedErrors(KeyError)]
        assert raised == ["QUEUED", "STARTED", "FINISHED"]

    def test_observersComeAndGo(self) -> None:
        queue = self.observed()
        other = Heard()
        queue.addObserver(other)
        queue.addObserver(other)
        self.putAll(queue, "a")
        queue.removeObserver(self.heard)
        self.settle()
        assert (self.heard.kinds(), other.kinds()) == (["QUEUED"], ["QUEUED", "STARTED"])
        with self.assertRaises(ValueError):
            queue.removeObserver(self.heard)
        with self.assertRaises(TypeError):
            queue.addObserver(3)  # type: ignore[arg-type]
        with self.assertRaises(TypeError):
            ResizableDispatchQueue(self.held, observers=[3], reactor=self.clock)  # type: ignore[list-item]

    def test_aRefusedPutIsNoEvent(self) -> None:
        queue = self.observed(width=0)
        with self.assertRaises(ValueError):
            queue.put("a", priority="high")  # type: ignore[arg-type]
        queue.stop()
        with self.assertRaises(QueueStopped):
            queue.put("a")
        assert self.heard.events == []

    def test_theStandardLogHearsOfJobs(self) -> None:
        logger = logging.Logger("test", logging.INFO)
        records: list[logging.LogRecord] = []
        logger.addFilter(lambda record: records.append(record) or False)  # type: ignore[func-returns-value]
        queue = self.makeQueue(width=3, observers=[LoggingObserver(spew=True, logger=logger)])
        jobs = self.putAll(queue, "abc")
        self.settle()
        self.held.finish("a")
        self.held.fail("b", ValueError("no"))
        jobs[2].cancel()
        assert [(record.levelname, record.getMessage()) for record in records] == [
            ("INFO", "job 1, 'a' -> 'a!'"),
            ("ERROR", "job 2, 'b' failed: ValueError: no"),
            ("INFO", "job 3, 'c' was cancelled"),
        ]


class StoredEventTests(DurableCase):
    def setUp(self) -> None:
        super().setUp()
        self.heard = Heard()

    def observed(self, width: int = 1, **keywords: Any) -> ResizableDispatchQueue:
        return self.makeDurable(width=width, observers=[self.heard], **keywords)

    def test_aJobThatFailsForGoodIsADeadLetterAndMayWaitAgain(self) -> None:
        queue = self.observed()
        self.putAll(queue, "a", unique="key")
        self.settle()
        why = ValueError("no")
        self.held.fail("a", why)
        assert self.heard.kinds() == ["QUEUED", "STARTED", "FAILED", "DEAD_LETTERED"]
        assert [event.reason for event in self.heard.events[2:]] == [why, why]
        self.heard.events.clear()
        [letter] = self.lettersOf(queue)
        job = self.successResultOf(queue.retryDeadLetter(letter))
        self.settle()
        self.held.finish("a")
        assert self.heard.kinds() == ["QUEUED", "STARTED", "FINISHED"]
        assert all(event.job is job for event in self.heard.events)

    def test_anEndIsToldBeforeItIsOnDiskAndTheDeferredFiresAfterThat(self) -> None:
        self.aside = SteppedAside()
        queue = self.observed()
        fired = firings(queue.put("a"))
        self.settle()
        assert self.heard.kinds() == ["QUEUED", "STARTED"]
        assert self.held.begun == []
        self.aside.stepAll()
        self.settle()
        self.held.finish("a")
        assert self.heard.kinds() == ["QUEUED", "STARTED", "FINISHED"]
        assert fired == []
        self.aside.stepAll()
        assert len(fired) == 1

    def test_anObserverMayPutAJobWithTheKeyOfTheOneThatEnded(self) -> None:
        queue = self.observed()
        again: list[Job] = []

        def observe(event: Event) -> None:
            if event.kind == "FINISHED" and not again:
                again.append(self.silenced(queue.put("b", unique="key", mayStand=False)).job)

        queue.addObserver(observe)
        self.putAll(queue, "a", unique="key")
        self.settle()
        self.held.finish("a")
        self.settle()
        assert self.rows() == [('"b"', "begun", 1)]
        self.held.finish("b")
        assert self.rows() == []
        assert self.heard.kinds("b") == ["QUEUED", "STARTED", "FINISHED"]

    def test_aStartThatCannotBeWrittenIsGivenBack(self) -> None:
        queue = self.observed(width=0)
        self.putAll(queue, "a")
        self.store.isBroken = True
        queue.width = 1
        self.settle()
        assert self.heard.kinds()[:3] == ["QUEUED", "STARTED", "GIVEN_BACK"]
        assert self.held.begun == []
        self.store.isBroken = False
        self.heard.events.clear()
        self.clock.advance(60)
        self.held.finish("a")
        assert self.heard.kinds()[-2:] == ["STARTED", "FINISHED"]
        self.flushLoggedErrors(StoreError)

    def test_eventsAreInOrderWhateverIsWrittenAtOnce(self) -> None:
        self.store.isBroken = True
        queue = self.observed(width=0)
        self.failureResultOf(queue.put("a"), StoreError)
        assert self.heard.take() == ["QUEUED", "FAILED"]
        self.store.isBroken = False
        begun: list[list[str]] = []
        queue.addObserver(lambda event: begun.append([*self.held.begun]))
        queue.width = 1
        self.putAll(queue, "b")
        self.settle()
        assert (self.heard.take(), begun) == (["QUEUED", "STARTED"], [[], []])
        self.flushLoggedErrors(StoreError)

    def test_aDeadLetterThatCannotBeTakenIsNoEvent(self) -> None:
        queue = self.observed()
        self.putAll(queue, "a")
        self.settle()
        self.held.fail("a", ValueError("no"))
        [letter] = self.lettersOf(queue)
        self.successResultOf(queue.dropDeadLetter(letter))
        self.heard.events.clear()
        with self.assertRaises(StoreError):
            queue.retryDeadLetter(letter)
        self.settle()
        assert self.heard.events == []

    def test_aJobThatCannotBeSavedFails(self) -> None:
        self.aside = SteppedAside()
        queue = self.observed(width=0)
        d = queue.put("a")
        self.store.isBroken = True
        self.aside.stepAll()
        self.failureResultOf(d, StoreError)
        assert self.heard.kinds() == ["QUEUED", "FAILED"]
        assert isinstance(self.heard.events[-1].reason, StoreError)
        self.flushLoggedErrors(StoreError)

    def test_jobsFromTheStoreAreQueuedOnceTheProgramHasTheQueue(self) -> None:
        self.putAll(self.makeDurable(), "ab")
        self.crash()
        queue = self.observed()
        assert self.heard.events == []
        self.settle()
        assert self.heard.kinds() == ["QUEUED", "QUEUED", "STARTED"]
        assert self.held.begun == ["a"]
        assert len(queue.pending()) == 1

    def test_aJobFromTheStoreThatHasNoKeyForItsRateIsDead(self) -> None:
        self.putAll(self.makeDurable(), "ab")
        self.crash()

        def keyOf(jobarg: str) -> str:
            if jobarg == "a":
                raise ZeroDivisionError
            return jobarg

        self.observed(width=0, rate=5, rateKey=keyOf)
        self.settle()
        assert self.heard.kinds("a") == ["QUEUED", "FAILED", "DEAD_LETTERED"]
        assert self.heard.kinds("b") == ["QUEUED"]
        dead = self.heard.events[1].job
        assert dead is not None
        self.failureResultOf(dead.watch(), ZeroDivisionError)


setting: ContextVar[str] = ContextVar("setting", default="outside")


class ProgressTests(DispatchCase):
    def setUp(self) -> None:
        super().setUp()
        self.heard = Heard()
        self.waits: list[Deferred[None]] = []

    def progressOf(self, job: Job) -> tuple[Any, ...] | None:
        return None if job.progress is None else tuple(job.progress)

    async def work(self, jobarg: object) -> str:
        report(1)
        self.waits.append(Deferred())
        await self.waits[-1]
        report(2, 3)
        self.waits.append(Deferred())
        await self.waits[-1]
        return "done"

    def test_theFunctionTellsHowFarItIs(self) -> None:
        queue = self.makeQueue(self.work, 1, observers=[self.heard])
        [job] = self.putAll(queue, "a")
        assert self.progressOf(job) is None
        self.clock.advance(1)
        assert self.progressOf(job) == (1, None, 1)
        self.clock.advance(1)
        self.waits[0].callback(None)
        assert self.progressOf(job) == (2, 3, 2)
        self.waits[1].callback(None)
        assert self.progressOf(job) == (2, 3, 2)
        assert self.heard.kinds() == ["QUEUED", "STARTED", "PROGRESSED", "PROGRESSED", "FINISHED"]

    def test_jobsThatAreUnderwayTogetherEachHaveTheirOwn(self) -> None:
        queue = self.makeQueue(self.work, 2)
        one, two = self.putAll(queue, "ab")
        self.settle()
        self.waits[1].callback(None)
        assert (self.progressOf(one), self.progressOf(two)) == ((1, None, 0), (2, 3, 0))

    def test_aReportThatComesTooLateIsDropped(self) -> None:
        late: list[Any] = []

        def function(jobarg: Any) -> Any:
            context = copy_context()
            late.append(lambda: context.run(report, 9, 9))
            return self.held(jobarg)

        queue = self.makeQueue(function, 1, observers=[self.heard], retry=Retry(2, delays=float))
        [job] = self.putAll(queue, "a")
        self.settle()
        self.held.fail("a", ValueError())
        late[0]()
        self.clock.advance(60)
        late[0]()
        assert self.progressOf(job) is None
        late[1]()
        assert self.progressOf(job) == (9, 9, 60)
        self.held.finish("a")
        late[1]()
        assert self.heard.kinds().count("PROGRESSED") == 1

    def test_aThreadWithTheContextOfTheFunctionReportsToo(self) -> None:
        def function(jobarg: object) -> None:
            thread = threading.Thread(target=copy_context().run, args=(report, 1, 2))
            thread.start()
            thread.join()

        queue = self.makeQueue(function, 1)
        [job] = self.putAll(queue, "a")
        self.settle()
        assert self.progressOf(job) == (1, 2, 0)

    def test_eachFunctionHasAContextOfItsOwn(self) -> None:
        seen: list[str] = []

        def function(jobarg: str) -> None:
            seen.append(setting.get())
            setting.set(jobarg)

        queue = self.makeQueue(function, 2)
        self.putAll(queue, "ab")
        self.settle()
        assert (seen, setting.get()) == (["outside", "outside"], "outside")

    def test_aReportOutsideOfAJobIsNobodys(self) -> None:
        queue = self.makeQueue(lambda jobarg: None, 1)
        d = queue.put("a")
        d.addCallback(lambda job: report(5))
        self.settle()
        self.successResultOf(d)
        assert d.job.progress is None

    def test_anObserverThatCancelsAtAReportEndsTheJob(self) -> None:
        def observe(event: Event) -> None:
            if event.kind == "PROGRESSED" and event.job is not None:
                event.job.cancel()

        queue = self.makeQueue(self.work, 1, observers=[self.heard, observe])
        d = queue.put("a")
        fired = firings(d)
        self.settle()
        assert self.heard.kinds() == ["QUEUED", "STARTED", "PROGRESSED", "CANCELLED"]
        assert (queue.size(), len(fired)) == ((0, 0), 1)


class TaskQueueProgressTests(DispatchCase):
    """
    Where a task queue calls the function, the task's progress is the job's.
    """

    def setUp(self) -> None:
        super().setUp()
        self.heard = Heard()

    def stepped(self, **keywords: Any) -> ResizableDispatchQueue:
        self.worker = StepWorker()
        self.tasks = TaskQueue(self.worker, reactor=self.clock)
        caller = self.tasks.options(**keywords) if keywords else self.tasks
        return self.makeQueue(len, 1, queue=caller, observers=[self.heard])

    def end(self) -> None:
        self.tasks.shutdown()
        self.settle()

    def test_theTasksProgressIsTheJobs(self) -> None:
        queue = self.stepped()
        [job] = self.putAll(queue, ["abc"])
        self.clock.advance(4)
        [task] = self.tasks.tasks()
        task.reported(1, 2)
        assert tuple(job.progress) == (1, 2, 4)
        self.settle()
        assert self.heard.kinds() == ["QUEUED", "STARTED", "PROGRESSED"]
        task.reported(2, 2)
        task.callback(3)
        self.settle()
        assert self.heard.kinds()[3:] == ["PROGRESSED", "FINISHED"]
        assert (job.result, tuple(job.progress)) == (3, (2, 2, 4))
        self.end()

    def test_theOptionsOfATaskQueueDoTheSame(self) -> None:
        queue = self.stepped(niceness=1)
        [job] = self.putAll(queue, ["abc"])
        self.settle()
        [task] = self.tasks.tasks()
        task.reported(1, 2)
        assert tuple(job.progress) == (1, 2, 0)
        task.callback(3)
        self.end()

    def test_aFunctionMayReturnTheDeferredOfATask(self) -> None:
        tasks = TaskQueue(AsyncWorker(reactor=self.clock), reactor=self.clock)

        def work(jobarg: int) -> int:
            report(jobarg, 10)
            return jobarg

        queue = self.makeQueue(lambda jobarg: tasks.call(work, jobarg), 1)
        [job] = self.putAll(queue, [7])
        self.settle()
        self.settle()
        assert (job.result, tuple(job.progress)) == (7, (7, 10, 0))
        tasks.shutdown()
        self.settle()
