"""
What a task was doing when it was given up, told by a real process.
"""

from __future__ import annotations

import os
import time
import traceback
from typing import Any

from twisted.internet.defer import Deferred

from asynqueue import TaskQueue, ThreadQueue, report
from asynqueue._workers import supervisor
from asynqueue.admin import AdminAPI
from asynqueue.errors import TaskGivenUp, TaskStalled, TaskTerminated, TaskTimeout
from tests.support.processes import PATIENCE, ProcessTestCase
from tests.support.remote import RemoteMixin


def spin() -> None:
    ends = time.monotonic() + 20
    while time.monotonic() < ends:
        pass


def compute() -> int:
    # One step of Python that takes long: no signal's handler of Python runs before its end.
    return sum(range(3 * 10**7))


def progress() -> None:
    report(1, 2)
    spin()


def touch() -> None:
    """
    Have the process import this module.
    """


def items() -> Any:
    yield 1
    spin()


def administered(case: ProcessTestCase, queue: TaskQueue) -> AdminAPI:
    """
    @return: answers requests about a queue, whose socket lies in a folder of this test.
    """
    case.patch(os, "environ", {**os.environ, "XDG_RUNTIME_DIR": str(case.makeFolder())})
    return queue.admin().api


class LastSeenTests(ProcessTestCase):
    async def start(self) -> TaskQueue:
        queue = self.makeQueue()
        await queue.call(touch)
        return queue

    async def givenUp(self, kind: type[TaskGivenUp], d: Deferred[Any]) -> str:
        """
        @return: the traceback of a call that is given up.
        """
        error = await self.errorOf(d, kind)
        assert error.residentKilobytes is not None
        self.assertGreater(error.residentKilobytes, 1000)
        text = "".join(traceback.format_exception(error))
        self.assertIn(error.stacks, text)
        self.assertIn(f"({error.residentKilobytes} kB resident)", text)
        return text

    async def test_aTimeoutAndAStallHaveTheStackOfTheCall(self) -> None:
        queue = await self.start()
        text = await self.givenUp(TaskTimeout, queue.call(spin, timeout=0.1))
        self.assertIn("in spin\n", text)
        text = await self.givenUp(TaskStalled, queue.options(stallTimeout=0.1).call(progress))
        self.assertIn("in progress\n", text)
        self.assertIn("in spin\n", text)

    async def test_aStreamsTimeoutHasTheStackOfItsGenerator(self) -> None:
        async def takeAll() -> None:
            async for _ in await queue.call(items, timeout=0.1):
                pass

        queue = await self.start()
        text = await self.givenUp(TaskTimeout, Deferred.fromCoroutine(takeAll()))
        self.assertIn("in items\n", text)
        self.assertIn("in spin\n", text)

    async def test_aProcessStuckInCTellsWhoHasCalledThat(self) -> None:
        queue = await self.start()
        text = await self.givenUp(TaskTimeout, queue.call(compute, timeout=0.05))
        self.assertIn("in compute", text)

    async def test_aTaskThatIsTerminatedHasTheStackOfTheCall(self) -> None:
        queue = await self.start()
        api = administered(self, queue)
        task = queue.submit(progress)
        await self.until(lambda: task.progress is not None)
        answered = api.answer({"do": "terminate", "task": task.id}, "a test")
        self.assertIn("in spin\n", await self.givenUp(TaskTerminated, task.d))
        self.assertEqual(await answered, {"ok": True, "result": {"terminated": task.id}})
        self.assertEqual(await queue.call(len, "abc"), 3)

    async def test_aThreadTellsButCannotBeTerminated(self) -> None:
        queue = ThreadQueue(1)
        self.manage(queue)
        await queue.call(touch)
        api = administered(self, queue)
        task = queue.submit(time.sleep, 0.3, timeout=0.1)
        reply = await api.answer({"do": "terminate", "task": task.id}, "a test")
        self.assertIn("in a thread, which nothing can end", reply["error"])
        error = await self.errorOf(task.d, TaskTimeout)
        self.assertIn("is no Python code", error.stacks)


class RemoteTests(RemoteMixin, ProcessTestCase):
    async def test_aRemoteProcessTellsAndIsTerminated(self) -> None:
        # However busy the machine is, a process that answers is heard.
        self.patch(supervisor, "LOOK_SECONDS", PATIENCE)
        await self.serve()
        queue = self.manage(TaskQueue(self.remote()))
        await queue.call(touch)
        error = await self.errorOf(queue.call(spin, timeout=0.2), TaskTimeout)
        self.assertIn("in spin\n", error.stacks)
        api = administered(self, queue)
        task = queue.submit(progress)
        await self.until(lambda: task.progress is not None)
        answered = api.answer({"do": "terminate", "task": task.id}, "a test")
        error = await self.errorOf(task.d, TaskTerminated)
        self.assertIn("in spin\n", error.stacks)
        self.assertTrue((await answered)["ok"])
        self.assertEqual(await queue.call(len, "abc"), 3)
