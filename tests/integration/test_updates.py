"""
Updates on processes that are slow to run them.
"""

from __future__ import annotations

import os
import signal
import time

from tests.integration import tasks
from tests.support.processes import ProcessTestCase


class SlowUpdateTests(ProcessTestCase):
    async def test_anUpdateBehindALongOneIsStillRun(self) -> None:
        queue = self.makeQueue()
        first = queue.update(time.sleep, 0.3)
        second = queue.update(tasks.remember, "second")
        third = queue.call(tasks.remembered)
        await first
        pids = await second
        self.assertEqual(await third, (pids[0], ["second"]))

    async def test_aReplacedProcessRunsAllUpdatesInTheirOrder(self) -> None:
        queue = self.makeQueue()
        await queue.update(tasks.remember, "first")
        await queue.update(time.sleep, 0.2)
        [before] = await queue.update(tasks.remember, "second")
        os.kill(before, signal.SIGKILL)
        pid, values = await queue.call(tasks.remembered)
        while pid == before:
            pid, values = await queue.call(tasks.remembered)
        self.assertEqual(values, ["first", "second"])
