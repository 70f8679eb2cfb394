"""
Small programs that are killed, interrupted or left alone while they have worker processes, which
are started with all L{METHODS}.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.internet.task import react
from twisted.python.failure import Failure

from asynqueue import Delay, ProcessQueue, QueuedTask
from asynqueue._workers.launch import startContext
from asynqueue.testing import far
from tests.integration import tasks

METHODS = ("forkserver", "spawn")


def makeQueues(N: int) -> list[ProcessQueue]:
    """
    @return: a queue for each start method.
    """
    return [ProcessQueue(N, context=startContext(method)) for method in METHODS]


def tell(what: Any) -> None:
    """
    Say something to whoever started this program.
    """
    print(json.dumps(what), flush=True)  # noqa: T201


def outcomeOf(d: Deferred[Any]) -> list[str]:
    """
    @return: a list that gets, as texts, what the Deferred fires with.
    """
    outcomes: list[str] = []

    def note(result: object) -> None:
        name = type(result.value).__name__ if isinstance(result, Failure) else repr(result)
        outcomes.append(name)

    d.addBoth(note)
    return outcomes


@inlineCallbacks
def occupy(queue: ProcessQueue) -> Generator[Deferred[Any], Any, list[list[str]]]:
    """
    Have one process sleep, and another one never look at a signal.

    @return: a Deferred of a list for the outcomes of both calls, which fires when they have begun.
    """
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        for function in (tasks.sleepAwhile, tasks.hangInC):
            path = Path(folder, function.__name__)
            outcomes.append(outcomeOf(queue.call(tasks.touchAnd, str(path), function)))
            yield Delay().untilEvent(path.exists)
    return outcomes


@inlineCallbacks
def startWorkers() -> Generator[Deferred[Any], Any, tuple[list[ProcessQueue], list[list[str]]]]:
    """
    In each queue, start a process that sleeps, one that never looks at a signal, and one that is
    idle; tell their IDs; and put a call that waits.

    @return: a Deferred of the queues, and of a list for the outcomes of each call.
    """
    queues = makeQueues(3)
    pids = yield gatherResults([queue.update(os.getpid, ephemeral=True) for queue in queues])
    outcomes: list[list[str]] = []
    for queue in queues:
        outcomes += yield occupy(queue)
        outcomes.append(outcomeOf(queue.call(far.echo, 1, series="nobody's")))
    tell([pid for some in pids for pid in some])
    return queues, outcomes


def stay() -> None:
    """
    Run until somebody ends it.
    """

    @inlineCallbacks
    def main(_: Any) -> Generator[Deferred[Any], Any, None]:
        # A queue that nobody refers to would be shut down.
        queues, _ = yield startWorkers()
        yield Deferred()
        yield gatherResults([queue.shutdown() for queue in queues])

    react(main)


def stopReactor() -> None:
    """
    Stop the reactor with everything underway, and tell what became of the calls.
    """
    from twisted.internet import reactor

    started: list[tuple[list[ProcessQueue], list[list[str]]]] = []

    def stop(result: tuple[list[ProcessQueue], list[list[str]]]) -> None:
        started.append(result)
        reactor.stop()

    startWorkers().addCallback(stop)
    reactor.run()
    tell(started[0][1])


def end() -> None:
    """
    End with calls pending, and without the reactor ever having run. Nobody but for one call of each
    queue cares.
    """
    queues = makeQueues(2)
    for queue in queues:
        for _ in range(10):
            queue.call(tasks.sleepAwhile)
    tell([worker.process.pid for queue in queues for worker in queue.workers()])
    for queue in queues:
        tellOutcome(queue.submit(tasks.sleepAwhile))
    sys.exit(7)


def crashReactor() -> None:
    """
    End with calls underway and pending, after the reactor has crashed.
    """
    from twisted.internet import reactor

    kept: list[ProcessQueue] = []

    def crash(result: tuple[list[ProcessQueue], list[list[str]]]) -> None:
        for queue in result[0]:
            kept.append(queue)
            for task in [*queue._engine.underway, *queue._engine.scheduler]:
                tellOutcome(task)
            queue.call(far.echo, series="nobody's")
        reactor.callLater(0, reactor.crash)

    startWorkers().addCallback(crash)
    reactor.run()


def tellOutcome(task: QueuedTask) -> None:
    """
    Tell what becomes of a task, as soon as that is known.
    """

    def done(_: object) -> None:
        assert task.failure is not None
        tell([type(task.failure.value).__name__, task.state])

    task.d.addBoth(done)


PROGRAMS: dict[str, Callable[[], None]] = {
    "stay": stay,
    "stopReactor": stopReactor,
    "end": end,
    "crashReactor": crashReactor,
}


def main(name: str) -> None:
    """
    Run one of them.
    """
    PROGRAMS[name]()
