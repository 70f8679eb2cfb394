"""
Progress, logs, context and data of a task in a process.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

from twisted.internet.defer import CancelledError, gatherResults
from twisted.logger import ILogObserver, globalLogPublisher
from zope.interface import provider

from asynqueue import Delay, ListConsumer
from asynqueue._observers import PROGRESSED
from asynqueue._workers.termination import Termination
from asynqueue.errors import CallNotPicklable, ResultNotPicklable
from asynqueue.testing import far
from tests.integration import coroutines, tasks, within
from tests.support.processes import PATIENCE, ProcessTestCase, startMainModule, strangers

LETTER = f"{within.__name__}.letter"


class Listening(logging.Handler):
    """
    Keeps records.
    """

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Any] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.records.append(record)

    def texts(self) -> list[str]:
        """The messages."""
        return [record.getMessage() for record in self.records]


@contextmanager
def listening(name: str, level: int = logging.WARNING) -> Iterator[Listening]:
    """
    Hear a logger of this process, at a level that is set before processes start.
    """
    handler = Listening()
    logger = logging.getLogger(name)
    logger.setLevel(level)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
        logger.setLevel(logging.NOTSET)


class ProgressTests(ProcessTestCase):
    async def test_reportsReachTheTaskAndTheLastIsThereAtTheEnd(self) -> None:
        queue = self.makeQueue()
        task = queue.submit(within.countUp, 1000)
        self.assertIsNone(task.progress)
        seen: list[Any] = []
        task.d.addCallback(lambda _: seen.append(task.progress))
        self.assertEqual(await task, 1000)
        self.assertEqual((seen[0].done, seen[0].total), (1000, 1000))

    async def test_reportsArriveWhileTheTaskRuns(self) -> None:
        queue = self.makeQueue()
        go = self.makeFolder() / "go"
        task = queue.submit(within.reportAndWait, str(go))
        await self.until(lambda: task.progress is not None)
        self.assertEqual((task.progress.done, task.progress.total), (1, 2))
        self.assertFalse(task.isDone)
        go.touch()
        await task

    async def test_observersHear(self) -> None:
        queue = self.makeQueue()
        events: list[Any] = []
        queue.addObserver(lambda event: events.append((event.kind, event.task)))
        task = queue.submit(within.countUp, 10)
        await task
        kinds = [kind for kind, who in events if who is task]
        self.assertIn(PROGRESSED, kinds)

    async def test_aGeneratorReportsAsItGoes(self) -> None:
        queue = self.makeQueue()
        task = queue.submit(within.countAndYield, 5000, consumer=ListConsumer())
        await task
        self.assertEqual(task.progress.done, 5000)


class LogTests(ProcessTestCase):
    async def test_recordsArriveWithTheirTaskAndWorker(self) -> None:
        with listening("tests.within") as heard:
            queue = self.makeQueue()
            task = queue.submit(
                within.log, "tests.within", logging.WARNING, "%s of %s", "one", "many"
            )
            await task
        [record] = heard.records
        self.assertEqual(record.getMessage(), "one of many")
        self.assertEqual(record.taskID, task.id)
        self.assertIn(f"ProcessWorker {queue.workers(1).process.pid}", record.worker)
        self.assertEqual(record.process, queue.workers(1).process.pid)
        self.assertEqual(record.funcName, "log")

    async def test_levelsAreRespected(self) -> None:
        with listening("tests.loud", logging.DEBUG) as loud, listening("tests.quiet") as quiet:
            queue = self.makeQueue()
            for name in ("tests.loud", "tests.quiet"):
                for level in (logging.DEBUG, logging.INFO, logging.ERROR):
                    await queue.call(within.log, name, level, logging.getLevelName(level))
        self.assertEqual(loud.texts(), ["DEBUG", "INFO", "ERROR"])
        self.assertEqual(quiet.texts(), ["ERROR"])

    async def test_exceptionsComeAsTexts(self) -> None:
        with listening("tests.within") as heard:
            queue = self.makeQueue()
            await queue.call(within.logException, "tests.within")
        text = logging.Formatter().format(heard.records[0])
        self.assertIn("it broke\nTraceback", text)
        self.assertIn("ValueError: inside", text)

    async def test_streamsAndThreadsLogToo(self) -> None:
        with listening("tests.within") as heard:
            queue = self.makeQueue()
            task = queue.submit(within.logAndYield, "tests.within", 3)
            deferator = await task
            self.assertEqual([item async for item in deferator], [0, 1, 2])
            other = queue.submit(within.logInThread, "tests.within")
            await other
        self.assertEqual(heard.texts(), ["item 0", "item 1", "item 2", "from a thread"])
        self.assertEqual([r.taskID for r in heard.records], [task.id] * 3 + [other.id])

    async def test_aProgramsHandlerThatFailsHurtsNobody(self) -> None:
        class Failing(logging.Filter):
            def filter(self, record: logging.LogRecord) -> bool:
                raise ValueError("no filter")

        logger = logging.getLogger("tests.failing")
        failing = Failing()
        logger.addFilter(failing)
        self.addCleanup(logger.removeFilter, failing)
        queue = self.makeQueue()
        pid = await queue.call(os.getpid)
        with listening("tests.failing"):
            await queue.call(within.log, "tests.failing", logging.WARNING, "hello")
        self.assertEqual(await queue.call(os.getpid), pid)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    async def test_twistedsLoggerIsHeardFromTheFirstCallThatImportsIt(self) -> None:
        events: list[Any] = []

        @provider(ILogObserver)
        def observe(event: Any) -> None:
            if event.get("log_namespace") == "tests.twisted":
                events.append(event)

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        queue = self.makeQueue()
        task = queue.submit(within.logWithTwisted, "tests.twisted", "one {braced}")
        await task
        await queue.call(within.logWithTwisted, "tests.twisted", "two")
        await queue.call(within.failWithTwisted, "tests.twisted")
        self.assertEqual(
            [event["log_level"].name for event in events], ["warn", "warn", "critical"]
        )
        self.assertEqual(events[0]["taskID"], task.id)
        self.assertIn(f"ProcessWorker {queue.workers(1).process.pid}", events[0]["worker"])
        self.assertEqual(events[1]["text"], "two")
        self.assertIn("ValueError: inside", events[2]["text"])

    async def test_nothingIsForwardedIfNotWanted(self) -> None:
        with listening("tests.within") as heard:
            queue = self.makeQueue(forwardLogs=False)
            await queue.call(within.log, "tests.within", logging.CRITICAL, "unheard")
            await queue.call(far.echo)
        self.assertEqual(heard.records, [])

    async def test_aChildWritesNothingItself(self) -> None:
        for kind, level in (("forwarded", "ERROR"), ("kept", "CRITICAL")):
            program = startMainModule("tests.integration.logprogram", kind)
            try:
                out, err = program.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                program.kill()
                raise
            self.assertEqual(program.returncode, 0, err)
            self.assertIn(f"{level} from the task".encode(), out if kind == "forwarded" else err)
            if kind == "forwarded":
                self.assertEqual(err, b"")
                self.assertIn(b"ERROR with Twisted", out)
        await self.until(lambda: not strangers())


class ContextTests(ProcessTestCase):
    def within(self, value: Any, function: Any, *args: Any) -> Any:
        """
        Do something where the variable has a value.
        """
        context = copy_context()
        context.run(within.letter.set, value)
        return context.run(function, *args)

    async def test_declaredOnesTravelForThatCallOnly(self) -> None:
        queue = self.makeQueue(contextvars=[LETTER])
        d = self.within(["a"], queue.call, within.readLetter)
        self.assertEqual(await d, ["a"])
        self.assertEqual(await queue.call(within.readLetter), "none")

    async def test_othersDoNot(self) -> None:
        queue = self.makeQueue()
        d = self.within("a", queue.call, within.readLetter)
        self.assertEqual(await d, "none")

    async def test_whatATaskSetsStaysWithIt(self) -> None:
        queue = self.makeQueue()
        await queue.call(within.setLetter, "z")
        self.assertEqual(await queue.call(within.readLetter), "none")

    async def test_aValueThatCannotBePickledIsNamed(self) -> None:
        queue = self.makeQueue(contextvars=[LETTER])
        d = self.within(lambda: None, queue.call, within.readLetter)
        error = await self.errorOf(d, CallNotPicklable)
        self.assertIn(LETTER, str(error))
        self.assertEqual(await queue.call(far.echo, 1), 1)


class CoroutineTests(ProcessTestCase):
    async def test_coroutinesRun(self) -> None:
        queue = self.makeQueue()
        calls = [queue.call(coroutines.doubleSoon, number) for number in range(20)]
        self.assertEqual(await gatherResults(calls), [2 * number for number in range(20)])
        error = await self.errorOf(queue.call(coroutines.refuseSoon), ValueError)
        cause = str(error.__cause__)
        self.assertIn("in refuseSoon", cause)
        self.assertNotIn("asyncio", cause)
        self.assertNotIn("runner", cause)

    async def test_theLoopIsKept(self) -> None:
        queue = self.makeQueue()
        kept = [await queue.call(coroutines.isLoopKept) for _ in range(3)]
        self.assertEqual(kept, [True] * 3)

    async def test_cancellingRunsItsFinallyAndCostsNoProcess(self) -> None:
        self.patch(Termination, "askSeconds", PATIENCE)
        queue = self.makeQueue()
        folder = self.makeFolder()
        pid = await queue.call(os.getpid)
        d = queue.call(coroutines.waitThenTouch, str(folder / "begun"), str(folder / "end"))
        await self.until((folder / "begun").exists)
        d.cancel()
        await self.errorOf(d, CancelledError)
        self.assertEqual(await queue.call(os.getpid), pid)
        self.assertTrue((folder / "end").exists())

    async def test_oneThatResistsCostsTheProcess(self) -> None:
        queue = self.makeQueue()
        folder = self.makeFolder()
        pid = await queue.call(os.getpid)
        d = queue.call(coroutines.resist, str(folder / "begun"))
        await self.until((folder / "begun").exists)
        d.cancel()
        await self.errorOf(d, CancelledError)
        self.assertNotEqual(await queue.call(os.getpid), pid)

    async def test_asynchronousGeneratorsStream(self) -> None:
        queue = self.makeQueue()
        deferator = await queue.call(coroutines.countSoon, 3000)
        self.assertEqual([item async for item in deferator], list(range(3000)))

    async def test_leavingOneClosesIt(self) -> None:
        queue = self.makeQueue()
        path = self.makeFolder() / "closed"
        async with await queue.call(coroutines.endlessSoon, str(path)) as deferator:
            async for number in deferator:
                if number == 10:
                    break
        await self.until(path.exists)
        self.assertEqual(await queue.call(far.echo, 1), 1)

    async def test_aDeferredNeedsAReactorAndSaysSo(self) -> None:
        queue = self.makeQueue()
        error = await self.errorOf(queue.call(coroutines.awaitDeferred), RuntimeError)
        self.assertIn("useReactor=True", str(error.__cause__))
        other = await self.errorOf(queue.call(coroutines.makeDeferred), ResultNotPicklable)
        self.assertIn("useReactor=True", str(other))
        self.assertEqual(await queue.call(far.echo, 1), 1)


class ProcessBaseTests(ProcessTestCase):
    async def test_whatItKeepsStaysBetweenCalls(self) -> None:
        queue = self.makeQueue()
        counter = within.Counter("mine")
        [first, second] = [await queue.call(counter.increase) for _ in range(2)]
        self.assertEqual(first[1:], (1, "mine"))
        self.assertEqual(second, (first[0], 2, "mine"))
        self.assertEqual(counter.data, {})

    async def test_eachClassHasItsOwn(self) -> None:
        queue = self.makeQueue()
        await queue.call(within.Counter().increase)
        self.assertEqual((await queue.call(within.OtherCounter().increase))[1], 1)
        self.assertEqual((await queue.call(within.Counter("another").increase))[1], 2)

    async def test_aNewProcessHasNothing(self) -> None:
        queue = self.makeQueue()
        pid, count, _ = await queue.call(within.Counter().increase)
        os.kill(pid, signal.SIGKILL)
        now = pid
        while now == pid:
            now, count, _ = await queue.call(within.Counter().increase)
        self.assertEqual(count, 1)

    async def test_whatIsNotThereIsAnAttributeErrorThatSaysSo(self) -> None:
        queue = self.makeQueue()
        error = await self.errorOf(queue.call(within.Counter().ask), AttributeError)
        self.assertIn("has no such name", str(error))


class StormTests(ProcessTestCase):
    async def test_noFrameIsGarbledByNudgesWhileATaskTalks(self) -> None:
        with listening("tests.storm") as heard:
            queue = self.makeQueue()
            [worker] = queue.workers()
            pid = await queue.call(os.getpid)
            task = queue.submit(within.talk, "tests.storm", 0.8, 3000, True)
            await self.until(lambda: heard.records)
            nudges = 0
            while not task.isDone:
                # The cancellation of something else does the same, and more often.
                worker._channel.nudge()
                nudges += 1
                await self.happens(0.001, lambda: False)
            count = await task
        self.assertEqual(await queue.call(os.getpid), pid)
        self.assertEqual(task.progress.done, count)
        own = [text for text in heard.texts() if text.startswith("main")]
        self.assertEqual(own, ["main " + "y" * 3000] * count)
        self.assertIn("collected", heard.texts())
        self.assertGreater(nudges, 10)

    async def test_cancellingATaskThatTalksCostsNoProcess(self) -> None:
        self.patch(Termination, "askSeconds", PATIENCE)
        with listening("tests.storm") as heard:
            queue = self.makeQueue()
            pid = await queue.call(os.getpid)
            for _ in range(15):
                heard.records.clear()
                task = queue.submit(within.talk, "tests.storm", tasks.AWHILE, 3000, False)
                await self.until(lambda id=task.id: any(r.taskID == id for r in heard.records))
                task.cancel()
                await self.errorOf(task.d, CancelledError)
            self.assertEqual(await queue.call(os.getpid), pid)

    async def test_cancellingATaskAsItBeginsCostsNoProcess(self) -> None:
        self.patch(Termination, "askSeconds", PATIENCE)
        queue = self.makeQueue()
        [worker] = queue.workers()
        pid = await queue.call(os.getpid)
        for _ in range(40):
            await self.until(lambda: worker._supervisor.link.protocol.isIdle)
            before = worker._channel.lastBegun
            d = queue.call(tasks.sleepAwhile)
            # As early as can be: what it calls may not even be rebuilt yet.
            while worker._channel.lastBegun == before:
                await Delay()(0)
            d.cancel()
            await self.errorOf(d, CancelledError)
        self.assertEqual(await queue.call(os.getpid), pid)
