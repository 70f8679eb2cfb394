"""
Small programs that are asked to end while they have worker processes busy.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import ILogObserver, LogLevel, globalLogBeginner
from zope.interface import provider

from asynqueue import Delay, DurableJob, ProcessQueue, ResizableDispatchQueue
from asynqueue._workers.launch import startContext
from asynqueue.testing import far
from tests.faults import endingtasks
from tests.faults.programs import outcomeOf, tell
from tests.integration import tasks

JOBS = 10
WIDTH = 6


@provider(ILogObserver)
def tellDrain(event: Any) -> None:
    """
    Tell what is logged of draining, and what is worse.
    """
    text = event.get("log_format") or ""
    if "drains" in text:
        tell("drains")
    elif event["log_level"] >= LogLevel.error or event.get("isError"):
        tell([text, str(event.get("log_failure"))])


async def startCalls(queue: ProcessQueue, folder: Path, *calls: tuple[Any, ...]) -> list[list[str]]:
    """
    Have some calls underway, which make a file of their number when they begin.

    @return: their outcomes, and that of one that waits.
    """
    outcomes = []
    for number, call in enumerate(calls):
        outcomes.append(outcomeOf(queue.call(*call)))
        await Delay().untilEvent(Path(folder, str(number)).exists)
    outcomes.append(outcomeOf(queue.call(far.echo, 1)))
    return outcomes


def run(main: Callable[[Any], Any]) -> list[list[str]]:
    """
    Run the reactor until somebody asks it to end.

    @return: what the coroutine has returned by then.
    """
    from twisted.internet import reactor

    everything: list[list[str]] = []
    anyReactor: Any = reactor

    def begin() -> None:
        d: Deferred[Any] = Deferred.fromCoroutine(main(anyReactor))
        d.addCallbacks(everything.extend, lambda failure: tell(failure.getTraceback()))

    globalLogBeginner.beginLoggingTo([tellDrain], redirectStandardIO=False)
    anyReactor.callWhenRunning(begin)
    anyReactor.run()
    return everything


def patient(method: str, folder: Path, seconds: float) -> None:
    """
    Have three calls and an iteration that end when they are told to, and a call that waits.
    """

    async def main(reactor: Any) -> list[list[str]]:
        queue = ProcessQueue(3, context=startContext(method), drainTimeout=seconds)
        stream = await queue.call(endingtasks.streamUntil, str(folder))
        last: list[str] = []

        async def consume() -> None:
            async for item in stream:
                last[:] = [item]

        Deferred.fromCoroutine(consume())
        where = str(folder)
        # Three processes, one of which streams besides.
        calls = [(endingtasks.beginAndWait, where, str(number)) for number in range(3)]
        outcomes = await startCalls(queue, folder, *calls)
        tell([worker.process.pid for worker in queue.workers()])
        return [*outcomes, last]

    tell(run(main))


def hanging(method: str, folder: Path, seconds: float) -> None:
    """
    Have calls that come to no end, of which one ignores what it is sent, and one that waits.
    """

    async def main(reactor: Any) -> list[list[str]]:
        queue = ProcessQueue(2, context=startContext(method), drainTimeout=seconds)
        outcomes = await startCalls(
            queue,
            folder,
            (tasks.touchAnd, str(folder / "0"), tasks.sleepAwhile),
            (tasks.hangStubbornly, str(folder / "1")),
        )
        tell([worker.process.pid for worker in queue.workers()])
        return outcomes

    tell(run(main))


async def startJobs(method: str, folder: Path, seconds: float, isQueueFirst: bool) -> Any:
    """
    Have some durable jobs begun, of which the processes can run two, and others that wait.

    @param isQueueFirst: whether the queue with the processes is made before the one of the jobs.
    """
    queues: list[ProcessQueue] = []

    def makeQueue() -> ProcessQueue:
        queues.append(ProcessQueue(2, context=startContext(method), drainTimeout=seconds))
        return queues[0]

    def send(job: list[object]) -> Deferred[None]:
        return queues[0].call(endingtasks.work, job)

    dispatching: dict[str, Any] = {"queue": makeQueue()} if isQueueFirst else {}
    dispatcher = ResizableDispatchQueue(
        endingtasks.work if isQueueFirst else send,
        WIDTH,
        store=folder / "jobs.db",
        storedAs="work",
        drainTimeout=seconds,
        **dispatching,
    )
    if not isQueueFirst:
        makeQueue()
    jobs = [dispatcher.put([str(folder), number]).job for number in range(JOBS)]
    await gatherResults([job.saved for job in jobs if isinstance(job, DurableJob)])
    diary = folder / "diary"
    await Delay().untilEvent(lambda: diary.exists() and diary.read_text().count("began") == 2)
    await Delay().untilEvent(lambda: len(queues[0]._engine.scheduler) == WIDTH - 2)
    tell([worker.process.pid for worker in queues[0].workers()])
    return [outcomeOf(job.watch()) for job in jobs]


def durable(method: str, folder: Path, seconds: float) -> None:
    """
    Run durable jobs in processes.
    """
    tell(run(lambda _: startJobs(method, folder, seconds, isQueueFirst=True)))


def durableThroughFunction(method: str, folder: Path, seconds: float) -> None:
    """
    Run durable jobs by a function of the main loop, which uses processes.
    """
    tell(run(lambda _: startJobs(method, folder, seconds, isQueueFirst=False)))


def durableStopped(method: str, folder: Path, seconds: float) -> None:
    """
    Have the reactor stopped in the midst of durable jobs.
    """

    async def main(reactor: Any) -> Any:
        outcomes = await startJobs(method, folder, seconds, isQueueFirst=bool(seconds))
        reactor.callLater(0, reactor.stop)
        return outcomes

    tell(run(main))


def durableCrashed(method: str, folder: Path, seconds: float) -> None:
    """
    Have the reactor crashed in the midst of durable jobs, and the interpreter end.
    """

    async def main(reactor: Any) -> Any:
        outcomes = await startJobs(method, folder, seconds, isQueueFirst=bool(seconds))
        reactor.callLater(0, reactor.crash)
        return outcomes

    run(main)


PROGRAMS: dict[str, Callable[[str, Path, float], None]] = {
    "patient": patient,
    "hanging": hanging,
    "durable": durable,
    "durableThroughFunction": durableThroughFunction,
    "durableStopped": durableStopped,
    "durableCrashed": durableCrashed,
}


def main(name: str, method: str, folder: str, seconds: str) -> None:
    """
    Run one of them.

    @param seconds: for how long it is to drain.
    """
    # Whoever runs this may ignore it, as shells do for what they run in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    PROGRAMS[name](method, Path(folder), float(seconds))
