"""
Jobs that real processes run.
"""

from __future__ import annotations

import time

from twisted.internet.defer import gatherResults

from asynqueue import Delay, ResizableDispatchQueue
from asynqueue.rdq import Job, JobCancelled
from asynqueue.testing import far
from tests.integration import tasks
from tests.support.processes import ProcessTestCase


class DispatchTests(ProcessTestCase):
    async def test_processesDoTheJobs(self) -> None:
        dispatcher = ResizableDispatchQueue(far.square, 4, queue=self.makeQueue(2))
        jobs = await gatherResults([dispatcher.put(number) for number in range(200)])
        assert [job.result for job in jobs] == [number**2 for number in range(200)]
        assert await dispatcher.stop() == []

    async def test_cancelledJobFreesItsProcess(self) -> None:
        queue = self.makeQueue(1)
        dispatcher = ResizableDispatchQueue(time.sleep, 1, queue=queue)
        long = dispatcher.put(tasks.AWHILE)
        short = dispatcher.put(0, priority=1)
        # Until the process sleeps; if it does not yet, the job is cancelled on its way there.
        await Delay()(0.2)
        assert dispatcher.size() == (1, 1)
        long.cancel()
        await self.assertFailure(long, JobCancelled)
        assert (await short).state == Job.FINISHED
        assert await dispatcher.stop() == []
