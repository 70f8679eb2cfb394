"""
Queues in programs of asyncio: C{asyncio.run} with asyncio's own awaitables.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from math import factorial
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

import asynqueue
from asynqueue import AsyncWorker, DurableJob, Event, ThreadWorker, report
from asynqueue._eventloop import LoopReactor
from asynqueue.aio import (
    NullQueue,
    ProcessQueue,
    ResizableDispatchQueue,
    Stream,
    TaskQueue,
    ThreadQueue,
    asFuture,
    getReactor,
)
from asynqueue.errors import JobNotDispatched, QueueStopped, WrongEventLoop
from asynqueue.testing import InlineWorker
from tests.support.processes import areGone

PATIENCE = 30


def run(function: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """
    Run a coroutine function as a program does, and see that nothing of it stays.
    """
    threads = threading.active_count()

    async def bounded() -> Any:
        async with asyncio.timeout(PATIENCE):
            return await function()

    result = asyncio.run(bounded(), debug=True)
    assert threading.active_count() <= threads + 1
    return result


def count(number: int) -> Iterator[int]:
    yield from range(number)


def countThenFail(number: int) -> Iterator[int]:
    yield from range(number)
    raise LookupError("no more")


def fail(text: str) -> None:
    raise LookupError(text)


def stopIteration() -> None:
    raise StopIteration(3)


def test_processQueueCallsMapsStreamsAndUpdates() -> None:
    async def main() -> None:
        async with ProcessQueue(1) as queue:
            assert await queue.call(factorial, 20) == factorial(20)
            assert [value async for value in queue.map(factorial, range(5))] == [1, 1, 2, 6, 24]
            assert [item async for item in await queue.call(count, 3)] == [0, 1, 2]
            assert await queue.update(abs, -1) == [1]
            task = queue.submit(abs, -7)
            assert (await task, await task, task.state) == (7, 7, "FINISHED")
            with pytest.raises(LookupError, match="why"):
                await queue.call(fail, "why")
        assert not queue.isRunning()
        with pytest.raises(QueueStopped):
            queue.call(abs, 1)

    run(main)
    run(main)


async def waitFor(gate: asyncio.Event) -> bool:
    return await gate.wait()


def test_drainingLetsWhatIsUnderwayEndAndRefusesTheRest() -> None:
    go = threading.Event()

    async def main() -> None:
        queue = ThreadQueue(1)
        await queue.call(abs, 1)
        underway, waiting = queue.call(go.wait), queue.call(abs, 1)
        jobs = ResizableDispatchQueue(waitFor, 1)
        gate = asyncio.Event()
        job = jobs.put(gate)
        while not jobs.underway():
            await asyncio.sleep(0)
        drained = [queue.drain(), jobs.drain()]
        with pytest.raises(QueueStopped):
            await waiting
        with pytest.raises(QueueStopped):
            jobs.put(gate)
        assert not any(each.done() for each in drained)
        go.set()
        gate.set()
        assert await underway is True
        assert (await job).result is True
        assert await asyncio.gather(*drained) == [None, None]

    run(main)


def test_optionsAreThoseOfTheTwistedFace() -> None:
    async def main() -> None:
        began: list[str] = []
        async with ThreadQueue(1, warn=False) as queue:
            gate = threading.Event()
            calls: list[Any] = [queue.call(gate.wait, PATIENCE)]
            calls += [queue.call(began.append, "late", doLast=True)]
            calls += [queue.options(niceness=5).call(began.append, "nice")]
            calls += [queue.call(began.append, "first", doNext=True)]
            gate.set()
            await asyncio.gather(*calls)
            assert began == ["first", "nice", "late"]
            items = queue.options(timeout=9).map(abs, [-1, -2], window=2)
            assert [item async for item in items] == [1, 2]
            with pytest.raises(ValueError, match="niceness"):
                queue.call(abs, 1, niceness=99)

    run(main)


def test_cancelledTaskCancelsItsCall() -> None:
    async def main() -> None:
        async with ThreadQueue(1) as queue:
            gate = threading.Event()
            ran: list[int] = []
            busy = queue.call(gate.wait, PATIENCE)
            waiting = asyncio.create_task(wait(queue, ran))
            await asyncio.sleep(0)
            assert queue.load == 2
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await asyncio.sleep(0)
            assert queue.load == 1
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await queue.call(ran.append, 2)
            with pytest.raises(ExceptionGroup) as caught:
                async with asyncio.TaskGroup() as group:
                    group.create_task(wait(queue, ran))
                    group.create_task(raiseSoon())
            assert caught.group_contains(ZeroDivisionError)
            await asyncio.sleep(0)
            assert queue.load == 1
            gate.set()
            assert await busy
        assert ran == []

    async def wait(queue: ThreadQueue, ran: list[int]) -> None:
        await queue.call(ran.append, 1)

    async def raiseSoon() -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    run(main)


def test_timeoutEndsACallInAProcess() -> None:
    async def main() -> None:
        async with ProcessQueue(1) as queue:
            await queue.call(abs, 1)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await queue.call(time.sleep, 3600)
            assert await queue.call(abs, -2) == 2

    run(main)


def test_callThatIsCancelledOtherwiseCancelsItsFuture() -> None:
    async def main() -> None:
        async with TaskQueue() as queue:
            future, task = queue.call(abs, 1), queue.submit(abs, 1)
            assert queue.cancelAll() == 2
            for each in (future, task.whenDone()):
                with pytest.raises(asyncio.CancelledError):
                    await each
            assert future.cancelled()

    run(main)


def test_streamFailsAfterItsItemsAndCanBeLeft() -> None:
    async def main() -> None:
        closed = threading.Event()

        def endless() -> Iterator[int]:
            try:
                while True:
                    yield 1
            finally:
                closed.set()

        async with ThreadQueue(1) as queue:
            found = []
            with pytest.raises(LookupError, match="no more"):
                async for item in await queue.call(countThenFail, 2):
                    found.append(item)
            assert found == [0, 1]
            async with await queue.call(endless) as stream:
                assert await anext(stream) == 1
            assert await asyncio.to_thread(closed.wait, PATIENCE)
            # A stream of many items takes most of them without waiting.
            assert len([1 async for _ in await queue.call(count, 5000)]) == 5000

    run(main)


def test_cancelledWaitForAnItemLosesNoItem() -> None:
    async def main() -> None:
        gate = asyncio.Event()

        async def gated() -> AsyncIterator[int]:
            yield 1
            await gate.wait()
            yield 2

        async with TaskQueue(AsyncWorker(reactor=getReactor())) as queue:
            stream = await queue.call(gated)
            assert await anext(stream) == 1
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await anext(stream)
            gate.set()
            assert [item async for item in stream] == [2]

    run(main)


def test_taskThatIsGivenUpHasNothingToTell() -> None:
    async def main() -> None:
        async with TaskQueue() as queue:
            assert queue.submit(abs, 1).cancel()
        gc.collect()

    logged: list[Any] = []
    observer: Any = logged.append
    globalLogPublisher.addObserver(observer)
    try:
        run(main)
    finally:
        globalLogPublisher.removeObserver(observer)
    assert [event for event in logged if "log_failure" in event] == []


def exitInAStream() -> Iterator[int]:
    yield 1
    sys.exit(3)


def interrupt() -> None:
    raise KeyboardInterrupt


def test_errorsThatWouldEndTheLoopAreCauses() -> None:
    async def main() -> None:
        async with ThreadQueue(1) as queue:
            raising: list[tuple[type[BaseException], Callable[[], Any]]] = [
                (StopIteration, stopIteration),
                (SystemExit, sys.exit),
                (KeyboardInterrupt, interrupt),
            ]
            for kind, function in raising:
                with pytest.raises(
                    RuntimeError, match=f"the call raised {kind.__name__}"
                ) as caught:
                    # In a task of its own, as a server runs its requests.
                    await asyncio.create_task(wait(queue, function))
                assert isinstance(caught.value.__cause__, kind)
            stream = await queue.call(exitInAStream)
            assert await anext(stream) == 1
            with pytest.raises(RuntimeError, match="the call raised SystemExit"):
                await asyncio.create_task(take(stream))

    async def wait(queue: ThreadQueue, function: Callable[[], Any]) -> None:
        await queue.call(function)

    async def take(stream: Stream[int]) -> None:
        await anext(stream)

    run(main)


def test_workersOfOnesOwnUseTheLoopsReactor() -> None:
    async def main() -> None:
        workers = [ThreadWorker(reactor=getReactor()), InlineWorker()]
        async with TaskQueue(*workers) as queue:
            assert await queue.update(abs, -1) == [1, 1]
            assert await queue.detachWorker(workers[0]) == []
            worker = AsyncWorker(reactor=getReactor())
            assert queue.workers(await queue.attachWorker(worker)) is worker
            assert await queue.call(abs, -3) == 3

    run(main)


def test_callsInTheLoopAwaitAsyncio() -> None:
    async def later(number: int) -> int:
        await asyncio.sleep(0)
        return number

    async def numbers() -> AsyncIterator[int]:
        try:
            for number in range(3):
                yield await later(number)
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    def future(number: int) -> asyncio.Future[int]:
        return asyncio.ensure_future(later(number))

    async def main() -> None:
        async with TaskQueue(AsyncWorker(slots=2, reactor=getReactor())) as queue:
            assert await queue.call(later, 1) == 1
            assert await queue.call(future, 2) == 2
            assert [number async for number in await queue.call(numbers)] == [0, 1, 2]
            async with await queue.call(numbers) as stream:
                assert await anext(stream) == 0
            cancelled = queue.call(asyncio.sleep, PATIENCE)
            await asyncio.sleep(0.01)
            cancelled.cancel()
            async with ResizableDispatchQueue(future, 1) as jobs:
                assert (await jobs.put(3)).result == 3

    closed: list[bool] = []
    run(main)
    assert closed == [True, True]


def test_twistedsGlobalReactorIsNeverInstalled(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import asyncio, sys\n"
        "from asynqueue.aio import *\n"
        "async def main():\n"
        "    async with ThreadQueue() as t, ResizableDispatchQueue(abs, 1, queue=t) as r:\n"
        "        print((await r.put(-5)).result, [x async for x in t.map(abs, [1])])\n"
        "asyncio.run(main())\n"
        "print('twisted.internet.reactor' in sys.modules)\n"
    )
    with startProgram(program) as process:
        assert process.communicate(timeout=PATIENCE) == ("5 [1]\nFalse\n", "")


def test_severalLoopsRunAtOnce() -> None:
    found: dict[int, int] = {}

    def other(number: int) -> None:
        async def main() -> None:
            async with ThreadQueue(1) as queue:
                found[number] = await queue.call(abs, -number)

        asyncio.run(main())

    async def main() -> None:
        async with ThreadQueue(1) as queue:
            await asyncio.gather(*(asyncio.to_thread(other, number) for number in range(1, 4)))
            assert await queue.call(abs, -1) == 1

    run(main)
    assert found == {1: 1, 2: 2, 3: 3}


def test_queueBelongsToItsLoop() -> None:
    makes: list[Callable[[], object]] = [ThreadQueue, getReactor, lambda: asFuture(Deferred())]
    for make in makes:
        with pytest.raises(RuntimeError, match=r"no running event loop.*in a coroutine"):
            make()

    def useElsewhere(*uses: Callable[[], Any]) -> None:
        async def elsewhere() -> None:
            for use in uses:
                with pytest.raises(WrongEventLoop, match="belongs to an event loop"):
                    await use()

        asyncio.run(elsewhere())

    async def main() -> None:
        async with ThreadQueue(1) as queue:
            with pytest.raises(WrongEventLoop, match="not the one that runs here"):
                await asyncio.to_thread(queue.call, abs, 1)
            task, stream = queue.submit(abs, -2), await queue.call(count, 3)
            uses = (lambda: queue.call(abs, 1), task.whenDone, task.cancel, queue.shutdown)
            ofStream = (lambda: anext(stream), stream.stop, stream.aclose)
            await asyncio.to_thread(useElsewhere, *uses, *ofStream, queue.tasks, queue.whenReady)
            assert (await task, [item async for item in stream]) == (2, [0, 1, 2])

    run(main)


def test_closedLoopIsNamedAsTheOneOfTheQueue() -> None:
    async def main() -> ThreadQueue:
        async with ThreadQueue(1) as queue:
            return queue

    queue = asyncio.run(main())

    async def later() -> None:
        with pytest.raises(WrongEventLoop, match=r"STOPPED.* belongs to an event loop"):
            queue.call(abs, 1)

    asyncio.run(later())


def test_failureThatNobodyAwaitsIsReportedAsThoseOfAsyncioAre() -> None:
    async def main() -> None:
        reported: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, each: reported.append(each))
        async with ThreadQueue(1) as queue:
            awaited = queue.submit(fail, "awaited")
            queue.call(fail, "a call")
            queue.submit(fail, "a task")
        with pytest.raises(LookupError):
            await awaited
        del awaited
        gc.collect()
        assert sorted(str(each["exception"]) for each in reported) == ["a call", "a task"]
        assert {each["message"] for each in reported} == {
            "CallFuture exception was never retrieved"
        }

    run(main)


def test_queueOfTheTwistedFaceSaysWhatToImport() -> None:
    async def main() -> None:
        async with asynqueue.ThreadQueue(1, reactor=getReactor()) as queue:
            await queue.call(abs, -1)

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with asynqueue.ThreadQueue(1, reactor=getReactor()):
            yield

    async def inLifespan() -> None:
        async with lifespan():
            pass

    async def between() -> int:
        async with asynqueue.ThreadQueue(1, reactor=getReactor()) as queue:
            found: int = await queue.call(abs, -1)
            return found

    async def both() -> None:
        async with ThreadQueue(1):
            for function in (main, inLifespan):
                with pytest.raises(WrongEventLoop, match=r"import the queue from asynqueue\.aio"):
                    await function()
            # A coroutine of Twisted runs its first part within the task that starts it.
            assert await Deferred.fromCoroutine(between()).asFuture(asyncio.get_running_loop()) == 1
            await asyncio.sleep(0.05)

    run(both)


def test_somethingElseThanAQueueRunsNoJobs() -> None:
    async def main() -> None:
        for wrong in (3, asynqueue.TaskQueue(reactor=Clock())):
            other: Any = wrong
            with pytest.raises(TypeError, match=r"must be a queue of asynqueue\.aio"):
                ResizableDispatchQueue(abs, queue=other)

    run(main)


def test_keywordsAreSpelledOutAndChecked() -> None:
    async def main() -> None:
        for kind in (ProcessQueue, ThreadQueue, TaskQueue, NullQueue):
            assert {"timeout", "maxPending"} <= {*inspect.signature(kind).parameters}
            make: Any = kind
            with pytest.raises(TypeError, match=r"takes no keyword 'timeuot'.*'timeout'"):
                make(timeuot=3)
            with pytest.raises(TypeError, match="takes no keyword 'reactor'"):
                make(reactor=None)

    run(main)


def test_uvloopRunsIt() -> None:
    # There is none for Windows.
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        async with ProcessQueue(1) as queue, ThreadQueue(1) as threads:
            assert await queue.call(factorial, 5) == 120
            assert [item async for item in await threads.call(count, 3)] == [0, 1, 2]
            async with ResizableDispatchQueue(double, 1) as jobs:
                assert (await jobs.put(4)).result == 8

    for _ in range(2):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


# The dispatch queue -------------------------------------------------------------------------------


def test_jobsAreCoroutinesOfAsyncio() -> None:
    async def main() -> None:
        async with ResizableDispatchQueue(double, 2) as queue:
            jobs = await asyncio.gather(*(queue.put(number) for number in range(4)))
            assert [job.result for job in jobs] == [0, 2, 4, 6]
            await queue.pause()
            future = queue.put(5)
            assert (queue.pending(), queue.size(), queue.paused) == ([future.job], (0, 1), True)
            future.cancel()
            await asyncio.sleep(0)
            assert queue.size() == (0, 0)
            left = queue.put(6)
            assert await queue.stop() == [left.job]
            with pytest.raises(JobNotDispatched):
                await left

    run(main)


def test_jobThatIsLeftHasNothingToReport(tmp_path: Path) -> None:
    async def main() -> None:
        reported: list[str] = []

        def handle(loop: object, context: dict[str, Any]) -> None:
            reported.append(str(context["exception"]))

        asyncio.get_running_loop().set_exception_handler(handle)
        async with ResizableDispatchQueue(double) as left:
            left.put(1)
            left.put(2).job.cancel()
        async with ResizableDispatchQueue(fail, 1, store=tmp_path / "jobs") as kept:
            kept.put("kept")
            while any(kept.size()):
                await asyncio.sleep(0.001)
        async with ResizableDispatchQueue(fail, 1) as lost:
            lost.put("lost")
            await asyncio.sleep(0.01)
        gc.collect()
        assert reported == ["lost"]

    run(main)


async def halfway(number: int) -> int:
    report(number, 2 * number)
    await asyncio.sleep(0)
    return number


def test_observersHearOfJobsAndTheirProgress() -> None:
    async def main() -> None:
        kinds: list[str] = []
        others: list[str] = []

        def observe(event: Event) -> None:
            kinds.append(event.kind)

        def other(event: Event) -> None:
            others.append(event.kind)

        async with ResizableDispatchQueue(halfway, 1, observers=[observe]) as queue:
            queue.addObserver(other)
            job = await queue.put(3)
            assert (job.result, job.progress.done, job.progress.total) == (3, 3, 6)
            queue.removeObserver(other)
            await queue.put(4)
        ofOne = ["QUEUED", "STARTED", "PROGRESSED", "FINISHED"]
        assert (kinds, others) == (2 * ofOne, ofOne)

    run(main)


def test_cancelledJobCancelsItsCoroutine() -> None:
    async def main() -> None:
        begun, ended = asyncio.Event(), asyncio.Event()

        async def work(_: object) -> None:
            begun.set()
            try:
                await asyncio.sleep(PATIENCE)
            finally:
                ended.set()

        async with ResizableDispatchQueue(work, 1) as queue:
            future = queue.put(1)
            await begun.wait()
            future.cancel()
            await ended.wait()

    run(main)


def test_durableJobsOutliveTheLoop(tmp_path: Path) -> None:
    store = str(tmp_path / "jobs")

    async def put() -> None:
        async with ResizableDispatchQueue(double, 0, store=store) as queue:
            future = queue.put(21)
            job = cast(DurableJob, future.job)
            assert await queue.saved(job) is job
            future.add_done_callback(lambda future: future.exception())

    async def work() -> None:
        async with ResizableDispatchQueue(double, 1, store=store) as queue:
            (job,) = queue.pending() or queue.underway()
            assert (await asFuture(job.watch())).result == 42
            assert await queue.deadLetters() == []

    run(put)
    run(work)


def test_taskQueueThatHasNoWorkerYetRunsTheJobsLater() -> None:
    def ident(_: object) -> int:
        return threading.get_ident()

    async def main() -> None:
        async with TaskQueue() as calls, ResizableDispatchQueue(ident, 1, queue=calls) as queue:
            future = queue.put(None)
            await calls.attachWorker(ThreadWorker(reactor=getReactor()))
            assert (await future).result != threading.get_ident()

    run(main)


def test_taskQueueRunsTheJobs() -> None:
    async def main() -> None:
        async with (
            ThreadQueue(1) as threads,
            ResizableDispatchQueue(abs, 1, queue=threads.options(niceness=3)) as queue,
        ):
            assert (await queue.put(-3)).result == 3

    run(main)


def test_aHundredLoopsLeaveNothing() -> None:
    async def main() -> None:
        async with (
            ThreadQueue(1, timeout=9) as threads,
            ResizableDispatchQueue(abs, 1, queue=threads) as jobs,
        ):
            assert (await jobs.put(-2)).result == 2

    async def compute() -> None:
        async with ProcessQueue(1) as queue:
            assert await queue.call(abs, -1) == 1

    async def forget() -> None:
        await ThreadQueue(1).call(abs, -1)

    def measure() -> Counter[str]:
        gc.collect()
        process = psutil.Process()
        reactors = sum(isinstance(each, LoopReactor) for each in gc.get_objects())
        return Counter(
            fds=process.num_fds(),
            threads=process.num_threads(),
            processes=len(process.children()),
            reactors=reactors,
        )

    asyncio.run(compute())
    asyncio.run(main())
    before = measure()
    for number in range(100):
        asyncio.run(main())
        if number % 10 == 0:
            asyncio.run(compute())
            with pytest.warns(ResourceWarning, match="ThreadQueue"):
                asyncio.run(forget())
    # The thread of a clock looks once more whether anything is waiting.
    deadline = time.monotonic() + PATIENCE
    while left := measure() - before:
        assert time.monotonic() < deadline, left
        time.sleep(0.01)


# Forgotten queues ---------------------------------------------------------------------------------


def test_forgottenQueueIsNamedAndLeavesNoProcess() -> None:
    pids: list[int] = []

    async def main() -> ProcessQueue:
        queue = ProcessQueue(1, timeout=99)
        pids.append(await queue.call(os.getpid))
        queue.call(time.sleep, 3600).add_done_callback(lambda future: future.exception())
        return queue

    with pytest.warns(ResourceWarning, match=r"<ProcessQueue: .*its event loop ended"):
        asyncio.run(main())
    waitUntilGone(pids)


def test_queueThatIsCollectedIsNamedAndLeavesNoProcess() -> None:
    async def main() -> None:
        with pytest.warns(ResourceWarning, match="ProcessQueue.*garbage-collected"):
            pid = await ProcessQueue(1).call(os.getpid)
            await asyncio.sleep(0.01)
            gc.collect()
        await asyncio.to_thread(waitUntilGone, [pid])

    # The queue lives as long as its call does, and not longer.
    async def alive() -> None:
        assert await ThreadQueue(1).call(abs, -4) == 4

    asyncio.run(main())
    with pytest.warns(ResourceWarning, match="ThreadQueue"):
        asyncio.run(alive())


def test_droppedQueueWarnsOnce() -> None:
    async def inALoop() -> None:
        ThreadQueue(1)
        ResizableDispatchQueue(abs, 1)
        gc.collect()
        await asyncio.sleep(0.01)
        gc.collect()

    async def atTheEnd() -> list[Any]:
        return [ThreadQueue(1), ResizableDispatchQueue(abs, 1)]

    for forget in (inALoop, atTheEnd):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            asyncio.run(forget())
            gc.collect()
        said = [str(each.message) for each in caught if each.category is ResourceWarning]
        assert len(said) == 2, said
        assert sum("ThreadQueue" in each for each in said) == 1


def waitUntilGone(pids: list[int]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not areGone(pids):
        assert time.monotonic() < deadline, "a process is left"
        time.sleep(0.01)


SIGNALLED = ("-m", "tests.support.mainmodule", "tests.aio.signalled")


def startProgram(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


# Signals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("isTwice", [False, True])
def test_signalDrainsAndASecondOneCuts(number: signal.Signals, isTwice: bool) -> None:
    checkSignal(number, isTwice)


def test_sigtermDrainsUnderUvloop() -> None:
    pytest.importorskip("uvloop")
    checkSignal(signal.SIGTERM, False, "uvloop")


def test_secondSignalCutsThoughTheLoopHasNotHeardOfTheFirst() -> None:
    with startProgram(*SIGNALLED, "twice") as process:
        printed, complaint = process.communicate(timeout=PATIENCE)
    assert printed.split("\n")[:2] == ["ready", "WorkerError"], complaint
    assert process.returncode == -signal.SIGTERM


def checkSignal(number: signal.Signals, isTwice: bool, *words: str) -> None:
    with startProgram(*SIGNALLED, *words) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        workers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        if isTwice:
            time.sleep(0.1)
            process.send_signal(number)
        printed, complaint = process.communicate(timeout=PATIENCE)
    first = "WorkerError" if isTwice else "returned None"
    shown = printed.split("\n")
    assert shown[:3] == [first, "QueueStopped", "cleaned up"], complaint
    # As under react, the program ends by the signal. SIGINT leaves by way of KeyboardInterrupt.
    assert process.returncode == -number
    assert ("KeyboardInterrupt" in complaint) == (number == signal.SIGINT)
    waitUntilGone([worker.pid for worker in workers])


def test_handlersOfTheProgramStayAndOthersComeBack() -> None:
    own: list[int] = []
    # As in a program that has none of its own, whatever has been run in this process.
    handlers: dict[int, Any] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
    }
    outer = {number: signal.signal(number, handler) for number, handler in handlers.items()}

    async def main() -> None:
        before = signal.getsignal(signal.SIGINT)
        async with ThreadQueue(1):
            assert signal.getsignal(signal.SIGINT) is not before
        assert signal.getsignal(signal.SIGINT) is before
        async with ThreadQueue(1, drainTimeout=None):
            assert signal.getsignal(signal.SIGINT) is before
        signal.signal(signal.SIGTERM, handle)
        async with ThreadQueue(1) as queue:
            signal.raise_signal(signal.SIGTERM)
            assert await queue.call(abs, -1) == 1

    def handle(number: int, frame: object) -> None:
        own.append(number)

    async def forget() -> None:
        ThreadQueue(1)

    try:
        run(main)
        assert own == [signal.SIGTERM]
        signal.signal(signal.SIGTERM, handlers[signal.SIGTERM])
        with pytest.warns(ResourceWarning):
            run(forget)
    finally:
        found = {number: signal.getsignal(number) for number in handlers}
        for number, handler in outer.items():
            signal.signal(number, handler)
    assert found == handlers
