"""
Watching a queue whose workers are processes.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from twisted.internet.defer import CancelledError

from asynqueue import Delay, Event, ThreadQueue, report
from asynqueue._observers import HIRED, LEFT, PROGRESSED, QUEUED, REPLACED, STARTED
from asynqueue.errors import WorkerDetached, WorkerDied
from asynqueue.tasks import FAILED, FINISHED, LOST
from asynqueue.testing import far
from tests.support.processes import ProcessTestCase, isGone


def reportTwice() -> None:
    """
    Say how far this has come, at once and at the end.
    """
    report(1, 2)
    time.sleep(0.1)
    report(2, 2)


class WatchingTests(ProcessTestCase):
    async def test_observersHearOfProcesses(self) -> None:
        events: list[Event] = []
        queue = self.makeQueue(1, observers=[events.append])
        await queue.call(far.echo)
        await self.errorOf(queue.call(os._exit, 3), WorkerDied)
        await queue.call(far.echo)
        await queue.shutdown()
        ofTasks = [event.kind for event in events if event.task is not None]
        ofWorkers = [event.kind for event in events if event.task is None]
        whole = [QUEUED, STARTED, FINISHED]
        self.assertEqual(ofTasks, [*whole, QUEUED, STARTED, FAILED, *whole])
        self.assertEqual(ofWorkers, [HIRED, LOST, REPLACED, LEFT])

    async def test_progressComesWhileTheTaskRuns(self) -> None:
        seen: list[Any] = []

        def observe(event: Event) -> None:
            if event.kind == PROGRESSED and event.task is not None:
                seen.append((event.task.state, event.task.progress[:2]))

        queue = self.makeQueue(1, observers=[observe])
        task = queue.submit(reportTwice)
        await task
        self.assertEqual(seen[0], ("UNDERWAY", (1, 2)))
        self.assertEqual(task.progress[:2], (2, 2))

    async def test_aReportIsToldOnce(self) -> None:
        events: list[Event] = []
        go = threading.Event()

        def reportAndWait() -> None:
            report(1, 2)
            go.wait(10)

        queue = self.manage(ThreadQueue(1, observers=[events.append]))
        task = queue.submit(reportAndWait)
        await self.until(lambda: task.progress is not None)
        go.set()
        await task
        ofTask = [event.kind for event in events if event.task is task]
        self.assertEqual(ofTask, [QUEUED, STARTED, PROGRESSED, FINISHED])

    async def test_crashingTheWorkersEndsTheirProcesses(self) -> None:
        queue = self.makeQueue(2)
        pids = await queue.update(os.getpid)
        running = [queue.submit(time.sleep, 1000) for _ in range(2)]
        await Delay()(0)
        unfinished = await queue.crashWorkers()
        self.assertEqual(sorted(task.id for task in unfinished), [task.id for task in running])
        for task in running:
            await self.errorOf(task.d, WorkerDetached)
        self.assertTrue(all(isGone(pid) for pid in pids))

    async def test_allCanBeCancelledAtOnce(self) -> None:
        queue = self.makeQueue(1)
        await queue.call(far.echo)
        ds = [queue.call(time.sleep, 1000) for _ in range(3)]
        await Delay()(0)
        self.assertEqual(queue.cancelAll(), 2)
        self.assertEqual(queue.cancelAll(underway=True), 1)
        for d in ds:
            await self.errorOf(d, CancelledError)
        self.assertEqual(await queue.call(far.echo, 1), 1)

    async def test_aSequentialUpdateIsRunByOneProcessAfterTheOther(self) -> None:
        queue = self.makeQueue(2)
        spans = await queue.update(sleepSpan, 0.1, sequential=True)
        (_, firstEnd), (secondStart, _) = spans
        self.assertLessEqual(firstEnd, secondStart)


def sleepSpan(seconds: float) -> tuple[float, float]:
    """
    @return: when a sleep began and ended.
    """
    begun = time.monotonic()
    time.sleep(seconds)
    return begun, time.monotonic()
