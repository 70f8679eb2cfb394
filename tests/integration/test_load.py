"""
Many calls at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, gatherResults

from asynqueue._reactor import defaultReactor
from asynqueue._workers import supervisor
from asynqueue.tasks import CANCELLED, FINISHED
from asynqueue.testing import far
from tests.integration import tasks
from tests.support.processes import ProcessTestCase

MANY = 5_000


class LoadTests(ProcessTestCase):
    async def test_manyCallsPutAtOnceAllReturnOnce(self) -> None:
        queue = self.makeQueue(2)
        returned: list[int] = []
        calls = [
            queue.call(far.echo, number).addCallback(returned.append) for number in range(MANY)
        ]
        await gatherResults(calls)
        self.assertEqual(len(returned), MANY)
        self.assertEqual(sorted(returned), list(range(MANY)))

    async def test_manyCallsThatDoNothingAllReturn(self) -> None:
        queue = self.makeQueue(2)
        results = await gatherResults([queue.call(tasks.nothing) for _ in range(MANY)])
        self.assertEqual(results, [None] * MANY)

    async def test_oneProcessRunsEqualPrioritiesInTheOrderOfPutting(self) -> None:
        queue = self.makeQueue(1)
        path = self.makeFolder() / "order"
        tasks_ = [queue.submit(tasks.note, str(path), str(number)) for number in range(2000)]
        await gatherResults([task.d for task in tasks_])
        self.assertEqual(path.read_text().split(), [str(number) for number in range(2000)])

    async def test_eachOfSeveralProcessesKeepsTheOrder(self) -> None:
        # A call that one process is slow to begin would go to another, and run there behind others.
        self.patch(supervisor, "STALL_SECONDS", tasks.AWHILE)
        queue = self.makeQueue(3)
        calls = [queue.call(tasks.remember, number) for number in range(3000)]
        pids = await gatherResults(calls)
        notes = dict(await queue.update(tasks.remembered, ephemeral=True))
        self.assertEqual(sum(len(numbers) for numbers in notes.values()), 3000)
        for pid, numbers in notes.items():
            self.assertEqual(numbers, sorted(numbers))
            self.assertEqual(numbers, [number for number in range(3000) if pids[number] == pid])

    async def test_priorityDecidesAmongThoseThatWait(self) -> None:
        queue = self.makeQueue(1)
        order: list[Any] = []
        path = self.makeFolder() / "runs"
        go = self.makeFolder() / "go"
        first = queue.call(tasks.touchAnd, str(path), tasks.waitFor, str(go))
        await self.until(path.exists)
        calls = [
            queue.call(far.echo, name, **options).addCallback(order.append)
            for name, options in (
                ("last", {"doLast": True}),
                ("usual", {}),
                ("nice", {"niceness": 15}),
                ("urgent", {"niceness": -20}),
                ("next", {"doNext": True}),
                ("next but one", {"doNext": True}),
            )
        ]
        go.touch()
        await gatherResults([first, *calls])
        self.assertEqual(order, ["next", "next but one", "urgent", "usual", "nice", "last"])

    async def test_someAreCancelledAndAllTheOthersReturn(self) -> None:
        queue = self.makeQueue(2)
        put = [queue.submit(far.echo, number) for number in range(5000)]
        for task in put[::2]:
            task.d.addErrback(lambda failure: failure.trap(CancelledError))
            task.cancel()
        results = await gatherResults([task.d for task in put[1::2]])
        self.assertEqual(results, list(range(1, 5000, 2)))
        self.assertEqual({task.state for task in put[::2]}, {CANCELLED})
        self.assertEqual({task.state for task in put[1::2]}, {FINISHED})

    async def test_manyStreamsRunSideBySide(self) -> None:
        queue = self.makeQueue(2)
        deferators = await gatherResults([queue.call(far.numbers, 300) for _ in range(40)])
        for deferator in deferators:
            self.assertEqual([item async for item in deferator], list(range(300)))

    async def test_killingProcessesLosesOnlyWhatTheyRan(self) -> None:
        queue = self.makeQueue(2)
        await queue.update(os.getpid)
        count, kills = 1500, 6
        outcomes: list[str] = []
        calls = [queue.submit(tasks.sleepOr, 0.0002) for _ in range(count)]
        for task in calls:
            task.d.addCallbacks(
                lambda _: outcomes.append("returned"),
                lambda failure: outcomes.append(failure.type.__name__),
            )
        for number in range(kills):
            worker = queue.workers()[number % 2]
            pid = worker.process.pid
            before = len(outcomes)
            await self.until(lambda: len(outcomes) > before or len(outcomes) == count)  # noqa: B023
            with contextlib.suppress(ProcessLookupError):
                # It may be dead from the last time.
                os.kill(pid, signal.SIGKILL)
        await self.until(lambda: len(outcomes) == count)
        self.assertLessEqual(outcomes.count("WorkerDied"), kills)
        self.assertEqual(outcomes.count("WorkerDied") + outcomes.count("returned"), count)
        self.assertTrue(all(task.attempts == 1 for task in calls))

    @pytest.mark.slow
    async def test_manyProcessesAreStartedKilledAndEndedInShortTurns(self) -> None:
        queue = self.makeQueue(1)
        await queue.update(os.getpid)
        count, reactor = 60, defaultReactor()
        longest, last, isOver = 0.0, time.perf_counter(), False

        def tick() -> None:
            nonlocal longest, last
            now = time.perf_counter()
            longest, last = max(longest, now - last - 0.002), now
            if not isOver:
                reactor.callLater(0.002, tick)

        tick()
        await queue.resize(count)
        pids = [worker.process.pid for worker in queue.workers()]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        await queue.update(os.getpid, ephemeral=True)
        await self.until(lambda: not any(worker.process.pid in pids for worker in queue.workers()))
        isOver = True
        # One turn was as long as all starts together, some seconds.
        self.assertLess(longest, 0.3)
