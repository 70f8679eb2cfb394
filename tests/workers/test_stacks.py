"""
A worker tells what it is doing, and nothing is harmed by that.
"""

from __future__ import annotations

import asyncio
import gc
import mmap
import os
import threading
import time
import weakref
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from asynqueue import aio
from asynqueue._runner.callrunner import CallRunner
from asynqueue._runner.messages import STACK, STACKS
from asynqueue._runner.recorder import Recorder
from asynqueue._runner.stacks import describeStacks
from asynqueue._workers.supervisor import DUMP_SECONDS, TELL_SECONDS
from asynqueue.testing import act
from tests.support.cases import QueueCase


class MemoryTests(QueueCase):
    def setUp(self) -> None:
        super().setUp()
        self.worker = self.makeWorker(stepSeconds=None)
        self.queue = self.makeQueue(self.worker)
        self.worker.stepAll()

    def test_theStackIsThatOfTheTasksCode(self) -> None:
        told: list[str] = []

        def look() -> None:
            self.worker.stacks().addCallback(told.append)
            self.worker.channel._takeIn()

        self.worker.actions["look"] = look
        task = self.queue.submit(act, "look")
        self.worker.stepAll()
        self.worker.stepAll()
        [text] = told
        self.assertIn(repr(task)[:7], text)
        self.assertIn("in act\n", text)
        self.assertIn("in look\n", text)
        self.assertNotIn("callrunner.py", text.partition("Thread ")[0])
        self.assertAtRest()

    def test_anIdleRunnerSaysSo(self) -> None:
        told = self.worker.stacks()
        self.worker.stepAll()
        self.assertIn("No code of a task is running", self.successResultOf(told))
        self.assertAtRest()

    def test_aRunnerThatDoesNotAnswerHasItsStacksWrittenDown(self) -> None:
        told = self.worker.stacks()
        self.clock.advance(TELL_SECONDS)
        self.assertIn(("dump", TELL_SECONDS), self.worker.channel.signals)
        self.worker.channel.written = 'File "stuck.c"'
        self.assertNoResult(told)
        self.clock.advance(DUMP_SECONDS)
        self.assertIn('File "stuck.c"', self.successResultOf(told))
        # The answer comes late, and harms nobody.
        self.worker.stepAll()
        self.assertEqual(self.worker.state, "READY")
        self.assertAtRest()

    def test_aRunnerWithoutAnyAnswerIsReportedAsThat(self) -> None:
        told = self.worker.stacks()
        self.clock.advance(TELL_SECONDS)
        self.clock.advance(DUMP_SECONDS)
        self.assertEqual(self.successResultOf(told).count("\n"), 1)

    def test_aRunnerThatDiesMeanwhileEndsTheWait(self) -> None:
        told = self.worker.stacks()
        self.worker.die()
        self.worker.step()
        self.clock.advance(0)
        self.clock.advance(DUMP_SECONDS)
        self.successResultOf(told)
        self.clock.advance(1)
        self.worker.stepAll()

    def test_aWorkerWithoutARunnerSaysSo(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        self.assertIn("no runner", self.successResultOf(worker.stacks()))
        worker.crash()
        worker.step()

    def assertAtRest(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])


def test_theCoroutinesThatWaitAreShown() -> None:
    posted: list[Any] = []

    async def inner() -> None:
        await asyncio.sleep(0)
        runner.receive([(STACK, 1)])

    async def outer() -> None:
        await inner()

    runner = CallRunner(posted.append, clock=Clock().seconds)

    async def main() -> str:
        other = asyncio.create_task(outer(), name="other")
        await asyncio.sleep(0)
        text = describeStacks()
        await other
        return text

    text = asyncio.run(main())
    assert "Coroutine other:" in text
    assert "in outer\n" in text
    assert "in inner\n" in text
    assert [message[:2] for message in posted] == [(STACKS, 1)]


def test_nothingThatTheCallsReferToIsKept() -> None:
    class Thing:
        pass

    def run(thing: Thing) -> None:
        describeStacks()

    gc.disable()
    try:
        thing = Thing()
        kept = weakref.ref(thing)
        run(thing)
        del thing
        assert kept() is None
    finally:
        gc.enable()


def test_otherThreadsAreShown() -> None:
    leave = threading.Event()
    thread = threading.Thread(target=leave.wait)
    thread.start()
    try:
        assert f"Thread {thread.ident}:" in describeStacks()
    finally:
        leave.set()
        thread.join()


def busy(until: float) -> str:
    ends = time.monotonic() + until
    while time.monotonic() < ends:
        pass
    return "done"


def stuck() -> str:
    # One step of Python that takes long: no signal's handler of Python runs before its end.
    return "done" if sum(range(30_000_000)) else ""


@pytest.mark.parametrize(
    ("function", "arguments", "has"),
    [
        (busy, (0.4,), "in busy\n"),
        (time.sleep, (0.4,), "is no Python code"),
        (stuck, (), "in stuck"),
    ],
)
def test_aBusyProcessTellsWhatItRunsAndGoesOn(function: Any, arguments: Any, has: str) -> None:
    async def main() -> tuple[str, Any]:
        async with aio.ProcessQueue(1) as queue:
            await queue.call(busy, 0)
            called = queue.submit(function, *arguments)
            [worker] = queue.workers()
            await asyncio.sleep(0.1)
            text = await aio.asFuture(worker.stacks())
            result = await called
            assert await aio.asFuture(worker.stacks())
            assert await queue.call(len, "abc") == 3
            assert worker.facts().restarts == 0
        return text, result

    text, result = asyncio.run(main())
    assert has in text
    assert result in ("done", None)


def test_aThreadTellsWhatItRuns() -> None:
    async def main() -> str:
        async with aio.ThreadQueue(1) as queue:
            await queue.call(len, "abc")
            called = queue.call(busy, 0.3)
            [worker] = queue.workers()
            await asyncio.sleep(0.1)
            told: Deferred[str] = worker.stacks()
            text: str = await aio.asFuture(told)
            await called
        return text

    text = asyncio.run(main())
    assert "in busy\n" in text
    assert "callrunner.py" not in text


def test_theTextOfACrashIsNotThatOfAnEarlierQuestion() -> None:
    recorder = Recorder()
    try:
        assert recorder._fd is not None
        os.lseek(recorder._fd, mmap.PAGESIZE, os.SEEK_SET)
        assert recorder.mayDump()
        os.write(recorder._fd, b"asked for")
        assert recorder.dumped == "asked for"
        assert recorder.mayDump()
        os.write(recorder._fd, b"crash")
        assert recorder.stacks == "crash"
        recorder.erase()
        assert recorder.stacks is None
        os.write(recorder._fd, b"crash after all")
        assert recorder.stacks == "crash after all"
    finally:
        recorder.close()


def test_aRecorderThatIsFullIsNotAskedForMore() -> None:
    recorder = Recorder()
    try:
        assert recorder._fd is not None
        os.pwrite(recorder._fd, b"x" * 40_000, mmap.PAGESIZE)
        assert not recorder.mayDump()
    finally:
        recorder.close()
