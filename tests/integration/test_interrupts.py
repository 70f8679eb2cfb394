"""
The cost of cancelling calls while they run.
"""

from __future__ import annotations

import os
import signal
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, gatherResults

from asynqueue import ListConsumer, ProcessQueue
from asynqueue.errors import TaskTimeout
from asynqueue.tasks import CANCELLED, FAILED
from asynqueue.testing import far
from tests.integration import tasks
from tests.support.processes import ProcessTestCase, isGone


class InterruptTests(ProcessTestCase):
    """
    The rungs of the termination: ask, SIGTERM, SIGKILL.
    """

    async def start(self, N: int = 1) -> ProcessQueue:
        queue = self.makeQueue(N)
        self.pids = await queue.update(os.getpid, ephemeral=True)
        return queue

    async def begin(self, queue: ProcessQueue, *call: Any, **options: Any) -> Any:
        """
        @return: a task, when it is running.
        """
        path = self.makeFolder() / "runs"
        task = queue.submit(tasks.touchAnd, str(path), *call, **options)
        await self.until(path.exists)
        return task

    # Alarms ---------------------------------------------------------------------------------------

    async def test_anAlarmThatATaskLeavesBehindHitsNoOtherTask(self) -> None:
        queue = await self.start()
        none = (0.0, 0.0)
        self.assertEqual(await queue.call(signal.setitimer, signal.ITIMER_REAL, 60.0), none)
        self.assertEqual(await queue.call(signal.getitimer, signal.ITIMER_REAL), none)
        await self.errorOf(queue.call(tasks.setAlarm), ValueError)
        self.assertEqual(await queue.call(signal.getitimer, signal.ITIMER_REAL), none)

    async def test_aTimerThatGoesOffAgainAndAgainIsLeftAlone(self) -> None:
        queue = await self.start()
        await queue.update(signal.setitimer, signal.ITIMER_REAL, 60.0, 60.0)
        self.assertEqual((await queue.call(signal.getitimer, signal.ITIMER_REAL))[1], 60.0)

    async def test_theAlarmOfAStreamOutlivesTheCallsMeanwhile(self) -> None:
        queue = await self.start()
        left = []
        async for seconds in await queue.call(tasks.alarmed):
            left.append(seconds)
            if len(left) == 1:
                await queue.call(far.echo, 1)
        self.assertEqual(len(left), 3000)
        self.assertGreater(min(left), 0.0)

    # Ask ------------------------------------------------------------------------------------------

    async def test_aSleepingTaskIsCancelledAndItsProcessGoesOn(self) -> None:
        queue = await self.start()
        task = await self.begin(queue, tasks.sleepAwhile)
        task.cancel()
        await self.errorOf(task.d, CancelledError)
        self.assertEqual(task.state, CANCELLED)
        self.assertEqual([await queue.call(os.getpid)], self.pids)

    async def test_aBusyTaskIsCancelledAndItsProcessGoesOn(self) -> None:
        queue = await self.start()
        task = await self.begin(queue, tasks.sleepOr, tasks.AWHILE)
        task.cancel()
        await self.errorOf(task.d, CancelledError)
        self.assertEqual([await queue.call(os.getpid)], self.pids)

    async def test_aTaskThatTimesOutIsAskedFirstToo(self) -> None:
        queue = await self.start()
        task = queue.submit(tasks.sleepAwhile, timeout=0.2)
        await self.errorOf(task.d, TaskTimeout)
        self.assertEqual(task.state, FAILED)
        self.assertEqual([await queue.call(os.getpid)], self.pids)

    async def test_aTaskMayAnswerWithAResultThatIsDropped(self) -> None:
        queue = await self.start()
        task = await self.begin(queue, tasks.swallowOnce)
        task.cancel()
        await self.errorOf(task.d, CancelledError)
        self.assertEqual([await queue.call(os.getpid)], self.pids)
        self.assertIsNone(task.result)

    async def test_aGeneratorThatSleepsIsStoppedAndItsProcessGoesOn(self) -> None:
        queue = await self.start()
        deferator = await queue.call(tasks.numbersThenSleep, 2)
        self.assertEqual(await deferator.__anext__(), 0)
        self.assertEqual(await deferator.__anext__(), 1)
        deferator.stop()
        self.assertEqual([await queue.call(os.getpid)], self.pids)

    async def test_aCallWithAConsumerIsCancelledInMidStream(self) -> None:
        queue = await self.start()
        path = self.makeFolder() / "closed"
        consumer = ListConsumer()
        d = queue.call(far.endlessUntilClosed, str(path), consumer=consumer)
        await self.until(lambda: consumer.count)
        d.cancel()
        await self.errorOf(d, CancelledError)
        await self.until(path.exists)
        self.assertEqual([await queue.call(os.getpid)], self.pids)

    async def test_manyNudgesDisturbNobody(self) -> None:
        queue = await self.start()
        [worker] = queue.workers()
        for _ in range(3):
            running = await self.begin(queue, tasks.sleepOr, 0.3)
            for _ in range(10_000):
                # As a cancelled call does, of which the process knows nothing any more.
                worker._supervisor.link.termination.begin(1 << 40)
            self.assertEqual(await running, 0.3)
        self.assertEqual([await queue.call(os.getpid)], self.pids)

    # SIGTERM, SIGKILL -----------------------------------------------------------------------------

    async def test_anIdleProcessHeedsSigtermAndIsReplaced(self) -> None:
        queue = await self.start()
        [idle] = self.pids
        os.kill(idle, signal.SIGTERM)
        await self.until(isGone, idle)
        self.assertNotEqual(await queue.call(os.getpid), idle)

    async def test_aHangInCCostsTheProcess(self) -> None:
        queue = await self.start(2)
        task = await self.begin(queue, tasks.hangInC)
        index = queue.workers().index(task.worker)
        task.cancel()
        await self.errorOf(task.d, CancelledError)
        await self.until(isGone, self.pids[index])
        pids = await queue.update(os.getpid, ephemeral=True)
        self.assertNotEqual(pids[index], self.pids[index])
        self.assertEqual(pids[1 - index], self.pids[1 - index])

    async def test_aGeneratorThatHangsCostsTheProcess(self) -> None:
        queue = await self.start()
        path = self.makeFolder() / "hangs"
        deferator = await queue.call(tasks.numbersThenHang, 1, str(path))
        self.assertEqual(await deferator.__anext__(), 0)
        await self.until(path.exists)
        deferator.stop()
        self.assertNotEqual([await queue.call(os.getpid)], self.pids)

    # Sent ahead -----------------------------------------------------------------------------------

    async def train(self, queue: ProcessQueue) -> None:
        """
        Have it measured that calls of C{sleepOr} are short.
        """
        await gatherResults([queue.call(tasks.sleepOr, 0.0) for _ in range(200)])

    async def test_callsSentAheadOfALongOneRunElsewhere(self) -> None:
        queue = await self.start(2)
        await self.train(queue)
        one, other = queue.workers()
        long = queue.submit(tasks.sleepOr, tasks.AWHILE)
        short = [queue.submit(tasks.sleepOr, 0.0) for _ in range(60)]
        # In whatever process they were at first, the long one is not waited for.
        await gatherResults([task.d for task in short])
        self.assertFalse(long.isDone)
        busy = long.worker
        self.assertIn(busy, (one, other))
        idle = other if busy is one else one
        self.assertEqual({task.worker for task in short[-10:]}, {idle})
        self.assertTrue(all(task.attempts == 1 for task in short))
        long.cancel()
        await self.errorOf(long.d, CancelledError)
        self.assertEqual(await queue.update(os.getpid, ephemeral=True), self.pids)

    async def test_callsSentAheadAreCancelledWithoutRunning(self) -> None:
        queue = await self.start()
        path = self.makeFolder() / "ran"
        note = partial(queue.submit, tasks.noteAndSleep, str(path))
        await gatherResults([note("x", 0.0).d for _ in range(200)])
        running = note("running", tasks.AWHILE)
        ahead = [note("cancelled", 0.0) for _ in range(30)]
        await self.until(lambda: "running" in path.read_text())
        for task in (*ahead, running):
            task.cancel()
            await self.errorOf(task.d, CancelledError)
        self.assertEqual([await queue.call(os.getpid)], self.pids)
        self.assertNotIn("cancelled", path.read_text())
